"""An order of records in which neighbours are alike.

A systematic draw along such an order spreads over everything that the targets see: two records
that could stand for each other are seldom both drawn, or both left out. The order is that of the
leaves of a principal-axis tree: records are split at the median of their first principal axis,
again and again (Sproull 1991, "Refinements to nearest-neighbor searching in k-d trees", uses such
trees to find neighbours).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from microcalibrate.arrays import is_sparse

Vector = NDArray[np.float64]

POWER_STEPS = 3
SMALLEST_LEAF = 8


def neighbour_order(rows: Any, depth: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the rows in an order in which neighbours are alike.

    Args:
        rows: One row per record, shape `(n_records, n_features)`, array or CSR. Rows are compared
            by direction, whatever their length.
        depth: How many times to split.
        rng: Where the power method starts.

    Returns:
        A permutation, shape `(n_records,)`.

    Examples:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]] * 4)
        >>> order = neighbour_order(rows, 1, np.random.default_rng(0))
        >>> sorted(int(i) % 2 for i in order[:8]) in ([0] * 8, [1] * 8)
        True
    """
    squares = rows.multiply(rows) if is_sparse(rows) else rows * rows
    lengths = np.sqrt(np.asarray(squares.sum(axis=1)).ravel())
    inverse = 1 / np.where(lengths > 0, lengths, 1.0)
    rows = sp.diags_array(inverse) @ rows if is_sparse(rows) else rows * inverse[:, None]
    leaves = [np.arange(rows.shape[0])]
    for _ in range(depth):
        halves: list[NDArray[np.int64]] = []
        for leaf in leaves:
            if len(leaf) < SMALLEST_LEAF:
                halves.append(leaf)
                continue
            along = _along_first_axis(rows[leaf], rng)
            ordered = leaf[np.argsort(along, kind="stable")]
            halves += np.split(ordered, [len(leaf) // 2])
        leaves = halves
    return np.concatenate(leaves)


def _along_first_axis(rows: Any, rng: np.random.Generator) -> Vector:
    """Where each row lies along the first principal axis, by a few steps of the power method."""
    centre = np.asarray(rows.mean(axis=0)).ravel()
    axis = rng.normal(size=rows.shape[1])
    for _ in range(POWER_STEPS):
        along = rows @ axis - centre @ axis
        axis = rows.T @ along - centre * along.sum()
        axis /= max(float(np.linalg.norm(axis)), 1e-300)
    return np.asarray(rows @ axis)
