"""Differences of two means, ratios or shares are met like any target, by the closest weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from typer.testing import CliRunner

from microcalibrate import Calibration, CalibrationResult, apply_prices, describe_targets
from microcalibrate.cli import FAILURE, app
from microcalibrate.errors import (
    InfeasibleTargets,
    InvalidOption,
    InvalidTargetTable,
    NoSupport,
    NotConverged,
)
from microcalibrate.inference import SurveyDesign, difference, estimate, mean
from microcalibrate.inference.saved_runs import calibration_of_run
from microcalibrate.targets import build_targets

RNG = np.random.default_rng(8)
N = 300
PEOPLE = pd.DataFrame(
    {
        "weight": RNG.uniform(50, 150, N),
        "income": np.round(RNG.lognormal(10, 0.8, N), 2),
        "tax": RNG.uniform(100, 9_000, N),
        "age": RNG.integers(18, 90, N),
        "sex": RNG.choice(["f", "m"], N),
        "home": np.repeat(np.arange(N // 2), 2),
    }
)
DESIGN = PEOPLE["weight"].to_numpy()
MEN = (PEOPLE["sex"] == "m").to_numpy()
PERSONS = {"name": "persons", "value": 1.03 * DESIGN.sum(), "aggregate": "count", "tolerance": 0}
AGE = {"name": "age", "value": 1.01 * (DESIGN @ PEOPLE["age"]), "variable": "age", "tolerance": 0}
GAP = {"name": "gap", "value": 4_000.0, "aggregate": "mean", "variable": "income",
       "filter": "sex == 'm'", "minus": "sex == 'f'", "tolerance": 0}  # fmt: skip


def gap(
    weights: Any, variable: Any = PEOPLE["income"], first: Any = MEN, other: Any = ~MEN
) -> float:
    """Weighted mean of some records less that of others."""
    means = [np.average(variable[one], weights=weights[one]) for one in (first, other)]
    return float(means[0] - means[1])


def calibrated(*targets: dict[str, Any], **options: Any) -> Calibration:
    made = Calibration.from_table(PEOPLE, list(targets), **options)
    made.calibrate(progress=False)
    return made


# --- The value, and the weights -------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    value=st.integers(-30_000, 30_000),
    options=st.sampled_from(
        [
            {},
            {"distance": "raking"},
            {"min_weight_ratio": 0.2, "max_weight_ratio": 4.0},
            {"cluster": "home", "distance": "raking"},
            {"heteroscedasticity": "age"},
        ]
    ),
)
def test_the_difference_is_met_like_any_target(value: int, options: dict[str, Any]) -> None:
    made = calibrated(GAP | {"value": value}, PERSONS, AGE, **options)
    weights = made.weights

    assert made.result.converged
    assert_allclose(gap(weights), value, atol=2e-9 * max(abs(value), 20_000))
    assert_allclose(weights.sum(), PERSONS["value"], rtol=1e-8)
    assert_allclose(weights @ PEOPLE["age"], AGE["value"], rtol=1e-8)


@pytest.mark.parametrize("value", [-9_000.0, 0.0, 12_000.0])
def test_no_weights_that_meet_it_are_closer(value: float) -> None:
    """A general optimiser finds the same weights, of the nonlinear problem as it stands."""
    few = PEOPLE.iloc[:40]
    d, income = few["weight"].to_numpy(), few["income"].to_numpy()
    men = MEN[:40]
    made = Calibration.from_table(few, [GAP | {"value": value}], min_weight_ratio=-np.inf)
    made.calibrate(progress=False)
    found = minimize(
        lambda r: float(d @ (r - 1) ** 2) / d.sum(),
        np.ones(40),
        jac=lambda r: 2 * d * (r - 1) / d.sum(),
        constraints={
            "type": "eq",
            "fun": lambda r: (gap(r * d, income, men, ~men) - value) / 1e4,
        },
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 500},
    )

    assert_allclose(gap(made.weights, income, men, ~men), value, atol=1e-4)
    assert_allclose(made.weights / d, found.x, atol=2e-5)


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_the_slope_of_the_distance_is_a_combination_of_derivatives(distance: str) -> None:
    """The condition of an optimum, with the derivative of the difference at the weights found."""
    made = calibrated(GAP, PERSONS, AGE, distance=distance, min_weight_ratio=0.0)
    w, income = made.weights, PEOPLE["income"].to_numpy()
    slope = np.log(w / DESIGN) if distance == "raking" else w / DESIGN - 1
    columns = [np.ones(N), PEOPLE["age"].to_numpy(float)]
    columns.append(
        np.where(
            MEN,
            (income - np.average(income[MEN], weights=w[MEN])) / w[MEN].sum(),
            -(income - np.average(income[~MEN], weights=w[~MEN])) / w[~MEN].sum(),
        )
    )
    basis = np.column_stack([one / np.abs(one).max() for one in columns])
    free = w > 0
    coefficients, *_ = np.linalg.lstsq(basis[free], slope[free])

    assert_allclose(basis[free] @ coefficients, slope[free], atol=1e-7)


@pytest.mark.parametrize(
    ("cells", "quotient"),
    [
        (
            {"aggregate": "ratio", "variable": "tax", "denominator": "income", "value": 0.02,
             "filter": "age < 50", "minus": "age >= 50"},
            lambda w, young: (w * PEOPLE["tax"])[young].sum() / (w * PEOPLE["income"])[young].sum(),
        ),
        (
            {"aggregate": "share", "filter": "sex == 'm'", "value": -0.1, "within": "age < 50",
             "minus": "age >= 50"},
            lambda w, young: w[young & MEN].sum() / w[young].sum(),
        ),
        (
            {"aggregate": "share", "variable": "income", "filter": "sex == 'm'", "value": 0.15,
             "within": "age < 50", "minus": "age >= 50"},
            lambda w, young: (w * PEOPLE["income"])[young & MEN].sum()
            / (w * PEOPLE["income"])[young].sum(),
        ),
    ],
)  # fmt: skip
def test_ratios_and_shares_have_differences_too(cells: dict[str, Any], quotient: Any) -> None:
    weights = calibrated({"name": "x", "tolerance": 0, **cells}, PERSONS).weights
    young = (PEOPLE["age"] < 50).to_numpy()

    assert_allclose(quotient(weights, young) - quotient(weights, ~young), cells["value"], atol=1e-9)


def test_quotients_may_overlap_and_several_differences_hold_together() -> None:
    rows = [
        GAP | {"name": "young less all", "filter": "age < 40", "minus": "age > 0", "value": -900.0},
        GAP,
        GAP | {"name": "tax", "variable": "tax", "value": 0.0},
        PERSONS,
    ]
    weights = calibrated(*rows, distance="raking").weights
    young, everybody = (PEOPLE["age"] < 40).to_numpy(), np.ones(N, dtype=bool)

    assert_allclose(gap(weights), 4_000, rtol=1e-8)
    assert_allclose(gap(weights, first=young, other=everybody), -900, rtol=1e-8)
    assert_allclose(gap(weights, PEOPLE["tax"]), 0, atol=1e-5)


@pytest.mark.parametrize("matrix", ["sparse", "dense"])
def test_a_matrix_of_either_kind_gives_the_same(matrix: str) -> None:
    built = build_targets(PEOPLE, [GAP, AGE], initial_weights=DESIGN, differences=True)
    made = Calibration(
        DESIGN,
        built.values,
        built.matrix if matrix == "sparse" else built.matrix.toarray(),
        target_names=built.names,
        tolerances=built.tolerances,
        scales=built.scales,
        differences=built.differences,
    )
    assert_allclose(made.calibrate(), calibrated(GAP, AGE).weights, rtol=1e-9)


# --- Errors, bands, fewer records -----------------------------------------------------------------


@pytest.mark.parametrize(("value", "unit"), [(4_000.0, 4_000.0), (0.0, None)])
def test_a_soft_difference_has_the_error_that_its_table_says(value: float, unit: Any) -> None:
    made = calibrated(GAP | {"value": value, "tolerance": None}, PERSONS, closeness=0.01)
    row = made.result.targets.iloc[0]
    if unit is None:
        # Of a value of 0, the sizes of both means together.
        means = [np.average(PEOPLE["income"][one], weights=DESIGN[one]) for one in (MEN, ~MEN)]
        unit = sum(means)

    assert abs(row["error"]) > 1e-4
    assert_allclose(row["scale"], unit)
    assert_allclose(gap(made.weights) - value, row["error"] * unit, rtol=1e-6)


def test_a_band_is_kept_and_no_more_is_done_than_it_asks() -> None:
    weights = calibrated(GAP | {"tolerance": 0.1}, PERSONS).weights

    assert_allclose(gap(weights), 3_600, rtol=1e-6)


def test_few_records_meet_it_too() -> None:
    made = calibrated(GAP, PERSONS, target_records=80)

    assert np.count_nonzero(made.weights) == 80
    assert_allclose(gap(made.weights), 4_000, rtol=1e-8)


def test_calibrating_twice_gives_the_same_bits() -> None:
    made = calibrated(GAP, PERSONS)
    first = made.weights.copy()

    np.testing.assert_array_equal(made.calibrate(progress=False), first)


def test_a_difference_of_persons_is_met_by_households() -> None:
    homes = PEOPLE.groupby("home", as_index=False)["weight"].mean()
    homes["household_id"] = homes.pop("home")
    persons = PEOPLE.drop(columns="weight").rename(columns={"home": "household_id"})
    rows = [
        {"name": "homes", "value": 1.02 * homes["weight"].sum(), "aggregate": "count",
         "tolerance": 0},
        GAP | {"entity": "person"},
        {"name": "persons", "value": 2.04 * homes["weight"].sum(), "aggregate": "count",
         "entity": "person"},
    ]  # fmt: skip
    made = Calibration.from_tables({"household": homes, "person": persons}, rows)
    weights = pd.Series(made.calibrate(progress=False), index=homes["household_id"])
    of_persons = persons["household_id"].map(weights).to_numpy()

    assert_allclose(gap(of_persons), 4_000, rtol=1e-8)
    assert made.result.targets["name"].tolist() == ["homes", "gap", "persons"]


# --- In words, and refused ------------------------------------------------------------------------


def test_it_is_said_in_a_sentence() -> None:
    share = {"name": "x", "value": 0.1, "aggregate": "share", "filter": "income > 9",
             "within": "age < 50", "minus": "age >= 50"}  # fmt: skip
    assert describe_targets([GAP, share]) == [
        "the mean of income over records where sex == 'm', less the mean of income over records "
        "where sex == 'f', shall be exactly 4,000",
        "the share of records where age < 50 that is where income > 9, less the share of records "
        "where age >= 50 that is where income > 9, shall be 0.1 (soft)",
    ]


def test_columns_for_others_than_a_calibration_are_refused() -> None:
    with pytest.raises(InvalidTargetTable, match=r'target "gap" \(row 1\).*Calibration.from_table'):
        build_targets(PEOPLE, [GAP])


@pytest.mark.parametrize(
    ("cells", "error", "part"),
    [
        ({"minus": "'m' == sex"}, NoSupport, "the same in every record"),
        ({"minus": "age > 900"}, NoSupport, "selects no record"),
        ({"value": 9e6}, (InfeasibleTargets, NotConverged), '"gap"'),
    ],
)
def test_what_no_weights_can_give_is_an_error(cells: dict[str, Any], error: Any, part: str) -> None:
    with pytest.raises(error) as caught:
        calibrated(GAP | cells, PERSONS)

    assert part in str(caught.value)


def test_one_that_does_not_settle_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microcalibrate.relinearising.MOST_ROUNDS", 2)
    with pytest.raises(NotConverged, match=r"did not settle.*Give it a tolerance") as caught:
        calibrated(GAP, PERSONS)

    assert caught.value.result.prices.shape == (2,)


def test_a_check_of_columns_leaves_differences_out() -> None:
    far = GAP | {"value": 9e6, "name": "far"}
    bounds = {"min_weight_ratio": 0.9, "max_weight_ratio": 1.1}
    made = Calibration.from_table(PEOPLE, [far, PERSONS, AGE | {"value": 1.0}], **bounds)
    checked = made.check()

    assert checked.target_names == ("persons", "age")
    assert [finding.targets for finding in checked.findings] == [(1,)]
    with pytest.raises(InvalidOption, match="check_targets"):
        Calibration.from_table(PEOPLE, [far]).check()


def test_differences_of_other_targets_or_records_are_refused() -> None:
    built = build_targets(PEOPLE, [GAP, AGE], initial_weights=DESIGN, differences=True)
    plain = {"target_names": built.names[::-1], "differences": built.differences}
    with pytest.raises(InvalidOption, match="for target 0, which is another one"):
        Calibration(DESIGN, built.values, built.matrix, **plain)
    fewer = build_targets(PEOPLE[:99], [GAP, AGE], initial_weights=DESIGN[:99], differences=True)
    with pytest.raises(InvalidOption, match="about 99 records"):
        Calibration(
            DESIGN, built.values, built.matrix, target_names=built.names,
            differences=fewer.differences,
        )  # fmt: skip


# --- Standard errors, saved runs, command line ----------------------------------------------------

MEANS = [mean("income", where=f"sex == '{one}'") for one in "mf"]


def test_what_was_calibrated_to_has_no_error_and_its_own_error_is_carried() -> None:
    made = calibrated(GAP, PERSONS)
    row = estimate(
        made, difference(*MEANS), PEOPLE, design=SurveyDesign(), target_errors={"gap": 250.0}
    ).table.iloc[0]

    assert_allclose(row["estimate"], 4_000)
    assert_allclose(row["sampling_error"], 0, atol=1e-5)
    assert_allclose(row["target_error"], 250, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"cluster": "home"}, {"target_records": 90}])
def test_a_saved_run_is_made_again(options: dict[str, Any], tmp_path: Path) -> None:
    made = calibrated(GAP, PERSONS, AGE, **options)
    folder = made.result.save(tmp_path / "run")
    again = calibration_of_run(folder, PEOPLE, pd.DataFrame([GAP, PERSONS, AGE]), progress=False)

    np.testing.assert_array_equal(again.weights, made.weights)
    assert_allclose(CalibrationResult.load(folder).targets["error"], 0, atol=1e-8)


def test_its_price_is_not_that_of_columns_at_other_weights(tmp_path: Path) -> None:
    made = calibrated(GAP, PERSONS)
    built = build_targets(
        PEOPLE, [GAP, PERSONS], initial_weights=PEOPLE["weight"], differences=True
    )
    for result in (made.result, CalibrationResult.load(made.result.save(tmp_path / "run"))):
        with pytest.raises(InvalidOption, match=r"cannot be applied.*differences of means"):
            apply_prices(result, built.matrix, PEOPLE["weight"])


def test_the_command_line_calibrates_to_it_and_the_others_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PEOPLE.to_csv("people.csv", index=False)
    pd.DataFrame([GAP, PERSONS]).to_csv("targets.csv", index=False)
    common = ["people.csv", "--weight", "weight", "--targets", "targets.csv", "--quiet"]
    done = CliRunner().invoke(app, ["calibrate", *common, "--no-report", "--out", "run"])
    refused = CliRunner().invoke(app, ["evaluate", *common, "--no-report", "--out", "robust"])

    assert done.exit_code == 0, done.output
    assert_allclose(CalibrationResult.load("run").weights, calibrated(GAP, PERSONS).weights)
    assert refused.exit_code == FAILURE
    assert "not linear in the weights" in " ".join(refused.output.split())
