"""The frame around every screen: navigation, look, and errors in words instead of tracebacks."""

from __future__ import annotations

import argparse
import logging
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import streamlit as st

from microcalibrate.dashboard import parts
from microcalibrate.dashboard.context import Context
from microcalibrate.dashboard.outcomes import opened
from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.screens import SCREENS
from microcalibrate.dashboard.theme import style
from microcalibrate.errors import CalibrationError
from microcalibrate.jobs import Workspace

LOGGER = logging.getLogger(__name__)
# A symbol of Streamlit's would be fetched from another server.
ICON = Path(__file__).with_name("icon.svg")
HISTORY = f"<script>{Path(__file__).with_name('history.js').read_text('utf-8')}</script>"
SIDEBAR_WIDTH = 210
"""Pixels; the names of the screens need no more."""
START = "start"
"""The screen at the root of the page."""
SECONDS_OPEN = 10
KEPT = ("dataset", "run")
"""What stays in the address from screen to screen."""


def main(arguments: Sequence[str]) -> None:
    """Draw the page.

    Args:
        arguments: What the command line handed on: `--workspace`, `--run`, `--log`, `--remote`.
    """
    st.set_page_config(
        page_title="microcalibrate",
        page_icon=str(ICON),
        layout="wide",
        initial_sidebar_state=SIDEBAR_WIDTH,
    )
    st.html(style())
    # The script is the page's own, the same for everyone.
    st.html(HISTORY, unsafe_allow_javascript=True)
    given = _parser().parse_args(list(arguments))
    guarded(lambda: _draw(given))


def guarded(draw: Callable[[], None]) -> None:
    """Draw something; an error is shown in words: what, and the way out."""
    try:
        draw()
    except CalibrationError as error:
        parts.notice(f"{parts.error_words(error)}.", str(error))
    except Exception as error:
        # The message of an unknown error may hold values of the data, so it is not logged.
        where = "".join(traceback.format_tb(error.__traceback__))
        LOGGER.error("A screen could not be drawn: %s\n%s", type(error).__name__, where)
        parts.notice(
            "This screen could not be drawn.",
            "That is a mistake in the page, and your data and runs are as they were. Load the page "
            "again; what went wrong stands in the terminal that the page was started from.",
        )


def _draw(given: argparse.Namespace) -> None:
    pages: dict[str, Any] = {}
    context = Context(
        workspace=_workspace(given.workspace),
        opened=opened(given.run, given.log),
        is_remote=given.remote,
        pages=pages,
    )
    for screen in SCREENS:
        pages[screen.url] = st.Page(
            _framed(screen, context),
            title=screen.title,
            icon=screen.icon,
            # The screen at the root has no other address; the one of its name leads there.
            url_path=f"{START}_" if screen.url == START else screen.url,
            default=screen.url == START,
        )
    start = _unlisted(START, lambda: context.go(START, **dict(st.query_params)))
    unknown = [
        _unlisted(address, lambda: guarded(lambda: _nothing_here(context)))
        for address in _unknown({*pages, f"{START}_"})
    ]
    current = st.navigation([*pages.values(), start, *unknown], position="hidden")
    with st.sidebar:
        _navigation(pages)
    current.run()


def _framed(screen: Screen, context: Context) -> Callable[[], None]:
    def draw() -> None:
        st.set_page_config(page_title=f"{screen.title} · microcalibrate")
        st.title(screen.title, anchor=False)
        parts.note(screen.lead)
        guarded(lambda: screen.render(context))

    draw.__name__ = f"screen_{screen.url}"
    return draw


def _unlisted(address: str, draw: Callable[[], None]) -> Any:
    def drawn() -> None:
        draw()

    return st.Page(drawn, title="microcalibrate", url_path=address, visibility="hidden")


def _unknown(known: Collection[str]) -> list[str]:
    """Addresses that the reader has asked for, and that no screen has."""
    asked = unquote(urlsplit(st.context.url or "").path.rpartition("/")[-1]).strip()
    found: list[str] = st.session_state.setdefault("unknown_addresses", [])
    if asked and asked not in {*known, *found}:
        found.append(asked)
    return found


def _nothing_here(context: Context) -> None:
    st.title("Nothing here", anchor=False)
    parts.note("No screen has this address. All screens stand in the list on the left.")
    context.link(START, "Go to the start")


def _navigation(pages: dict[str, Any]) -> None:
    """Links to all screens, which keep the data set and the run that the reader looks at."""
    kept = {
        name: st.query_params.get(name) or st.session_state.get(f"last_{name}") for name in KEPT
    }
    parameters = {name: value for name, value in kept.items() if value}
    group = None
    st.html('<p class="brand">microcalibrate</p>')
    for screen in SCREENS:
        if screen.group != group and screen.group:
            group = screen.group
            st.html(f'<p class="group">{group}</p>')
        st.page_link(
            pages[screen.url], label=screen.title, icon=screen.icon, query_params=parameters
        )


@st.cache_resource(ttl=SECONDS_OPEN, show_spinner=False)
def _workspace(folder: Path | None) -> Workspace:
    # Opening it anew puts in order what killed processes have left behind.
    return Workspace(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="microcalibrate dashboard")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--log", type=Path, action="append", default=[])
    parser.add_argument("--remote", action="store_true")
    return parser
