"""Distances that users make: checked before use, and the inverse of a slope that was not given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from microcalibrate.errors import InvalidOption

Vector = NDArray[np.float64]

# Ratios are looked for this many halvings of the way towards a limit, or doublings without one.
MOST_DOUBLINGS = 60
MOST_NEWTON_STEPS = 200
# Derivatives agree with differences of this step to the share after it.
DIFFERENCE_STEP = 1e-5
AGREEMENT = 1e-3
# Slope and value at 1 count as zero below this.
ZERO = 1e-9


@dataclass(frozen=True)
class Functions:
    """What makes a distance: three functions of a ratio, and where they are defined.

    Attributes:
        value: `phi(r)`.
        slope: `phi'(r)`.
        curvature: `phi''(r)`.
        lower: Infimum of the ratios on which they are defined.
        upper: Supremum of them.
    """

    value: Callable[[Vector], Vector]
    slope: Callable[[Vector], Vector]
    curvature: Callable[[Vector], Vector]
    lower: float
    upper: float

    def towards_upper(self, doublings: int) -> float:
        """A ratio above 1, further towards the upper limit with each doubling."""
        if np.isinf(self.upper):
            return float(2.0**doublings)
        return self.upper - (self.upper - 1) * 0.5**doublings

    def towards_lower(self, doublings: int) -> float:
        """A ratio below 1, further towards the lower limit with each doubling."""
        if np.isinf(self.lower):
            return 2 - float(2.0**doublings)
        return self.lower + (1 - self.lower) * 0.5**doublings


def not_given(_: Vector) -> NoReturn:
    """Stands for an inverse of the slope that nobody gave; one is found in its place."""
    raise TypeError("a distance without an inverse of its slope was not made by Distance")


# --- The inverse of a slope -----------------------------------------------------------------------


def numeric_inverse(functions: Functions) -> Callable[[Vector], Vector]:
    """The function that finds the ratio of a given slope.

    Newton's method within a bracket, halved where a step would leave it. A slope that no ratio
    has gets one far out; see Note [Far trial steps].

    Examples:
        >>> entropy = Functions(lambda r: r * np.log(r) - r + 1, np.log, lambda r: 1 / r, 0, np.inf)
        >>> numeric_inverse(entropy)(np.array([0.0, 1.0]))
        array([1.        , 2.71828183])
    """

    def inverse(wanted: Vector) -> Vector:
        wanted = np.asarray(wanted, dtype=np.float64)
        with np.errstate(all="ignore"):
            low, high = _brackets(functions, wanted)
            return _within(functions, wanted, low, high)

    return inverse


def _brackets(functions: Functions, wanted: Vector) -> tuple[Vector, Vector]:
    """Ratios below and above the one of each wanted slope."""
    low, high = np.ones_like(wanted), np.ones_like(wanted)
    for doublings in range(1, MOST_DOUBLINGS + 1):
        rising = (wanted > 0) & (functions.slope(high) < wanted)
        falling = (wanted < 0) & (functions.slope(low) > wanted)
        if not rising.any() and not falling.any():
            break
        low, high = np.where(rising, high, low), np.where(falling, low, high)
        high = np.where(rising, functions.towards_upper(doublings), high)
        low = np.where(falling, functions.towards_lower(doublings), low)
    return low, high


def _within(functions: Functions, wanted: Vector, low: Vector, high: Vector) -> Vector:
    ratio = 0.5 * (low + high)
    for _ in range(MOST_NEWTON_STEPS):
        excess = functions.slope(ratio) - wanted
        low, high = np.where(excess < 0, ratio, low), np.where(excess > 0, ratio, high)
        step = ratio - excess / functions.curvature(ratio)
        inside = (step > low) & (step < high)
        following = np.where(excess == 0, ratio, np.where(inside, step, 0.5 * (low + high)))
        moved = np.abs(following - ratio)
        ratio = following
        if (moved <= 4 * np.finfo(np.float64).eps * np.maximum(np.abs(ratio), 1e-300)).all():
            break
    return np.asarray(ratio)


# --- Checks ---------------------------------------------------------------------------------------


def check_functions(
    name: str, functions: Functions, inverse_slope: Callable[[Vector], Vector]
) -> None:
    """See whether functions make a distance, at some tens of ratios in their range.

    Args:
        name: What the user calls it.
        functions: What the user gave.
        inverse_slope: The ratio of a given slope.

    Raises:
        InvalidOption: If they do not: it says at which ratio, and what is wrong there.
    """

    def refuse(what: str) -> NoReturn:
        raise InvalidOption(f"distance {name!r}: {what}")

    if not isinstance(name, str) or not name:
        refuse("give it a name.")
    if not functions.lower < 1 < functions.upper:
        refuse(
            f"it is defined from {functions.lower:g} to {functions.upper:g}, which must have 1, "
            "the ratio of a weight that does not change, inside."
        )
    ratio = _sample(functions)
    results = []
    for what in ("value", "slope", "curvature"):
        with np.errstate(all="ignore"):
            result = np.asarray(getattr(functions, what)(ratio))
        if result.shape != ratio.shape:
            refuse(f"{what} returned shape {result.shape} for ratios of shape {ratio.shape}.")
        if not np.isfinite(result).all():
            first = ratio[~np.isfinite(result)][0]
            refuse(
                f"{what} is not finite at ratio {first:.4g}. If it is not defined there, say so "
                "with lower= and upper=."
            )
        results.append(result)
    value, slope, curvature = results
    at_one = int(np.flatnonzero(ratio == 1)[0])
    if abs(value[at_one]) > ZERO or abs(slope[at_one]) > ZERO:
        refuse(
            f"value and slope at ratio 1 are {value[at_one]:.3g} and {slope[at_one]:.3g}; both "
            "must be 0, so that a weight that does not change costs nothing."
        )
    if not (curvature > 0).all():
        refuse(
            f"curvature is {curvature[curvature <= 0][0]:.3g} at ratio "
            f"{ratio[curvature <= 0][0]:.4g}; a distance must be convex."
        )
    for what, derivative, parent in (
        ("slope", slope, functions.value),
        ("curvature", curvature, functions.slope),
    ):
        difference = _central_difference(parent, ratio, functions)
        off = np.abs(derivative - difference) > AGREEMENT * (np.abs(difference) + curvature)
        if off.any():
            first = int(np.flatnonzero(off)[0])
            refuse(
                f"{what} is {derivative[first]:.6g} at ratio {ratio[first]:.4g}, but differences "
                f"of {'value' if what == 'slope' else 'slope'} give {difference[first]:.6g}: one "
                "of the two is wrong."
            )
    back = inverse_slope(slope)
    off = np.abs(back - ratio) > AGREEMENT * np.maximum(np.abs(ratio), 1e-3)
    if off.any():
        refuse(
            f"inverse_slope gives {back[off][0]:.6g} for the slope at ratio {ratio[off][0]:.6g}. "
            "Mend it, or leave it out."
        )


def _sample(functions: Functions) -> Vector:
    """Ratios on both sides of 1, and 1 itself, well inside of the range."""
    shares = np.linspace(0.05, 0.9, 12)
    below = 1 - shares * (4 if np.isinf(functions.lower) else 1 - functions.lower)
    above = 1 + shares * (9 if np.isinf(functions.upper) else functions.upper - 1)
    return np.concatenate([below[::-1], [1.0], above])


def _central_difference(
    function: Callable[[Vector], Vector], ratio: Vector, functions: Functions
) -> Vector:
    # Both points stay within the range, which may be narrow.
    room = np.minimum(1, np.minimum(ratio - functions.lower, functions.upper - ratio))
    step = DIFFERENCE_STEP * room
    return np.asarray((function(ratio + step) - function(ratio - step)) / (2 * step))
