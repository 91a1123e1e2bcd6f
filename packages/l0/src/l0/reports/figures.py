"""Figures of reports, comparisons and trainings: pure functions of values, drawn by Plotly.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l0.errors import MissingPackage
from l0.reports.palette import AFTER, BEFORE, FONT, GRID, INK, MUTED, PAPER
from l0.reports.tables import percent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from l0.reports.comparison import Comparison, LayerChange
    from l0.reports.progress import History
    from l0.reports.summaries import GatesReport, LayerReport, Report

PALE = [[0.0, "#dcebf5"], [1.0, AFTER]]
CHARACTERS_A_LINE = 100
SQUARES_A_ROW = 5
SQUARE, LABELS = 150, 80


def load_plotly() -> Any:
    """The Plotly package: the only place that imports it.

    Raises:
        MissingPackage: If it is not installed.
    """
    try:
        import plotly
        import plotly.graph_objects
        import plotly.subplots
    except ImportError as error:
        raise MissingPackage(
            "figures need Plotly. Install it with: pip install 'l0-python[viz]'"
        ) from error
    return plotly


def of_report(report: Report) -> Figure:
    """The chances of each set of gates, beside what is left of each layer."""
    lines = list(report.lines())
    heights = np.arange(len(lines), 0, -1.0)
    figure = _blank(
        "Gates and layers",
        "Left: how many gates of a set are open with which chance. Right: parameters that are left "
        "in evaluation mode (bar) and expected (mark).",
        height=150 + 40 * len(lines),
        columns=(0.5, 0.5),
    )
    if report.gates:
        figure.add_heatmap(
            **_cells([gates for _, gates, _ in lines]),
            y=heights,
            hoverinfo="text",
            colorscale=PALE,
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=8,
            row=1,
            col=1,
        )
    _add_sizes(figure, heights, [layer for _, _, layer in lines])
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="P(active)", range=[0, 1], tickformat=".1f", row=1, col=1)
    figure.update_xaxes(
        title="share of the parameters",
        range=[0, 1.2],
        tickvals=[0, 0.5, 1],
        tickformat=".0%",
        row=1,
        col=2,
    )
    names = [
        f"{_escaped(name)}<br>{gates.count.hard:,} of {gates.count.dense:,} open"
        if gates
        else _escaped(name)
        for name, gates, _ in lines
    ]
    figure.update_yaxes(range=[0.4, len(lines) + 0.6], showgrid=False)
    figure.update_yaxes(tickvals=heights, ticktext=names, row=1, col=1)
    figure.update_yaxes(showticklabels=False, row=1, col=2)
    return figure


def of_comparison(comparison: Comparison) -> Figure:
    """Each weight as a square of its rows and columns, and what is left of it."""
    drawn = [change for change in comparison.layers if len(change.shapes[0] or ()) >= 2]
    n_columns = min(max(len(drawn), 1), SQUARES_A_ROW)
    n_rows = max(-(-len(drawn) // n_columns), 1)
    before, after = comparison.params
    plot_height = SQUARE * n_rows + LABELS * (n_rows - 1)
    figure = _blank(
        "What is left of each layer",
        f"Outline: all inputs and outputs of a layer. Filled: those that are left. "
        f"All layers: {after:,} of {before:,} parameters ({percent(after, before)}).",
        height=plot_height + 112 + LABELS,
        rows=n_rows,
        spacing=LABELS / plot_height,
        columns=(1.0,) * n_columns,
    )
    for place, change in enumerate(drawn):
        _add_square(figure, change, place // n_columns + 1, place % n_columns + 1)
    figure.update_xaxes(range=[-0.02, 1.02], visible=False)
    figure.update_yaxes(range=[-0.02, 1.02], visible=False)
    figure.update_layout(showlegend=False, margin={"b": LABELS})
    return figure


def of_history(history: History) -> Figure:
    """Loss and densities over the steps of a training."""
    moments = history.moments
    steps = [moment.step for moment in moments]
    figure = _blank(
        "Training",
        f"Above: loss. Below: share of {_WORDS[history.metric]} that is left, expected over the "
        "draws of the gates, and in evaluation mode."
        + ("" if history.goal is None else " Dashed: the goal."),
        height=520,
        rows=2,
    )
    lines = (
        ("loss", [moment.loss for moment in moments], INK, "solid", 1),
        ("expected", [moment.expected for moment in moments], BEFORE, "solid", 2),
        ("evaluation mode", [moment.hard for moment in moments], AFTER, "solid", 2),
    )
    for name, values, colour, dash, row in lines:
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            name=name,
            showlegend=row == 2,
            row=row,
            col=1,
        )
    if history.goal is not None:
        figure.add_hline(
            y=history.goal, line={"color": MUTED, "width": 1, "dash": "dash"}, row=2, col=1
        )
    figure.update_xaxes(title="step", tickformat=",d", row=2, col=1)
    figure.update_yaxes(title="loss", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="density", tickformat=".0%", rangemode="tozero", row=2, col=1)
    return figure


_WORDS = {"params": "the parameters", "macs": "the multiplications", "count": "the gates"}


def _add_sizes(
    figure: Figure, heights: NDArray[np.float64], layers: Sequence[LayerReport | None]
) -> None:
    """Share of the parameters of each layer that is left, as bar and number, and the expected."""
    rows = [(y, layer) for y, layer in zip(heights, layers, strict=True) if layer]
    rows = [(y, layer) for y, layer in rows if layer.params.dense]
    now = [layer.params.density for _, layer in rows]
    expected = [layer.params.expected / layer.params.dense for _, layer in rows]
    facts = [
        f"{_escaped(layer.layer)}<br>{layer.params.hard:,} of {layer.params.dense:,} parameters"
        f"<br>{layer.params.expected:,.0f} expected"
        for _, layer in rows
    ]
    common = {"y": [y for y, _ in rows], "hovertext": facts, "hoverinfo": "text"}
    place = {"row": 1, "col": 2}
    bar = {"orientation": "h", "width": 0.6, "marker": {"color": AFTER}}
    figure.add_bar(x=now, **bar, **common, **place)
    mark = {"symbol": "line-ns", "size": 16, "line": {"color": BEFORE, "width": 3}}
    figure.add_scatter(x=expected, mode="markers", marker=mark, **common, **place)
    figure.add_scatter(
        x=np.maximum(now, expected),
        mode="text",
        text=[f"  {percent(share)}" for share in now],
        textposition="middle right",
        **common,
        **place,
    )


def _cells(rows: Sequence[GatesReport | None]) -> dict[str, Any]:
    """Histograms as rows of a heat map; nothing is drawn where there are no gates."""
    n_bins = max(len(gates.histogram) for gates in rows if gates)
    tenths = np.arange(n_bins) / n_bins
    shares = np.full((len(rows), n_bins), np.nan)
    facts = np.full((len(rows), n_bins), "", dtype=object)
    for place, gates in enumerate(rows):
        for column, count in enumerate(gates.histogram if gates else ()):
            if gates and count:
                # The square root shows a few gates beside many.
                shares[place, column] = (count / gates.count.dense) ** 0.5
                low, high = column / n_bins, (column + 1) / n_bins
                facts[place, column] = (
                    f"{_escaped(gates.layer)}, {gates.kind}<br>{count:,} of {gates.count.dense:,} "
                    f"gates with a chance<br>of {low:.1f} to {high:.1f}"
                )
    return {"x": tenths + 0.5 / n_bins, "z": shares, "text": facts}


def _add_square(figure: Figure, change: LayerChange, row: int, column: int) -> None:
    """A layer as a square: rows from top to bottom are outputs, columns inputs."""
    before, after = change.shapes
    outputs, inputs = (before or (0, 0))[:2]
    kept_outputs, kept_inputs = (after or (0, 0))[:2]
    name = _escaped(change.layer)
    facts = (
        f"<b>{name}</b><br>inputs: {kept_inputs:,} of {inputs:,}<br>outputs: {kept_outputs:,} of "
        f"{outputs:,}<br>parameters: {change.params[1]:,} of {change.params[0]:,}"
    )
    right, low = kept_inputs / max(inputs, 1), 1 - kept_outputs / max(outputs, 1)
    for across, down, fill, line in (
        ((0, 1, 1, 0, 0), (0, 0, 1, 1, 0), "rgba(0,0,0,0)", MUTED),
        ((0, right, right, 0, 0), (low, low, 1, 1, low), AFTER, AFTER),
    ):
        figure.add_scatter(
            x=across,
            y=down,
            mode="lines",
            fill="toself",
            fillcolor=fill,
            line={"color": line, "width": 1},
            text=facts,
            hoverinfo="text",
            row=row,
            col=column,
        )
    figure.add_annotation(
        text=f"<b>{name}</b><br>{kept_inputs:,} of {inputs:,} in<br>"
        f"{kept_outputs:,} of {outputs:,} out",
        x=0,
        xanchor="left",
        y=0,
        yanchor="top",
        align="left",
        showarrow=False,
        row=row,
        col=column,
    )


def _blank(
    title: str,
    subtitle: str,
    height: int,
    *,
    rows: int = 1,
    columns: Sequence[float] = (1.0,),
    spacing: float = 0.12,
) -> Figure:
    """An empty figure, with panels in rows and columns."""
    figure: Figure = load_plotly().subplots.make_subplots(
        rows=rows,
        cols=len(columns),
        column_widths=list(columns),
        horizontal_spacing=0.05,
        vertical_spacing=spacing,
        shared_xaxes=len(columns) == 1,
    )
    lines = textwrap.wrap(subtitle, CHARACTERS_A_LINE)
    figure.update_layout(
        title={
            "text": f"<b>{title}</b>",
            "font": {"size": 18},
            "subtitle": {"text": "<br>".join(lines), "font": {"color": MUTED, "size": 13}},
            "x": 0.01,
            "xref": "container",
            "y": 1 - 16 / height,
            "yanchor": "top",
        },
        font={"family": FONT, "size": 13, "color": INK},
        height=height,
        margin={"l": 10, "r": 16, "t": 78 + 17 * len(lines), "b": 56},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        hoverlabel={"bgcolor": PAPER, "font": {"family": FONT, "color": INK}, "align": "left"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    axis = {"gridcolor": GRID, "linecolor": MUTED, "zeroline": False, "automargin": True}
    figure.update_xaxes(showline=True, ticks="outside", tickcolor=MUTED, **axis)
    figure.update_yaxes(**axis)
    return figure


def _escaped(name: str) -> str:
    """A user's text, never read as tags, without characters that hide or reorder others."""
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in name))
