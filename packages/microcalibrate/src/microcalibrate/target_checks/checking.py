"""The check of a target table against the records it is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import checked_weights
from microcalibrate.columns import Columns, Table, did_you_mean
from microcalibrate.diagnostics.frame import SurveyTables
from microcalibrate.errors import InvalidOption, InvalidProblem, InvalidTargetTable
from microcalibrate.linked_tables import linked_units, without_rows
from microcalibrate.problem import Problem
from microcalibrate.target_checks.checks import COLUMNS, TargetChecks, finding_table
from microcalibrate.target_checks.findings import LEFT_OUT, Finding, worst
from microcalibrate.target_checks.levels import Level, levels_of
from microcalibrate.target_checks.reach import (
    Reach,
    problem_of,
    reach_findings,
    reach_of,
)
from microcalibrate.target_checks.reading import Row, read_rows_of, without_weight
from microcalibrate.target_checks.relations import by_row, duplicates, sums
from microcalibrate.targets import ColumnBuilder, read_rows
from microcalibrate.targets.describing import sentence_of

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]


def check_targets(
    data: Table,
    table: Table | Iterable[Mapping[str, Any]],
    *,
    weight: str | Any = None,
    min_weight_ratio: Any = 0.0,
    max_weight_ratio: Any = None,
    unit: str | None = None,
    ids: Mapping[str, str] | None = None,
    links: Mapping[str, Mapping[str, str]] | None = None,
) -> TargetChecks:
    """Look at every row of a target table, without calibrating, and say what is wrong with it.

    A bad row never ends the check: it becomes a finding, and the other rows are looked at. What is
    looked for: columns that are not there, filters that cannot be read, targets without a record,
    the same target twice, contradictions, sums of other targets that do not add up, values that no
    weights within the bounds reach, and what rests on few records or is far from the data.

    Args:
        data: One row per record, `n_records` rows: pandas or polars DataFrame, or a mapping. Or
            linked tables, as for `Calibration.from_tables`: a DataFrame per entity, or a survey;
            records are then the rows of the unit, and targets have a column `entity`.
        table: Targets, as for `build_targets`.
        weight: Column of the data with the design weights, or the weights themselves, shape
            `(n_records,)`; None is a weight of 1 for every record, and for linked tables the
            column "weight" of the unit, or the survey's weights.
        min_weight_ratio: Least calibrated over design weight: a number, or one per record.
        max_weight_ratio: Greatest calibrated over design weight; None is no bound.
        unit: Of linked tables: the entity that carries the weight; the one with its column if
            None.
        ids: Of linked tables: identifier column of each entity; `<entity>_id` if None.
        links: Of linked tables: child entity to (parent entity to link column); columns of a
            child that are called like an identifier of a parent if None.

    Returns:
        What was found, with the initial estimate and the achievable range of each target.

    Raises:
        InvalidTargetTable: If the table as a whole cannot be read, or the data has no records.
        InvalidProblem: If there is no such column of weights, or they are not weights; or if
            tables are not linked.
        InvalidOption: If the bounds contradict each other, or a single table is given links.

    Examples:
        >>> people = {"age": np.array([70, 30, 68]), "w": np.array([10.0, 20.0, 30.0])}
        >>> wanted = [
        ...     {"name": "old", "value": 45, "filter": "age >= 65"},
        ...     {"name": "young", "value": 15, "filter": "agee < 65"},
        ...     {"name": "very old", "value": 25, "filter": "age > 68"},
        ... ]
        >>> checks = check_targets(people, wanted, weight="w", max_weight_ratio=2)
        >>> for finding in checks.findings.itertuples():
        ...     print(finding.name, "-", finding.kind)
        old - few records
        young - unknown column
        very old - out of reach
        very old - few records
        very old - far from the data
        >>> checks.ok
        False
    """
    cells = read_rows(table)
    notes: tuple[str, ...] = ()
    if is_linked(data):
        frame, weights = linked_units(data, unit=unit, weight=weight, ids=ids, links=links)
        levels, unit = levels_of(frame), frame.unit
        notes = without_rows(frame)
    else:
        told = [name for name, given in (("unit", unit), ("ids", ids), ("links", links)) if given]
        if told:
            raise InvalidOption(f"{told[0]} is for linked tables, and the data are one table.")
        columns = Columns(data)
        if columns.n_records == 0:
            raise InvalidTargetTable("The data has no records, so no target can be met.")
        weights = _weights(columns, weight)
        levels, unit = {"": Level(ColumnBuilder(columns))}, ""
    rows, findings = read_rows_of(cells, levels, unit)
    findings += without_weight(rows, weights)
    _check_bounds(weights, min_weight_ratio, max_weight_ratio)
    bounds = _in_words(min_weight_ratio, max_weight_ratio)
    bad = {finding.row for finding in findings}
    built = [row for row in rows if row.records is not None and row.number not in bad]
    reach: Reach | None = None
    if built:
        problem = problem_of(built, weights, min_weight_ratio, max_weight_ratio)
        reach = reach_of(built, problem)
        findings += reach_findings(built, reach, bounds)
        same, kept = duplicates(built, weights)
        added, not_looked_at = sums(built, kept, problem, reach.support)
        findings += [*same, *added]
        notes += not_looked_at
    found = by_row(findings)
    return TargetChecks(
        table=_table(rows, built, reach, found),
        findings=finding_table([each for row in rows for each in found.get(row.number, ())]),
        notes=notes,
        bounds=bounds,
    )


def is_linked(data: Any) -> bool:
    """Whether these are several tables, or a survey, and not the columns of one table."""
    if isinstance(data, SurveyTables):
        return True
    of_tables = isinstance(data, Mapping) and bool(data)
    return of_tables and all(hasattr(table, "columns") for table in data.values())


def _weights(columns: Columns, weight: Any) -> Vector:
    if weight is None:
        return np.ones(columns.n_records)
    if not isinstance(weight, str):
        weights = checked_weights(weight)
        if len(weights) != columns.n_records:
            raise InvalidProblem(
                f"there are {len(weights)} weights for {columns.n_records} records of the data."
            )
        return weights
    if weight not in columns.names:
        raise InvalidProblem(
            f'the data have no column "{weight}" to take design weights from.'
            f"{did_you_mean(weight, columns.names)}"
        )
    return checked_weights(columns.numbers(weight))


def _check_bounds(weights: Vector, low: Any, high: Any) -> None:
    """Raise `InvalidOption` for bounds that no target could be checked with."""
    total, ones = [weights.sum()], np.ones((len(weights), 1))
    Problem.build(weights, total, ones, min_weight_ratio=low, max_weight_ratio=high)


def _in_words(low: Any, high: Any) -> str:
    """The bounds on the ratio, as the end of a sentence."""
    is_same = all(value is None or np.ndim(value) == 0 for value in (low, high))
    if not is_same:
        return "within the bounds on the weights"
    least = 0.0 if low is None else float(low)
    if high is None or np.isinf(float(high)):
        if least == 0:
            return "at weights that are not negative"
        return "at any weights" if np.isinf(least) else f"at ratios from {least:g} on"
    return f"at ratios from {least:g} to {float(high):g}"


def _table(
    rows: Sequence[Row],
    built: Sequence[Row],
    reach: Reach | None,
    found: Mapping[int, list[Finding]],
) -> pd.DataFrame:
    import pandas as pd

    place = {row.number: position for position, row in enumerate(built)}
    lines = []
    for row in rows:
        target, said = row.target, found.get(row.number, ())
        line: dict[str, Any] = {
            **dict.fromkeys(COLUMNS, np.nan),
            "row": row.number,
            "name": row.name,
            "severity": worst(said) if row.included else LEFT_OUT,
            "description": "" if target is None else sentence_of(target),
            "reachable": False,
            "support": 0,
            "family": "",
            "findings": " ".join(each.message for each in said),
        }
        if target is not None:
            line |= {"target": target.value, "tolerance": target.tolerance}
            line |= {"importance": target.importance, "family": target.family}
        if target is not None and reach is not None and row.number in place:
            at = place[row.number]
            line |= {field.name: getattr(reach, field.name)[at] for field in fields(reach)}
            line["ratio"] = line["initial"] / target.value if target.value != 0 else np.nan
        lines.append(line)
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)
