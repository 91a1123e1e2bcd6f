"""Distances between calibrated and design weights: what it costs to move a ratio away from 1.

A distance is a convex function `phi` of one ratio `r = weight / design_weight` with
`phi(1) = phi'(1) = 0` (Deville and Särndal 1992, table 1). The engine asks for its value, slope
and curvature, and for the inverse of its slope, which Deville and Särndal call `F`: with the
prices of the targets known, `F` gives every ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microcalibrate.errors import InvalidOption

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """A smooth convex distance of a ratio from 1, acting elementwise on arrays.

    Attributes:
        name: What users write: `distance="chi2"`.
        value: `phi(r)`, zero at 1.
        slope: `phi'(r)`, zero at 1, strictly increasing.
        curvature: `phi''(r)`, positive.
        inverse_slope: `F(u)`, the ratio at which the slope is `u`.
        lower: Infimum of the ratios on which `phi` is defined.
        upper: Supremum of them.
    """

    name: str
    value: Callable[[Vector], Vector]
    slope: Callable[[Vector], Vector]
    curvature: Callable[[Vector], Vector]
    inverse_slope: Callable[[Vector], Vector]
    lower: float = -np.inf
    upper: float = np.inf


def _raking_value(ratio: Vector) -> Vector:
    # r log r tends to 0 with r: a record may lose all its weight at a finite cost.
    logs = np.log(ratio, out=np.zeros_like(ratio), where=ratio > 0)
    return np.asarray(ratio * logs - ratio + 1, dtype=np.float64)


CHI2 = Distance(
    name="chi2",
    value=lambda r: 0.5 * (r - 1) ** 2,
    slope=lambda r: r - 1,
    curvature=np.ones_like,
    inverse_slope=lambda u: 1 + u,
)

RAKING = Distance(
    name="raking",
    value=_raking_value,
    slope=np.log,
    curvature=lambda r: 1 / r,
    # Note [Far trial steps]: exp overflows beyond 709; such a ratio is outside every bound or
    # makes the trial point infinitely bad, so it is held at exp(300) instead.
    inverse_slope=lambda u: np.exp(np.minimum(u, 300.0)),
    lower=0.0,
)

DISTANCES = {distance.name: distance for distance in (CHI2, RAKING)}


def distance_named(name: str | Distance) -> Distance:
    """The distance that a user named, or the one that a user made.

    Args:
        name: A key of `DISTANCES`, or a `Distance`.

    Returns:
        The distance.

    Raises:
        InvalidOption: If no distance has that name.

    Examples:
        >>> distance_named("raking").slope(np.array([1.0]))
        array([0.])
    """
    if isinstance(name, Distance):
        return name
    if not isinstance(name, str) or name not in DISTANCES:
        raise InvalidOption(
            f"distance={name!r} is not known. Use one of {sorted(DISTANCES)}, or a Distance of "
            "your own."
        )
    return DISTANCES[name]
