"""Columns whose normal equations are wanted hundreds of times, with other weights of the records.

What two columns of a record multiply to does not change from one time to the next. So these
products are kept, as the rows of a sparse matrix, one row per pair of columns; and the normal
equations are its product with the weights of the records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.engine.normal_equations import SparseColumns

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class PairColumns(SparseColumns):
    """Sparse columns with the products of their pairs, shape `(n_pairs, n_records)`."""

    def __init__(self, matrix: Any, row_scale: Vector, column_scale: Vector) -> None:
        super().__init__(matrix, row_scale, column_scale)
        self._pairs, self._first, self._second = _products_of_pairs(matrix)

    def unscaled_gram(self, record_weight: Vector) -> Matrix:
        """See `Columns.unscaled_gram`."""
        sums = self._pairs @ (self.row_scale**2 * record_weight)
        self._gram[:] = 0.0
        self._gram[self._first, self._second] = sums
        return self._gram


def n_products(matrix: Any) -> int:
    """How many products `PairColumns` would keep of a CSR matrix."""
    lengths = np.diff(matrix.indptr).astype(np.int64)
    return int((lengths * (lengths + 1) // 2).sum())


def _products_of_pairs(
    matrix: Any,
) -> tuple[Any, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Products of the entries of each row, by pair of columns, and the columns of the pairs."""
    n_records, n_columns = matrix.shape
    lengths = np.diff(matrix.indptr)
    keys, records, products = [], [], []
    for length in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == length)
        entries = matrix.indptr[rows][:, None] + np.arange(length)
        first, second = np.triu_indices(int(length))
        columns = matrix.indices[entries].astype(np.int64)
        values = matrix.data[entries]
        keys.append((columns[:, first] * n_columns + columns[:, second]).ravel())
        products.append((values[:, first] * values[:, second]).ravel())
        records.append(np.repeat(rows, len(first)))
    pairs, place = np.unique(np.concatenate(keys), return_inverse=True)
    kept = sp.csr_array(
        (np.concatenate(products), (place, np.concatenate(records))),
        shape=(len(pairs), n_records),
    )
    return kept, (pairs // n_columns).astype(np.intp), (pairs % n_columns).astype(np.intp)
