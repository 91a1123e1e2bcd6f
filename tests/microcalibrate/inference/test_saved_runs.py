"""A saved run is made again from its folder, its data and its targets, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from microcalibrate import Calibration, CalibrationResult
from microcalibrate.errors import InvalidOption
from microcalibrate.inference import SurveyDesign, estimate, mean, total
from microcalibrate.inference.saved_runs import calibration_of_run
from microcalibrate.record_options import FILE_NAME

from .surveys import people

DATA = people(4).assign(home=lambda d: d["cluster"] * 2 + (np.arange(len(d)) % 4 > 1))
DATA["state"] = np.where(DATA["stratum"] < 2, "north", "south")
RNG = np.random.default_rng(1)
N = len(DATA)


def wanted(*, soft: bool, by_state: bool = False) -> list[dict[str, Any]]:
    """Persons, women and age: of the whole, or of each state."""
    rows = []
    for state in ("north", "south") if by_state else (None,):
        where = [] if state is None else [f"state == '{state}'"]
        inside = np.ones(N, bool) if state is None else (DATA["state"] == state).to_numpy()
        weight = DATA["weight"].to_numpy() * inside
        women = (DATA["sex"] == "f").to_numpy()
        rows += [
            {"name": f"persons {state}", "value": 1.04 * weight.sum(), "aggregate": "count",
             "filter": " and ".join(where) or None, "tolerance": 0.0},
            {"name": f"women {state}", "value": 1.02 * weight[women].sum(), "aggregate": "count",
             "filter": " and ".join([*where, "sex == 'f'"]), "tolerance": None if soft else 0.0},
            {"name": f"age {state}", "value": 1.06 * weight @ DATA["age"], "variable": "age",
             "filter": " and ".join(where) or None, "tolerance": 0.01 if soft else 0.0},
        ]  # fmt: skip
    return rows


PER_RECORD: list[dict[str, Any]] = [
    {"frozen": np.arange(N) % 7 == 0},
    {"frozen": np.arange(N) % 9 == 1, "min_weight": RNG.uniform(1, 15, N), "distance": "raking"},
    {"max_weight": DATA["weight"].to_numpy() * 1.3 + RNG.uniform(0, 9, N)},
    {"min_weight_ratio": RNG.uniform(0.2, 0.8, N), "max_weight_ratio": RNG.uniform(1.3, 3, N)},
    {"max_weight_ratio": np.where(np.arange(N) % 2, np.inf, 2.0)},
    {"heteroscedasticity": RNG.uniform(0.5, 2, N)},
    {"cluster": "home"},
    {"cluster": "home", "heteroscedasticity": RNG.uniform(0.5, 2, N)},
    {"partition": "state"},
    {"cluster": "home", "partition": "state", "max_weight": 90.0},
    {"cluster": "home", "target_records": 60, "seed": 2},
]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("options", PER_RECORD, ids=lambda options: "+".join(options))
def test_a_run_with_options_per_record_is_made_again(
    options: dict[str, Any], soft: bool, tmp_path: Path
) -> None:
    targets = pd.DataFrame(wanted(soft=soft, by_state="partition" in options))
    made = Calibration.from_table(DATA, targets, **options)
    made.calibrate(progress=False)
    made.result.save(tmp_path / "run")
    again = calibration_of_run(tmp_path / "run", DATA, targets, progress=False)

    np.testing.assert_array_equal(again.weights, made.weights)
    np.testing.assert_array_equal(again.optimum.solution.prices, made.optimum.solution.prices)
    np.testing.assert_array_equal(again.optimum.solution.ratio, made.optimum.solution.ratio)
    design = SurveyDesign(psu="cluster", strata="stratum")
    one, other = (
        estimate(each, [total("income"), mean("tax")], DATA, design=design).table
        for each in (made, again)
    )
    pd.testing.assert_frame_equal(one, other)


def test_options_per_record_are_loaded_as_they_were(tmp_path: Path) -> None:
    options = PER_RECORD[1] | {"cluster": DATA["home"].to_numpy()}
    targets = wanted(soft=True)
    made = Calibration.from_table(DATA, targets, **{**options, "frozen": np.arange(N) % 4 > 1})
    made.calibrate(progress=False)
    loaded = CalibrationResult.load(made.result.save(tmp_path / "run"))

    assert set(loaded.record_options) == {"frozen", "min_weight", "cluster"}
    for name, values in made.result.record_options.items():
        np.testing.assert_array_equal(loaded.record_options[name], values)


def test_a_run_without_such_options_has_no_file_of_them(tmp_path: Path) -> None:
    made = Calibration.from_table(DATA, wanted(soft=True), max_weight_ratio=4, max_weight=500)
    made.calibrate(progress=False)
    made.result.save(tmp_path / "run")

    assert not (tmp_path / "run" / FILE_NAME).exists()
    assert CalibrationResult.load(tmp_path / "run").record_options == {}


@pytest.mark.parametrize("options", [PER_RECORD[1], PER_RECORD[5], PER_RECORD[6]])
def test_a_run_that_lost_them_says_what_to_do(options: dict[str, Any], tmp_path: Path) -> None:
    targets = wanted(soft=False)
    made = Calibration.from_table(DATA, targets, **options)
    made.calibrate(progress=False)
    made.result.save(tmp_path / "run")
    (tmp_path / "run" / FILE_NAME).unlink()

    with pytest.raises(InvalidOption, match=r"no record_options\.parquet .*Run the calibration"):
        calibration_of_run(tmp_path / "run", DATA, pd.DataFrame(targets), progress=False)
