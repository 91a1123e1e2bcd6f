"""How hard each target is on its own, before any solve: its reach, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import is_sparse
from microcalibrate.problem import Problem

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

# Entries of the estimate matrix that are looked at together.
ENTRIES_A_BLOCK = 2_000_000
# A target this far outside its range, in scales, may still be rounding.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Difficulty:
    """Facts about each target, arrays of shape `(n_targets,)`.

    Attributes:
        lowest: Least estimate that ratios within their bounds give, in the target's units.
        highest: Greatest such estimate.
        beyond: How far the target, its tolerance granted, lies outside this range, in scales.
        support: Number of records of positive design weight that contribute.
        effective_support: Number of equal contributions that would be as concentrated,
            `sum(c)**2 / sum(c**2)` of `c = |x| d` (Kish 1965); 0 without support.
        largest_share: Share of one record in the sum of all absolute contributions, in `[0, 1]`.
    """

    lowest: Vector
    highest: Vector
    beyond: Vector
    support: Index
    effective_support: Vector
    largest_share: Vector

    @property
    def is_unreachable(self) -> NDArray[np.bool_]:
        """Which targets no ratios within the bounds can meet, shape `(n_targets,)`."""
        return np.asarray(self.beyond > ROUNDING)


def difficulty_of(problem: Problem, lower: Vector, upper: Vector) -> Difficulty:
    """Look at each target alone.

    Args:
        problem: A checked problem.
        lower: Least ratio of each record, shape `(n_records,)`; may be -inf.
        upper: Greatest ratio of each record, shape `(n_records,)`; may be inf.

    Returns:
        The facts, found in one pass over the entries of the estimate matrix.

    Examples:
        >>> problem = Problem.build([1.0, 1.0], [9.0], [[1.0], [3.0]])
        >>> found = difficulty_of(problem, np.zeros(2), np.full(2, 2.0))
        >>> found.highest, found.largest_share
        (array([8.]), array([0.75]))
    """
    m = problem.n_targets
    lowest, highest, total, squares, largest = (np.zeros(m) for _ in range(5))
    support = np.zeros(m, dtype=np.int64)
    for record, column, value in _entries(problem.estimate_matrix):
        amount = value * problem.design_weights[record]
        counts = amount != 0
        amount, record, column = amount[counts], record[counts], column[counts]
        low, high = amount * lower[record], amount * upper[record]
        lowest += np.bincount(column, np.minimum(low, high), m)
        highest += np.bincount(column, np.maximum(low, high), m)
        size = np.abs(amount)
        total += np.bincount(column, size, m)
        squares += np.bincount(column, size**2, m)
        support += np.bincount(column, minlength=m)
        np.maximum.at(largest, column, size)
    band = np.where(problem.is_soft, 0.0, problem.tolerances) * problem.scales
    outside = np.maximum(lowest - problem.targets, problem.targets - highest) - band
    # Sums of many terms are rounded relative to their own size, not to that of the target.
    rounding = 1e-12 * np.where(np.isfinite(highest - lowest), np.abs(highest - lowest), 0.0)
    return Difficulty(
        lowest=lowest,
        highest=highest,
        beyond=np.maximum(outside - rounding, 0.0) / problem.scales,
        support=support,
        effective_support=total**2 / np.where(squares > 0, squares, 1.0),
        largest_share=largest / np.where(total > 0, total, 1.0),
    )


def _entries(matrix: object) -> Iterator[tuple[Index, Index, Vector]]:
    """Entries as record, column and value, some records at a time."""
    n_records, n_targets = matrix.shape  # type: ignore[attr-defined]  # an array or a CSR array
    if is_sparse(matrix):
        indptr, indices, data = matrix.indptr, matrix.indices, matrix.data  # type: ignore[attr-defined]
        records = np.repeat(np.arange(n_records), np.diff(indptr))
        for start in range(0, len(data), ENTRIES_A_BLOCK):
            part = slice(start, start + ENTRIES_A_BLOCK)
            yield records[part], indices[part], data[part]
        return
    step = max(ENTRIES_A_BLOCK // n_targets, 1)
    for start in range(0, n_records, step):
        block = matrix[start : start + step]  # type: ignore[index]
        record, column = np.nonzero(block)
        yield record + start, column, block[record, column]
