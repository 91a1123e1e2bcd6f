"""Bounds on weights, as users give them: on the ratio or absolute, for all records or each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import Vector, numbers
from microcalibrate.errors import InvalidOption


def per_record(name: str, value: Any, default: float, n_records: int) -> Vector:
    """One number per record, from a number, one per record, or nothing.

    Args:
        name: Of the option, for messages.
        value: What was given; None is the default.
        default: Of every record.
        n_records: How many there are.

    Returns:
        Shape `(n_records,)`; it may be a view of one number.

    Raises:
        InvalidOption: If it holds no numbers, NaN, or has another shape.
    """
    try:
        array = numbers(default if value is None else value)
    except (TypeError, ValueError) as error:
        raise InvalidOption(f"{name} does not hold numbers: {error}") from error
    if array.shape not in ((), (n_records,)):
        raise InvalidOption(
            f"{name} has shape {array.shape}; give one number, or one per record ({n_records})."
        )
    if np.isnan(array).any():
        raise InvalidOption(f"{name} is NaN; give a number, or None for no bound.")
    return np.broadcast_to(array, n_records)


def checked_pair(names: tuple[str, str], lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """A lower and an upper bound that leave room for a weight.

    Raises:
        InvalidOption: If they cross, or exclude every finite weight, or every positive one.
    """
    low_name, high_name = names
    crossed = np.flatnonzero(lower > upper)
    if crossed.size:
        first = int(crossed[0])
        raise InvalidOption(
            f"{low_name} is {lower[first]:g} and {high_name} is {upper[first]:g} "
            f"(record {first}): the bounds cross."
        )
    if np.any(lower == np.inf) or np.any(upper == -np.inf):
        raise InvalidOption(f"{low_name} cannot be inf, nor {high_name} -inf.")
    if np.any(upper < 0):
        raise InvalidOption(f"{high_name} is negative: no weight could be positive.")
    return lower, upper


def checked_frozen(frozen: Any, n_records: int) -> NDArray[np.bool_]:
    """Which records keep their design weight, from a mask or nothing.

    Raises:
        InvalidOption: If it is no mask of one truth value per record.
    """
    if frozen is None:
        return np.broadcast_to(np.False_, n_records)
    mask = np.asarray(frozen)
    if (
        mask.shape != (n_records,)
        or mask.dtype.kind not in "biuf"
        or np.any((mask != 0) & (mask != 1))
    ):
        raise InvalidOption(
            f"frozen must be one truth value per record ({n_records}): True for those that keep "
            "their design weight."
        )
    return mask.astype(np.bool_)


def check_room(
    design_weights: Vector,
    lower: Vector,
    upper: Vector,
    frozen: NDArray[np.bool_],
) -> None:
    """See that all bounds together leave room for each record.

    Args:
        design_weights: Shape `(n_records,)`.
        lower: Least ratio by bounds on ratios and weights together, frozen records apart.
        upper: Greatest such ratio.
        frozen: Which records keep their design weight.

    Raises:
        InvalidOption: If they do not; it names the first such record.
    """
    crossed = np.flatnonzero((lower > upper) & (design_weights > 0))
    if crossed.size:
        first = int(crossed[0])
        d = design_weights[first]
        raise InvalidOption(
            f"the bounds leave no weight to {crossed.size} records. Record {first}, of design "
            f"weight {d:g}, would have to lie between {lower[first] * d:g} and "
            f"{upper[first] * d:g}. Widen bounds on the ratio, or min_weight and max_weight."
        )
    outside = np.flatnonzero(frozen & (design_weights > 0) & ((lower > 1) | (upper < 1)))
    if outside.size:
        first = int(outside[0])
        d = design_weights[first]
        raise InvalidOption(
            f"record {first} is frozen at its design weight {d:g}, which lies outside its bounds "
            f"{lower[first] * d:g} to {upper[first] * d:g}. Leave it out of frozen, or widen them."
        )


def settled_on_bounds(
    weights: Vector, design_weights: Vector, lower: Vector, upper: Vector
) -> Vector:
    """Weights of which neither product nor quotient is outside its bound by a single bit.

    `(bound * d) / d` may exceed `bound` by a rounding, and so may `(cap / d) * d` the cap: who
    checks in either way shall find no weight outside. Nothing moves by more than a few units in
    the last place.

    Args:
        weights: Shape `(n_records,)`, within their bounds up to rounding.
        design_weights: Shape `(n_records,)`.
        lower: Least ratio, shape `(n_records,)`.
        upper: Greatest ratio, shape `(n_records,)`.

    Examples:
        >>> d, none, most = np.array([13.0]), np.zeros(1), np.array([1.3])
        >>> (most * d / d <= most).item()
        False
        >>> (settled_on_bounds(most * d, d, none, most) / d <= most).item()
        True
    """
    room = (design_weights > 0) & (lower < upper)
    settled = weights.copy()
    for _ in range(4):
        quotient = np.divide(settled, design_weights, out=np.ones_like(settled), where=room)
        over, under = room & (quotient > upper), room & (quotient < lower)
        if not over.any() and not under.any():
            break
        settled[over] = np.nextafter(settled[over], -np.inf)
        settled[under] = np.nextafter(settled[under], np.inf)
    return settled
