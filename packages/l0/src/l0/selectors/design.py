"""Columns of unit length around their means, dense or sparse, and never filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l0.selection import Indices
from l0.selectors.scikit import csc_array, issparse

Vector: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """Columns of unit length around their means, dense or sparse, and the target likewise.

    A sparse design is not centred in place, which would fill it: `columns` are as they were given
    and `means` is taken off in every product. With sample weights, rows carry their square root.

    Attributes:
        columns: Shape `(n_rows, n_columns)`.
        target: Shape `(n_rows,)`.
        direction: The intercept's column, of unit length; zero without an intercept.
        means: Products of the columns with `direction`, where they are not taken off already.
        scale: Length of each column before it was scaled; 1 for constant ones.
        squares: Squared length of each column: 1, or 0 for constant ones.
        ridge: Price of a squared coefficient of each column, in its scaled unit.
    """

    columns: Any
    target: Vector
    direction: Vector
    means: Vector
    scale: Vector
    squares: Vector
    ridge: Vector

    @classmethod
    def of(
        cls, x: Any, y: Vector, sample_weight: Vector | None, *, intercept: bool, ridge: float
    ) -> Self:
        """Scaled and centred columns of `x`; neither `x` nor `y` is changed."""
        root = np.ones(y.size) if sample_weight is None else np.sqrt(sample_weight)
        direction = root / np.linalg.norm(root) if intercept else np.zeros(y.size)
        target = y * root - direction * (direction @ (y * root))
        columns: Any
        if issparse(x):
            columns = csc_array(x.astype(np.float64), copy=True)
            columns.data *= root[columns.indices]
            means = columns.T @ direction
            squares = (columns.multiply(columns)).sum(0)
            lengths = np.sqrt(np.maximum(squares - means**2, 0.0))
        else:
            columns = np.asarray(x, dtype=np.float64) * root[:, None]
            means = columns.T @ direction
            squares = np.einsum("ij,ij->j", columns, columns)
            columns -= np.outer(direction, means)
            lengths, means = np.linalg.norm(columns, axis=0), np.zeros_like(means)
        # What is left of a constant column is rounding, and must not be blown up to unit length.
        constant = lengths <= 1e-7 * np.sqrt(squares)
        scale = np.where(constant, 1.0, lengths)
        if issparse(x):
            columns.data /= np.repeat(scale, np.diff(columns.indptr))
        else:
            columns /= scale
        squares = 1.0 - constant
        return cls(columns, target, direction, means / scale, scale, squares, ridge / scale**2)

    def correlations(self, residual: Vector) -> Vector:
        """Product of each column with a centred vector of the rows."""
        return np.asarray(self.columns.T @ residual)

    def fitted(self, chosen: Indices, coefficients: Vector) -> Vector:
        """What the chosen columns predict."""
        raw = self.columns[:, chosen] @ coefficients
        return np.asarray(raw - self.direction * (self.means[chosen] @ coefficients))

    def gram(self, chosen: Indices, others: Indices | None = None) -> Vector:
        """Products of the chosen columns with the others, or with all of them."""
        right = slice(None) if others is None else others
        products = self.columns[:, chosen].T @ self.columns[:, right]
        dense = products.toarray() if issparse(products) else products
        return np.asarray(dense - np.outer(self.means[chosen], self.means[right]))
