"""The few hot loops over sparse records, compiled.

Records are grouped by pattern: by the set of targets they add to. In a survey few records are
alone with theirs, and a group is a small dense block, whose arithmetic is contiguous.

Every sum is taken in an order that does not depend on the number of threads, so that results
repeat to the last bit: a row of the Gram matrix belongs to one thread, and products with the
transpose are added up part by part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Index = NDArray[np.integer[Any]]

# Parts of the records whose sums are added in a fixed order, however many threads there are.
N_PARTS = 16


class PatternBlocks(NamedTuple):
    """A sparse matrix as dense blocks, one per pattern of non-zero columns.

    Attributes:
        record_order: Records in the order of their blocks, shape `(n_records,)`.
        first_record: Where each block starts in `record_order`, shape `(n_blocks + 1,)`.
        first_column: Where each block starts in `columns`, shape `(n_blocks + 1,)`.
        columns: Columns of each block, ascending within a block.
        first_value: Where each block starts in `values`, shape `(n_blocks + 1,)`.
        values: Entries, block by block, record by record; single precision where that is exact.
        parts: Block bounds of `N_PARTS` parts of about equal work, shape `(N_PARTS + 1,)`.
    """

    record_order: Index
    first_record: Index
    first_column: Index
    columns: Index
    first_value: Index
    values: NDArray[np.floating[Any]]
    parts: Index


def pattern_blocks(indptr: Index, indices: Index, data: Vector) -> PatternBlocks:
    """Group the records of a CSR matrix, its indices sorted, by their pattern of columns.

    Examples:
        >>> blocks = pattern_blocks(np.array([0, 1, 2, 4]), np.array([1, 1, 0, 1]), np.ones(4))
        >>> blocks.record_order.tolist(), blocks.first_record.tolist()
        ([0, 1, 2], [0, 2, 3])
    """
    lengths = np.diff(indptr).astype(np.int64)
    # Two patterns are told apart by the sum of a random 64-bit number per column, and by length:
    # a false match among a million patterns has a chance of about 1e-8.
    rng = np.random.default_rng(20180101)
    signature = rng.integers(0, 2**64, size=int(indices.max(initial=0)) + 1, dtype=np.uint64)
    keys = _pattern_keys(indptr, indices, signature)
    _, first_seen, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first_seen[group], kind="stable")

    leader = first_seen[group][order]
    starts = np.flatnonzero(np.diff(leader, prepend=-1))  # none where there is no record
    leaders = leader[starts]
    first_record = np.r_[starts, len(order)]
    first_column = np.r_[0, np.cumsum(lengths[leaders])]
    values_before = np.r_[0, np.cumsum(lengths[order])]
    first_value = values_before[first_record]
    # Numbers that single precision holds exactly, as counts and most amounts are, are kept in it:
    # that halves what the loops read. All sums are in double precision.
    with np.errstate(over="ignore"):
        single = data.astype(np.float32)
    values = single if np.array_equal(single, data) else data
    shares = np.arange(1, N_PARTS) / N_PARTS
    inner = np.searchsorted(first_value[1:], shares * first_value[-1])
    return PatternBlocks(
        order,
        first_record,
        first_column,
        _gathered(indptr, leaders, first_column, indices),
        first_value,
        _gathered(indptr, order, values_before, values),
        np.r_[0, inner, len(leaders)],
    )


@njit(cache=True)
def _pattern_keys(
    indptr: Index, indices: Index, signature: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """A key per record that only records of the same pattern share."""
    keys = np.empty(indptr.shape[0] - 1, np.uint64)
    for record in range(keys.shape[0]):
        key = np.uint64(indptr[record + 1] - indptr[record])
        for place in range(indptr[record], indptr[record + 1]):
            key += signature[indices[place]]
        keys[record] = key
    return keys


@njit(cache=True)
def _gathered(indptr: Index, records: Index, first: Index, entries: NDArray[Any]) -> NDArray[Any]:
    """The entries of `records`, one record after the other; `first` says where each starts."""
    out = np.empty(first[-1], entries.dtype)
    for number in range(records.shape[0]):
        start = indptr[records[number]]
        for place in range(first[number + 1] - first[number]):
            out[first[number] + place] = entries[start + place]
    return out


def balanced_panels(blocks: PatternBlocks, n_targets: int, n_panels: int) -> Index:
    """Row bounds that give each panel of the Gram matrix about the same work.

    Returns:
        Ascending bounds, shape `(n_panels + 1,)`, from 0 to `n_targets`.

    Examples:
        >>> blocks = pattern_blocks(np.array([0, 2, 4]), np.array([0, 1, 0, 1]), np.ones(4))
        >>> balanced_panels(blocks, 2, 2).tolist()
        [0, 1, 2]
    """
    # The column at place p of a block of K columns meets the K - p columns from itself onwards.
    n_columns = np.diff(blocks.first_column)
    last = np.repeat(blocks.first_column[1:], n_columns)
    work = (last - np.arange(len(last))) * np.repeat(np.diff(blocks.first_record), n_columns)
    share = np.cumsum(np.bincount(blocks.columns, weights=work, minlength=n_targets))
    inner = (
        np.searchsorted(share / max(share[-1], 1.0), np.arange(1, n_panels) / n_panels, side="left")
        + 1
    )
    return np.asarray(np.r_[0, np.minimum(inner, n_targets), n_targets])


@njit(parallel=True, cache=True)
def sparse_gram(blocks: PatternBlocks, record_weight: Vector, panels: Index, out: Vector) -> None:
    """Upper triangle of `X.T @ diag(record_weight) @ X`.

    Args:
        blocks: `X` by patterns.
        record_weight: One factor per record, shape `(n_records,)`.
        panels: Row bounds; see `balanced_panels`. A panel is worked on by one thread.
        out: Shape `(n_targets, n_targets)`; its upper triangle is overwritten.
    """
    widest = 0
    for block in range(blocks.first_column.shape[0] - 1):
        widest = max(widest, blocks.first_column[block + 1] - blocks.first_column[block])
    for panel in prange(panels.shape[0] - 1):
        first, last = panels[panel], panels[panel + 1]
        local = np.empty((widest, widest))
        for row in range(first, last):
            out[row, row:] = 0.0
        for block in range(blocks.first_record.shape[0] - 1):
            columns = blocks.columns[blocks.first_column[block] : blocks.first_column[block + 1]]
            n_columns = columns.shape[0]
            low = np.searchsorted(columns, first)
            high = np.searchsorted(columns, last)
            if low == high:
                continue
            value = blocks.first_value[block]
            place, stop = blocks.first_record[block], blocks.first_record[block + 1]
            if stop - place == 1:
                factor_a = record_weight[blocks.record_order[place]]
                for row in range(low, high):
                    by_a = factor_a * blocks.values[value + row]
                    out_row = out[columns[row]]
                    for column in range(row, n_columns):
                        out_row[columns[column]] += by_a * blocks.values[value + column]
                continue
            local[low:high, low:n_columns] = 0.0
            # Four records at a time: each entry of the block is loaded and stored once for four.
            while place + 4 <= stop:
                a = blocks.values[value : value + n_columns]
                b = blocks.values[value + n_columns : value + 2 * n_columns]
                c = blocks.values[value + 2 * n_columns : value + 3 * n_columns]
                d = blocks.values[value + 3 * n_columns : value + 4 * n_columns]
                factor_a = record_weight[blocks.record_order[place]]
                factor_b = record_weight[blocks.record_order[place + 1]]
                factor_c = record_weight[blocks.record_order[place + 2]]
                factor_d = record_weight[blocks.record_order[place + 3]]
                for row in range(low, high):
                    by_a, by_b = factor_a * a[row], factor_b * b[row]
                    by_c, by_d = factor_c * c[row], factor_d * d[row]
                    local_row = local[row]
                    for column in range(row, n_columns):
                        local_row[column] += (by_a * a[column] + by_b * b[column]) + (
                            by_c * c[column] + by_d * d[column]
                        )
                place += 4
                value += 4 * n_columns
            while place < stop:
                a = blocks.values[value : value + n_columns]
                factor_a = record_weight[blocks.record_order[place]]
                for row in range(low, high):
                    by_a = factor_a * a[row]
                    local_row = local[row]
                    for column in range(row, n_columns):
                        local_row[column] += by_a * a[column]
                place += 1
                value += n_columns
            for row in range(low, high):
                out_row = out[columns[row]]
                for column in range(row, n_columns):
                    out_row[columns[column]] += local[row, column]


@njit(parallel=True, cache=True)
def sparse_product(blocks: PatternBlocks, vector: Vector) -> Vector:
    """`X @ vector`, shape `(n_records,)`."""
    out = np.empty(blocks.record_order.shape[0])
    for part in prange(N_PARTS):
        local = np.empty(vector.shape[0])
        for block in range(blocks.parts[part], blocks.parts[part + 1]):
            first_column = blocks.first_column[block]
            n_columns = blocks.first_column[block + 1] - first_column
            for column in range(n_columns):
                local[column] = vector[blocks.columns[first_column + column]]
            value = blocks.first_value[block]
            for place in range(blocks.first_record[block], blocks.first_record[block + 1]):
                total = 0.0
                for column in range(n_columns):
                    total += blocks.values[value + column] * local[column]
                out[blocks.record_order[place]] = total
                value += n_columns
    return out


@njit(parallel=True, cache=True)
def sparse_transposed_product(blocks: PatternBlocks, vector: Vector, n_targets: int) -> Vector:
    """`X.T @ vector`, shape `(n_targets,)`, added up in a fixed order."""
    partial = np.zeros((N_PARTS, n_targets))
    for part in prange(N_PARTS):
        sums = partial[part]
        local = np.empty(n_targets)
        for block in range(blocks.parts[part], blocks.parts[part + 1]):
            first_column = blocks.first_column[block]
            n_columns = blocks.first_column[block + 1] - first_column
            local[:n_columns] = 0.0
            value = blocks.first_value[block]
            for place in range(blocks.first_record[block], blocks.first_record[block + 1]):
                factor = vector[blocks.record_order[place]]
                for column in range(n_columns):
                    local[column] += factor * blocks.values[value + column]
                value += n_columns
            for column in range(n_columns):
                sums[blocks.columns[first_column + column]] += local[column]
    total = np.zeros(n_targets)
    for part in range(N_PARTS):
        total += partial[part]
    return total
