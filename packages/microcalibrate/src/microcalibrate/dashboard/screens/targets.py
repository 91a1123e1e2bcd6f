"""Targets: a grid to edit, files and pasted text to take in, totals to generate, and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import drafts, linking, parts, target_tables, words
from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.target_checking import checks
from microcalibrate.dashboard.target_generator import generator
from microcalibrate.errors import InvalidTargetTable
from microcalibrate.targets.rows import AGGREGATES

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset

MOST_BYTES = 50_000_000


def render(context: Context) -> None:
    """Draw the screen."""
    dataset = context.dataset()
    if dataset is None:
        return
    if dataset.profile is None:
        parts.notice("Not yet.", "The data set is still being read.")
        context.link("data", "Look at it on the Data screen", dataset=dataset.id)
        return
    grid = _edited(dataset)
    _take_in(context, dataset, grid)
    checks(context, dataset, grid)
    context.link("settings", "Go on to the settings", dataset=dataset.id)
    context.link("target_analysis", "Which targets make trouble, and why", dataset=dataset.id)


def _edited(dataset: Dataset) -> pd.DataFrame:
    """The grid as the reader has it now, kept on the disk."""
    # The editor tells changes of what it was given, so that must stay the same until others come.
    base_key, round_key = f"grid_{dataset.id}", f"grid_round_{dataset.id}"
    if base_key not in st.session_state:
        st.session_state[base_key] = drafts.read_targets(dataset)
    base = st.session_state[base_key]
    round_ = st.session_state.setdefault(round_key, 0)
    if base.empty:
        parts.empty(
            "No targets yet",
            "Type them into the grid, paste them, take in a CSV file, or generate totals from the "
            "survey itself. A target is a name and a total: that of the column of this name, or "
            "of a variable where a filter holds.",
        )
    roles = drafts.read_roles(dataset)
    is_told = bool(roles.tables or target_tables.entities(base))
    given = st.data_editor(
        base,
        # Of a single table, nobody needs to say which.
        column_order=[each for each in base if is_told or each != target_tables.ENTITY],
        key=f"targets_{dataset.id}_{round_}",
        num_rows="dynamic",
        hide_index=True,
        height=420,
        placeholder="",
        alt="Targets, to be edited",
        column_config=_column_config(dataset, roles),
    )
    grid = target_tables.as_grid(given)
    if not grid.equals(drafts.read_targets(dataset)):
        drafts.write_targets(dataset, grid)
    n_included = len(target_tables.included(grid))
    parts.note(
        f"{words.count(n_included, 'target')} of {len(grid):,} in use. A tolerance of 0 is exact, "
        '0.01 allows 1%, blank is as well as can be. Filters: age >= 65 and state == "CA".'
        + (f" Blank in “rows of” is {roles.unit}." if roles.tables else "")
    )
    return grid


def _column_config(dataset: Dataset, roles: drafts.Roles) -> dict[str, Any]:
    profiles = linking.profiles(dataset, roles).values()
    columns = list(dict.fromkeys(each["name"] for own in profiles for each in own))
    config = st.column_config
    aggregates = list(AGGREGATES)
    return {
        "include": config.CheckboxColumn("use", default=True, width=56),
        "name": config.TextColumn("name", required=True, width=230),
        "value": config.NumberColumn("target", required=True, format="localized", width=150),
        "entity": config.SelectboxColumn("rows of", options=roles.entities, width=95),
        "variable": config.SelectboxColumn("variable", options=columns, width=130),
        "aggregate": config.SelectboxColumn("statistic", options=aggregates, width=85),
        "filter": config.TextColumn("where", width=200),
        "tolerance": config.NumberColumn("tolerance", min_value=0.0, width=90),
        "importance": config.NumberColumn("importance", min_value=0.0, width=95),
        "family": config.TextColumn("family", width=130),
        "denominator": config.SelectboxColumn("ratio: divided by", options=columns, width=130),
        "within": config.TextColumn("share: of records where", width=150),
        "minus": config.TextColumn("less records where", width=150),
        "quantile": config.NumberColumn("quantile: share below", min_value=0.0, width=150),
    }


def _take_in(context: Context, dataset: Dataset, grid: pd.DataFrame) -> None:
    paste, file, generate, export = st.tabs(
        ["Paste", "CSV file", "Totals by level", "Save or clear"], key="take_in"
    )
    with paste:
        text = st.text_area(
            "Targets, a line for each: name and target, or with heads in the first line",
            # A new key for each round: what was taken in is gone from the field.
            key=f"paste_{dataset.id}_{st.session_state[f'grid_round_{dataset.id}']}",
            placeholder="population,331000000\nsnap,94000000000",
            height=140,
        )
        if st.button("Add what is pasted", key="add_pasted", disabled=not text.strip()):
            with parts.told():
                _add(dataset, grid, target_tables.read_text(text))
    with file:
        round_ = st.session_state.setdefault("targets_round", 0)
        uploaded = st.file_uploader(
            "CSV file of targets: name and target, or declared with variable, filter and so on",
            type=["csv", "txt", "tsv"],
            key=f"targets_file_{round_}",
            max_upload_size=MOST_BYTES // 1_000_000,
        )
        if uploaded is not None:
            with parts.told():
                further = target_tables.read_text(_decoded(uploaded.getvalue()))
                st.session_state["targets_round"] = round_ + 1
                _add(dataset, grid, further)
    with generate:
        generated = generator(context, dataset)
        if generated is not None:
            _add(dataset, grid, generated)
    with export:
        _save_or_clear(dataset, grid)


def _save_or_clear(dataset: Dataset, grid: pd.DataFrame) -> None:
    used = target_tables.included(grid)
    save, clear = st.columns(2)
    with save:
        st.download_button(
            "Save targets.csv",
            data=target_tables.as_bytes(used),
            file_name="targets.csv",
            mime="text/csv",
            key="save_targets",
            on_click="ignore",
            icon=":material/download:",
        )
        parts.note("For the command line; every name as it is.")
    with clear:
        sure = st.checkbox("Yes, drop all targets", key=f"sure_targets_{dataset.id}")
        if st.button("Clear the grid", key="clear_targets", disabled=not sure):
            _replace(dataset, target_tables.empty_table())


def _add(dataset: Dataset, grid: pd.DataFrame, further: pd.DataFrame) -> None:
    st.toast(f"{words.count(len(further), 'target')} taken in.")
    _replace(dataset, target_tables.merged(grid, further))


def _replace(dataset: Dataset, grid: pd.DataFrame) -> None:
    drafts.write_targets(dataset, grid)
    st.session_state[f"grid_{dataset.id}"] = grid
    st.session_state[f"grid_round_{dataset.id}"] += 1
    st.rerun()


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTargetTable(
            f"The file is not in UTF-8: byte {error.start + 1:,} cannot be read. Save it as “CSV "
            "UTF-8”."
        ) from error


SCREEN = Screen(
    title="Targets",
    icon=":material/flag:",
    url="targets",
    lead="The totals that the weighted survey shall add up to.",
    render=render,
    group="Prepare",
)
