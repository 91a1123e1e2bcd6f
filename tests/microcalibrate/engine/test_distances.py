"""What every distance must be: convex, zero at 1, and consistent with itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.integrate as si
from numpy.testing import assert_allclose

from microcalibrate import Distance, InfeasibleTargets, InvalidOption
from microcalibrate.engine.distances import DISTANCES, SINH, distance_named, logit

from ..problems import Data, calibrated, feasible
from .own_distance import REVERSE_ENTROPY

# Logit is what it is within limits, and chi-square without any.
LOGITS = {f"logit {low} to {high}": logit(low, high) for low, high in [(0, 3), (0.9, 1.5), (-2, 9)]}
EVERY = pytest.mark.parametrize(
    "distance", [*DISTANCES.values(), *LOGITS.values()], ids=[*DISTANCES, *LOGITS]
)


def ratios(distance: Distance) -> np.ndarray:
    """Points well inside the domain, on both sides of 1."""
    low, high = max(distance.lower, -3.0), min(distance.upper, 5.0)
    return np.linspace(low + 0.01 * (high - low), high - 0.01 * (high - low), 101)


@EVERY
def test_no_distance_at_one(distance: Distance) -> None:
    one = np.ones(1)

    assert_allclose(distance.value(one), 0, atol=1e-15)
    assert_allclose(distance.slope(one), 0, atol=1e-15)
    assert_allclose(distance.curvature(one), 1, rtol=1e-12)
    assert_allclose(distance.inverse_slope(np.zeros(1)), 1, rtol=1e-12)


@EVERY
def test_derivatives_are_those_of_the_value(distance: Distance) -> None:
    r = ratios(distance)
    # Sinh bends as sharply near 0 as exp(1 / r).
    r = r[(r > 0.15) | (distance.lower < 0)]
    step = 1e-5 * np.minimum(1, np.abs(r) + 0.1) ** 2
    slope = (distance.value(r + step) - distance.value(r - step)) / (2 * step)
    curvature = (distance.slope(r + step) - distance.slope(r - step)) / (2 * step)

    assert_allclose(distance.slope(r), slope, rtol=1e-6, atol=1e-8)
    assert_allclose(distance.curvature(r), curvature, rtol=1e-6)


@EVERY
def test_the_inverse_slope_undoes_the_slope(distance: Distance) -> None:
    r = ratios(distance)

    assert_allclose(distance.inverse_slope(distance.slope(r)), r, rtol=1e-12)


@EVERY
def test_distances_are_convex_and_not_negative(distance: Distance) -> None:
    r = ratios(distance)

    assert (distance.value(r) >= 0).all()
    assert (distance.curvature(r) > 0).all()
    assert (np.diff(distance.slope(r)) > 0).all()


@EVERY
def test_far_arguments_stay_finite(distance: Distance) -> None:
    """The engine may try prices far off: no overflow, no warning."""
    assert np.isfinite(distance.inverse_slope(np.array([-1e6, 1e6]))).all()


def test_raking_costs_a_finite_amount_at_zero() -> None:
    assert_allclose(DISTANCES["raking"].value(np.array([0.0, 1e-300])), 1, rtol=1e-12)


def test_a_distance_is_found_by_name_or_is_itself() -> None:
    for name, distance in DISTANCES.items():
        assert distance.name == name
        assert distance_named(name) is distance
        assert distance_named(distance) is distance


@pytest.mark.parametrize("name", ["", "chi-square", "CHI2", "logistic"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidOption, match=r"chi2.*raking.*logit"):
        distance_named(name)


def test_three_functions_and_a_name_are_a_distance() -> None:
    data = feasible(0)
    calibration = calibrated(data, tolerances=0, distance=REVERSE_ENTROPY)
    form = 1 - data.weights / calibration.weights
    coefficients, *_ = np.linalg.lstsq(data.matrix, form)

    assert_allclose(data.matrix.T @ calibration.weights, data.targets, rtol=1e-9)
    assert_allclose(data.matrix @ coefficients, form, atol=1e-7)
    assert calibration.result.settings["distance"] == "reverse entropy"


@pytest.mark.parametrize(
    "known", [*DISTANCES.values(), *LOGITS.values()], ids=[*DISTANCES, *LOGITS]
)
def test_an_inverse_that_is_not_given_is_found(known: Distance) -> None:
    found = Distance(
        "own", known.value, known.slope, known.curvature, lower=known.lower, upper=known.upper
    )
    r = ratios(known)

    assert_allclose(found.inverse_slope(known.slope(r)), r, rtol=1e-10)
    assert np.isfinite(found.inverse_slope(np.array([-1e6, 1e6]))).all()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"value": lambda r: r - np.log(r)}, "must be 0"),
        ({"slope": lambda r: 1.01 - 1 / r}, "must be 0"),
        ({"slope": lambda r: 2 - 2 / r}, "slope is .* differences of value"),
        ({"curvature": lambda r: 1 / r}, "curvature is .* differences of slope"),
        ({"value": lambda r: -(r - 1) ** 2 / 2, "slope": lambda r: 1 - r,
          "curvature": lambda r: -np.ones_like(r)}, "must be convex"),
        ({"lower": -np.inf}, "not finite at ratio .* lower="),
        ({"lower": 1.0}, "must have 1"),
        ({"value": lambda r: r.sum()}, "shape"),
        ({"inverse_slope": lambda u: 1 + u}, "inverse_slope"),
        ({"name": ""}, "name"),
    ],
)  # fmt: skip
def test_functions_that_make_no_distance_are_refused(
    changed: dict[str, Any], complaint: str
) -> None:
    wrong = dataclasses.replace(REVERSE_ENTROPY, **changed)

    with pytest.raises(InvalidOption, match=complaint):
        distance_named(wrong)


def test_the_integral_of_sinh_is_that_of_its_slope() -> None:
    for r in (0.1, 0.5, 0.999, 1.3, 4.0, 20.0):
        area, _ = si.quad(lambda x: 0.5 * np.sinh(x - 1 / x), 1, r, epsrel=1e-13, limit=200)
        assert_allclose(SINH.value(np.array([r])), area, rtol=1e-10)


def test_logit_far_from_its_limits_is_chi_square() -> None:
    wide, r = logit(-1e6, 1e6), np.linspace(0, 3, 13)

    assert_allclose(wide.slope(r), r - 1, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "bounds",
    [{}, {"min_weight_ratio": 0.5}, {"min_weight_ratio": 1.0, "max_weight_ratio": 2.0},
     {"min_weight_ratio": -np.inf, "max_weight_ratio": 2.0}],
)  # fmt: skip
def test_logit_without_bounds_on_both_sides_of_one_is_refused(bounds: dict[str, float]) -> None:
    data = feasible(0)
    with pytest.raises(InvalidOption, match=r"min_weight_ratio below 1 and max_weight_ratio above"):
        calibrated(data, distance="logit", **bounds)


def test_bounds_beyond_what_a_distance_is_defined_for_are_refused() -> None:
    data = feasible(0)
    with pytest.raises(InvalidOption, match=r'"sinh" knows ratios from 0\.025 to 40.*50 and inf'):
        calibrated(data, distance="sinh", min_weight_ratio=50.0)


@pytest.mark.parametrize(
    ("distance", "target", "bounds", "said"),
    [
        ("sinh", 50.0, {}, r'distance="sinh" is defined: from 0\.025 to 40\.'),
        ("raking", -5.0, {"min_weight_ratio": -np.inf}, r'distance="raking" .*from 0 on\.'),
        ("sinh", 50.0, {"min_weight_ratio": 0.5, "max_weight_ratio": 2.0}, r"soft\.$"),
        ("chi2", -5.0, {}, r"soft\.$"),
    ],
)
def test_a_conflict_names_the_limits_of_the_distance_where_these_are_the_narrower(
    distance: str, target: float, bounds: dict[str, float], said: str
) -> None:
    data = Data(np.ones(1), np.array([target]), np.ones((1, 1)))
    with pytest.raises(InfeasibleTargets, match=said):
        calibrated(data, distance=distance, tolerances=0, **bounds)


def test_logit_may_have_limits_of_each_record() -> None:
    data = feasible(3, spread=0.1)
    rng = np.random.default_rng(3)
    low, high = rng.uniform(0.3, 0.7, 60), rng.uniform(1.3, 1.9, 60)
    # Held records stay out of it.
    low[:3] = high[:3] = 1.0
    calibration = calibrated(
        data, tolerances=0, distance="logit", min_weight_ratio=low, max_weight_ratio=high
    )
    ratio = calibration.weights / data.weights
    own = logit(low[3:], high[3:])
    coefficients, *_ = np.linalg.lstsq(data.matrix[3:], own.slope(ratio[3:]))

    assert_allclose(data.matrix.T @ calibration.weights, data.targets, rtol=1e-9)
    assert_allclose(data.matrix[3:] @ coefficients, own.slope(ratio[3:]), atol=1e-7)
    assert (ratio[:3] == 1).all()


def test_what_other_packages_call_it_is_explained() -> None:
    with pytest.raises(InvalidOption, match="min_weight_ratio=-inf"):
        distance_named("linear")
