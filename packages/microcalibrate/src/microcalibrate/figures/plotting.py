"""What all figures share: Plotly itself, colours, axes, and numbers in words."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import FONT, GRID, INK, MUTED, PAPER
from microcalibrate.errors import MissingExtra

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Vector = NDArray[np.float64]

# Before and after also differ in the shape of their markers.
CHARACTERS_A_LINE = 44
CHARACTERS_A_SUBTITLE = 100

# Errors are drawn on a log axis, which has no zero: smaller ones stand here.
LEAST_ERROR = 1e-6


def load_plotly() -> Any:
    """The Plotly package: the only place that imports it.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import plotly
        import plotly.graph_objects
        import plotly.offline
        import plotly.subplots
    except ImportError as error:
        raise MissingExtra(
            "figures and reports need Plotly. Install it with: pip install 'microcalibrate[viz]'"
        ) from error
    return plotly


# --- Parts of figures -----------------------------------------------------------------------------


def blank_figure(
    title: str,
    subtitle: str,
    height: int,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[float] = (1.0,),
) -> Figure:
    """An empty figure; with `rows` one panel below the other, each with its title."""
    figure: Figure = load_plotly().subplots.make_subplots(
        rows=max(len(rows), 1),
        cols=len(columns),
        column_widths=list(columns),
        subplot_titles=list(rows) or None,
        vertical_spacing=0.27,
        horizontal_spacing=0.06,
    )
    explained = textwrap.wrap(subtitle, CHARACTERS_A_SUBTITLE)
    figure.update_layout(
        title={
            "text": f"<b>{title}</b>",
            "font": {"size": 18},
            "subtitle": {
                "text": "<br>".join(explained),
                "font": {"color": MUTED, "size": 13},
            },
            "x": 0.01,
            "xref": "container",
            "y": 1 - 16 / height,
            "yanchor": "top",
        },
        font={"family": FONT, "size": 13, "color": INK},
        height=height,
        margin={"l": 10, "r": 16, "t": 78 + 17 * len(explained), "b": 56},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        hoverlabel={"bgcolor": PAPER, "font": {"family": FONT, "color": INK}, "align": "left"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        bargap=0.3,
    )
    axis = {"gridcolor": GRID, "linecolor": MUTED, "zeroline": False, "automargin": True}
    figure.update_xaxes(showline=True, ticks="outside", tickcolor=MUTED, **axis)
    figure.update_yaxes(**axis)
    figure.update_annotations(x=0, xanchor="left", font={"size": 14})
    return figure


def escaped_lines(name: object) -> str:
    """A user's text, whole, in lines that fit beside an axis, and never read as tags."""
    parts = textwrap.wrap(readable(name), CHARACTERS_A_LINE, break_on_hyphens=False) or [" "]
    return "<br>".join(map(html.escape, parts))


def named_axis(heights: Vector, names: Sequence[str]) -> dict[str, Any]:
    """An axis with a user's text at each height."""
    return {
        "tickvals": heights,
        "ticktext": [escaped_lines(name) for name in names],
        "range": [0.4, len(names) + 0.6],
    }


def log_percent_axis(largest: float, smallest: float = LEAST_ERROR) -> dict[str, Any]:
    """A log axis of fractions from the smallest to the largest, written as percentages."""
    low = math.floor(math.log10(min(max(smallest, LEAST_ERROR), 0.01)) + 1e-9)
    high = max(math.log10(max(largest, LEAST_ERROR)), -1.0) + 0.1
    ticks = 10.0 ** np.arange(low, math.ceil(high) + 1)
    ticks = ticks[:: math.ceil(len(ticks) / 10)]
    text = [round_percent(tick) for tick in ticks]
    return {"type": "log", "range": [low - 0.1, high], "tickvals": ticks, "ticktext": text}


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks of a log axis from `low` to `high`: powers of ten, or 1, 2 and 5 of few of them.

    Examples:
        >>> log_ticks(4.0, 30.0)["ticktext"], log_ticks(1.0, 1e4)["ticktext"]
        (['2', '5', '10', '20', '50'], ['1', '10', '100', '1,000', '10,000'])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = 10.0 ** np.arange(first, last + 1)
    if len(ticks) < 4:
        ticks = np.outer(ticks, [1.0, 2.0, 5.0]).ravel()
        ticks = ticks[np.searchsorted(ticks, low) - 1 if low > ticks[0] else 0 :]
        ticks = ticks[: np.searchsorted(ticks, high) + 1]
    return {"tickvals": ticks, "ticktext": [amount(tick) for tick in ticks]}


def whole_axis(span: float, most: int = 10) -> dict[str, Any]:
    """Ticks of an axis of whole numbers: 1, 2 or 5 times a power of ten apart, never less than 1.

    Args:
        span: From the first number to the last.
        most: Ticks at the most, about.

    Examples:
        >>> whole_axis(3)["dtick"], whole_axis(70)["dtick"], whole_axis(1_999)["dtick"]
        (1, 10, 200)
    """
    wanted = max(span / most, 1.0)
    unit = 10 ** math.floor(math.log10(wanted))
    step = next(times * unit for times in (1, 2, 5, 10) if times * unit >= wanted)
    return {"tick0": 0, "dtick": step, "tickformat": ",d"}


def broken_line(starts: Any, ends: Any) -> Vector:
    """Coordinates of separate lines in one trace: each a start, an end and a gap."""
    starts = np.asarray(starts, dtype=np.float64)
    return np.column_stack([starts, ends, np.full(len(starts), np.nan)]).ravel()


# --- Words and numbers as people write them -------------------------------------------------------


def readable(text: object) -> str:
    """A text without characters that hide or reorder others; not yet escaped."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(text))


def count(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Examples:
        >>> count(1, "target"), count(2_000, "target"), count(2, "family", "families")
        ('1 target', '2,000 targets', '2 families')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction as a percentage with the digits that count.

    Examples:
        >>> percent(0.1234), percent(0.00002), percent(-12.0, signed=True)
        ('12.3%', '0.0020%', '−1,200%')
    """
    size = abs(fraction) * 100
    if not 1e-6 <= size < math.inf:
        return "0%" if size == 0 else "under 0.000001%" if size < 1 else f"{fraction}"
    digits = max((2 if size >= 1 else 1) - math.floor(math.log10(size)), 0)
    return f"{('−' if fraction < 0 else '+') if signed else ''}{size:,.{digits}f}%"


def round_percent(fraction: float) -> str:
    """A round fraction, such as a limit or a tick, as a percentage without idle zeros.

    Examples:
        >>> round_percent(0.05), round_percent(1e-5), round_percent(3.0)
        ('5%', '0.001%', '300%')
    """
    return f"{100 * fraction:,.3g}%"


def relative(error: float, target: float, *, signed: bool = False) -> str:
    """A relative error as a percentage, or why there is none.

    Examples:
        >>> relative(-0.05, 10.0, signed=True), relative(float("nan"), 0.0)
        ('−5.00%', 'n/a (target 0)')
    """
    if math.isnan(error):
        return "n/a (target 0)" if target == 0 else "unknown"
    return percent(error, signed=signed)


def amount(value: float) -> str:
    """A number in words where it is long.

    Examples:
        >>> amount(8_986_005.0), amount(-1234.0), amount(0.25)
        ('8.99 million', '−1,234', '0.25')
    """
    size, sign = abs(value), "−" if value < 0 else ""
    if size < 1e15:
        for unit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
            if size >= 0.9995 * unit:
                return f"{sign}{size / unit:.3g} {word}"
        if size >= 100:
            return f"{sign}{size:,.0f}"
    return f"{sign}{size:.3g}"


def power_of_ten(value: float) -> str:
    """A number whose size is what counts.

    Examples:
        >>> power_of_ten(-0.00023), power_of_ten(0.0)
        ('−2.3×10⁻⁴', '0')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    mantissa, exponent = f"{abs(value):.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'−' if value < 0 else ''}{mantissa}×10{raised}"
