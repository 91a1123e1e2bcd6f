"""The heat map of conflicts among the targets that make most trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from l0.reports.palette import AFTER, BEFORE, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import blank_figure, escaped_lines, named_axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.target_analysis.outcome import TargetAnalysis

MOST_ROWS = 60


def heat_map(analysis: TargetAnalysis, n_targets: int = 30) -> Figure:
    """Heat map of the conflicts among the most troublesome targets, the worst on top.

    Rows have the full names and their ranks; columns, which are the same targets, the ranks.
    Targets out of reach, which have no conflicts, are left out unless there are no others.

    Args:
        analysis: What `analyse_targets` found.
        n_targets: Most targets to show, from 1 to 60.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If `n_targets` is out of its range.
        MissingExtra: If Plotly is not installed.
    """
    if not isinstance(n_targets, (int, np.integer)) or not 1 <= n_targets <= MOST_ROWS:
        raise InvalidOption(
            f"n_targets={n_targets!r} must be a whole number from 1 to {MOST_ROWS}."
        )
    within = analysis.table[~analysis.table.unreachable]
    table = within if len(within) else analysis.table
    shown = table.head(n_targets)
    place = {name: position for position, name in enumerate(analysis.target_names)}
    order = [place[name] for name in shown.name]
    ranks = shown["rank"].to_numpy()
    values = analysis.conflict_matrix[np.ix_(order, order)].copy()
    np.fill_diagonal(values, np.nan)
    heights = np.arange(len(shown), 0, -1.0)
    labels = [escaped_lines(name) for name in shown.name]
    reasons = [escaped_lines(reason) for reason in shown.reason]
    facts = [
        [
            f"{labels[row]}<br>({reasons[row]})<br>and {labels[column]}<br>"
            f"conflict {values[row, column]:+.2f}"
            for column in range(len(shown))
        ]
        for row in range(len(shown))
    ]
    places = np.arange(1.0, len(shown) + 1)
    figure = blank_figure(
        "Targets that pull against each other",
        "Conflict is 1 where only one of two targets can be met, 0 where they do not meet, and "
        "−1 where they pull as one. Columns are the same targets, by rank."
        + (
            f" Shows {len(shown):,} of {len(table):,}, the worst."
            if len(shown) < len(table)
            else ""
        )
        + (" Targets out of reach are left out." if len(table) < len(analysis.table) else ""),
        height=220 + sum(8 + 17 * (1 + label.count("<br>")) for label in labels),
    )
    figure.add_heatmap(
        z=values,
        x=places,
        y=heights,
        text=facts,
        hoverinfo="text",
        hoverongaps=False,
        zmin=-1,
        zmax=1,
        xgap=1,
        ygap=1,
        colorscale=[[0, AFTER], [0.5, PAPER], [1, BEFORE]],
        colorbar={"title": {"text": "conflict"}, "tickvals": [-1, -0.5, 0, 0.5, 1]},
    )
    # The title of the axis on top stands between the subtitle and the ranks.
    figure.update_layout(showlegend=False, margin_t=figure.layout.margin.t + 24)
    figure.update_xaxes(
        title="rank",
        side="top",
        tickvals=places,
        ticktext=[str(rank) for rank in ranks],
        tickangle=0,
        tickfont={"size": 11 if len(shown) <= 30 else 9},
        showgrid=False,
        range=[0.5, len(shown) + 0.5],
    )
    named = named_axis(heights, list(shown.name))
    named["ticktext"] = [
        f"{label}  {rank}" for label, rank in zip(named["ticktext"], ranks, strict=True)
    ]
    figure.update_yaxes(**named, showgrid=False)
    return figure
