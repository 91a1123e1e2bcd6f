"""Figures of the course of a run: loss, errors, and single targets by epoch.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import AFTER, BEFORE, INK, MUTED
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    LEAST_ERROR,
    amount,
    blank_figure,
    escaped_lines,
    log_percent_axis,
    percent,
    power_of_ten,
    relative,
    round_percent,
    whole_axis,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.logs.log import CalibrationLog

MOST_MARKS = 1_000
"""Epochs of one line."""
MOST_TARGETS = 8
"""Of one figure: as many lines as can be told apart by colour, dash and symbol."""
LINES = (
    (AFTER, "solid", "circle"),
    (BEFORE, "solid", "diamond"),
    (INK, "solid", "square"),
    (MUTED, "solid", "triangle-up"),
    (AFTER, "dash", "circle-open"),
    (BEFORE, "dash", "diamond-open"),
    (INK, "dash", "square-open"),
    (MUTED, "dash", "triangle-up-open"),
)
"""Colour, dash and symbol of each line."""


def loss_and_error(curve: pd.DataFrame, loss_kind: str = "run") -> Figure:
    """Loss and mean error by epoch, one panel each.

    Args:
        curve: `epoch`, `loss`, `mean_error`, `median_error` and `phase`, as
            `CalibrationLog.curve` has them.
        loss_kind: "run", "per target" or "none", as the log says.

    Returns:
        A Plotly figure; the panel of a loss that is not known is left out.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    shown = curve.iloc[epochs_shown(len(curve))]
    has_loss = loss_kind != "none" and bool(np.isfinite(shown.loss).any())
    of_loss = "Loss of the run" if loss_kind == "run" else "Loss: mean over the targets"
    rows = [of_loss] * has_loss + ["Relative error of the targets, each capped at 100%"]
    figure = blank_figure(
        "Loss and errors by epoch",
        "Targets of 0, and targets that were not calibrated to, are left out of the errors."
        + _phases_said(curve)
        + _chosen(len(shown), len(curve)),
        height=280 + 260 * len(rows),
        rows=rows,
    )
    if has_loss:
        loss = shown.loss.to_numpy()
        figure.add_scatter(
            x=shown.epoch,
            y=np.where((loss > 0) & np.isfinite(loss), loss, np.nan),
            mode="lines+markers",
            line={"color": AFTER, "width": 2},
            marker={"color": AFTER, "size": 6},
            text=[
                f"epoch {epoch:,}: loss {power_of_ten(value)}"
                for epoch, value in zip(shown.epoch, loss, strict=True)
            ],
            hoverinfo="text",
            showlegend=False,
            row=1,
            col=1,
        )
        figure.update_yaxes(
            title="loss (log scale)", type="log", exponentformat="power", nticks=6, row=1, col=1
        )
    for column, name, (colour, dash, symbol) in (
        ("mean_error", "mean", LINES[0]),
        ("median_error", "median", LINES[5]),
    ):
        value = shown[column].to_numpy()
        figure.add_scatter(
            x=shown.epoch,
            y=np.where(np.isnan(value), np.nan, np.maximum(value, LEAST_ERROR)),
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"color": colour, "size": 6, "symbol": symbol},
            name=name,
            text=[
                f"epoch {epoch:,}: {name} error {percent(error)}"
                for epoch, error in zip(shown.epoch, value, strict=True)
            ],
            hoverinfo="text",
            row=len(rows),
            col=1,
        )
    both = shown[["mean_error", "median_error"]].to_numpy()
    figure.update_yaxes(
        title="error (log scale)",
        **log_percent_axis(float(np.nanmax([1e-3, *both.flat])), float(np.nanmin([1, *both.flat]))),
        row=len(rows),
        col=1,
    )
    for row in range(1, len(rows) + 1):
        mark_phases(figure, curve, row=row, col=1)
    figure.update_xaxes(title="epoch", **whole_axis(np.ptp(shown.epoch)))
    figure.update_layout(showlegend=True)
    return figure


def target_values(log: CalibrationLog, names: Sequence[str]) -> Figure:
    """Estimates of some targets by epoch, each as a share of its target.

    Args:
        log: The log.
        names: Up to eight of its targets, none of them 0 alone in the figure's unit: a target of 0
            is drawn in its own units.

    Returns:
        A Plotly figure. One target alone is drawn in its own units, with its target as a line.

    Raises:
        InvalidOption: If a name is not in the log, or there are more than eight.
        MissingExtra: If Plotly is not installed.
    """
    course = _course(log, names)
    alone = len(names) == 1
    undefined = [name for name, part in course if (part.target == 0).all()]
    figure = blank_figure(
        "Estimates by epoch",
        "In the units of the target; the line is the target."
        if alone
        else "Each as a share of its target: at 100%, an estimate equals its target."
        + (f" Not drawn, with a target of 0: {len(undefined)}." if undefined else ""),
        height=460,
    )
    for (name, part), (colour, dash, symbol) in zip(course, LINES, strict=False):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(part.target != 0, part.estimate / part.target, np.nan)
        value = part.estimate.to_numpy() if alone else share
        _add_line(figure, name, part, value, colour, dash, symbol)
    if alone:
        part = course[0][1]
        figure.add_scatter(
            x=part.epoch,
            y=part.target,
            mode="lines",
            line={"color": INK, "width": 2, "dash": "dot"},
            name="target",
            hoverinfo="skip",
        )
        figure.update_yaxes(title="estimate, in the units of the target")
    else:
        figure.add_hline(y=1, line={"color": INK, "width": 2, "dash": "dot"})
        figure.update_yaxes(title="estimate / target", tickformat="~%")
    return _finished(figure, log)


def target_errors(log: CalibrationLog, names: Sequence[str]) -> Figure:
    """Absolute relative errors of some targets by epoch, on a log scale.

    Args:
        log: The log.
        names: Up to eight of its targets.

    Returns:
        A Plotly figure; targets of 0, which have no relative error, are said and not drawn.

    Raises:
        InvalidOption: If a name is not in the log, or there are more than eight.
        MissingExtra: If Plotly is not installed.
    """
    course = _course(log, names)
    undefined = sum(bool((part.target == 0).all()) for _, part in course)
    figure = blank_figure(
        "Errors by epoch",
        f"Absolute relative error. Errors under {round_percent(LEAST_ERROR)} are drawn there."
        + (f" Not drawn, with a target of 0: {undefined}." if undefined else ""),
        height=460,
    )
    largest, smallest = LEAST_ERROR, 1.0
    for (name, part), (colour, dash, symbol) in zip(course, LINES, strict=False):
        error = part.rel_abs_error.to_numpy()
        error = np.where(np.isfinite(error), np.maximum(error, LEAST_ERROR), np.nan)
        largest = float(np.nanmax([largest, *error]))
        smallest = float(np.nanmin([smallest, *error]))
        _add_line(figure, name, part, error, colour, dash, symbol)
    axis = log_percent_axis(largest, smallest)
    figure.update_yaxes(title="absolute relative error (log scale)", **axis)
    return _finished(figure, log)


# --- Parts ----------------------------------------------------------------------------------------


def epochs_shown(n_epochs: int) -> NDArray[np.intp]:
    """Positions of the epochs that one line has marks for, the first and last among them."""
    last = max(n_epochs - 1, 0)
    return np.unique(np.linspace(0, last, min(n_epochs, MOST_MARKS)).astype(np.intp))


def mark_phases(figure: Figure, curve: pd.DataFrame, **where: int) -> None:
    """Draw a line where a run goes on with its next phase."""
    phases = curve.phase.to_numpy()
    for place in np.flatnonzero(phases[1:] != phases[:-1]) + 1:
        between = (float(curve.epoch.iloc[place - 1]) + float(curve.epoch.iloc[place])) / 2
        figure.add_vline(
            x=between,
            line={"color": MUTED, "width": 1, "dash": "dash"},
            annotation={
                "text": f" {escaped_lines(phases[place])}",
                "font": {"color": MUTED},
                "xanchor": "left",
                "yanchor": "top",
            },
            **where,
        )


def _phases_said(curve: pd.DataFrame) -> str:
    phases = [str(phase) for phase in dict.fromkeys(curve.phase) if phase]
    said = {"dense": "all records", "refit": "the records that were kept"}
    if len(phases) < 2:
        return ""
    return " First " + ", then ".join(said.get(p, escaped_lines(p)) for p in phases) + "."


def _chosen(n_shown: int, n_all: int) -> str:
    return f" Shows {n_shown:,} of {n_all:,} epochs." if n_shown < n_all else ""


def _course(log: CalibrationLog, names: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each target, in the order in which they were asked for."""
    if not 1 <= len(names) <= MOST_TARGETS:
        raise InvalidOption(
            f"{len(names)} targets were asked for: a figure shows from 1 to {MOST_TARGETS}."
        )
    found = log.history(list(dict.fromkeys(names)))
    keep = log.epochs[epochs_shown(len(log.epochs))]
    found = found[found.epoch.isin(keep)]
    name = found.target_name.astype(str).to_numpy()
    return [(label, found[name == label]) for label in dict.fromkeys(names)]


def _add_line(
    figure: Figure,
    name: str,
    part: pd.DataFrame,
    values: Any,
    colour: str,
    dash: str,
    symbol: str,
) -> None:
    label = escaped_lines(name)
    figure.add_scatter(
        x=part.epoch,
        y=values,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        marker={"color": colour, "size": 7, "symbol": symbol},
        name=label,
        text=[
            f"{label}<br>epoch {epoch:,}: {amount(estimate)} of {amount(target)} "
            f"({relative(np.copysign(size, error), target, signed=True)})"
            for epoch, estimate, target, size, error in zip(
                part.epoch, part.estimate, part.target, part.rel_abs_error, part.error, strict=True
            )
        ],
        hoverinfo="text",
    )


def _finished(figure: Figure, log: CalibrationLog) -> Figure:
    """What figures of single targets share: epochs, phases, and names below the picture."""
    mark_phases(figure, log.curve)
    figure.update_xaxes(title="epoch", **whole_axis(np.ptp(log.curve.epoch)))
    figure.update_layout(
        showlegend=True,
        height=figure.layout.height + 22 * len(figure.data),
        legend={"orientation": "v", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
    )
    return figure
