"""Bounds of every kind, together: kept to the last bit, and refused where they leave no room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import Calibration, InvalidOption
from microcalibrate.bounds import settled_on_bounds

from ..problems import Data, calibrated, feasible, ratio_of, survey

MIXED = [np.nan, 0.0, 0.05, np.nan, 0.05]


def outside(weights: np.ndarray, low: Any, high: Any) -> int:
    """How many weights are outside, were the bounds one unit in the last place narrower."""
    return int(((weights < low) | (weights > high)).sum())


# --- To the last bit ------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["chi2", "raking", "logit", "sinh", "hellinger"])
@pytest.mark.parametrize("tolerances", [None, MIXED], ids=["soft", "mix"])
@pytest.mark.parametrize("seed", range(4))
def test_no_weight_is_outside_by_a_single_bit_whichever_way_it_is_checked(
    seed: int, tolerances: Any, distance: str
) -> None:
    data = feasible(seed, n_records=150, spread=0.1)
    targets = data.targets * np.array([1.04, 1.0, 1.0, 0.95, 1.0])
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0.7, 0.9, 150), rng.uniform(1.1, 1.4, 150)
    calibration = calibrated(
        Data(data.weights, targets, data.matrix),
        distance=distance,
        tolerances=tolerances,
        min_weight_ratio=low,
        max_weight_ratio=high,
        min_weight=0.9 / 1.05,
        max_weight=22.3 / 1.0001,
    )
    weights, d = calibration.weights, data.weights
    within = (d * low <= 22.3 / 1.0001) & (d * high >= 0.9 / 1.05)

    assert within.all()
    assert outside(weights, 0.9 / 1.05, 22.3 / 1.0001) == 0
    assert outside(weights, low * d, high * d) == 0
    assert outside(weights / d, low, high) == 0


def test_a_weight_on_its_bound_is_the_bound() -> None:
    """One step of `nextafter` past where the weight is would be outside."""
    data = feasible(3, n_records=200, spread=0.05)
    cap = float(np.quantile(data.weights, 0.9)) / 1.01
    calibration = calibrated(Data(data.weights, data.targets * 1.02, data.matrix), max_weight=cap)
    capped = calibration.weights >= np.nextafter(cap, 0)

    assert capped.sum() >= 20
    assert outside(calibration.weights, 0.0, cap) == 0
    assert (np.nextafter(calibration.weights[capped], np.inf) >= cap).all()


@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-3, 1e3),
)
def test_products_and_quotients_agree_on_what_is_within(weight: float, bound: float) -> None:
    d, low, high = np.array([weight]), np.array([bound / 2]), np.array([bound])
    for limit in (low, high):
        settled = settled_on_bounds(limit * d, d, low, high)

        assert low * d <= settled <= high * d
        assert low <= settled / d <= high
        assert_allclose(settled, limit * d, rtol=1e-15)


# --- What they mean -------------------------------------------------------------------------------


def test_absolute_bounds_are_bounds_on_the_ratio_of_each_record() -> None:
    data = feasible(2, spread=0.2)
    ours = calibrated(data, tolerances=0, min_weight=2.0, max_weight=17.0)
    same = calibrated(
        data, tolerances=0, min_weight_ratio=2 / data.weights, max_weight_ratio=17 / data.weights
    )

    assert_allclose(ours.weights, same.weights, rtol=1e-9)
    assert ours.result.settings["max_weight"] == 17.0
    assert ours.result.settings["min_weight"] == 2.0


def test_the_narrower_of_two_bounds_counts() -> None:
    data = feasible(2, spread=0.2)
    options: dict[str, Any] = {"min_weight_ratio": 0.7, "max_weight_ratio": 1.4}
    weights = calibrated(data, tolerances=0, min_weight=1.3, max_weight=16.0, **options).weights

    assert (weights >= np.maximum(0.7 * data.weights, 1.3)).all()
    assert (weights <= np.minimum(1.4 * data.weights, 16.0)).all()


def test_frozen_records_keep_their_design_weight_to_the_last_bit() -> None:
    data = feasible(4, spread=0.2)
    frozen = np.arange(60) % 7 == 0
    calibration = calibrated(data, tolerances=0, frozen=frozen, max_weight_ratio=3.0)

    assert_array_equal(calibration.weights[frozen], data.weights[frozen])
    assert (calibration.weights[~frozen] != data.weights[~frozen]).all()
    assert_allclose(data.matrix.T @ calibration.weights, data.targets, rtol=1e-9)
    assert calibration.result.settings["n_frozen"] == 9


def test_records_without_a_design_weight_have_no_weight_to_bound() -> None:
    data = feasible(4, spread=0.2)
    weights = np.where(np.arange(60) < 5, 0.0, data.weights)
    targets = data.matrix.T @ weights * 1.01
    found = calibrated(Data(weights, targets, data.matrix), min_weight=0.9, max_weight=25).weights

    assert (found[:5] == 0).all()
    assert found[5:].min() >= 0.9


@pytest.mark.parametrize("bounds", [{"max_weight": 60.0}, {"min_weight": 25.0, "max_weight": 90.0}])
def test_absolute_bounds_hold_for_chosen_records_too(bounds: dict[str, float]) -> None:
    """A bound on the ratio counts from the stratum of a record that stays, an absolute one not."""
    data = survey(5, n_records=500, n_targets=10)
    calibration = calibrated(data, target_records=200, seed=3, **bounds)
    kept = calibration.weights[calibration.weights > 0]

    assert len(kept) == 200
    assert kept.max() <= bounds["max_weight"]
    assert kept.min() >= bounds.get("min_weight", 0.0)


# --- Factors of heteroscedasticity ----------------------------------------------------------------


def test_factors_scale_how_far_each_weight_moves() -> None:
    """Deville and Särndal: w = d (1 + q x'y), solved here as one system of equations."""
    data = feasible(6, n_records=40)
    q = np.random.default_rng(6).uniform(0.2, 5, 40)
    weighted = data.matrix * (data.weights * q)[:, None]
    prices = np.linalg.solve(data.matrix.T @ weighted, data.targets - data.matrix.T @ data.weights)
    found = calibrated(data, tolerances=0, heteroscedasticity=q, min_weight_ratio=-np.inf)

    assert_allclose(ratio_of(found), 1 + q * (data.matrix @ prices), atol=1e-9)


@pytest.mark.parametrize("distance", ["raking", "hellinger", "logit"])
def test_any_distance_takes_factors(distance: str) -> None:
    data = feasible(6, n_records=40, spread=0.2)
    q = np.random.default_rng(6).uniform(0.5, 2, 40)
    bounds = {"min_weight_ratio": 0.2, "max_weight_ratio": 4.0}
    found = calibrated(data, tolerances=0, heteroscedasticity=q, distance=distance, **bounds)
    own = found.settings.distance.between(np.full(40, 0.2), np.full(40, 4.0))
    form = own.slope(ratio_of(found)) / q
    coefficients, *_ = np.linalg.lstsq(data.matrix, form)

    assert_allclose(data.matrix @ coefficients, form, atol=1e-7)


@pytest.mark.parametrize("tolerances", [None, 0])
def test_only_proportions_of_factors_count(tolerances: Any) -> None:
    data = feasible(6, n_records=40)
    q = np.random.default_rng(6).uniform(0.2, 5, 40)
    one, other, none, equal = (
        calibrated(data, tolerances=tolerances, heteroscedasticity=factors).weights
        for factors in (q, 1e-3 * q, None, 7.0)
    )

    assert_allclose(one, other, rtol=1e-9)
    assert_allclose(none, equal, rtol=1e-9)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"min_weight": 9.0, "max_weight": 5.0}, "min_weight is 9 and max_weight is 5"),
        ({"min_weight": 30.0, "max_weight_ratio": 1.2}, "leave no weight"),
        ({"max_weight": 0.5, "min_weight_ratio": 0.9}, "leave no weight"),
        ({"max_weight": -1.0}, "negative"),
        ({"max_weight": np.nan}, "NaN"),
        ({"min_weight": np.inf, "max_weight": np.inf}, "cannot be inf"),
        ({"max_weight": [1.0, 2.0]}, "shape"),
        ({"max_weight": "ten"}, "numbers"),
        ({"frozen": [True, False]}, "truth value per record"),
        ({"frozen": np.arange(60)}, "truth value per record"),
        ({"frozen": np.ones(60, bool), "max_weight_ratio": 0.9}, "record 0 is frozen"),
        ({"frozen": np.ones(60, bool), "l0_lambda": 0.1}, "cannot be selected"),
        ({"heteroscedasticity": 0.0}, "positive"),
        ({"heteroscedasticity": -np.ones(60)}, "positive"),
        ({"heteroscedasticity": np.inf}, "positive"),
    ],
)  # fmt: skip
def test_bounds_that_cannot_be_kept_are_refused(options: dict[str, Any], complaint: str) -> None:
    data = feasible(0)
    with pytest.raises(InvalidOption, match=complaint):
        Calibration(data.weights, data.targets, data.matrix, **options)


@pytest.mark.parametrize("matrix", [np.array, sp.csr_array])
def test_bounds_that_leave_no_choice_give_the_design_weights(matrix):
    weights = np.array([2.0, 3.0, 5.0])
    columns = matrix([[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]])

    calibration = Calibration(weights, [7.0, 9.0], columns, min_weight_ratio=1, max_weight_ratio=1)

    assert calibration.calibrate().tolist() == weights.tolist()
