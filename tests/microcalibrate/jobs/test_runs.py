"""Runs as real processes: what they write, how they end, and who comes next."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
from numpy.testing import assert_array_equal

from microcalibrate import CalibrationResult
from microcalibrate.hyperparameter_tuning import TuningResult
from microcalibrate.jobs import Run, RunState, Workspace

from .conftest import Problem, until

SubmitDeaf = Callable[[str], Run]


def ended(run: Run) -> RunState:
    until(lambda: run.state.is_over)
    return run.state


def worker_of(run: Run) -> psutil.Process:
    """The process that does the work, once it does."""
    until(lambda: run.facts.worker is not None)
    mark = run.facts.worker
    assert mark is not None
    return psutil.Process(mark.pid)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_words_that_a_run_shows_give_the_same_bits_by_hand(
    workspace: Workspace, small: Problem, tmp_path: Path
) -> None:
    run = workspace.submit("calibrate", small.words("--records", "60", "--seed", "4"), "by hand?")
    assert ended(run) is RunState.DONE, run.log_tail()
    assert run.exit_code == 0
    assert run.started is not None
    assert run.ended is not None
    assert run.created <= run.started <= run.ended
    weights = pd.read_parquet(run.result_folder / "weights.parquet").weight.to_numpy()

    program, *words = shlex.split(run.command_line())
    words[words.index("--out") + 1] = str(tmp_path / "by-hand")
    assert program == "microcalibrate"
    subprocess.run([sys.executable, "-m", program, *words], check=True, capture_output=True)
    again = pd.read_parquet(tmp_path / "by-hand" / "weights.parquet").weight.to_numpy()

    assert_array_equal(weights, again)
    assert (weights > 0).sum() == 60


def test_a_cancelled_search_ends_soon_keeps_its_trials_and_makes_way(
    workspace: Workspace, small: Problem
) -> None:
    search = workspace.submit("tune", small.words("--trials", "100000"), "search")
    after = workspace.submit("calibrate", ["--help"], "after")

    def n_trials() -> int:
        return max((x["done"] for x in search.progress() if x["activity"] == "trials"), default=0)

    until(lambda: n_trials() >= 3)
    assert search.state is RunState.RUNNING
    assert after.queue_position == 1
    assert (search.seconds_left() or 0) > 1
    worker = worker_of(search)

    search.cancel()
    assert search.state in (RunState.CANCELLING, RunState.CANCELLED)
    until(lambda: search.state.is_over, seconds=10)

    assert search.state is RunState.CANCELLED
    assert search.exit_code == 130
    assert is_gone(worker)
    assert "Cancelled" in search.log_tail()
    kept = TuningResult.load(search.result_folder)
    assert kept.status == "cancelled"
    assert len(kept.trials) >= 3
    assert ended(after) is RunState.DONE, after.log_tail()
    assert after.started is not None
    assert search.ended is not None
    assert after.started >= search.ended


def test_a_cancelled_calibration_leaves_its_best_weights(
    workspace: Workspace, make_problem: Callable[[Path, int, int], Problem], tmp_path: Path
) -> None:
    large = make_problem(tmp_path, 60_000, 30)
    words = large.words("--records", "500", "--selection", "sampled_gates")
    run = workspace.submit("calibrate", words, "gates")
    until(lambda: any(line["activity"] == "gates" for line in run.progress()))
    run.cancel()

    assert ended(run) is RunState.CANCELLED
    result = CalibrationResult.load(run.result_folder)
    assert result.status.name == "CANCELLED"
    # The dense solve was done: its weights are what is kept.
    assert (abs(result.targets.error) < 1e-2).all()


def test_a_worker_that_ignores_signals_is_killed_and_the_next_run_begins(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    deaf = submit_deaf("deaf")
    after = workspace.submit("calibrate", ["--help"], "after")
    until(lambda: "deaf from here on" in deaf.log_tail())
    worker = worker_of(deaf)
    deaf.cancel()

    assert deaf.state is RunState.CANCELLING
    until(lambda: deaf.state.is_over, seconds=10)
    assert deaf.state is RunState.CANCELLED
    assert deaf.exit_code == -signal.SIGKILL
    assert is_gone(worker)
    assert ended(after) is RunState.DONE


def test_a_worker_that_tells_nothing_is_cancelled_by_a_signal(
    workspace: Workspace, small: Problem
) -> None:
    policy = b"""
import time
def sleeps(data):
    print("asleep", flush=True)
    time.sleep(1000)
"""
    run = workspace.submit("diagnose", small.reformed("sleeps"), files={"policy.py": policy})
    until(lambda: "asleep" in run.log_tail())
    run.cancel()

    assert ended(run) is RunState.CANCELLED
    assert run.exit_code == 130
    assert "nothing was written" in run.log_tail()


def test_a_killed_worker_shows_failed_with_its_last_lines(submit_deaf: SubmitDeaf) -> None:
    run = submit_deaf("to be killed")
    until(lambda: "deaf from here on" in run.log_tail())
    worker_of(run).kill()

    assert ended(run) is RunState.FAILED
    assert run.exit_code == -signal.SIGKILL
    assert "signal 9" in run.reason
    assert run.log_tail(1) == "deaf from here on"


def test_a_command_that_fails_says_why(workspace: Workspace, small: Problem) -> None:
    run = workspace.submit("calibrate", small.words("--records", "100000"), "too many")

    assert ended(run) is RunState.FAILED
    assert run.exit_code in (1, 2)
    assert "--records" in run.log_tail()


def test_exit_codes_of_commands_that_wrote_everything_are_done_with_a_note(
    workspace: Workspace, small: Problem
) -> None:
    run = workspace.submit("calibrate", small.words("--max-iter", "1", "--max-ratio", "1.2"), "")

    assert ended(run) is RunState.DONE, run.log_tail()
    assert run.exit_code == 3
    assert "certificate" in run.reason
    assert run.name == "calibrate"
    assert CalibrationResult.load(run.result_folder).status.name == "STEP_LIMIT"


def test_runs_begin_in_the_order_of_submission(
    workspace: Workspace, submit_deaf: SubmitDeaf
) -> None:
    first = submit_deaf("first")
    others = [workspace.submit("calibrate", ["--help"], str(n)) for n in range(3)]
    until(lambda: first.state is RunState.RUNNING)
    assert [run.queue_position for run in others] == [1, 2, 3]
    assert [run.name for run in workspace.runs()] == ["2", "1", "0", "first"]

    others[1].cancel()
    assert ended(others[1]) is RunState.CANCELLED
    assert others[1].started is None
    until(lambda: others[2].queue_position == 2)
    worker_of(first).kill()

    assert [ended(others[n]) for n in (0, 2)] == [RunState.DONE] * 2
    begun = [run.started for run in (first, others[0], others[2])]
    over = [run.ended for run in (first, others[0], others[2])]
    assert None not in begun + over
    for before, after in zip(over[:-1], begun[1:], strict=True):
        assert before is not None
        assert after is not None
        assert before <= after


def test_two_slots_let_two_runs_work_side_by_side(tmp_path: Path, small: Problem) -> None:
    from .conftest import DEAF, end_all

    workspace = Workspace(tmp_path / "wide", n_slots=2)
    try:
        words = small.reformed("never_ends")
        runs = [
            workspace.submit("diagnose", words, str(n), files={"policy.py": DEAF}) for n in range(3)
        ]
        until(lambda: [r.state for r in runs[:2]] == [RunState.RUNNING] * 2)
        assert runs[2].queue_position == 1
    finally:
        end_all(workspace)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to end as a whole")
def test_what_a_worker_has_started_ends_with_it(workspace: Workspace, small: Problem) -> None:
    offspring = b"""
import subprocess, sys, time
def starts(data):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    print("child", child.pid, flush=True)
    time.sleep(1000)
"""
    run = workspace.submit("diagnose", small.reformed("starts"), files={"policy.py": offspring})
    until(lambda: "child" in run.log_tail())
    child = psutil.Process(int(run.log_tail().split()[-1]))
    worker_of(run).kill()

    assert ended(run) is RunState.FAILED
    until(lambda: is_gone(child), seconds=5)
