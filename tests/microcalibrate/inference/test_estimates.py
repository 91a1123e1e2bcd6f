"""Estimates: their tables, targets with errors, and what they warn of."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.errors import InvalidEstimand, InvalidOption
from microcalibrate.inference import (
    DesignVarianceWarning,
    SurveyDesign,
    count,
    estimate,
    mean,
    own,
    quantile,
    ratio,
    smooth,
    total,
)
from microcalibrate.io import read_table

from .surveys import calibrated, columns_of, people

DESIGN = SurveyDesign(psu="cluster", strata="stratum")


def test_a_smooth_function_a_ratio_and_an_influence_function_agree() -> None:
    data = people()
    made = calibrated(data)
    tax, income = data["tax"].to_numpy(), data["income"].to_numpy()

    def of_weights(weights: np.ndarray) -> float:
        return float(weights @ tax / (weights @ income))

    def influence(weights: np.ndarray) -> np.ndarray:
        return (tax - of_weights(weights) * income) / (weights @ income)

    roads = [
        ratio("tax", "income"),
        smooth(lambda t: t[0] / t[1], ["tax", "income"]),
        smooth(
            lambda t: t[0] / t[1],
            [tax, income],
            gradient=lambda t: np.array([1 / t[1], -t[0] / t[1] ** 2]),
        ),
        own(of_weights, influence),
    ]
    found = estimate(made, roads, data, design=DESIGN, by="sex").table
    for column in ("estimate", "standard_error", "design_effect"):
        for _, rows in found.groupby("sex"):
            assert_allclose(rows[column], rows[column].iloc[0], rtol=1e-6)


def test_what_was_calibrated_to_has_no_error() -> None:
    data = people()
    found = estimate(calibrated(data), [count(), total("age"), mean("age")], data, design=DESIGN)
    assert_allclose(found.table["standard_error"] / found.table["estimate"], 0, atol=1e-9)


def test_soft_targets_leave_an_error_between_none_and_that_of_the_sample() -> None:
    data = people(n_clusters=200)
    errors = []
    for closeness in (1e-6, 1e-2, 1e0, 1e4):
        made = calibrated(data, tolerances=np.nan, closeness=closeness)
        found = estimate(made, total("age"), data, design=DESIGN)
        errors.append(float(found.table["standard_error"].iloc[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DesignVarianceWarning)
        plain = estimate(data["weight"], total("age"), data, design=DESIGN).table

    assert np.all(np.diff(errors) > 0)
    assert errors[0] < 1e-3 * errors[-1]
    assert_allclose(errors[-1], plain["standard_error"].iloc[0], rtol=1e-2)


def test_domains_add_up_to_the_whole() -> None:
    data = people()
    made = calibrated(data)
    whole = estimate(made, total("income"), data, design=DESIGN)
    parts = estimate(made, total("income"), data, design=DESIGN, by=["sex", "stratum"])

    assert parts.table[["sex", "stratum"]].drop_duplicates().shape == (8, 2)
    assert parts.table["records"].sum() == len(data)
    assert_allclose(parts.table["estimate"].sum(), whole.table["estimate"].iloc[0])
    assert_allclose(parts.covariance.sum(), whole.covariance[0, 0])


def test_a_filter_and_a_domain_say_the_same() -> None:
    data = people()
    made = calibrated(data)
    asked = [mean("income", where="sex == 'f'"), quantile("income", 0.3, where="sex == 'f'")]
    by_filter = estimate(made, asked, data, design=DESIGN).table
    plain = [mean("income"), quantile("income", 0.3)]
    by_domain = estimate(made, plain, data, design=DESIGN, by="sex").table.query("sex == 'f'")
    columns = ["estimate", "standard_error", "lower", "design_effect", "records"]

    assert_allclose(by_filter[columns], by_domain[columns])


def test_a_unit_of_weights_or_values_changes_nothing_but_units() -> None:
    data = people()
    small = estimate(calibrated(data), [total("income"), mean("income")], data, design=DESIGN)
    large = data.assign(weight=data["weight"] * 1e6, income=data["income"] * 1e-3)
    scaled = estimate(calibrated(large), [total("income"), mean("income")], large, design=DESIGN)
    for column in ("estimate", "standard_error"):
        assert_allclose(scaled.table[column] * [1e-3, 1e3], small.table[column], rtol=1e-9)
    assert_allclose(scaled.table["design_effect"], small.table["design_effect"])


# --- Targets with errors --------------------------------------------------------------------------

COVARIANCE = np.array([[90.0, 40, 0], [40, 60, 0], [0, 0, 1e6]]) / 4


@pytest.mark.parametrize(
    "options",
    [
        {"distance": "raking"},
        {"min_weight_ratio": 0.9, "max_weight_ratio": 1.25, "tolerances": 0.0},
        {"tolerances": np.nan, "closeness": 1e-3},
        {"tolerances": [0.0, 0.001, 0.001]},
    ],
    ids=["raking", "bounded", "soft", "bands"],
)
def test_errors_of_targets_are_those_of_a_monte_carlo(options: dict[str, Any]) -> None:
    data = people(n_clusters=80)
    made = calibrated(data, **options)
    problem = made.problem
    asked = [total("income"), mean("tax"), ratio("tax", "income")]
    found = estimate(made, asked, data, design=DESIGN, target_errors=COVARIANCE)
    rng = np.random.default_rng(0)
    drawn = []
    for noise in rng.multivariate_normal(np.zeros(3), COVARIANCE, 400):
        again = Calibration(
            problem.design_weights,
            problem.targets + noise,
            problem.estimate_matrix,
            **{"tolerances": 0.0, **options},
            scales=problem.scales,
        )
        weights = again.calibrate(progress=False)
        income, tax = weights @ data["income"], weights @ data["tax"]
        drawn.append([income, tax / weights.sum(), tax / income])
    # The standard error of a standard deviation from 400 draws is 3.5%.
    assert_allclose(found.table["target_error"], np.std(drawn, axis=0), rtol=0.12)
    parts = found.table[["sampling_error", "target_error"]].to_numpy()
    assert_allclose(np.hypot(*parts.T), found.table["standard_error"])


def test_an_exact_target_passes_its_whole_error_on() -> None:
    data = people()
    found = estimate(
        calibrated(data),
        [count(), total("age"), mean("age")],
        data,
        design=DESIGN,
        target_errors={"persons": 30.0, "age": 500.0},
    ).table

    assert_allclose(found["standard_error"].iloc[:2], [30, 500], rtol=1e-8)
    mean_age = found["estimate"].iloc[2]
    people_there = found["estimate"].iloc[0]
    assert_allclose(
        found["standard_error"].iloc[2], np.hypot(500, 30 * mean_age) / people_there, rtol=1e-6
    )


def test_quantiles_know_of_the_targets_errors() -> None:
    data = people(n_clusters=200)
    made = calibrated(data)
    age = data["age"] + np.random.default_rng(0).random(len(data))
    without = estimate(made, quantile(age), data, design=DESIGN).table
    errors = [0.0, 0.0, 20_000.0]
    found = estimate(made, quantile(age), data, design=DESIGN, target_errors=errors).table
    assert found["standard_error"].iloc[0] > 1.2 * without["standard_error"].iloc[0]
    assert found["lower"].iloc[0] < without["lower"].iloc[0]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([1.0, 2.0], r"shape \(2,\) for 3 targets"),
        ({"men": 1.0}, 'names "men"'),
        ([1.0, -2.0, 0.0], "below zero"),
        ([1.0, np.nan, 0.0], "not all finite"),
        (np.array([[1.0, 2, 0], [0, 1, 0], [0, 0, 1]]), "not symmetric"),
        (np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]]), "negative eigenvalue"),
        (["a", "b", "c"], "not numbers"),
    ],
)
def test_errors_of_targets_that_make_no_sense_are_refused(given: Any, what: str) -> None:
    data = people()
    with pytest.raises(InvalidOption, match=what):
        estimate(calibrated(data), count(), data, design=DESIGN, target_errors=given)


# --- What is warned of ----------------------------------------------------------------------------


def test_without_a_design_there_is_a_warning() -> None:
    data = people()
    with pytest.warns(DesignVarianceWarning, match="no design was given"):
        found = estimate(calibrated(data), mean("income"), data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = estimate(calibrated(data), mean("income"), data, design=SurveyDesign())
    assert_allclose(found.table["standard_error"], same.table["standard_error"])
    assert len(found.cautions) == 1


def test_weights_from_elsewhere_are_taken_as_given_with_a_warning() -> None:
    data = people()
    made = calibrated(data)
    with pytest.warns(DesignVarianceWarning, match="come from elsewhere"):
        outside = estimate(made.weights, total("age"), data, design=DESIGN).table
    inside = estimate(made, total("age"), data, design=DESIGN).table

    assert_allclose(outside["estimate"], inside["estimate"])
    assert outside["standard_error"].iloc[0] > 100 * inside["standard_error"].iloc[0]


@pytest.mark.parametrize(("selection", "warns"), [("top_k", True), ("closed_form", False)])
def test_records_that_a_rule_kept_are_no_probability_sample(selection: str, warns: bool) -> None:
    data = people()
    made = calibrated(data, tolerances=np.nan, target_records=60, selection=selection)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = estimate(made, mean("income"), data, design=DESIGN)
    assert [one.category for one in caught] == [DesignVarianceWarning] * warns
    assert found.table["records"].iloc[0] == 60
    if warns:
        assert "kept by a rule" in str(caught[0].message)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "options", "error", "said"),
    [
        ([], {}, InvalidEstimand, "nothing is asked for"),
        ("income", {}, InvalidEstimand, r"mean\('income'\)"),
        (["income", mean("age")], {}, InvalidEstimand, r"'income' does not say what to estimate"),
        (mean("age"), {"by": "records"}, InvalidEstimand, "also a column of the table"),
        (mean("age"), {"design": {"psu": "cluster"}}, InvalidOption, "is no SurveyDesign"),
        (mean("incme"), {}, ValueError, "Did you mean 'income'"),
        (mean("gap"), {}, InvalidEstimand, "'gap' is missing or infinite in 1 records"),
        (mean("income"), {"by": "gap"}, InvalidEstimand, "missing in 1 records"),
        (mean("income"), {"by": "region"}, InvalidEstimand, "no column 'region'"),
        (mean("income"), {"level": 95}, InvalidOption, "level=95"),
        (mean("income"), {"residuals": "best"}, InvalidOption, "residuals='best'"),
        (mean(np.ones(3)), {}, InvalidEstimand, r"shape \(3,\)"),
        (own(np.sum, lambda w: w[:3]), {}, InvalidEstimand, r"returned shape \(3,\)"),
    ],
)
def test_what_cannot_be_estimated_is_refused(
    what: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    data = people()
    data["gap"] = np.where(np.arange(len(data)) == 5, np.nan, 1.0)
    with pytest.raises(error, match=said):
        estimate(calibrated(data), what, data, **{"design": DESIGN, **options})


@pytest.mark.parametrize("probability", [0.0, 1.0, -1, 2])
def test_quantiles_lie_between_0_and_1(probability: float) -> None:
    with pytest.raises(InvalidEstimand, match="between 0 and 1"):
        quantile("income", probability)


def test_a_gap_that_no_one_asks_for_is_no_problem() -> None:
    data = people()
    data["gap"] = np.where(data["sex"] == "f", np.nan, 1.0)
    found = estimate(calibrated(data), mean("gap", where="sex == 'm'"), data, design=DESIGN).table
    assert found["estimate"].iloc[0] == 1


def test_data_must_be_the_records_that_were_calibrated() -> None:
    data = people()
    with pytest.raises(InvalidEstimand, match="159 rows, and there are 160 weights"):
        estimate(calibrated(data), mean("income"), data.iloc[1:], design=SurveyDesign())
    with pytest.raises(InvalidOption, match="Hand over the"):
        estimate(data["weight"], count(), data, design=DESIGN, target_errors=np.ones(3))


def test_the_table_is_saved_and_told(tmp_path: Path) -> None:
    data = people()
    found = estimate(calibrated(data), [mean("income"), count()], data, design=DESIGN, by="sex")
    for name in ("estimates.csv", "estimates.parquet"):
        again = read_table(found.save(tmp_path / name))
        pd.testing.assert_frame_equal(again, found.table, check_dtype=False)
    told = found.summary()
    assert "95% intervals" in told
    assert "mean(income)" in told


def test_columns_of_the_data_frame_are_left_alone() -> None:
    data = people()
    before = data.copy()
    estimate(calibrated(data), [mean("income"), quantile("income")], data, design=DESIGN, by="sex")
    pd.testing.assert_frame_equal(data, before)
    assert columns_of(data).shape == (160, 3)


@pytest.mark.parametrize("tolerance", [0.0, np.nan])
def test_independent_parts_have_the_errors_of_the_whole(tolerance: float) -> None:
    data = people(n_clusters=80)
    in_stratum = (data["stratum"].to_numpy()[:, None] == np.arange(4)).astype(float)
    columns = np.hstack([in_stratum, in_stratum * data[["age"]].to_numpy()])
    targets = columns.T @ data["weight"].to_numpy() * np.linspace(0.95, 1.1, 8)
    found = []
    for options in ({}, {"partition": data["stratum"]}):
        made = Calibration(data["weight"], targets, columns, tolerances=tolerance, **options)
        made.calibrate(progress=False)
        asked = [total("income"), mean("tax")]
        errors = 0.01 * targets
        found.append(estimate(made, asked, data, design=DESIGN, target_errors=errors).table)
    assert_allclose(found[0].iloc[:, 1:], found[1].iloc[:, 1:], rtol=1e-5)
