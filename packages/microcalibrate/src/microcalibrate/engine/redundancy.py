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
# Column that is written, its parts, their coefficients in columns of length 1, share explained.
Written = tuple[int, NDArray[np.int64], Vector, float]

# A combination that leaves no more than this share of the squares is an identity. One of more
# columns than `MOST_PARTS` is believed only then: with enough columns nearly anything is nearly
# explained.
EXACT = 1e-9
MOST_PARTS = 12
# Coefficients are even when their sizes differ by no more than this, relative.
EVEN = 1e-4
# Coefficients of columns of length 1 below this share of the largest are not part of it. Of an
# identity the small ones are: it is written with as few as keep it exact.
LEAST_PART = 1e-3
LEAST_EXACT_PARTS = (1e-3, 1e-4, 1e-5, 0.0)
# Two coefficients of which this share of the larger is left when one is taken off cancel.
CANCELS = 1e-6
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


def combinations_of(
    gram: Matrix, min_explained: float, support: NDArray[np.int64] | None = None
) -> tuple[Combination, ...]:
    """Find columns that are, nearly, linear combinations of others.

    Cholesky with pivoting (Higham 2002, section 10.3) parts columns of length 1 into independent
    ones and the rest; the rest is then written in terms of columns that stand before it, with as
    few parts as explain it. Identities come first, then what is nearly one.

    Args:
        gram: Design-weighted Gram matrix `X.T @ diag(d) @ X`, shape `(n_targets, n_targets)`,
            symmetric.
        min_explained: Share of the squares of a column, in `(0, 1)`, that others must explain.
        support: Number of records that contribute to each column, shape `(n_targets,)`. Where it
            is given, uneven combinations among many columns of the same few records are left out:
            such columns are always collinear.

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

    def believed(written: list[Written], number: NDArray[np.int64]) -> list[Written]:
        """Those that do not only stand because some column has few records, renumbered."""
        out = []
        for leader, parts, coefficients, explained in written:
            of, positions = int(number[leader]), number[parts]
            members = np.array([of, *positions])
            sizes = np.abs([1.0, *coefficients]) / length[members]
            is_even = sizes.max() <= (1 + EVEN) * sizes.min()
            if is_even or support is None or not _is_crowded(gram, support, members):
                out.append((of, positions, coefficients, explained))
        return out

    written = believed(_identities(unit), used)
    rest = np.setdiff1d(used, [of for of, *_ in written])
    place = np.searchsorted(used, rest)
    nearly = _near_combinations(unit[np.ix_(place, place)], min_explained)
    found = []
    for of, positions, coefficients, explained in [*written, *believed(nearly, rest)]:
        in_units = coefficients * length[of] / length[positions]
        left = float(length[of] * np.sqrt(1 - explained))
        found.append(Combination(of, tuple(positions.tolist()), in_units, explained, left))
    return tuple(sorted(found, key=lambda combination: combination.of))


def _identities(unit: Matrix) -> list[Written]:
    """Combinations that are exact, each written with few parts."""
    found = []
    for leader, row in _sparser(_null_rows(unit, EXACT, 0.0)):
        size = np.abs(row)
        size[leader] = 0.0
        for least in LEAST_EXACT_PARTS:
            parts = np.flatnonzero((size > 0) & (size >= least * size.max()))
            parts = _largest_first(row, parts)
            coefficients, explained = _least_squares(unit, leader, parts)
            if explained >= 1 - EXACT:
                found.append((leader, parts, coefficients, explained))
                break
    return found


def _near_combinations(unit: Matrix, min_explained: float) -> list[Written]:
    """Combinations that reproduce a column nearly, each with as few parts as explain it."""
    found = []
    for leader, row in _null_rows(unit, 1 - min_explained, LEAST_PART):
        others = np.flatnonzero(row)
        others = _largest_first(row, others[others != leader])
        parts, coefficients, explained = _fewest_parts(unit, leader, others, min_explained)
        if explained >= min_explained and len(parts) <= MOST_PARTS:
            found.append((leader, parts, coefficients, explained))
    return found


def _largest_first(row: Vector, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[np.lexsort((positions, -np.round(np.abs(row[positions]), 9)))]


def _null_rows(unit: Matrix, tolerance: float, least: float) -> list[tuple[int, Vector]]:
    """Vectors `v` with `unit @ v` near zero, each with the column that it is written for.

    No other vector has a coefficient for that column. Coefficients below `least` of a vector's
    largest are left out of it.
    """
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
    small = np.abs(rows) <= least * np.abs(rows).max(axis=1, keepdims=True)
    rows[small] = 0.0
    return [(leader, rows[number]) for leader, number in out]


def _sparser(rows: list[tuple[int, Vector]]) -> list[tuple[int, Vector]]:
    """The same space of vectors, with fewer coefficients: an identity less another one.

    A total that has several breakdowns is otherwise written through all of them at once. A vector
    takes off another only where that has no coefficient for its own column, which it so keeps.
    """
    if not rows:
        return []
    leaders = [leader for leader, _ in rows]
    table = np.array([row for _, row in rows])
    table[np.abs(table) <= CANCELS * np.abs(table).max(axis=1, keepdims=True)] = 0.0
    changed = True
    while changed:
        changed = False
        held = table != 0
        for number in np.argsort(-held.sum(axis=1), kind="stable").tolist():
            shared = held & held[number]
            only_other = held.sum(axis=1) - shared.sum(axis=1)
            usable = (shared.sum(axis=1) > only_other) & ~held[:, leaders[number]]
            best_saving, best = 0, None
            for other in np.flatnonzero(usable).tolist():
                ratio = table[number, shared[other]] / table[other, shared[other]]
                order = np.sort(ratio)
                # The commonest ratio cancels most coefficients.
                ends = np.searchsorted(order, order + CANCELS * np.abs(order), side="right")
                counts = ends - np.arange(len(order))
                most = int(np.argmax(counts))
                saving = int(counts[most] - only_other[other])
                if saving > best_saving:
                    best_saving, best = saving, (other, order[most + counts[most] // 2])
            if best is None:
                continue
            off = best[1] * table[best[0]]
            size = np.abs(table[number]) + np.abs(off)
            table[number] -= off
            table[number, np.abs(table[number]) <= 10 * CANCELS * size] = 0.0
            held = table != 0
            changed = True
    return list(zip(leaders, table, strict=True))


def _fewest_parts(
    unit: Matrix, leader: int, others: NDArray[np.int64], min_explained: float
) -> tuple[NDArray[np.int64], Vector, float]:
    """The shortest beginning of `others` that explains column `leader`, by least squares."""
    parts, coefficients, explained = others[:0], np.zeros(0), 0.0
    for count in range(1, min(MOST_PARTS, len(others)) + 1):
        parts = others[:count]
        coefficients, explained = _least_squares(unit, leader, parts)
        if explained >= min_explained:
            break
    return parts, coefficients, explained


def _is_crowded(gram: Matrix, support: NDArray[np.int64], members: NDArray[np.int64]) -> bool:
    """Whether many members have records in common that are fewer than the members.

    Parts of a total may be small too, but they are disjoint.
    """
    thin = members[support[members] < len(members)]
    overlap = gram[np.ix_(thin, thin)] != 0
    pairs = (overlap.sum() - len(thin)) / 2
    return bool(pairs > len(thin))


def _least_squares(unit: Matrix, leader: int, parts: NDArray[np.int64]) -> tuple[Vector, float]:
    """Coefficients of `parts` for column `leader`, and the share of its squares they explain."""
    right = unit[parts, leader]
    coefficients = la.lstsq(unit[np.ix_(parts, parts)], right)[0]
    return coefficients, float(np.clip(coefficients @ right, 0.0, 1.0))


def groups_of(combinations: tuple[Combination, ...]) -> list[tuple[int, ...]]:
    """Members of each identity, largest group first, ascending within.

    Targets that are multiples of each other form one group; every longer combination is a group
    of its own, so a total with two breakdowns is in two groups.

    Examples:
        >>> copies = Combination(2, (0,), np.ones(1), 1.0), Combination(3, (2,), np.ones(1), 1.0)
        >>> groups_of((*copies, Combination(4, (0, 1), np.ones(2), 1.0)))
        [(0, 1, 4), (0, 2, 3)]
    """
    groups: list[set[int]] = []
    copies: list[set[int]] = []
    for combination in combinations:
        joined = {combination.of, *combination.parts}
        if len(joined) > 2:
            groups.append(joined)
            continue
        apart = []
        for group in copies:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        copies = [*apart, joined]
    ordered = (tuple(sorted(group)) for group in [*groups, *copies])
    return sorted(ordered, key=lambda group: (-len(group), group))
