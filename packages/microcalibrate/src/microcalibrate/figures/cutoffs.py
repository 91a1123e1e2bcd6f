"""Further figures of a diagnosis: what caps on weights cost, and one reform after another.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from l0.reports.palette import AFTER, BEFORE, INK, MUTED
from microcalibrate.figures.plotting import (
    amount,
    blank_figure,
    escaped_lines,
    percent,
    round_percent,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.diagnostics.diagnosis import Diagnosis

# Shares are drawn on a log axis, which has no zero: smaller ones stand here.
LEAST_SHARE = 1e-4
MOST_REFORMS = 100


def potter(diagnosis: Diagnosis) -> Figure:
    """Potter's estimated mean squared error by cap: what trimming weights costs and saves.

    Args:
        diagnosis: What was found.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    table = diagnosis.potter.sort_values("cap", kind="stable")
    figure = blank_figure(
        "What a cap on weights would cost and save",
        "Estimated mean squared error of the surface’s totals if weights above a cap were cut and "
        "the rest raised to the same sum (Potter 1990), relative to the variance at the weights as "
        "they are (1). Diamond: the least.",
        height=430,
    )
    for name, column, colour, dash in (
        ("mean squared error", "relative_mse", INK, "solid"),
        ("squared bias", "relative_bias", BEFORE, "dash"),
        ("variance", "relative_variance", AFTER, "dot"),
    ):
        figure.add_scatter(
            x=table.cap,
            y=np.maximum(table[column], 1e-6),
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            name=name,
            hovertemplate=f"cap %{{x:,.4s}}: {name} %{{y:.3g}}<extra></extra>",
        )
    if len(table):
        best: Any = table.iloc[int(table.relative_mse.to_numpy().argmin())]
        figure.add_scatter(
            x=[best.cap],
            y=[max(best.relative_mse, 1e-6)],
            mode="markers+text",
            marker={"symbol": "diamond", "size": 11, "color": INK},
            text=[f"cap {amount(best.cap)}, {int(best.n_capped):,} records cut"],
            textposition="top left",
            showlegend=False,
            hoverinfo="skip",
        )
        low = max(float(table[["relative_mse", "relative_variance"]].min().min()), 1e-6)
        high = float(table[["relative_mse", "relative_variance"]].max().max())
        bottom = math.log10(low) - 0.15
        figure.update_yaxes(range=[max(bottom, -2.0), math.log10(max(high, low * 2)) + 0.15])
    figure.update_xaxes(title="cap on the weight (log scale)", type="log")
    ticks = [digit * 10.0**power for power in range(-2, 7) for digit in (1, 2, 5)]
    figure.update_yaxes(
        title="relative to no cap (log)",
        type="log",
        tickvals=ticks,
        ticktext=[f"{tick:,g}" for tick in ticks],
    )
    return figure


def reforms(diagnosis: Diagnosis) -> Figure:
    """The largest share of a record under each reform, and how many records are influential.

    Args:
        diagnosis: What was found.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    table = diagnosis.reforms[diagnosis.reforms.status == "ok"]
    shown = table.sort_values("largest_share", ascending=False, kind="stable").head(MOST_REFORMS)
    figure = blank_figure(
        "One reform after another",
        "Largest gross share that any record has of a change, by reform, the largest first. "
        "Numbers: records that are influential under the reform. Dashed: the limit."
        + (f" Shows {len(shown):,} of {len(table):,}." if len(shown) < len(table) else ""),
        height=400,
    )
    shares = np.maximum(shown.largest_share.to_numpy(), LEAST_SHARE)
    places = np.arange(1, len(shown) + 1)
    is_above = shares > diagnosis.threshold
    for name, chosen, colour, symbol in (
        ("above the limit", is_above, BEFORE, "diamond"),
        ("below", ~is_above, AFTER, "circle"),
    ):
        rows = shown[chosen].to_dict("records")
        figure.add_scatter(
            x=places[chosen],
            y=shares[chosen],
            mode="markers+text",
            marker={"color": colour, "symbol": symbol, "size": 10},
            text=[f"{row['n_influential']:,}" if row["n_influential"] else "" for row in rows],
            textposition="top center",
            hovertext=[
                f"{escaped_lines(row['reform'])}<br>{escaped_lines(row['description'])}<br>"
                f"record {escaped_lines(row['largest_id'])}: {percent(row['largest_share'])}"
                for row in rows
            ],
            hoverinfo="text",
            name=name,
            showlegend=bool(chosen.any()),
        )
    limit = math.log10(diagnosis.threshold)
    figure.add_hline(y=diagnosis.threshold, line={"color": MUTED, "width": 1, "dash": "dash"})
    ticks = [tick for tick in (0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)]
    low = min(math.log10(shares.min()) if len(shares) else limit, limit) - 0.2
    figure.update_yaxes(
        title="largest share (log scale)",
        type="log",
        range=[low, 0.2],
        tickvals=ticks,
        ticktext=[round_percent(tick) for tick in ticks],
    )
    few = len(shown) <= 30
    figure.update_xaxes(
        tickvals=places if few else None,
        ticktext=[escaped_lines(name) for name in shown.reform] if few else None,
        title=None if few else "reforms",
        showticklabels=few,
        tickangle=-45,
        range=[0.3, max(len(shown), 1) + 0.7],
        showgrid=False,
    )
    return figure
