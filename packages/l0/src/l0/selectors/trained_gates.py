"""Gates on the inputs of a PyTorch module, which close while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import ceil, log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from l0.errors import InvalidSetting
from l0.selection import Indices
from l0.selection.quotas import Bundles
from l0.selectors.design import Vector
from l0.selectors.gate_path import SHRINK, closing_gates

WEIGHT_DECAY = 0.01


def trained_path(
    module: nn.Module | Callable[[int], nn.Module],
    rows: NDArray[Any],
    targets: NDArray[Any],
    loss: Callable[[Tensor, Tensor], Tensor],
    bundles: Bundles,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> tuple[list[tuple[int, Vector]], nn.Module]:
    """The path of `closing_gates` for a module, and the module at the end of it.

    In each step every row has gates of its own, open with their chances; a shut input is zero. The
    weight of an input is the root mean square, over rows and outputs, of the module's slope in it,
    at expected gates and times the input's spread: that of a linear model is its coefficient.

    Args:
        module: A module of inputs `(n_rows, n_features)`, which is copied; or a function from
            the number of features to one.
        rows: Shape `(n_rows, n_features)`.
        targets: Numbers for each row.
        loss: Of the outputs and the targets.
        bundles: Features that have one gate together.
        steps: Number of training steps, shared out evenly among the budgets; each on all rows.
        learning_rate: Of AdamW.
        seed: Of the initial parameters and of the gates.

    Returns:
        Pairs of a budget and the worth of each bundle; and the trained module.

    Raises:
        InvalidSetting: If `steps` or `learning_rate` is not positive.
    """
    if steps < 1 or not learning_rate > 0:
        raise InvalidSetting(
            f"`steps` is {steps} and `learning_rate` {learning_rate}; both must be positive."
        )
    # The user's module may draw from PyTorch's global generator, which is left as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = deepcopy(module) if isinstance(module, nn.Module) else module(rows.shape[1])
        first = next(net.parameters())
        x = torch.as_tensor(rows, dtype=first.dtype, device=first.device)
        goals = torch.as_tensor(targets, device=first.device)
        goals = goals.to(first.dtype) if goals.is_floating_point() else goals
        spread = x.std(0, correction=0)
        optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
        widest = max(min(len(rows), bundles.size.size) / 2, 1.0)
        n_budgets = ceil(log(widest) / -log(SHRINK)) + 1

        def fitted(sight: Indices, chance: Vector) -> Vector:
            chances = torch.zeros(x.shape[1], dtype=x.dtype, device=x.device)
            chances[sight] = torch.as_tensor(chance, dtype=x.dtype, device=x.device)
            net.train()
            for _ in range(ceil(steps / n_budgets)):
                gates = torch.bernoulli(chances.expand_as(x))
                optimiser.zero_grad()
                torch.autograd.backward(loss(net(x * gates), goals))
                optimiser.step()
            slopes = _slopes(net.eval(), x * chances) * chances * spread
            return np.asarray(slopes.to("cpu", torch.float64).numpy())[sight]

        return closing_gates(bundles, len(rows), fitted), net


def _slopes(net: nn.Module, x: Tensor) -> Tensor:
    """Root mean square over rows, summed over outputs, of the slope in each input."""
    inputs = x.clone().requires_grad_()
    outputs = net(inputs).reshape(len(x), -1)
    total = torch.zeros(x.shape[1], dtype=x.dtype, device=x.device)
    for output in outputs.unbind(1):
        (slope,) = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
        total += (slope**2).mean(0)
    return total.sqrt()
