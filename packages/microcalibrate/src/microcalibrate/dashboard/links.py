"""Choices that stand in the address of the page, so that a link or the Back button restores them.

Addresses hold identifiers, positions and words of the page's own, and what the reader searches
for; no names or values of data sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

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


def _write(parameter: str, widget: str) -> None:
    st.query_params[parameter] = st.session_state[widget]
