"""Figures of two runs side by side: errors of the targets they share, and weights of records.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from l0.reports.palette import AFTER, BEFORE, INK, MUTED
from microcalibrate.figures.plotting import (
    LEAST_ERROR,
    blank_figure,
    escaped_lines,
    log_percent_axis,
    percent,
    round_percent,
)
from microcalibrate.figures.weight_density import weight_density

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

MOST_MARKS = 2_000
LOOKS = {"improved": (AFTER, "circle"), "worsened": (BEFORE, "diamond"), "alike": (MUTED, "x")}


def errors(targets: pd.DataFrame, first: str, second: str) -> Figure:
    """Absolute error of each target in one run against the other.

    Args:
        targets: With `name`, `first_error`, `second_error` and `change`, of both runs.
        first: Name of the first run.
        second: Name of the second run.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    size = (targets.second_error.abs() - targets.first_error.abs()).abs()
    shown = targets.loc[size.sort_values(ascending=False, kind="stable").index[:MOST_MARKS]]
    figure = blank_figure(
        "Errors of the targets in both runs",
        "Absolute error, relative to the scale of the target. Below the line the second run is "
        f"closer. Errors under {round_percent(LEAST_ERROR)} are drawn there."
        + (f" Shows {len(shown):,} of {len(targets):,}." if len(shown) < len(targets) else ""),
        height=560,
    )
    sides = [np.maximum(shown[f"{side}_error"].abs(), LEAST_ERROR) for side in ("first", "second")]
    largest = max((float(side.max()) for side in sides if len(side)), default=1.0)
    for change, (colour, symbol) in LOOKS.items():
        chosen = (shown.change == change).to_numpy()
        if not chosen.any():
            continue
        rows: Any = shown[chosen].itertuples()
        figure.add_scatter(
            x=sides[0][chosen],
            y=sides[1][chosen],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            hovertext=[
                f"{escaped_lines(row.name)}<br>{percent(row.first_error, signed=True)}, then "
                f"{percent(row.second_error, signed=True)}"
                for row in rows
            ],
            hoverinfo="text",
            name=f"{change} ({int((targets.change == change).sum()):,})",
        )
    axis = log_percent_axis(largest)
    ends = [10.0 ** axis["range"][0], 10.0 ** axis["range"][1]]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": INK, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(title=f"error in {escaped_lines(first)}", **axis)
    figure.update_yaxes(title=f"error in {escaped_lines(second)}", **axis)
    return figure


def weights(table: pd.DataFrame, first: str, second: str) -> Figure:
    """Weight of each record in one run against the other, as a density.

    Args:
        table: With the weights `first` and `second` of the records of both runs.
        first: Name of the first run.
        second: Name of the second run.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    n_gone = int(((table["first"] > 0) & (table["second"] == 0)).sum())
    n_new = int(((table["first"] == 0) & (table["second"] > 0)).sum())
    return weight_density(
        table["first"],
        table["second"],
        (f"weight in {first}", f"weight in {second}"),
        "Weights of the records in both runs",
        f"Shades: number of records, darker for more. Not drawn: {n_gone:,} with weight in the "
        f"first alone, {n_new:,} in the second alone.",
    )
