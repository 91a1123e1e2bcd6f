"""Two weights of each record against each other, as a density: any number of records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from l0.reports.palette import BEFORE, GRID, INK
from microcalibrate.figures.plotting import amount, blank_figure, escaped_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BINS = 70
"""Along each axis: 4,900 cells, whatever the number of records."""


def weight_density(
    first: Any, second: Any, axes: tuple[str, str], title: str, subtitle: str
) -> Figure:
    """Density of the records over two weights, both on a log scale.

    Args:
        first: Along x, shape `(n_records,)`, in persons or households per record.
        second: Along y. Records of which either weight is not positive are not drawn.
        axes: What the two weights are.
        title: Of the figure.
        subtitle: What to know about it.

    Returns:
        A Plotly figure, with a line where both weights are equal.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    figure = blank_figure(title, subtitle, height=560)
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    drawn = (x > 0) & (y > 0)
    if not drawn.any():
        return figure
    x, y = np.log10(x[drawn]), np.log10(y[drawn])
    low, high = min(x.min(), y.min()) - 0.05, max(x.max(), y.max()) + 0.05
    edges = np.linspace(low, high, BINS + 1)
    counts, *_ = np.histogram2d(x, y, bins=(edges, edges))
    with np.errstate(divide="ignore"):
        shade = np.where(counts > 0, np.log10(counts), np.nan).T
    middle = (edges[1:] + edges[:-1]) / 2
    figure.add_heatmap(
        x=middle,
        y=middle,
        z=shade,
        zmin=-0.3,
        zmax=max(float(np.nanmax(shade)), 1.0),
        colorscale=[[0, GRID], [1, INK]],
        customdata=counts.T,
        hovertemplate="%{customdata:,} records<extra></extra>",
        hoverongaps=False,
        showscale=False,
    )
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": BEFORE, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        showlegend=False,
    )
    ticks = np.arange(math.floor(low), math.ceil(high) + 1)
    if len(ticks) <= 4:
        ticks = np.sort(np.concatenate([ticks, ticks + math.log10(3)]))
    axis = {"tickvals": ticks, "ticktext": [amount(10.0**tick) for tick in ticks]}
    words = [
        f"{escaped_lines(name)}<br>(persons or households per record, log scale)" for name in axes
    ]
    figure.update_xaxes(title=words[0], range=[low, high], **axis)
    figure.update_yaxes(title=words[1], range=[low, high], **axis)
    return figure


def before_and_after(design_weights: Any, weights: Any) -> Figure:
    """Calibrated against design weight of each record, as a density.

    Args:
        design_weights: Shape `(n_records,)`.
        weights: Calibrated, shape `(n_records,)`; 0 for dropped records.

    Returns:
        A Plotly figure.

    Raises:
        MissingExtra: If Plotly is not installed.

    Examples:
        >>> before_and_after([1.0, 2.0], [0.0, 2.5]).layout.yaxis.title.text[:17]
        'calibrated weight'
    """
    before, after = np.asarray(design_weights), np.asarray(weights)
    left_out = [
        f"{int(mask.sum()):,} records {what}"
        for mask, what in (
            ((before > 0) & (after == 0), "that were dropped"),
            (before <= 0, "without a design weight"),
            (after < 0, "with a negative weight"),
        )
        if mask.any()
    ]
    return weight_density(
        before,
        after,
        ("design weight", "calibrated weight"),
        "Weights before and after",
        "Shades: number of records, darker for more; on the line a weight did not change."
        + (f" Not drawn: {' and '.join(left_out)}." if left_out else ""),
    )
