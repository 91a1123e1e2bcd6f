"""`microcalibrate runs`: the same facts in a table for people and as JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from microcalibrate.cli import FAILURE, app
from microcalibrate.jobs import Run, RunState, Workspace
from microcalibrate.jobs.facts import Facts

CREATED = 1_700_000_000.0

pytestmark = pytest.mark.usefixtures("no_processes")


@pytest.fixture
def done_run(workspace: Workspace) -> Run:
    run = workspace.submit("calibrate", ["a b.csv", "--out", "{run}/result"], "\x1b[31m<b>first")
    Facts(
        RunState.DONE, started=CREATED, ended=CREATED + 75, exit_code=3, reason="No certificate."
    ).write(run.folder)
    line = {"seconds": 3.0, "activity": "dense", "done": 7, "total": None, "unit": "steps"}
    (run.folder / "progress.jsonl").write_text(json.dumps({**line, "figures": {}}) + "\n{half")
    (run.folder / "output.log").write_text("".join(f"line {n}\n" for n in range(100)))
    return run


def said(workspace: Workspace, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["runs", *words, "--workspace", str(workspace.folder)])
    assert done.exit_code == code, done.output
    return done.output


def test_the_table_has_a_line_per_run_newest_first(workspace: Workspace, done_run: Run) -> None:
    waiting = workspace.submit("tune", [], "second")
    heading, *rows = said(workspace, "list").splitlines()

    assert heading.split() == ["id", "state", "command", "name", "submitted", "took", "progress"]
    assert [row.split()[0] for row in rows] == [waiting.id[:8], done_run.id[:8]]
    assert "queued (1)" in rows[0]
    assert "done (exit code 3)" in rows[1]
    assert "0:01:15" in rows[1]
    assert "\x1b" not in "".join(rows)


def test_an_empty_workspace_says_so(workspace: Workspace) -> None:
    assert said(workspace, "list") == "There are no runs.\n"
    assert json.loads(said(workspace, "list", "--json")) == []


def test_json_has_what_the_run_says(workspace: Workspace, done_run: Run) -> None:
    facts: dict[str, Any] = json.loads(said(workspace, "show", done_run.id[:6], "--json"))

    assert facts == json.loads(said(workspace, "list", "--json"))[0]
    assert facts["id"] == done_run.id
    assert facts["state"] == "done"
    assert facts["exit_code"] == 3
    assert facts["reason"] == "No certificate."
    assert facts["progress"]["done"] == 7
    assert facts["command_line"] == done_run.command_line()
    assert "'a b.csv'" in facts["command_line"]
    assert Path(facts["folder"]) == done_run.folder


def test_a_failed_run_is_shown_with_its_last_lines(workspace: Workspace, done_run: Run) -> None:
    Facts(RunState.FAILED, exit_code=1, reason="It failed.").write(done_run.folder)
    text = said(workspace, "show", done_run.id)
    assert "It failed." in text
    assert text.endswith("line 99\n")
    assert "line 90\n" in text
    assert "line 89\n" not in text


def test_the_log_is_printed_from_its_end(workspace: Workspace, done_run: Run) -> None:
    assert said(workspace, "log", done_run.id, "--lines", "2") == "line 98\nline 99\n"


def test_cancel_and_delete_do_what_they_say(workspace: Workspace, done_run: Run) -> None:
    waiting = workspace.submit("tune", [], "second")
    assert "cancelled" in said(workspace, "cancel", waiting.id)
    assert waiting.state is RunState.CANCELLED
    assert "over already: done" in said(workspace, "cancel", done_run.id)
    assert done_run.state is RunState.DONE
    said(workspace, "delete", waiting.id)
    assert workspace.runs() == [done_run]


def test_what_is_not_over_is_not_deleted(workspace: Workspace) -> None:
    run = workspace.submit("tune", [], "second")
    assert "Cancel it first" in " ".join(said(workspace, "delete", run.id, code=FAILURE).split())
    assert workspace.runs() == [run]


def test_ids_must_be_clear(workspace: Workspace, done_run: Run) -> None:
    workspace.submit("tune", [], "second")
    assert "2 runs have" in said(workspace, "show", "", code=FAILURE)
    assert "no run has" in said(workspace, "show", f"{done_run.id}0", code=FAILURE)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = CliRunner().invoke(app, ["runs", "list", "--workspace", str(missing)])
    assert done.exit_code == FAILURE
    assert not missing.exists()
