"""One ratio for all records of a cluster: persons of a household keep equal weights.

What the members of a cluster add to the targets, each with its design weight, is what a single
record with the sum of their weights would add. So the clusters are calibrated as records, and each
member gets its cluster's ratio. In the distance a cluster counts by its members (Lemaître and
Dufour 1987), as in R's `survey`; with their number as heteroscedasticity factor, it counts once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from microcalibrate.arrays import Vector, is_sparse
from microcalibrate.errors import InvalidOption, InvalidProblem
from microcalibrate.problem import Problem

Index = NDArray[np.int64]


def cluster_index(labels: Any, n_records: int, option: str = "cluster") -> tuple[Index, list[Any]]:
    """The position of each record's cluster, and the clusters' labels in order of appearance.

    Args:
        labels: One label per record.
        n_records: How many records there are.
        option: What the user calls it.

    Raises:
        InvalidProblem: If there is not one label per record, or one is missing.

    Examples:
        >>> cluster_index(["b", "a", "b"], 3)
        (array([0, 1, 0]), ['b', 'a'])
    """
    import pandas as pd

    given = pd.Series(list(labels) if not hasattr(labels, "__array__") else np.asarray(labels))
    if len(given) != n_records:
        raise InvalidProblem(f"{option} has {len(given)} labels for {n_records} records.")
    if given.isna().any():
        first = int(np.flatnonzero(given.isna())[0])
        raise InvalidProblem(f"{option} has no label for record {first}. Give each record one.")
    index, names = pd.factorize(given)
    return index.astype(np.int64), list(names)


def clustered(problem: Problem, index: Index) -> Problem:
    """The same problem with a record for each cluster.

    Args:
        problem: A checked problem.
        index: Position of each record's cluster, shape `(n_records,)`.

    Returns:
        The problem of the clusters: design weights are sums over members, rows their weighted
        means, and bounds the narrowest of any member.

    Raises:
        InvalidOption: If the bounds of the members of a cluster have no ratio in common.

    Examples:
        >>> problem = Problem.build([1.0, 1.0, 2.0], [9.0], [[1.0], [3.0], [2.0]])
        >>> households = clustered(problem, np.array([0, 0, 1]))
        >>> households.design_weights, households.estimate_matrix.ravel()
        (array([2., 2.]), array([2., 2.]))
    """
    d, n_clusters = problem.design_weights, int(index.max()) + 1
    total = np.asarray(np.bincount(index, d, n_clusters), dtype=np.float64)
    spread = np.bincount(index, d / problem.heteroscedasticity, n_clusters)
    counts = d > 0
    # What bounds a member's weight bounds that of its cluster, by its share in it.
    times = np.divide(total[index], d, out=np.ones_like(d), where=counts)

    def narrowest(bounds: Vector, narrower: np.ufunc, none: float) -> Vector:
        found = np.full(n_clusters, none)
        narrower.at(found, index[counts], bounds[counts])
        return found

    held = problem.frozen
    solved = replace(
        problem,
        design_weights=total,
        estimate_matrix=mean_rows(problem.estimate_matrix, d, index),
        min_ratio=narrowest(np.where(held, 1.0, problem.min_ratio), np.maximum, -np.inf),
        max_ratio=narrowest(np.where(held, 1.0, problem.max_ratio), np.minimum, np.inf),
        min_weight=narrowest(
            np.where(held, -np.inf, problem.min_weight * times), np.maximum, -np.inf
        ),
        max_weight=narrowest(
            np.where(held, np.inf, problem.max_weight * times), np.minimum, np.inf
        ),
        frozen=np.zeros(n_clusters, dtype=np.bool_),
        heteroscedasticity=np.where(total > 0, total / np.where(spread > 0, spread, 1.0), 1.0),
    )
    lower, upper = solved.lower_ratio, solved.upper_ratio
    if np.any(lower > upper):
        first = int(np.flatnonzero(lower > upper)[0])
        who = np.flatnonzero((index == first) & counts)[:2]
        raise InvalidOption(
            f"records {' and '.join(map(str, who))} are of one cluster, and their bounds have no "
            f"ratio in common: at least {lower[first]:g}, at most {upper[first]:g}."
        )
    return solved


def mean_rows(rows: Any, design_weights: Vector, index: Index) -> Any:
    """Row of each cluster: the mean of its members' rows, by their design weights.

    Args:
        rows: One per record, array or SciPy sparse matrix.
        design_weights: Shape `(n_records,)`.
        index: Position of each record's cluster, shape `(n_records,)`.

    Examples:
        >>> mean_rows(np.array([[1.0], [3.0]]), np.array([1.0, 3.0]), np.array([0, 0]))
        array([[2.5]])
    """
    d, n_clusters = design_weights, int(index.max()) + 1
    total = np.bincount(index, d, n_clusters)
    share = np.divide(d, total[index], out=np.zeros_like(d), where=total[index] > 0)
    members = sp.csr_array((share, (index, np.arange(len(d)))), shape=(n_clusters, len(d)))
    means = members @ rows
    return _canonical(means) if is_sparse(means) else np.asarray(means)


def _canonical(rows: Any) -> sp.csr_array:
    matrix = sp.csr_array(rows)
    matrix.sum_duplicates()
    return matrix
