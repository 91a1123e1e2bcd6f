"""Figures of regularising: what rounds brought, what they cost, and what drives the weights.

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
    escaped_lines,
    log_percent_axis,
    named_axis,
    percent,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.regularise.result import RegulariseResult

Vector = NDArray[np.float64]

BEFORE_MARK = {"color": PAPER, "size": 9, "symbol": "circle", "line": {"color": BEFORE, "width": 2}}
AFTER_MARK = {"color": AFTER, "size": 9, "symbol": "diamond"}
MOST_MARKS = 5_000
LEAST_RATIO = 0.05
"""Weights of respondents that moved by less than this are left out where there are too many."""


def rounds(result: RegulariseResult) -> Figure:
    """Largest share by record and by origin, flagged records and Kish size after each round.

    Round 0 is recalibration alone, without any generated record: what the rounds begin with.

    Args:
        result: What regularising gave.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    table, first = result.history, result.before.summary_figures
    numbers = table["round"].astype(int).tolist()
    steps = np.arange(len(table) + 1)
    figure = blank_figure(
        "Rounds",
        "Filled: round kept; hollow: rolled back, so that the state stays as it was. By origin, "
        "all offspring of a record count as one.",
        height=760,
        rows=["largest share of a statistic", "flagged records", "Kish effective sample size"],
    )

    def line(row: int, values: Any, name: str, colour: str, symbol: str, shown: Any) -> None:
        # Rounds begin with the recalibrated weights, whatever these cost.
        kept = [True, *(table["accepted"] | (table["round"] == 0)).tolist()]
        reasons = ["", *map(_outcome, table.to_dict("records"))]
        titles = ["as it came", *(f"round {number}" for number in numbers)]
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines+markers",
            line={"color": colour, "shape": "hv", "width": 2},
            marker={
                "symbol": [symbol if is_kept else f"{symbol}-open" for is_kept in kept],
                "size": 9,
                "color": colour,
            },
            name=name,
            text=[
                f"{title}: {name} {shown(value)}<br>{reason}"
                for title, value, reason in zip(titles, values, reasons, strict=True)
            ],
            hoverinfo="text",
            row=row,
            col=1,
        )

    by_record = np.r_[first["largest_share"], table["largest_share"]]
    is_kept = table["accepted"] | (table["round"] == 0)
    lineage = np.where(is_kept, table["lineage_share_after"], table["lineage_share_before"])
    by_origin = np.r_[first["largest_lineage_share"], lineage]
    line(1, by_record, "share by record", AFTER, "diamond", percent)
    line(1, by_origin, "share by origin", BEFORE, "circle", percent)
    flagged = np.r_[first["n_flagged"], table["n_flagged_after"]]
    line(2, flagged, "flagged records", INK, "square", lambda v: f"{v:,.0f}")
    kish = np.r_[first["kish"]["n_eff"], table["kish"]]
    of_origins = np.r_[first["kish"]["lineage_n_eff"], table["lineage_kish"]]
    line(3, kish, "Kish by record", AFTER, "diamond", amount)
    line(3, of_origins, "Kish by origin", BEFORE, "circle", amount)
    figure.update_yaxes(rangemode="tozero")
    # Three panels of one height, each with its title and one legend beside the first.
    for row, domain in enumerate(([0.72, 0.96], [0.37, 0.61], [0.0, 0.26]), start=1):
        figure.update_yaxes(domain=domain, row=row, col=1)
        figure.layout.annotations[row - 1].y = domain[1] + 0.01
    figure.update_layout(legend={"y": 1.0})
    figure.update_yaxes(tickformat=".0%", row=1, col=1)
    every = max(1, math.ceil(len(table) / 12))
    places = [0, *range(1, len(steps), every)]
    labels = ["as it came", *(str(number) for number in numbers[::every])]
    figure.update_xaxes(tickvals=places, ticktext=labels)
    figure.update_xaxes(title="round (0: recalibration alone)", row=3, col=1)
    return figure


def target_fit(result: RegulariseResult, n_targets: int = 20) -> Figure:
    """Errors of the targets before and after, the largest first.

    Args:
        result: What regularising gave.
        n_targets: How many targets to show at most.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If there is nothing to show.
        MissingExtra: If Plotly is not installed.
    """
    table = result.targets
    size = table[["before_error", "after_error"]].abs().max(axis=1).to_numpy()
    shown = table.iloc[np.argsort(-size, kind="stable")[: _count(n_targets)]]
    heights = np.arange(len(shown), 0, -1.0)
    first = shown["before_error"].abs().clip(lower=LEAST_ERROR).to_numpy()
    last = shown["after_error"].abs().clip(lower=LEAST_ERROR).to_numpy()
    figure = blank_figure(
        "Fit of the targets",
        f"The {len(shown):,} of {len(table):,} targets that were or are missed most. Errors below "
        "0.0001% are drawn there.",
        height=170 + 30 * len(shown),
    )
    figure.add_scatter(
        x=broken_line(first, last),
        y=broken_line(heights, heights),
        mode="lines",
        line={"color": MUTED, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )
    for name, values, mark, column in (
        ("before", first, BEFORE_MARK, "before_error"),
        ("after", last, AFTER_MARK, "after_error"),
    ):
        figure.add_scatter(
            x=values,
            y=heights,
            mode="markers",
            marker=mark,
            name=name,
            text=[
                f"{escaped_lines(row['name'])}<br>{name}: {percent(row[column], signed=True)}"
                for row in shown.to_dict("records")
            ],
            hoverinfo="text",
        )
    axis = log_percent_axis(float(size.max()))
    figure.update_xaxes(title="absolute relative error (log scale)", **axis)
    figure.update_yaxes(**named_axis(heights, shown["name"].tolist()), showgrid=False)
    return figure


def prices(result: RegulariseResult, n_targets: int = 20) -> Figure:
    """What drives the weights: the targets with the largest prices, and their direction.

    The price of a target is what a record that adds one scale to it per unit of weight gets as
    the log of the ratio of its weight to its prior.

    Args:
        result: What regularising gave.
        n_targets: How many targets to show at most.

    Returns:
        A Plotly figure; one that says so where the survey is unchanged and has no prices.

    Raises:
        InvalidOption: If there is nothing to show.
        MissingExtra: If Plotly is not installed.
    """
    table = result.targets[result.targets["price_per_scale"].notna()]
    if table.empty:
        return blank_figure(
            "Price of the targets", "The survey is unchanged, so there are no prices.", height=150
        )
    size = table["price_per_scale"].abs().to_numpy()
    shown = table.iloc[np.argsort(-size, kind="stable")[: _count(n_targets)]]
    heights = np.arange(len(shown), 0, -1.0)
    values = shown["price_per_scale"].to_numpy()
    figure = blank_figure(
        "Price of the targets",
        f"The {len(shown):,} of {len(table):,} that drive the weights most, in entropy per scale. "
        "To the right: weights of records that add to the target were raised.",
        height=170 + 30 * len(shown),
    )
    figure.add_bar(
        x=values,
        y=heights,
        orientation="h",
        marker={
            "color": np.where(values >= 0, AFTER, BEFORE).tolist(),
            "pattern": {"shape": np.where(values >= 0, "", "/").tolist(), "fgcolor": PAPER},
        },
        text=[amount(value) for value in values],
        textposition="outside",
        hovertext=[
            f"{escaped_lines(row['name'])}<br>price {amount(row['price_per_scale'])} per scale of "
            f"{amount(row['scale'])}; error {percent(row['after_error'], signed=True)}"
            for row in shown.to_dict("records")
        ],
        hoverinfo="text",
        showlegend=False,
        cliponaxis=False,
    )
    # Room for the text beyond the longest bar.
    reach = 1.6 * float(np.abs(values).max()) or 1.0
    low, high = (-reach if (values < 0).any() else 0), (reach if (values > 0).any() else 0)
    figure.update_xaxes(title="entropy per scale of the target", range=[low, high])
    figure.update_yaxes(**named_axis(heights, shown["name"].tolist()), showgrid=False)
    return figure


def weights(result: RegulariseResult) -> Figure:
    """Weight of each respondent before and after, and the weights of generated records.

    Args:
        result: What regularising gave.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    units = result.units
    stayed = units[~units["is_synthetic"] & (units["original_weight"] > 0) & (units["weight"] > 0)]
    former = result.original_weights.set_index("id")["weight"]
    replaced = former[~former.index.isin(units["id"])]
    drawn = _thinned(stayed)
    figure = blank_figure(
        "Weights before and after",
        f"{len(stayed):,} records of the survey that stayed, {len(replaced):,} that were replaced "
        f"and {len(result.lineage):,} generated ones, which had no weight before."
        + (f" {len(drawn):,} of those that stayed are drawn." if len(drawn) < len(stayed) else ""),
        height=560,
        columns=(0.8, 0.2),
    )
    low, high = _range(units, former)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": MUTED, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=drawn["original_weight"],
        y=drawn["weight"],
        mode="markers",
        marker={"color": AFTER, "size": 6, "symbol": "diamond", "opacity": 0.5},
        name="stayed",
        text=[
            f"{escaped_lines(row['id'])}<br>{amount(row['original_weight'])} to "
            f"{amount(row['weight'])}"
            for row in drawn.to_dict("records")
        ],
        hoverinfo="text",
        row=1,
        col=1,
    )
    sums = units[units["is_synthetic"]].groupby("lineage")["weight"].sum()
    heirs = sums.reindex(replaced.index)
    figure.add_scatter(
        x=replaced,
        y=np.maximum(heirs.fillna(0), low),
        mode="markers",
        marker={**BEFORE_MARK, "size": 10},
        name="replaced (after: all of its offspring)",
        text=[
            f"{escaped_lines(unit)}: {amount(weight)}, its offspring {amount(heir)} in all"
            for unit, weight, heir in zip(replaced.index, replaced, heirs.fillna(0), strict=True)
        ],
        hoverinfo="text",
        row=1,
        col=1,
    )
    new = units.loc[units["is_synthetic"] & (units["weight"] > 0), "weight"]
    figure.add_box(
        y=new.iloc[:MOST_MARKS],
        name="generated",
        marker={"color": INK, "symbol": "line-ew-open"},
        boxpoints="outliers",
        showlegend=False,
        row=1,
        col=2,
    )
    for column in (1, 2):
        figure.update_yaxes(type="log", range=np.log10([low, high]).tolist(), row=1, col=column)
    if high / low >= 100:
        figure.update_xaxes(dtick=1)
        figure.update_yaxes(dtick=1)
    figure.update_yaxes(title="weight after", row=1, col=1)
    figure.update_xaxes(
        type="log", range=np.log10([low, high]).tolist(), title="weight before", row=1, col=1
    )
    return figure


def _thinned(units: Any) -> Any:
    """Those that moved, and as many of the others as there is room for, evenly."""
    if len(units) <= MOST_MARKS:
        return units
    moved = np.abs(np.log(units["weight"] / units["original_weight"])).to_numpy()
    order = np.argsort(-moved, kind="stable")
    n_moved = min(int((moved > LEAST_RATIO).sum()), MOST_MARKS // 2)
    others = order[n_moved:]
    every = math.ceil(len(others) / (MOST_MARKS - n_moved))
    return units.iloc[np.sort(np.concatenate([order[:n_moved], others[::every]]))]


def _range(units: Any, former: Any) -> tuple[float, float]:
    everything = np.concatenate([units["weight"].to_numpy(), former.to_numpy()])
    positive = everything[everything > 0]
    # An entropy fit leaves some weights tiny; below this they would only stretch the axes.
    low = max(float(positive.min()), 1e-4 * float(np.median(positive)))
    return 0.7 * low, 1.4 * float(positive.max())


def _outcome(row: Any) -> str:
    if not row["round"]:
        told = "recalibration alone"
        return told + (f": {escaped_lines(row['reason'])}" if row["reason"] else "")
    what = f"{row['n_spawned']:,} spread over {row['n_offspring']:,}"
    return (
        f"{what}, kept"
        if row["accepted"]
        else f"{what}, rolled back: " + escaped_lines(row["reason"])
    )


def _count(n_targets: int) -> int:
    if n_targets < 1:
        raise InvalidOption(f"n_targets={n_targets!r} must be at least 1.")
    return n_targets
