"""What a reader has set up for a data set, kept in its folder: targets, and roles of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pandas as pd

from microcalibrate.atomic import atomic_path
from microcalibrate.dashboard import target_tables
from microcalibrate.io import read_json, write_json

if TYPE_CHECKING:
    from microcalibrate.jobs import Dataset

TARGETS, ROLES = "targets.csv", "roles.json"
UNIT = "household"
"""What a record is called that other tables belong to, unless the reader says otherwise."""


@dataclass(frozen=True)
class LinkedTable:
    """Another data set whose rows belong to the records of this one, or to rows of a third.

    Attributes:
        dataset: Id of the data set.
        name: Of the data set, to be told when it was deleted.
        entity: What a row of it is, such as "person".
        column: Its column that says what a row belongs to.
        parent: Entity that it belongs to; empty for the records themselves.
        parent_column: Column that names the rows of that entity; empty for the records, whose
            role says it.
    """

    dataset: str
    name: str
    entity: str
    column: str
    parent: str = ""
    parent_column: str = ""


@dataclass(frozen=True)
class Roles:
    """What columns are for, and which tables belong to the records.

    Attributes:
        weight: Column with the design weights; empty where none is chosen.
        id: Column that names the records; empty for their positions.
        unit: What a record is; told only where others belong to it.
        tables: Those that belong to the records.
    """

    weight: str = ""
    id: str = ""
    unit: str = UNIT
    tables: tuple[LinkedTable, ...] = ()

    @property
    def entities(self) -> tuple[str, ...]:
        """What targets may be about, the records first; nothing for a single table."""
        return (self.unit, *(each.entity for each in self.tables)) if self.tables else ()


def read_targets(dataset: Dataset) -> pd.DataFrame:
    """The grid of a data set's targets, without rows where there are none yet."""
    file = dataset.folder / TARGETS
    if not file.is_file():
        return target_tables.empty_table()
    return target_tables.as_grid(pd.read_csv(file, dtype=str, keep_default_na=False))


def write_targets(dataset: Dataset, grid: pd.DataFrame) -> None:
    """Keep the grid of a data set's targets."""
    with atomic_path(dataset.folder / TARGETS) as unfinished:
        unfinished.write_bytes(target_tables.as_bytes(grid))


def read_roles(dataset: Dataset) -> Roles:
    """Roles as they were chosen, or else as they were guessed."""
    file = dataset.folder / ROLES
    if file.is_file():
        kept = read_json(file)
        # Files of before know of no tables.
        return Roles(
            str(kept.get("weight", "")),
            str(kept.get("id", "")),
            str(kept.get("unit", UNIT)),
            tuple(LinkedTable(**each) for each in kept.get("tables", ())),
        )
    return guessed_roles(dataset.profile or {})


def write_roles(dataset: Dataset, roles: Roles) -> None:
    """Keep roles."""
    write_json(asdict(roles), dataset.folder / ROLES)


def guessed_roles(profile: Mapping[str, Any]) -> Roles:
    """The first column that looks like a weight, and the first that looks like an identifier."""

    def first(role: str) -> str:
        columns = profile.get("columns", [])
        return next((str(each["name"]) for each in columns if each["role"] == role), "")

    return Roles(first("weight"), first("id"))


def fingerprint(dataset: Dataset, grid: pd.DataFrame, roles: Roles) -> str:
    """A word that changes whenever a check of the targets could turn out otherwise."""
    linked = f"{roles.id}|{roles.unit}|{roles.tables}|" if roles.tables else ""
    said = f"{dataset.id}|{roles.weight}|{linked}".encode()
    return sha256(said + target_tables.as_bytes(target_tables.included(grid))).hexdigest()[:16]
