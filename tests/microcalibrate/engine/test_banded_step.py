"""The step under bands is the best of its model, and finds all ends of the bands."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize as so
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from microcalibrate import Calibration
from microcalibrate.datasets import load_cps, load_us_targets
from microcalibrate.engine.banded_step import banded_direction
from microcalibrate.engine.distances import CHI2
from microcalibrate.engine.dual_newton import DualNewton
from microcalibrate.engine.program import program_of
from microcalibrate.problem import Problem

Vector = NDArray[np.float64]


def best_step(
    curvature: Vector, gradient: Vector, prices: Vector, banded: Vector, width: Vector
) -> Vector:
    """The same by another road: prices split into what is above zero and what is below."""
    n = len(prices)
    charge = np.zeros(n)
    charge[banded] = width

    def negative(split: Vector) -> tuple[float, Vector]:
        step = split[:n] - split[n:] - prices
        slope = gradient - curvature @ step
        value = gradient @ step - 0.5 * step @ curvature @ step - charge @ (split[:n] + split[n:])
        return -value, np.concatenate([charge - slope, charge + slope])

    found = so.minimize(
        negative,
        np.concatenate([np.maximum(prices, 0), np.maximum(-prices, 0)]),
        jac=True,
        bounds=[(0, None)] * (2 * n),
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 50_000, "maxfun": 100_000},
    )
    return np.asarray(found.x[:n] - found.x[n:] - prices)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n_bands=st.integers(1, 12), start=st.sampled_from([0.0, 1.0]))
def test_the_step_is_the_best_of_its_model(seed: int, n_bands: int, start: float) -> None:
    rng = np.random.default_rng(seed)
    n = 12
    columns = rng.normal(size=(40, n)) + rng.normal(size=(40, 1))
    gram, scale = columns.T @ columns, rng.uniform(0.5, 2, n)
    compliance = np.where(rng.random(n) < 0.3, rng.uniform(0, 5, n), 0.0)
    gradient, prices = 30 * rng.normal(size=n), start * rng.normal(size=n)
    banded = np.sort(rng.permutation(n)[:n_bands])
    width = rng.uniform(1, 30, n_bands)

    step = banded_direction(np.triu(gram), scale, compliance, gradient, prices, banded, width)

    curvature = scale[:, None] * gram * scale + np.diag(compliance)
    expected = best_step(curvature, gradient, prices, banded, width)
    assert_allclose(step, expected, atol=1e-5 * np.abs(expected).max())
    # A band that holds nothing has no price at all: not a small one.
    pull = np.abs(gradient - curvature @ step)[banded]
    assert np.array_equal((prices + step)[banded] == 0, pull < width * (1 - 1e-7))


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_plain_steps_alone_solve_a_real_survey_within_bands(
    distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of the embedded survey, all targets within 30% or 50% of them: some ten steps."""
    steps = []
    plain = DualNewton.step
    monkeypatch.setattr(DualNewton, "step", lambda self: steps.append(1) or plain(self))
    whole = Calibration.from_table(load_cps(), load_us_targets()).problem

    calibration = Calibration(
        whole.design_weights,
        whole.targets,
        whole.estimate_matrix,
        tolerances=0.5,
        distance=distance,
    )
    calibration.calibrate(progress=False)

    result = calibration.result
    assert result.status.is_certified
    assert set(result.history["method"]) == {"newton"}
    assert len(steps) <= 10
    error = np.abs(result.targets["final"] / whole.targets - 1)
    assert error.max() <= 0.5 + 1e-9
    # Those that are held at an end of their band have a price, and no others do.
    at_end = error > 0.5 - 1e-7
    assert 10 < at_end.sum() < 0.9 * len(error)
    assert np.array_equal(at_end, result.targets["price"] != 0)


def test_a_direction_that_only_rounding_is_left_of_is_no_step() -> None:
    """Prices that do not change have the same slope before and after: nothing is divided by."""
    problem = Problem.build(
        np.ones(3), [4.0, 5.0], [[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], tolerances=0.01
    )
    program, _, _ = program_of(problem, CHI2, 1e-4)
    newton = DualNewton(program, np.array([-1.0, -2.0]))
    before = newton.prices.copy()
    gradient = newton.errors.copy()

    for direction in (-1e-30 * gradient, np.full(2, np.nan), np.full(2, np.inf)):
        assert not newton._walk(direction)
        assert np.array_equal(newton.prices, before)
