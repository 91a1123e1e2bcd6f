"""Figures of a robustness evaluation: pure functions of its tables, SVG, no network.

What a series is shows in the shape of its marker too, so that a grey print says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import AFTER, BEFORE, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    amount,
    blank_figure,
    broken_line,
    escaped_lines,
    named_axis,
    percent,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.evaluation.robustness_result import RobustnessResult

Vector = NDArray[np.float64]

MOST_MARKS = 5_000
MOST_FOLDS = 40
MOST_TARGETS = 500
MOST_VARIABLES = 500
# Rows of seeds, and markers in a row, of the figure of stability.
MOST_SEEDS = 15
MOST_DOTS = 60
# Height of a row with one line of text, in pixels.
ROW = 32

HELD_OUT_MARK = {"color": AFTER, "size": 11, "symbol": "diamond"}
TRAIN_MARK = {
    "color": PAPER,
    "size": 9,
    "symbol": "diamond",
    "line": {"color": AFTER, "width": 2},
}
DESIGN_MARK = {"color": PAPER, "size": 9, "symbol": "circle", "line": {"color": BEFORE, "width": 2}}
RANDOM_MARK = {"color": MUTED, "size": 9, "symbol": "x"}


@dataclass(frozen=True)
class Series:
    """One marker in every row of a dot plot.

    Attributes:
        name: In the legend.
        column: Of the table that is drawn.
        mark: How Plotly draws it.
    """

    name: str
    column: str
    mark: dict[str, Any]


ERRORS = (
    Series("design weights", "design_error", DESIGN_MARK),
    Series("random sample", "random_error", RANDOM_MARK),
    Series("calibrated to", "train_error", TRAIN_MARK),
    Series("held out", "held_out_error", HELD_OUT_MARK),
)
DRIFTS = (
    Series("random sample", "random_drift", RANDOM_MARK),
    Series("a fold left out", "fold_drift", TRAIN_MARK),
    Series("draw and refit", "draw_drift", HELD_OUT_MARK),
)


def folds(result: RobustnessResult) -> Figure:
    """Error of held-out targets by fold, beside those calibrated to and what else there is."""
    table = _largest_first(result.folds, "held_out_error")
    shown = table.head(MOST_FOLDS)
    means = {series.column: result.folds[series.column].mean() for series in ERRORS}
    numbered = zip(shown.fold, shown.n_targets, strict=True)
    names = [f"mean of {len(table):,} folds"]
    names += [f"fold {fold} ({_targets(n_targets)})" for fold, n_targets in numbered]
    columns = {series.column: [means[series.column], *shown[series.column]] for series in ERRORS}
    figure = blank_figure(
        "Error of targets that were held out, by fold",
        "Mean absolute relative error of a fold's targets, each capped at 100%; the grey line is "
        "the gap to the targets calibrated to." + _chosen(len(shown), len(table), "folds"),
        height=180 + ROW * len(names),
    )
    _dots(figure, names, columns, ERRORS, joined=("train_error", "held_out_error"))
    figure.update_xaxes(title="mean absolute relative error, capped at 100% each")
    return figure


def targets(result: RobustnessResult, n_targets: int = 20) -> Figure:
    """The targets that are missed most when they are held out.

    Args:
        result: What `evaluate_robustness` found.
        n_targets: Most targets to show, from 1.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If `n_targets` is below 1.
    """
    shown, asked = _worst(result.targets, "held_out_error", "n_targets", n_targets, MOST_TARGETS)
    many = len(shown) > 1
    figure = blank_figure(
        "The targets that are missed most when held out" if many else "The target missed most",
        "The bar ends at the error of a target while it was held out; the marker calibrated to is "
        "its error in the other folds." + _chosen(len(shown), asked, "targets"),
        height=_height(shown.name),
    )
    columns = {series.column: shown[series.column] for series in ERRORS}
    facts = [
        f"<br>target {amount(row['target'])}, held out in fold {row['fold']}<br>then "
        f"{percent(row['held_out_bias'], signed=True)} from it (mean over draws)"
        for row in shown.to_dict("records")
    ]
    _bars(figure, shown.held_out_error)
    _dots(figure, shown.name, columns, ERRORS, facts)
    figure.update_xaxes(title="absolute relative error, capped at 100%")
    return figure


def stability(result: RobustnessResult) -> Figure:
    """How far errors and weights change with the draw, the records and the targets."""
    errors, n_seeds = _error_rows(result)
    weights = [
        ("dense weights", result.folds.weight_change, HELD_OUT_MARK),
        ("after draw and refit", result.folds.final_weight_change, HELD_OUT_MARK),
    ]
    if not result.is_drawn:
        del weights[1]
    figure = blank_figure(
        "Stability of errors and weights",
        "Marker: mean; bar: smallest to largest; ticks: single folds, draws or replicates."
        + _chosen(MOST_SEEDS, n_seeds, "seeds"),
        height=320 + ROW * (len(errors) + len(weights)),
        rows=["Errors", "Weight that moves when a fold of targets is left out"],
    )
    _stack(figure, len(errors), len(weights))
    for panel, rows in enumerate((errors, weights), start=1):
        places = np.arange(len(rows), 0, -1.0)
        for place, (name, values, mark) in zip(places, rows, strict=True):
            _spread(figure, panel, place, name, values.to_numpy(dtype=np.float64), mark)
        figure.update_yaxes(**_rows_axis(places, [name for name, *_ in rows]), row=panel, col=1)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="mean absolute relative error, capped at 100% each", row=1, col=1)
    figure.update_xaxes(title="share of the weight", row=2, col=1)
    figure.update_xaxes(rangemode="tozero", tickformat="~%")
    return figure


def drift(result: RobustnessResult, n_variables: int = 30) -> Figure:
    """Change of the totals that were followed but not targeted.

    Args:
        result: What `evaluate_robustness` found.
        n_variables: Most variables to show, from 1.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If none was named in the evaluation, or `n_variables` is below 1.
    """
    if result.drift.empty:
        raise InvalidOption(
            "no untargeted variable was followed. Give evaluate_robustness their columns as "
            "untargeted=, and plot the drift of that result."
        )
    order = "draw_drift" if result.is_drawn else "fold_drift"
    shown, asked = _worst(result.drift, order, "n_variables", n_variables, MOST_VARIABLES)
    known = [each for each in DRIFTS if each.column != "draw_drift" or result.is_drawn]
    figure = blank_figure(
        "Drift of totals that are not targeted",
        "Mean absolute change against the total at the dense weights: by draw and refit, by a "
        "simple random sample of as many records, and when a fold of targets is left out."
        + _chosen(len(shown), asked, "variables"),
        height=_height(shown.variable),
    )
    facts = [
        f"<br>design weights {amount(row['design_total'])}"
        f"<br>dense weights {amount(row['dense_total'])}"
        + (
            f"<br>standard deviation over replicates {percent(row['bootstrap_std'])}"
            if row["bootstrap_std"] == row["bootstrap_std"]
            else ""
        )
        for row in shown.to_dict("records")
    ]
    columns = {series.column: shown[series.column] for series in known}
    _dots(figure, shown.variable, columns, known, facts)
    figure.update_xaxes(title="mean absolute change, relative to the total at the dense weights")
    return figure


# --- Parts of these figures -----------------------------------------------------------------------


def _dots(
    figure: Figure,
    names: Iterable[str],
    columns: dict[str, Any],
    series: Sequence[Series],
    facts: Sequence[str] = (),
    joined: tuple[str, str] | None = None,
) -> None:
    """A row for each name, a marker in it for each series that is known, the first row on top."""
    labels = [escaped_lines(name) for name in names]
    heights = np.arange(len(labels), 0, -1.0)
    if joined:
        figure.add_scatter(
            x=broken_line(*(columns[column] for column in joined)),
            y=broken_line(heights, heights),
            mode="lines",
            line={"color": MUTED, "width": 2},
            hoverinfo="skip",
            showlegend=False,
        )
    for one in series:
        values = np.asarray(columns[one.column], dtype=np.float64)
        if np.isnan(values).all():
            continue
        figure.add_scatter(
            x=values,
            y=heights,
            mode="markers",
            marker=one.mark,
            name=one.name,
            text=[
                f"{label}<br>{one.name}: {percent(value)}{fact}"
                for label, value, fact in zip(
                    labels, values, facts or [""] * len(labels), strict=True
                )
            ],
            hoverinfo="text",
            cliponaxis=False,
        )
    figure.update_layout(showlegend=True)
    figure.update_xaxes(rangemode="tozero", tickformat="~%")
    figure.update_yaxes(**_rows_axis(heights, list(names)))


def _rows_axis(heights: Vector, names: Sequence[str]) -> dict[str, Any]:
    """Names at the left, so far from the axis that a marker at zero does not cover them."""
    apart = {"ticks": "outside", "ticklen": 8, "tickcolor": PAPER, "showgrid": False}
    return {**named_axis(heights, names), **apart}


def _bars(figure: Figure, values: pd.Series[float]) -> None:
    heights = np.arange(len(values), 0, -1.0)
    figure.add_scatter(
        x=broken_line(np.zeros(len(values)), values),
        y=broken_line(heights, heights),
        mode="lines",
        line={"color": AFTER, "width": 3},
        opacity=0.45,
        hoverinfo="skip",
        showlegend=False,
    )


def _spread(
    figure: Figure, panel: int, place: float, name: str, values: Vector, mark: dict[str, Any]
) -> None:
    """One row: every value a tick, a bar from the smallest to the largest, a marker at the mean."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return
    most = np.linspace(0, len(known) - 1, min(len(known), MOST_DOTS)).astype(int)
    where = {"row": panel, "col": 1}
    figure.add_scatter(
        x=known[[0, -1]],
        y=[place, place],
        mode="lines",
        line={"color": MUTED, "width": 5},
        opacity=0.35,
        hoverinfo="skip",
        **where,
    )
    figure.add_scatter(
        x=known[most],
        y=np.full(len(most), place),
        mode="markers",
        marker={"symbol": "line-ns", "size": 12, "line": {"color": INK, "width": 1}},
        hoverinfo="skip",
        **where,
    )
    figure.add_scatter(
        x=[known.mean()],
        y=[place],
        mode="markers",
        marker=mark,
        text=[
            f"{escaped_lines(name)}<br>mean {percent(known.mean())} of {len(known):,}<br>from "
            f"{percent(known[0])} to {percent(known[-1])}"
        ],
        hoverinfo="text",
        **where,
    )


def _error_rows(result: RobustnessResult) -> tuple[list[tuple[str, Any, dict[str, Any]]], int]:
    """A row for each seed and kind of refit: name, errors and marker; and how many seeds ran."""
    rows: list[tuple[str, Any, dict[str, Any]]] = []
    of_folds = result.draws[result.draws.fold >= 0]
    n_seeds = of_folds.seed.nunique()
    for kind, label, mark in (
        ("chosen", "held out", HELD_OUT_MARK),
        ("random", "held out, random sample", RANDOM_MARK),
    ):
        by_seed = of_folds[of_folds.selection == kind].groupby("seed", sort=False).held_out_error
        rows += [
            (f"{label}, seed {seed}" if n_seeds > 1 else label, errors, mark)
            for seed, errors in list(by_seed)[:MOST_SEEDS]
        ]
    everything = result.draws[(result.draws.fold < 0) & (result.draws.selection == "chosen")]
    rows.append(("all targets calibrated to", everything.train_error, TRAIN_MARK))
    if len(result.bootstrap):
        rows.append(("all targets, records reweighted", result.bootstrap.error, TRAIN_MARK))
    return rows, n_seeds


def _stack(figure: Figure, n_above: int, n_below: int) -> None:
    """Give each of two panels the height that its rows need."""
    margin = figure.layout.margin
    plot = figure.layout.height - margin.t - margin.b
    # Between the panels there are the numbers and the title of an axis, and a title.
    row = (plot - 110) / (n_above + n_below)
    figure.update_layout(
        yaxis_domain=[1 - n_above * row / plot, 1], yaxis2_domain=[0, n_below * row / plot]
    )
    figure.layout.annotations[1].y = n_below * row / plot


# --- Which rows, in which order -------------------------------------------------------------------


def _largest_first(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.sort_values(column, ascending=False, kind="stable", na_position="last")


def _worst(
    table: pd.DataFrame, column: str, option: str, asked: int, most: int
) -> tuple[pd.DataFrame, int]:
    """The first rows by size, and how many there would be without a limit on marks."""
    if not isinstance(asked, (int, np.integer)) or isinstance(asked, bool) or asked < 1:
        raise InvalidOption(f"{option}={asked!r} must be a whole number from 1.")
    asked = min(int(asked), len(table))
    return _largest_first(table, column).head(min(asked, most)), asked


def _height(names: Iterable[str]) -> int:
    """Pixels for a row for each name, however many lines it takes."""
    return 170 + sum(14 + 17 * (1 + escaped_lines(name).count("<br>")) for name in names)


def _targets(n_targets: int) -> str:
    return f"{n_targets:,} target{'s' if n_targets != 1 else ''}"


def _chosen(n_shown: int, n_all: int, what: str) -> str:
    return f" Shows {n_shown:,} of {n_all:,} {what}." if n_shown < n_all else ""
