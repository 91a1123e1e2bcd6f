"""Losses: what an error of a soft target costs.

A loss is two numbers and a name. It is a square near zero, of a `curvature`, whose slope stops
growing at `most_slope`: least squares have no such limit, absolute errors no square. To the engine
the first is the compliance of a target, the second the price of a slack that it takes errors up
with. A `cap`, beyond which an error costs no more, makes a loss that is not convex; see `capped`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microcalibrate.errors import InvalidOption

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """What an error `e` of a soft target, in scales, costs per unit of its importance.

    Attributes:
        name: What users write: `loss="squared"`.
        curvature: Of the square near zero; infinite where there is none.
        most_slope: Where the slope stops growing; infinite where it does not.
        cap: Error beyond which it costs no more; infinite where there is none.
    """

    name: str
    curvature: float
    most_slope: float
    cap: float = np.inf

    @property
    def bend(self) -> float:
        """The error at which the square goes over into a straight line."""
        return self.most_slope / self.curvature

    def value(self, errors: Vector) -> Vector:
        """Cost of each error.

        Examples:
            >>> huber(0.1).value(np.array([0.0, -0.1, 1.1]))
            array([0.   , 0.005, 0.105])
        """
        size = np.minimum(np.abs(errors), self.cap)
        if np.isinf(self.most_slope):
            return np.asarray(0.5 * self.curvature * size**2)
        straight = self.most_slope * (size - 0.5 * self.bend)
        if self.bend == 0:
            return np.asarray(straight)
        return np.where(size < self.bend, 0.5 * self.curvature * size**2, straight)

    def slope(self, errors: Vector) -> Vector:
        """What a unit more of each error costs, whatever the cap.

        Examples:
            >>> huber(0.1).slope(np.array([0.0, -0.05, 1.1]))
            array([ 0.  , -0.05,  0.1 ])
        """
        if self.bend == 0:
            return self.most_slope * np.sign(errors)
        return np.clip(self.curvature * errors, -self.most_slope, self.most_slope)

    def __str__(self) -> str:
        """The name, with the number that belongs to it."""
        number = self.cap if np.isfinite(self.cap) else self.bend
        return self.name if number in (0, np.inf) else f"{self.name}:{number:g}"


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise InvalidOption(f"loss={name!r} takes a positive number, not {value!r}.")
    return float(value)


SQUARED = Loss("squared", curvature=1.0, most_slope=np.inf)
ABSOLUTE = Loss("absolute", curvature=np.inf, most_slope=1.0)


def huber(bend: float = 0.1) -> Loss:
    """Squares of small errors, absolute values of large ones (Huber 1964).

    Args:
        bend: Error, in scales, at which one goes over into the other.

    Returns:
        The loss: `e**2 / 2` up to `bend`, then `bend * (abs(e) - bend / 2)`.
    """
    return Loss("huber", curvature=1.0, most_slope=_positive("huber", bend))


def capped(cap: float = 1.0) -> Loss:
    """Absolute errors, of which no more than `cap` counts: hopeless targets are left alone.

    It is not convex. The engine solves for absolute errors, leaves out the targets that are missed
    by more than the cap, solves again, and so on until the same ones are missed: each time the
    loss falls, as in any majorise-minimise method (Hunter and Lange 2004). What comes out is the
    best near it, not with certainty the best of all.

    Args:
        cap: Error, in scales.
    """
    return Loss("capped", curvature=np.inf, most_slope=1.0, cap=_positive("capped", cap))


LOSSES = {"squared": SQUARED, "absolute": ABSOLUTE, "huber": huber(), "capped": capped()}
_WITH_NUMBER = {"huber": huber, "capped": capped}


def loss_named(name: str | Loss) -> Loss:
    """The loss that a user named.

    Args:
        name: A key of `LOSSES`, for Huber's and the capped one with a number after a colon where
            it is not the usual one; or a `Loss`.

    Returns:
        The loss.

    Raises:
        InvalidOption: If no loss has that name, or the number is not positive.

    Examples:
        >>> loss_named("huber:0.05").bend, loss_named("capped").cap
        (0.05, 1.0)
    """
    if isinstance(name, Loss):
        if not (name.curvature > 0 and name.most_slope > 0 and name.cap > 0):
            raise InvalidOption(
                f"loss {name.name!r} has curvature {name.curvature:g}, slope {name.most_slope:g} "
                f"and cap {name.cap:g}: all must be positive."
            )
        if np.isinf(name.curvature) and np.isinf(name.most_slope):
            raise InvalidOption(f"loss {name.name!r} is infinite: give tolerances=0 instead.")
        return name
    kind, colon, number = str(name).partition(":")
    if not isinstance(name, str) or kind not in LOSSES or (colon and kind not in _WITH_NUMBER):
        raise InvalidOption(
            f"loss={name!r} is not known. Use one of {list(LOSSES)}; huber and capped take a "
            'number, as in "huber:0.05" and "capped:0.5".'
        )
    if not colon:
        return LOSSES[kind]
    try:
        return _WITH_NUMBER[kind](float(number))
    except ValueError as error:
        raise InvalidOption(
            f"loss={name!r}: after the colon stands a positive number, the error at which "
            f"{'squares end' if kind == 'huber' else 'the cost stops growing'}."
        ) from error
