"""How large a network is when some of its units are gone: parameters, multiplications, gates.

A unit that is shut takes its row, its bias and its norm with it, and its column in every weight
that reads it; so sizes are products over the axes of each parameter. The same formula gives the
expected size (chances in) and the size that is left in the end (zeros and ones in): gates are
independent, and what is shut for certain counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from l0.errors import InvalidSetting
from l0.tracing import Units, Vector

Metric: TypeAlias = Literal["params", "macs", "count"]
METRICS: tuple[Metric, ...] = ("params", "macs", "count")

# A chance is kept this far from 1, where the gradient of `log(1 - p)` is finite.
_SURE = 1e-12


@dataclass(frozen=True)
class Gating:
    """Which gate, by its position among all gates of a model, switches what; -1: none does.

    Attributes:
        n_gates: How many gates there are.
        units: The gate of each unit, shape `(n_units,)`.
        columns: For each weight with gates of its own on its input, the gate of each column.
        entries: For each weight with a gate per entry, the position of the first of them.
    """

    n_gates: int
    units: Vector
    columns: Mapping[str, Vector]
    entries: Mapping[str, int]


class Sizes(nn.Module):
    """Sizes of a gated network as a function of the chances of its gates to be open.

    Args:
        units: The units of the network.
        gating: What its gates switch.
        shapes: Shape of each parameter under the first of its names.
    """

    def __init__(self, units: Units, gating: Gating, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._units, self._gating, self._shapes = units, gating, dict(shapes)
        self._keep("unit_gates", gating.units)
        self._slots()
        self._axes()

    def forward(self, chances: Tensor, metric: Metric = "params") -> Tensor:
        """The size for given chances.

        Args:
            chances: Chance of each gate to be open, in `[0, 1]`, shape `(n_gates,)`.
            metric: `"params"` (parameters left), `"macs"` (multiplications left for one example)
                or `"count"` (open gates).

        Returns:
            A scalar in float64, differentiable in `chances`; a whole number where all chances
            are 0 or 1, but for the multiplications of pooled or strided parts.
        """
        if metric == "count":
            return chances.double().sum()
        padded, alive, reached = self._reaching(chances)
        left = self._left(padded, alive, reached)
        total = (left * self.get_buffer(f"factors_{metric}")).sum()
        if metric == "macs":
            for place, product in enumerate(self._units.products):
                part = alive[self.get_buffer(f"product_{place}")].mean()
                total = total + product.multiplications * part
        return total

    def by_parameter(self, chances: Tensor, metric: Metric = "params") -> dict[str, Tensor]:
        """The part of each parameter in the size, for given chances.

        Args:
            chances: Chance of each gate to be open, in `[0, 1]`, shape `(n_gates,)`.
            metric: `"params"` or `"macs"`: gates to count belong to no parameter.

        Returns:
            A scalar for each parameter under the first of its names. Multiplications are those of
            weights only, and products of activations, as in attention, are in none of them.

        Raises:
            InvalidSetting: If `metric` is another.
        """
        if metric not in ("params", "macs"):
            raise InvalidSetting(f"no parameter has a part in {metric!r}. Take 'params' or 'macs'.")
        left = self._left(*self._reaching(chances)) * self.get_buffer(f"factors_{metric}")
        return dict(zip(self._shapes, left.unbind(), strict=True))

    def gate_sizes(self, metric: Metric = "params") -> Tensor:
        """What each gate switches while all others are open: shape `(n_gates,)`, float64."""
        nearly = torch.full((self._gating.n_gates,), 1 - 1e-6, dtype=torch.float64)
        device = self.get_buffer("unit_gates").device
        chances = nearly.to(device).requires_grad_()
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(self(chances, metric), chances)
        return slopes.round()

    def _reaching(self, chances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Chances with a 1 for "no gate"; of each unit to be alive; of its own gate to be open."""
        chances = chances.double()
        padded = torch.cat([chances, chances.new_ones(1)])
        reached = padded[self.get_buffer("unit_gates")]
        alive = torch.cat([reached * self._is_read(padded), padded[-1:]])
        return padded, alive, torch.cat([reached, padded[-1:]])

    def _slots(self) -> None:
        """Where units are read: they are alive as long as one of the places is open."""
        units, gates = [], []
        always = np.zeros(self._units.n_units + 1, dtype=bool)
        always[[*self._units.kept, *self._units.normalised, -1]] = True
        read = np.zeros_like(always)
        for weight in self._units.weights.values():
            labels = None
            if weight.column_axis is not None:
                labels = self._units.parameters[weight.name][weight.column_axis]
            if labels is None:
                continue
            read[labels] = True
            own = self._gating.columns.get(weight.name, np.full(labels.shape, -1))
            always[labels[own < 0]] = True
            units.append(labels[own >= 0])
            gates.append(own[own >= 0])
        always |= ~read
        where = np.concatenate([np.empty(0, np.int64), *units])
        which = np.concatenate([np.empty(0, np.int64), *gates])
        counted = ~always[where]
        self._keep("slot_units", where[counted])
        self._keep("slot_gates", which[counted])
        self._keep("always_read", always[:-1])
        for place, product in enumerate(self._units.products):
            self._keep(f"product_{place}", product.units)

    def _is_read(self, padded: Tensor) -> Tensor:
        """Chance that a unit is read by any weight, as far as gates of single columns decide."""
        slots = padded[self.get_buffer("slot_gates")].clamp(max=1 - _SURE)
        shut = padded.new_zeros(self._units.n_units)
        shut = shut.index_add(0, self.get_buffer("slot_units"), torch.log1p(-slots))
        return torch.where(self.get_buffer("always_read"), 1.0, 1 - torch.exp(shut))

    def _axes(self) -> None:
        """Lay the axes of all parameters out, so that their lengths are sums over few vectors.

        Axes with the same units have the same length; each such vector is summed once.
        """
        vectors: dict[tuple[bytes, bytes], int] = {}
        labels, gates, of_vector = [], [], []
        places, rests, pairs = [], [], []
        for row, (name, shape) in enumerate(self._shapes.items()):
            mine, rest, known = [], 1.0, []
            for axis, size in enumerate(shape):
                units = self._units.parameters[name][axis]
                own = self._gating.columns.get(name) if self._is_column(name, axis) else None
                if units is None and own is None:
                    rest *= size
                    continue
                nothing = np.full(size, -1, dtype=np.int64)
                along = (nothing if units is None else units, nothing if own is None else own)
                key = (along[0].tobytes(), along[1].tobytes())
                if key not in vectors:
                    vectors[key] = len(vectors)
                    labels.append(along[0])
                    gates.append(along[1])
                    of_vector.append(np.full(size, vectors[key]))
                mine.append(vectors[key])
                known.append(along[0])
            places.append(mine)
            rests.append(0.0 if name in self._gating.entries else rest)
            if len(known) == 2 and name not in self._gating.entries:
                pairs += [(row, unit, rest * n) for unit, n in _in_both(*known)]
        empty = np.empty(0, np.int64)
        self._keep("labels", np.concatenate([empty, *labels]))
        self._keep("gates", np.concatenate([empty, *gates]))
        self._keep("of_vector", np.concatenate([empty, *of_vector]))
        ends = np.cumsum([part.size for part in labels]).tolist()
        starts = [0, *ends[:-1]]
        self._spans = [slice(start, end) for start, end in zip(starts, ends, strict=False)]
        self._n_vectors = len(vectors)
        # The last vector stands for an axis that is not there.
        width = max(map(len, places), default=0)
        padded = [mine + [len(vectors)] * (width - len(mine)) for mine in places]
        self._keep("places", np.array(padded, dtype=np.int64).reshape(len(places), width))
        self._keep("rests", np.array(rests))
        self._keep("pair_rows", np.array([row for row, _, _ in pairs], dtype=np.int64))
        self._keep("pair_units", np.array([unit for _, unit, _ in pairs], dtype=np.int64))
        self._keep("pair_counts", np.array([n for _, _, n in pairs], dtype=np.float64))
        self._keep("factors_params", np.ones(len(self._shapes)))
        weights = self._units.weights
        used = [weights[n].multiplications if n in weights else 0.0 for n in self._shapes]
        self._keep("factors_macs", np.array(used, dtype=np.float64))

    def _is_column(self, name: str, axis: int) -> bool:
        weight = self._units.weights.get(name)
        return weight is not None and weight.column_axis == axis

    def _left(self, padded: Tensor, alive: Tensor, reached: Tensor) -> Tensor:
        """Entries of each parameter that are left, shape `(n_parameters,)`."""
        labels, gates = self.get_buffer("labels"), self.get_buffer("gates")
        # A column with a gate of its own keeps its unit alive while that gate is open.
        chance = torch.where(gates >= 0, reached[labels] * padded[gates], alive[labels])
        lengths = padded.new_zeros(self._n_vectors).index_add(
            0, self.get_buffer("of_vector"), chance
        )
        lengths = torch.cat([lengths, padded[-1:]])
        left = self.get_buffer("rests")
        for places in self.get_buffer("places").unbind(1):
            left = left * lengths[places]
        # Where rows and columns belong to one unit, its chance counts once and is not squared.
        twice = alive[self.get_buffer("pair_units")]
        twice = (twice - twice**2) * self.get_buffer("pair_counts")
        left = left.index_add(0, self.get_buffer("pair_rows"), twice)
        for row, name in enumerate(self._shapes):
            if name in self._gating.entries:
                entries = self._entries_left(name, padded, chance)
                left = left.index_add(0, left.new_tensor([row], dtype=torch.int64), entries[None])
        return left

    def _entries_left(self, name: str, padded: Tensor, chance: Tensor) -> Tensor:
        """Entries of a weight with a gate for each that are left."""
        shape, first = self._shapes[name], self._gating.entries[name]
        left = padded[first : first + math.prod(shape)].view(shape)
        vectors = iter(self.get_buffer("places")[list(self._shapes).index(name)].tolist())
        for axis in range(len(shape)):
            own = self._is_column(name, axis) and name in self._gating.columns
            if self._units.parameters[name][axis] is not None or own:
                along = chance[self._spans[next(vectors)]]
                left = left * along.view([-1 if i == axis else 1 for i in range(len(shape))])
        return left.sum()

    def _keep(self, name: str, array: NDArray[Any]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)), persistent=False)


def _in_both(rows: Vector, columns: Vector) -> list[tuple[int, int]]:
    """Units on both axes of a weight, and in how many of its entries they meet themselves."""
    both = np.intersect1d(rows[rows >= 0], columns[columns >= 0])
    return [
        (int(unit), int(np.count_nonzero(rows == unit) * np.count_nonzero(columns == unit)))
        for unit in both
    ]
