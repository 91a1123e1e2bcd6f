"""Targets declared in a table, and the columns of the estimate matrix that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.columns import Columns, Table, did_you_mean
from microcalibrate.errors import InvalidExpression, InvalidTargetTable, InvalidWeights
from microcalibrate.expressions import evaluate

Vector: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]

COLUMNS = (
    "name",
    "value",
    "column",
    "variable",
    "aggregate",
    "filter",
    "tolerance",
    "importance",
    "family",
)
"""Columns of a target table that are read; others, such as `source`, are notes."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets and what each record adds to them.

    Attributes:
        names: One name per target, all different.
        values: Target totals, shape `(n_targets,)`; 0 for a mean, see `build_targets`.
        matrix: What each record adds to each target per unit of weight, float64 CSR of shape
            `(n_records, n_targets)`.
        tolerances: Allowed relative errors, shape `(n_targets,)`: 0 exact, NaN soft.
        importances: Relative importances of soft targets, shape `(n_targets,)`.
        families: Group that each target belongs to, `""` for none.
        scales: What an error of 1 means, shape `(n_targets,)`, in the unit of the value. NaN is
            the default of a zero target: the design-weighted absolute total of its column.
    """

    names: tuple[str, ...]
    values: Vector
    matrix: sp.csr_array
    tolerances: Vector
    importances: Vector
    families: tuple[str, ...]
    scales: Vector


def build_targets(
    data: Table,
    table: Table | Iterable[Mapping[str, Any]],
    *,
    initial_weights: npt.ArrayLike | None = None,
) -> Targets:
    """Columns of the estimate matrix for the targets that a table declares.

    Each row of the table is a target with a `name` and a `value`. Without more, its column is the
    column of the data that has its name (or the name in `column`). Otherwise:

    | `aggregate` | the target is | what a record adds |
    |---|---|---|
    | `sum` (default with a `variable`) | the total of `variable` in `filter` | `variable` |
    | `count` (default with a `filter` only) | the number of records in `filter` | 1 |
    | `count` with a `variable` | as `count`, where `variable` is not zero | 1 |
    | `mean` | the mean of `variable` where `filter` holds | `variable - value` |

    A mean is a ratio of two totals. It equals `value` exactly if the total of `variable - value`
    is 0, which is linear in the weights; so its target total is 0, and its scale is the value
    times the design-weighted number of records: an error of 0.01 means a mean 1% off.

    Args:
        data: One row per record, `n_records` rows: pandas or polars DataFrame.
        table: Targets: pandas or polars DataFrame, or a list of dictionaries. `tolerance` is a
            relative error (0 exact, blank soft), `importance` is 1 if blank. Further columns
            are notes and not read.
        initial_weights: Design weights, shape `(n_records,)`. Only the scales of means need them.

    Returns:
        The targets, in the order of the table.

    Raises:
        InvalidTargetTable: If a target is not complete, not finite, named twice, or no record
            contributes to it. The message names the row (1 is the first) and the target.
        InvalidExpression: If a filter cannot be read.
        InvalidWeights: If initial weights do not fit the data, are negative or not finite.

    Examples:
        >>> people = {"age": np.array([70, 30, 68]), "income": np.array([20.0, 50.0, 30.0])}
        >>> targets = build_targets(
        ...     people,
        ...     [
        ...         {"name": "income", "value": 1_000.0},
        ...         {"name": "elderly", "value": 25.0, "filter": "age >= 65"},
        ...     ],
        ... )
        >>> targets.matrix.toarray()
        array([[20.,  1.],
               [50.,  0.],
               [30.,  1.]])
    """
    rows = _rows(table)
    columns = Columns(data)
    if columns.n_records == 0:
        raise InvalidTargetTable("The data has no records, so no target can be met.")
    weights = _checked_weights(initial_weights, columns.n_records)
    declared = [_declared(number, row, columns) for number, row in enumerate(rows, start=1)]
    _refuse_duplicates(declared)

    builder = _Builder(columns)
    contributions = [builder.contributions(target) for target in declared]
    values = np.concatenate([values for _, values in contributions])
    positions: npt.NDArray[Any] = np.concatenate([records for records, _ in contributions])
    offsets: npt.NDArray[Any] = np.cumsum([0, *(len(records) for records, _ in contributions)])
    if max(len(values), columns.n_records) <= np.iinfo(np.int32).max:
        positions, offsets = positions.astype(np.int32), offsets.astype(np.int32)
    shape = (columns.n_records, len(declared))
    matrix = sp.csc_array((values, positions, offsets), shape=shape).tocsr()
    return Targets(
        names=tuple(target.name for target in declared),
        values=np.array([0.0 if target.is_mean else target.value for target in declared]),
        matrix=matrix,
        tolerances=np.array([target.tolerance for target in declared]),
        importances=np.array([target.importance for target in declared]),
        families=tuple(target.family for target in declared),
        scales=np.array([builder.scale(target, weights) for target in declared]),
    )


@dataclass(frozen=True)
class _Declared:
    """One checked row of a target table."""

    row: int
    name: str
    value: float
    variable: str | None
    aggregate: str
    filter: str | None
    tolerance: float
    importance: float
    family: str

    @property
    def is_mean(self) -> bool:
        return self.aggregate == "mean"

    def invalid(self, message: str) -> InvalidTargetTable:
        return InvalidTargetTable(f"{_where(self.row, self.name)}: {message}")


@dataclass(eq=False)
class _Builder:
    """Columns of targets; what several of them share is computed once."""

    columns: Columns
    selections: dict[str | None, Index] = field(default_factory=dict)
    variables: dict[str, Vector] = field(default_factory=dict)

    def selection(self, target: _Declared) -> Index:
        """Positions of the records that the filter of a target selects."""
        if target.filter not in self.selections:
            if target.filter is None:
                selected = np.arange(self.columns.n_records)
            else:
                try:
                    selected = np.flatnonzero(evaluate(target.filter, self.columns))
                except InvalidExpression as error:
                    where = _where(target.row, target.name)
                    raise InvalidExpression(f"{where}: {error}") from error
            self.selections[target.filter] = selected
        return self.selections[target.filter]

    def contributions(self, target: _Declared) -> tuple[Index, Vector]:
        """Records that contribute to a target, and what each adds."""
        selected = self.selection(target)
        if not len(selected):
            raise target.invalid(
                f"its filter {target.filter!r} selects no record, so no weights can meet it. "
                "Mend the filter, or drop the target."
            )
        if target.variable is None:
            return selected, np.ones(len(selected))
        values = self.variable(target)[selected]
        n_missing = int(np.count_nonzero(~np.isfinite(values)))
        if n_missing:
            raise target.invalid(
                f"variable {target.variable!r} is missing or infinite in {n_missing} of the "
                f"{len(selected)} records that the target counts. Fill or drop them."
            )
        if target.is_mean:
            values = values - target.value
        contributing = np.flatnonzero(values)
        if not len(contributing):
            raise target.invalid(
                f"{target.variable!r} is {target.value:g} in every record it selects, so that the "
                "mean holds for all weights. Drop the target."
                if target.is_mean
                else f"{target.variable!r} is zero in every record it selects, so no record "
                "contributes to it. Mend the variable or the filter, or drop the target."
            )
        values = values[contributing]
        if target.aggregate == "count":
            values = np.ones(len(values))
        return selected[contributing], values

    def variable(self, target: _Declared) -> Vector:
        assert target.variable is not None
        if target.variable not in self.variables:
            try:
                self.variables[target.variable] = self.columns.numbers(target.variable)
            except InvalidExpression as error:
                raise target.invalid(str(error)) from error
        return self.variables[target.variable]

    def scale(self, target: _Declared, weights: Vector | None) -> float:
        """What an error of 1 means for a target; NaN is the default of a zero target."""
        scale = abs(target.value)
        if target.is_mean:
            scale *= float(weights[self.selection(target)].sum()) if weights is not None else 0.0
        return scale if scale > 0 else float("nan")


# --- Reading and checking the table ---------------------------------------------------------------


def _where(row: int, name: str) -> str:
    return f'target "{name}" (row {row})'


def _rows(table: Table | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table of any library as dictionaries without blank cells."""
    if hasattr(table, "to_dicts"):
        raw = table.to_dicts()
    elif hasattr(table, "to_dict"):
        raw = table.to_dict("records")
    elif isinstance(table, Mapping):
        raise InvalidTargetTable(
            "A target table is a DataFrame or a list with one dictionary per target, not one "
            "dictionary: put it into a list."
        )
    else:
        raw = [dict(row) for row in table]
    if not raw:
        raise InvalidTargetTable("The target table has no rows: add at least one target.")
    headers = list(dict.fromkeys(header for row in raw for header in row))
    for header in headers:
        _refuse_misspelled(str(header))
    for needed in ("name", "value"):
        if needed not in headers:
            raise InvalidTargetTable(
                f"The target table has no column {needed!r} (it has "
                f"{', '.join(repr(header) for header in headers)}). Add it: every target needs a "
                "name and a value."
            )
    return [{key: cell for key, cell in row.items() if not _is_blank(cell)} for row in raw]


def _refuse_misspelled(header: str) -> None:
    """A header that is nearly one that is read would be ignored without a word."""
    plain = header.strip().lower()
    for known in COLUMNS:
        if header != known and plain in (known, f"{known}s", f"{known}_", known[:-1]):
            raise InvalidTargetTable(
                f"The target table has a column {header!r}, which is not read. "
                f"Rename it to {known!r}, or to something less alike."
            )


def _is_blank(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(cell, str):
        return not cell.strip()
    return isinstance(cell, float | np.floating) and math.isnan(cell)


def _declared(row: int, cells: dict[str, Any], columns: Columns) -> _Declared:
    if "name" not in cells:
        raise InvalidTargetTable(f"Row {row} of the target table has no name. Give it one.")
    name = str(cells["name"])
    where = _where(row, name)
    if "value" not in cells:
        raise InvalidTargetTable(
            f"{where}: its value is missing. Enter a number, or drop the target."
        )

    def number(key: str, default: float, allowed: Callable[[float], bool], rule: str) -> float:
        cell = cells.get(key, default)
        if isinstance(cell, Real) and not isinstance(cell, bool | np.bool_):
            read = float(cell)
            if key not in cells or (math.isfinite(read) and allowed(read)):
                return read
        raise InvalidTargetTable(f"{where}: its {key} is {cell!r}, and it must be {rule}.")

    def text(key: str) -> str | None:
        cell = cells.get(key)
        if cell is None or isinstance(cell, str):
            return cell
        raise InvalidTargetTable(f"{where}: its {key} is {cell!r}, and it must be text.")

    variable, column, condition = text("variable"), text("column"), text("filter")
    if variable is not None and column is not None and variable != column:
        raise InvalidTargetTable(
            f"{where}: it names the variable {variable!r} and the column {column!r}, which mean "
            "the same. Leave one of them out."
        )
    variable = variable if variable is not None else column
    aggregate = text("aggregate")
    if aggregate is None:
        aggregate = "count" if variable is None and condition is not None else "sum"
    if aggregate not in ("sum", "count", "mean"):
        raise InvalidTargetTable(
            f"{where}: its aggregate is {aggregate!r}, and it must be 'sum', 'count' or 'mean'."
        )
    if variable is None and aggregate != "count":
        if name not in columns.names:
            raise InvalidTargetTable(
                f"{where}: it names no variable, and the data has no column {name!r}."
                f"{did_you_mean(name, columns.names)} Fill in `variable`, or `filter` to count "
                "records."
            )
        variable = name
    return _Declared(
        row=row,
        name=name,
        value=number("value", 0.0, lambda _: True, "a finite number"),
        variable=variable,
        aggregate=aggregate,
        filter=condition,
        tolerance=number(
            "tolerance",
            float("nan"),
            lambda read: read >= 0,
            "0 (exact), a positive relative error, or blank (soft)",
        ),
        importance=number(
            "importance", 1.0, lambda read: read >= 0, "a finite number that is not negative"
        ),
        family=str(cells.get("family", "")),
    )


def _refuse_duplicates(declared: list[_Declared]) -> None:
    first: dict[str, int] = {}
    for target in declared:
        if target.name in first:
            raise target.invalid(
                f"row {first[target.name]} has the same name. Give each target a name of its own."
            )
        first[target.name] = target.row


def _checked_weights(weights: npt.ArrayLike | None, n_records: int) -> Vector | None:
    if weights is None:
        return None
    try:
        checked: Vector = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidWeights(f"initial_weights cannot be read as numbers: {error}.") from error
    if checked.shape != (n_records,):
        raise InvalidWeights(
            f"initial_weights has shape {checked.shape}, and the data has {n_records} records: "
            "give one weight per record."
        )
    wrong = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if len(wrong):
        raise InvalidWeights(
            f"initial_weights has {len(wrong)} values that are negative or not finite, the first "
            f"({checked[wrong[0]]}) at record {wrong[0]}. Drop or mend these records."
        )
    return checked
