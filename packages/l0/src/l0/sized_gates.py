"""All gates of a model in a row, and the size of the model for given chances of them.

A converted network knows its sizes as products over linked layers; in a network that was built
out of gated layers each gate switches its own parameters. A budget sees both in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from l0.distribution import log_alpha_for, prob_active
from l0.errors import InvalidSetting
from l0.gated_model import GatedModel
from l0.hard_concrete import HardConcrete
from l0.projection import Counts, SizesOf
from l0.sizes import Metric

# How many values of gates are worked on in one go: 32 MB of them.
_BATCH_VALUES = 4_000_000


class SizedGates(Protocol):
    """Sets of gates in a row, with the size of what they switch."""

    names: tuple[str, ...]
    gates: tuple[HardConcrete, ...]

    def size(self, chances: Tensor, metric: Metric) -> Tensor:
        """The size for given chances, shape `(n_gates,)`: a scalar in float64."""
        ...

    def switched(self, metric: Metric) -> Tensor:
        """What each gate switches while all others are open, shape `(n_gates,)`, float64."""
        ...

    def settle(self, open_mask: Tensor) -> None:
        """Fix each gate as open or shut for ever, booleans of shape `(n_gates,)`."""
        ...


def sized_gates(model: nn.Module) -> SizedGates:
    """The gates of any model in a row.

    Sets are named after the layers that hold them, with `.` between parts; a converted network
    inside of another module has the name of its place in front.

    Args:
        model: A `GatedModel`, a gate, or any module that contains some of them.

    Raises:
        InvalidSetting: If the model has no gates.

    Examples:
        >>> from l0.layers import L0Linear
        >>> row = sized_gates(nn.Sequential(L0Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> row.names, row.size(torch.ones(4), "params").item()
        (('0',), 23.0)
    """
    converted = [
        _Converted(name, module)
        for name, module in model.named_modules()
        if isinstance(module, GatedModel)
    ]
    parts: list[SizedGates] = list(converted)
    rest = _HandBuilt(model, [part.model for part in converted])
    if rest.gates or not parts:
        parts.append(rest)
    joined = parts[0] if len(parts) == 1 else _Joined(parts)
    if not joined.gates:
        raise InvalidSetting(
            "the model has no gates. `l0.convert(model, ...)` gives it some, or build it out of "
            "`L0Linear` and `L0Conv2d`."
        )
    return joined


def chances(row: SizedGates) -> Tensor:
    """Chance of each gate not to be zero, shape `(n_gates,)`; differentiable in the logits."""
    limits = {gate.limits for gate in row.gates}
    if len(limits) > 1:
        return torch.cat([gate.prob_active().flatten() for gate in row.gates])
    # Alike but for their temperatures: one formula for all of them, as a budget asks at each step.
    logits = torch.cat([gate.log_alpha.flatten() for gate in row.gates])
    temperatures = torch.cat(
        [gate.temperature.expand(gate.log_alpha.numel()) for gate in row.gates]
    )
    return prob_active(logits, temperatures, limits.pop())


@torch.no_grad()
def active_logits(gate: HardConcrete) -> Tensor:
    """Logit of the chance of each gate not to be zero, shape `(n_gates,)`, float64.

    It orders gates of different temperatures, also where the chances themselves round to 1.
    """
    even = log_alpha_for(torch.tensor(0.5), gate.temperature.cpu().double(), gate.limits)
    return gate.log_alpha.detach().flatten().to("cpu", torch.float64) - even


@dataclass(frozen=True)
class Part:
    """What can be limited: the whole model, or what one set of gates switches.

    Attributes:
        name: `"model"`, or the name of the set.
        sets: Places of the sets that matter for its size.
        size: Its size, in float64, for given chances of all gates.
        total: Its size with all gates open.
    """

    name: str
    sets: list[int]
    size: Callable[[Tensor], Tensor]
    total: float


def whole(row: SizedGates, metric: Metric) -> Part:
    """The whole model as something to limit."""

    def size(chances: Tensor) -> Tensor:
        return row.size(chances, metric)

    everything = list(range(len(row.gates)))
    return Part("model", everything, size, _total(size, row))


def part_of_set(row: SizedGates, place: int, metric: Metric) -> Part:
    """What one set of gates switches while all other gates are open, as something to limit."""
    lengths = [gate.log_alpha.numel() for gate in row.gates]
    first = sum(lengths[:place])
    mine = slice(first, first + lengths[place])
    switched = row.switched(metric)[mine]

    def size(chances: Tensor) -> Tensor:
        return (chances[..., mine].double() * switched.to(chances.device)).sum()

    return Part(row.names[place], [place], size, _total(size, row))


class Order:
    """The gates of each set from the one that stays longest to the one that goes first.

    Args:
        row: The gates.
        min_open: How many stay open in each set at least.

    Attributes:
        scores: For each set the logits of `P(z > 0)`, descending.
        active: Gates of each set that are open in evaluation mode, shape `(n_sets,)`.
        lower: Gates of each set that stay open in any case.
        upper: Gates of each set that can be open; settled ones stay as they are.
    """

    def __init__(self, row: SizedGates, min_open: int) -> None:
        self._device = row.gates[0].log_alpha.device
        all_scores = [active_logits(gate).numpy() for gate in row.gates]
        self._set_index = np.repeat(np.arange(len(all_scores)), [len(s) for s in all_scores])
        self.scores, ranks = [], []
        # Ties are broken evenly over the gates, and the same way for each count.
        rng = np.random.default_rng(0)
        for score in all_scores:
            order = np.lexsort((rng.permutation(score.size), -score))
            self.scores.append(score[order])
            ranks.append(np.argsort(order))
        self._ranks = np.concatenate(ranks)
        self.active = np.array([np.count_nonzero(score > 0) for score in all_scores])
        n_gates = np.array([score.size for score in all_scores])
        self.upper = n_gates - [np.count_nonzero(score == -np.inf) for score in all_scores]
        open_for_ever = [np.count_nonzero(score == np.inf) for score in all_scores]
        self.lower = np.minimum(np.maximum(open_for_ever, min_open), self.upper)

    def mask(self, counts: Counts) -> Tensor:
        """Which gates are open if those that come first are: counts `(..., n_sets)`."""
        mask = torch.from_numpy(self._ranks < counts[..., self._set_index])
        return mask.to(self._device)

    def sizes_of(self, part: Part) -> SizesOf:
        """Sizes of a part as a function of the counts of its sets, other sets at their most."""
        size_of_each = torch.vmap(part.size)
        n_rows = max(_BATCH_VALUES // max(self._ranks.size, 1), 1)

        @torch.no_grad()
        def sizes(counts: Counts) -> Counts:
            every = np.repeat(self.upper[None], len(counts), axis=0)
            every[:, part.sets] = counts
            found = [size_of_each(self.mask(rows)) for rows in _batches(every, n_rows)]
            rounded: Counts = torch.cat(found).round().long().cpu().numpy()
            return rounded

        return sizes

    def reachable(self, part: Part) -> tuple[int, int]:
        """The smallest and the largest size of a part."""
        ends = np.stack([self.lower, self.upper])[:, part.sets]
        lowest, highest = self.sizes_of(part)(ends).tolist()
        return lowest, highest


@runtime_checkable
class _Settles(Protocol):
    gate: HardConcrete

    def settle(self, open_mask: Tensor) -> None: ...


class _Converted:
    """The gates of a `GatedModel`."""

    def __init__(self, place: str, model: GatedModel) -> None:
        self.model = model
        prefix = f"{place}." if place else ""
        pairs = list(model.named_gates())
        self.names = tuple(prefix + key.replace("/", ".") for key, _ in pairs)
        self.gates = tuple(gate for _, gate in pairs)

    def size(self, chances: Tensor, metric: Metric) -> Tensor:
        size: Tensor = self.model.sizes(chances, metric)
        return size

    def switched(self, metric: Metric) -> Tensor:
        return self.model.sizes.gate_sizes(metric)

    def settle(self, open_mask: Tensor) -> None:
        self.model.settle(open_mask)


class _HandBuilt:
    """Gates in a module that was built with them; those of converted networks are left out."""

    def __init__(self, model: nn.Module, converted: list[GatedModel]) -> None:
        elsewhere = {id(part) for root in converted for part in root.modules()}
        found = [
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, HardConcrete) and id(module) not in elsewhere
        ]
        holders = dict(model.named_modules())
        self.gates = tuple(gate for _, gate in found)
        self._holders: list[nn.Module] = []
        names = []
        for name, gate in found:
            place = name.rpartition(".")[0]
            holder = holders[place]
            held = place != "" and getattr(holder, "gate", None) is gate
            names.append(place if held else name)
            self._holders.append(holder if held else gate)
        self.names = tuple(names)
        logits = {id(gate.log_alpha) for gate in self.gates}
        others = {id(p) for root in converted for p in root.parameters()} | logits
        n_all = sum(p.numel() for p in model.parameters() if id(p) not in others)
        self._n_ungated = max(n_all - sum(gate.n_parameters for gate in self.gates), 0)

    def size(self, chances: Tensor, metric: Metric) -> Tensor:
        ungated = self._n_ungated if metric == "params" else 0
        return ungated + (chances.double() * self.switched(metric).to(chances.device)).sum()

    def switched(self, metric: Metric) -> Tensor:
        if metric == "macs":
            raise InvalidSetting(
                "multiplications are known for converted networks only, as they depend on the "
                'size of the input. Use `l0.convert`, or the metric "params" or "count".'
            )
        return torch.cat([_switched_by(gate, metric) for gate in self.gates])

    def settle(self, open_mask: Tensor) -> None:
        for holder, gate, part in zip(
            self._holders, self.gates, self._parts(open_mask), strict=True
        ):
            settling = holder if isinstance(holder, _Settles) else gate
            settling.settle(part.view(gate.log_alpha.shape))

    def _parts(self, row: Tensor) -> Iterator[Tensor]:
        lengths = [gate.log_alpha.numel() for gate in self.gates]
        yield from torch.split(row, lengths)


class _Joined:
    """Several parts of a model, one after the other."""

    def __init__(self, parts: list[SizedGates]) -> None:
        self._parts = parts
        self.names = tuple(name for part in parts for name in part.names)
        self.gates = tuple(gate for part in parts for gate in part.gates)

    def size(self, chances: Tensor, metric: Metric) -> Tensor:
        sizes = [part.size(own, metric) for part, own in self._with(chances)]
        return torch.stack(sizes).sum()

    def switched(self, metric: Metric) -> Tensor:
        return torch.cat([part.switched(metric) for part in self._parts])

    def settle(self, open_mask: Tensor) -> None:
        for part, own in self._with(open_mask):
            part.settle(own)

    def _with(self, row: Tensor) -> Iterator[tuple[SizedGates, Tensor]]:
        lengths = [sum(gate.log_alpha.numel() for gate in part.gates) for part in self._parts]
        yield from zip(self._parts, torch.split(row, lengths), strict=True)


def _switched_by(gate: HardConcrete, metric: Metric) -> Tensor:
    each = torch.ones((), dtype=torch.float64) if metric == "count" else gate.group_size
    per_gate = torch.as_tensor(each, dtype=torch.float64, device=gate.log_alpha.device)
    return per_gate.expand(gate.log_alpha.shape).flatten()


def _total(size: Callable[[Tensor], Tensor], row: SizedGates) -> float:
    n_gates = sum(gate.log_alpha.numel() for gate in row.gates)
    device = row.gates[0].log_alpha.device
    return float(size(torch.ones(n_gates, dtype=torch.float64, device=device)))


def _batches(rows: Counts, n_rows: int) -> Iterator[Counts]:
    return (rows[start : start + n_rows] for start in range(0, len(rows), n_rows))
