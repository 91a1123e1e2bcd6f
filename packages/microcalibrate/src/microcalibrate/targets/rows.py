"""A target table, read row by row: what a row declares, or what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from microcalibrate.columns import Table, did_you_mean
from microcalibrate.errors import InvalidTargetTable, UnknownColumn

COLUMNS = (
    "name",
    "value",
    "column",
    "variable",
    "aggregate",
    "filter",
    "denominator",
    "within",
    "minus",
    "quantile",
    "tolerance",
    "importance",
    "family",
    "include",
    "agg",
    "weight",
    "group",
)
"""Columns of a target table that are read; others, such as `source`, are notes."""

OTHER_WORDS = {"aggregate": "agg", "importance": "weight", "family": "group"}
"""What some of these may also be called."""

AGGREGATES = ("sum", "count", "mean", "ratio", "share", "quantile")
"""What a target may be of its variable."""

# Columns that belong to some aggregates only: which, and whether these need it.
_BELONGS = {
    "denominator": (("ratio",), True),
    "quantile": (("quantile",), True),
    "within": (("share",), False),
    "minus": (("sum", "count", "mean", "ratio", "share"), False),
}
_NEEDED = {
    "denominator": "a denominator: the column of the data that its variable is divided by",
    "quantile": "a quantile: the share of the records up to its value, 0.5 for a median",
}

_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True)
class Declared:
    """One checked row of a target table.

    Attributes:
        row: Its number, from 1.
        name: Of the target.
        value: What the total, count, mean, ratio, share or quantile is known to be.
        variable: Column of the data that is added up, or None for a count of records.
        aggregate: One of `AGGREGATES`.
        filter: Which records count, or None for all.
        tolerance: Allowed relative error: 0 exact, NaN soft.
        importance: Relative importance of a soft target.
        family: Group it belongs to, `""` for none.
        denominator: Column of the data that a ratio divides by.
        within: Which records a share is of, or None for all.
        minus: Which records are taken off a sum or a count, or those of a second mean, ratio or
            share that is taken off; None for no difference.
        quantile: Share of the records up to the value of a quantile, in `(0, 1)`.
    """

    row: int
    name: str
    value: float
    variable: str | None
    aggregate: str
    filter: str | None
    tolerance: float
    importance: float
    family: str
    denominator: str | None = None
    within: str | None = None
    minus: str | None = None
    quantile: float | None = None

    @property
    def is_relative(self) -> bool:
        """Whether it is a quotient of two totals, and not a total: means, ratios and so on."""
        return self.aggregate not in ("sum", "count")

    @property
    def is_difference(self) -> bool:
        """Whether it is one quotient less another, and so not linear in the weights."""
        return self.is_relative and self.minus is not None

    @property
    def quotients(self) -> tuple[Declared, ...]:
        """Itself, or where it is a difference of quotients both of them, each a target alone."""
        if not self.is_difference:
            return (self,)
        first = replace(self, minus=None)
        if self.aggregate == "share":
            return first, replace(first, within=self.minus)
        return first, replace(first, filter=self.minus)

    @property
    def denominated_by(self) -> tuple[str | None, str | None]:
        """Which records a quotient is of, and the column that it divides by: None for 1 each."""
        if self.aggregate == "share":
            return self.within, self.variable
        return self.filter, self.denominator

    @property
    def level(self) -> float:
        """What the quotient of a relative target shall be: its value; of a quantile, its share."""
        return self.value if self.quantile is None else self.quantile

    @property
    def where(self) -> str:
        """The target and its row, as messages begin."""
        return where(self.row, self.name)


def where(row: int, name: str) -> str:
    """A target and its row, as messages begin."""
    return f'target "{name}" (row {row})'


def read_rows(table: Table | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table of any library as dictionaries without blank cells.

    Raises:
        InvalidTargetTable: If it is no table, has no rows, or not the columns that are needed.
    """
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


def is_included(row: int, cells: Mapping[str, Any]) -> bool:
    """Whether a row is to be used: its `include` is true or blank.

    Raises:
        InvalidTargetTable: If it is neither true nor false.
    """
    cell = cells.get("include", True)
    if isinstance(cell, Real) and cell in (0, 1):
        return bool(cell)
    if isinstance(cell, bool | np.bool_):
        return bool(cell)
    if isinstance(cell, str) and cell.strip().lower() in (*_YES, *_NO):
        return cell.strip().lower() in _YES
    raise InvalidTargetTable(
        f"{where(row, str(cells.get('name', '')))}: its include is {cell!r}, and it must be true, "
        "false, or blank (true)."
    )


def included_rows(
    table: Table | Iterable[Mapping[str, Any]],
) -> list[tuple[int, dict[str, Any]]]:
    """Rows that are to be used, each with its number, from 1.

    Raises:
        InvalidTargetTable: If there is none, or the table cannot be read.
    """
    rows = enumerate(read_rows(table), start=1)
    used = [(number, cells) for number, cells in rows if is_included(number, cells)]
    if not used:
        raise InvalidTargetTable(
            "No row of the target table is included: set `include` to true in one at least."
        )
    return used


def declared(row: int, cells: Mapping[str, Any], column_names: Collection[str] | None) -> Declared:
    """Check what one row says by itself.

    Args:
        row: Its number, from 1.
        cells: Column to cell, without blank cells.
        column_names: Columns of the data; None takes a name for a column where it stands for one.

    Raises:
        InvalidTargetTable: If the row is not complete, or contradicts itself.
    """
    if "name" not in cells:
        raise InvalidTargetTable(f"Row {row} of the target table has no name. Give it one.")
    name = str(cells["name"])
    place = where(row, name)
    if "value" not in cells:
        raise InvalidTargetTable(
            f"{place}: its value is missing. Enter a number, or drop the target."
        )

    def used(key: str) -> str:
        """The word for a column that this row uses."""
        other = OTHER_WORDS.get(key, key)
        if other == key or other not in cells:
            return key
        if key in cells and cells[key] != cells[other]:
            raise InvalidTargetTable(
                f"{place}: it gives the {key} {cells[key]!r} and the {other} {cells[other]!r}, "
                "which mean the same. Leave one of them out."
            )
        return other

    def number(key: str, default: float, allowed: Callable[[float], bool], rule: str) -> float:
        word = used(key)
        cell = cells.get(word, default)
        if isinstance(cell, Real) and not isinstance(cell, bool | np.bool_):
            read = float(cell)
            if word not in cells or (math.isfinite(read) and allowed(read)):
                return read
        raise InvalidTargetTable(f"{place}: its {word} is {cell!r}, and it must be {rule}.")

    def text(key: str) -> str | None:
        cell = cells.get(used(key))
        if cell is None or isinstance(cell, str):
            return cell
        raise InvalidTargetTable(f"{place}: its {used(key)} is {cell!r}, and it must be text.")

    variable, column, condition = text("variable"), text("column"), text("filter")
    if variable is not None and column is not None and variable != column:
        raise InvalidTargetTable(
            f"{place}: it names the variable {variable!r} and the column {column!r}, which mean "
            "the same. Leave one of them out."
        )
    variable = variable if variable is not None else column
    aggregate = text("aggregate")
    if aggregate is None:
        is_filtered = condition is not None or "minus" in cells
        aggregate = "count" if variable is None and is_filtered else "sum"
    if aggregate not in AGGREGATES:
        raise InvalidTargetTable(
            f"{place}: its {used('aggregate')} is {aggregate!r}, and it must be "
            f"{', '.join(map(repr, AGGREGATES[:-1]))} or {AGGREGATES[-1]!r}."
        )
    for key, (kinds, is_needed) in _BELONGS.items():
        if key in cells and aggregate not in kinds:
            listed = " or ".join([", ".join(map(repr, kinds[:-1])), repr(kinds[-1])][-len(kinds) :])
            raise InvalidTargetTable(
                f"{place}: it gives {key} {cells[key]!r}, which belongs to the aggregate "
                f"{listed}, and its aggregate is {aggregate!r}. Leave "
                f"{key} out, or mend the aggregate."
            )
        if is_needed and aggregate in kinds and key not in cells:
            raise InvalidTargetTable(f"{place}: a {aggregate} needs {_NEEDED[key]}.")
    if aggregate == "share" and condition is None:
        raise InvalidTargetTable(
            f"{place}: a share needs a filter, of the records whose share it is. Add it; `within` "
            "says of which records, all where it is blank."
        )
    if variable is None and aggregate not in ("count", "share"):
        if column_names is not None and name not in column_names:
            raise UnknownColumn(
                f"{place}: it names no variable, and the data has no column {name!r}."
                f"{did_you_mean(name, column_names)} Give it a variable, or a filter to "
                "count records."
            )
        variable = name
    return Declared(
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
        family=str(cells.get(used("family"), "")),
        denominator=text("denominator"),
        within=text("within"),
        minus=text("minus"),
        quantile=None
        if aggregate != "quantile"
        else number(
            "quantile", 0.5, lambda read: 0 < read < 1, "a share between 0 and 1, 0.5 for a median"
        ),
    )


def refuse_same_names(targets: Sequence[Declared]) -> None:
    """Raise `InvalidTargetTable` for the first name that stands twice."""
    first: dict[str, int] = {}
    for target in targets:
        if target.name in first:
            raise InvalidTargetTable(
                f"{target.where}: row {first[target.name]} has the same name. Give each target a "
                "name of its own."
            )
        first[target.name] = target.row
