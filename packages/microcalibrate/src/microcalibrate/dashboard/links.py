"""Choices that stand in the address of the page, so that a link or the Back button restores them.

Addresses hold identifiers, positions and words of the page's own, and what the reader searches
for; no names or values of data sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import streamlit as st

from microcalibrate.figures.plotting import readable


def choose(
    label: str,
    options: Mapping[str, str],
    parameter: str,
    *,
    help: str | None = None,
    memory: str = "",
) -> str:
    """Let the reader choose one of several things by their names; the address has its key.

    Args:
        label: What is chosen.
        options: Key of each thing, as the address has it, to its name. At least one.
        parameter: Name in the address.
        help: What to know before choosing.
        memory: Under what the choice is remembered, where other screens choose among other
            things by the same name; the parameter where nothing is given.

    Returns:
        The key that is chosen: that of the address, or else the one of last time, or the first.
    """
    remembered, widget = f"last_{memory or parameter}", f"choose_{parameter}"
    asked = st.query_params.get(parameter), st.session_state.get(remembered)
    current = next((str(each) for each in asked if each in options), next(iter(options)))
    shown = distinct(options)
    # The address decides, also after Back; the widget only writes it.
    st.session_state[widget] = current
    st.session_state[remembered] = current
    st.selectbox(
        label,
        list(options),
        format_func=lambda key: shown.get(key, key),
        key=widget,
        help=help,
        on_change=_write,
        args=(parameter, widget),
    )
    return current


def kept(
    parameter: str,
    default: Any = None,
    options: Collection[Any] | None = None,
    read: Callable[[str], Any] = str,
) -> dict[str, Any]:
    """Have the address decide what a widget shows, and the reader's choice change the address.

    Args:
        parameter: Name in the address, and key of the widget.
        default: What the widget shows where the address says nothing.
        options: What may be chosen; anything where nothing is given.
        read: What makes a value of the text in the address.

    Returns:
        Arguments for the widget.
    """
    value, asked = default, st.query_params.get(parameter)
    if asked is not None:
        with suppress(ValueError):
            wanted = read(asked)
            value = wanted if options is None or wanted in options else default
    st.session_state[parameter] = value
    return {"key": parameter, "on_change": _write_or_drop, "args": (parameter, default)}


def distinct(options: Mapping[str, str]) -> dict[str, str]:
    """Names that a list can show: without hidden characters, and each different.

    Examples:
        >>> distinct({"1f": "run", "2e": "run", "3d": "other"})
        {'1f': 'run (1f)', '2e': 'run (2e)', '3d': 'other'}
    """
    names = {key: readable(name) for key, name in options.items()}
    count = Counter(names.values())
    return {key: f"{name} ({key[:8]})" if count[name] > 1 else name for key, name in names.items()}


def is_stale(parameter: str, options: Mapping[str, str]) -> bool:
    """Whether the address asks for something that is not there."""
    wanted = st.query_params.get(parameter)
    return wanted is not None and wanted not in options


def _write_or_drop(parameter: str, default: Any) -> None:
    value = st.session_state[parameter]
    if value == default or value is None:
        st.query_params.pop(parameter, None)
    else:
        st.query_params[parameter] = str(value)


def _write(parameter: str, widget: str) -> None:
    st.query_params[parameter] = st.session_state[widget]
