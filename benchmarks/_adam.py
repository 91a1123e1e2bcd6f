"""Adam on log weights: the field's present method, stripped of everything that costs time without
need.

The loss is that of the packages, the mean squared relative error; the products run on a CSR matrix
with 32-bit
positions and on its transpose, so that neither direction scatters. Needs torch, NumPy and SciPy.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch


class Operator:
    """A dense or SciPy matrix `(n_records, n_targets)` in torch, stored once by record and once by
    target."""

    def __init__(self, matrix: Any):
        if sp.issparse(matrix):
            self.by_record = _torch_csr(matrix.tocsr())
            self.by_target = _torch_csr(matrix.T.tocsr())
        else:
            self.by_record = torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32))
            self.by_target = self.by_record.T


def _torch_csr(matrix: sp.csr_matrix) -> torch.Tensor:
    # Note [32-bit positions]: with torch's usual 64-bit ones the product takes two to three times
    # as long.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse ")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            matrix.shape,
        )


class Estimates(torch.autograd.Function):
    """Estimates of all targets, with a gradient that uses the other orientation of the matrix."""

    @staticmethod
    def forward(ctx, weights: torch.Tensor, operator: Operator) -> torch.Tensor:
        """`matrix.T @ weights`, shape `(n_targets,)`."""
        ctx.operator = operator
        return operator.by_target @ weights

    @staticmethod
    def backward(ctx, slope: torch.Tensor):
        """`matrix @ slope`, shape `(n_records,)`."""
        return ctx.operator.by_record @ slope.contiguous(), None


def descend(
    matrix: Any,
    targets: np.ndarray,
    design_weights: np.ndarray,
    *,
    passes: int,
    seed: int,
    gated: bool,
    checkpoints: list[int],
    judge: Callable[[np.ndarray], dict],
    learning_rate: float = 0.15,
    closeness: float = 0.0,
    l0_lambda: float = 5e-6,
    temperature: float = 2 / 3,
    stretch: tuple[float, float] = (-0.1, 1.1),
    init_keep: float = 0.999,
    refit_passes: int = 0,
) -> tuple[np.ndarray, int, float, float, dict[str, Any]]:
    """Minimise the mean squared relative error over log weights, and over Hard Concrete gates if
    `gated`.

    Args:
        matrix: Shape `(n_records, n_targets)`, dense or SciPy CSR.
        targets: Shape `(n_targets,)`; errors count relative to them, at least to 1.
        design_weights: Positive, shape `(n_records,)`: the start.
        passes: Gradient steps, each over all records.
        seed: Of the gate noise.
        gated: Multiply the weights by sampled gates (Louizos, Welling and Kingma 2018); the
        weights returned use the deterministic gates, exactly zero where a gate is shut.
        checkpoints: Passes at which `judge` scores the weights, with the clock stopped.
        judge: Weights to a table of numbers.
        learning_rate: Of Adam, on log weights and on gate logits alike.
        closeness: Price of `sum(q * (ratio - 1)**2)`, with `q` the design weights over their sum
        and `ratio` the
            weights over the design weights. The packages have no such term (0); with it the loss
            is twice the
            objective of the chi-square engine at the same closeness, so that the two can be
            compared at one optimum.
        l0_lambda: Price of each record expected to be kept, in units of the loss, as in
        microcalibrate. temperature: Of the gates.
        stretch: Ends of the interval that is clipped to `[0, 1]`.
        init_keep: Where the sigmoid of the gate logits starts.
        refit_passes: Passes without gates over the kept records alone, from the weights that the
        gates left (from which `closeness` counts then).

    Returns:
        Weights, passes done, seconds to prepare, seconds to fit, and `{"trajectory": ...}`.
    """
    begin = time.perf_counter()
    operator = Operator(matrix)
    goal = torch.tensor(targets, dtype=torch.float32)
    scale = goal.abs().clamp(min=1.0)
    torch.manual_seed(seed)
    prepare_seconds = time.perf_counter() - begin

    low, high = stretch
    start_weight = torch.tensor(design_weights, dtype=torch.float32)
    share = start_weight / start_weight.sum()
    log_weight = torch.tensor(np.log(design_weights), dtype=torch.float32, requires_grad=True)
    log_alpha = torch.full_like(log_weight, math.log(init_keep / (1 - init_keep))).requires_grad_(
        gated
    )
    shift = temperature * math.log(-low / high)
    optimiser = torch.optim.Adam(
        [log_weight, log_alpha] if gated else [log_weight], lr=learning_rate
    )

    def gates(noise: torch.Tensor | float) -> torch.Tensor:
        return (torch.sigmoid((log_alpha + noise) / temperature) * (high - low) + low).clamp(0, 1)

    def current() -> np.ndarray:
        with torch.no_grad():
            return (
                (log_weight.exp() * gates(0.0) if gated else log_weight.exp())
                .numpy()
                .astype(np.float64)
            )

    trajectory = []
    fit_seconds = 0.0
    start = time.perf_counter()
    for step in range(1, passes + 1):
        optimiser.zero_grad()
        weights = log_weight.exp()
        if gated:
            weights = weights * gates(torch.logit(torch.rand_like(log_alpha), eps=1e-6))
        loss = (((Estimates.apply(weights, operator) - goal) / scale) ** 2).mean()
        if closeness:
            loss = loss + closeness * (share * (weights / start_weight - 1) ** 2).sum()
        if gated:
            loss = loss + l0_lambda * torch.sigmoid(log_alpha - shift).sum()
        loss.backward()
        optimiser.step()
        if step in checkpoints:
            fit_seconds += time.perf_counter() - start
            trajectory.append({"pass": step, "fit_seconds": fit_seconds, **judge(current())})
            start = time.perf_counter()
    fit_seconds += time.perf_counter() - start
    final = current()
    notes = {"trajectory": trajectory, "final_loss": loss.item()}
    if refit_passes:
        begin = time.perf_counter()
        kept_index = np.flatnonzero(final > 0)
        final[kept_index] = descend(
            matrix[kept_index],
            targets,
            final[kept_index],
            passes=refit_passes,
            seed=seed,
            gated=False,
            checkpoints=[],
            judge=judge,
            learning_rate=learning_rate,
            closeness=closeness,
        )[0]
        notes["refit_seconds"] = time.perf_counter() - begin
        fit_seconds += notes["refit_seconds"]
    return final, passes + refit_passes, prepare_seconds, fit_seconds, notes
