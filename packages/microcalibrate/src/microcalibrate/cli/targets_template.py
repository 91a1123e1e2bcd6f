"""`microcalibrate targets-template`: a target table for every cell of a cross, to be filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.linked import (
    Source,
    check_entities,
    linked_arguments,
    rows_with_unit,
)
from microcalibrate.cli.options import EntityTables, Links, Quiet, Unit


def targets_template(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Records: a CSV, Parquet or Feather table; or a folder with a table for each "
            "entity.",
        ),
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
    entity: Annotated[
        str | None,
        typer.Option(
            metavar="ENTITY",
            help="With several tables: the one whose rows are counted or added up; columns may "
            "also be those of the unit. [the unit]",
        ),
    ] = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    quiet: Quiet = False,
) -> None:
    """Write a target for every cell of a cross of columns, such as income by region and age.

    Fill in the values in a spreadsheet, and calibrate to the table.
    """
    from microcalibrate.figures.plotting import count
    from microcalibrate.io import TABLE_SUFFIXES, read_table, write_table
    from microcalibrate.targets import totals_by_level

    if not out.name.lower().endswith(TABLE_SUFFIXES):
        raise typer.BadParameter(f"--out {out} must end in {', '.join(TABLE_SUFFIXES)}.")
    if out.resolve() == data.resolve():
        raise typer.BadParameter(f"--out {out} is the data themselves. Choose another name.")
    source = Source(data, weight, None, None, unit, tuple(table or ()), tuple(link or ()))
    if source.is_linked or data.is_dir():
        records, entity = _linked(source, entity)
    else:
        source.refuse_links()
        if entity is not None:
            raise typer.BadParameter("--entity is about several tables: add them with --table.")
        records = read_table(data)
    found = totals_by_level(records, by, variable, weight=weight, prefix=prefix)
    if entity is not None:
        found["entity"] = entity
    write_table(found, out)
    if quiet:
        return
    gaps = int(records[by].isna().any(axis=1).sum())
    say(f"{count(len(found), 'target')}, {found['name'].iloc[0]} to {found['name'].iloc[-1]}")
    if gaps:
        say(f"{gaps:,} of {len(records):,} records are in no cell: a value is missing there")
    if weight is None:
        say("the values are blank: fill them in")
    say(f"written to {out}")


def _linked(source: Source, entity: str | None) -> tuple[Any, str | None]:
    """Rows of an entity with the columns of the unit, and its name where it is not the unit."""
    from microcalibrate.diagnostics.frame import Frame
    from microcalibrate.linked_tables import linked_units

    linked = linked_arguments(source)
    if source.weight is None and linked["unit"] is not None:
        # Nothing is weighted: there need not be a weight.
        frame = Frame(linked["tables"], linked["unit"], linked["ids"], linked["links"])
    else:
        frame, _ = linked_units(**linked)
    if entity is not None:
        check_entities("--entity", (entity,), frame.tables)
    is_unit = entity in (None, frame.unit)
    return rows_with_unit(frame, entity or frame.unit), None if is_unit else entity
