"""Tables that belong to the records of a data set: how commands are told, and whether they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from microcalibrate.cli.linked import read_links, usual_ids, usual_links
from microcalibrate.columns import did_you_mean
from microcalibrate.dashboard import target_tables
from microcalibrate.errors import CalibrationError, UnknownRun
from microcalibrate.jobs import Dataset

if TYPE_CHECKING:
    from microcalibrate.dashboard.drafts import LinkedTable, Roles

KEPT = 32
FLAGS = ("--unit", "--table", "--link")
"""Those by which commands are told of tables."""


def dataset_of(dataset: Dataset, linked: LinkedTable) -> Dataset | None:
    """The data set of a linked table; None where it was deleted.

    Args:
        dataset: The one that the table belongs to.
        linked: The table.
    """
    try:
        return Dataset.read(dataset.folder.with_name(linked.dataset))
    except UnknownRun:
        return None


def profiles(dataset: Dataset, roles: Roles) -> dict[str, list[dict[str, Any]]]:
    """What is known of the columns of each entity, the records first."""
    found = {roles.unit: dataset}
    for each in roles.tables:
        if (other := dataset_of(dataset, each)) is not None:
            found[each.entity] = other
    return {entity: (each.profile or {}).get("columns", []) for entity, each in found.items()}


def columns_of_members(dataset: Dataset, roles: Roles) -> list[str]:
    """Columns of the tables that belong to the records, each as `entity.column`."""
    found = profiles(dataset, roles).items()
    return [
        f"{entity}.{each['name']}"
        for entity, columns in found
        for each in columns
        if entity != roles.unit
    ]


# --- What is missing ------------------------------------------------------------------------------


def lack(dataset: Dataset, roles: Roles) -> str:
    """What keeps the linked tables from being used, in words; empty where nothing does."""
    for each in roles.tables:
        found = dataset_of(dataset, each)
        if found is None:
            return (
                f"{each.name}, the table of {each.entity}, was deleted. Take it off on the Data "
                "screen, or upload it again and add it anew."
            )
        if found.profile is None:
            return f"{each.name}, the table of {each.entity}, is not read yet."
    if roles.tables and not roles.id:
        return "Other tables belong to the records, and no column is chosen that names the records."
    return ""


def foreign(roles: Roles, grid: pd.DataFrame) -> str:
    """What targets are about that a single table has not, in words; empty where it has all.

    Args:
        roles: Of the data set.
        grid: Its targets in use.
    """
    found = target_tables.entities(grid)
    if roles.tables or not found:
        return ""
    return (
        f"Targets are of the entity {', '.join(found)}, and the data set is one table. Add the "
        "tables that belong to it on the Data screen, or leave the column empty."
    )


# --- As commands and programs say it --------------------------------------------------------------


def arguments(dataset: Dataset, roles: Roles) -> list[str]:
    """Arguments of a command that add the tables to a data set; none for a single table.

    Raises:
        UnknownRun: If the data set of a table was deleted.
    """
    if not roles.tables:
        return []
    said = ["--unit", roles.unit]
    for entity, table in tables(dataset, roles).items():
        if entity != roles.unit:
            said += ["--table", f"{entity}={table}"]
    return said + [word for link in _links(roles) for word in ("--link", link)]


def are_told(words: Sequence[str], dataset: Dataset, roles: Roles) -> bool:
    """Whether a command was told of just the tables that are linked now.

    Args:
        words: Its arguments.
        dataset: The records.
        roles: Of the data set.
    """

    def told(words: Sequence[str]) -> set[tuple[str, str]]:
        return {(flag, value) for flag, value in pairwise(words) if flag in FLAGS}

    try:
        return told(words) == told(arguments(dataset, roles))
    except UnknownRun:
        return False


def tables(dataset: Dataset, roles: Roles) -> dict[str, Path]:
    """File of each entity, the records first.

    Raises:
        UnknownRun: If the data set of a table was deleted.
    """
    folder = dataset.folder
    others = {each.entity: Dataset.read(folder.with_name(each.dataset)) for each in roles.tables}
    return {roles.unit: dataset.table, **{name: each.table for name, each in others.items()}}


def ids_and_links(
    dataset: Dataset, roles: Roles
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Identifiers and links as a command understands what it is told.

    Columns that are called like the identifier of another table link to it, too.

    Returns:
        Entity to the column that names its rows; child to parent to the column of the child.
    """
    heads = {
        entity: pd.DataFrame(columns=[str(each["name"]) for each in columns])
        for entity, columns in profiles(dataset, roles).items()
    }
    links, named = read_links(_links(roles), heads)
    ids = usual_ids(heads) | named
    return ids, usual_links(heads, ids, links)


def _links(roles: Roles) -> list[str]:
    return [
        f"{each.entity}.{each.column}={each.parent or roles.unit}.{each.parent_column or roles.id}"
        for each in roles.tables
    ]


# --- Whether they fit -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Whether linked tables fit together.

    Attributes:
        error: What does not, in words; empty where everything does.
        notes: What else to know of them, in sentences.
    """

    error: str = ""
    notes: tuple[str, ...] = ()


def fit(dataset: Dataset, roles: Roles) -> Fit:
    """Whether the tables of a data set fit together, found in the columns that link them."""
    if said := lack(dataset, roles):
        return Fit(said)
    ids, links = ids_and_links(dataset, roles)
    wanted: dict[str, set[str]] = {entity: set() for entity in roles.entities}
    for entity, column in ids.items():
        wanted[entity].add(column)
    for child, parents in links.items():
        wanted[child].update(parents.values())
    for entity, columns in profiles(dataset, roles).items():
        known = [each["name"] for each in columns]
        if gone := sorted(wanted[entity] - {*known}):
            said = f"the table {entity!r} has no column {gone[0]!r}."
            return Fit(f"{said}{did_you_mean(gone[0], known)}")
    files = tuple(
        (entity, str(file), file.stat().st_mtime_ns, tuple(sorted(wanted[entity])))
        for entity, file in tables(dataset, roles).items()
    )
    return _fit(files, roles.unit, ids, links)


@st.cache_data(max_entries=KEPT, show_spinner="Looking at the links …")
def _fit(
    files: tuple[tuple[str, str, int, tuple[str, ...]], ...],
    unit: str,
    ids: dict[str, str],
    links: dict[str, dict[str, str]],
) -> Fit:
    from microcalibrate.diagnostics.frame import Frame
    from microcalibrate.linked_tables import without_rows

    # Of a Parquet file, only the columns that are asked for are read.
    read = {
        entity: pd.read_parquet(file, columns=list(columns)) for entity, file, _, columns in files
    }
    try:
        return Fit(notes=without_rows(Frame(read, unit, ids, links)))
    except CalibrationError as error:
        return Fit(str(error))
