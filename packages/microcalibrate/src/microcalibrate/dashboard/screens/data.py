"""Data: take up a survey, see what is in it, and say what its columns and further tables are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import drafts, embedded, linking_form, parts, progress, words
from microcalibrate.dashboard.screen import Screen
from microcalibrate.figures.plotting import amount
from microcalibrate.io import read_table
from microcalibrate.jobs import RunState

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset

FILE_TYPES = ["csv", "gz", "parquet"]
NONE = ""
ENCODINGS = {
    "cp1252": "Windows, western Europe",
    "utf-8": "Unicode, the usual one",
    "utf-16": "Unicode of some spreadsheets",
    "latin-1": "old files of western Europe",
}
_ENCODING = re.compile(
    r'(, for example |: )?encoding="([\w-]+)", on the command line --encoding [\w-]+'
)
"""How an import tells the option that the page has a list for."""


def render(context: Context) -> None:
    """Draw the screen."""
    _take_up(context)
    if not context.workspace.datasets():
        parts.empty(
            "No data set yet",
            "Upload a table with a row for each record and a column with its weight. Nothing "
            "leaves this machine.",
        )
        return
    st.divider()
    dataset = context.dataset()
    if dataset is None:
        return
    if dataset.profile is None:
        error = progress.error_of(dataset.run, {str(dataset.upload): dataset.name})
        if dataset.run.state is RunState.FAILED and error:
            parts.notice("Not read.", words.of_the_page(_ENCODING.sub(_choose_below, error)))
        else:
            progress.watch(dataset.run, "Reading the table")
        if dataset.run.state.is_over:
            _read_again(context, dataset, error)
            _remove(context, dataset)
        return
    _overview(dataset)
    linking_form.belongs_to(context, dataset)
    _roles(dataset, dataset.profile)
    linking_form.section(context, dataset)
    context.link("targets", "Go on to the targets", dataset=dataset.id)
    parts.tabs(
        {
            "Columns": lambda: _columns(dataset.profile or {}),
            "Preview": lambda: _preview(dataset),
            "Delete": lambda: _remove(context, dataset),
        }
    )


def _take_up(context: Context) -> None:
    round_ = st.session_state.setdefault("upload_round", 0)
    file = st.file_uploader(
        "Upload a survey: CSV or Parquet, up to 2 GB",
        type=FILE_TYPES,
        key=f"upload_{round_}",
    )
    with st.container(horizontal=True):
        wanted = st.button(
            "Take the embedded survey",
            key="take_embedded",
            help="25,000 tax units of the Current Population Survey with 284 published totals.",
        )
        households = st.button(
            "Take the embedded households",
            key="take_embedded_households",
            help="3,000 households with the tables of their tax units and persons, and 13 "
            "published totals.",
        )
    dataset: Dataset | None = None
    if file is not None:
        # Another key makes a new, empty field, and lets go of the bytes of this one.
        st.session_state["upload_round"] = round_ + 1
        with parts.told(), st.spinner("Copying the file …"):
            dataset = context.workspace.add_upload(file.name, file)
    elif wanted:
        dataset = embedded.take_up(context.workspace)
    elif households:
        dataset = embedded.take_up_households(context.workspace)
    if dataset is not None:
        context.go("data", dataset=dataset.id)


def _read_again(context: Context, dataset: Dataset, error: str) -> None:
    """Offer another encoding for a file that could not be read, unless that was not the reason."""
    if ".csv" not in dataset.upload.suffixes:
        return
    proposed = _ENCODING.search(error)
    if error and proposed is None:
        return
    names = list(ENCODINGS)
    encoding = st.selectbox(
        "Encoding of the file",
        names,
        index=names.index(proposed[2]) if proposed and proposed[2] in names else 0,
        format_func=lambda name: f"{name}: {ENCODINGS[name]}",
        key=f"encoding_{dataset.id}",
    )
    if st.button("Read it again", key=f"read_again_{dataset.id}"):
        context.workspace.import_again(dataset.id, encoding=encoding)
        st.rerun()


def _choose_below(option: re.Match[str]) -> str:
    return f"{': ' if option[1] else ''}choose {option[2]} below"


def _overview(dataset: Dataset) -> None:
    profile = dataset.profile or {}
    n_problems = len(profile["problems"])
    parts.tiles(
        [
            (f"{profile['n_rows']:,}", "records", ""),
            (f"{len(profile['columns']):,}", "columns", ""),
            (words.size(profile["bytes"]), "file", ""),
            (words.size(profile["memory_bytes"]), "in memory", "about three times that to work"),
        ]
    )
    if n_problems:
        parts.notice(f"{words.count(n_problems, 'thing')} to look at.", "")
        parts.sentences(profile["problems"])


def _roles(dataset: Dataset, profile: dict[str, Any]) -> None:
    kept = drafts.read_roles(dataset)
    numbers = [each["name"] for each in profile["columns"] if each["type"] in ("integer", "number")]
    names = [each["name"] for each in profile["columns"]]
    weight, identifier = st.columns(2)
    with weight:
        chosen_weight = _column(
            "Column with the design weights",
            numbers,
            kept.weight,
            f"weight_{dataset.id}",
            "choose a column",
        )
    with identifier:
        chosen_id = _column(
            "Column that names the records",
            names,
            kept.id,
            f"id_{dataset.id}",
            "none: number them from 0",
        )
    if (chosen := replace(kept, weight=chosen_weight, id=chosen_id)) != kept:
        drafts.write_roles(dataset, chosen)


def _column(label: str, names: list[str], kept: str, key: str, none: str) -> str:
    options = [NONE, *names]
    return st.selectbox(
        label,
        options,
        index=options.index(kept) if kept in options else 0,
        format_func=lambda name: name or none,
        key=key,
    )


def _columns(profile: dict[str, Any]) -> None:
    columns = profile["columns"]
    table = pd.DataFrame(
        {
            "column": [each["name"] for each in columns],
            "type": [each["type"] for each in columns],
            "looks like": [each["role"] for each in columns],
            "missing": [each["n_missing"] for each in columns],
            "negative": [each["n_negative"] for each in columns],
            "zero": [each["n_zero"] for each in columns],
            "least": [_amount(each["min"]) for each in columns],
            "mean": [_amount(each["mean"]) for each in columns],
            "greatest": [_amount(each["max"]) for each in columns],
            "different values": [
                f"over {each['n_levels']:,}" if each["levels_capped"] else f"{each['n_levels']:,}"
                for each in columns
            ],
            "commonest": [
                ", ".join(str(one["value"]) for one in each["levels"][:4]) for each in columns
            ],
            "why it looks so": [each["reason"] for each in columns],
        }
    )
    counts = {
        name: st.column_config.NumberColumn(format="localized")
        for name in ("missing", "negative", "zero")
    }
    parts.table(table, key="column_report", alt="Columns of the data set", column_config=counts)


def _amount(value: float | None) -> str:
    return "" if value is None else amount(value)


def _preview(dataset: Dataset) -> None:
    # A hundred records, which the import has set apart.
    parts.table(read_table(dataset.preview), key="preview", alt="The first records")
    parts.note("The first 100 records.")


def _remove(context: Context, dataset: Dataset) -> None:
    parts.note("Deletes the table, its copy, and its targets from this machine. Runs stay.")
    sure = st.checkbox("Yes, delete it for good", key=f"sure_{dataset.id}")
    if st.button("Delete the data set", key=f"delete_{dataset.id}", disabled=not sure):
        context.workspace.delete_dataset(dataset.id)
        st.session_state.pop("last_dataset", None)
        context.go("data")


SCREEN = Screen(
    title="Data",
    icon=":material/table:",
    url="data",
    lead="The survey to calibrate: a row for each record, a column with its weight.",
    render=render,
    group="Prepare",
)
