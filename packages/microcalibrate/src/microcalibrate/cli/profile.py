"""`microcalibrate profile`: what a table holds, and a copy of it that every command reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.options import Quiet
from microcalibrate.cli.text_table import text_table

if TYPE_CHECKING:
    from microcalibrate.profiling import ColumnProfile, DataProfile

MOST_COLUMNS = 200


def profile(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Records: a CSV, Parquet or Feather table."),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder for the imported table; an earlier import is replaced."),
    ],
    name: Annotated[
        str | None, typer.Option(help="What the table is called. [the name of the file]")
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of a CSV file, such as cp1252 or utf-16. [utf-8]"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what a table holds and what is wrong with it, and write it as Parquet.

    Files of any size go through in bounded memory. The folder has data.parquet, preview.parquet
    (the first 100 records) and profile.json.
    """
    from microcalibrate.cli.inputs import check_out, given
    from microcalibrate.profiling import import_data

    check_out(out, False, (data,))
    found = import_data(data, out, **given(name=name, encoding=encoding))
    if quiet:
        return
    from microcalibrate.figures.plotting import count
    from microcalibrate.profiling.limits import in_bytes

    say(
        f"{found.name}: {count(found.n_rows, 'record')}, {count(len(found.columns), 'column')}, "
        f"{in_bytes(found.bytes)} on disk, {in_bytes(found.memory_bytes)} in memory"
    )
    say(f"\n{_table(found)}")
    for problem in found.problems:
        say(f"- {problem}")
    say(f"\nwritten to {out}")


def _table(found: DataProfile) -> str:
    shown = found.columns[:MOST_COLUMNS]
    columns = {
        "column": [column.name for column in shown],
        "type": [column.type for column in shown],
        "role (a guess)": [column.role for column in shown],
        "missing": [f"{column.n_missing:,}" for column in shown],
        "negative": [_count(column.n_negative) for column in shown],
        "zero": [_count(column.n_zero) for column in shown],
        "values": [f"{'over ' * column.levels_capped}{column.n_levels:,}" for column in shown],
        "from … to, or commonest": [_range(column) for column in shown],
    }
    rest = len(found.columns) - len(shown)
    more = f"\n… and {rest:,} more columns, in profile.json" if rest else ""
    return text_table(columns, left=("column", "type", "role (a guess)", tuple(columns)[-1])) + more


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _range(column: ColumnProfile) -> str:
    if column.min is not None and column.max is not None and column.type != "truth value":
        return f"{column.min:,.6g} … {column.max:,.6g}"
    return ", ".join(str(value) for value, _ in column.levels[:3])
