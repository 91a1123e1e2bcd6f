"""Distances between calibrated and design weights: what it costs to move a ratio away from 1.

A distance is a convex function `phi` of one ratio `r = weight / design_weight` with
`phi(1) = phi'(1) = 0` (Deville and Särndal 1992, table 1). The engine asks for its value, slope
and curvature, and for the inverse of its slope, which Deville and Särndal call `F`: with the
prices of the targets known, `F` gives every ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

from microcalibrate.engine.user_distances import (
    Functions,
    check_functions,
    not_given,
    numeric_inverse,
)
from microcalibrate.errors import InvalidOption

Vector = NDArray[np.float64]
Bound = Vector | float


@dataclass(frozen=True)
class Distance:
    """A smooth convex distance of a ratio from 1, acting elementwise on arrays.

    Three functions and a name make one of your own; it is checked when it is first used.

    Attributes:
        name: What users write: `distance="chi2"`.
        value: `phi(r)`, zero at 1.
        slope: `phi'(r)`, zero at 1, strictly increasing.
        curvature: `phi''(r)`, positive.
        inverse_slope: `F(u)`, the ratio at which the slope is `u`; found by Newton's method where
            it is not given.
        lower: Infimum of the ratios on which `phi` is defined.
        upper: Supremum of them.
        within: For a distance whose form depends on the bounds of the ratios: what it is for
            given ones. None for any other.

    Examples:
        >>> reverse_entropy = Distance(
        ...     name="reverse entropy",
        ...     value=lambda r: r - 1 - np.log(r),
        ...     slope=lambda r: 1 - 1 / r,
        ...     curvature=lambda r: r**-2,
        ...     lower=0.0,
        ... )
        >>> reverse_entropy.inverse_slope(np.array([0.0, 0.5]))
        array([1., 2.])
    """

    name: str
    value: Callable[[Vector], Vector]
    slope: Callable[[Vector], Vector]
    curvature: Callable[[Vector], Vector]
    inverse_slope: Callable[[Vector], Vector] = not_given
    lower: Bound = -np.inf
    upper: Bound = np.inf
    within: Callable[[Vector | float, Vector | float], Distance] | None = None

    def __post_init__(self) -> None:
        """Find an inverse of the slope where none was given."""
        if self.inverse_slope is not_given:
            object.__setattr__(self, "inverse_slope", numeric_inverse(self.functions()))

    def functions(self) -> Functions:
        """The parts that a user gives, without the name."""
        low, high = np.max(self.lower), np.min(self.upper)
        return Functions(self.value, self.slope, self.curvature, float(low), float(high))

    def between(self, lower: Vector | float, upper: Vector | float) -> Distance:
        """The form of this distance for bounds on the ratios: shape `(n_records,)`, or a number."""
        return self if self.within is None else self.within(lower, upper)


# --- Chi-square, raking ---------------------------------------------------------------------------


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

# Under this name books know chi-square with bounds on the ratio (Deville and Särndal, case 7).
TRUNCATED_LINEAR = replace(CHI2, name="truncated_linear")

RAKING = Distance(
    name="raking",
    value=_raking_value,
    slope=np.log,
    curvature=lambda r: 1 / r,
    # Note [Far trial steps]: exp overflows beyond 709; such a ratio is outside every bound or
    # makes the trial point infinitely bad, so it is held at exp(300) instead. For the same reason
    # other distances hold a ratio that would be infinite at a vast one.
    inverse_slope=lambda u: np.exp(np.minimum(u, 300.0)),
    lower=0.0,
)


# --- Hellinger, sinh ------------------------------------------------------------------------------

# The slope of Hellinger's distance never reaches 2: see Note [Far trial steps].
HELLINGER = Distance(
    name="hellinger",
    value=lambda r: 2 * (np.sqrt(r) - 1) ** 2,
    slope=lambda r: 2 - 2 / np.sqrt(r),
    curvature=lambda r: r**-1.5,
    inverse_slope=lambda u: np.maximum(1 - 0.5 * u, 1e-16) ** -2,
    lower=0.0,
)

# Ratios beyond this, and below its inverse, cost more than exp(40): double precision cannot tell
# that from infinity beside any other cost, so they count as outside of what sinh is defined for.
MOST_SINH = 40.0
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)


def _difference(ratio: Vector) -> Vector:
    return np.asarray(ratio - 1 / ratio)


def _sinh_value(ratio: Vector) -> Vector:
    """The integral of the slope from 1, in `s = r - 1 / r`.

    It is `(cosh s - 1) / 4` and a quarter of the integral of `sinh(s) s / sqrt(s^2 + 4)`, which
    has no closed form; 64 nodes of Gauss and Legendre leave rounding alone up to `s = 40`.
    """
    end = _difference(ratio)
    integral = np.zeros_like(end)
    for node, weight in zip(0.5 * (1 + _NODES), 0.5 * _NODE_WEIGHTS, strict=True):
        s = node * end
        integral += weight * np.sinh(s) * s / np.sqrt(s**2 + 4)
    return np.asarray(0.5 * np.sinh(0.5 * end) ** 2 + 0.25 * end * integral)


def _sinh_inverse(slope: Vector) -> Vector:
    difference = np.arcsinh(2 * slope)
    root = np.sqrt(difference**2 + 4)
    # Of two equal forms the one in which nothing cancels.
    ratio = np.where(difference > 0, 0.5 * (difference + root), 2 / (root - difference))
    return np.asarray(ratio, dtype=np.float64)


# Calmar 2 (Le Guennec and Sautory 2002), with alpha = 1.
SINH = Distance(
    name="sinh",
    value=_sinh_value,
    slope=lambda r: 0.5 * np.sinh(_difference(r)),
    curvature=lambda r: 0.5 * (1 + r**-2) * np.cosh(_difference(r)),
    inverse_slope=_sinh_inverse,
    lower=1 / MOST_SINH,
    upper=MOST_SINH,
)


# --- Logit ----------------------------------------------------------------------------------------


# A ratio that comes this near to a limit rounds to it, where the slope would be infinite.
LEAST_ROOM = 1e-200


def logit(lower: Bound, upper: Bound) -> Distance:
    """Raking with limits of its own: ratios come near `lower` and `upper` and never reach them.

    Case 6 of Deville and Särndal (1992); with limits far from 1 on both sides it is chi-square.

    Args:
        lower: Below 1: a number, or one per ratio that the distance will be asked for.
        upper: Above 1, the same.

    Returns:
        The distance; it is its own barrier at both limits.

    Raises:
        InvalidOption: If the limits are not finite, or not on either side of 1.

    Examples:
        >>> logit(0.5, 2.0).inverse_slope(np.array([-50.0, 0.0, 50.0]))
        array([0.5, 1. , 2. ])
    """
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InvalidOption(
            'distance="logit" needs bounds on both sides: set min_weight_ratio below 1 and '
            "max_weight_ratio above 1."
        )
    if np.any(low >= 1) or np.any(high <= 1):
        raise InvalidOption(
            'distance="logit" needs min_weight_ratio below 1 and max_weight_ratio above 1 for '
            f"every record; the highest lower bound is {low.max():g}, the lowest upper one "
            f"{high.min():g}."
        )
    down, up = 1 - low, high - 1
    # Makes the curvature at 1 one, as that of every other distance is.
    speed = (high - low) / (down * up)
    centre = np.log(down / up)

    def above(r: Vector) -> Vector:
        return np.asarray(np.maximum(r - low, LEAST_ROOM))

    def below(r: Vector) -> Vector:
        return np.asarray(np.maximum(high - r, LEAST_ROOM))

    return Distance(
        name="logit",
        value=lambda r: (xlogy(r - low, above(r) / down) + xlogy(high - r, below(r) / up)) / speed,
        slope=lambda r: (np.log(above(r) / down) - np.log(below(r) / up)) / speed,
        curvature=lambda r: down * up / (above(r) * below(r)),
        inverse_slope=lambda u: low + (high - low) * expit(speed * u + centre),
        lower=low,
        upper=high,
    )


# Its limits are the bounds on the ratio of the problem at hand; without any it is chi-square.
LOGIT = replace(CHI2, name="logit", within=logit)


# --- By name --------------------------------------------------------------------------------------

DISTANCES = {
    distance.name: distance for distance in (CHI2, RAKING, LOGIT, TRUNCATED_LINEAR, SINH, HELLINGER)
}

# What other packages call them, to say what is meant.
OTHER_NAMES = {
    "linear": '"linear" elsewhere is "chi2" here, with min_weight_ratio=-inf.',
    "truncated": 'Elsewhere "truncated" is "truncated_linear" here.',
    "greg": 'Regression (GREG) weights are "chi2" with min_weight_ratio=-inf.',
    "entropy": 'Entropy balancing is "raking" here.',
}


def distance_named(name: str | Distance) -> Distance:
    """The distance that a user named, or the one that a user made, checked.

    Args:
        name: A key of `DISTANCES`, or a `Distance`.

    Returns:
        The distance.

    Raises:
        InvalidOption: If no distance has that name, or its functions do not fit together.

    Examples:
        >>> distance_named("raking").slope(np.array([1.0]))
        array([0.])
    """
    if isinstance(name, Distance):
        if DISTANCES.get(name.name) is not name:
            check_functions(name.name, name.functions(), name.inverse_slope)
        return name
    if not isinstance(name, str) or name not in DISTANCES:
        hint = OTHER_NAMES.get(name.lower(), "") if isinstance(name, str) else ""
        raise InvalidOption(
            f"distance={name!r} is not known. Use one of {list(DISTANCES)}, or a Distance of "
            f"your own. {hint}".rstrip()
        )
    return DISTANCES[name]
