"""A network with gates: the original module, the gates beside it, and what they switch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from l0.distribution import sample
from l0.errors import InvalidSetting, ShapeMismatch
from l0.hard_concrete import HardConcrete
from l0.sizes import Gating, Metric, Sizes
from l0.tracing import Units, Vector, Weight

Kind: TypeAlias = Literal["input", "output", "channel", "head", "weight"]


@dataclass(frozen=True)
class GateSet:
    """The gates that one entry of the mapping gave to one layer.

    Attributes:
        name: Of the layer, as in `named_modules()`.
        kind: What the gates switch.
        parameters: The weights whose columns or entries they multiply.
        first: Position of the first of them among all gates of the model.
        n_gates: How many there are.
        linked: Other layers that were to be gated and share these gates.
    """

    name: str
    kind: Kind
    parameters: tuple[str, ...]
    first: int
    n_gates: int
    linked: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Factor:
    """Gates that multiply a parameter along an axis, or entry by entry if the axis is None."""

    key: str
    axis: int | None
    index: str | None
    """Name of the buffer with the gate of each position; None where they are one to one."""


class GatedModel(nn.Module):
    """A network with gates: the original module, and the gates beside it.

    A call draws each set of gates once (in evaluation mode it takes their median), multiplies
    the parameters, and runs the original module with them. `convert` makes it.

    Attributes:
        module: The original module; its parameters are trained as before.
        gates: The gates, `HardConcrete`, under the names of their layers with `/` for `.`.
        sets: What each of them switches, under the same names.
        sizes: Sizes of the network as a function of the chances of all gates.
        skipped: Layers that a pattern named and that got no gates, with the reason.
        units: The units that were found.
        per_example: Whether each example gets gates of its own in training mode.
    """

    def __init__(
        self,
        module: nn.Module,
        units: Units,
        gates: Mapping[str, HardConcrete],
        sets: Mapping[str, GateSet],
        gating: Gating,
        skipped: Mapping[str, str],
        per_example: bool,
    ) -> None:
        super().__init__()
        self.module = module
        self.units = units
        self.gates = nn.ModuleDict(gates)
        self.sets = dict(sets)
        self.skipped = dict(skipped)
        self.per_example = per_example
        own = dict(module.named_parameters())
        shapes = {name: tuple(parameter.shape) for name, parameter in own.items()}
        self.sizes = Sizes(units, gating, shapes)
        self._drawn: dict[str, Tensor] = {}
        self._factors: dict[str, list[_Factor]] = {}
        self._lay_factors(gating, shapes)
        # Looking parameters up by their names in each call would take as long as a small layer.
        self._owners = {
            name: (module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
            for name in self._factors
        }
        self.to(next(iter(own.values())).device)
        sizes = self.sizes.gate_sizes("params").to(torch.get_default_dtype())
        for key, gate in self.named_gates():
            part = sizes[self.sets[key].first :][: self.sets[key].n_gates]
            gate.group_size = part.view(gate.log_alpha.shape)
        if per_example:
            self._hook_readers()

    def named_gates(self) -> Iterator[tuple[str, HardConcrete]]:
        """Each set of gates under its name, in the order in which they count."""
        for key, gate in self.gates.items():
            assert isinstance(gate, HardConcrete)
            yield key, gate

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module with one draw of the gates (the median gates in evaluation mode)."""
        if self.per_example and self.training:
            self._drawn = self._draw_for_each(args, kwargs)
            try:
                return self.module(*args, **kwargs)
            finally:
                self._drawn = {}
        drawn = self._draw()
        return functional_call(self.module, self._multiplied(drawn), args, kwargs)

    def prob_active(self) -> Tensor:
        """Chance of each gate not to be zero, all sets in a row, shape `(n_gates,)`."""
        return torch.cat([gate.prob_active().flatten() for _, gate in self.named_gates()])

    def open_mask(self) -> Tensor:
        """Which gates are open in evaluation mode, all sets in a row, shape `(n_gates,)`."""
        with torch.no_grad():
            return torch.cat([gate.median().flatten() > 0 for _, gate in self.named_gates()])

    def expected_size(self, metric: Metric = "params") -> Tensor:
        """Expected parameters, multiplications for an example or open gates; differentiable."""
        size: Tensor = self.sizes(self.prob_active(), metric)
        return size

    def hard_size(self, metric: Metric = "params") -> int:
        """Parameters, multiplications or gates that are left in evaluation mode."""
        with torch.no_grad():
            return round(float(self.sizes(self.open_mask(), metric)))

    def gated_parameters(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each gated parameter, with the chance of its entries to be active."""
        chances = {key: gate.prob_active() for key, gate in self.named_gates()}
        for name in self._factors:
            yield self._parameter(name), self._factor_of(name, chances)

    @torch.no_grad()
    def settle(self, open_mask: Tensor) -> None:
        """Fix each gate as open or shut for ever; the values of open gates go into the weights.

        Args:
            open_mask: Which gates stay open, all sets in a row, shape `(n_gates,)`.

        Raises:
            ShapeMismatch: If there is not one value for each gate.
        """
        n_gates = sum(gate.log_alpha.numel() for _, gate in self.named_gates())
        if tuple(open_mask.shape) != (n_gates,):
            raise ShapeMismatch(f"{tuple(open_mask.shape)} values for {n_gates} gates.")
        values = {}
        for key, gate in self.named_gates():
            part = open_mask[self.sets[key].first :][: self.sets[key].n_gates]
            values[key] = gate.settled_values()
            gate.settle(part.view(gate.log_alpha.shape))
        for name in self._factors:
            self._parameter(name).mul_(self._factor_of(name, values))

    def folded(self) -> nn.Module:
        """A copy of the original module with the median gates multiplied into its parameters."""
        copy = deepcopy(self.module)
        with torch.no_grad():
            medians = {key: gate.median() for key, gate in self.named_gates()}
            own = dict(copy.named_parameters())
            for name in self._factors:
                own[name].mul_(self._factor_of(name, medians))
        return copy

    def _draw(self) -> dict[str, Tensor]:
        """The gates of this call; all sets in one go where they are drawn alike."""
        gates = dict(self.named_gates())
        first = next(iter(gates.values()))
        alike = self.training and all(
            gate.training and gate.limits == first.limits and gate.generator is first.generator
            for gate in gates.values()
        )
        if not alike or len(gates) == 1:
            return {key: gate() for key, gate in gates.items()}
        sizes = [gate.log_alpha.numel() for gate in gates.values()]
        logits = torch.cat([gate.log_alpha.flatten() for gate in gates.values()])
        each = zip(gates.values(), sizes, strict=True)
        temperatures = torch.cat([gate.temperature.expand(size) for gate, size in each])
        row = sample(logits, temperatures, first.limits, generator=first.generator)
        parts = zip(gates.items(), torch.split(row.to(logits.dtype), sizes), strict=True)
        return {key: part.view(gate.log_alpha.shape) for (key, gate), part in parts}

    def _multiplied(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: self._parameter(name) * self._factor_of(name, values) for name in self._factors
        }

    def _parameter(self, name: str) -> Tensor:
        owner, own = self._owners[name]
        return owner.get_parameter(own)

    def _factor_of(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """Product of the gates of a parameter, broadcast to its shape."""
        rank = self._parameter(name).ndim
        product: Tensor | None = None
        for factor in self._factors[name]:
            gates = self._indexed(factor, values[factor.key])
            if factor.axis is not None:
                gates = gates.view([-1 if i == factor.axis else 1 for i in range(rank)])
            product = gates if product is None else product * gates
        assert product is not None
        return product

    def _indexed(self, factor: _Factor, gates: Tensor) -> Tensor:
        if factor.index is None:
            return gates
        ones = gates.new_ones((*gates.shape[:-1], 1))
        return torch.cat([gates, ones], dim=-1)[..., self.get_buffer(factor.index)]

    def _lay_factors(self, gating: Gating, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Work out along which axes of which parameters each set of gates acts."""
        for key, gate_set in self.sets.items():
            first, n_gates = gate_set.first, gate_set.n_gates
            for name, shape in shapes.items():
                if gating.entries.get(name) == first:
                    self._factors.setdefault(name, []).append(_Factor(key, None, None))
                for axis in range(len(shape)):
                    for places in self._gates_along(gating, name, axis):
                        mine = (places >= first) & (places < first + n_gates)
                        if mine.any():
                            index = np.where(mine, places - first, n_gates)
                            self._add_factor(key, name, axis, index)

    def _gates_along(self, gating: Gating, name: str, axis: int) -> Iterator[Vector]:
        """The gates along an axis of a parameter: of units that go there, and of its columns."""
        labels = self.units.parameters[name][axis]
        weight = self.units.weights.get(name)
        reads = weight is not None and weight.column_axis == axis
        if labels is not None:
            of_units = np.where(labels >= 0, gating.units[labels], -1)
            # What a layer norm mixes has to be zero before it, so it is gated where it is made.
            acts = reads | np.isin(labels, list(self.units.normalised))
            yield np.where(acts, of_units, -1)
        if reads and name in gating.columns:
            yield gating.columns[name]

    def _add_factor(self, key: str, name: str, axis: int, places: Vector) -> None:
        index = None
        if not np.array_equal(places, np.arange(self.sets[key].n_gates)):
            index = f"places_{len(self._buffers)}"
            self.register_buffer(index, torch.from_numpy(places), persistent=False)
        self._factors.setdefault(name, []).append(_Factor(key, axis, index))

    def _hook_readers(self) -> None:
        """Let the modules that read units multiply their inputs, one draw for each example."""
        for name, factors in self._factors.items():
            place, _, own = name.rpartition(".")
            reader = self.module.get_submodule(place)
            weight = self.units.weights.get(name)
            simple = isinstance(reader, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
            if weight is None or not simple or own != "weight" or self._reads_not(factors, weight):
                raise InvalidSetting(
                    f"{name!r} cannot have gates for each example: they multiply the inputs of "
                    "linear and convolution layers only. Leave `per_example` out, or name other "
                    "layers."
                )
            axis = -1 if isinstance(reader, nn.Linear) else 1
            reader.register_forward_pre_hook(_InputGates(self, factors, axis))

    @staticmethod
    def _reads_not(factors: Sequence[_Factor], weight: Weight) -> bool:
        return any(factor.axis is None or factor.axis != weight.column_axis for factor in factors)

    def _draw_for_each(self, args: Any, kwargs: Any) -> dict[str, Tensor]:
        tensors = (part for part in (*args, *kwargs.values()) if isinstance(part, Tensor))
        n_examples = next(tensors).shape[0]
        return {key: gate(sample_shape=(n_examples,)) for key, gate in self.named_gates()}


class _InputGates:
    """A hook that multiplies the input of a module by gates, one draw for each example."""

    def __init__(self, model: GatedModel, factors: Sequence[_Factor], axis: int) -> None:
        self._model, self._factors, self._axis = [model], tuple(factors), axis

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        (model,) = self._model
        if not model._drawn:
            return args
        value, *rest = args
        for factor in self._factors:
            gates = model._indexed(factor, model._drawn[factor.key])
            shape = [1] * value.ndim
            shape[0], shape[self._axis] = gates.shape
            value = value * gates.view(shape)
        return (value, *rest)
