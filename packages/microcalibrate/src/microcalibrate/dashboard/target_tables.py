"""Tables of targets as people bring them: pasted, from a CSV file in either form, or edited."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.errors import InvalidTargetTable
from microcalibrate.targets.rows import COLUMNS as READ
from microcalibrate.targets.rows import OTHER_WORDS

ENTITY = "entity"
_USUAL = (
    *("name", "value", ENTITY, "variable", "aggregate", "filter"),
    *("tolerance", "importance", "family"),
)
# Every column that is read has its place, under one of its names.
_OTHERS = {"include", "column", *_USUAL, *OTHER_WORDS.values()}
COLUMNS = ("include", *_USUAL, *(each for each in READ if each not in _OTHERS))
"""Columns of the grid, in their order."""
NUMBERS = ("value", "quantile", "tolerance", "importance")

# What other tables call these columns.
_ALSO = {
    "target": "value",
    "total": "value",
    "column": "variable",
    **{other: name for name, other in OTHER_WORDS.items()},
    "target_name": "name",
}
_NO = ("0", "false", "no", "n", "off", "exclude", "excluded")
_YES = ("", "1", "true", "yes", "y", "on", "include", "included")


def empty_table() -> pd.DataFrame:
    """A grid without rows."""
    return _typed(pd.DataFrame(columns=list(COLUMNS)))


def as_grid(table: pd.DataFrame) -> pd.DataFrame:
    """Any table of targets with the columns of the grid; further columns are left out.

    Raises:
        InvalidTargetTable: If a cell cannot be read.
    """
    named = table.rename(columns=_renamed(list(table.columns)))
    if "name" not in named.columns or "value" not in named.columns:
        found = ", ".join(f"“{column}”" for column in table.columns)
        raise InvalidTargetTable(
            f"A table of targets needs the columns name and target (or value), and this one has "
            f"{found}. Rename them."
        )
    return _typed(named.reindex(columns=list(COLUMNS)))


def read_text(text: str) -> pd.DataFrame:
    r"""Targets from a CSV text, or from what a spreadsheet puts on the clipboard.

    Either form is read: `name,target`, also without these heads; or declared targets with the
    columns `name, variable, agg, entity, filter, value, tolerance, weight, group, include` or
    those of `build_targets`.

    Args:
        text: With commas, semicolons or tabs between cells.

    Returns:
        The grid of these targets.

    Raises:
        InvalidTargetTable: If it is no such table; the message names the row.

    Examples:
        >>> read_text('people,"1,234"\nsnap,5')[["name", "value"]].to_numpy().tolist()
        [['people', 1234.0], ['snap', 5.0]]
    """
    lines = text.lstrip("\ufeff").strip("\r\n")
    if not lines.strip():
        raise InvalidTargetTable("There is nothing to read: paste a line for each target.")
    try:
        rows = list(csv.reader(io.StringIO(lines), delimiter=_delimiter(lines), strict=True))
    except csv.Error as error:
        raise InvalidTargetTable(
            f"This is no CSV text: {error}. Look for a quotation mark that is not closed."
        ) from error
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    head = [cell.strip() for cell in rows[0]]
    if len(head) == 2 and _number(head[1]) is not None:
        head, body = ["name", "value"], rows
    else:
        body = rows[1:]
    for number, row in enumerate(body, start=1):
        if len(row) > len(head):
            raise InvalidTargetTable(
                f"Row {number} has {len(row)} cells, and there are {len(head)} columns. Put a text "
                "with a comma into quotation marks."
            )
    filled = [row + [""] * (len(head) - len(row)) for row in body]
    return as_grid(pd.DataFrame(filled, columns=_distinct(head)))


def included(grid: pd.DataFrame) -> pd.DataFrame:
    """The targets to calibrate to, as the command line reads them; blank columns are left out."""
    kept = grid[grid["include"].astype(bool)].drop(columns="include")
    kept = kept[~(kept["name"].eq("") & kept["value"].isna())]
    blank = [
        name
        for name in kept.columns
        if name not in ("name", "value") and _is_blank(kept[name]).all()
    ]
    return kept.drop(columns=blank)


def entities(grid: pd.DataFrame) -> list[str]:
    """What the targets say they are about, each once; blank cells say nothing."""
    return sorted(set(grid[ENTITY]) - {""}) if ENTITY in grid else []


def as_bytes(table: pd.DataFrame) -> bytes:
    """A table as a CSV file, every number in full."""
    return table.to_csv(index=False).encode()


def merged(grid: pd.DataFrame, further: pd.DataFrame) -> pd.DataFrame:
    """A grid with further targets; one of a name that is there takes its place."""
    kept = grid[~grid["name"].isin(further["name"])]
    # An empty frame has nothing to say about types.
    parts = [part for part in (kept, further) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else empty_table()


# --- Cells ----------------------------------------------------------------------------------------


def _renamed(heads: Sequence[str]) -> Mapping[str, str]:
    plain = {head: str(head).strip().lower() for head in heads}
    new = {head: _ALSO.get(word, word) for head, word in plain.items()}
    twice = [head for head in heads if list(new.values()).count(new[head]) > 1]
    if twice:
        raise InvalidTargetTable(
            f"The columns {', '.join(f'“{head}”' for head in twice)} mean the same. Leave one of "
            "them out."
        )
    return new


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    typed = {}
    for column in COLUMNS:
        cells = table[column]
        if column == "include":
            typed[column] = np.array([_truth(cell, row) for row, cell in enumerate(cells, 1)], bool)
        elif column in NUMBERS:
            typed[column] = np.array(
                [_read(cell, column, row) for row, cell in enumerate(cells, 1)], dtype=np.float64
            )
        else:
            typed[column] = np.array(_texts(cells), dtype=object)
    return pd.DataFrame(typed, columns=list(COLUMNS))


def _texts(cells: Iterable[Any]) -> list[str]:
    return ["" if _is_missing(cell) else str(cell).strip() for cell in cells]


def _read(cell: Any, column: str, row: int) -> float:
    if _is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
        return float("nan")
    number = _number(str(cell))
    if number is None:
        raise InvalidTargetTable(f"Row {row}: its {column} is “{cell}”, and it must be a number.")
    return number


def _number(text: str) -> float | None:
    """The number that people wrote, with commas or spaces between thousands."""
    plain = text.strip().replace(",", "").replace("−", "-")
    plain = plain.replace("\u202f", "").replace("\u00a0", "").replace(" ", "").lstrip("$€£")
    if plain.endswith("%"):
        scaled = _number(plain[:-1])
        return None if scaled is None else scaled / 100
    try:
        return float(plain)
    except ValueError:
        return None


def _truth(cell: Any, row: int) -> bool:
    if _is_missing(cell):
        return True
    plain = str(cell).strip().lower().removesuffix(".0")
    if plain in _NO or plain in _YES:
        return plain in _YES
    raise InvalidTargetTable(f"Row {row}: its include is “{cell}”, and it must be yes or no.")


def _is_missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell))


def _is_blank(cells: pd.Series[Any]) -> pd.Series[Any]:
    return cells.isna() if cells.dtype.kind == "f" else cells.eq("")


def _delimiter(text: str) -> str:
    first = text.splitlines()[0]
    return max("\t;,", key=lambda each: (first.count(each), -"\t;,".index(each)))


def _distinct(heads: Sequence[str]) -> list[str]:
    for head in heads:
        if heads.count(head) > 1:
            raise InvalidTargetTable(f"Two columns are called “{head}”. Rename one of them.")
    return list(heads)
