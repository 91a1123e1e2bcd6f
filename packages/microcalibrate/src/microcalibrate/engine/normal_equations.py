"""Scaled columns of a problem, and the one matrix of a Newton step: assemble, factor, solve.

With `a_ij = x_ij * row_scale_i * column_scale_j`, a step of the engine solves

    (A.T @ diag(record_weight) @ A + diag(diagonal)) @ step = right_hand_side

Dense columns are multiplied by BLAS, sparse ones by the loops in `kernels`. No scaled copy of the
estimate matrix is made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray

from microcalibrate.arrays import is_sparse

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

ROWS_A_BLOCK = 8_192
# Note [Ridge]: columns may be collinear, and weights of records span many orders of magnitude, so
# the matrix can be singular in floating point. A ridge of this size, relative to its diagonal,
# makes it positive definite; the error it leaves is removed by the next step, which computes its
# right-hand side afresh.
FIRST_RIDGE = 1e-14
LAST_RIDGE = 1e-4

# Note [Two pools of threads]: BLAS threads go on spinning for a while when their work is done, and
# take the cores from the loops over records that come next: after a Cholesky factor of 2,000 rows
# on two cores that cost more than its second thread had gained. So BLAS works on one thread there,
# and on all of them only where the factor takes far longer than the spinning.
BLAS_THREADS_FROM = 3_000

Solve = Callable[[Vector], Vector]


class GramColumns(Protocol):
    """What a Newton step must know of columns."""

    column_scale: Vector

    def unscaled_gram(self, record_weight: Vector) -> Matrix:
        """`A.T @ diag(record_weight) @ A` before column scaling.

        Only the upper triangle counts. The array belongs to the caller until the next call.
        """

    def blas_threads(self) -> AbstractContextManager[Any]:
        """Within it BLAS has as many threads as it should; see Note [Two pools of threads]."""


class Columns(GramColumns, Protocol):
    """A scaled estimate matrix `A`, shape `(n_records, n_targets)`, known by three products."""

    column_scale: Vector

    def __init__(self, matrix: Any, row_scale: Vector, column_scale: Vector) -> None: ...

    def product(self, prices: Vector) -> Vector:
        """`A @ prices`, shape `(n_records,)`."""

    def transposed_product(self, ratio: Vector) -> Vector:
        """`A.T @ ratio`, shape `(n_targets,)`."""


def columns_of(matrix: Any, row_scale: Vector, column_scale: Vector) -> Columns:
    """The scaled columns of an array or a CSR array, in the form that is fastest for it."""
    kind: type[Columns] = SparseColumns if is_sparse(matrix) else DenseColumns
    return kind(matrix, row_scale, column_scale)


class DenseColumns:
    """Columns held as an array `(n_records, n_targets)`."""

    def __init__(self, matrix: Matrix, row_scale: Vector, column_scale: Vector) -> None:
        self.matrix = matrix
        self.row_scale = row_scale
        self.column_scale = column_scale

    def product(self, prices: Vector) -> Vector:
        """See `Columns.product`."""
        return np.asarray(self.row_scale * (self.matrix @ (self.column_scale * prices)))

    def transposed_product(self, ratio: Vector) -> Vector:
        """See `Columns.transposed_product`."""
        return np.asarray(self.column_scale * (self.matrix.T @ (self.row_scale * ratio)))

    def unscaled_gram(self, record_weight: Vector) -> Matrix:
        """See `Columns.unscaled_gram`."""
        root = self.row_scale * np.sqrt(record_weight)
        total = np.zeros((self.matrix.shape[1],) * 2)
        for start in range(0, len(root), ROWS_A_BLOCK):
            rows = slice(start, start + ROWS_A_BLOCK)
            block = self.matrix[rows] * root[rows, None]
            total += block.T @ block
        return total

    def blas_threads(self) -> AbstractContextManager[Any]:
        """See `Columns.blas_threads`: all of them, there is no other pool."""
        return nullcontext()


class SparseColumns:
    """Columns held as a CSR array with sorted indices, regrouped by pattern."""

    def __init__(self, matrix: Any, row_scale: Vector, column_scale: Vector) -> None:
        # Imported here: loading numba costs half a second that dense problems need not.
        import numba
        import threadpoolctl

        from microcalibrate.engine import kernels

        self._kernels = kernels
        self._blocks = kernels.pattern_blocks(matrix.indptr, matrix.indices, matrix.data)
        self._n_targets = matrix.shape[1]
        # One workspace for every assembly: fresh pages for a large matrix cost as much time as
        # filling it.
        self._gram = np.empty((self._n_targets, self._n_targets))
        self._panels = kernels.balanced_panels(
            self._blocks, self._n_targets, numba.get_num_threads()
        )
        self._pools = threadpoolctl.ThreadpoolController()
        self.row_scale = row_scale
        self.column_scale = column_scale

    def product(self, prices: Vector) -> Vector:
        """See `Columns.product`."""
        out = self._kernels.sparse_product(self._blocks, self.column_scale * prices)
        return np.asarray(self.row_scale * out)

    def transposed_product(self, ratio: Vector) -> Vector:
        """See `Columns.transposed_product`."""
        out = self._kernels.sparse_transposed_product(
            self._blocks, self.row_scale * ratio, self._n_targets
        )
        return np.asarray(self.column_scale * out)

    def unscaled_gram(self, record_weight: Vector) -> Matrix:
        """See `Columns.unscaled_gram`."""
        factor = self.row_scale**2 * record_weight
        self._kernels.sparse_gram(self._blocks, factor, self._panels, self._gram)
        return self._gram

    def blas_threads(self) -> AbstractContextManager[Any]:
        """See `Columns.blas_threads`."""
        if self._n_targets >= BLAS_THREADS_FROM:
            return nullcontext()
        limited: AbstractContextManager[Any] = self._pools.limit(limits=1, user_api="blas")
        return limited


def symmetric_gram(columns: Columns, record_weight: Vector) -> Matrix:
    """`X.T @ diag(row_scale**2 * record_weight) @ X`, both triangles, before column scaling.

    Args:
        columns: Scaled columns.
        record_weight: One non-negative factor per record, shape `(n_records,)`.

    Returns:
        A matrix of its own, shape `(n_targets, n_targets)`.
    """
    upper = np.triu(columns.unscaled_gram(record_weight))
    return np.asarray(upper + np.triu(upper, 1).T)


class Given:
    """Columns of which nothing is known but their Gram matrix, upper triangle."""

    def __init__(self, gram: Matrix, column_scale: Vector) -> None:
        self._gram = gram
        self.column_scale = column_scale

    def unscaled_gram(self, record_weight: Vector) -> Matrix:  # noqa: ARG002  (they are in it)
        """See `Columns.unscaled_gram`."""
        return self._gram.copy()

    def blas_threads(self) -> AbstractContextManager[Any]:
        """See `Columns.blas_threads`."""
        return nullcontext()


def factor(columns: GramColumns, record_weight: Vector, diagonal: Vector) -> Solve:
    """Assemble and factor the normal equations by Cholesky; return what solves them.

    Args:
        columns: Scaled columns `A`.
        record_weight: One non-negative factor per record, shape `(n_records,)`.
        diagonal: Non-negative, added to the diagonal, shape `(n_targets,)`.

    Returns:
        A function from a right-hand side `(n_targets,)` to the solution.

    Raises:
        numpy.linalg.LinAlgError: If the matrix is not finite, or not positive semidefinite.

    Examples:
        >>> columns = columns_of(np.array([[1.0], [2.0]]), np.ones(2), np.ones(1))
        >>> factor(columns, np.ones(2), np.array([1.0]))(np.array([12.0]))
        array([2.])
    """
    # With A = X S, (S G S + D) y = r is (G + D / S^2) (S y) = r / S: nothing large is scaled.
    # Cholesky's rounding does not depend on such scales (van der Sluis 1969).
    scale = columns.column_scale
    gram = columns.unscaled_gram(record_weight)
    full_diagonal = np.diagonal(gram) + diagonal / scale**2
    if not np.isfinite(full_diagonal).all():
        raise np.linalg.LinAlgError("normal equations are not finite")
    full_diagonal = np.where(full_diagonal > 0, full_diagonal, 1.0)
    ridge = FIRST_RIDGE
    while True:
        np.fill_diagonal(gram, (1 + ridge) * full_diagonal)
        try:
            # The transposed view is in LAPACK's order: its lower triangle is our upper one.
            with columns.blas_threads():
                triangle, _ = la.cho_factor(
                    gram.T, lower=True, overwrite_a=True, check_finite=False
                )
        except np.linalg.LinAlgError:
            ridge *= 100
            if ridge > LAST_RIDGE:
                raise
            gram = columns.unscaled_gram(record_weight)
            continue
        return lambda right: (
            la.cho_solve((triangle, True), right / scale, check_finite=False) / scale
        )
