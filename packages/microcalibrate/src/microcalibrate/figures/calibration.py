"""Figures of a result, for notebook, report and page alike: pure functions, SVG, no network.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import AFTER, BEFORE, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    LEAST_ERROR,
    amount,
    blank_figure,
    broken_line,
    count,
    escaped_lines,
    log_percent_axis,
    log_ticks,
    named_axis,
    percent,
    power_of_ten,
    whole_axis,
)
from microcalibrate.result_tables import as_declared

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.result import CalibrationResult

Vector = NDArray[np.float64]

BEFORE_MARK = {"color": PAPER, "size": 9, "symbol": "circle", "line": {"color": BEFORE, "width": 2}}
AFTER_MARK = {"color": AFTER, "size": 9, "symbol": "diamond"}
PHASE_SYMBOLS = ("circle-open", "diamond", "square-open", "triangle-up")

MOST_MARKS = 5_000
MOST_FAMILIES = 30
LEAST_GAP = 1e-18
# The engine stops at this relative gap.
NEEDED_GAP = 1e-8


def fit(result: CalibrationResult) -> Figure:
    """Relative errors before and after: median and middle 80% of each family."""
    table = result.targets
    order = family_order(table)
    rows = [("all targets", table), *((name, table[table.family == name]) for name in order)]
    if len(order) == 1:
        rows = rows[1:]
    shown = rows[: MOST_FAMILIES + 1]
    n_left_out = len(rows) - len(shown)
    heights = np.arange(len(shown), 0, -1.0)
    figure = blank_figure(
        "Error of the targets by family",
        "Marker: median; bar: middle 80%. Errors below 0.0001% are drawn there."
        + _chosen(len(order) - n_left_out, len(order), "families, those that are missed most"),
        height=150 + 46 * len(shown),
    )
    for when, column, colour, mark, shift in (
        ("before", "initial_error", BEFORE, BEFORE_MARK, 0.15),
        ("after", "error", AFTER, AFTER_MARK, -0.15),
    ):
        spreads = np.array(
            [np.quantile(np.abs(part[column]), [0.1, 0.5, 0.9, 1.0]) for _, part in shown]
        )
        drawn = np.maximum(spreads, LEAST_ERROR)
        figure.add_scatter(
            x=broken_line(drawn[:, 0], drawn[:, 2]),
            y=broken_line(heights + shift, heights + shift),
            mode="lines",
            line={"color": colour, "width": 5},
            opacity=0.45,
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=drawn[:, 1],
            y=heights + shift,
            mode="markers",
            marker=mark,
            name=when,
            text=[
                f"{escaped_lines(name)} ({count(len(part), 'target')}), {when}<br>median "
                f"{percent(middle)}, 90% below {percent(high)}, largest {percent(largest)}"
                for (name, part), (_, middle, high, largest) in zip(shown, spreads, strict=True)
            ],
            hoverinfo="text",
        )
    largest = float(np.maximum(table.initial_error.abs(), table.error.abs()).max())
    figure.update_xaxes(title="absolute relative error (log scale)", **log_percent_axis(largest))
    figure.update_yaxes(**named_axis(heights, [name for name, _ in shown]), showgrid=False)
    return figure


def estimates(result: CalibrationResult) -> Figure:
    """Targets against their estimates before and after, each on a signed log scale."""
    table = as_declared(result.targets)
    most = min(len(table), MOST_MARKS // 2 - 1)
    shown = by_error(table).iloc[np.linspace(0, len(table) - 1, most).astype(int)]
    size = np.abs(table.target[table.target != 0])
    # Within this distance of zero the scale is linear.
    unit = 10.0 ** np.floor(np.log10(size.min())) if len(size) else 1.0

    def signed_log(values: Any) -> Vector:
        values = np.asarray(values, dtype=np.float64)
        return np.asarray(np.sign(values) * np.log10(1 + np.abs(values) / unit))

    figure = blank_figure(
        "Targets and their estimates",
        "On the line, an estimate equals its target. In the units of the targets."
        + _chosen(len(shown), len(table), "targets, evenly by error, the worst included"),
        height=520,
    )
    ends = np.array([shown[["target", "initial", "final"]].min().min(), 0.0])
    ends[1] = shown[["target", "initial", "final"]].max().max()
    figure.add_scatter(
        x=signed_log(ends),
        y=signed_log(ends),
        mode="lines",
        line={"color": MUTED, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    for when, column, error, mark in (
        ("before", "initial", "initial_error", BEFORE_MARK),
        ("after", "final", "error", AFTER_MARK),
    ):
        figure.add_scatter(
            x=signed_log(shown.target),
            y=signed_log(shown[column]),
            mode="markers",
            marker={**mark, "size": 7},
            name=when,
            text=[
                f"{escaped_lines(name)}<br>target {amount(target)}<br>{when} {amount(value)} "
                f"({percent(miss, signed=True)})"
                for name, target, value, miss in zip(
                    shown.name, shown.target, shown[column], shown[error], strict=True
                )
            ],
            hoverinfo="text",
        )
    low, high = signed_log(ends)
    step = max(math.ceil((high - low) / 7), 1)
    powers = 10.0 ** np.arange(step, max(-low, high) + step, step) * unit
    ticks = np.concatenate([-powers[::-1], [0.0], powers])
    text = [amount(tick) for tick in ticks]
    axis: dict[str, Any] = {"tickvals": signed_log(ticks), "ticktext": text, "tickangle": 0}
    margin = 0.04 * max(high - low, 1.0)
    axis["range"] = [low - margin, high + margin]
    figure.update_xaxes(title="target (log scale)", **axis)
    figure.update_yaxes(title="estimate (log scale)", **axis)
    return figure


def worst_targets(result: CalibrationResult, n_targets: int = 20) -> Figure:
    """The targets that are missed most, with their prices.

    Raises:
        InvalidOption: If `n_targets` is below 1.
    """
    if n_targets < 1:
        raise InvalidOption(f"n_targets={n_targets!r} must be at least 1.")
    asked = min(n_targets, len(result.targets))
    shown = as_declared(by_error(result.targets).head(min(asked, MOST_MARKS // 5)))
    heights = np.arange(len(shown), 0, -1.0)
    labels = [escaped_lines(name) for name in shown.name]
    figure = blank_figure(
        "The targets that are missed most" if len(shown) > 1 else "The target",
        "Price: fall of the objective per scale by which a target is raised; "
        "far from zero, it pulls hard." + _chosen(len(shown), asked, "targets"),
        height=150 + sum(12 + 17 * (1 + label.count("<br>")) for label in labels),
        columns=(0.62, 0.38),
    )
    figure.add_scatter(
        x=broken_line(np.zeros(len(shown)), shown.error),
        y=broken_line(heights, heights),
        mode="lines",
        line={"color": AFTER, "width": 2},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    facts = [
        f"{label}<br>target {amount(target)}<br>before {amount(initial)} "
        f"({percent(miss, signed=True)})<br>after {amount(final)} "
        f"({percent(left, signed=True)})<br>price {power_of_ten(price)}"
        for label, target, initial, miss, final, left, price in zip(
            labels,
            shown.target,
            shown.initial,
            shown.initial_error,
            shown.final,
            shown.error,
            shown.price,
            strict=True,
        )
    ]
    common = {"y": heights, "text": facts, "hoverinfo": "text"}
    figure.add_scatter(x=shown.error, mode="markers", marker=AFTER_MARK, row=1, col=1, **common)
    figure.add_bar(
        x=shown.price,
        orientation="h",
        width=0.5,
        marker={"color": MUTED},
        textposition="none",
        row=1,
        col=2,
        **common,
    )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="relative error after", tickformat="~%", row=1, col=1)
    figure.update_xaxes(title="price (per scale)", exponentformat="power", nticks=4, row=1, col=2)
    figure.update_xaxes(zeroline=True, zerolinecolor=MUTED)
    figure.update_yaxes(**named_axis(heights, list(shown.name)), row=1, col=1)
    figure.update_yaxes(
        range=[0.4, len(shown) + 0.6], showticklabels=False, showgrid=False, row=1, col=2
    )
    return figure


def weights(result: CalibrationResult) -> Figure:
    """Distribution of weights before and after, with median, P90, P99 and the heaviest 1%."""
    panels = (
        ("before", result.design_weights, BEFORE, "dot"),
        ("after", result.weights, AFTER, "solid"),
    )
    positive = np.log10(np.concatenate([values[values > 0] for _, values, *_ in panels]))
    edges = np.linspace(positive.min() - 0.02, positive.max() + 0.02, 61)
    n_zero, n_negative = (result.weights == 0).sum(), (result.weights < 0).sum()
    left_out = [
        f"{count(number, 'record')} {what}"
        for number, what in ((n_zero, "of weight zero"), (n_negative, "of negative weight"))
        if number
    ]
    figure = blank_figure(
        "Weights before and after",
        "Records by weight." + (f" Not drawn: {' and '.join(left_out)}." if left_out else ""),
        height=620,
        rows=[
            f"{when.capitalize()}: the heaviest 1% of {int(numbers['records']):,} records hold "
            f"{percent(numbers['top_1_percent'])} of the weight"
            for when, numbers in result.statistics.items()
        ],
    )
    for row, (when, values, colour, dash) in enumerate(panels, start=1):
        drawn = values[values > 0]
        counts, _ = np.histogram(np.log10(drawn), bins=edges)
        top = max(int(counts.max()), 1)
        figure.add_scatter(
            x=10.0 ** np.repeat(edges, 2),
            y=np.concatenate([[0], np.repeat(counts, 2), [0]]),
            mode="lines",
            line={"color": colour, "width": 2},
            fill="tozeroy",
            name=when,
            hovertemplate="weight %{x:,.4s}: %{y:,} records<extra></extra>",
            row=row,
            col=1,
        )
        for level, (label, share) in enumerate((("median", 0.5), ("P90", 0.9), ("P99", 0.99))):
            at = float(np.quantile(drawn, share))
            height = top * (1.12 + 0.17 * (2 - level))
            figure.add_scatter(
                x=[at, at],
                y=[0, height],
                mode="lines+text",
                line={"color": INK, "width": 1, "dash": dash},
                text=["", f" {label} {amount(at)}"],
                textposition="middle right",
                hoverinfo="skip",
                row=row,
                col=1,
            )
        figure.update_yaxes(
            title="records", range=[0, top * 1.6], row=row, col=1, **whole_axis(top * 1.6, 6)
        )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(
        title="weight (persons or households per record, log scale)",
        type="log",
        range=[edges[0], edges[-1] + 0.12 * (edges[-1] - edges[0])],
        **log_ticks(10.0 ** edges[0], 10.0 ** edges[-1]),
    )
    return figure


def history(result: CalibrationResult) -> Figure:
    """Relative duality gap by step, phase after phase."""
    steps = result.history
    keep = np.unique(np.linspace(0, max(len(steps) - 1, 0), MOST_MARKS - 2).astype(int))
    shown = steps.iloc[keep] if len(steps) else steps
    figure = blank_figure(
        "Duality gap by step",
        "No weights can lower the objective by more than this share. Gaps below "
        f"10⁻¹⁸ are drawn there.{_chosen(len(shown), len(steps), 'steps')}",
        height=400,
    )
    numbers = keep[: len(shown)]
    phases = shown.phase.astype(str).to_numpy() if len(shown) else np.array([])
    for phase, symbol in zip(dict.fromkeys(phases), PHASE_SYMBOLS, strict=False):
        mine = shown[phases == phase]
        gap = np.abs(mine.gap.to_numpy(dtype=np.float64))
        figure.add_scatter(
            x=numbers[phases == phase],
            y=np.where(np.isfinite(gap), np.maximum(gap, LEAST_GAP), np.nan),
            mode="lines+markers",
            line={"color": AFTER, "width": 2},
            marker={"symbol": symbol, "color": AFTER, "size": 9},
            name=f"{escaped_lines(phase)} ({mine.records.iloc[0]:,} records)",
            text=[
                f"{escaped_lines(phase)}, step {step}: gap {power_of_ten(value)} "
                f"({escaped_lines(method)})"
                for step, value, method in zip(mine.step, gap, mine.method, strict=True)
            ],
            hoverinfo="text",
        )
    figure.add_hline(y=NEEDED_GAP, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.add_annotation(
        text="converged below this line",
        font={"color": MUTED},
        x=0.01,
        xref="x domain",
        y=math.log10(NEEDED_GAP),
        yanchor="top",
        showarrow=False,
    )
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="step", rangemode="tozero", **whole_axis(len(steps)))
    figure.update_yaxes(
        title="relative duality gap (log scale)", type="log", exponentformat="power", nticks=8
    )
    return figure


# --- Which targets, in which order ----------------------------------------------------------------


def by_error(targets: pd.DataFrame) -> pd.DataFrame:
    """The table of targets, the one that is missed most first."""
    return targets.iloc[np.argsort(-targets.error.abs().to_numpy(), kind="stable")]


def family_order(targets: pd.DataFrame) -> list[str]:
    """Families, the one with the largest mean absolute error after (each capped at 1) first."""
    mean = targets.error.abs().clip(upper=1).groupby(targets.family, sort=False).mean()
    return list(mean.sort_values(ascending=False, kind="stable").index)


def _chosen(n_shown: int, n_all: int, what: str) -> str:
    return f" Shows {n_shown:,} of {n_all:,} {what}." if n_shown < n_all else ""
