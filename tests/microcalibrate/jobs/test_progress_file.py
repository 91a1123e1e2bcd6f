"""Progress for programs: lines of JSON, a file that cancels, and nothing lost by it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from typer.testing import CliRunner

from microcalibrate import Calibration, CalibrationResult, evaluate_robustness, tune_hyperparameters
from microcalibrate.cli import CANCELLED, FAILURE, app
from microcalibrate.cli.progress_file import LINES_A_SECOND, writing_progress
from microcalibrate.diagnostics import RandomScheduleReforms, diagnose
from microcalibrate.progress import Update, listening, tell

from .conftest import Problem

RNG = np.random.default_rng(0)
MATRIX = RNG.lognormal(size=(120, 6))
GIVEN: dict[str, Any] = {
    "weights": np.ones(120),
    "targets": MATRIX.sum(axis=0) * RNG.uniform(0.9, 1.1, 6),
    "estimate_matrix": MATRIX,
}


def of(told: list[Update], activity: str) -> list[Update]:
    return [update for update in told if update.activity == activity]


def run(problem: Problem, folder: Path, *words: str) -> Any:
    given = [str(problem.data), "--weight", "w", "--targets", str(problem.targets), "--no-report"]
    before = ["--progress-file", str(folder / "progress.jsonl")]
    return CliRunner().invoke(
        app, [*before, words[0], *given, "--out", str(folder / "out"), *words[1:]]
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def test_a_calibration_tells_of_each_step_though_no_bar_is_wanted() -> None:
    told: list[Update] = []
    calibration = Calibration(**GIVEN, target_records=40)
    with listening(told.append):
        weights = calibration.calibrate(progress=False)

    for phase in ("dense", "refit"):
        steps = calibration.result.history.query("phase == @phase")
        assert [update.done for update in of(told, phase)] == steps.step.tolist()
        assert [update.figures["gap"] for update in of(told, phase)] == steps.gap.tolist()
    assert of(told, "refit")[-1].figures["records"] == 40
    assert_array_equal(weights, Calibration(**GIVEN, target_records=40).calibrate(progress=False))
    assert len(told) == len(calibration.result.history)


def test_trials_folds_and_reforms_are_counted_to_their_totals() -> None:
    told: list[Update] = []
    frame = pd.DataFrame({"w": np.ones(120), "income": MATRIX[:, 0] * 1e4})
    with listening(told.append):
        tune_hyperparameters(**GIVEN, n_trials=3, progress=False)
        evaluate_robustness(**GIVEN, target_records=40, n_folds=3, n_bootstrap=2, progress=False)
        space = RandomScheduleReforms("income", low=1e4, high=3e4)
        diagnose(frame, weights="w", reforms=space, n_reforms=4, progress=False)

    for activity, total in (("trials", 3), ("folds", 1 + 3 + 2), ("reforms", 4)):
        own = of(told, activity)
        assert {update.total for update in own} == {total}
        assert sorted({update.done for update in own}) == list(range(total + 1))
    assert of(told, "trials")[-1].figures.keys() == {"best", "records"}


def test_nobody_hears_after_the_end_of_the_block() -> None:
    told: list[Update] = []
    with listening(told.append):
        with listening(lambda _: None):
            tell("dense", 1, None, "steps", {})
        tell("dense", 2, None, "steps", {})
    tell("dense", 3, None, "steps", {})
    assert [update.done for update in told] == [2]


def test_the_file_has_what_was_told_and_the_weights_are_the_same(
    small: Problem, tmp_path: Path
) -> None:
    with_file, without = tmp_path / "with", tmp_path / "without"
    with_file.mkdir()
    without.mkdir()
    done = run(small, with_file, "calibrate", "--records", "50")
    assert done.exit_code == 0, done.output
    found = lines(with_file)

    assert {tuple(line) for line in found} == {
        ("seconds", "activity", "done", "total", "unit", "figures")
    }
    assert [line["activity"] for line in found if line["done"] == 0] == [
        "dense", "refit", "writing"
    ]  # fmt: skip
    assert found == sorted(found, key=lambda line: line["seconds"])
    words = [str(small.data), "--weight", "w", "--targets", str(small.targets), "--no-report"]
    words += ["--records", "50", "--out", str(without / "out")]
    assert CliRunner().invoke(app, ["calibrate", *words]).exit_code == 0
    first, second = (
        pd.read_parquet(folder / "out" / "weights.parquet") for folder in (with_file, without)
    )
    pd.testing.assert_frame_equal(first, second)


def test_a_cancelled_calibration_writes_its_best_weights(small: Problem, tmp_path: Path) -> None:
    (tmp_path / "cancel").touch()
    done = run(small, tmp_path, "calibrate", "--max-ratio", "1.5")

    assert done.exit_code == CANCELLED
    assert CalibrationResult.load(tmp_path / "out").status.name == "CANCELLED"
    assert lines(tmp_path)[-1]["activity"] == "writing"


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_a_command_without_anything_to_keep_writes_nothing(
    small: Problem, tmp_path: Path, command: str
) -> None:
    (tmp_path / "cancel").touch()
    done = run(small, tmp_path, command)

    assert done.exit_code == CANCELLED
    assert "nothing was written" in done.output
    assert not (tmp_path / "out").exists()


def test_a_cancel_that_comes_when_all_is_done_does_not_undo_it(
    small: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = CalibrationResult.save

    def late(self: CalibrationResult, folder: Path) -> Path:
        (tmp_path / "cancel").touch()
        signal.raise_signal(signal.SIGTERM)
        return saved(self, folder)

    monkeypatch.setattr(CalibrationResult, "save", late)
    done = run(small, tmp_path, "calibrate")

    assert done.exit_code == 0, done.output
    assert CalibrationResult.load(tmp_path / "out").converged


def test_sigterm_cancels_once_and_only_with_a_progress_file(tmp_path: Path) -> None:
    former = signal.getsignal(signal.SIGTERM)
    with writing_progress(tmp_path / "p.jsonl"):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is former


@contextmanager
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now


def test_a_signal_after_the_end_does_not_change_how_it_ended(tmp_path: Path) -> None:
    script = (
        "import atexit, os, signal; from microcalibrate.cli import main; "
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM); main()"
    )
    words = ["--progress-file", str(tmp_path / "p.jsonl"), "schema", "--help"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_lines_are_few_and_the_last_of_an_activity_is_never_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clock(monkeypatch) as now, writing_progress(tmp_path / "progress.jsonl"):
        for activity in ("dense", "refit"):
            for done in range(3001):
                now[0] += 0.001
                tell(activity, done, None, "steps", {"gap": 1.0, "lost": np.inf})
    found = lines(tmp_path)

    assert len(found) <= LINES_A_SECOND * 6 + LINES_A_SECOND + 2
    for activity in ("dense", "refit"):
        own = [line["done"] for line in found if line["activity"] == activity]
        assert own == sorted(own)
        assert own[-1] == 3000
    assert all(line["figures"] == {"gap": 1.0} for line in found)


def test_a_file_that_cannot_be_written_is_told_before_the_work(
    small: Problem, tmp_path: Path
) -> None:
    done = run(small, tmp_path / "missing", "calibrate")
    assert done.exit_code == FAILURE
    assert "--progress-file" in done.output
