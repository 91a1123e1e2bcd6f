"""Reforms in the forms of diagnoses and regularisations: random schedules, no programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from microcalibrate.dashboard import option_widgets, parts
from microcalibrate.dashboard.option_schema import Option

OF_REFORMS = ("n_reforms", "on_error")
NOT_OFFERED = ("reforms", "surface", "random_reforms", "fail_on_flagged")
"""Options that name programs or files, and those that are asked in another way."""


def fields(
    prefix: str,
    options: Mapping[str, Option],
    shown: Sequence[str],
    numbers: Sequence[str],
    columns: Sequence[str],
    seeded: tuple[str, ...] = (),
) -> tuple[dict[str, Any], dict[str, Option], list[str], dict[str, bytes]]:
    """Fields of a command that can look at reforms.

    Args:
        prefix: Of the keys of the widgets.
        options: Of the command, without those of `NOT_OFFERED`.
        shown: Names of those that stand first.
        numbers: Columns that random schedules can be drawn on.
        columns: All columns.
        seeded: Further options that act only with reforms.

    Returns:
        What was filled in, the options that it is for, further arguments, and files for the run.
    """
    key = f"{prefix}_random_reforms"
    if st.session_state.get(key, "") not in ("", *numbers):
        st.session_state[key] = ""  # Of a data set that was looked at before.
    income = st.selectbox(
        "Random tax schedules on",
        ["", *numbers],
        format_func=lambda name: name or "nothing: at baseline alone",
        key=key,
        persist_state="session",
    )
    st.caption(
        "Whoever carries little today may carry much of a reform. Reforms in Python are for the "
        "command line alone (--reforms MODULE:OBJECT): a page runs no programs."
    )
    acting = {
        name: option
        for name, option in options.items()
        if income or name not in (*OF_REFORMS, *seeded)
    }
    values = option_widgets.fields(prefix, acting, shown, columns=columns)
    words = ["--random-reforms", income] if income else []
    uploaded = st.file_uploader(
        "Reporting surface, as JSON with metrics and slices (chosen from the columns without it)",
        type=["json"],
        key=f"{prefix}_surface",
        max_upload_size=1,
    )
    if uploaded is None:
        return values, acting, words, {}
    parts.note("Taken for this run.")
    words += ["--surface", "{run}/surface.json"]
    return values, acting, words, {"surface.json": uploaded.getvalue()}
