"""`microcalibrate report`: the page of a saved run, written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import REPORT_NAME, check_plotly


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a saved run.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write. [report.html in the run]")
    ] = None,
) -> None:
    """Write the report of a saved run anew."""
    check_plotly("the report")
    from microcalibrate.reports.saved import write_saved_report

    typer.echo(write_saved_report(run, out or run / REPORT_NAME))
