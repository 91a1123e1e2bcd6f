"""`microcalibrate dashboard`: the page that does a whole calibration, served on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.page_server import PageServer
from microcalibrate.errors import CalibrationError, MissingExtra, UnreadableFile

APP = Path(__file__).parents[1] / "dashboard" / "app.py"


def dashboard(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILES]...",
            help="What to open: CSV or Parquet tables of records, and folders of saved runs.",
        ),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(metavar="CSV", help="A calibration log to look at; can be given again."),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where data sets and runs are kept. [your user data]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port. [the first free one from 8501 on]"),
    ] = None,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Let other machines in, where --host does: whoever reaches the page sees all.",
        ),
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in your browser.")] = True,
) -> None:
    """Open a page to calibrate without a programme: data, targets, settings, runs, downloads."""
    server = PageServer(host, port, allow_remote, browser)
    server.check()
    _check_streamlit()
    tables, others = _sorted_out(files or [])
    for path in log or []:
        if not path.is_file():
            raise UnreadableFile(f"{path} is not a file. Give the CSV file of a calibration log.")
    from microcalibrate.jobs import Workspace

    kept = Workspace(workspace)
    arguments = ["--workspace", str(kept.folder)]
    for folder in others:
        arguments += ["--run", str(folder.resolve())]
    for path in log or []:
        arguments += ["--log", str(path.resolve())]
    if server.is_remote:
        arguments.append("--remote")
    for table in tables:
        kept.add_upload(table.name, table)
        say(f"{table} is taken up as a data set.")
    _serve(server.command(APP, arguments))


def _check_streamlit() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("streamlit", "plotly", "pyarrow") if find_spec(name) is None]
    if missing:
        names = " and ".join(name.capitalize() for name in missing)
        raise MissingExtra(
            f"the dashboard needs {names}. Install it with: pip install 'microcalibrate[dashboard]'"
        )


def _sorted_out(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Tables, and folders of runs."""
    from microcalibrate.reports.saved import kind_of

    tables, runs = [], []
    for path in files:
        if path.is_dir():
            kind_of(path)
            runs.append(path)
        elif path.is_file():
            tables.append(path)
        else:
            raise UnreadableFile(
                f"{path} does not exist. Give tables of records (CSV or Parquet), or folders of "
                "saved runs."
            )
    return tables, runs


def _serve(command: list[str]) -> None:
    """Serve until Ctrl-C; what the server has to say goes to the same terminal."""
    if os.name == "posix":
        # The server takes the place of this process, so that whatever ends one ends the other.
        sys.stdout.flush()
        os.execv(command[0], command)
    with subprocess.Popen(command) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            # The server has got it too, and ends by itself.
            server.wait()
            code = 0
    if code:
        raise CalibrationError(
            f"the page has ended with exit code {code}; the lines above say why."
        )
