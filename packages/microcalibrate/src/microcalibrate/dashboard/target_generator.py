"""Targets made of the survey itself: totals by level of columns, added up by a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import drafts, parts, progress, target_tables
from microcalibrate.io import read_table

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset, Run

COMMAND = "targets-template"
COUNT = ""


def generator(context: Context, dataset: Dataset) -> pd.DataFrame | None:
    """Let the reader ask for totals; returns them when there are some to take in."""
    running = _asked(context, dataset)
    if running is not None:
        if not running.state.is_over:
            progress.watch(running, "Adding up")
            return None
        file = running.folder / "totals.csv"
        if file.is_file():
            found = target_tables.as_grid(read_table(file))
            running.delete()
            return found
        progress.ended(running)
        if st.button("Try again", key="totals_again"):
            running.delete()
            st.rerun()
        return None
    _form(context, dataset)
    return None


def _asked(context: Context, dataset: Dataset) -> Run | None:
    """The job of the last question, as long as its answer was not taken in."""
    return next(
        (
            run
            for run in context.workspace.runs()
            if run.command == COMMAND and run.details.get("dataset") == dataset.id
        ),
        None,
    )


def _form(context: Context, dataset: Dataset) -> None:
    columns: list[dict[str, Any]] = (dataset.profile or {})["columns"]
    numbers = [each["name"] for each in columns if each["type"] in ("integer", "number")]
    levels = [each["name"] for each in columns if not each["levels_capped"]]
    parts.note(
        "A target for each level of a column, or each combination of levels of several: the "
        "survey's own weighted total, to be put right where another number is known."
    )
    what, by = st.columns(2)
    with what:
        variable = st.selectbox(
            "Totals of",
            [COUNT, *numbers],
            format_func=lambda name: name or "records (their number)",
            key=f"totals_of_{dataset.id}",
        )
    with by:
        chosen = st.multiselect("By level of", levels, key=f"totals_by_{dataset.id}")
    roles = drafts.read_roles(dataset)
    if st.button("Add these targets", key="add_totals", disabled=not chosen or not roles.weight):
        arguments = [str(dataset.table), "--weight", roles.weight, "--out", "{run}/totals.csv"]
        arguments += [word for column in chosen for word in ("--by", column)]
        if variable:
            arguments += ["--variable", variable]
        context.workspace.submit(
            COMMAND, arguments, "totals by level", details={"dataset": dataset.id}
        )
        st.rerun()
