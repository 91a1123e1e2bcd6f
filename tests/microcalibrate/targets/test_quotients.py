"""Ratios, shares, differences and quantiles: the calibrated weights give what was declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate import Calibration, check_targets, describe_targets
from microcalibrate.errors import InvalidTargetTable
from microcalibrate.targets import build_targets

RNG = np.random.default_rng(8)
N = 400
PEOPLE = pd.DataFrame(
    {
        "weight": RNG.uniform(50, 150, N),
        "income": np.round(RNG.lognormal(10, 0.8, N), 2),
        "tax": RNG.uniform(100, 9_000, N),
        "age": RNG.integers(18, 90, N),
        "sex": RNG.choice(["f", "m"], N),
    }
)
DESIGN = PEOPLE["weight"].to_numpy()


def calibrated(*targets: dict[str, Any]) -> Any:
    exact = [{"tolerance": 0, **target} for target in targets]
    return Calibration.from_table(PEOPLE, exact).calibrate()


def interpolated_quantile(values: Any, weights: Any, share: float) -> float:
    """By the distribution function that rises in straight lines from value to value."""
    levels, place = np.unique(values, return_inverse=True)
    below = np.cumsum(np.bincount(place, weights)) / weights.sum()
    return float(np.interp(share, below, levels))


def test_a_ratio_a_share_and_a_difference_hold_together() -> None:
    women, men = PEOPLE["sex"] == "f", PEOPLE["sex"] == "m"
    weights = calibrated(
        {"name": "rate", "value": 0.2, "variable": "tax", "denominator": "income",
         "aggregate": "ratio", "filter": "age < 60"},
        {"name": "women", "value": 0.55, "aggregate": "share", "filter": "sex == 'f'",
         "within": "age >= 40"},
        {"name": "women's income", "value": 0.48, "aggregate": "share", "filter": "sex == 'f'",
         "variable": "income"},
        {"name": "gap", "value": -900.0, "filter": "sex == 'm'", "minus": "sex == 'f'"},
    )  # fmt: skip
    young, older = PEOPLE["age"] < 60, PEOPLE["age"] >= 40
    income, tax = PEOPLE["income"], PEOPLE["tax"]

    assert_allclose((weights * tax)[young].sum() / (weights * income)[young].sum(), 0.2)
    assert_allclose(weights[women & older].sum() / weights[older].sum(), 0.55)
    assert_allclose((weights * income)[women].sum() / (weights @ income), 0.48)
    assert_allclose(weights[men].sum() - weights[women].sum(), -900, rtol=1e-6)


def test_a_ratio_to_one_is_a_mean_and_a_share_the_mean_of_an_indicator() -> None:
    data = PEOPLE.assign(one=1.0, old=(PEOPLE["age"] > 60) * 1.0)
    roads = [
        ({"aggregate": "mean", "variable": "income"},
         {"aggregate": "ratio", "variable": "income", "denominator": "one"}),
        ({"aggregate": "mean", "variable": "old", "filter": "sex == 'f'"},
         {"aggregate": "share", "filter": "age > 60", "within": "sex == 'f'"}),
    ]  # fmt: skip
    for first, second in roads:
        one, other = (
            build_targets(data, [{"name": "x", "value": 0.3, **road}], initial_weights=DESIGN)
            for road in (first, second)
        )
        assert_allclose(one.matrix.toarray(), other.matrix.toarray())
        assert_allclose(one.scales, other.scales)


@pytest.mark.parametrize("aggregate", ["sum", "count"])
def test_a_difference_is_that_of_two_targets(aggregate: str) -> None:
    def column(**cells: Any) -> Any:
        row = {"name": "income", "value": 1.0, "aggregate": aggregate, "variable": "income"}
        return build_targets(PEOPLE, [row | cells]).matrix.toarray()

    both = column(filter="age > 30", minus="sex == 'f'")

    assert_allclose(both, column(filter="age > 30") - column(filter="sex == 'f'"))


@settings(max_examples=30, deadline=None)
@given(
    share=st.floats(0.1, 0.9),
    move=st.floats(-0.08, 0.08),
    variable=st.sampled_from(["income", "age"]),
)
def test_the_quantile_of_calibrated_weights_is_the_target(
    share: float, move: float, variable: str
) -> None:
    values = PEOPLE[variable].to_numpy().astype(float)
    wanted = interpolated_quantile(values, DESIGN, share + move)
    row = {"name": "q", "value": wanted, "aggregate": "quantile", "quantile": share}

    weights = calibrated(row | {"variable": variable})

    assert_allclose(interpolated_quantile(values, weights, share), wanted, rtol=1e-6)


def test_a_quantile_at_a_value_of_the_data_has_its_share_at_or_below_it() -> None:
    weights = calibrated(
        {"name": "median", "value": 55, "aggregate": "quantile", "quantile": 0.5,
         "variable": "age", "filter": "sex == 'm'"}
    )  # fmt: skip
    men = PEOPLE["sex"] == "m"

    below = weights[men & (PEOPLE["age"] <= 55)].sum()

    assert_allclose(below / weights[men].sum(), 0.5)


def test_an_error_of_a_quantile_is_a_share_of_records() -> None:
    row = {"name": "q", "value": 55, "aggregate": "quantile", "quantile": 0.25, "variable": "age"}
    calibration = Calibration.from_table(PEOPLE, [row])
    share = DESIGN[PEOPLE["age"] <= 55].sum() / DESIGN.sum()

    assert_allclose(calibration.problem.errors(DESIGN), [share - 0.25])


@pytest.mark.parametrize(
    ("cells", "part"),
    [
        ({"aggregate": "ratio"}, "a ratio needs a denominator"),
        ({"aggregate": "quantile"}, "a quantile needs a quantile"),
        ({"aggregate": "quantile", "quantile": 50}, "between 0 and 1"),
        ({"aggregate": "quantile", "quantile": 0.5, "value": 90}, "no quantile of theirs"),
        ({"aggregate": "share"}, "a share needs a filter"),
        (
            {"aggregate": "quantile", "quantile": 0.5, "minus": "age < 30"},
            "belongs to the aggregate 'sum', 'count', 'mean', 'ratio' or 'share', and",
        ),
        ({"aggregate": "mean", "minus": "age < 30"}, "not linear in the weights"),
        ({"within": "age < 30"}, "belongs to the aggregate 'share'"),
        ({"aggregate": "ratio", "denominator": "incom"}, "Did you mean 'income'"),
        ({"filter": "age < 30", "minus": "30 > age"}, "the same in every record"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(cells: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidTargetTable, match=r'target "x" \(row 1\)') as caught:
        build_targets(PEOPLE, [{"name": "x", "value": 40.0, "variable": "age"} | cells])

    assert part in str(caught.value)


def test_sentences_say_what_is_asked() -> None:
    assert describe_targets(
        [
            {"name": "x", "value": 0.2, "variable": "tax", "aggregate": "ratio",
             "denominator": "income"},
            {"name": "x", "value": 0.5, "aggregate": "share", "filter": "sex == 'f'",
             "within": "age > 60"},
            {"name": "x", "value": 0.5, "aggregate": "share", "variable": "tax",
             "filter": "age > 60"},
            {"name": "x", "value": 40, "aggregate": "quantile", "quantile": 0.5, "variable": "age"},
            {"name": "x", "value": -5, "filter": "sex == 'm'", "minus": "sex == 'f'"},
            {"name": "x", "value": 7, "variable": "tax", "minus": "sex == 'f'"},
        ]
    ) == [
        "the ratio of tax to income over all records shall be 0.2 (soft)",
        "the share of records where age > 60 that is where sex == 'f' shall be 0.5 (soft)",
        "the share of the total of tax that is where age > 60 shall be 0.5 (soft)",
        "the median of age over all records shall be 40 (soft)",
        "the number of records where sex == 'm', less the number of records where sex == 'f', "
        "shall be -5 (soft)",
        "the total of tax over all records, less the total of tax over records where sex == 'f', "
        "shall be 7 (soft)",
    ]  # fmt: skip


def test_checks_give_initial_and_range_in_the_unit_of_the_value() -> None:
    rows = [
        {"name": "rate", "value": 0.2, "variable": "tax", "denominator": "income",
         "aggregate": "ratio"},
        {"name": "women", "value": 0.5, "aggregate": "share", "filter": "sex == 'f'"},
        {"name": "median", "value": 50, "variable": "age", "quantile": 0.5,
         "aggregate": "quantile"},
        {"name": "too old", "value": 88, "variable": "age", "quantile": 0.5,
         "aggregate": "quantile"},
    ]  # fmt: skip
    checks = check_targets(PEOPLE, rows, weight="weight", min_weight_ratio=0.5, max_weight_ratio=2)
    table = checks.table.set_index("name")
    women, ages = PEOPLE["sex"] == "f", np.sort(PEOPLE["age"].unique())
    share, rest = DESIGN[women].sum(), DESIGN[~women].sum()

    assert_allclose(table.initial["rate"], DESIGN @ PEOPLE["tax"] / (DESIGN @ PEOPLE["income"]))
    assert_allclose(table.initial["women"], share / (share + rest))
    assert_allclose(table.lowest["women"], 0.5 * share / (0.5 * share + 2 * rest))
    assert_allclose(table.highest["women"], 2 * share / (2 * share + 0.5 * rest))
    assert table.reachable.tolist() == [True, True, True, False]
    for end, upto, beyond in [("initial", 1, 1), ("lowest", 2, 0.5), ("highest", 0.5, 2)]:
        below = np.array([DESIGN[PEOPLE["age"] <= age].sum() for age in ages])
        reached = upto * below / (upto * below + beyond * (DESIGN.sum() - below)) >= 0.5
        assert table[end]["median"] == ages[np.argmax(reached)]


def test_quotients_that_say_the_same_are_duplicates_and_may_contradict() -> None:
    rows = [
        {"name": "mean", "value": 50.0, "variable": "age", "aggregate": "mean"},
        {"name": "again", "value": 60.0, "variable": "age", "denominator": "one",
         "aggregate": "ratio"},
    ]  # fmt: skip
    checks = check_targets(PEOPLE.assign(one=1), rows, weight="weight")

    assert "contradictory duplicate" in set(checks.findings["kind"])
