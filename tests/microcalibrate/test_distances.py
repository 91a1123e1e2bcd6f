"""What every distance must be: convex, zero at 1, and consistent with itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Distance, InvalidOption
from microcalibrate.engine.distances import DISTANCES, distance_named

from .problems import calibrated, feasible

EVERY = pytest.mark.parametrize("distance", DISTANCES.values(), ids=list(DISTANCES))


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
    r, step = ratios(distance), 1e-6
    r = r[(r - step > distance.lower) & (r + step < distance.upper)]
    slope = (distance.value(r + step) - distance.value(r - step)) / (2 * step)
    curvature = (distance.slope(r + step) - distance.slope(r - step)) / (2 * step)

    assert_allclose(distance.slope(r), slope, atol=1e-7)
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
    with pytest.raises(InvalidOption, match=r"chi2.*raking"):
        distance_named(name)


def test_a_distance_of_ones_own_works_like_a_built_in_one() -> None:
    """Four functions and a name: Hellinger's distance, 2 (sqrt(r) - 1)^2."""
    hellinger = Distance(
        name="hellinger",
        value=lambda r: 2 * (np.sqrt(r) - 1) ** 2,
        slope=lambda r: 2 - 2 / np.sqrt(r),
        curvature=lambda r: r**-1.5,
        inverse_slope=lambda u: (1 - np.minimum(u, 1.999) / 2) ** -2,
        lower=0.0,
    )
    data = feasible(0)
    calibration = calibrated(data, tolerances=0, distance=hellinger)
    form = hellinger.slope(calibration.weights / data.weights)
    coefficients, *_ = np.linalg.lstsq(data.matrix, form)

    assert_allclose(data.matrix.T @ calibration.weights, data.targets, rtol=1e-9)
    assert_allclose(data.matrix @ coefficients, form, atol=1e-7)
    assert calibration.result.settings["distance"] == "hellinger"
