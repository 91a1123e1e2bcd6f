"""Which records stay: gates in closed form, an exact count, and what each survivor starts from.

Each record carries a gate that is open with probability `pi`; a record that is kept has weight
`w / pi`. In the limit of hard gates the expected mean squared relative error over independent
gates is (Louizos, Welling and Kingma 2018 give the gates; the sum is that of Poisson sampling)

    E mse = mse(w) + sum_i w_i^2 c_i (1 / pi_i - 1),    c_i = sum_j importance_j (x_ij / scale_j)^2

With a price for records, `l0_lambda` per unit of the retained share, and one for concentrated
weights, `kappa` in units of the median `c`, the best probabilities are

    pi_i = min(1, w_i sqrt((c_i + kappa) n / l0_lambda))

which is Neyman's optimal allocation (1934). A count fixes `l0_lambda`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from l0.selection import inclusion_probabilities, simple_random, systematic, top_k
from microcalibrate.arrays import is_sparse
from microcalibrate.problem import Problem
from microcalibrate.selection.ordering import neighbour_order

Vector = NDArray[np.float64]

DEEPEST_TREE = 12


@dataclass(frozen=True, eq=False)
class Draw:
    """The records that stay.

    Attributes:
        record_index: Their positions, ascending, shape `(n_kept,)`.
        start_weights: What each starts its refit from, shape `(n_kept,)`.
        probabilities: Chance of each record of the problem to stay, shape `(n_records,)`.
    """

    record_index: NDArray[np.int64]
    start_weights: Vector
    probabilities: Vector


@dataclass(frozen=True)
class Budget:
    """How many records stay: an exact count, or a price that settles it.

    Attributes:
        records: Exact count, or None.
        l0_lambda: Price of the retained share, where no count is given.
        kappa: Price of concentrated weights, in units of the median of `c`.
    """

    records: int | None
    l0_lambda: float
    kappa: float


def record_contributions(problem: Problem) -> Vector:
    """`c`, shape `(n_records,)`: what a unit of squared weight adds to the mean squared error."""
    soft = problem.is_soft
    # Exact and banded targets carry no importance of their own: they count as an average one.
    importance = np.where(soft, problem.importances * soft.mean(), 1 / problem.n_targets)
    factor = importance / problem.scales**2
    matrix = problem.estimate_matrix
    if is_sparse(matrix):
        squares = matrix.copy()
        squares.data **= 2
        return np.asarray(squares @ factor)
    return np.asarray(np.einsum("ij,ij,j->i", matrix, matrix, factor))


def gate_sizes(problem: Problem, weights: Vector, kappa: float) -> Vector:
    """`w sqrt(c + kappa)`, shape `(n_records,)`: what the probabilities are proportional to."""
    contribution = record_contributions(problem)
    positive = contribution[contribution > 0]
    unit = float(np.median(positive)) if positive.size else 1.0
    return weights * np.sqrt(contribution + kappa * unit)


def count_for(problem: Problem, sizes: Vector, budget: Budget) -> int:
    """How many records the budget keeps, at most all of positive size and at least one."""
    available = int((sizes > 0).sum())
    if budget.records is not None:
        return min(budget.records, available)
    expected = np.minimum(1.0, sizes * np.sqrt(problem.n_records / budget.l0_lambda)).sum()
    return int(np.clip(round(float(expected)), 1, available))


def closed_form(problem: Problem, weights: Vector, budget: Budget, seed: int) -> Draw:
    """Optimal probabilities, drawn systematically along an order in which neighbours are alike."""
    sizes = gate_sizes(problem, weights, budget.kappa)
    count = count_for(problem, sizes, budget)
    probabilities = inclusion_probabilities(sizes, count)
    rng = np.random.default_rng(seed)
    alive = np.flatnonzero(probabilities > 0)
    depth = min(DEEPEST_TREE, max(1, int(np.ceil(np.log2(count)))))
    order = neighbour_order(_scaled_rows(problem, alive), depth, rng)
    kept = alive[systematic(probabilities[alive], rng, order=order)]
    return Draw(kept, weights[kept] / probabilities[kept], probabilities)


def largest(problem: Problem, weights: Vector, budget: Budget, seed: int) -> Draw:
    """The records with the largest optimal probabilities, scaled up to the total weight.

    A biased draw, offered for comparison: small records have no chance to stand for their like.
    """
    sizes = gate_sizes(problem, weights, budget.kappa)
    count = count_for(problem, sizes, budget)
    kept = top_k(sizes, count, seed)
    return _scaled_up(kept, weights, inclusion_probabilities(sizes, count))


def random(problem: Problem, weights: Vector, budget: Budget, seed: int) -> Draw:
    """A simple random sample of the records that have weight: the baseline to beat."""
    alive = np.flatnonzero(weights > 0)
    count = count_for(problem, gate_sizes(problem, weights, budget.kappa), budget)
    kept = alive[simple_random(len(alive), count, seed)]
    probabilities = np.where(weights > 0, count / len(alive), 0.0)
    return Draw(kept, weights[kept] / probabilities[kept], probabilities)


Selection = Callable[[Problem, Vector, Budget, int], Draw]

SELECTIONS: dict[str, Selection] = {
    "closed_form": closed_form,
    "top_k": largest,
    "random": random,
}
SAMPLED_GATES = "sampled_gates"


def _scaled_up(kept: NDArray[np.int64], weights: Vector, probabilities: Vector) -> Draw:
    start = weights[kept] * (weights.sum() / weights[kept].sum())
    return Draw(kept, start, probabilities)


def _scaled_rows(problem: Problem, record_index: NDArray[np.int64]) -> Any:
    """Rows of the estimate matrix in scales of the targets."""
    rows = problem.estimate_matrix[record_index]
    if is_sparse(rows):
        return sp.csr_array(rows @ sp.diags_array(1 / problem.scales))
    return rows / problem.scales
