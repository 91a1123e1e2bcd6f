"""What dropping each of the targets that cost most would give, by kind of trouble."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from l0.reports.palette import AFTER, BEFORE, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import blank_figure, escaped_lines, named_axis, percent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.target_analysis.outcome import TargetAnalysis

MOST_ROWS = 60
# Kinds are told apart by colour and pattern, so that grey copies say the same. The word stands
# beside each bar too.
LOOKS = {
    "unreachable": (INK, ""),
    "contradictory": (BEFORE, ""),
    "redundant": (MUTED, "/"),
    "missed": (AFTER, ""),
    "thin": (MUTED, "x"),
    "costly": (AFTER, "/"),
    "fine": (MUTED, ""),
}


def target_ranking(analysis: TargetAnalysis, n_targets: int = 30) -> Figure:
    """Bars of what dropping a target would take off the loss, the largest on top.

    Targets in which no trouble was found are left out unless there are no others: those that are
    met within a contradicted identity would repeat what its missed members say.

    Args:
        analysis: What `analyse_targets` found.
        n_targets: Most targets to show, from 1 to 60.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If `n_targets` is out of its range.
        MissingExtra: If Plotly is not installed.
    """
    whole = isinstance(n_targets, (int, np.integer)) and not isinstance(n_targets, bool)
    if not whole or not 1 <= n_targets <= MOST_ROWS:
        raise InvalidOption(
            f"n_targets={n_targets!r} must be a whole number from 1 to {MOST_ROWS}."
        )
    loss = analysis.objective if analysis.objective > 0 else 1.0
    troubled = analysis.table[analysis.table.kind != "fine"]
    table = troubled if len(troubled) else analysis.table
    exact = table.exact_drop_objective.to_numpy()
    share = np.where(np.isnan(exact), table.drop_objective.to_numpy(), exact) / loss
    order = np.argsort(-share, kind="stable")[:n_targets]
    shown, share = table.iloc[order], share[order]
    heights = np.arange(len(shown), 0, -1.0)
    labels = [escaped_lines(name) for name in shown.name]
    facts = [
        f"{label}<br>{kind}: {escaped_lines(reason)}<br>without it the loss is {percent(value)} "
        f"lower<br>error after calibration {percent(error, signed=True)}"
        for label, kind, reason, value, error in zip(
            labels, shown.kind, shown.reason, share, shown.error, strict=True
        )
    ]
    n_exact = int((~np.isnan(exact[order])).sum())
    figures = (
        "to first order" if not n_exact else f"{n_exact} solved again, the others to first order"
    )
    figure = blank_figure(
        "What dropping each target would give",
        "Share of the loss (price of distance plus half the mean squared error) that goes when "
        f"one target alone is dropped, {figures}. Beside each bar the error that is left now. "
        "Targets of one identity share one gain: it comes with the first that is dropped."
        + (f" Shows {len(shown):,} of {len(table):,}." if len(shown) < len(table) else "")
        + (" Targets without trouble are left out." if len(table) < len(analysis.table) else ""),
        height=230 + sum(10 + 17 * (1 + label.count("<br>")) for label in labels),
    )
    for kind, (colour, pattern) in LOOKS.items():
        mine = (shown.kind == kind).to_numpy()
        if not mine.any():
            continue
        figure.add_bar(
            x=share[mine],
            y=heights[mine],
            orientation="h",
            name=kind,
            width=0.7,
            marker={
                "color": colour,
                "line": {"color": colour, "width": 1},
                "pattern": {"shape": pattern, "fgcolor": PAPER, "size": 6},
            },
            text=[percent(error, signed=True) for error in shown.error[mine]],
            textposition="outside",
            textfont={"color": INK},
            cliponaxis=False,
            hovertext=[fact for fact, is_mine in zip(facts, mine, strict=True) if is_mine],
            hoverinfo="text",
        )
    top = max(float(share.max(initial=0.0)), 1e-12)
    step = 10.0 ** math.floor(math.log10(top / 4))
    step *= next(times for times in (1, 2, 5, 10) if times * step >= top / 5)
    ticks = np.arange(0, top + step, step)
    figure.update_layout(showlegend=True, barmode="overlay")
    figure.update_xaxes(
        title="share of the loss that goes without it",
        range=[0, 1.14 * top],
        tickvals=ticks,
        tickformat="~%",
    )
    figure.update_yaxes(**named_axis(heights, list(shown.name)), showgrid=False)
    return figure
