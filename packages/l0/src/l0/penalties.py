"""Penalties and statistics of any module, found by walking its gates; a closed-form expected loss.

A penalty is expected over the gates, so it is exact and has no noise: with g a gate, |g| the number
of parameters that it switches and theta_g those parameters,

    L0 = sum_g P(z_g > 0) |g|          L2 = sum_g P(z_g > 0) ||theta_g||**2

(Louizos, Welling and Kingma 2018, https://arxiv.org/abs/1712.01312, sections 2.2 and 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from l0.errors import InvalidSetting, ShapeMismatch
from l0.hard_concrete import HardConcrete


@runtime_checkable
class GatedLayer(Protocol):
    """A module that says which of its parameters are gated."""

    def gated_parameters(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each gated parameter, with the chance of its entries to be active (broadcast to it)."""
        ...


class GateMoments(Protocol):
    """Anything with a mean and a variance for each of its gates."""

    def mean(self) -> Tensor:
        """Expected value of each gate."""
        ...

    def variance(self) -> Tensor:
        """Variance of each gate."""
        ...


@dataclass(frozen=True)
class GateStatistics:
    """How sparse one set of gates is.

    Attributes:
        n_gates: Number of gates.
        n_active: Gates that are not zero in evaluation mode: those with `P(z > 0) > 1/2`.
        expected_active: Sum of `P(z > 0)` over the gates.
        n_parameters: Parameters that the gates switch; one each for gates outside of layers.
        expected_parameters: Sum of `P(z > 0)` over those parameters.
    """

    n_gates: int
    n_active: int
    expected_active: float
    n_parameters: int
    expected_parameters: float

    @property
    def sparsity_fraction(self) -> float:
        """Share of gates that are zero in evaluation mode."""
        return 1 - self.n_active / self.n_gates if self.n_gates else 0.0


def compute_l0_penalty(
    model: nn.Module,
    *,
    factors: Mapping[str, float] = MappingProxyType({}),
    unit: Literal["parameter", "gate"] = "parameter",
) -> Tensor:
    """Expected number of parameters that the gates leave switched on.

    Args:
        model: Any module, or a gate itself. A gate in a layer counts the parameters that it
            switches; a gate outside of layers counts 1.
        factors: Prices of their own for some gates, at least 0: each pattern is a name in
            `model.named_modules()` of a gate, or of the layer that has it, or the end of one after
            a dot, with `*` for any letters. The first that fits counts; other gates have 1.
        unit: What costs 1: a parameter, or a gate, however many parameters it switches.

    Returns:
        A scalar, differentiable in the logits; 0 for a model without gates.

    Raises:
        InvalidSetting: If a factor is negative, or fits no gate, or `unit` is unknown.

    Examples:
        >>> round(compute_l0_penalty(HardConcrete(100, init_mean=0.25)).item(), 3)
        25.0
        >>> model = nn.ModuleDict({"conv1": HardConcrete(10), "fc1": HardConcrete(10)})
        >>> round(compute_l0_penalty(model, factors={"conv*": 0.0}).item(), 3)
        9.0
    """
    if unit not in {"parameter", "gate"}:
        raise InvalidSetting(f'no unit is named {unit!r}. Take "parameter" or "gate".')
    price_of = _prices([name for name, _ in _gates(model)], factors)
    terms = [
        price_of[name] * (gate.expected_parameters() if unit == "parameter" else gate.penalty())
        for name, gate in _gates(model)
    ]
    return _total(terms, model)


def compute_l2_penalty(model: nn.Module, *, detach_gates: bool = False) -> Tensor:
    """Expected sum of squares of the gated weights: each counts as often as it is active.

    Logits, normalisation scales and layers without gates are left alone.

    Args:
        model: Any module.
        detach_gates: Whether to take the chances as given, so that the penalty shrinks the
            weights and does not close their gates as well.

    Returns:
        A scalar, differentiable in weights and logits; 0 for a model without gated layers.

    Examples:
        >>> from l0.layers import L0Linear
        >>> layer = L0Linear(3, 2, bias=False, init_mean=0.5)
        >>> _ = nn.init.ones_(layer.weight)
        >>> round(compute_l2_penalty(layer).item(), 3)
        3.0
    """
    terms = [
        ((prob.detach() if detach_gates else prob) * parameter.to(prob.dtype) ** 2).sum()
        for module in model.modules()
        if isinstance(module, GatedLayer)
        for parameter, prob in module.gated_parameters()
    ]
    return _total(terms, model)


def compute_l0l2_penalty(
    model: nn.Module,
    l0_lambda: float = 0.0,
    l2_lambda: float = 0.0,
    *,
    factors: Mapping[str, float] = MappingProxyType({}),
    detach_gates: bool = False,
) -> Tensor:
    """`l0_lambda` times the L0 penalty plus `l2_lambda` times the L2 penalty.

    Args:
        model: Any module.
        l0_lambda: Price of one expected parameter, at least 0.
        l2_lambda: Price of one unit of expected squared weight, at least 0.
        factors: What to multiply `l0_lambda` by for some gates, as in `compute_l0_penalty`.
        detach_gates: As in `compute_l2_penalty`.

    Returns:
        A scalar to add to a loss.

    Raises:
        InvalidSetting: If a price or a factor is negative or not finite, or fits no gate.

    Examples:
        >>> gates = HardConcrete(100, init_mean=0.25)
        >>> round(compute_l0l2_penalty(gates, l0_lambda=0.01, l2_lambda=0.1).item(), 3)
        0.25
    """
    for name, price in {"l0_lambda": l0_lambda, "l2_lambda": l2_lambda}.items():
        if not 0 <= price < float("inf"):
            raise InvalidSetting(f"`{name}` is {price}, but must be at least 0 and finite.")
    l0_penalty = compute_l0_penalty(model, factors=factors)
    return l0_lambda * l0_penalty + l2_lambda * compute_l2_penalty(model, detach_gates=detach_gates)


@torch.no_grad()
def get_sparsity_stats(model: nn.Module) -> dict[str, GateStatistics]:
    """Statistics of each set of gates in a model, under its name in `model.named_modules()`.

    Args:
        model: Any module; if it is itself a gate, its name is the empty string.

    Returns:
        One `GateStatistics` per set of gates.

    Examples:
        >>> get_sparsity_stats(HardConcrete(4, init_mean=[0.2, 0.4, 0.6, 0.8]))[""].n_active
        2
    """
    return {
        name: GateStatistics(
            n_gates=gate.log_alpha.numel(),
            n_active=int(torch.count_nonzero(gate.median())),
            expected_active=gate.penalty().item(),
            n_parameters=gate.n_parameters,
            expected_parameters=gate.expected_parameters().item(),
        )
        for name, gate in _gates(model)
    }


def expected_quadratic_loss(design: Any, target: Any, weights: Tensor, gate: GateMoments) -> Tensor:
    """Squared error of a linear model with gated weights, expected over the gates, without noise.

    With m and v the means and variances of independent gates z,

        E ||y - X (w * z)||**2 = ||y - X (w * m)||**2 + sum_j ||X_j||**2 w_j**2 v_j,

    the bias and variance of a quadratic form in z. It costs as much as one draw, and its
    gradient reaches every gate.

    Args:
        design: X, shape `(n_rows, n_items)`: a dense or sparse tensor, a NumPy array or a SciPy
            sparse matrix. A sparse one stays sparse. In a loop, give a tensor: others are
            converted at each call.
        target: y, shape `(n_rows,)`.
        weights: w, shape `(n_items,)`.
        gate: A gate per item: `HardConcrete`, `SampleGate` or `FeatureGate`.

    Returns:
        A scalar, differentiable in `weights` and in the gate's logits.

    Raises:
        ShapeMismatch: If the four do not fit together.

    Examples:
        >>> gate = HardConcrete(3, init_mean=1.0)  # wide open
        >>> loss = expected_quadratic_loss(torch.eye(3), torch.zeros(3), torch.ones(3), gate)
        >>> round(loss.item(), 3)
        3.0
    """
    mean, variance = gate.mean(), gate.variance()
    dtype = torch.promote_types(weights.dtype, mean.dtype)
    columns = _as_design(design).to(device=weights.device, dtype=dtype)
    goal = torch.as_tensor(target).to(device=weights.device, dtype=dtype)
    expected_shapes = (*goal.shape, *weights.shape)
    if columns.shape != expected_shapes or columns.ndim != 2 or mean.shape != weights.shape:
        raise ShapeMismatch(
            f"design {tuple(columns.shape)}, target {tuple(goal.shape)}, weights "
            f"{tuple(weights.shape)} and gates {tuple(mean.shape)} do not fit. The design is "
            "(n_rows, n_items), the target (n_rows,), weights and gates (n_items,)."
        )
    # Mixed precision would round the product, and a difference of large sums needs its digits.
    with torch.autocast(device_type=weights.device.type, enabled=False):
        wide_weights = weights.to(dtype)
        residual = goal - columns @ (wide_weights * mean)
        spread = _squared_norms(columns) * wide_weights**2 * variance
        return (residual**2).sum() + spread.sum()


def _gates(model: nn.Module) -> Iterator[tuple[str, HardConcrete]]:
    return (
        (name, module) for name, module in model.named_modules() if isinstance(module, HardConcrete)
    )


def _prices(names: list[str], factors: Mapping[str, float]) -> dict[str, float]:
    prices = dict.fromkeys(names, 1.0)
    free = set(names)
    for pattern, factor in factors.items():
        if not 0 <= factor < float("inf"):
            raise InvalidSetting(
                f"the factor of {pattern!r} is {factor}, but must be at least 0 and finite."
            )
        fitting = {name for name in names if _fits(name, pattern)}
        if not fitting:
            raise InvalidSetting(
                f"no gates are named {pattern!r}; there are {', '.join(names) or 'none'}."
            )
        prices |= dict.fromkeys(fitting & free, float(factor))
        free -= fitting
    return prices


def _fits(name: str, pattern: str) -> bool:
    # Converted models have "/" in the names of gates where the names of layers have dots.
    path = "." + name.replace("/", ".")
    return any(fnmatchcase(part, f"*.{pattern}") for part in (path, path.rpartition(".")[0]))


def _total(terms: list[Tensor], model: nn.Module) -> Tensor:
    if terms:
        return torch.stack([term.to(terms[0].device) for term in terms]).sum()
    return torch.zeros((), device=next((p.device for p in model.parameters()), None))


def _as_design(design: Any) -> Tensor:
    if isinstance(design, Tensor) and design.layout != torch.strided:
        return design.to_sparse(layout=torch.sparse_coo).coalesce()
    if hasattr(design, "tocoo"):
        entries = design.tocoo()
        positions = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
        values = torch.as_tensor(entries.data)
        return torch.sparse_coo_tensor(
            positions, values, entries.shape, check_invariants=True
        ).coalesce()
    return design if isinstance(design, Tensor) else torch.as_tensor(np.asarray(design))


def _squared_norms(columns: Tensor) -> Tensor:
    if columns.layout == torch.strided:
        return (columns**2).sum(0)
    entries = columns.coalesce()
    norms = torch.zeros(columns.shape[1], device=columns.device, dtype=columns.dtype)
    return norms.index_add(0, entries.indices()[1], entries.values() ** 2)
