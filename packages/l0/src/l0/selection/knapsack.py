"""Bundles of exact total size and highest total worth, within bounds for each part.

Pure NumPy. Bundles of size 1 are found by rank, others by dynamic programming over the total, which
takes time proportional to the number of bundles times the total.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from l0.selection.draws import Indices, Rng, top_k

Bounds: TypeAlias = tuple[Indices, Indices]
Reached: TypeAlias = tuple[int | None, int | None]


def best_of_total(
    worth: NDArray[np.float64],
    size: Indices,
    parts: list[Indices],
    bounds: Bounds,
    k: int,
    rng: Rng,
) -> tuple[Indices | None, Reached]:
    """Bundles of the highest total worth whose sizes sum to exactly `k`, in bounds of each part.

    Args:
        worth: Finite, shape `(n_bundles,)`.
        size: At least 1, shape `(n_bundles,)`.
        parts: Positions of the bundles of each part; every bundle is in one.
        bounds: Least and most total size of each part.
        k: Total size.
        rng: Generator or seed, used only to break ties.

    Returns:
        Positions, or None if no choice has that total; and the nearest totals that can be reached,
        from below and from above, each None if there is none.

    Examples:
        >>> worth, size = np.array([5.0, 4.0, 3.0]), np.array([2, 2, 1])
        >>> best_of_total(worth, size, [np.arange(3)], (np.array([0]), np.array([5])), 3, 0)
        (array([0, 2]), (3, 3))
    """
    alike = size.max(initial=1) == 1
    low, high = bounds
    if alike:
        return _by_rank(worth, parts, low, high, k, rng)
    return _by_table(worth, size, parts, low, high, k, rng)


def _by_rank(
    worth: NDArray[np.float64],
    parts: list[Indices],
    low: Indices,
    high: Indices,
    k: int,
    rng: Rng,
) -> tuple[Indices | None, Reached]:
    """Bundles of size 1: what each stratum must have, then the best of what each may have."""
    most = np.minimum(high, [part.size for part in parts])
    if (low > most).any():
        return None, (None, None)
    if not low.sum() <= k <= most.sum():
        return None, ((int(most.sum()), None) if k > most.sum() else (None, int(low.sum())))
    must, may = [], []
    for part, fewest, cap in zip(parts, low.tolist(), most.tolist(), strict=True):
        first = part[top_k(worth[part], fewest, rng)]
        others = np.setdiff1d(part, first, assume_unique=True) if fewest else part
        if cap - fewest < others.size:
            others = others[top_k(worth[others], cap - fewest, rng)]
        must.append(first)
        may.append(others)
    pool = np.sort(np.concatenate(may))
    chosen = pool[top_k(worth[pool], k - int(low.sum()), rng)]
    return np.concatenate([*must, chosen]), (k, k)


def _by_table(
    worth: NDArray[np.float64],
    size: Indices,
    parts: list[Indices],
    low: Indices,
    high: Indices,
    k: int,
    rng: Rng,
) -> tuple[Indices | None, Reached]:
    """Bundles of any size, by dynamic programming over the count.

    Of bundles alike in stratum and size the best come first, so a plan is a number of them for each
    class; `_joined` adds one class, then one stratum, to the table of the best sums.
    """
    ceiling = k + int(size.max())  # so that the nearest count above k is in the table
    table, trail = _nothing(ceiling), []
    for part, fewest, most in zip(parts, low.tolist(), high.tolist(), strict=True):
        inner = _nothing(min(most, ceiling))
        choices = []
        for step in np.unique(size[part]).tolist():
            members = part[size[part] == step]
            sums = np.concatenate([[0.0], np.cumsum(np.sort(worth[members])[::-1])])
            inner, taken = _joined(inner, sums, step)
            choices.append((members, step, taken))
        inner[:fewest] = -np.inf
        table, counts = _joined(table, inner, 1)
        trail.append((choices, counts))
    reachable = np.flatnonzero(np.isfinite(table))
    if not 0 <= k < table.size or not np.isfinite(table[k]):
        below, above = reachable[reachable < k], reachable[reachable > k]
        return None, (
            int(below[-1]) if below.size else None,
            int(above[0]) if above.size else None,
        )
    chosen, left = [], k
    for choices, counts in reversed(trail):
        inside = int(counts[left])
        left -= inside
        for members, step, taken in reversed(choices):
            n = int(taken[inside])
            inside -= n * step
            chosen.append(members[top_k(worth[members], n, rng)])
    return np.concatenate(chosen), (k, k)


def _nothing(length: int) -> NDArray[np.float64]:
    table = np.full(length + 1, -np.inf)
    table[0] = 0.0
    return table


def _joined(
    table: NDArray[np.float64], sums: NDArray[np.float64], step: int
) -> tuple[NDArray[np.float64], Indices]:
    """`max over n of table[t - n step] + sums[n]` for each t, and the n that reaches it."""
    best = np.full_like(table, -np.inf)
    taken = np.zeros(table.size, dtype=np.int64)
    for n in np.flatnonzero(np.isfinite(sums)).tolist():
        offset = n * step
        if offset >= table.size:
            break
        candidate = table[: table.size - offset] + sums[n]
        better = candidate > best[offset:]
        best[offset:][better] = candidate[better]
        taken[offset:][better] = n
    return best, taken
