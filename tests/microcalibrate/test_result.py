"""A result: what is saved comes back, and a failure leaves the earlier run as it was."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal

from microcalibrate import Calibration, CalibrationResult
from microcalibrate.errors import UnreadableFile, UnwritableFile
from microcalibrate.io import read_table
from microcalibrate.result import STATISTICS, Status, weight_statistics

from .files import RUN_FILES, content, full_disk


def calibrated(**options: Any) -> CalibrationResult:
    """300 records, an exact, a banded and two soft targets."""
    rng = np.random.default_rng(1)
    matrix = rng.gamma(2.0, size=(300, 4))
    weights = rng.uniform(50, 150, size=300)
    targets = (matrix.T @ weights) * np.array([1.1, 0.9, 1.2, 1.0])
    settings: dict[str, Any] = {
        "target_names": ["people", "a/income", "a/wages", "=tax"],
        "tolerances": [0.0, 0.01, np.nan, np.nan],
    }
    calibration = Calibration(weights, targets, matrix, **(settings | options))
    calibration.calibrate(progress=False)
    return calibration.result


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_records": 60, "tolerances": None},
        {"record_ids": [f"record é {i}" for i in range(300)]},
        {"min_weight_ratio": -np.inf, "tolerances": None},
    ],
)
def test_a_saved_result_comes_back_equal(tmp_path: Path, options: dict[str, Any]) -> None:
    result = calibrated(**options)
    result.save(tmp_path / "run")

    loaded = CalibrationResult.load(tmp_path / "run")

    for name in ("weights", "design_weights", "inclusion_probabilities", "record_ids"):
        assert_array_equal(getattr(loaded, name), getattr(result, name))
    assert_frame_equal(loaded.targets, result.targets, check_exact=True)
    assert_frame_equal(loaded.history, result.history, check_exact=True)
    assert_frame_equal(loaded.target_history, result.target_history, check_exact=True)
    assert loaded.summary_values() == result.summary_values()
    assert loaded.summary() == result.summary()
    assert set(content(tmp_path / "run")) == RUN_FILES


def test_a_result_that_knows_no_gap_comes_back(tmp_path: Path) -> None:
    result = dataclasses.replace(calibrated(), gap=math.inf, status=Status.STALLED)
    result.save(tmp_path / "run")

    loaded = CalibrationResult.load(tmp_path / "run")

    assert loaded.gap == math.inf
    assert loaded.status is Status.STALLED
    assert not loaded.converged


def test_a_result_without_steps_comes_back(tmp_path: Path) -> None:
    result = calibrated(min_weight_ratio=1.0, max_weight_ratio=1.0, tolerances=None)
    result.save(tmp_path / "run")

    loaded = CalibrationResult.load(tmp_path / "run")

    assert len(loaded.history) == 0
    assert_frame_equal(loaded.target_history, result.target_history, check_exact=True)
    assert_array_equal(loaded.target_history.to_numpy(), [result.targets.initial])


def test_the_csv_holds_the_records_with_weight_and_no_formulas(tmp_path: Path) -> None:
    result = calibrated(target_records=60, tolerances=None, record_ids=["=1+1"] + ["x"] * 299)
    negative = result.weights.copy()
    negative[np.flatnonzero(negative)[0]] *= -1
    result = dataclasses.replace(result, weights=negative)
    result.save(tmp_path / "run")

    table = read_table(tmp_path / "run" / "weights.csv")

    assert table.columns.tolist() == ["id", "design_weight", "weight"]
    assert_array_equal(table.weight, negative[negative != 0])
    assert not any(str(name).startswith("=") for name in table.id)
    assert "'=tax" in (tmp_path / "run" / "targets.csv").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "inclusion_probabilities.parquet",
        "log.csv",
        "result.json",
        "steps.csv",
        "targets.parquet",
        "weights.parquet",
    ],
)
@pytest.mark.parametrize("damage", [None, b"", b"PAR1 or {"])
def test_a_damaged_run_is_named(tmp_path: Path, name: str, damage: bytes | None) -> None:
    run = calibrated().save(tmp_path / "run")
    (run / name).unlink()
    if damage is not None:
        (run / name).write_bytes(damage)

    with pytest.raises(UnreadableFile, match="run"):
        CalibrationResult.load(run)


@pytest.mark.parametrize(
    "change", [{"format": "other/9"}, {"status": "FINE"}, {"statistics": {}}, {"seconds": None}]
)
def test_a_changed_result_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = calibrated().save(tmp_path / "run")
    values = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(values | change))

    with pytest.raises(UnreadableFile, match="again"):
        CalibrationResult.load(run)


def test_a_full_disk_leaves_the_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = calibrated().save(tmp_path / "run")
    before = content(tmp_path)
    replace, calls = os.replace, []

    def replace_or_fail(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 5:
            full_disk()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_fail)
    with pytest.raises(UnwritableFile, match="No space left"):
        calibrated(closeness=1e-2).save(run)

    assert content(tmp_path) == before


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        calibrated(target_records=60, tolerances=None, seed=3).save(tmp_path / name)
    calibrated(target_records=60, tolerances=None, seed=4).save(tmp_path / "c")

    first, second, other = (content(tmp_path / name) for name in "abc")
    for name in RUN_FILES - {"result.json", "steps.csv"}:  # these hold seconds
        assert first[name] == second[name], name
    assert first["weights.csv"] != other["weights.csv"]


def test_statistics_are_those_of_the_weights() -> None:
    weights, errors = np.array([0.0, *[1.0] * 99, 101.0]), np.array([0.0, -0.05, 0.3, 2.0])

    statistics = weight_statistics(weights, errors)

    assert statistics["records"] == 100
    assert statistics["total_weight"] == 200
    assert_allclose(statistics["top_1_percent"], 101 / 200)
    assert_allclose(statistics["kish"], 200**2 / (99 + 101**2))
    assert_allclose(statistics["median_error"], 0.175)
    assert_allclose(statistics["capped_error"], (0 + 0.05 + 0.3 + 1) / 4)
    assert_allclose(statistics["rms_error"], np.sqrt((0.05**2 + 0.3**2 + 4) / 4))
    assert statistics["within_10_percent"] == 0.5
    assert {key for key, *_ in STATISTICS} <= set(statistics)
