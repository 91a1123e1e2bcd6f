"""Gates that close until few are left: what each column is worth at each budget on the way.

The columns of a linear model carry Bernoulli gates, the limit of Hard Concrete gates at temperature
zero. Their expected loss (`l0.penalties.expected_quadratic_loss`) is minimised in turn over the
weights and over the chances, both without noise, while the expected number of open gates shrinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l0.penalties import expected_quadratic_loss
from l0.selection import Indices, inclusion_probabilities
from l0.selection.quotas import Bundles
from l0.selectors.design import Design, Vector
from l0.selectors.scikit import issparse

SHRINK = 0.7  # of the budget in each step
IN_SIGHT = 10  # columns that are kept in sight, for each open gate of the budget
FLOOR = 1e-3  # of an even share of the budget: no gate in sight is shut for good
CG_STEPS = 15
CG_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _Bernoulli:
    """Gates that are open with chance `prob`, else shut."""

    prob: Tensor

    def mean(self) -> Tensor:
        return self.prob

    def variance(self) -> Tensor:
        return self.prob * (1 - self.prob)


def closing_gates(
    bundles: Bundles, n_rows: int, fitted: Callable[[Indices, Vector], Vector]
) -> list[tuple[int, Vector]]:
    """Shrinking budgets, and the worth of each bundle when the gates have shrunk to that budget.

    In turn, a linear model is fitted to gated columns, and the gates are set to the best chances
    for its weights: with u the weights of open gates and columns of unit length, the part of an
    expected squared error that depends on the chances is `sum_j u_j**2 (1 / prob_j - 1)`, and for a
    given sum of chances it is least where they are proportional to `|u_j|`, none above 1 (the
    optimum allocation of Neyman 1934). A budget that shrinks is a price of open gates that rises,
    by just as much as it takes. The path depends on no count that is asked for.

    Args:
        bundles: What opens and closes as one. Those to keep are open throughout.
        n_rows: Number of rows; the budget starts at half of it, or of the bundles.
        fitted: From the columns in sight and the chances of their gates to the weights u.

    Returns:
        Pairs of a budget, falling to 1, and the sum of squares of u in each bundle, shape
        `(n_bundles,)`: about what the bundle explains of the target.
    """
    n_bundles = bundles.size.size
    budget = max(min(n_rows, n_bundles) / 2, 1.0)
    sight = np.arange(bundles.of_item.size)
    chance = np.full(n_bundles, min(budget / max(n_bundles, 1), 0.99))
    path = []
    while True:
        chance[bundles.keep] = 1.0
        home = bundles.of_item[sight]
        worth = np.zeros(n_bundles)
        np.add.at(worth, home, fitted(sight, chance[home]) ** 2)
        path.append((round(budget), worth))
        if budget == 1:
            return path

        budget = max(budget * SHRINK, 1.0)
        ranked = np.where(bundles.keep, np.inf, worth)
        seen = np.argsort(-ranked, kind="stable")[: int(IN_SIGHT * budget) + 1]
        size = np.sqrt(worth[seen])
        share = min(round(budget), int(np.count_nonzero(size)))
        chance = np.zeros(n_bundles)
        even = FLOOR * min(budget / seen.size, 1.0)
        chance[seen] = np.maximum(inclusion_probabilities(size, share), even)
        sight = sight[chance[bundles.of_item[sight]] > 0]


def worth_at(path: list[tuple[int, Vector]], n_open: float) -> Vector:
    """The worth of each bundle at the last budget that is not below `n_open`, or at the first."""
    return [path[0][1], *(worth for budget, worth in path if budget >= n_open)][-1]


def gate_path(design: Design, bundles: Bundles, *, nonnegative: bool) -> list[tuple[int, Vector]]:
    """The path of `closing_gates` for least squares, by the closed-form expected loss.

    For given chances it is quadratic in the weights, and conjugate gradients minimise it, from the
    weights of the step before.

    Args:
        design: Columns and target.
        bundles: What opens and closes as one.
        nonnegative: Whether a column of negative weight is worth nothing.

    Returns:
        Pairs of a budget and the worth of each bundle.
    """
    goal = design.correlations(design.target)
    last = np.zeros(design.squares.size)

    def fitted(sight: Indices, chance: Vector) -> Vector:
        last[sight] = _open_weights(design, goal[sight], sight, last[sight], chance)
        return np.maximum(last[sight], 0) if nonnegative else last[sight]

    return closing_gates(bundles, design.target.size, fitted)


def _open_weights(
    design: Design, goal: Vector, sight: Indices, start: Vector, chance: Vector
) -> Vector:
    """Weights of open gates, `w * chance`, that minimise the expected loss for given chances."""
    columns, means = _as_tensor(design.columns[:, sight]), design.means[sight]
    row = torch.from_numpy(means[None, :])
    gates = _Bernoulli(torch.from_numpy(chance))
    ridge = torch.from_numpy(design.ridge[sight] * chance)
    nothing = torch.zeros(design.target.size, dtype=torch.float64)

    def half_gradient(weights: Vector) -> Vector:
        """The expected loss has half its gradient here, less a constant: the Hessian's product."""
        w = torch.from_numpy(weights).requires_grad_()
        loss = expected_quadratic_loss(columns, nothing, w, gates) + (ridge * w**2).sum()
        if means.any():  # Centred columns: take off the loss along the intercept's direction.
            loss = loss - expected_quadratic_loss(row, nothing[:1], w, gates)
        return np.asarray(torch.autograd.grad(loss / 2, w)[0].numpy())

    # The diagonal of the Hessian, by which the steps are scaled; never zero.
    diagonal = np.maximum((design.squares[sight] + design.ridge[sight]) * chance, 1e-12)
    weights = start / chance
    residual = goal * chance - half_gradient(weights)
    scaled = residual / diagonal
    direction, length = scaled, residual @ scaled
    enough = CG_TOLERANCE * max(float(design.target @ design.target), 1e-300)
    for _ in range(CG_STEPS):
        if length <= enough:
            break
        product = half_gradient(direction)
        step = length / (direction @ product)
        weights = weights + step * direction
        residual = residual - step * product
        scaled = residual / diagonal
        before, length = length, residual @ scaled
        direction = scaled + length / before * direction
    return weights * chance


def _as_tensor(columns: Any) -> Tensor:
    if not issparse(columns):
        return torch.from_numpy(np.ascontiguousarray(columns))
    entries = columns.tocoo()
    places = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    values = torch.from_numpy(entries.data)
    return torch.sparse_coo_tensor(places, values, entries.shape, check_invariants=True).coalesce()
