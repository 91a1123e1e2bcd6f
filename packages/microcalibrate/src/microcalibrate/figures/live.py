"""The figure of a run that is on its way, from its lines of progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from l0.reports.palette import AFTER, BEFORE, MUTED
from microcalibrate.figures.plotting import blank_figure, power_of_ten, whole_axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_MARKS = 1_000
PANELS = (
    ("loss", "Loss: half the mean squared relative error", "loss"),
    ("gap", "Gap: how far the objective may be from its optimum", "gap"),
)
PHASES = (
    ("dense", "all records", AFTER, "solid"),
    ("gates", "training gates", MUTED, "dot"),
    ("refit", "kept records", BEFORE, "dash"),
)


def course(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and duality gap of a calibration so far.

    Args:
        lines: Lines of progress, each with `activity` and `figures`.

    Returns:
        A Plotly figure with a panel for each; steps are counted through all phases.

    Raises:
        MissingExtra: If Plotly is not installed.

    Examples:
        >>> line = {"activity": "dense", "figures": {"loss": 0.5, "gap": 1e-3}}
        >>> len(course([line, line]).data)
        2
    """
    figure = blank_figure("So far", "", height=560, rows=[title for _, title, _ in PANELS])
    steps = np.arange(1, len(lines) + 1)
    for row, (name, _, axis) in enumerate(PANELS, start=1):
        for activity, label, colour, dash in PHASES:
            found = [
                (step, line["figures"][name])
                for step, line in zip(steps, lines, strict=True)
                if line["activity"] == activity and line["figures"].get(name, 0.0) > 0
            ]
            if not found:
                continue
            kept = np.unique(np.linspace(0, len(found) - 1, MOST_MARKS).astype(int))
            shown = [found[place] for place in kept]
            figure.add_scatter(
                x=[step for step, _ in shown],
                y=[value for _, value in shown],
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": dash},
                marker={"size": 5, "color": colour},
                name=label,
                showlegend=row == 1,
                text=[f"{axis} {power_of_ten(value)}" for _, value in shown],
                hoverinfo="text",
                row=row,
                col=1,
            )
        figure.update_yaxes(
            title=f"{axis} (log scale)",
            type="log",
            exponentformat="power",
            nticks=4,
            row=row,
            col=1,
        )
    figure.update_xaxes(rangemode="tozero", **whole_axis(len(lines)))
    figure.update_xaxes(title="step", row=len(PANELS), col=1)
    return figure
