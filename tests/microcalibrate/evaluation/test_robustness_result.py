"""A robustness result can be saved, read again to the last bit, and never half."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from microcalibrate import InvalidOption, RobustnessResult, evaluate_robustness
from microcalibrate.errors import UnreadableFile
from microcalibrate.evaluation.robustness_result import TABLES

from ..problems import feasible, survey

DATA = survey(1, 200, 12)
# Spreadsheets take the first for a formula, pandas the others for a number, or for nothing.
NAMES = ["=1+1", "007", "NA", "", *(f"t{number}" for number in range(8))]


def evaluated(**options: Any) -> RobustnessResult:
    return evaluate_robustness(DATA.weights, DATA.targets, DATA.matrix, **options)


@pytest.fixture(scope="module")
def result() -> RobustnessResult:
    untargeted = pd.DataFrame(
        np.random.default_rng(0).lognormal(size=(200, 3)), columns=["=x", "NA", "y"]
    )
    return evaluated(
        target_records=60,
        n_folds=3,
        n_draws=2,
        n_bootstrap=2,
        untargeted=untargeted,
        target_names=[name or "empty" for name in NAMES],
    )


def assert_equal(one: RobustnessResult, other: RobustnessResult) -> None:
    assert one.figures == other.figures
    assert one.random is not None
    assert other.random is not None
    assert vars(one.random) == vars(other.random)
    assert one.verdict == other.verdict
    assert one.settings == other.settings
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_what_is_loaded_equals_what_was_saved(result: RobustnessResult, tmp_path: Path) -> None:
    loaded = RobustnessResult.load(result.save(tmp_path / "run"))

    assert_equal(loaded, result)
    assert list(loaded.targets.name)[:3] == ["=1+1", "007", "NA"]
    assert list(loaded.targets.columns) == list(TABLES["targets"])


def test_results_without_draws_or_comparison_are_loaded(tmp_path: Path) -> None:
    dense = evaluated(n_folds=2)
    loaded = RobustnessResult.load(dense.save(tmp_path / "run"))

    assert loaded.random is None
    assert not loaded.is_drawn
    assert loaded.figures == dense.figures
    for name in TABLES:
        same = getattr(loaded, name)
        pd.testing.assert_frame_equal(same, getattr(dense, name), check_dtype=False)


def test_numbers_that_are_not_known_stay_unknown(tmp_path: Path) -> None:
    small = feasible(0, 60, 6)
    result = evaluate_robustness(
        small.weights,
        small.targets,
        small.matrix,
        target_records=10,
        n_folds=2,
        n_draws=1,
        tolerances=0.02,
        max_weight_ratio=1.6,
    )
    assert result.random is not None
    assert np.isnan(result.random.std_error)

    loaded = RobustnessResult.load(result.save(tmp_path / "run"))

    assert loaded.random is not None
    assert np.isnan(loaded.random.std_error)
    assert loaded.random.n_infeasible == result.random.n_infeasible > 0
    assert loaded.draws.held_out_error.isna().sum() == result.draws.held_out_error.isna().sum()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "microcalibrate.robustness/0"}, "robustness/0"),
        ({"format": None}, "None"),
        ({"figures": {"mean_error": 0.1}}, "std_error"),
        ({"figures": None}, "not complete"),
        ({"figures": {"mean_error": "much"}}, "much"),
        ({"random": {"mean_error": 0.1}}, "std_error"),
        ({"random": 3}, "not complete"),
        ({"verdict": None}, "not complete"),
        ({"settings": 7}, "not complete"),
    ],
)
def test_damaged_values_are_refused(
    result: RobustnessResult, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    file = result.save(tmp_path / "run") / "robustness.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    with pytest.raises(UnreadableFile, match=says):
        RobustnessResult.load(file.parent)


@pytest.mark.parametrize("name", [f"{name}.parquet" for name in TABLES] + ["robustness.json"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]"])
def test_missing_and_cut_files_are_refused(
    result: RobustnessResult, tmp_path: Path, name: str, content: bytes | None
) -> None:
    folder = result.save(tmp_path / "run")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)

    with pytest.raises(UnreadableFile, match=name):
        RobustnessResult.load(folder)


def test_tables_of_another_run_are_refused(result: RobustnessResult, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "run")
    other = evaluated(n_folds=2).save(tmp_path / "other")
    shutil.copy(other / "folds.parquet", folder / "folds.parquet")

    with pytest.raises(UnreadableFile, match="2 folds, not 3"):
        RobustnessResult.load(folder)

    shutil.copy(folder / "targets.parquet", folder / "folds.parquet")
    with pytest.raises(UnreadableFile, match="not complete"):
        RobustnessResult.load(folder)


def test_equal_results_give_equal_files(result: RobustnessResult, tmp_path: Path) -> None:
    again = dataclasses.replace(result)
    first, second = result.save(tmp_path / "one"), again.save(tmp_path / "two")

    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


# --- Folds where no number is asked for -----------------------------------------------------------


@pytest.mark.parametrize(("n_groups", "n_folds"), [(2, 2), (4, 4), (5, 5), (9, 5)])
def test_without_a_number_there_are_five_folds_or_one_per_group(
    n_groups: int, n_folds: int
) -> None:
    labels = [f"group {number % n_groups}" for number in range(12)]

    assert evaluated(groups=labels)["n_folds"] == n_folds


def test_a_number_of_folds_that_is_too_large_is_an_error() -> None:
    with pytest.raises(InvalidOption, match="too few for n_folds=5"):
        evaluated(groups=["a", "b"] * 6, n_folds=5)
    with pytest.raises(InvalidOption, match="1 groups"):
        evaluated(groups=["a"] * 12)


def test_the_documented_call_works_word_for_word() -> None:
    weights, targets, estimate_matrix = DATA.weights, DATA.targets, DATA.matrix
    named = evaluate_robustness(
        weights=weights,
        targets=targets,
        estimate_matrix=estimate_matrix,
        l0_lambda=0.01,
        n_folds=5,
    )["mean_error"]

    assert named == evaluate_robustness(weights, targets, estimate_matrix, 0.01, 5)["mean_error"]
    assert 0 < named < 1
