"""The few hot loops over sparse records, compiled.

Every sum is taken in an order that does not depend on the number of threads, so that results
repeat to the last bit: a row of the Gram matrix belongs to one thread, and products with the
transpose are added up block of records by block of records.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Index = NDArray[np.integer]

# Blocks of records whose partial sums are added in a fixed order, however many threads there are.
N_BLOCKS = 16


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]  # numba is not typed
def sparse_gram(
    indptr: Index,
    indices: Index,
    data: Vector,
    record_weight: Vector,
    panel_bounds: Index,
    out: Vector,
) -> None:
    """Upper triangle of `X.T @ diag(record_weight) @ X` for CSR `X` with sorted indices.

    Args:
        indptr: Row pointers of `X`, shape `(n_records + 1,)`.
        indices: Column of each stored value, ascending within a record.
        data: Stored values.
        record_weight: One factor per record, shape `(n_records,)`.
        panel_bounds: First row of each panel of `out`, and the number of rows; see
            `balanced_panels`. A panel is worked on by one thread.
        out: Shape `(n_targets, n_targets)`; its upper triangle is overwritten.
    """
    for panel in prange(panel_bounds.shape[0] - 1):
        first, last = panel_bounds[panel], panel_bounds[panel + 1]
        for row in range(first, last):
            out[row, row:] = 0.0
        for record in range(record_weight.shape[0]):
            start, stop = indptr[record], indptr[record + 1]
            factor = record_weight[record]
            if factor == 0.0 or start == stop or indices[stop - 1] < first:
                continue
            position = start + np.searchsorted(indices[start:stop], first)
            while position < stop and indices[position] < last:
                scaled = factor * data[position]
                row_of_out = out[indices[position]]
                for other in range(position, stop):
                    row_of_out[indices[other]] += scaled * data[other]
                position += 1


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]  # numba is not typed
def sparse_product(indptr: Index, indices: Index, data: Vector, vector: Vector) -> Vector:
    """`X @ vector` for CSR `X`, shape `(n_records,)`."""
    n_records = indptr.shape[0] - 1
    out = np.empty(n_records)
    for record in prange(n_records):
        total = 0.0
        for position in range(indptr[record], indptr[record + 1]):
            total += data[position] * vector[indices[position]]
        out[record] = total
    return out


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]  # numba is not typed
def sparse_transposed_product(
    indptr: Index, indices: Index, data: Vector, vector: Vector, n_targets: int
) -> Vector:
    """`X.T @ vector` for CSR `X`, shape `(n_targets,)`, added up in a fixed order."""
    n_records = indptr.shape[0] - 1
    partial = np.zeros((N_BLOCKS, n_targets))
    for block in prange(N_BLOCKS):
        sums = partial[block]
        for record in range(block * n_records // N_BLOCKS, (block + 1) * n_records // N_BLOCKS):
            factor = vector[record]
            if factor != 0.0:
                for position in range(indptr[record], indptr[record + 1]):
                    sums[indices[position]] += factor * data[position]
    total = partial[0]
    for block in range(1, N_BLOCKS):
        total += partial[block]
    return total


def balanced_panels(indptr: Index, indices: Index, n_targets: int, n_panels: int) -> Index:
    """Row bounds that give each panel of the Gram matrix about the same work.

    Args:
        indptr: Row pointers of the CSR matrix.
        indices: Its column indices, ascending within a record.
        n_targets: Number of columns.
        n_panels: Number of panels wanted.

    Returns:
        Ascending bounds, shape `(n_panels + 1,)`, from 0 to `n_targets`.

    Examples:
        >>> balanced_panels(np.array([0, 2, 4]), np.array([0, 1, 0, 1]), 2, 2)
        array([0, 1, 2])
    """
    # A value at place p of a record's L values meets the L - p values from itself onwards.
    last = np.repeat(indptr[1:], np.diff(indptr))
    work = np.bincount(indices, weights=last - np.arange(len(indices)), minlength=n_targets)
    share = np.cumsum(work) / max(work.sum(), 1.0)
    inner = np.searchsorted(share, np.arange(1, n_panels) / n_panels, side="left") + 1
    return np.concatenate([[0], np.minimum(inner, n_targets), [n_targets]]).astype(np.int64)
