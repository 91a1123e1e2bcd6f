"""Figures of the weights of a diagnosis: their distribution, and how much information they leave.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import AFTER, BEFORE, INK, MUTED, PAPER
from microcalibrate.columns import did_you_mean
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    amount,
    blank_figure,
    escaped_lines,
    log_ticks,
    named_axis,
    percent,
    whole_axis,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.diagnostics.diagnosis import Diagnosis

Vector = NDArray[np.float64]

MOST_CELLS = 60
BANDS = ((100, "■ under 100"), (500, "▲ under 500"))


def weights(
    diagnosis: Diagnosis, before: Diagnosis | None = None, caps: Sequence[float] = ()
) -> Figure:
    """Distribution of weights on a log and a linear axis, and what the heaviest hold.

    Args:
        diagnosis: What was found.
        before: An earlier diagnosis to draw beside it.
        caps: Weights to mark.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If a cap is not positive.
        MissingExtra: If Plotly is not installed.
    """
    if not all(0 < cap < math.inf for cap in caps):
        raise InvalidOption(f"caps={list(caps)} must be positive weights.")
    series = [] if before is None else [("before", before, BEFORE, "dot")]
    series.append(("weights" if before is None else "after", diagnosis, AFTER, "solid"))
    drawn = {name: _positive(found) for name, found, *_ in series}
    figures = diagnosis.summary_figures["weights"]
    n_zero = len(diagnosis.records) - len(drawn[series[-1][0]])
    figure = blank_figure(
        "Weights",
        f"The heaviest 1% of {figures['n']:,.0f} records hold {percent(figures['top_1_percent'])} "
        f"of the weight; skewness {figures['skewness']:.1f}. Vertical lines: median, P90 and P99"
        + (", and caps (dashed)." if caps else ".")
        + (f" Not drawn: {n_zero:,} records of weight zero." if n_zero else ""),
        height=940,
        rows=["Records by weight, log scale", "Linear scale", "Weight held by the heaviest"],
    )
    everything = np.concatenate(list(drawn.values()))
    low, high = float(everything.min()), float(everything.max())
    log_edges = np.geomspace(low * 0.98, high * 1.02, 61)
    linear_edges = np.linspace(0, high * 1.02, 61)
    tops = [0, 0]
    for name, _, colour, dash in series:
        values = drawn[name]
        for row, edges in ((1, log_edges), (2, linear_edges)):
            counts, _ = np.histogram(values, bins=edges)
            tops[row - 1] = max(tops[row - 1], int(counts.max()))
            figure.add_scatter(
                x=np.repeat(edges, 2),
                y=np.concatenate([[0], np.repeat(counts, 2), [0]]),
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                fill="tozeroy" if dash == "solid" else None,
                name=name,
                showlegend=row == 1 and before is not None,
                hovertemplate="weight %{x:,.4s}: %{y:,} records<extra></extra>",
                row=row,
                col=1,
            )
        held = np.cumsum(np.sort(values)[::-1]) / values.sum()
        places = np.unique(np.geomspace(1, len(held), 200).astype(int))
        figure.add_scatter(
            x=places / len(held),
            y=held[places - 1],
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            showlegend=False,
            hovertemplate="the heaviest %{x:.2%} hold %{y:.1%}<extra></extra>",
            row=3,
            col=1,
        )
    after = drawn[series[-1][0]]
    marks = [
        (f"{label} {amount(at)}", at, "solid")
        for label, at in zip(
            ("median", "P90", "P99"), np.quantile(after, [0.5, 0.9, 0.99]), strict=True
        )
    ]
    marks += [(f"cap {amount(cap)}", cap, "dash") for cap in caps]
    for row, top in enumerate(tops, start=1):
        for level, (label, at, dash) in enumerate(marks):
            figure.add_scatter(
                x=[at, at],
                y=[0, top * (1.75 - 0.15 * level)],
                mode="lines+text",
                line={"color": INK, "width": 1, "dash": dash},
                text=["", f" {label}"],
                textposition="middle right",
                hoverinfo="skip",
                showlegend=False,
                row=row,
                col=1,
            )
        figure.update_yaxes(
            title="records", range=[0, top * 1.9], row=row, col=1, **whole_axis(top * 1.9, 6)
        )
    room = math.log10(high) + 0.15 * max(math.log10(high / low), 0.1)
    figure.update_xaxes(
        type="log",
        range=[math.log10(low) - 0.05, room],
        **log_ticks(low, high),
        row=1,
        col=1,
    )
    figure.update_xaxes(title="weight", range=[0, high * 1.2], row=2, col=1)
    figure.update_xaxes(title="fraction of the records", tickformat=".0%", row=3, col=1)
    figure.update_yaxes(title="share", tickformat=".0%", range=[0, 1.02], row=3, col=1)
    for place, (start, end) in enumerate(((0.72, 0.97), (0.37, 0.62), (0.0, 0.25))):
        figure.update_yaxes(domain=[start, end], row=place + 1, col=1)
        figure.layout.annotations[place].update(y=end + 0.005, yanchor="bottom")
    figure.update_layout(legend={"y": 1.0})
    return figure


def kish(diagnosis: Diagnosis, slice_name: str | None = None) -> Figure:
    """Records, effective records and effective origins by cell, few of them marked.

    Args:
        diagnosis: What was found.
        slice_name: The slice; None shows all, as far as they fit.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If there is no such slice.
        MissingExtra: If Plotly is not installed.
    """
    table = diagnosis.kish[diagnosis.kish.n > 0]
    if slice_name is not None:
        names = list(dict.fromkeys(table.slice))
        if slice_name not in names:
            near = did_you_mean(slice_name, names).replace("columns", "slices")
            raise InvalidOption(f"there is no slice {slice_name!r}.{near}")
        table = table[(table.slice == slice_name) | (table.slice == "all")]
    chosen = table
    if len(table) > MOST_CELLS:
        keep = np.argsort(table.n_eff.to_numpy(), kind="stable")[: MOST_CELLS - 1]
        chosen = table.iloc[np.union1d([0], keep)]
    heights = np.arange(len(chosen), 0, -1.0)
    labels = []
    rows: Any = chosen.itertuples()
    for row in rows:
        band = next((text for bound, text in BANDS if row.n_eff < bound), "")
        name = "all" if row.slice == "all" else f"{row.slice} = {row.cell}"
        labels.append(f"{name}  {band}" if band else name)
    figure = blank_figure(
        "Effective sample size by slice",
        "Kish’s number of equally weighted records that would say as much: by record (of the "
        "slice’s own entity), and by origin, where all copies of a record count as one. Dotted "
        "lines: 100 and 500."
        + (
            f" Shows {len(chosen):,} of {len(table):,} cells, those with the fewest."
            if len(chosen) < len(table)
            else ""
        ),
        height=190 + 40 * len(chosen),
    )
    for name, column, shift, look in (
        ("records", "n", 0.27, {"color": PAPER, "line": {"color": INK, "width": 1}}),
        ("effective records", "n_eff", 0.0, {"color": AFTER}),
        (
            "effective origins (lineages)",
            "lineage_n_eff",
            -0.27,
            {
                "color": BEFORE,
                "pattern": {"shape": "/", "fgcolor": INK, "size": 5, "solidity": 0.25},
            },
        ),
    ):
        figure.add_bar(
            x=np.maximum(chosen[column], 1.0),
            y=heights + shift,
            width=0.25,
            orientation="h",
            marker=look,
            name=name,
            textposition="none",
            text=[
                f"{escaped_lines(label)}<br>{name}: {amount(value)}<br>design effect {effect:.2f}"
                for label, value, effect in zip(
                    labels, chosen[column], chosen.design_effect, strict=True
                )
            ],
            hoverinfo="text",
        )
    for bound, _ in BANDS:
        figure.add_vline(x=bound, line={"color": MUTED, "width": 1, "dash": "dot"})
    top = math.ceil(math.log10(max(float(chosen.n.max()), 1000)))
    ticks = 10.0 ** np.arange(top + 1)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(
        title="records (log scale)",
        type="log",
        range=[0, math.log10(max(float(chosen.n.max()), 1000)) + 0.05],
        tickvals=ticks,
        ticktext=[amount(tick) for tick in ticks],
    )
    figure.update_yaxes(**named_axis(heights, labels), showgrid=False)
    return figure


def _positive(diagnosis: Diagnosis) -> Vector:
    values = diagnosis.records.weight.to_numpy()
    return np.asarray(values[values > 0], dtype=np.float64)
