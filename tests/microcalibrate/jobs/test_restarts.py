"""Whatever is killed, closed or opened twice: the folder says what is true, and work goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from microcalibrate.jobs import Run, RunState, Workspace
from microcalibrate.jobs.facts import Facts
from microcalibrate.jobs.mending import launch
from microcalibrate.jobs.processes import ProcessMark

from .conftest import Problem, until

SubmitDeaf = Callable[[str], Run]


def process(mark: ProcessMark | None) -> psutil.Process:
    assert mark is not None
    return psutil.Process(mark.pid)


def is_gone(of: psutil.Process) -> bool:
    return not of.is_running() or of.status() == psutil.STATUS_ZOMBIE


def kill_supervisor(run: Run) -> None:
    until(lambda: run.facts.supervisor is not None)
    supervisor = process(run.facts.supervisor)
    supervisor.kill()
    until(lambda: is_gone(supervisor))


def has_begun(run: Run) -> bool:
    return "deaf from here on" in run.log_tail()


def test_a_run_goes_on_when_its_submitter_ends_and_is_found_again(
    workspace: Workspace, small: Problem
) -> None:
    script = (
        "import sys; from microcalibrate.jobs import Workspace; "
        "print(Workspace(sys.argv[1]).submit('tune', sys.argv[2:], 'search').id)"
    )
    words = [str(workspace.folder), *small.words("--trials", "100000")]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], check=True, capture_output=True, text=True
    )
    run = workspace.run(done.stdout.strip())
    until(lambda: len(run.progress()) >= 3)
    seen = run.progress()
    worker = run.facts.worker

    again = Workspace(workspace.folder).run(run.id)

    assert again == run
    assert again.state is RunState.RUNNING
    assert again.facts.worker == worker
    assert again.progress()[: len(seen)] == seen
    until(lambda: len(again.progress(after=len(seen))) > 0)
    assert again.progress(after=len(seen))[0] not in seen


def test_a_run_without_its_supervisor_has_failed_and_its_worker_is_ended_on_opening(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    run = submit_deaf("orphan")
    until(lambda: has_begun(run))
    worker = process(run.facts.worker)
    kill_supervisor(run)

    assert run.state is RunState.FAILED
    assert "watched it is gone" in run.reason
    assert not is_gone(worker)
    Workspace(workspace.folder)
    assert is_gone(worker)
    assert Facts.read(run.folder).state is RunState.FAILED
    assert run.ended is not None


def test_an_orphan_that_was_cancelled_is_cancelled(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    run = submit_deaf("orphan")
    until(lambda: has_begun(run))
    kill_supervisor(run)
    (run.folder / "cancel").touch()

    assert run.state is RunState.CANCELLED
    Workspace(workspace.folder)
    assert Facts.read(run.folder).state is RunState.CANCELLED


def test_queued_runs_without_supervisor_are_started_once_however_often_one_opens(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    first = submit_deaf("first")
    until(lambda: has_begun(first))
    waiting = [workspace.submit("calibrate", ["--help"], str(n)) for n in range(2)]
    for run in waiting:
        kill_supervisor(run)
    assert [run.state for run in waiting] == [RunState.QUEUED] * 2

    script = "import sys; from microcalibrate.jobs import Workspace; Workspace(sys.argv[1])"
    opening = [
        subprocess.Popen([sys.executable, "-c", script, str(workspace.folder)]) for _ in range(3)
    ]
    assert [process.wait() for process in opening] == [0] * 3
    for run in waiting:
        launch(run.folder, 1)
    until(lambda: all((m := r.facts.supervisor) is not None and m.is_alive for r in waiting))
    assert [run.queue_position for run in waiting] == [1, 2]
    process(first.facts.worker).kill()
    for run in waiting:
        until(lambda run=run: run.state.is_over)

    for run in waiting:
        assert run.state is RunState.DONE, run.log_tail()
        # Its words were said once.
        assert run.log_tail(1000).count("Usage:") == 1
    assert waiting[0].ended is not None
    assert waiting[1].started is not None
    assert waiting[0].ended <= waiting[1].started


def test_a_queued_run_that_was_cancelled_never_begins_though_its_supervisor_is_dead(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    first = submit_deaf("first")
    until(lambda: has_begun(first))
    run = workspace.submit("calibrate", ["--help"], "second")
    kill_supervisor(run)
    run.cancel()

    assert run.state is RunState.CANCELLED
    Workspace(workspace.folder)
    assert Facts.read(run.folder).state is RunState.CANCELLED
    assert run.started is None


def test_a_dead_run_does_not_hold_up_those_behind_it(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    first = submit_deaf("first")
    until(lambda: has_begun(first))
    second, third = (workspace.submit("calibrate", ["--help"], str(n)) for n in range(2))
    kill_supervisor(second)
    worker = process(first.facts.worker)
    kill_supervisor(first)

    until(lambda: third.state.is_over)
    assert third.state is RunState.DONE
    # Whoever gets a slot looks after the others, and ends what works without one.
    assert is_gone(worker)
    assert first.state is RunState.FAILED
    until(lambda: second.state.is_over)
    assert second.state is RunState.DONE


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_a_pid_that_another_process_has_now_is_not_taken_for_the_old_one(shift: float) -> None:
    own = ProcessMark.of(psutil.Process().pid)

    assert own.is_alive
    assert not ProcessMark(own.pid, own.created + shift).is_alive
