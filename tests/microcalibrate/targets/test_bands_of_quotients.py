"""A tolerance of a mean, ratio, share or quantile is kept in the unit that it was declared in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration, InfeasibleTargets
from microcalibrate.errors import NotConverged
from microcalibrate.inference import Estimand, SurveyDesign, estimate, mean, ratio
from microcalibrate.inference.saved_runs import calibration_of_run

RNG = np.random.default_rng(3)
PEOPLE = pd.DataFrame(
    {
        "weight": RNG.uniform(50, 150, 200),
        "income": RNG.lognormal(3, 0.6, 200),
        "tax": RNG.normal(5, 1, 200),
        "works": RNG.random(200) < 0.4,
        "home": np.arange(200) // 2,
        "state": np.repeat(["a", "b"], 100),
    }
)
MEAN = {"name": "mean", "value": 30.0, "aggregate": "mean", "variable": "income", "tolerance": 0.02}
KINDS: dict[str, dict[str, Any]] = {
    "mean": {},
    "ratio": {"aggregate": "ratio", "denominator": "tax", "value": 6.0},
    "share": {"aggregate": "share", "variable": None, "filter": "works", "value": 0.6},
    "quantile": {"aggregate": "quantile", "quantile": 0.5, "value": 25.0},
}


def people(value: float) -> dict[str, Any]:
    return {"name": "people", "value": value, "aggregate": "count", "tolerance": 0}


@pytest.mark.parametrize("times", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_band_is_that_of_the_value_whatever_the_population_comes_to(
    kind: str, times: float
) -> None:
    row = MEAN | KINDS[kind]
    calibration = Calibration.from_table(PEOPLE, [row, people(times * PEOPLE.weight.sum())])
    calibration.calibrate()
    found = calibration.result.targets.iloc[0]

    # All are out of their bands at the design weights, and so end at an end of these.
    unit = 1.0 if kind == "quantile" else row["value"]
    assert_allclose(abs(found.declared_final - found.declared), 0.02 * unit, rtol=1e-7)
    assert_allclose(found.error, (found.declared_final - found.declared) / unit, rtol=1e-6)
    initial = (found.declared_initial - found.declared) / unit
    assert_allclose(found.initial_error, initial, rtol=1e-9)
    history = calibration.result.target_history["mean"]
    assert_allclose(history.iloc[[0, -1]], [found.declared_initial, found.declared_final])


@pytest.mark.parametrize(
    "options",
    [
        {"distance": "raking", "max_weight_ratio": 6},
        {"cluster": "home"},
        {"partition": "state"},
        {"target_records": 60},
        {"target_records": 40, "cluster": "home"},
    ],
    ids=str,
)
def test_bounds_clusters_parts_and_fewer_records_keep_it_too(options: dict[str, Any]) -> None:
    rows = [
        MEAN | {"filter": "state == 'a'"},
        people(2 * PEOPLE.weight[:100].sum()) | {"filter": "state == 'a'"},
    ]
    calibration = Calibration.from_table(PEOPLE, rows, **options)
    weights = calibration.calibrate()[:100]

    mean = np.average(PEOPLE.income[:100], weights=weights)
    assert abs(mean / 30 - 1) <= 0.02 * (1 + 1e-6)
    assert calibration.result.converged
    assert_allclose(calibration.calibrate()[:100], weights, rtol=1e-12)


def test_the_size_of_design_weights_does_not_matter() -> None:
    rows = [MEAN, people(40_000)]
    small, large = (
        Calibration.from_table(PEOPLE.assign(weight=times * PEOPLE.weight), rows).calibrate()
        for times in (0.01, 100)
    )

    assert_allclose(small, large, rtol=1e-6)


def test_a_band_is_refused_only_where_the_value_is_out_of_reach() -> None:
    """The totals leave one mean, 3100 / 1633: five percent from 2, whatever the population was."""
    two = pd.DataFrame({"weight": [10.0, 10.0], "y": [1.0, 3.0]})
    totals = [
        {"name": f"y{one}", "variable": "y", "filter": f"y == {one}", "value": v, "tolerance": 0}
        for one, v in ((1, 900), (3, 2_200))
    ]
    mean = {"name": "mean", "value": 2.0, "aggregate": "mean", "variable": "y"}

    weights = Calibration.from_table(two, [mean | {"tolerance": 0.06}, *totals]).calibrate()
    assert_allclose(weights, [900, 2_200 / 3], rtol=1e-8)
    with pytest.raises(InfeasibleTargets, match="mean"):
        Calibration.from_table(two, [mean | {"tolerance": 0.05}, *totals]).calibrate()


@pytest.mark.parametrize(
    ("cells", "statistic"),
    [
        ({}, mean("income")),
        ({"aggregate": "ratio", "denominator": "tax", "value": 6.0}, ratio("income", "tax")),
        ({"aggregate": "share", "variable": None, "filter": "works", "value": 0.6}, mean("works")),
    ],
    ids=["mean", "ratio", "share"],
)
def test_errors_of_the_target_are_in_the_unit_of_its_value(
    cells: dict[str, Any], statistic: Estimand
) -> None:
    """What was calibrated to passes its whole error on, whatever the population came to."""
    rows = [MEAN | cells | {"tolerance": 0}, people(2 * PEOPLE.weight.sum())]
    calibration = Calibration.from_table(PEOPLE, rows)
    calibration.calibrate()
    errors = {"mean": 0.03}
    found = estimate(
        calibration, statistic, PEOPLE, design=SurveyDesign(), target_errors=errors
    ).table.iloc[0]

    assert_allclose(found.target_error, 0.03, rtol=1e-8)
    assert_allclose(found.sampling_error, 0, atol=1e-8)


@pytest.mark.parametrize("options", [{}, {"cluster": "home"}, {"target_records": 60}], ids=str)
def test_a_saved_run_is_made_again_with_its_bands_and_units(
    options: dict[str, Any], tmp_path: Path
) -> None:
    rows = pd.DataFrame([people(40_000), MEAN])
    made = Calibration.from_table(PEOPLE, rows, **options)
    made.calibrate()
    folder = made.result.save(tmp_path / "run")
    again = calibration_of_run(folder, PEOPLE, rows[::-1], progress=False)

    assert_allclose(again.weights, made.weights, rtol=1e-9)
    quotients = again.states.quotients
    assert quotients is not None
    assert_allclose(quotients.denominated(again.weights), [40_000.0], rtol=1e-6)
    assert_allclose(again.result.targets["scale"], made.result.targets["scale"], rtol=1e-9)


def test_denominators_that_do_not_settle_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microcalibrate.relinearising.MOST_ROUNDS", 1)
    with pytest.raises(NotConverged, match=r'tolerance of "mean".*Make it exact or soft'):
        Calibration.from_table(PEOPLE, [MEAN, people(40_000)]).calibrate()
