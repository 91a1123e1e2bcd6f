"""Whether the data and the penalty reach the gates at all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from l0.errors import IneffectivePenalty, InvalidSetting
from l0.hard_concrete import HardConcrete, prob_one

MIN_SHARE_WITH_DATA = 0.01


@dataclass(frozen=True)
class GateGradients:
    """What one step of training tells one set of gates.

    Attributes:
        n_gates: Number of gates.
        n_settled: Gates that are open or shut for ever; they need no gradient.
        n_with_data_gradient: Gates with a gradient of the data's loss that is not zero.
        n_with_penalty_gradient: Gates whose gradient of the penalty is above `epsilon`.
        largest_penalty_gradient: Size of the largest gradient of the penalty.
        epsilon: What the optimiser adds to the size of a gradient before it divides by it; 0 for
            optimisers that do not.
    """

    n_gates: int
    n_settled: int
    n_with_data_gradient: int
    n_with_penalty_gradient: int
    largest_penalty_gradient: float
    epsilon: float

    @property
    def share_with_data_gradient(self) -> float:
        """Share of the gates in training that the data moved; 1 if none is in training."""
        in_training = self.n_gates - self.n_settled
        return self.n_with_data_gradient / in_training if in_training else 1.0


def check_gradients(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, data_loss: Tensor, penalty: Tensor
) -> dict[str, GateGradients]:
    """See whether a loss and a penalty reach the gates; warn, with the way out, if they do not.

    Call it before `backward`, now and then: it runs two backward passes of its own. It changes
    neither gradients nor parameters.

    Args:
        model: Any module with gates.
        optimizer: What trains them.
        data_loss: The loss without the penalty, as computed in training mode.
        penalty: The penalty times its price, as added to the loss.

    Returns:
        What each set of gates got, under its name in `model.named_modules()`.

    Warns:
        IneffectivePenalty: If the penalty's gradient is below the optimiser's epsilon for all
            open gates of a set (under Adam, prices that low have no meaning), if hardly any gate
            is ever between 0 and 1, where alone a draw has a gradient, or if loss, penalty or
            optimiser do not have the gates.

    Raises:
        InvalidSetting: If the model has no gates.

    Examples:
        >>> gates = HardConcrete(1000, init_mean=0.5, seed=0)
        >>> optimiser = torch.optim.Adam(gates.parameters())
        >>> found = check_gradients(
        ...     gates, optimiser, data_loss=gates().sum(), penalty=0.01 * gates.penalty()
        ... )
        >>> round(found[""].share_with_data_gradient, 1)
        0.4
    """
    gates = {name: m for name, m in model.named_modules() if isinstance(m, HardConcrete)}
    if not gates:
        raise InvalidSetting("the model has no gates. Give a gate, a gated layer or `convert` it.")
    epsilons = {
        id(parameter): float(group.get("eps", 0.0))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    trained = {name: gate for name, gate in gates.items() if gate.log_alpha.requires_grad}
    from_data = _gradients(data_loss, trained)
    from_penalty = _gradients(penalty, trained)
    records = {}
    findings: dict[str, list[str]] = {}
    for name, gate in gates.items():
        zeros = torch.zeros_like(gate.log_alpha)
        data = from_data.get(name, zeros)
        priced = from_penalty.get(name, zeros).abs()
        epsilon = epsilons.get(id(gate.log_alpha), 0.0)
        records[name] = GateGradients(
            n_gates=gate.log_alpha.numel(),
            n_settled=int(gate.log_alpha.isinf().sum()),
            n_with_data_gradient=int(data.count_nonzero()),
            n_with_penalty_gradient=int((priced > epsilon).sum()),
            largest_penalty_gradient=float(priced.max()) if priced.numel() else 0.0,
            epsilon=epsilon,
        )
        if name in trained and not gate.settled:
            is_held = id(gate.log_alpha) in epsilons
            for finding in _findings(gate, records[name], data, priced, is_held):
                findings.setdefault(finding, []).append(name or "the model")
    for finding, names in findings.items():
        warnings.warn(f"{', '.join(names)}: {finding}", IneffectivePenalty, stacklevel=2)
    return records


def _gradients(scalar: Tensor, gates: dict[str, HardConcrete]) -> dict[str, Tensor]:
    if not scalar.requires_grad or not gates:
        return {}
    logits = [gate.log_alpha for gate in gates.values()]
    found = torch.autograd.grad(scalar, logits, retain_graph=True, allow_unused=True)
    return {
        name: gradient for name, gradient in zip(gates, found, strict=True) if gradient is not None
    }


@torch.no_grad()
def _findings(
    gate: HardConcrete, record: GateGradients, data: Tensor, priced: Tensor, is_held: bool
) -> list[str]:
    findings = []
    if not is_held:
        findings.append("the optimiser does not have these gates. Give it `param_groups(model)`.")
    # A gate that is as good as shut needs no push; the others must feel the price.
    priced = priced[(gate.median() > 0) & gate.log_alpha.isfinite()]
    if priced.numel() and not priced.any():
        findings.append("the penalty does not depend on these gates.")
    elif priced.numel() and float(priced.max()) <= record.epsilon:
        findings.append(
            f"the penalty's gradient is {float(priced.max()):.1g} or less, below the optimiser's "
            f"epsilon of {record.epsilon:.1g}: the price has no effect. Raise it, divide the "
            "data's loss by its number of examples, or lower `eps` of the optimiser."
        )
    n_gates = record.n_gates - record.n_settled
    between = gate.prob_active() - prob_one(gate.log_alpha, gate.temperature, gate.limits)
    n_between = float(between.sum())
    if record.share_with_data_gradient >= MIN_SHARE_WITH_DATA:
        return findings
    if n_between < MIN_SHARE_WITH_DATA * n_gates:
        findings.append(
            f"only {n_between / n_gates:.1g} of these gates lie between 0 and 1 in a draw, where "
            "they have a gradient of the data. Raise the temperature, lower `init_mean`, or train "
            "on the expected gates, `gate.mean()`."
        )
    elif not data.any() and n_between > 10:
        findings.append("the data's loss does not depend on these gates.")
    return findings
