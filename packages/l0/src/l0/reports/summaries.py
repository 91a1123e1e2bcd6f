"""What a report says of a network with gates: values, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from l0.reports.tables import Table, data_frame, number, percent, sparkline

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Amounts:
    """A size now, in expectation and without gates.

    Attributes:
        hard: What is left in evaluation mode.
        expected: Expected over the draws of the gates.
        dense: With all gates open.
    """

    hard: int
    expected: float
    dense: int

    @property
    def density(self) -> float:
        """Share that is left in evaluation mode; 1 where there is nothing."""
        return self.hard / self.dense if self.dense else 1.0

    def __add__(self, other: Amounts) -> Amounts:
        """Both sizes together."""
        return Amounts(
            self.hard + other.hard, self.expected + other.expected, self.dense + other.dense
        )


NOTHING = Amounts(0, 0.0, 0)
PRODUCTS = "products of activations"
"""The name of what costs multiplications but belongs to no layer, as in attention."""


@dataclass(frozen=True)
class GatesReport:
    """One set of gates.

    Attributes:
        layer: Name of the layer that they were asked for.
        kind: What they switch, or the class of a layer that was made with gates.
        count: Open gates: now, expected, and all of them.
        histogram: How many gates have a `P(active)` in each tenth of `[0, 1]`.
        soft: Mean chance of a draw to be neither 0 nor 1. Only such draws let the gradient of the
            data pass, so this is the share of gates that a training step can move by the data.
        with_gradient: Share of gates whose logit has a gradient other than zero since the last
            backward pass. A penalty in the loss gives one to each gate that is not settled;
            `l0.check_gradients` tells data and penalty apart. None if there is no gradient, as
            before training or after `zero_grad()`.
        settled: Whether all of them are open or shut for ever.
        linked: Other layers that share these gates.
    """

    layer: str
    kind: str
    count: Amounts
    histogram: tuple[int, ...]
    soft: float
    with_gradient: float | None
    settled: bool
    linked: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerReport:
    """One layer with parameters.

    Attributes:
        layer: Its name.
        type: Its class.
        params: Its parameters, those of gates aside.
        macs: Its multiplications for one example; None if the network was not followed, as it was
            not made by `convert`.
    """

    layer: str
    type: str
    params: Amounts
    macs: Amounts | None


@dataclass(frozen=True, repr=False)
class Report:
    """What the gates of a network do; print it, or show it in a notebook.

    Attributes:
        gates: The sets of gates, in the order of their layers.
        layers: The layers with parameters, in order.
        count: Open gates of all sets.
        params: Parameters of all layers.
        macs: Multiplications of all layers for one example, or None if they are not known.
    """

    gates: tuple[GatesReport, ...]
    layers: tuple[LayerReport, ...]
    count: Amounts
    params: Amounts
    macs: Amounts | None

    def lines(self) -> Iterator[tuple[str, GatesReport | None, LayerReport | None]]:
        """Layers beside their gates, in order; for a second set of gates, the layer is None."""
        waiting = list(self.gates)
        for layer in self.layers:
            # Gates of a block come before the first layer inside of it.
            around = [gates for gates in waiting if f"{layer.layer}.".startswith(f"{gates.layer}.")]
            own = [gates for gates in around if gates.layer == layer.layer]
            yield from ((gates.layer, gates, None) for gates in around if gates not in own)
            yield layer.layer, own[0] if own else None, layer
            yield from ((layer.layer, gates, None) for gates in own[1:])
            waiting = [gates for gates in waiting if gates not in around]
        yield from ((gates.layer, gates, None) for gates in waiting)

    def to_frame(self) -> pd.DataFrame:
        """A row for each layer and set of gates; what a row does not have is missing.

        Columns `params`, `params_expected`, `params_dense` sum up to the totals, and so do those of
        `macs` and `open`.

        Raises:
            MissingPackage: If pandas is not installed.
        """
        rows = []
        for name, gates, layer in self.lines():
            row: dict[str, Any] = {"layer": name, "type": layer.type if layer else None}
            row |= {"gates": gates.kind if gates else None}
            row |= _columns("open", gates.count if gates else None)
            for key in ("soft", "with_gradient", "settled", "histogram"):
                row[key] = getattr(gates, key) if gates else None
            row |= _columns("params", layer.params if layer else None)
            row |= _columns("macs", layer.macs if layer else None)
            rows.append(row)
        return data_frame(rows)

    def plot(self) -> Figure:
        """A figure: the chances of the gates, and what is left of each layer.

        Raises:
            MissingPackage: If Plotly is not installed.
        """
        from l0.reports import figures

        return figures.of_report(self)

    def __repr__(self) -> str:
        """Two tables as text: gates, and layers."""
        return "\n\n".join(table.text() for table in self._tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self._tables())

    def _tables(self) -> Iterator[Table]:
        if self.gates:
            yield self._table_of_gates()
        if self.layers:
            yield self._table_of_layers()
        if not self.gates and not self.layers:
            yield Table("No gates and no parameters", ("layer",), [])

    def _table_of_gates(self) -> Table:
        rows = [
            [
                " = ".join([gates.layer, *gates.linked]),
                f"{gates.kind}, settled" if gates.settled else gates.kind,
                f"{gates.count.hard:,.0f} of {gates.count.dense:,.0f}",
                number(gates.count.expected, 1),
                sparkline(gates.histogram),
                percent(gates.soft),
                percent(gates.with_gradient),
            ]
            for gates in self.gates
        ]
        total = f"{self.count.hard:,.0f} of {self.count.dense:,.0f}"
        rows.append(["all", "", total, number(self.count.expected, 1), "", "", ""])
        headers = ("layer", "gates", "open", "expected", "P: 0 to 1", "soft", "gradient")
        return Table("Gates", headers, rows, n_left=2, has_total=True)

    def _table_of_layers(self) -> Table:
        every = [*((part.layer, part.type, part.params, part.macs) for part in self.layers)]
        rows = [
            [name, kind, *_cells(params), *([] if self.macs is None else _cells(macs))]
            for name, kind, params, macs in [*every, ("all", "", self.params, self.macs)]
        ]
        title, headers = "Parameters", ["layer", "type", *_SIZE_HEADERS]
        if self.macs is not None:
            title, headers = "Parameters, and multiplications (MACs)", [*headers, *_MAC_HEADERS]
        return Table(title, headers, rows, n_left=2, has_total=True)


_SIZE_HEADERS = ("params", "expected", "dense", "left")
_MAC_HEADERS = ("MACs", "expected", "dense", "left")


def _columns(name: str, amounts: Amounts | None) -> dict[str, float | None]:
    values = dict.fromkeys(("hard", "expected", "dense")) if amounts is None else asdict(amounts)
    return {name: values["hard"], **{f"{name}_{key}": values[key] for key in ("expected", "dense")}}


def _cells(amounts: Amounts | None) -> list[str]:
    if amounts is None:
        return ["–"] * len(_SIZE_HEADERS)
    sizes = (amounts.hard, amounts.expected, amounts.dense)
    return [*map(number, sizes), percent(amounts.hard, amounts.dense)]
