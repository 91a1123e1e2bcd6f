"""Targets whose columns are combinations of the columns of others.

A combination of columns is the same combination of totals, whatever the weights: such a target
adds nothing where its value agrees with what the others imply, and cannot be met where it does
not. All is read off the design-weighted Gram matrix of the columns, shape
`(n_targets, n_targets)`, so a sparse estimate matrix stays sparse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# A combination of more columns than this is believed only where it leaves no more than this share
# of the squares: with enough columns nearly anything is nearly explained.
MOST_PARTS = 12
EXACT = 1e-9
# Coefficients of columns of length 1 below this share of the largest are not part of it.
LEAST_PART = 1e-3
# A combination is written for its last column whose coefficient is at least this share of the
# largest: the one added last is the one that is proposed for dropping.
LEAST_LEADER = 0.1


@dataclass(frozen=True, eq=False)
class Combination:
    """One column that others make up: `column[of] = coefficients @ columns[parts]`, nearly.

    Attributes:
        of: Position of the target that is made up.
        parts: Positions of the others, largest share first.
        coefficients: One per part, in units of the target `of` per unit of the part.
        explained: Share of the design-weighted squares of the column that the parts reproduce,
            in `[0, 1]`.
        left: Design-weighted root sum of squares of the column less the parts: its total at
            ratios `r` is at most this times `sqrt(sum(d * r**2))`, in units of `of`.
    """

    of: int
    parts: tuple[int, ...]
    coefficients: Vector
    explained: float
    left: float = 0.0

    def implied(self, values: Vector) -> float:
        """What `values`, shape `(n_targets,)`, of the parts make of the target `of`."""
        return float(self.coefficients @ values[list(self.parts)])


def combinations_of(gram: Matrix, min_explained: float) -> tuple[Combination, ...]:
    """Find columns that are, nearly, linear combinations of others.

    Cholesky with pivoting (Higham 2002, section 10.3) parts columns of length 1 into independent
    ones and the rest; the rest is then written in terms of columns that stand before it, with as
    few parts as explain it.

    Args:
        gram: Design-weighted Gram matrix `X.T @ diag(d) @ X`, shape `(n_targets, n_targets)`,
            symmetric.
        min_explained: Share of the squares of a column, in `(0, 1)`, that others must explain.

    Returns:
        The combinations by position of `of`. Columns of zeros are in none.

    Examples:
        >>> columns = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]])
        >>> found = combinations_of(columns.T @ columns, 0.9999)
        >>> found[0].of, found[0].parts, found[0].coefficients.round(6).tolist()
        (2, (1, 0), [3.0, 2.0])
    """
    length = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
    used = np.flatnonzero(length > 0)
    if len(used) < 2:
        return ()
    unit = gram[np.ix_(used, used)] / np.outer(length[used], length[used])
    found = []
    for leader, row in _null_rows(unit, 1 - min_explained):
        others = np.flatnonzero(row)
        others = others[others != leader]
        others = others[np.lexsort((others, -np.round(np.abs(row[others]), 9)))]
        parts, coefficients, explained = _fewest_parts(unit, leader, others, min_explained)
        needed = min_explained if len(parts) <= MOST_PARTS else max(min_explained, 1 - EXACT)
        if explained < needed:
            continue
        of = int(used[leader])
        positions = used[parts]
        in_units = coefficients * length[of] / length[positions]
        left = float(length[of] * np.sqrt(1 - explained))
        found.append(Combination(of, tuple(positions.tolist()), in_units, explained, left))
    return tuple(sorted(found, key=lambda combination: combination.of))


def _null_rows(unit: Matrix, tolerance: float) -> list[tuple[int, Vector]]:
    """Vectors `v` with `unit @ v` near zero, each with the column that it is written for."""
    n = len(unit)
    # LAPACK stops where no column has more than `tolerance` of its square length left.
    triangle, pivot, rank, _ = la.lapack.dpstrf(unit, tol=tolerance, lower=0)
    if rank == n:
        return []
    order = pivot - 1
    basis = np.triu(triangle[:rank, :rank])
    within = la.solve_triangular(basis, triangle[:rank, rank:], check_finite=False)
    rows = np.zeros((n - rank, n))
    rows[:, order[:rank]] = -within.T
    rows[np.arange(n - rank), order[rank:]] = 1.0
    # Gauss–Jordan from the right, so that a column is explained by those that stand before it.
    out = []
    left = list(range(len(rows)))
    while left:
        size = np.abs(rows[left])
        counts = size >= LEAST_LEADER * size.max(axis=1, keepdims=True)
        last = n - 1 - np.argmax(counts[:, ::-1], axis=1)
        place = int(np.argmax(last))
        number, leader = left.pop(place), int(last[place])
        rows[number] /= rows[number, leader]
        others = np.arange(len(rows)) != number
        rows[others] -= np.outer(rows[others, leader], rows[number])
        out.append((leader, number))
        left = [row for row in left if np.abs(rows[row]).max() > LEAST_PART]
    small = np.abs(rows) < LEAST_PART * np.abs(rows).max(axis=1, keepdims=True)
    rows[small] = 0.0
    return [(leader, rows[number]) for leader, number in out]


def _fewest_parts(
    unit: Matrix, leader: int, others: NDArray[np.int64], min_explained: float
) -> tuple[NDArray[np.int64], Vector, float]:
    """The shortest beginning of `others` that explains column `leader`, by least squares."""
    parts, coefficients, explained = others[:0], np.zeros(0), 0.0
    for count in [*range(1, min(MOST_PARTS, len(others)) + 1), len(others)]:
        parts = others[:count]
        coefficients, explained = _least_squares(unit, leader, parts)
        if explained >= min_explained:
            break
    size = np.abs(coefficients)
    large = parts[size >= LEAST_PART * size.max(initial=0.0)]
    if len(large) < len(parts):
        fewer = _least_squares(unit, leader, large)
        if fewer[1] >= min_explained:
            return large, *fewer
    return parts, coefficients, explained


def _least_squares(unit: Matrix, leader: int, parts: NDArray[np.int64]) -> tuple[Vector, float]:
    """Coefficients of `parts` for column `leader`, and the share of its squares they explain."""
    right = unit[parts, leader]
    coefficients = la.lstsq(unit[np.ix_(parts, parts)], right)[0]
    return coefficients, float(np.clip(coefficients @ right, 0.0, 1.0))


def groups_of(combinations: tuple[Combination, ...]) -> list[tuple[int, ...]]:
    """Targets that hang together by combinations, largest group first, ascending within.

    Examples:
        >>> first = Combination(2, (0,), np.ones(1), 1.0)
        >>> groups_of((first, Combination(3, (2,), np.ones(1), 1.0)))
        [(0, 2, 3)]
    """
    groups: list[set[int]] = []
    for combination in combinations:
        joined = {combination.of, *combination.parts}
        apart = []
        for group in groups:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return sorted((tuple(sorted(group)) for group in groups), key=lambda g: (-len(g), g))
