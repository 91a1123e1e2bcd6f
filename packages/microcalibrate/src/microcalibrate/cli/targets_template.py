"""`microcalibrate targets-template`: a target table for every cell of a cross, to be filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.options import Quiet


def targets_template(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Records: a CSV, Parquet or Feather table."),
    ],
    by: Annotated[
        list[str],
        typer.Option(
            metavar="COLUMN",
            help="Column whose values make the cells; may be given several times, for all cells "
            "of the cross.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Target table to write: .csv, .csv.gz, .parquet or .feather.")
    ],
    variable: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column that is added up. [records are counted]"),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Fill in the total of the data with these weights. [values are left blank]",
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(help="How all names begin. [the variable, or count]"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a target for every cell of a cross of columns, such as income by region and age.

    Fill in the values in a spreadsheet, and calibrate to the table.
    """
    from microcalibrate.io import TABLE_SUFFIXES, read_table, write_table
    from microcalibrate.targets import totals_by_level

    if not out.name.lower().endswith(TABLE_SUFFIXES):
        raise typer.BadParameter(f"--out {out} must end in {', '.join(TABLE_SUFFIXES)}.")
    if out.resolve() == data.resolve():
        raise typer.BadParameter(f"--out {out} is the data themselves. Choose another name.")
    table = read_table(data)
    found = totals_by_level(table, by, variable, weight=weight, prefix=prefix)
    write_table(found, out)
    if quiet:
        return
    gaps = int(table[by].isna().any(axis=1).sum())
    say(f"{len(found):,} targets, {found['name'].iloc[0]} to {found['name'].iloc[-1]}")
    if gaps:
        say(f"{gaps:,} of {len(table):,} records are in no cell: a value is missing there")
    if weight is None:
        say("the values are blank: fill them in")
    say(f"written to {out}")
