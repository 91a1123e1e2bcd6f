"""Targets made of the survey itself: totals by level of columns, added up by a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import drafts, linking, parts, progress, target_tables
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
    roles = drafts.read_roles(dataset)
    if said := linking.lack(dataset, roles):
        parts.notice("Not yet.", said)
        return
    parts.note(
        "A target for each level of a column, or each combination of levels of several: the "
        "survey's own weighted total, to be put right where another number is known."
    )
    entity = roles.unit
    if roles.tables:
        entity = st.selectbox("Add up rows of", roles.entities, key=f"totals_in_{dataset.id}")
    own, of_records = _columns(dataset, roles, entity)
    numbers = [each["name"] for each in own if each["type"] in ("integer", "number")]
    levels = [each["name"] for each in (*own, *of_records) if not each["levels_capped"]]
    # Another table has other columns to choose from.
    key = dataset.id if entity == roles.unit else f"{dataset.id}_{entity}"
    what, by = st.columns(2)
    with what:
        variable = st.selectbox(
            "Totals of",
            [COUNT, *numbers],
            format_func=lambda name: (
                name or ("rows" if roles.tables else "records") + " (their number)"
            ),
            key=f"totals_of_{key}",
        )
    with by:
        chosen = st.multiselect("By level of", levels, key=f"totals_by_{key}")
    if st.button("Add these targets", key="add_totals", disabled=not chosen or not roles.weight):
        arguments = [str(dataset.table), *linking.arguments(dataset, roles)]
        arguments += ["--weight", roles.weight, "--out", "{run}/totals.csv"]
        arguments += ["--entity", entity] if roles.tables else []
        arguments += [word for column in chosen for word in ("--by", column)]
        if variable:
            arguments += ["--variable", variable]
        context.workspace.submit(
            COMMAND, arguments, "totals by level", details={"dataset": dataset.id}
        )
        st.rerun()


def _columns(
    dataset: Dataset, roles: drafts.Roles, entity: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Columns of a table, and those of the record that its rows have too."""
    profiles = linking.profiles(dataset, roles)
    own = profiles[entity]
    taken = {each["name"] for each in own}
    return own, [each for each in profiles[roles.unit] if each["name"] not in taken]
