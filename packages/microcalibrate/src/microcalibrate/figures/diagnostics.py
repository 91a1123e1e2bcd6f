"""Figures of influence in a diagnosis: pure functions of its saved tables, no network.

Every text that comes from a user is escaped: Plotly reads tags such as `<b>` or `<a href=…>`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from l0.reports.palette import AFTER, BEFORE, GRID, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    amount,
    blank_figure,
    escaped_lines,
    load_plotly,
    log_ticks,
    named_axis,
    percent,
    round_percent,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.diagnostics.diagnosis import Diagnosis

MOST_ROWS = 60
MOST_LABELS = 8
MOST_ARROWS = 20
# Shares are drawn on a log axis, which has no zero: smaller ones stand here.
LEAST_SHARE = 1e-5


def flagged(diagnosis: Diagnosis, n_records: int = 30) -> Figure:
    """Table of the flagged records, with their figures by record and by origin.

    Args:
        diagnosis: What was found.
        n_records: Most records to show, at least 1.

    Returns:
        A Plotly figure.

    Raises:
        InvalidOption: If `n_records` is below 1.
        MissingExtra: If Plotly is not installed.
    """
    _check_count("n_records", n_records, 1000)
    table = diagnosis.flagged.head(n_records)
    by_reform = table.reform_max_share.to_numpy() > table.share.to_numpy()
    figure = blank_figure(
        "Records that carry too much" if len(table) else "No record carries too much",
        f"More than {diagnosis.threshold:.0%} of a statistic, at baseline or in at least "
        f"{diagnosis.settings['reform_fraction']:.0%} of the reforms. Shares are of absolute "
        "amounts; that of the origin takes all copies of a record together."
        + (
            f" Shows {len(table):,} of {len(diagnosis.flagged):,}."
            if len(table) < len(diagnosis.flagged)
            else ""
        ),
        height=260 + 48 * len(table),
    )
    n_reforms = diagnosis.summary_figures["n_reforms_ok"]
    columns: dict[str, list[str]] = {
        "record": [escaped_lines(label) for label in table.id],
        "largest share": [
            percent(value) for value in np.maximum(table.share, table.reform_max_share)
        ],
        "share of its origin, baseline": [percent(value) for value in table.lineage_share],
        "statistic": [
            escaped_lines(reform if is_reform else base)
            for base, reform, is_reform in zip(
                table.worst_statistic, table.reform_worst_statistic, by_reform, strict=True
            )
        ],
        "statistics above the limit": [f"{count:,}" for count in table.n_influential],
        f"reforms above, of {n_reforms:,}": [f"{count:,}" for count in table.n_reforms_above],
        "weight": [amount(value) for value in table.weight],
        "weight / median": [f"{value:,.1f}" for value in table.weight_over_median],
    }
    shades = [PAPER if row % 2 else GRID for row in range(len(table))]
    plotly = load_plotly()
    figure.add_trace(
        plotly.graph_objects.Table(
            columnwidth=[1.2, 1, 1.1, 3.6, 1, 1, 1.2, 1],
            header={
                "values": [f"<b>{name}</b>" for name in columns],
                "align": "left",
                "fill": {"color": INK},
                "font": {"color": PAPER},
            },
            cells={
                "values": list(columns.values()),
                "align": "left",
                "fill": {"color": [shades]},
                "font": {"color": INK},
                "height": 26,
            },
        )
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def heat_map(diagnosis: Diagnosis, n_records: int = 20, n_statistics: int = 25) -> Figure:
    """Shares of the most influential records in the statistics that they carry most of.

    Args:
        diagnosis: What was found.
        n_records: Most records to show, 1 to 60.
        n_statistics: Most statistics to show, 1 to 60.

    Returns:
        A Plotly figure; `customdata` of each cell has the record's identifier.

    Raises:
        InvalidOption: If a count is out of its range.
        MissingExtra: If Plotly is not installed.
    """
    _check_count("n_records", n_records, MOST_ROWS)
    _check_count("n_statistics", n_statistics, MOST_ROWS)
    table = diagnosis.influence[diagnosis.influence.reform.astype(str) == "baseline"]
    records = diagnosis.flagged.id.head(n_records).tolist()
    if not records:
        worst = diagnosis.records.share.to_numpy().argsort(kind="stable")[::-1][:n_records]
        records = diagnosis.records.id.iloc[worst].tolist()
    table = table[table.id.isin(records)]
    # Thin cells have the largest shares of all; they may fill a third, or what others leave.
    best = table.groupby(table.statistic.astype(str), sort=False)[["share", "is_thin"]].max()
    best = best.sort_values(["is_thin", "share"], ascending=[True, False], kind="stable")
    n_thin = min(int(best.is_thin.sum()), max(n_statistics // 3, n_statistics - len(best)))
    n_full = min(int((~best.is_thin).sum()), n_statistics - n_thin)
    n_thin = n_statistics - n_full
    names = [*best.index[~best.is_thin][:n_full], *best.index[best.is_thin][:n_thin]]
    floor = diagnosis.threshold / 5
    figure = blank_figure(
        "Who carries which statistic",
        "Gross share of each record (columns) in each statistic (rows), at baseline. Crosses: thin "
        f"cells, where too few contribute. White: under {round_percent(floor)}.",
        height=250 + 30 * max(len(names), 1),
    )
    place = {name: row for row, name in enumerate(names)}
    column = {label: number for number, label in enumerate(records)}
    values = np.full((len(names), len(records)), np.nan)
    facts = np.full(values.shape, "", dtype=object)
    thin_x, thin_y = [], []
    heights = np.arange(len(names), 0, -1.0)
    rows: Any = table.itertuples()
    for row in rows:
        at = place.get(str(row.statistic))
        if at is None:
            continue
        values[at, column[row.id]] = math.log10(row.share)
        facts[at, column[row.id]] = (
            f"{escaped_lines(row.id)}<br>{escaped_lines(row.statistic)}<br>share "
            f"{percent(row.share)}, of its origin {percent(row.lineage_share)}<br>"
            f"limit {percent(row.limit)}{'<br>thin cell' if row.is_thin else ''}"
        )
        if row.is_thin:
            thin_x.append(column[row.id] + 1.0)
            thin_y.append(heights[at])
    places = np.arange(1.0, len(records) + 1)
    ticks = [share for share in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0) if share >= floor]
    figure.add_heatmap(
        z=values,
        x=places,
        y=heights,
        text=facts,
        customdata=np.tile([str(label) for label in records], (len(names), 1)),
        hoverinfo="text",
        hoverongaps=False,
        zmin=math.log10(floor),
        zmax=0,
        xgap=1,
        ygap=1,
        colorscale=[[0, GRID], [0.5, AFTER], [1, INK]],
        colorbar={
            "title": {"text": "share"},
            "tickvals": np.log10(ticks),
            "ticktext": [round_percent(tick) for tick in ticks],
        },
    )
    figure.add_scatter(
        x=thin_x,
        y=thin_y,
        mode="markers",
        marker={"symbol": "x-thin", "size": 11, "line": {"color": BEFORE, "width": 2}},
        hoverinfo="skip",
        name="thin cell",
    )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(
        title="record",
        tickvals=places,
        ticktext=[escaped_lines(label) for label in records],
        tickangle=-60,
        showgrid=False,
        range=[0.5, len(records) + 0.5],
    )
    figure.update_yaxes(**named_axis(heights, names), showgrid=False)
    return figure


def influence(diagnosis: Diagnosis, before: Diagnosis | None = None) -> Figure:
    """Weight against largest gross share: flagged records as marks, all others as a density.

    Args:
        diagnosis: What was found.
        before: An earlier diagnosis; arrows lead from where the flagged records were then.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    table = diagnosis.records[diagnosis.records.weight > 0]
    threshold = math.log10(diagnosis.threshold)
    figure = blank_figure(
        "Weight and influence",
        "Each record’s weight and its largest gross share of a statistic that is not thin, at "
        f"baseline. Shares under {round_percent(LEAST_SHARE)} are drawn there. Shades: number of "
        "records that are not flagged, darker for more.",
        height=600,
    )
    x = np.log10(table.weight.to_numpy())
    y = np.log10(np.maximum(table.share.to_numpy(), LEAST_SHARE))
    is_flagged = table.is_flagged.to_numpy()
    edges = (
        np.linspace(x.min() - 0.05, x.max() + 0.05, 61),
        np.linspace(math.log10(LEAST_SHARE), 0.0, 51),
    )
    counts, *_ = np.histogram2d(x[~is_flagged], y[~is_flagged], bins=edges)
    with np.errstate(divide="ignore"):
        shade = np.where(counts > 0, np.log10(counts), np.nan).T
    top = max(float(np.nanmax(shade, initial=0.0)), 1.0)
    figure.add_heatmap(
        x=(edges[0][1:] + edges[0][:-1]) / 2,
        y=(edges[1][1:] + edges[1][:-1]) / 2,
        z=shade,
        zmin=-0.3,
        zmax=top,
        colorscale=[[0, GRID], [1, MUTED]],
        customdata=counts.T,
        hovertemplate="%{customdata:,} records<extra></extra>",
        hoverongaps=False,
        showscale=False,
    )
    shown = table[is_flagged].assign(x=x[is_flagged], y=y[is_flagged])
    shown = shown.sort_values("share", ascending=False, kind="stable").head(500)
    flagged_rows: Any = shown.itertuples()
    labels = _spaced_labels(shown, float(np.ptp(edges[0])))
    figure.add_scatter(
        x=shown.x,
        y=shown.y,
        mode="markers+text",
        marker={
            "color": BEFORE,
            "symbol": "diamond",
            "size": 9,
            "line": {"color": INK, "width": 1},
        },
        text=labels,
        textposition="middle right",
        hovertext=[
            f"{escaped_lines(row.id)}<br>weight {amount(row.weight)}<br>share {percent(row.share)}"
            f" of {escaped_lines(row.worst_statistic)}<br>of its origin "
            f"{percent(row.lineage_share)}"
            for row in flagged_rows
        ],
        hoverinfo="text",
        name=f"flagged ({int(is_flagged.sum()):,})",
    )
    if before is not None:
        _add_arrows(figure, before, table)
    figure.add_hline(y=threshold, line={"color": INK, "width": 1, "dash": "dash"})
    figure.add_annotation(
        text=f"limit {round_percent(diagnosis.threshold)}",
        x=0.01,
        xref="x domain",
        y=threshold,
        yanchor="bottom",
        showarrow=False,
    )
    figure.update_layout(showlegend=True)
    ticks = log_ticks(10.0 ** x.min(), 10.0 ** x.max())
    figure.update_xaxes(
        title="weight (log scale)",
        tickvals=np.log10(ticks["tickvals"]),
        ticktext=ticks["ticktext"],
        range=[edges[0][0], edges[0][-1] + 0.1 * (edges[0][-1] - edges[0][0])],
    )
    shares = np.arange(math.log10(LEAST_SHARE), 1)
    figure.update_yaxes(
        title="largest gross share (log scale)",
        tickvals=shares,
        ticktext=[round_percent(10.0**tick) for tick in shares],
        range=[math.log10(LEAST_SHARE) - 0.1, 0.1],
    )
    return figure


def _spaced_labels(shown: pd.DataFrame, width: float) -> list[str]:
    """Labels of the most influential records, where there is room beside the earlier ones."""
    taken: list[tuple[float, float]] = []
    labels = []
    for x, y, label in zip(shown.x, shown.y, shown.id, strict=True):
        has_room = all(abs(x - a) > 0.09 * width or abs(y - b) > 0.12 for a, b in taken)
        if has_room and len(taken) < MOST_LABELS:
            taken.append((x, y))
        labels.append(escaped_lines(label) if taken and taken[-1] == (x, y) else "")
    return labels


def _add_arrows(figure: Figure, before: Diagnosis, now: pd.DataFrame) -> None:
    """Arrows from where the most influential records were to where they are."""
    then = before.flagged.head(MOST_ARROWS)[["id", "weight", "share"]]
    both = then.merge(now[["id", "weight", "share"]], on="id", suffixes=("_then", ""))
    rows: Any = both.itertuples()
    for row in rows:
        figure.add_annotation(
            x=math.log10(row.weight),
            y=math.log10(max(row.share, LEAST_SHARE)),
            ax=math.log10(max(row.weight_then, 1e-300)),
            ay=math.log10(max(row.share_then, LEAST_SHARE)),
            axref="x",
            ayref="y",
            text="",
            showarrow=True,
            arrowhead=2,
            arrowwidth=1,
            arrowcolor=INK,
        )


def _check_count(name: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidOption(f"{name}={value!r} must be a whole number from 1 to {most}.")
    if value > most:
        raise InvalidOption(f"{name}={value!r} must be a whole number from 1 to {most}.")
