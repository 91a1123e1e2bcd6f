"""Figures of a quality report: generated rows beside real ones. Pure functions of its tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from l0.reports.palette import AFTER, BEFORE, GRID, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import blank_figure, escaped_lines, load_plotly, named_axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.regularise.quality.report import QualityReport

MOST_COLUMNS = 40
MOST_STATES = 12
ROW = 34
VERDICTS = {
    True: ("✓", "passed", AFTER),
    False: ("✗", "failed", BEFORE),
    None: ("–", "only reported", MUTED),
}
"""What stands before a gate: told by sign and words, and by colour besides."""


def gates(report: QualityReport) -> Figure:
    """Table of the gates: each figure, the same of real rows, its limit, and the verdict."""
    table = report.gates
    verdicts = [VERDICTS[None if pd.isna(passed) else bool(passed)] for passed in table.passed]
    cells = [
        [escaped_lines(family) for family in table.family],
        [escaped_lines(words) for words in table.words],
        [_number(value) for value in table.value],
        [_number(value) for value in table.baseline],
        [
            "" if math.isnan(limit) else f"{direction} {_number(limit)}"
            for limit, direction in zip(table.limit, table.direction, strict=True)
        ],
        [f"{sign} {words}" for sign, words, _ in verdicts],
    ]
    n_lines = sum(text.count("<br>") + 1 for text in cells[1])
    figure = blank_figure(
        "Gates of generated rows" if report.passed else "Generated rows fail at least one gate",
        f"{report.settings['n_synthetic']:,} generated rows against "
        f"{report.settings['n_holdout']:,} real ones that the generator has not seen. Real against "
        "real is the mean over random splits of the real rows.",
        height=190 + ROW * len(table) + 17 * (n_lines - len(table)),
    )
    colours = [[INK] * len(table)] * 5 + [[colour for _, _, colour in verdicts]]
    figure.add_trace(
        load_plotly().graph_objects.Table(
            columnwidth=[1.1, 4.2, 1, 1, 1.5, 1.5],
            header={
                "values": ["about", "figure", "generated", "real", "limit", "verdict"],
                "align": ["left", "left", "right", "right", "right", "left"],
                "fill": {"color": GRID},
                "font": {"color": INK, "size": 13},
                "height": 30,
            },
            cells={
                "values": cells,
                "align": ["left", "left", "right", "right", "right", "left"],
                "fill": {"color": PAPER},
                "line": {"color": GRID},
                "font": {"color": colours, "size": 13},
                "height": 26,
            },
        )
    )
    return figure


def marginals(report: QualityReport, n_columns: int = 8) -> Figure:
    """Distribution of the columns that differ most, real and generated.

    Args:
        report: What `check_quality` found.
        n_columns: Most columns to show, from 1.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If `n_columns` is below 1.
    """
    if n_columns < 1:
        raise InvalidOption(f"n_columns={n_columns}, and it must be at least 1.")
    judged = report.marginals[~report.marginals.is_thin]
    worst = judged.sort_values("value", ascending=False, kind="stable")
    worst = worst.head(min(n_columns, MOST_COLUMNS))
    names, real, synthetic, hover = [], [], [], []
    for row in worst.to_dict("records"):
        states = report.shapes[report.shapes.column == row["column"]]
        for name, left, right in _shown_states(states):
            names.append(f"{row['column']}: {name}")
            real.append(left)
            synthetic.append(right)
            hover.append(
                f"{escaped_lines(row['column'])}<br>{escaped_lines(name)}<br>real {left:.1%}, "
                f"generated {right:.1%}<br>distance of the column {row['value']:.3f}"
            )
    heights: Any = range(len(names), 0, -1)
    figure = blank_figure(
        f"The {len(worst)} columns that differ most from the real ones",
        "Share of the weight in each state or range, among records that have the column. "
        f"{len(judged):,} of {len(report.marginals):,} columns have enough values to be judged.",
        height=190 + ROW * max(len(names), 1),
    )
    marks = (
        ("real", real, {"color": PAPER, "size": 11, "symbol": "circle",
                        "line": {"color": BEFORE, "width": 2}}),
        ("generated", synthetic, {"color": AFTER, "size": 9, "symbol": "diamond"}),
    )  # fmt: skip
    for left, right, height in zip(real, synthetic, heights, strict=True):
        figure.add_shape(
            type="line", x0=left, x1=right, y0=height, y1=height, layer="below",
            line={"color": MUTED, "width": 2},
        )  # fmt: skip
    for name, values, mark in marks:
        figure.add_scatter(
            x=values, y=list(heights), name=name, mode="markers", marker=mark,
            text=hover, hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(**named_axis(list(heights), names))  # type: ignore[arg-type]
    figure.update_xaxes(title="share of the weight", tickformat=".0%", rangemode="tozero")
    return figure


def _shown_states(states: pd.DataFrame) -> list[tuple[str, float, float]]:
    """States that occur, in order; of many, those that differ most."""
    present = states[(states.real > 0) | (states.synthetic > 0)]
    if len(present) > MOST_STATES:
        gap = (present.real - present.synthetic).abs()
        present = present.loc[gap.nlargest(MOST_STATES).index].sort_values("order")
    return list(
        zip(present.state, map(float, present.real), map(float, present.synthetic), strict=True)
    )


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
