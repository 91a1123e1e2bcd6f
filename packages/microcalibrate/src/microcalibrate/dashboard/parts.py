"""What screens are made of: the parts of reports, figures, notices, and empty places.

Whatever a user has written goes through here, or into a widget that shows plain text; never into
Streamlit's Markdown.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st

from l0.reports.palette import DARK
from microcalibrate.dashboard import links
from microcalibrate.errors import CalibrationError
from microcalibrate.reports.page import Listing, Paragraph, Part, Sentences, Tiles, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

LINE_HEIGHT = 17
"""Pixels of a line of a figure's explanation."""
# What figures put into their own texts; those of users are escaped there.
_TAG = re.compile(r"</?b>|<br>")
CHART_CONFIG = {
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "svg"},
}


def show(*parts: Part) -> None:
    """Show parts of a report."""
    st.html("\n".join(part.html() for part in parts))


def tiles(numbers: Iterable[tuple[str, str, str]]) -> None:
    """Show the numbers that people look for first: each a number, what it is, what to compare."""
    show(Tiles(list(numbers)))


def listing(values: Mapping[str, object]) -> None:
    """Show names with their values."""
    show(Listing(values))


def note(text: str) -> None:
    """Show a sentence in a lighter colour."""
    show(Paragraph(text, is_note=True))


def notice(words: str, meaning: str, *, is_good: bool = False) -> None:
    """Show how something ended, in a few words, and what to make of it."""
    show(Verdict(words, meaning, is_good))


def plain_lines(text: str) -> None:
    """Show lines of a program as they are."""
    st.code(text, language=None, wrap_lines=True)


@contextmanager
def told() -> Iterator[None]:
    """Show an error where it arose, so that the rest of the screen stays."""
    try:
        yield
    except CalibrationError as error:
        notice(f"{error_words(error)}.", str(error))


def error_words(error: CalibrationError) -> str:
    """The name of an error as words.

    Examples:
        >>> from microcalibrate.errors import InvalidTargetTable
        >>> error_words(InvalidTargetTable("…"))
        'Invalid target table'
    """
    name = type(error).__name__
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
    return spaced.strip().capitalize()


def sentences(each: Sequence[str]) -> None:
    """Show findings, one after the other."""
    show(Sentences(each))


def table(frame: pd.DataFrame, key: str, alt: str, **options: Any) -> Any:
    """Show a table as plain text and numbers; whatever is in a cell, it stays what it is.

    Args:
        frame: What to show, without its index.
        key: Of the widget.
        alt: What it is, for readers who do not see it.
        **options: Of `st.dataframe`.
    """
    return st.dataframe(frame, key=key, alt=alt, hide_index=True, placeholder="", **options)


def tabs(draws: Mapping[str, Callable[[], None]], key: str = "tab") -> None:
    """Tabs that stand in the address, of which only the open one is drawn.

    Args:
        draws: Title of each tab, in words of the page's own, to what draws it.
        key: Name in the address.
    """
    titles = list(draws)
    made = st.tabs(titles, **links.kept(key, titles[0], titles))
    for tab, draw in zip(made, draws.values(), strict=True):
        if tab.open:
            with tab:
                draw()


def empty(title: str, text: str) -> None:
    """Show a place where something will stand, and what brings it there."""
    show(_Empty(title, text))


def chart(name: str, figure: Figure, alt: str | None = None) -> None:
    """Show a figure in the colours of the page, and its explanation below it, where it can break.

    Args:
        name: Unlike that of any other figure on the screen; also of the file when it is saved.
        figure: What to show.
        alt: What a reader who cannot see it is told; its title where nothing is given.
    """
    config = CHART_CONFIG | {"toImageButtonOptions": {"format": "svg", "filename": name}}
    drawn, explanation = explained(figure)
    st.plotly_chart(
        themed(drawn, is_dark()),
        theme=None,
        key=f"chart_{name}",
        config=config,
        alt=alt or _title(figure),
    )
    if explanation:
        # Shades that stand out from a light page by being darker do so from a dark one by light.
        note(explanation.replace("darker", "lighter") if is_dark() else explanation)


def explained(figure: Figure) -> tuple[Figure, str]:
    """A figure without its explanation, as much less high, and the explanation as plain text.

    Lines of a figure never break, so that on a narrow page they would be cut off.
    """
    from microcalibrate.figures.plotting import load_plotly

    text = figure.layout.title.subtitle.text
    if not text:
        return figure, ""
    drawn = load_plotly().graph_objects.Figure(figure)
    # The title of an axis above the figure needs a line for itself.
    has_top_axis = any(axis.side == "top" for axis in figure.select_xaxes())
    less = LINE_HEIGHT * (len(text.split("<br>")) - has_top_axis)
    drawn.layout.title.subtitle = None
    drawn.layout.margin.t = max(drawn.layout.margin.t - less, 0)
    drawn.layout.height -= less
    return drawn, html.unescape(_TAG.sub(" ", text))


def is_dark() -> bool:
    """Whether the reader's page is dark."""
    return st.context.theme.type == "dark"


def themed(figure: Figure, dark: bool) -> Any:
    """The figure in the colours of a light or a dark page."""
    if not dark:
        return figure
    from microcalibrate.figures.plotting import load_plotly

    return load_plotly().graph_objects.Figure(_darker(json.loads(figure.to_json())))


def _darker(part: Any) -> Any:
    """A part of a figure, every colour of the light page replaced wherever it stands."""
    if isinstance(part, dict):
        return {key: _darker(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_darker(value) for value in part]
    return DARK.get(part, part) if isinstance(part, str) else part


def _title(figure: Figure) -> str:
    return html.unescape(_TAG.sub(" ", figure.layout.title.text or "")).strip()


class _Empty(Part):
    """A framed place with a title and a sentence."""

    def __init__(self, title: str, text: str) -> None:
        self._title, self._text = Paragraph(title), Paragraph(text, is_note=True)

    def html(self) -> str:
        """A box."""
        return f'<div class="empty">{self._title.html()}{self._text.html()}</div>'
