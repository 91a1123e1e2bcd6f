"""The program: errors become messages and exit codes, and nothing ends in a traceback."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from microcalibrate.cli.flags import in_flags
from microcalibrate.cli.interrupting import interrupt, when_safe
from microcalibrate.errors import (
    CalibrationError,
    InfeasibleTargets,
    InvalidOption,
    InvalidProblem,
    MissingExtra,
)

FAILURE, BAD_USAGE, UNCERTIFIED, CANCELLED = 1, 2, 3, 130
# What else a command that did all its work can tell other programs.
FLAGGED, POOR_MODEL, ROLLED_BACK = 3, 4, 5
REPORT_NAME = "report.html"

# Their messages name arguments of the library. Those about files name paths, which stay as they
# are.
_NAME_ARGUMENTS = (InvalidOption, InvalidProblem, InfeasibleTargets)


class _Commands(TyperGroup):
    """Commands whose failures end in a message and an exit code, never in a traceback."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        try:
            return super().make_context(*args, **options)
        except KeyboardInterrupt as pressed:
            raise _cancelled() from pressed

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CalibrationError as error:
            said = in_flags(str(error)) if isinstance(error, _NAME_ARGUMENTS) else str(error)
            complain(f"Error: {said}")
            raise typer.Exit(BAD_USAGE if isinstance(error, InvalidOption) else FAILURE) from error
        except KeyboardInterrupt as pressed:
            raise _cancelled() from pressed


def _cancelled() -> typer.Exit:
    complain("Cancelled; nothing was written.")
    return typer.Exit(CANCELLED)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Calibrate survey weights to population targets, on the few records that matter.",
)


def main() -> None:
    """Run the command line."""
    try:
        # Who starts commands in the background has them ignore Ctrl-C, and that stays so.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, when_safe(interrupt))
        app()
    except KeyboardInterrupt:
        sys.exit(_cancelled().exit_code)
    finally:
        # All is written and said, and the exit code stands. A signal that comes while the
        # interpreter packs up, which can take seconds, would only put its own code in the place.
        for late in (signal.SIGINT, signal.SIGTERM):
            signal.signal(late, signal.SIG_IGN)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"microcalibrate {version('microcalibrate')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  (its callback prints it)
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    progress_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append progress to this file, a line of JSON each; a file named cancel beside it "
            "ends the command as Ctrl-C does, and so does SIGTERM.",
        ),
    ] = None,
) -> None:
    """Take the options that come before a command."""
    if progress_file is not None:
        from microcalibrate.cli.progress_file import writing_progress

        context.with_resource(writing_progress(progress_file))


# --- What commands say ----------------------------------------------------------------------------


def say(text: str) -> None:
    """Lines on stdout, without characters that would steer the terminal."""
    from microcalibrate.figures.plotting import readable

    typer.echo("\n".join(map(readable, text.split("\n"))))


def complain(text: str) -> None:
    """One tidy paragraph on stderr."""
    from microcalibrate.figures.plotting import readable

    words = readable(" ".join(text.split()))
    typer.echo(textwrap.fill(words, 96, break_long_words=False, break_on_hyphens=False), err=True)


def end_without_certificate(why: str, where: object) -> None:
    """Tell that files were written whose figures are not proven to be the best, and exit with 3.

    Args:
        why: What the library says about it, one sentence or two.
        where: What was written.

    Raises:
        typer.Exit: Always.
    """
    complain(
        f"Without certificate: {in_flags(why)} Everything was written to {where} (exit code "
        f"{UNCERTIFIED})."
    )
    raise typer.Exit(UNCERTIFIED)


def check_plotly(what: str, otherwise: str = "") -> None:
    """Say before the work, not after it, that no report can be drawn.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    from importlib.util import find_spec

    if find_spec("plotly") is None:
        raise MissingExtra(
            f"{what} needs Plotly. Install it with: pip install 'microcalibrate[viz]'"
            + (f", {otherwise}" if otherwise else "")
        )
