"""The log of a run: what was computed, row for row, in the columns that other viewers read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal

from microcalibrate import Calibration, CalibrationResult
from microcalibrate.engine.distances import CHI2, RAKING
from microcalibrate.engine.solving import solve
from microcalibrate.errors import InvalidOption, TruncatedFile, UnreadableFile, UnwritableFile
from microcalibrate.logs import history, read_log, write_log
from microcalibrate.logs.writing import weights_hash
from microcalibrate.problem import Problem

from ..published import validate

HEADER = ",epoch,loss,target_name,target,estimate,error,abs_error,rel_abs_error\n"
NAMES = ["people", 'wages, "gross"', "=income\nof all", "net", "a/zero", "apart"]


def calibrated(**options: Any) -> CalibrationResult:
    """Soft, banded and exact targets; one negative, one of zero, one without importance."""
    rng = np.random.default_rng(1)
    matrix = rng.gamma(2.0, size=(300, 6))
    matrix[:, 3] *= -1
    matrix[:, 4] -= matrix[:, 4].mean()
    weights = rng.uniform(50, 150, size=300)
    targets = (matrix.T @ weights) * np.array([1.1, 0.9, 1.2, 1.1, 0.0, 1.4])
    settings: dict[str, Any] = {
        "target_names": NAMES,
        "tolerances": [0.0, 0.01, np.nan, np.nan, np.nan, np.nan],
        "importances": [1, 1, 1, 1, 1, 0],
    }
    calibration = Calibration(weights, targets, matrix, **(settings | options))
    calibration.calibrate(progress=False)
    return calibration.result


RUNS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"tolerances": None},
        {"tolerances": None, "distance": "raking", "max_weight_ratio": 1.2},
        {"tolerances": None, "target_records": 60},
    ],
    ids=["banded", "linear", "bounded", "refit"],
)


@RUNS
def test_the_log_has_what_was_computed_row_for_row(tmp_path: Path, options: Any) -> None:
    result = calibrated(**options)
    run = result.save(tmp_path / "run")
    losses = result.history.loss.to_numpy()

    with (run / "log.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))

    assert (run / "log.csv").read_text(encoding="utf-8").startswith(HEADER)
    assert len(rows) == len(losses) * 6
    targets = result.targets
    for number, row in enumerate(rows):
        epoch, place = divmod(number, 6)
        target = targets.target[place]
        estimate = result.target_history.to_numpy()[epoch, place]
        assert [int(row[""]), int(row["epoch"])] == [number, epoch]
        assert float(row["loss"]) == losses[epoch]
        assert row["target_name"].removeprefix("'") == NAMES[place]
        assert float(row["target"]) == target
        assert float(row["estimate"]) == estimate
        assert float(row["error"]) == estimate - target
        assert float(row["abs_error"]) == abs(estimate - target)
        assert (
            row["rel_abs_error"] == ""
            if target == 0
            else float(row["rel_abs_error"]) == abs(estimate - target) / abs(target)
        )
    last = [float(row["estimate"]) for row in rows[-6:]]
    assert_array_equal(last, targets.final)


@RUNS
def test_the_log_is_read_as_it_was_computed(tmp_path: Path, options: Any) -> None:
    result = calibrated(**options)
    run = result.save(tmp_path / "run")

    log = read_log(run)

    assert (log.name, log.dialect, log.loss_kind, log.notes) == ("run", "A", "run", ())
    assert log.target_names == tuple(NAMES)
    assert log.excluded == ("apart",)
    assert_array_equal(log.matrix("estimate"), result.target_history.to_numpy())
    assert_array_equal(log.curve.loss, result.history.loss)
    assert_array_equal(log.curve.phase, result.history.phase)
    final = log.final
    assert_array_equal(final.estimate, result.targets.final)
    nonzero = (result.targets.target != 0).to_numpy()
    assert_allclose(final.relative_error[nonzero], result.targets.error[nonzero], rtol=1e-12)
    assert np.isnan(final.relative_error[~nonzero]).all()
    assert log.facts["config"] == result.settings
    assert log.facts["versions"] == result.versions
    assert log.facts["seed"] == result.seed
    assert log.facts["weights_sha256"] == weights_hash(result.weights)


@RUNS
def test_the_history_begins_with_the_design_weights(options: Any) -> None:
    result = calibrated(**options)

    assert_allclose(result.target_history.iloc[0], result.targets.initial, rtol=1e-9, atol=1e-6)
    phases = result.target_history.index.get_level_values("phase")
    assert phases.tolist() == result.history.phase.tolist()
    steps = result.target_history.index.get_level_values("step")
    assert steps.tolist() == result.history.step.tolist()


@pytest.mark.parametrize("tolerances", [None, 0.0, 0.05])
@pytest.mark.parametrize("distance", [CHI2, RAKING], ids=["chi2", "raking"])
def test_errors_of_each_step_are_those_of_its_weights(distance: Any, tolerances: Any) -> None:
    rng = np.random.default_rng(3)
    matrix, weights = rng.gamma(2.0, size=(80, 3)), rng.uniform(1, 2, 80)
    goal = matrix.T @ weights * np.array([1.05, 0.97, 1.1])
    problem = Problem.build(weights, goal, matrix, tolerances=tolerances, max_weight_ratio=1.4)

    for n_steps in (1, 3, 1000):
        solution = solve(problem, distance, max_iter=n_steps)
        errors = problem.errors(solution.ratio * weights)

        assert solution.step_errors.shape == (len(solution.history), 3)
        # A converged solve may still move weights onto their bounds, by next to nothing.
        assert_allclose(solution.step_errors[-1], errors, rtol=1e-6, atol=1e-6)


def test_of_long_runs_some_steps_and_the_last_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Any = {"tolerances": None, "max_weight_ratio": 1.2, "target_records": 60}
    whole = calibrated(**options)
    counts = whole.history.groupby("phase", sort=False).size()
    # A tenth of the steps of a longer run; here a third.
    monkeypatch.setattr(history, "KEPT_OF_A_PHASE", 3)
    monkeypatch.setattr(history, "MOST_VALUES", 6 * len(whole.history) - 1)
    result = calibrated(**options)
    kept: list[int] = []
    for n_steps in counts:
        assert n_steps >= 6
        first = kept[-1] + 1 if kept else 0
        kept += [*range(first, first + n_steps - 1, n_steps // 3), first + n_steps - 1]

    loaded = CalibrationResult.load(result.save(tmp_path / "run"))

    assert result.target_history.index.get_level_values("epoch").tolist() == kept
    assert_frame_equal(result.target_history, whole.target_history.iloc[kept], check_exact=True)
    assert_frame_equal(loaded.target_history, result.target_history, check_exact=True)
    log = read_log(tmp_path / "run")
    assert [(p["steps"], p["every_step"]) for p in log.facts["phases"]] == [
        (n_steps, False) for n_steps in counts
    ]
    assert sum(p["kept"] for p in log.facts["phases"]) == len(kept)
    assert_array_equal(log.curve.loss, whole.history.loss.iloc[kept])
    assert_array_equal(log.curve.phase, whole.history.phase.iloc[kept])


def test_equal_runs_have_equal_logs(tmp_path: Path) -> None:
    for name in "ab":
        calibrated(tolerances=None, target_records=60).save(tmp_path / name)

    for name in ("log.csv", "log.csv.meta.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_log_that_lost_rows_is_refused(tmp_path: Path) -> None:
    run = calibrated().save(tmp_path / "run")
    lines = (run / "log.csv").read_bytes().splitlines(keepends=True)
    (run / "log.csv").write_bytes(b"".join(lines[:-12]))

    for read in (read_log, CalibrationResult.load):
        with pytest.raises(TruncatedFile, match="Copy the whole file again"):
            read(run)


@pytest.mark.parametrize("change", [{"format": "other/1"}, {"format": None}])
def test_facts_of_something_else_are_refused(tmp_path: Path, change: Any) -> None:
    run = calibrated().save(tmp_path / "run")
    beside = run / "log.csv.meta.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | change))

    with pytest.raises(UnreadableFile, match="has format"):
        read_log(run)


def test_without_its_facts_a_log_is_read_all_the_same(tmp_path: Path) -> None:
    result = calibrated()
    run = result.save(tmp_path / "run")
    (run / "log.csv.meta.json").unlink()

    log = read_log(run / "log.csv")

    assert_array_equal(log.matrix("estimate"), result.target_history.to_numpy())
    assert log.excluded == ()
    assert set(log.curve.phase) == {""}


ONE: dict[str, Any] = {
    "epochs": [0, 5],
    "losses": [1.0, 0.5],
    "target_names": ["a", "b"],
    "targets": np.array([1.0, 2.0]),
    "estimates": np.ones((2, 2)),
}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"epochs": [5, 5]}, "epochs must be whole numbers"),
        ({"epochs": [0.5, 1.0]}, "epochs must be whole numbers"),
        ({"losses": [1.0]}, "1 losses"),
        ({"estimates": np.ones((2, 3))}, "a column per target"),
        ({"target_names": ["a", "a"]}, "a name of its own"),
    ],
)
def test_what_is_no_log_is_not_written(tmp_path: Path, change: Any, part: str) -> None:
    with pytest.raises(InvalidOption, match=part):
        write_log(tmp_path / "log.csv", **(ONE | change))

    with pytest.raises(UnwritableFile, match="end in"):
        write_log(tmp_path / "log.txt", **ONE)
    assert list(tmp_path.iterdir()) == []


def test_names_come_back_whatever_they_hold(tmp_path: Path) -> None:
    names = ["=a", "'=a", "''=a", "'b", "-1", "+x", "@y", "\ttab", "cr\rlf\r\n", 'q"', "é,ß", " s "]
    path = tmp_path / "log.csv"
    write_log(
        path,
        epochs=[3],
        losses=[np.nan],
        target_names=names,
        targets=np.ones(len(names)),
        estimates=np.ones((1, len(names))),
    )

    assert read_log(path).target_names == tuple(names)
    with path.open(newline="", encoding="utf-8") as lines:
        cells = [row["target_name"] for row in csv.DictReader(lines)]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


@RUNS
def test_the_facts_agree_with_the_published_schema(tmp_path: Path, options: Any) -> None:
    run = calibrated(**options).save(tmp_path / "run")

    validate("log", run / "log.csv.meta.json")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tolerances": None, "target_records": 60},
        {"tolerances": None, "min_weight_ratio": 1.0, "max_weight_ratio": 1.0},
    ],
    ids=["banded", "refit", "nothing to decide"],
)
def test_the_log_of_a_result_is_that_of_its_folder(tmp_path: Path, options: Any) -> None:
    result = calibrated(**options)

    log, saved = result.log(), read_log(result.save(tmp_path / "run"))

    assert_frame_equal(log.table, saved.table, check_exact=True)
    assert_frame_equal(log.curve, saved.curve, check_exact=True)
    assert_frame_equal(log.final, saved.final, check_exact=True)
    for name in ("dialect", "loss_kind", "excluded", "target_names"):
        assert getattr(log, name) == getattr(saved, name)
