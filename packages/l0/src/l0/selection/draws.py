"""From probabilities to exactly k items.

Pure NumPy: nothing here needs PyTorch. Every function returns positions in ascending order, as
`int64`, and takes its randomness as a `numpy.random.Generator` or a seed.

Systematic sampling with unequal probabilities is due to Madow (1949), "On the theory of
systematic sampling, II", Annals of Mathematical Statistics 20, 333-354.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l0.errors import InvalidCount, InvalidProbabilities, ShapeMismatch

Indices: TypeAlias = NDArray[np.int64]
Rng: TypeAlias = np.random.Generator | int

# Note [Whole units of probability]: sums of a million floats are off by a few parts in 1e10, and
# systematic sampling would then miss one item, or take one twice, once in a blue moon. So a
# probability becomes a whole number of units, and every sum below is exact. With 2**40 units to
# an item, the rounding moves an inclusion probability by about 1e-12 n, and int64 has room for a
# draw of 8 million items.
_UNITS = 2**40
_WHOLE_TOLERANCE = 1e-6


def inclusion_probabilities(size: ArrayLike, k: int) -> NDArray[np.float64]:
    """Chances proportional to size, none above 1, that sum to exactly `k`.

    An item so large that its share would pass 1 is taken for certain, and the rest of `k` is
    shared among the others, until no share passes 1 (Särndal, Swensson and Wretman 1992,
    "Model Assisted Survey Sampling", section 3.6.2).

    Args:
        size: Size of each item, shape `(n_items,)`, in any unit. An item of size zero gets
            probability zero.
        k: How many items a draw shall have.

    Returns:
        Inclusion probabilities, shape `(n_items,)`.

    Raises:
        InvalidProbabilities: If a size is negative or not finite.
        InvalidCount: If `k` is negative, or larger than the number of items of positive size.

    Examples:
        >>> inclusion_probabilities([1.0, 1.0, 2.0, 8.0, 0.0], 2).tolist()
        [0.25, 0.25, 0.5, 1.0, 0.0]
    """
    sizes = finite_vector(size, "size")
    if (sizes < 0).any():
        worst = int(np.argmin(sizes))
        raise InvalidProbabilities(
            f"size {sizes[worst]:g} at position {worst} is negative. "
            "Sizes are at least 0; take absolute values if only the magnitude counts."
        )
    # Sizes near the largest float would overflow when summed. A power of two changes no ratio.
    sizes = np.ldexp(sizes, min(1000 - int(np.frexp(sizes.max(initial=0.0))[1]), 0))
    n_positive = int(np.count_nonzero(sizes))
    if not 0 <= k <= n_positive:
        raise InvalidCount(
            f"{k} items are asked for, but {n_positive} of the {sizes.size} items have a positive "
            f"size. Ask for 0 to {n_positive} items, or give more of them a positive size."
        )
    if k == n_positive:
        return (sizes > 0).astype(np.float64)

    order = np.argsort(-sizes, kind="stable")[:n_positive]
    descending = sizes[order]
    # Summed from the smallest up, so that small sizes are not lost beside large ones.
    rest = np.cumsum(descending[::-1])[::-1]
    share = descending / rest
    left = np.maximum(k - np.arange(n_positive), 0)
    n_certain = int(np.argmax(left * share <= 1.0))

    probabilities = np.zeros(sizes.size)
    probabilities[order[:n_certain]] = 1.0
    probabilities[order[n_certain:]] = descending[n_certain:] / rest[n_certain] * left[n_certain]
    return np.minimum(probabilities, 1.0)


def systematic(
    probabilities: ArrayLike, rng: Rng = 0, *, order: ArrayLike | None = None
) -> Indices:
    """One draw in which item i is taken with chance `probabilities[i]`, spread along an order.

    The probabilities are laid end to end, and a comb with teeth one apart falls on them at a
    random place. Neighbours in `order` are seldom taken together, so an order in which
    neighbours are alike gives a draw that mirrors the whole.

    Args:
        probabilities: Inclusion probabilities in `[0, 1]`, shape `(n_items,)`.
        rng: Generator or seed of the one random number that a draw needs.
        order: A permutation of the positions, along which to spread. The order of the data if
            not given.

    Returns:
        Positions that were taken, ascending. Exactly k of them when the probabilities sum to a
        whole number k (within 1e-6), else the sum rounded down or up.

    Raises:
        InvalidProbabilities: If a probability is not finite or not in `[0, 1]`.
        ShapeMismatch: If `order` is not a permutation of the positions.
        InvalidCount: If the draw would have more than 8 million items.

    Examples:
        >>> systematic([0.5, 0.5, 0.0, 1.0, 0.25, 0.75], rng=1).tolist()
        [1, 3, 5]
    """
    chances = finite_vector(probabilities, "probability")
    if chances.size and (chances.min() < 0 or chances.max() > 1):
        worst = int(np.argmax(np.abs(chances - 0.5)))
        raise InvalidProbabilities(
            f"probability {chances[worst]:g} at position {worst} is not in [0, 1]. "
            "`inclusion_probabilities(size, k)` makes probabilities out of sizes."
        )
    path = _permutation(order, chances.size)
    ends = np.cumsum(np.floor(chances[path] * _UNITS).astype(np.int64))
    total = int(ends[-1]) if ends.size else 0
    k = round(float(chances.sum()))
    if k >= 2**63 // _UNITS:
        raise InvalidCount(f"a draw of {k} items is too large. Draw in blocks of up to 8 million.")
    generator = np.random.default_rng(rng)

    # See Note [Whole units of probability]. No item is wider than one tooth of the comb, so none
    # is taken twice. Where the sum is whole, the comb starts early enough for all its k teeth.
    if abs(float(chances.sum()) - k) <= _WHOLE_TOLERANCE:
        start = int(generator.integers(_UNITS - max(k * _UNITS - total, 0)))
        teeth = start + _UNITS * np.arange(k, dtype=np.int64)
    else:
        teeth = np.arange(int(generator.integers(_UNITS)), total, _UNITS, dtype=np.int64)
    return _ascending(path[np.searchsorted(ends, teeth, side="right")])


def top_k(scores: ArrayLike, k: int, rng: Rng = 0) -> Indices:
    """Positions of the k highest scores; a tie at the border is broken evenly over the data.

    Args:
        scores: Any finite scores, shape `(n_items,)`: probabilities, logits, sizes.
        k: How many positions to return.
        rng: Generator or seed, used only to break a tie.

    Returns:
        Exactly `k` positions, ascending. Tied items are taken at even spacing from first to
        last, from a random start, so that no part of the data is favoured.

    Raises:
        InvalidProbabilities: If a score is not finite.
        InvalidCount: If `k` is not in `[0, n_items]`.

    Examples:
        >>> top_k([0.1, 0.9, 0.5, 0.7], 2).tolist()
        [1, 3]
        >>> top_k(np.zeros(12), 3).tolist()
        [3, 7, 11]
    """
    values = finite_vector(scores, "score")
    _check_count(k, values.size)
    if k == 0:
        return np.empty(0, dtype=np.int64)
    border = np.partition(values, values.size - k)[values.size - k]
    above = np.flatnonzero(values > border)
    tied = np.flatnonzero(values == border)
    return _ascending(np.concatenate([above, tied[spread(tied.size, k - above.size, rng)]]))


def spread(n_items: int, k: int, rng: Rng = 0) -> Indices:
    """`k` of `n_items` positions at even spacing from a random start, all equally likely.

    Args:
        n_items: How many positions there are.
        k: How many of them to take.
        rng: Generator or seed of the start.

    Returns:
        Exactly `k` positions, ascending; each has chance `k / n_items`.

    Raises:
        InvalidCount: If `k` is not in `[0, n_items]`.

    Examples:
        >>> spread(10, 5).tolist()
        [1, 3, 5, 7, 9]
    """
    _check_count(k, n_items)
    if k == 0:
        return np.empty(0, dtype=np.int64)
    start = int(np.random.default_rng(rng).integers(n_items))
    return (start + n_items * np.arange(k, dtype=np.int64)) // k


def simple_random(n_items: int, k: int, rng: Rng = 0) -> Indices:
    """A simple random sample: every set of `k` of the `n_items` positions is equally likely.

    Args:
        n_items: How many positions there are.
        k: How many of them to take.
        rng: Generator or seed of the draw.

    Returns:
        Exactly `k` positions, ascending.

    Raises:
        InvalidCount: If `k` is not in `[0, n_items]`.

    Examples:
        >>> simple_random(10, 3, rng=1).size
        3
    """
    _check_count(k, n_items)
    return _ascending(np.random.default_rng(rng).choice(n_items, size=k, replace=False))


def finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """One finite number for each item, or an error that names it."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise InvalidProbabilities(
            f"each item has one {name}, but the array has shape {vector.shape}. "
            "Give one dimension: `values.ravel()` flattens."
        )
    finite_mask = np.isfinite(vector)
    if not finite_mask.all():
        first = int(np.argmin(finite_mask))
        raise InvalidProbabilities(
            f"{name} at position {first} is {vector[first]}; {int((~finite_mask).sum())} of "
            f"{vector.size} are not finite. Drop those items, or mend the model that gave them."
        )
    return vector


def _check_count(k: int, n_items: int) -> None:
    if not 0 <= k <= n_items:
        raise InvalidCount(f"{k} of {n_items} items are asked for. Ask for 0 to {n_items}.")


def _permutation(order: ArrayLike | None, n_items: int) -> Indices:
    if order is None:
        return np.arange(n_items, dtype=np.int64)
    path = np.asarray(order)
    if path.dtype.kind not in "iu" or not np.array_equal(np.sort(path), np.arange(n_items)):
        raise ShapeMismatch(
            f"`order` is not a permutation of the {n_items} positions. "
            "`np.lexsort(...)` or `np.argsort(...)` over the items makes one."
        )
    return path.astype(np.int64)


def _ascending(positions: NDArray[Any]) -> Indices:
    return np.sort(positions).astype(np.int64, copy=False)
