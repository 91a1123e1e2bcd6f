"""A network beside the smaller one that was made from it: what each layer was, and what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from l0.gated_model import GatedModel
from l0.reports.summaries import PRODUCTS
from l0.reports.tables import Table, data_frame, number, percent
from l0.sizes import Gating, Sizes
from l0.tracing import trace

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerChange:
    """One layer before and after.

    Attributes:
        layer: Its name.
        type: Its class.
        shapes: Shape of its largest parameter, outputs first, before and after; None where there
            is no such layer.
        params: Its parameters before and after.
        macs: Its multiplications for one example before and after; None if they are not known.
    """

    layer: str
    type: str
    shapes: tuple[Shape | None, Shape | None]
    params: tuple[int, int]
    macs: tuple[int, int] | None


@dataclass(frozen=True, repr=False)
class Comparison:
    """A network beside a smaller one; print it, or show it in a notebook.

    Attributes:
        layers: The layers of both, in order.
        params: Parameters before and after.
        macs: Multiplications for one example before and after; None if they are not known.
    """

    layers: tuple[LayerChange, ...]
    params: tuple[int, int]
    macs: tuple[int, int] | None

    def to_frame(self) -> pd.DataFrame:
        """A row for each layer.

        Raises:
            MissingPackage: If pandas is not installed.
        """
        rows = []
        for change in self.layers:
            macs = change.macs or (None, None)
            rows.append(
                {
                    "layer": change.layer,
                    "type": change.type,
                    "shape_before": change.shapes[0],
                    "shape_after": change.shapes[1],
                    "params_before": change.params[0],
                    "params_after": change.params[1],
                    "macs_before": macs[0],
                    "macs_after": macs[1],
                }
            )
        return data_frame(rows)

    def plot(self) -> Figure:
        """A figure of the shrunk layers: rows and columns of each weight, before and after.

        Raises:
            MissingPackage: If Plotly is not installed.
        """
        from l0.reports import figures

        return figures.of_comparison(self)

    def __repr__(self) -> str:
        """A table as text."""
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        rows = [
            [
                change.layer,
                change.type,
                *map(_times, change.shapes),
                *_cells(change.params),
                *(_cells(change.macs) if self.macs is not None else []),
            ]
            for change in self.layers
        ]
        total = _cells(self.macs) if self.macs is not None else []
        rows.append(["all", "", "", "", *_cells(self.params), *total])
        headers = ["layer", "type", "shape", "now", "params", "now", "left"]
        if self.macs is not None:
            headers += ["MACs", "now", "left"]
        return Table("Before and after", headers, rows, n_left=2, has_total=True)


def compare(
    dense: nn.Module, small: nn.Module, example_inputs: Sequence[Any] | None = None
) -> Comparison:
    """Put a network beside the smaller one that was made from it, layer by layer.

    Layers are matched by name; any two networks whose layers share names can be compared.

    Args:
        dense: The network as it was; of a gated one, its original module is taken.
        small: The smaller one, such as `materialize` gives.
        example_inputs: Inputs to follow through both, to count multiplications; they are not
            counted if it is not given. The values do not matter.

    Returns:
        A comparison that prints as a table; `to_frame()` and `plot()` give the rest.

    Raises:
        CannotTrace: If multiplications are wanted, and a network cannot be followed.

    Examples:
        >>> def network(width):
        ...     return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
        >>> print(compare(network(30), network(6), [torch.zeros(2, 8)]))
        Before and after
        layer  type     shape    now  params  now  left  MACs  now  left
        ────────────────────────────────────────────────────────────────
        0      Linear  30 × 8  6 × 8     270   54   20%   240   48   20%
        2      Linear  2 × 30  2 × 6      62   14   23%    60   12   20%
        ────────────────────────────────────────────────────────────────
        all                              332   68   20%   300   60   20%
    """
    sides = (dense.module if isinstance(dense, GatedModel) else dense, small)
    params = [_params(side) for side in sides]
    macs = None if example_inputs is None else [_macs(side, example_inputs) for side in sides]
    names = dict.fromkeys(name for sizes in [*params, *(macs or [])] for name in sizes)
    layers = tuple(
        LayerChange(
            layer=name,
            type=_type_of(name, sides),
            shapes=_shapes(sides, name),
            params=_both(params, name),
            macs=None if macs is None else _both(macs, name),
        )
        for name in names
    )
    totals = [sum(sizes.values()) for sizes in params]
    of_macs = None if macs is None else [round(sum(sizes.values())) for sizes in macs]
    return Comparison(
        layers,
        (round(totals[0]), round(totals[1])),
        None if of_macs is None else (of_macs[0], of_macs[1]),
    )


def _params(module: nn.Module) -> dict[str, float]:
    """Parameters of each layer, those that are shared under the first of their layers."""
    sizes: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        layer = name.rpartition(".")[0]
        sizes[layer] = sizes.get(layer, 0) + parameter.numel()
    return sizes


def _macs(module: nn.Module, example_inputs: Sequence[Any]) -> dict[str, float]:
    """Multiplications of each layer for one example, and of products of activations."""
    units = trace(module, example_inputs).units()
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    no_gates = Gating(0, np.full(units.n_units, -1, dtype=np.int64), {}, {})
    sizes = Sizes(units, no_gates, shapes)
    nothing = torch.empty(0)
    macs: dict[str, float] = {}
    for name, size in sizes.by_parameter(nothing, "macs").items():
        layer = name.rpartition(".")[0]
        macs[layer] = macs.get(layer, 0) + float(size)
    if units.products:
        macs[PRODUCTS] = float(sizes(nothing, "macs")) - sum(macs.values())
    return macs


def _shapes(sides: Sequence[nn.Module], layer: str) -> tuple[Shape | None, Shape | None]:
    """Shape of a layer's largest parameter, and of the one with the same name on the other side."""
    own: list[dict[str, Shape]] = []
    for side in sides:
        found = dict(side.named_modules()).get(layer)
        pairs = [] if found is None else [*found.named_parameters(recurse=False)]
        own.append({name: tuple(parameter.shape) for name, parameter in pairs})
    before, after = own
    largest = max(before or after, key=lambda name: math.prod((before or after)[name]), default="")
    elsewhere = max(after.values(), key=math.prod, default=None)
    return before.get(largest), after.get(largest, elsewhere)


def _type_of(name: str, sides: Sequence[nn.Module]) -> str:
    for side in sides:
        found = dict(side.named_modules()).get(name)
        if found is not None:
            return type(found).__name__
    return ""


def _both(sizes: Sequence[Mapping[str, float]], name: str) -> tuple[int, int]:
    before, after = (round(side.get(name, 0)) for side in sizes)
    return before, after


def _times(shape: Shape | None) -> str:
    return "–" if shape is None else " × ".join(map(str, shape))


def _cells(sizes: tuple[int, int] | None) -> list[str]:
    if sizes is None:
        return ["–"] * 3
    before, after = sizes
    return [number(before), number(after), percent(after, before)]
