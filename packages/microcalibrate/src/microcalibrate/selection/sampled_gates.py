"""Gates trained with samples, as in Louizos, Welling and Kingma (2018): kept for comparison.

Weights and gates are trained together by Adam on the loss of one sample of all gates at a time,
plus the price of the expected number of open gates. The closed form of `selection.py` needs no
training and reaches lower errors; this road is here for who wants to see that, or to start from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from l0 import HardConcrete, TemperatureScheduler
from l0.selection import inclusion_probabilities, top_k
from microcalibrate.problem import Problem
from microcalibrate.selection.drawing import Budget, Draw, Vector, count_for, gate_sizes

LEARNING_RATE = 0.05
FIRST_TEMPERATURE = 2 / 3
LAST_TEMPERATURE = 0.25
PASSES = 300


def sampled_gates(
    problem: Problem,
    weights: Vector,
    budget: Budget,
    seed: int,
    *,
    passes: int = PASSES,
    temperature: float | None = None,
    device: str | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Draw:
    """Train gates and weights with sampled gates, then keep the most probable records.

    Args:
        problem: A checked problem.
        weights: Dense weights to start from, shape `(n_records,)`.
        budget: Count or price; a count is reached by keeping the most probable gates, with the
            price at which the closed form would keep as many.
        seed: Of the gates' samples.
        passes: Steps of Adam.
        temperature: Of the gates at the end; they start at 2/3 and anneal.
        device: Where torch works, such as "cpu" or "cuda".
        progress: Called with each pass and its loss.

    Returns:
        The draw; survivors start from their trained weights.
    """
    sizes = gate_sizes(problem, weights, budget.kappa)
    count = count_for(problem, sizes, budget)
    closed_form = inclusion_probabilities(sizes, count)
    alive = np.flatnonzero(weights > 0)
    price = budget.l0_lambda if budget.records is None else _price_of(sizes, closed_form)

    where = torch.device(device or "cpu")
    forward, transposed = _products(problem, alive, where)
    goal = torch.as_tensor(problem.targets / problem.scales, dtype=torch.float32, device=where)
    importance = torch.as_tensor(problem.importances, dtype=torch.float32, device=where)
    if not problem.is_soft.any():
        importance = torch.full_like(importance, 1 / problem.n_targets)

    gates = HardConcrete(
        len(alive),
        temperature=FIRST_TEMPERATURE,
        init_mean=np.clip(closed_form[alive], 0.01, 0.99),
        seed=seed,
        device=where,
    )
    start = np.log(weights[alive] / np.clip(closed_form[alive], 0.01, 1.0))
    log_weights = torch.tensor(start, dtype=torch.float32, device=where, requires_grad=True)
    optimiser = torch.optim.Adam([log_weights, *gates.parameters()], lr=LEARNING_RATE)
    last = LAST_TEMPERATURE if temperature is None else temperature
    schedule = TemperatureScheduler(FIRST_TEMPERATURE, last, total_epochs=passes)
    for step in range(passes):
        gates.set_temperature(schedule.get_temperature(step))
        optimiser.zero_grad()
        gated = log_weights.exp() * gates()
        estimates = _Estimates.apply(gated, forward, transposed)  # type: ignore[no-untyped-call]
        error = estimates - goal
        loss = (importance * error**2).sum() + price * gates.prob_active().mean()
        loss.backward()
        optimiser.step()
        gates.constrain_parameters()
        if progress is not None:
            progress(step + 1, float(loss.detach()))

    probabilities = np.zeros(problem.n_records)
    probabilities[alive] = gates.prob_active().detach().cpu().numpy()
    if budget.records is None:
        count = max(1, int((probabilities > 0.5).sum()))
    kept = top_k(probabilities, count, seed)
    trained = np.zeros(problem.n_records)
    trained[alive] = (log_weights.exp() * gates.mean()).detach().cpu().numpy()
    floor = 1e-3 * trained[alive].mean()
    return Draw(kept, np.maximum(trained[kept], floor), probabilities)


def _price_of(sizes: Vector, probabilities: Vector) -> float:
    """The `l0_lambda` at which the closed form gives these probabilities."""
    inside = (probabilities > 0) & (probabilities < 1)
    if not inside.any():
        return 0.0
    return float(len(sizes) * np.median((sizes[inside] / probabilities[inside]) ** 2))


def _products(problem: Problem, alive: Any, where: torch.device) -> tuple[Any, Any]:
    """The scaled estimate matrix of the living records, and its transpose, for torch."""
    rows = sp.csr_array(problem.estimate_matrix[alive]) @ sp.diags_array(1 / problem.scales)

    def compressed(matrix: Any) -> torch.Tensor:
        # 32-bit positions: torch multiplies them several times faster than 64-bit ones.
        with warnings.catch_warnings():
            # Torch calls its CSR tensors beta; a product with a vector is all that is used here.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                torch.as_tensor(matrix.indptr.astype(np.int32)),
                torch.as_tensor(matrix.indices.astype(np.int32)),
                torch.as_tensor(matrix.data.astype(np.float32)),
                size=matrix.shape,
                device=where,
                check_invariants=False,
            )

    return compressed(rows), compressed(sp.csr_array(rows.T))


class _Estimates(torch.autograd.Function):
    """`A.T @ weights` with its gradient; both directions multiply a compressed-row matrix."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor, rows: Any, columns: Any) -> torch.Tensor:
        ctx.rows = rows
        return torch.mv(columns, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return torch.mv(ctx.rows, gradients[0]), None, None
