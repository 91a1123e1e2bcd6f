"""Rows of a target table, each read by itself, so that a bad one does not hide the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microcalibrate.columns import Columns
from microcalibrate.errors import (
    InvalidExpression,
    InvalidTargetTable,
    NoSupport,
    UnknownColumn,
)
from microcalibrate.target_checks.findings import ERROR, Finding
from microcalibrate.targets import ColumnBuilder, Declared, declared, is_included
from microcalibrate.targets.building import Index, Vector


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a target table.

    Attributes:
        number: From 1.
        name: Of the target, or of the row where it has none.
        included: Whether it is to be used.
        target: What it declares, or None where that cannot be read.
        records: Records that contribute, shape `(n,)`; None where it cannot be built.
        values: What each adds per unit of weight; for a quotient, as `build_targets` has it.
    """

    number: int
    name: str
    included: bool
    target: Declared | None = None
    records: Index | None = None
    values: Vector | None = None


def read_row(
    number: int, cells: Mapping[str, Any], builder: ColumnBuilder, taken: Mapping[str, int]
) -> tuple[Row, Finding | None]:
    """Read and build one row, or say why that is not possible.

    Args:
        number: Of the row, from 1.
        cells: Column to cell, without blank cells.
        builder: Of columns of the estimate matrix.
        taken: Names of earlier targets, with their rows.
    """
    name = str(cells.get("name", f"row {number}"))
    target: Declared | None = None
    try:
        if not is_included(number, cells):
            return Row(number, name, included=False), None
        target = declared(number, cells, builder.columns.names)
        if name in taken:
            message = f"row {taken[name]} has the same name. Give each target a name of its own."
            finding = Finding(number, name, ERROR, "name stands twice", message)
            return Row(number, name, included=True, target=target), finding
        records, values = builder.contributions(target)
    except InvalidTargetTable as error:
        message = str(error).removeprefix(f'target "{name}" (row {number}): ')
        finding = Finding(number, name, ERROR, _kind(error, target), message)
        return Row(number, name, included=True, target=target), finding
    return Row(number, name, included=True, target=target, records=records, values=values), None


def read_rows_of(
    rows: Iterable[Mapping[str, Any]], columns: Columns
) -> tuple[list[Row], list[Finding], ColumnBuilder]:
    """Read all rows.

    Args:
        rows: Each column to cell, without blank cells.
        columns: Of the data.

    Returns:
        A row for each, what is wrong with some of them, and the builder, which has read the data.
    """
    builder = ColumnBuilder(columns)
    read: list[Row] = []
    findings: list[Finding] = []
    taken: dict[str, int] = {}
    for number, cells in enumerate(rows, start=1):
        row, finding = read_row(number, cells, builder, taken)
        read.append(row)
        if finding is not None:
            findings.append(finding)
        if row.included and row.target is not None:
            taken.setdefault(row.name, number)
    return read, findings, builder


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
