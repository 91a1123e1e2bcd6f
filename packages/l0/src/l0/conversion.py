"""Attach gates to an existing network without rewriting it.

A gate acts where a unit is *read*: it multiplies the columns of every weight that reads the unit,
after batch norm and activation. So a norm cannot undo it, and a unit whose gate is shut is read
by nothing: it can be taken out exactly, with its row, bias and norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from l0.errors import InvalidSetting, ShapeMismatch
from l0.gated_model import GatedModel, GateSet, Kind
from l0.hard_concrete import LIMITS, TEMPERATURE, HardConcrete, Limits
from l0.sizes import Gating
from l0.tracing import Units, Vector, Weight, trace

INIT_ACTIVE = 0.95


@dataclass(frozen=True)
class GateSettings:
    """What the gates of a layer switch, and how they start.

    Attributes:
        kind: `"output"` or `"channel"` (what the layer makes, with all that is linked to it),
            `"input"` (what it reads: columns of this layer alone), `"head"` (heads of the
            attentions inside a module) or `"weight"` (each entry of its weight).
        groups: A whole number for each output or input: those with the same number share a gate.
            Each has its own gate if not given.
        init_active: `P(gate > 0)` at the start; that of the whole model if not given.
        temperature: Of the gates; that of the whole model if not given.
    """

    kind: Kind
    groups: ArrayLike | None = None
    init_active: float | None = None
    temperature: float | None = None


def convert(
    module: nn.Module,
    gates: Mapping[str, Kind | GateSettings],
    *,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    init_active: float = INIT_ACTIVE,
    temperature: float = TEMPERATURE,
    limits: Limits = LIMITS,
    per_example: bool = False,
    seed: int | None = 0,
) -> GatedModel:
    """Attach gates to a network.

    Units that are inseparable (in residual sums, norms, depthwise and grouped convolutions,
    concatenations, heads) share a gate, whichever of their layers is named.

    Args:
        module: Any module that `torch.export` can follow. It is not copied, and not changed.
        gates: What to gate: names of modules, or patterns with `*` as in `fnmatch`, each with a
            kind or with `GateSettings`. A pattern leaves out layers that cannot be gated (see
            `GatedModel.skipped`); a plain name that cannot be gated is an error.
        example_inputs: Inputs to follow through the network, two examples or more along the first
            axis. Their values do not matter, their shapes do.
        example_kwargs: The same, by name.
        init_active: `P(gate > 0)` at the start.
        temperature: Of the gates.
        limits: Of the gates.
        per_example: Draw gates for each example instead of each call in training mode; gates of
            linear and convolution layers only.
        seed: Seed of the gates' noise. The same on each process of a distributed training, so
            that all draw the same gates; with None, PyTorch's global generator is used.

    Returns:
        The network with gates; train it in place of `module`.

    Raises:
        InvalidSetting: If a name matches nothing or cannot be gated, or a setting is out of range.
        CannotTrace: If the network cannot be followed.

    Examples:
        >>> net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
        >>> gated = convert(net, {"0": "input", "2": "input"}, example_inputs=[torch.zeros(2, 784)])
        >>> gated(torch.zeros(5, 784)).shape
        torch.Size([5, 10])
        >>> gated.hard_size("params")
        238510
    """
    followed = trace(module, example_inputs, example_kwargs)
    placing = _Placing(module, followed.units())
    for pattern, wanted in gates.items():
        settings = wanted if isinstance(wanted, GateSettings) else GateSettings(wanted)
        if settings.kind not in get_args(Kind):
            raise InvalidSetting(
                f"{pattern!r} is to have gates of kind {settings.kind!r}. Take one of "
                f"{', '.join(get_args(Kind))}."
            )
        placing.place(pattern, settings)
    if not placing.sets:
        raise InvalidSetting("`gates` is empty. Name the layers to gate: {'conv*': 'channel'}.")
    made = {}
    # One generator for all sets, which can then be drawn in one go.
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for key, gate_set in placing.sets.items():
        settings = placing.settings[key]
        like = module.get_parameter(gate_set.parameters[0])
        made[key] = HardConcrete(
            tuple(like.shape) if gate_set.kind == "weight" else gate_set.n_gates,
            temperature=settings.temperature or temperature,
            init_mean=init_active if settings.init_active is None else settings.init_active,
            limits=limits,
            generator=generator,
            device=like.device,
            dtype=like.dtype,
        )
    return GatedModel(
        module,
        followed.units(),
        made,
        placing.sets,
        placing.gating(),
        placing.skipped,
        per_example,
    )


class _Placing:
    """Which gates go where, as the entries of the mapping are worked through one by one."""

    def __init__(self, module: nn.Module, units: Units) -> None:
        self.modules = dict(module.named_modules())
        self.units = units
        self.sets: dict[str, GateSet] = {}
        self.settings: dict[str, GateSettings] = {}
        self.skipped: dict[str, str] = {}
        self.n_gates = 0
        self.unit_gates = np.full(units.n_units, -1, dtype=np.int64)
        self.columns: dict[str, Vector] = {}
        self.entries: dict[str, int] = {}

    def gating(self) -> Gating:
        return Gating(self.n_gates, self.unit_gates, self.columns, self.entries)

    def place(self, pattern: str, settings: GateSettings) -> None:
        """Give gates to the layers that a pattern names."""
        heads = settings.kind == "head"
        around = {name for names, _ in self.units.heads for name in names}
        able = around if heads else {name for name in self.modules if self._weights(name)}
        names = [name for name in self.modules if name in able and fnmatchcase(name, pattern)]
        if not names:
            what = "modules with an attention inside" if heads else "layers with weights"
            raise InvalidSetting(
                f"{pattern!r} names none of the {what}: {', '.join(sorted(able)) or 'none'}."
            )
        refused = {}
        for name in names:
            reason = self._place_one(name, settings)
            if reason is not None:
                refused[name] = reason
        if len(refused) == len(names):
            name, reason = next(iter(refused.items()))
            raise InvalidSetting(f"{name!r} cannot have {settings.kind} gates: {reason}.")
        self.skipped |= refused

    def _place_one(self, name: str, settings: GateSettings) -> str | None:
        """Give gates to a layer, or say why it cannot have them."""
        weights = self._weights(name)
        if settings.kind == "weight":
            for weight in weights:
                size = math.prod(self._shape(weight.name))
                which = name if len(weights) == 1 else weight.name
                self.entries[weight.name] = self._add(which, settings, (weight.name,), size)
            return None
        if settings.kind == "input":
            reading = [weight for weight in weights if weight.column_axis is not None]
            if not reading:
                return "it has no columns of its own, and passes units on: gate what it reads from"
            alike = [weight for weight in reading if self._reads_alike(reading[0], weight)]
            size = self._shape(alike[0].name)[alike[0].column_axis or 0]
            places, n_gates = _grouped(np.arange(size), settings.groups, name)
            names = tuple(weight.name for weight in alike)
            first = self._add(name, settings, names, n_gates)
            self.columns |= dict.fromkeys(names, first + places)
            return None
        labels = self._made_by(name, settings.kind)
        units = labels[labels >= 0]
        free = np.array([unit for unit in units if unit not in self.units.kept], dtype=np.int64)
        if not free.size:
            reasons = [self.units.kept[unit] for unit in units.tolist()]
            return reasons[0] if reasons else "it makes no units of its own"
        new = free[self.unit_gates[free] < 0]
        if not new.size:
            self._link(name, int(self.unit_gates[free[0]]))
            return None
        places, _ = _grouped(labels, settings.groups, name)
        chosen = np.isin(labels, new)
        places, n_gates = _in_order(places[chosen])
        first = self._add(name, settings, self._readers(new), n_gates)
        self.unit_gates[labels[chosen]] = first + places
        return None

    def _add(
        self, name: str, settings: GateSettings, parameters: tuple[str, ...], n_gates: int
    ) -> int:
        key = name.replace(".", "/") or "model"
        if key in self.sets:
            key = f"{key}:{settings.kind}"
        if key in self.sets:
            raise InvalidSetting(f"{name!r} is named twice with gates of kind {settings.kind!r}.")
        first = self.n_gates
        self.sets[key] = GateSet(name, settings.kind, parameters, first, n_gates)
        self.settings[key] = settings
        self.n_gates += n_gates
        return first

    def _link(self, name: str, gate: int) -> None:
        for key, gate_set in self.sets.items():
            if gate_set.first <= gate < gate_set.first + gate_set.n_gates:
                self.sets[key] = replace(gate_set, linked=(*gate_set.linked, name))

    def _weights(self, name: str) -> list[Weight]:
        prefix = f"{name}." if name else ""
        own = (f"{prefix}{key}" for key, _ in self.modules[name].named_parameters(recurse=False))
        first = (self.units.first_names.get(key, key) for key in own)
        return [self.units.weights[key] for key in first if key in self.units.weights]

    def _shape(self, name: str) -> tuple[int, ...]:
        place, _, own = name.rpartition(".")
        return tuple(self.modules[place].get_parameter(own).shape)

    def _reads_alike(self, one: Weight, other: Weight) -> bool:
        """Whether two weights of a layer read the same input, as both ways of an LSTM do."""
        left, right = (
            self.units.parameters[weight.name][weight.column_axis or 0] for weight in (one, other)
        )
        if left is None or right is None:
            same_size = self._shape(one.name)[1:] == self._shape(other.name)[1:]
            return left is right and same_size
        return np.array_equal(left, right)

    def _made_by(self, name: str, kind: Kind) -> Vector:
        """Units that a layer makes, one for each output; for heads, those of all attentions."""
        if kind == "head":
            found = [units for names, units in self.units.heads if name in names]
            return np.concatenate(found)
        for weight in self._weights(name):
            labels = (
                None
                if weight.row_axis is None
                else self.units.parameters[weight.name][weight.row_axis]
            )
            if labels is not None:
                return labels
        return np.empty(0, np.int64)

    def _readers(self, units: Vector) -> tuple[str, ...]:
        names = []
        for weight in self.units.weights.values():
            if weight.column_axis is None:
                continue
            labels = self.units.parameters[weight.name][weight.column_axis]
            if labels is not None and np.isin(labels, units).any():
                names.append(weight.name)
        return tuple(names)


def _grouped(labels: Vector, groups: ArrayLike | None, name: str) -> tuple[Vector, int]:
    """A number for each label, from 0 on: of its group, or its own; and how many there are."""
    given = labels if groups is None else np.asarray(groups)
    if given.shape != labels.shape:
        raise ShapeMismatch(
            f"`groups` of {name!r} has shape {given.shape}; give a number for each of its "
            f"{labels.size} outputs or inputs."
        )
    return _in_order(given)


def _in_order(values: ArrayLike) -> tuple[Vector, int]:
    """Number the distinct values in the order in which they first come; and how many there are."""
    _, first, places = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[places.reshape(-1)], first.size
