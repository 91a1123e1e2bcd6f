"""The face of the package: documented use, what a result holds, and how a run may end."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import microcalibrate
from microcalibrate import (
    Calibration,
    CalibrationResult,
    Distance,
    InvalidOption,
    InvalidProblem,
    NotConvergedWarning,
    Status,
    effective_sample_size,
)
from microcalibrate.engine.distances import CHI2
from microcalibrate.engine.solving import Step, solve
from microcalibrate.problem import Problem

from .problems import calibrated, conflicting, feasible, survey

DATA = survey(1, 500, 20)


# --- As documented --------------------------------------------------------------------------------


def test_the_documented_example() -> None:
    weights, targets, estimate_matrix = DATA.weights, DATA.targets, DATA.matrix

    cal = Calibration(weights, targets, estimate_matrix, l0_lambda=0.01)
    new_weights = cal.calibrate(max_iter=1000)

    assert isinstance(new_weights, np.ndarray)
    assert new_weights.dtype == np.float64
    assert new_weights.shape == weights.shape
    assert (new_weights >= 0).all()
    assert 0 < np.count_nonzero(new_weights) < len(weights)
    assert_array_equal(cal.weights, new_weights)


def test_the_price_of_records_is_the_fourth_argument() -> None:
    by_place = Calibration(DATA.weights, DATA.targets, DATA.matrix, 0.01).calibrate()
    by_name = Calibration(
        weights=DATA.weights, targets=DATA.targets, estimate_matrix=DATA.matrix, l0_lambda=0.01
    ).calibrate()

    assert_array_equal(by_place, by_name)


def test_documented_defaults() -> None:
    settings = calibrated(DATA).result.settings
    defaults = {
        "l0_lambda": 0.0,
        "target_records": None,
        "min_weight_ratio": 0.0,
        "max_weight_ratio": None,
        "distance": "chi2",
        "closeness": 1e-4,
        "refit_closeness": 1e-3,
        "seed": 0,
    }

    assert {name: settings[name] for name in defaults} == pytest.approx(defaults)
    assert calibrated(DATA, l0_lambda=0.1).result.settings["kappa"] == 1.0


def test_every_public_name_can_be_imported() -> None:
    for name in microcalibrate.__all__:
        assert getattr(microcalibrate, name) is not None
        assert name in dir(microcalibrate)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = microcalibrate.no_such_name


# --- What a result holds --------------------------------------------------------------------------


def test_the_table_of_targets() -> None:
    names = [f"income/{number}" if number > 9 else f"people {number}" for number in range(20)]
    calibration = calibrated(DATA, target_names=names, target_records=100)
    table = calibration.result.targets
    final = DATA.matrix.T @ calibration.weights

    assert list(table["name"]) == names
    assert list(table["family"]) == ["targets"] * 10 + ["income"] * 10
    assert_allclose(table["target"], DATA.targets)
    assert_allclose(table["initial"], DATA.matrix.T @ DATA.weights)
    assert_allclose(table["final"], final)
    assert_allclose(table["error"], final / DATA.targets - 1, atol=1e-12)
    assert_allclose(table["initial_error"], table["initial"] / DATA.targets - 1, atol=1e-12)
    assert_allclose(table["scale"], np.abs(DATA.targets))
    assert table["tolerance"].isna().all()
    assert_allclose(table["importance"].sum(), 1)


def test_statistics_before_and_after() -> None:
    calibration = calibrated(DATA, target_records=100)
    for weights, statistics in zip(
        (DATA.weights, calibration.weights), calibration.result.statistics.values(), strict=True
    ):
        miss = np.abs(DATA.matrix.T @ weights / DATA.targets - 1)
        expected = {
            "records": np.count_nonzero(weights),
            "total_weight": weights.sum(),
            "largest_over_mean": weights.max() / weights[weights > 0].mean(),
            "kish": weights.sum() ** 2 / (weights**2).sum(),
            "median_error": np.median(miss),
            "capped_error": np.minimum(miss, 1).mean(),
            "rms_error": np.sqrt((miss**2).mean()),
            "largest_error": miss.max(),
            "within_10_percent": (miss < 0.1).mean(),
        }
        assert {name: statistics[name] for name in expected} == pytest.approx(expected)


def test_the_effective_sample_size_is_kish() -> None:
    assert_allclose(effective_sample_size(np.array([100.0, 100.0, 200.0])), 8 / 3)
    assert effective_sample_size(np.full(7, 3.0)) == 7
    assert effective_sample_size(np.array([0.0, 5.0, 0.0])) == 1
    assert effective_sample_size(np.zeros(3)) == 0


def test_the_history_has_both_phases_and_the_records_of_each() -> None:
    history = calibrated(DATA, target_records=100).result.history

    assert list(history["phase"].unique()) == ["dense", "refit"]
    assert set(history.loc[history["phase"] == "dense", "records"]) == {500}
    assert set(history.loc[history["phase"] == "refit", "records"]) == {100}
    assert {"step", "loss", "gap", "residual", "step_length", "seconds"} <= set(history.columns)


def test_a_summary_for_people() -> None:
    calibration = calibrated(DATA, target_records=100)
    summary = calibration.summary()

    assert summary == calibration.result.summary()
    assert "CONVERGED" in summary
    assert "20 targets" in summary
    assert "Kish" in summary
    assert " 500 " in summary
    assert " 100\n" in summary


def test_a_result_is_saved_and_loaded_unchanged(tmp_path: Path) -> None:
    result = calibrated(
        DATA, target_records=100, record_ids=[f"household {number}" for number in range(500)]
    ).result

    loaded = CalibrationResult.load(result.save(tmp_path / "run"))

    for field in dataclasses.fields(CalibrationResult):
        saved, found = getattr(result, field.name), getattr(loaded, field.name)
        if isinstance(saved, np.ndarray):
            assert_array_equal(found, saved, err_msg=field.name)
        elif isinstance(saved, pd.DataFrame):
            pd.testing.assert_frame_equal(found, saved, check_dtype=False)
        else:
            assert found == saved, field.name


def test_before_a_run_there_is_no_result() -> None:
    calibration = Calibration(DATA.weights, DATA.targets, DATA.matrix)
    for ask in (lambda: calibration.result, lambda: calibration.weights, calibration.summary):
        with pytest.raises(InvalidOption, match=r"calibrate\(\)"):
            ask()


def test_a_second_run_replaces_the_first() -> None:
    data = conflicting(0)
    calibration = Calibration(data.weights, data.targets, data.matrix, max_weight_ratio=1.1)
    with pytest.warns(NotConvergedWarning):
        first = calibration.calibrate(max_iter=1, progress=False)
    assert_array_equal(calibration.weights, first)
    second = calibration.calibrate(progress=False)

    assert calibration.result.converged
    assert_array_equal(calibration.weights, second)
    assert not np.array_equal(first, second)


# --- From a table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_records_and_targets_as_tables(frame: Any) -> None:
    rng = np.random.default_rng(0)
    people = frame(
        {
            "weight": rng.uniform(50, 150, 300),
            "age": rng.integers(0, 95, 300),
            "wages": rng.lognormal(10, 1, 300),
        }
    )
    wanted = pd.DataFrame(
        {
            "name": ["people", "old", "wages"],
            "value": [31_000.0, 6_500.0, 1.2e9],
            "variable": [None, None, "wages"],
            "aggregate": ["count", "count", "sum"],
            "filter": [None, "age >= 65", None],
            "tolerance": [0.0, 0.0, np.nan],
            "family": ["census", "census", None],
        }
    )
    calibration = Calibration.from_table(people, wanted)
    weights = calibration.calibrate(progress=False)
    table = calibration.result.targets

    assert_allclose(weights.sum(), 31_000, rtol=1e-9)
    assert_allclose(weights[people["age"].to_numpy() >= 65].sum(), 6_500, rtol=1e-9)
    assert_allclose(weights @ people["wages"].to_numpy(), 1.2e9, rtol=1e-2)
    assert list(table["family"]) == ["census", "census", "targets"]
    assert_array_equal(table["tolerance"], [0.0, 0.0, np.nan])


def test_options_override_the_table_of_targets() -> None:
    people = pd.DataFrame({"w": [1.0, 1.0], "age": [30, 70]})
    wanted = [{"name": "old", "value": 3.0, "filter": "age >= 65", "tolerance": 0}]
    calibration = Calibration.from_table(people, wanted, weight="w", tolerances=0.1)

    assert_allclose(calibration.calibrate(progress=False), [1.0, 2.7], rtol=1e-6)


def test_a_missing_weight_column_is_named() -> None:
    with pytest.raises(InvalidProblem, match=r'"weight".*w, age'):
        Calibration.from_table(pd.DataFrame({"w": [1.0], "age": [3]}), [])


# --- How a run may end ----------------------------------------------------------------------------


def test_no_convergence_is_said_aloud() -> None:
    data = conflicting(0)
    calibration = Calibration(data.weights, data.targets, data.matrix, max_weight_ratio=1.1)
    with pytest.warns(NotConvergedWarning, match="max_iter"):
        weights = calibration.calibrate(max_iter=2, progress=False)

    assert calibration.result.status is Status.STEP_LIMIT
    assert not calibration.result.converged
    assert calibration.result.gap > 1e-8
    assert ((weights >= 0) & (weights <= 1.1 * data.weights)).all()


def test_convergence_is_not_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrated(conflicting(0), max_weight_ratio=1.1)


def interrupted_after(n_calls: int, function: str) -> tuple[Distance, list[int]]:
    """A distance during whose evaluation someone presses Ctrl-C, once calls are being counted.

    Append to the list to count: the check of a distance at its first use calls its functions too.
    """
    counted: list[int] = []

    def interrupted(ratio: Any) -> Any:
        if counted:
            counted.append(1)
        if len(counted) > n_calls + 1:
            raise KeyboardInterrupt
        return getattr(CHI2, function)(ratio)

    return dataclasses.replace(CHI2, **{function: interrupted}), counted


@pytest.mark.parametrize("function", ["value", "curvature", "inverse_slope"])
@pytest.mark.parametrize("n_calls", [0, 1, 3, 6])
@pytest.mark.parametrize("target_records", [None, 30])
def test_ctrl_c_keeps_the_weights_so_far(
    n_calls: int, function: str, target_records: int | None
) -> None:
    data = conflicting(0)
    distance, counted = interrupted_after(n_calls, function)
    calibration = Calibration(
        data.weights,
        data.targets,
        data.matrix,
        max_weight_ratio=1.1,
        distance=distance,
        target_records=target_records,
    )
    counted.append(0)
    with pytest.warns(NotConvergedWarning, match="Cancelled"):
        weights = calibration.calibrate(progress=False)

    assert calibration.result.status is Status.CANCELLED
    assert np.isfinite(weights).all()
    assert ((weights >= 0) & (weights <= 1.1 * data.weights)).all()
    assert "CANCELLED" in calibration.summary()


def test_ctrl_c_in_the_progress_callback_ends_the_solve() -> None:
    data = conflicting(0)
    problem = Problem.build(data.weights, data.targets, data.matrix, max_weight_ratio=1.1)
    seen: list[Step] = []

    def progress(step: Step) -> None:
        seen.append(step)
        if step.step == 4:
            raise KeyboardInterrupt

    solution = solve(problem, CHI2, progress=progress)

    assert solution.status is Status.CANCELLED
    assert len(seen) == len(solution.history) == 5
    assert solution.gap == seen[-1].gap
    assert ((solution.ratio >= 0) & (solution.ratio <= 1.1)).all()


def test_ctrl_c_with_exact_targets_says_how_far_off_they_are() -> None:
    data = feasible(0)
    problem = Problem.build(
        data.weights, data.targets, data.matrix, tolerances=0, max_weight_ratio=1.2
    )

    def progress(step: Step) -> None:
        if step.step == 0:
            raise KeyboardInterrupt

    solution = solve(problem, CHI2, progress=progress)

    assert solution.status is Status.CANCELLED
    missed = np.abs(problem.errors(solution.ratio * data.weights)).max()
    assert_allclose(solution.residual, missed, rtol=1e-6)
    assert missed > 1e-3


def test_a_bar_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    Calibration(DATA.weights, DATA.targets, DATA.matrix, target_records=50).calibrate(progress=True)
    shown = capsys.readouterr()

    assert shown.out == ""
    assert "refit" in shown.err
    assert "gap" in shown.err


def test_nothing_is_printed_when_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Calibration(DATA.weights, DATA.targets, DATA.matrix, target_records=50).calibrate()
    shown = capsys.readouterr()

    assert shown.out == shown.err == ""
