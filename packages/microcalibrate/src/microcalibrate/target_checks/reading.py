"""Rows of a target table, each read by itself, so that a bad one does not hide the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microcalibrate.columns import did_you_mean
from microcalibrate.errors import (
    InvalidExpression,
    InvalidTargetTable,
    NoSupport,
    UnknownColumn,
)
from microcalibrate.target_checks.findings import ERROR, Finding
from microcalibrate.target_checks.levels import Level
from microcalibrate.targets import Declared, declared, is_included
from microcalibrate.targets.contributions import Index, Vector


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a target table.

    Attributes:
        number: From 1.
        name: Of the target, or of the row where it has none.
        included: Whether it is to be used.
        level: The table that it is about, or None where there is no such table.
        target: What it declares, or None where that cannot be read.
        records: Records that contribute, shape `(n,)`; None where it cannot be built.
        values: What each adds per unit of weight; for a quotient, as `build_targets` has it.
    """

    number: int
    name: str
    included: bool
    level: Level | None = None
    target: Declared | None = None
    records: Index | None = None
    values: Vector | None = None


def read_row(
    number: int,
    cells: Mapping[str, Any],
    levels: Mapping[str, Level],
    unit: str,
    taken: Mapping[str, int],
) -> tuple[Row, Finding | None]:
    """Read and build one row, or say why that is not possible.

    Args:
        number: Of the row, from 1.
        cells: Column to cell, without blank cells.
        levels: Tables that targets may be about, by entity.
        unit: Entity of those that name none; empty for all of a single table.
        taken: Names of earlier targets, with their rows.
    """
    name = str(cells.get("name", f"row {number}"))
    # The rows of a single table have no name for it, and name no other.
    entity = str(cells.get("entity", unit)) if unit else unit
    level, target = levels.get(entity), None
    try:
        if not is_included(number, cells):
            return Row(number, name, included=False), None
        if level is None:
            near = did_you_mean(entity, levels).replace("columns", "tables")
            message = f"there is no table {entity!r}.{near} Mend the column `entity`."
            finding = Finding(number, name, ERROR, "unknown table", message)
            return Row(number, name, included=True), finding
        target = declared(number, cells, level.builder.columns.names)
        if name in taken:
            message = f"row {taken[name]} has the same name. Give each target a name of its own."
            finding = Finding(number, name, ERROR, "name stands twice", message)
            return Row(number, name, included=True, level=level, target=target), finding
        records, values = level.contributions(target)
    except InvalidTargetTable as error:
        message = str(error).removeprefix(f'target "{name}" (row {number}): ')
        finding = Finding(number, name, ERROR, _kind(error, target), message)
        return Row(number, name, included=True, level=level, target=target), finding
    return Row(number, name, True, level, target, records, values), None


def read_rows_of(
    rows: Iterable[Mapping[str, Any]], levels: Mapping[str, Level], unit: str
) -> tuple[list[Row], list[Finding]]:
    """Read all rows.

    Args:
        rows: Each column to cell, without blank cells.
        levels: Tables that targets may be about, by entity.
        unit: Entity of those that name none.

    Returns:
        A row for each, and what is wrong with some of them.
    """
    read: list[Row] = []
    findings: list[Finding] = []
    taken: dict[str, int] = {}
    for number, cells in enumerate(rows, start=1):
        row, finding = read_row(number, cells, levels, unit, taken)
        read.append(row)
        if finding is not None:
            findings.append(finding)
        if row.included and row.target is not None:
            taken.setdefault(row.name, number)
    return read, findings


def without_weight(rows: Sequence[Row], design_weights: Vector) -> list[Finding]:
    """Targets to which only records of weight zero contribute."""
    return [
        Finding(
            row.number,
            row.name,
            ERROR,
            "no supporting record",
            "only records whose design weight is zero contribute to it, and these stay zero. Drop "
            "the target.",
        )
        for row in rows
        if row.records is not None and not np.any(design_weights[row.records] > 0)
    ]


def _kind(error: BaseException, target: Declared | None) -> str:
    """What kind of mistake an error is, by its own type and those it came from."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    if any(isinstance(each, UnknownColumn) for each in chain):
        return "unknown column"
    if isinstance(error, NoSupport):
        return "no supporting record"
    if isinstance(error, InvalidExpression):
        return "unreadable filter"
    return "incomplete row" if target is None else "bad values"
