"""Figures of the targets at one epoch of a log: how far off, which way, and how many.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from l0.reports.palette import AFTER, BEFORE, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    amount,
    blank_figure,
    escaped_lines,
    relative,
    whole_axis,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

A_PAGE = 15
"""Targets that `estimate_bars` shows at a time."""
WITHIN_A_FIFTH = 3
"""Bins of the histogram that end at 20% or below."""


def error_histogram(counts: pd.DataFrame, when: str = "") -> Figure:
    """How many targets are off by how much.

    Args:
        counts: `bin` and `count`, as `logs.quality.error_histogram` returns them; the last bin is
            of targets without a relative error.
        when: What state it is of, such as "epoch 12", for the title.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    values, total = counts["count"].to_numpy(), int(counts["count"].sum())
    shown = counts if values[-1] else counts.iloc[:-1]
    labels = [str(label) for label in shown["bin"]]
    colours = [
        AFTER if place < WITHIN_A_FIFTH else BEFORE if place < len(counts) - 1 else MUTED
        for place in range(len(shown))
    ]
    figure = blank_figure(
        "How far off the targets are" + (f", {escaped_lines(when)}" if when else ""),
        f"{total:,} targets by their absolute relative error. Blue: below 20%."
        + (f" {values[-1]:,} targets of 0 have no relative error." if values[-1] else ""),
        height=420,
    )
    figure.add_bar(
        x=labels,
        y=shown["count"],
        marker={"color": colours, "line": {"color": INK, "width": 0.5}},
        text=[f"{count:,}" for count in shown["count"]],
        textposition="outside",
        cliponaxis=False,
        hovertext=[
            f"{label}: {count:,} targets ({count / max(total, 1):.1%})"
            for label, count in zip(labels, shown["count"], strict=True)
        ],
        hoverinfo="text",
    )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="absolute relative error", type="category", showgrid=False)
    figure.update_yaxes(
        title="targets", rangemode="tozero", **whole_axis(float(shown["count"].max()), 8)
    )
    return figure


def estimate_bars(state: pd.DataFrame, page: int = 0, when: str = "") -> Figure:
    """Targets beside their estimates, fifteen at a time.

    Each bar is the estimate as a share of its target, so that persons and dollars stand on one
    axis; the values are written beside it. A target of 0 has no such share: its bar is left out
    and its values are written all the same.

    Args:
        state: Targets at an epoch, in the order to show them: `name`, `target`, `estimate`,
            `relative_error`.
        page: Which fifteen, from 0.
        when: What state it is of, for the title.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If there is no such page.
        MissingExtra: If Plotly is not installed.
    """
    pages = max(math.ceil(len(state) / A_PAGE), 1)
    if not isinstance(page, (int, np.integer)) or not 0 <= page < pages:
        raise InvalidOption(
            f"page={page!r} must be a whole number from 0 to {pages - 1}: there are {len(state):,} "
            f"targets, {A_PAGE} a page."
        )
    shown = state.iloc[page * A_PAGE : (page + 1) * A_PAGE]
    labels = [escaped_lines(name) for name in shown.name]
    # In pixels: a name of several lines has a row that is as much higher.
    rows = np.array([16.0 + 17.0 * (1 + label.count("<br>")) for label in labels])
    heights = rows.sum() - rows.cumsum() + rows / 2
    target, estimate = shown.target.to_numpy(), shown.estimate.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.isfinite(estimate) & (target != 0), estimate / target, np.nan)
    known = share[np.isfinite(share)]
    high = min(max(1.35, 1.05 * float(known.max(initial=0.0))), 3.0)
    low = max(min(0.0, 1.05 * float(known.min(initial=0.0))), -1.0)
    cut = int(((share > high) | (share < low)).sum())
    figure = blank_figure(
        "Targets and their estimates" + (f", {escaped_lines(when)}" if when else ""),
        f"Bar: the estimate as a share of its target; line: the target. Targets "
        f"{page * A_PAGE + 1:,} to {page * A_PAGE + len(shown):,} of {len(state):,}."
        + (f" {cut} bars go on beyond the edge." if cut else ""),
        height=170 + sum(16 + 17 * (1 + label.count("<br>")) for label in labels),
        columns=(0.5, 0.5),
    )
    texts = [
        f"{amount(value)} of {amount(goal)} ({relative(miss, goal, signed=True)})"
        for value, goal, miss in zip(estimate, target, shown.relative_error, strict=True)
    ]
    figure.add_bar(
        x=np.clip(share, low, high),
        y=heights,
        orientation="h",
        width=18.0,
        marker={"color": AFTER, "line": {"color": INK, "width": 0.5}},
        hovertext=[
            f"{label}<br>estimate {text}" for label, text in zip(labels, texts, strict=True)
        ],
        hoverinfo="text",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=[1, 1],
        y=[0, rows.sum()],
        mode="lines",
        line={"color": INK, "width": 2},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=np.zeros(len(shown)),
        y=heights,
        mode="text",
        text=texts,
        textposition="middle right",
        hoverinfo="skip",
        cliponaxis=False,
        row=1,
        col=2,
    )
    span = [0, rows.sum()]
    figure.update_layout(showlegend=False)
    figure.update_xaxes(
        title="estimate / target", range=[low, high], tickformat=".0%", row=1, col=1
    )
    figure.update_xaxes(
        title="estimate of target, in its units", showticklabels=False, ticks="", showgrid=False,
        range=[0, 1], linecolor=PAPER, row=1, col=2,
    )  # fmt: skip
    figure.update_yaxes(tickvals=heights, ticktext=labels, range=span, showgrid=False, row=1, col=1)
    figure.update_yaxes(showticklabels=False, range=span, showgrid=False, row=1, col=2)
    return figure
