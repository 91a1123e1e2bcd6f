"""On the Data screen: the tables that belong to the records, and the way to add one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import drafts, linking, links, parts, words
from microcalibrate.dashboard.drafts import LinkedTable, Roles
from microcalibrate.dashboard.launching import columns_of
from microcalibrate.reports.page import Paragraph

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset

NONE, UNNAMED = "", "person"
ENDS = (("people", "person"), ("ies", "y"), ("s", ""))
"""Ends of a word for many things, and of that for one."""


def section(context: Context, dataset: Dataset) -> None:
    """Show the tables that belong to the records of a data set; add some, and take some off."""
    roles = drafts.read_roles(dataset)
    with st.expander(
        "Tables that belong to it", key=f"linked_{dataset.id}", expanded=bool(roles.tables)
    ):
        if roles.tables:
            roles = _named(dataset, roles)
            for each in roles.tables:
                _one(dataset, roles, each)
            found = linking.fit(dataset, roles)
            if found.error:
                parts.notice("Not linked.", found.error)
            if found.notes:
                parts.sentences(found.notes)
        else:
            parts.note(
                "None. If the records are households and another table has their members, add it: "
                "targets can then be about either, and each household keeps one weight."
            )
        _further(context, dataset, roles)


def belongs_to(context: Context, dataset: Dataset) -> None:
    """Say which data set a table belongs to; nothing where it stands for itself."""
    for other in context.workspace.datasets():
        for each in drafts.read_roles(other).tables:
            if each.dataset == dataset.id:
                parts.note(
                    f"It has the rows of {each.entity} that belong to {other.name}, where targets "
                    "and settings of both are."
                )


def _named(dataset: Dataset, roles: Roles) -> Roles:
    """The roles with what the reader calls a record."""
    written = st.text_input(
        "What a record of this data set is", value=roles.unit, key=f"unit_{dataset.id}"
    ).strip()
    if written == roles.unit:
        return roles
    if said := _refused(written, [each.entity for each in roles.tables]):
        parts.notice("Not taken.", said)
        return roles
    roles = replace(roles, unit=written)
    drafts.write_roles(dataset, roles)
    return roles


def _one(dataset: Dataset, roles: Roles, linked: LinkedTable) -> None:
    """A table with what links it, and a button to take it off."""
    found = linking.dataset_of(dataset, linked)
    parent = linked.parent or roles.unit
    size = "deleted" if found is None else "being read"
    if found is not None and found.profile is not None:
        size = words.count(found.profile["n_rows"], "row")
    below = [each.entity for each in roles.tables if each.parent == linked.entity]
    told, button = st.columns([5, 1], vertical_alignment="center")
    with told:
        place = f"{linked.name}, {size}; {linked.column} names the {parent}"
        parts.show(Paragraph(f"{linked.entity}: {place}"))
    with button:
        if st.button(
            "Take off",
            key=f"unlink_{dataset.id}_{linked.entity}",
            disabled=bool(below),
            help=f"{', '.join(below)} belongs to it: take that off first." if below else None,
            width="stretch",
        ):
            kept = tuple(each for each in roles.tables if each != linked)
            drafts.write_roles(dataset, replace(roles, tables=kept))
            st.rerun()


# --- A further table ------------------------------------------------------------------------------


def _further(context: Context, dataset: Dataset, roles: Roles) -> None:
    if not roles.id:
        parts.note("To add a table, choose the column that names the records.")
        return
    taken = {dataset.id, *(each.dataset for each in roles.tables)}
    others = {each.id: each for each in context.workspace.datasets() if each.id not in taken}
    if not others:
        parts.note("To add a table, upload it above: this workspace has no further data set.")
        return
    shown = links.distinct({key: each.name for key, each in others.items()})
    picked = st.selectbox(
        "Add a data set of this workspace",
        [NONE, *others],
        format_func=lambda key: shown.get(key, "choose one"),
        # A new key for each round: what was added is no longer chosen.
        key=f"link_{dataset.id}_{len(roles.tables)}",
    )
    if picked:
        _link(dataset, roles, others[picked])


def _link(dataset: Dataset, roles: Roles, other: Dataset) -> None:
    """What a row of the other data set is, and which of its columns says what it belongs to."""
    key = f"{dataset.id}_{other.id}"
    columns = columns_of(other)
    if not columns:
        parts.note("It is not read yet.")
        return
    what, whose = st.columns(2)
    with what:
        entity = st.text_input(
            "What a row of it is",
            value=row_of(other.name, drafts.guessed_roles(other.profile or {}).id),
            key=f"entity_{key}",
        ).strip()
    with whose:
        roles, parent = _parent(roles, columns, key)
    below, above = st.columns(2)
    with below:
        column = _column(
            f"Its column that names the {parent}",
            columns,
            _guess(roles, parent, columns),
            f"column_{key}_{parent}",
        )
    named, parent_column = NONE, NONE
    if parent != roles.unit:
        named = parent
        there = [str(each["name"]) for each in linking.profiles(dataset, roles)[parent]]
        with above:
            parent_column = _column(
                f"Column that names the {parent} there",
                there,
                column if column in there else f"{parent}_id",
                f"named_{key}_{parent}_{column}",
            )
    taken = [roles.unit, *(each.entity for each in roles.tables)]
    said = _refused(parent, []) or _refused(entity, taken)
    if not said and "=" in column:
        said = "A column that links tables must have no “=” in its name. Rename it in the file."
    if said:
        parts.notice("Not yet.", said)
    is_open = not column or (bool(named) and not parent_column)
    if st.button("Add this table", key=f"add_link_{dataset.id}", disabled=is_open or bool(said)):
        linked = LinkedTable(other.id, other.name, entity, column, named, parent_column)
        drafts.write_roles(dataset, replace(roles, tables=(*roles.tables, linked)))
        st.rerun()


def _parent(roles: Roles, columns: list[str], key: str) -> tuple[Roles, str]:
    """What the rows belong to; with no other table yet the records, which get a name."""
    label = "It belongs to a"
    if not roles.tables:
        written = st.text_input(label, value=roles.unit, key=f"unit_of_{key}").strip()
        return replace(roles, unit=written), written
    parents = [roles.unit, *(each.entity for each in roles.tables)]
    guessed = next((each for each in parents if _guess(roles, each, columns)), roles.unit)
    chosen = st.selectbox(label, parents, index=parents.index(guessed), key=f"parent_{key}")
    return roles, chosen


def _column(label: str, columns: list[str], guessed: str, key: str) -> str:
    options = [NONE, *columns]
    return st.selectbox(
        words.label(label),
        options,
        index=options.index(guessed) if guessed in options else 0,
        format_func=lambda name: name or "choose a column",
        key=key,
    )


def _guess(roles: Roles, parent: str, columns: list[str]) -> str:
    """The column that is called like the identifier of what it names; empty where none is."""
    usual = [roles.id] if parent == roles.unit else []
    return next((each for each in (*usual, f"{parent}_id") if each in columns), NONE)


def _refused(entity: str, taken: list[str]) -> str:
    """Why something cannot be called so; empty where it can."""
    if not entity.isidentifier():
        return (
            f"“{entity}” is no name for what a row is. Use letters, digits and _, as in tax_unit."
        )
    if entity in taken:
        return f"There is a table of {entity} already. Use another word."
    return ""


def row_of(name: str, identifier: str = NONE) -> str:
    """What a row of a table might be, by the column that names its rows or the name of its file.

    Examples:
        >>> row_of("cps.csv", "person_id"), row_of("Persons 2023.csv"), row_of("families.csv.gz")
        ('person', 'person', 'family')
    """
    if identifier.endswith("_id") and identifier.removesuffix("_id").isidentifier():
        return identifier.removesuffix("_id")
    stem = re.sub(r"\W+", "_", name.partition(".")[0].lower()).strip("_0123456789")
    for many, one in ENDS:
        if stem.endswith(many):
            return (stem.removesuffix(many) + one) or UNNAMED
    return stem or UNNAMED
