"""`microcalibrate runs`: runs that work in the background, as the dashboard starts them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microcalibrate.cli.app import say

if TYPE_CHECKING:
    from microcalibrate.jobs import Run, Workspace

runs = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, cancel and delete runs of the dashboard.",
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--workspace", metavar="FOLDER", help="Folder that keeps the runs. [your own data folder]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the run, or as much of it as makes it clear.")
]
SHORT = 8
HEADINGS = ("id", "state", "command", "name", "submitted", "took", "progress")


@runs.command("list")
def list_runs(workspace: Folder = None, as_json: Json = False) -> None:
    """List all runs, the newest first."""
    found = _opened(workspace).runs()
    if as_json:
        typer.echo(json.dumps([_facts(run) for run in found], indent=1))
    elif not found:
        say("There are no runs.")
    else:
        say(_table([HEADINGS, *map(_row, found)]))


@runs.command("show")
def show(run_id: Id, workspace: Folder = None, as_json: Json = False) -> None:
    """Show what a run is, how far it has come, and how it ended."""
    run = _found(_opened(workspace), run_id)
    facts = _facts(run)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    shown = {
        "id": run.id,
        "name": run.name,
        "state": _state(facts),
        "why": facts["reason"],
        "submitted": _local(run.created),
        "took": _took(run),
        "progress": _progress(facts["progress"]),
        "time left": _span(facts["seconds_left"]),
        "folder": str(run.folder),
        "command": facts["command_line"],
    }
    say("\n".join(f"{name:<10} {value}" for name, value in shown.items() if value))
    if run.state.value == "failed" and (tail := run.log_tail(10)):
        say(f"\nthe last lines of its log\n{tail}")


@runs.command("cancel")
def cancel(run_id: Id, workspace: Folder = None) -> None:
    """Cancel a run. It writes what it has, if its command can, and ends within ten seconds."""
    run = _found(_opened(workspace), run_id)
    if run.state.is_over:
        say(f"run {run.id[:SHORT]} is over already: {run.state.value}")
        return
    run.cancel()
    say(f"run {run.id[:SHORT]} is {run.state.value}")


@runs.command("delete")
def delete(run_id: Id, workspace: Folder = None) -> None:
    """Delete a run that is over, with all of its files."""
    run = _found(_opened(workspace), run_id)
    run.delete()
    say(f"run {run.id[:SHORT]} is deleted")


@runs.command("log")
def log(
    run_id: Id,
    workspace: Folder = None,
    lines: Annotated[int, typer.Option("--lines", min=1, help="How many, from the end.")] = 40,
) -> None:
    """Print the end of what a run has printed."""
    say(_found(_opened(workspace), run_id).log_tail(lines))


# --- Which run ------------------------------------------------------------------------------------


def _opened(folder: Path | None) -> Workspace:
    from microcalibrate.errors import UnreadableFile
    from microcalibrate.jobs import Workspace

    if folder is not None and not folder.is_dir():
        raise UnreadableFile(f"{folder} is no folder: there is no workspace to look at.")
    return Workspace(folder)


def _found(workspace: Workspace, text: str) -> Run:
    from microcalibrate.errors import UnknownRun

    found = [run for run in workspace.runs() if run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    how = f"{len(found)} runs have an id that begins" if found else "no run has an id that begins"
    raise UnknownRun(f"{how} with {text!r}. `microcalibrate runs list` shows the ids.")


# --- What is told of it ---------------------------------------------------------------------------


def _facts(run: Run) -> dict[str, Any]:
    facts = run.facts
    lines = run.progress()
    return {
        "id": run.id,
        "name": run.name,
        "state": facts.state.value,
        "exit_code": facts.exit_code,
        "reason": facts.reason,
        "created": run.created.isoformat(),
        "started": _iso(run.started),
        "ended": _iso(run.ended),
        "queue_position": run.queue_position,
        "seconds_left": run.seconds_left(),
        "progress": lines[-1] if lines else None,
        "folder": str(run.folder),
        "result_folder": str(run.result_folder) if run.result_folder.is_dir() else None,
        "command": run.command,
        "arguments": list(run.arguments),
        "command_line": run.command_line(),
        "details": dict(run.details),
    }


def _row(run: Run) -> tuple[str, ...]:
    facts = _facts(run)
    name = run.name if len(run.name) <= 30 else f"{run.name[:29]}…"
    return (
        run.id[:SHORT],
        _state(facts),
        run.command,
        name,
        _local(run.created),
        _took(run),
        _progress(facts["progress"]) if facts["state"] in ("running", "cancelling") else "",
    )


def _state(facts: dict[str, Any]) -> str:
    if facts["queue_position"]:
        return f"{facts['state']} ({facts['queue_position']})"
    if facts["state"] == "done" and facts["exit_code"]:
        return f"done (exit code {facts['exit_code']})"
    return str(facts["state"])


def _progress(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    if line["activity"] == "writing":
        return "writing"
    of = f" of {line['total']:,}" if line["total"] else ""
    return f"{line['activity']}: {line['done']:,}{of} {line['unit']}"


def _took(run: Run) -> str:
    if run.started is None:
        return ""
    return _span(((run.ended or datetime.now(UTC)) - run.started).total_seconds())


def _span(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
