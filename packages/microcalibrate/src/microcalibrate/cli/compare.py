"""`microcalibrate compare`: two saved runs of one kind, or two logs, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.options import Quiet, Report


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a saved run, or a log.")],
    second: Annotated[
        Path,
        typer.Argument(metavar="B", help="Folder of another run of the same kind, or a log."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for tables and a page. [nothing is written]"),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=1, help="Rows of each list that are printed.")
    ] = 10,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Compare two calibrations, logs of any, two diagnoses, or two regularisations."""
    if quiet and out is None:
        raise typer.BadParameter("--quiet without --out would do nothing. Leave either out.")
    if out is not None:
        from microcalibrate.cli.inputs import check_out

        check_out(out, report, (first, second))
    from microcalibrate.reports.comparison import compare_runs

    found = compare_runs(first, second)
    if out is not None:
        from microcalibrate.cli.outputs import write_run

        write_run(found, out, with_report=report)
    if not quiet:
        say(found.summary(most))
        if out is not None:
            say(f"\nwritten to {out}")
