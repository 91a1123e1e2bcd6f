"""Figures of two logs side by side: their courses overlaid, and single targets in both.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from l0.reports.palette import AFTER, BEFORE, INK
from microcalibrate.errors import InvalidOption
from microcalibrate.figures import comparison as pairs
from microcalibrate.figures.log_course import epochs_shown
from microcalibrate.figures.plotting import (
    LEAST_ERROR,
    amount,
    blank_figure,
    escaped_lines,
    log_percent_axis,
    percent,
    power_of_ten,
    relative,
    whole_axis,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.logs.comparing import LogComparison

LOOKS = ((BEFORE, "dash", "diamond"), (AFTER, "solid", "circle"))
"""Of the first and of the second."""


def curves(comparison: LogComparison) -> Figure:
    """Loss and mean error by epoch, of both.

    Args:
        comparison: Two logs side by side.

    Returns:
        A Plotly figure. The losses are left out unless both are of one kind: a loss of a run and
        a mean over targets have no common unit.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    logs = (comparison.first, comparison.second)
    kinds = {log.loss_kind for log in logs}
    has_loss = len(kinds) == 1 and kinds != {"none"}
    of_loss = "Loss of the run" if kinds == {"run"} else "Loss: mean over the targets"
    rows = [of_loss] * has_loss + ["Mean absolute relative error, each capped at 100%"]
    figure = blank_figure(
        "Both runs by epoch",
        "Epochs of different programs are not alike."
        + ("" if has_loss else " The losses are not of one kind, and are left out."),
        height=280 + 240 * len(rows),
        rows=rows,
    )
    largest, smallest = 1e-3, 1.0
    for name, log, (colour, dash, symbol) in zip(comparison.names, logs, LOOKS, strict=True):
        shown = log.curve.iloc[epochs_shown(len(log.curve))]
        label = escaped_lines(name)
        error = shown.mean_error.to_numpy()
        largest = float(np.nanmax([largest, *error]))
        smallest = float(np.nanmin([smallest, *error]))
        panels: list[tuple[Any, Callable[[float], str], Any]] = [
            (error, percent, np.maximum(error, LEAST_ERROR))
        ]
        if has_loss:
            loss = shown.loss.to_numpy()
            panels.insert(
                0, (loss, power_of_ten, np.where((loss > 0) & np.isfinite(loss), loss, np.nan))
            )
        for row, (values, written, drawn) in enumerate(panels, start=1):
            figure.add_scatter(
                x=shown.epoch,
                y=drawn,
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": dash},
                marker={"color": colour, "size": 7, "symbol": symbol},
                name=label,
                showlegend=row == 1,
                text=[
                    f"{label}<br>epoch {epoch:,}: {written(value)}"
                    for epoch, value in zip(shown.epoch, values, strict=True)
                ],
                hoverinfo="text",
                row=row,
                col=1,
            )
    if has_loss:
        figure.update_yaxes(
            title="loss (log scale)", type="log", exponentformat="power", nticks=6, row=1, col=1
        )
    figure.update_yaxes(
        title="mean error (log scale)",
        **log_percent_axis(largest, smallest),
        row=len(rows),
        col=1,
    )
    figure.update_xaxes(title="epoch", **_epochs(comparison))
    figure.update_layout(showlegend=True)
    return figure


def errors(comparison: LogComparison) -> Figure:
    """Absolute relative error of each common target in one log against the other.

    Args:
        comparison: Two logs side by side.

    Returns:
        A Plotly figure with the line on which both are alike.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    common = comparison.common
    defined = common[np.isfinite(common.first_error) & np.isfinite(common.second_error)]
    figure = pairs.errors(defined, *comparison.names)
    left_out = len(common) - len(defined)
    facts = [f"correlation {comparison.correlation:.2f}", f"slope {comparison.slope:.2f}"]
    said = f"Of the signed errors: {', '.join(facts)}."
    if left_out:
        said += f" {left_out:,} targets without a relative error are not drawn."
    figure.layout.title.subtitle.text += f"<br>{said}"
    figure.layout.margin.t += 17
    return figure


def target_course(comparison: LogComparison, name: str) -> Figure:
    """Estimates of one target by epoch, in both.

    Args:
        comparison: Two logs side by side.
        name: A target that at least one of them has.

    Returns:
        A Plotly figure in the units of the target, with its value as a line.

    Raises:
        InvalidOption: If neither has it.
        MissingExtra: If Plotly is not installed.
    """
    label = escaped_lines(name)
    figure = blank_figure(
        label, "Estimate by epoch, in the units of the target; the dotted line is the target.", 440
    )
    logs = (comparison.first, comparison.second)
    has_it = [name in log.target_names for log in logs]
    if not any(has_it):
        raise InvalidOption(f"neither log has a target {name!r}; see `comparison.targets.name`.")
    goals = set()
    for side, log, has, (colour, dash, symbol) in zip(
        comparison.names, logs, has_it, LOOKS, strict=True
    ):
        if not has:
            continue
        part = log.history([name])
        part = part.iloc[epochs_shown(len(part))]
        side_label = escaped_lines(side)
        figure.add_scatter(
            x=part.epoch,
            y=part.estimate,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"color": colour, "size": 7, "symbol": symbol},
            name=side_label,
            text=[
                f"{side_label}<br>epoch {epoch:,}: {amount(estimate)} of {amount(target)} "
                f"({relative(np.copysign(size, error), target, signed=True)})"
                for epoch, estimate, target, size, error in zip(
                    part.epoch, part.estimate, part.target, part.rel_abs_error, part.error,
                    strict=True,
                )
            ],
            hoverinfo="text",
        )  # fmt: skip
        goals.add(float(part.target.iloc[-1]))
    for goal in sorted(goals):
        figure.add_hline(y=goal, line={"color": INK, "width": 2, "dash": "dot"})
    figure.update_xaxes(title="epoch", **_epochs(comparison))
    figure.update_yaxes(title="estimate, in the units of the target")
    figure.update_layout(showlegend=True)
    return figure


def _epochs(comparison: LogComparison) -> dict[str, Any]:
    """Ticks of an axis of the epochs of both logs."""
    epochs = np.concatenate([log.curve.epoch for log in (comparison.first, comparison.second)])
    return whole_axis(float(np.ptp(epochs)))
