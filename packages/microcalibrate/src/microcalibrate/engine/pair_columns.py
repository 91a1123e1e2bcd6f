"""Normal equations that are wanted hundreds of times, with other weights of the records.

What two columns of a record multiply to does not change from one time to the next. So these
products are kept, as the rows of a sparse matrix, one row per pair of columns; and many normal
equations at once are its product with the weights of the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.arrays import is_sparse

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

# Products are kept up to this number of them, some 240 MB.
MOST_PRODUCTS = 20_000_000
ROWS_A_BLOCK = 8_192


@dataclass(frozen=True, eq=False)
class Pairs:
    """Products of the columns of each record, by pair of columns.

    Attributes:
        products: CSR array, shape `(n_pairs, n_records)`.
        first: Column of each pair, shape `(n_pairs,)`.
        second: The other one, not smaller.
        n_columns: How many columns there are.
    """

    products: Any
    first: Index
    second: Index
    n_columns: int

    def grams(self, record_weights: Matrix) -> Matrix:
        """`X.T @ diag(w) @ X`, upper triangle, for each column `w` of `(n_records, n_grams)`.

        Returns:
            Shape `(n_grams, n_columns, n_columns)`.
        """
        out = np.zeros((record_weights.shape[1], self.n_columns, self.n_columns))
        out[:, self.first, self.second] = (self.products @ record_weights).T
        return out


@dataclass(frozen=True, eq=False)
class WholeColumns:
    """Columns whose products are not kept: dense ones belong to BLAS, others would be too many.

    Attributes:
        matrix: Array or CSR array, shape `(n_records, n_columns)`.
    """

    matrix: Any

    def grams(self, record_weights: Matrix) -> Matrix:
        """See `Pairs.grams`."""
        n_columns = self.matrix.shape[1]
        out = np.zeros((record_weights.shape[1], n_columns, n_columns))
        for gram, weight in zip(out, record_weights.T, strict=True):
            root = np.sqrt(weight)
            if is_sparse(self.matrix):
                scaled = self.matrix.copy()
                scaled.data *= np.repeat(root, np.diff(scaled.indptr))
                gram[:] = (scaled.T @ scaled).toarray()
                continue
            for start in range(0, len(root), ROWS_A_BLOCK):
                rows = slice(start, start + ROWS_A_BLOCK)
                block = self.matrix[rows] * root[rows, None]
                gram += block.T @ block
        return out


def pairs_of(matrix: Any) -> Pairs | WholeColumns:
    """What normal equations of a matrix are made of, in the form that is fastest for it.

    Examples:
        >>> two = sp.csr_array([[1.0, 2.0], [0.0, 3.0]])
        >>> pairs_of(two).grams(np.array([[1.0], [10.0]]))
        array([[[ 1.,  2.],
                [ 0., 94.]]])
    """
    if not is_sparse(matrix):
        return WholeColumns(matrix)
    lengths = np.diff(matrix.indptr).astype(np.int64)
    if int((lengths * (lengths + 1) // 2).sum()) > MOST_PRODUCTS:
        return WholeColumns(matrix)
    n_records, n_columns = matrix.shape
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
    where = (place.astype(np.int32), np.concatenate(records).astype(np.int32))
    kept = sp.csr_array((np.concatenate(products), where), shape=(len(pairs), n_records))
    return Pairs(
        kept, (pairs // n_columns).astype(np.intp), (pairs % n_columns).astype(np.intp), n_columns
    )
