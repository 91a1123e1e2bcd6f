"""What a training loop with gates needs: parameter groups, and averages of weights and gates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from l0.distribution import widened
from l0.errors import InvalidSetting
from l0.hard_concrete import HardConcrete


def param_groups(
    model: nn.Module, lr: float, gates_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: the gates apart, without weight decay.

    Gates need a learning rate of their own, often ten to a hundred times that of the weights: on
    the weights' rate hardly any gate closes. Weight decay would pull them towards
    `P(gate > 0) = 0.83`, and turn settled gates into NaN.

    Args:
        model: Any module; gates are found wherever they are.
        lr: Learning rate of everything but the gates.
        gates_lr: Learning rate of the logits; `lr` if not given.
        weight_decay: Of everything but the gates.

    Returns:
        One group each for `"weights"` and `"gates"`, as far as there are any: with each parameter
        that is trained exactly once.

    Raises:
        InvalidSetting: If a number is negative or not finite, or nothing in the model is trained.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 3), HardConcrete(3))
        >>> groups = param_groups(model, lr=1e-3, gates_lr=1e-1, weight_decay=1e-4)
        >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups]
        [('weights', 0.001, 0.0001), ('gates', 0.1, 0.0)]
        >>> optimiser = torch.optim.AdamW(groups)
    """
    rates = {"lr": lr, "gates_lr": lr if gates_lr is None else gates_lr}
    for name, value in {**rates, "weight_decay": weight_decay}.items():
        if not 0 <= value < float("inf"):
            raise InvalidSetting(f"`{name}` is {value}, but must be at least 0 and finite.")
    logits = {id(gate.log_alpha) for gate in model.modules() if isinstance(gate, HardConcrete)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "name": "weights",
            "params": [parameter for parameter in trained if id(parameter) not in logits],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "name": "gates",
            "params": [parameter for parameter in trained if id(parameter) in logits],
            "lr": rates["gates_lr"],
            "weight_decay": 0.0,
        },
    ]
    if not trained:
        raise InvalidSetting("no parameter of the model requires a gradient: nothing to train.")
    return [group for group in groups if group["params"]]


class _Kind(Enum):
    """How a tensor of a model enters its average."""

    AVERAGED = "By its values."
    LOGITS = "By its values as far as they are finite."
    COPIED = "Not at all: the last one counts."


class WeightAverage:
    """An exponential moving average of a model's weights, logits and statistics.

    With x_t the values after step t, the average is `sum_t decay**(T-t) x_t`, divided by the sum
    of its factors (so that the start has no weight; Polyak averaging as in Kingma and Ba 2014,
    https://arxiv.org/abs/1412.6980, section 7.2). Parameters and floating buffers, such as those
    of batch norm, are averaged. Settled gates, temperatures and other settings of gates, and
    counters, are those of the last step.

    Args:
        model: Any module; it is not changed by averaging.
        decay: In `[0, 1)`; about `1 / (1 - decay)` steps are averaged.

    Raises:
        InvalidSetting: If `decay` is not in `[0, 1)`.

    Examples:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(model, decay=0.5)
        >>> for value in (0.0, 3.0):
        ...     _ = nn.init.constant_(model.weight, value)
        ...     average.update()
        >>> with average.applied():
        ...     model.weight.item()
        2.0
        >>> model.weight.item()
        3.0
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InvalidSetting(f"`decay` is {decay}, but must be in [0, 1); 0.99 is usual.")
        self.model = model
        self.decay = decay
        self.n_updates = 0
        self._averages: dict[str, Tensor] = {}
        self._is_applied = False

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present values into the average; call it after each step.

        Raises:
            InvalidSetting: If the averages are applied at the moment.
        """
        if self._is_applied:
            raise InvalidSetting("the model holds its averages now. Update outside of `applied()`.")
        self.n_updates += 1
        # The newest value's share of all factors: 1 at the first step, 1 - decay in the end.
        share = (1 - self.decay) / (1 - self.decay**self.n_updates)
        if self.n_updates == 1:
            self._averages = {
                name: (value if kind is _Kind.COPIED else widened(value)).detach().clone()
                for name, value, kind in self._values()
            }
            return
        averages, values = [], []
        for name, value, kind in self._values():
            average = self._averages[name] = self._averages[name].to(value.device)
            if kind is _Kind.COPIED:
                average.copy_(value)
                continue
            present = value.to(average.dtype)
            if kind is _Kind.LOGITS:
                # Infinite logits have no mean: a gate that is settled, or was, is as it is.
                finite = average.isfinite() & present.isfinite()
                average.copy_(torch.where(finite, torch.lerp(average, present, share), present))
            else:
                averages.append(average)
                values.append(present)
        if averages:
            torch._foreach_lerp_(averages, values, share)  # One call, as in optimisers.

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Put the averages into the model, in place, for the time of a `with` block.

        Yields:
            The model.

        Raises:
            InvalidSetting: If there was no update yet, or the averages are applied already.
        """
        if not self.n_updates or self._is_applied:
            raise InvalidSetting(
                "the averages are applied already."
                if self._is_applied
                else "there is no average yet. Call `update()` after each step of the optimiser."
            )
        own = {name: value.detach().clone() for name, value, _ in self._values()}
        self._is_applied = True
        try:
            self._write(self._averages)
            yield self.model
        finally:
            self._write(own)
            self._is_applied = False

    def state_dict(self) -> dict[str, Any]:
        """The averages and the number of updates, as tensors and numbers."""
        averages = {name: average.clone() for name, average in self._averages.items()}
        return {"decay": self.decay, "n_updates": self.n_updates, "averages": averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the averages of `state_dict`.

        Args:
            state: What `state_dict` gave.

        Raises:
            InvalidSetting: If it has other entries than the model.
        """
        missing = {name for name, *_ in self._values()} ^ set(state["averages"])
        if state["n_updates"] and missing:
            raise InvalidSetting(
                f"averages and model differ in {', '.join(sorted(missing))}. Load the averages of "
                "a model of the same structure."
            )
        self.decay = state["decay"]
        self.n_updates = state["n_updates"]
        self._averages = {name: average.clone() for name, average in state["averages"].items()}

    def _values(self) -> Iterator[tuple[str, Tensor, _Kind]]:
        """Each parameter and buffer, with how it is averaged."""
        gates = [module for module in self.model.modules() if isinstance(module, HardConcrete)]
        logits = {id(gate.log_alpha) for gate in gates}
        settings = {id(buffer) for gate in gates for buffer in gate.buffers()}
        for name, parameter in self.model.named_parameters():
            yield name, parameter, _Kind.LOGITS if id(parameter) in logits else _Kind.AVERAGED
        for name, buffer in self.model.named_buffers():
            averaged = buffer.is_floating_point() and id(buffer) not in settings
            yield name, buffer, _Kind.AVERAGED if averaged else _Kind.COPIED

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, value, _ in self._values():
            value.copy_(values[name])
