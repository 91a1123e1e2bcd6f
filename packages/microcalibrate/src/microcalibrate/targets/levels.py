"""Declared targets for every cell of a cross of columns, ready to be filled in."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microcalibrate.arrays import checked_weights
from microcalibrate.columns import Columns, Table, Text
from microcalibrate.errors import InvalidExpression, InvalidOption, InvalidProblem

if TYPE_CHECKING:
    import pandas as pd

MOST_CELLS = 100_000
"""Most cells of a table of targets."""

Codes = npt.NDArray[np.int64]


def totals_by_level(
    data: Table,
    by: Sequence[str],
    variable: str | None = None,
    *,
    weight: str | None = None,
    prefix: str | None = None,
) -> pd.DataFrame:
    """Targets for every cell of a cross of columns, such as income by region and age.

    A cell is a combination of values that occurs in the data; records in which one of them is
    missing are in no cell, and a cell to which no record contributes is left out.

    Args:
        data: One row per record, `n_records` rows: pandas or polars DataFrame, or a mapping.
        by: Columns whose values make the cells, one at least.
        variable: Column that is added up; None counts records.
        weight: Column with weights, with which the value of each cell is its weighted total; None
            leaves the values blank, to be filled in.
        prefix: How all names begin; the variable, or "count", if None.

    Returns:
        One row per target with `name`, `value`, `variable`, `aggregate`, `filter` and `family`, in
        the order of the levels, for `build_targets`.

    Raises:
        InvalidOption: If a column of `by` is not there, stands twice, or has too many values.
        InvalidProblem: If the variable or the weight is not there, or holds no finite numbers.

    Examples:
        >>> people = {"region": np.array(["south", "north", "south"]), "w": np.array([1, 2, 3.0])}
        >>> totals_by_level(people, ["region"], weight="w")[["name", "value", "filter"]]
                  name  value             filter
        0  count/north    2.0  region == 'north'
        1  count/south    4.0  region == 'south'
    """
    columns = Columns(data)
    wanted = [by] if isinstance(by, str) else list(by)
    cells = cells_of(columns, wanted, variable)
    start = prefix if prefix is not None else variable if variable is not None else "count"
    values = np.full(len(cells.levels), np.nan) if weight is None else cells.totals(weight)
    return target_rows(cells, values, start)


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a cross of columns to which a record contributes.

    Attributes:
        columns: Of the data.
        by: Columns that were crossed.
        variable: Column that is added up; None counts records.
        levels: Values of each cell, in the order of the columns.
        records: Positions of the records in some cell, shape `(n,)`.
        cell: Which cell each of them is in, shape `(n,)`.
        amounts: What each of them counts, shape `(n,)`.
        n_missing: Records in no cell, for lack of a value.
    """

    columns: Columns
    by: tuple[str, ...]
    variable: str | None
    levels: tuple[tuple[Any, ...], ...]
    records: Codes
    cell: Codes
    amounts: npt.NDArray[np.float64]
    n_missing: int

    def totals(self, weight: str) -> npt.NDArray[np.float64]:
        """Weighted total of each cell.

        Raises:
            InvalidProblem: If there is no such column of weights.
        """
        present = np.zeros(self.columns.n_records, dtype=np.bool_)
        present[self.records] = True
        weights = checked_weights(_numbers(self.columns, weight, present, 0.0))
        amounts = weights[self.records] * self.amounts
        return np.bincount(self.cell, amounts, len(self.levels)).astype(np.float64)


def cells_of(columns: Columns, by: Sequence[str], variable: str | None) -> Cells:
    """The cells that occur in the data.

    Raises:
        InvalidOption: If a column is not there, stands twice, or has too many values.
        InvalidProblem: If the variable is not there, or holds no finite numbers.
    """
    if not by or len(set(by)) < len(by):
        raise InvalidOption(
            f"by={list(by)!r} must name one column at least, and none of them twice."
        )
    levels = [_levels(columns, name) for name in by]
    present = np.logical_and.reduce([codes >= 0 for codes, _ in levels])
    values = None if variable is None else _numbers(columns, variable, present)
    records = np.flatnonzero(present if values is None else present & (values != 0))
    cells, cell = np.unique(
        np.column_stack([codes[records] for codes, _ in levels]), axis=0, return_inverse=True
    )
    if not len(cells):
        raise InvalidOption(f"by={list(by)!r} makes no cell to which a record contributes.")
    if len(cells) > MOST_CELLS:
        raise InvalidOption(
            f"by={list(by)!r} makes {len(cells):,} cells, and {MOST_CELLS:,} is the most. Put "
            "values into bands first, or cross fewer columns."
        )
    chosen = tuple(
        tuple(labels[code] for (_, labels), code in zip(levels, row, strict=True))
        for row in cells.tolist()
    )
    amounts = np.ones(len(records)) if values is None else values[records]
    n_missing = int(np.count_nonzero(~present))
    return Cells(columns, tuple(by), variable, chosen, records, cell.ravel(), amounts, n_missing)


def target_rows(cells: Cells, values: npt.NDArray[np.float64], start: str) -> pd.DataFrame:
    """A row of a target table for each cell, whose names begin with `start`."""
    import pandas as pd

    n_cells = len(cells.levels)
    return pd.DataFrame(
        {
            "name": _names(start, cells.by, cells.levels),
            "value": values,
            "variable": pd.Series([cells.variable] * n_cells, dtype=object),
            "aggregate": "count" if cells.variable is None else "sum",
            "filter": [_filter(cells.by, row) for row in cells.levels],
            "family": start,
        }
    )


def _levels(columns: Columns, name: str) -> tuple[Codes, list[Any]]:
    """Position of each record's value among the sorted values, -1 where it is missing."""
    if "`" in name:
        raise InvalidOption(f"column {name!r} has a backtick, which no filter can name. Rename it.")
    try:
        column = columns[name]
    except InvalidExpression as error:
        raise InvalidOption(f"by={name!r}: {error}") from error
    if isinstance(column, Text):
        order = np.argsort(np.array(column.labels, dtype=object), kind="stable")
        places = np.empty(len(order) + 1, dtype=np.int64)
        places[order], places[-1] = np.arange(len(order)), -1
        return places[column.codes], [column.labels[place] for place in order]
    is_present = np.isfinite(column) if column.dtype.kind == "f" else np.ones(len(column), bool)
    values, found = np.unique(column[is_present], return_inverse=True)
    codes = np.full(len(column), -1, dtype=np.int64)
    codes[is_present] = found.ravel()
    return codes, values.tolist()


def _numbers(
    columns: Columns, name: str, present: npt.NDArray[np.bool_], elsewhere: float | None = None
) -> npt.NDArray[np.float64]:
    try:
        values = columns.numbers(name)
    except InvalidExpression as error:
        raise InvalidProblem(str(error)) from error
    wrong = int(np.count_nonzero(~np.isfinite(values[present])))
    if wrong:
        raise InvalidProblem(
            f"column {name!r} is missing or infinite in {wrong:,} records. Fill or drop them."
        )
    return values if elsewhere is None else np.where(present, values, elsewhere)


def _names(start: str, by: Sequence[str], cells: Sequence[Sequence[Any]]) -> list[str]:
    names = ["/".join([start, *map(shown_level, cell)]) for cell in cells]
    if len(set(names)) == len(names):
        return names
    # Values with slashes can run together; with the names of their columns they rarely do.
    names = [
        "/".join([start, *(f"{name}={level!r}" for name, level in zip(by, cell, strict=True))])
        for cell in cells
    ]
    return names


def shown_level(level: Any) -> str:
    """A value of a column as names have it: whole numbers without a point."""
    return f"{level:g}" if isinstance(level, float) and level == int(level) else str(level)


def _filter(by: Sequence[str], cell: Sequence[Any]) -> str:
    parts = []
    for name, level in zip(by, cell, strict=True):
        is_word = name.isidentifier() and not keyword.iskeyword(name)
        parts.append(f"{name if is_word else f'`{name}`'} == {level!r}")
    return " and ".join(parts)
