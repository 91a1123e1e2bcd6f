"""The optimality conditions themselves, rechecked from weights and prices alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.engine.distances import distance_named
from microcalibrate.engine.program import program_of
from microcalibrate.engine.solving import solve
from microcalibrate.problem import Problem
from microcalibrate.result import Status

from ..problems import (
    Data,
    calibrated,
    conflicting,
    dual_value_of,
    feasible,
    objective_of,
    ratio_of,
    scaled_columns,
    share_of,
)

DISTANCES = ["chi2", "raking", "hellinger", "sinh"]
BOUNDS = [(0.0, None), (0.8, 1.25), (0.75, None), (0.0, 1.28)]
# Soft, exact and banded targets next to each other.
MIXED = [np.nan, 0.0, 0.02, np.nan, 0.0, 0.05]


def multipliers(calibration: Calibration) -> np.ndarray:
    """Slope of the Lagrangian in each ratio: zero inside the bounds, and signed at them."""
    distance = distance_named(calibration.result.settings["distance"])
    prices = calibration.result.targets["price"].to_numpy()
    ratio = ratio_of(calibration)
    with np.errstate(divide="ignore"):
        slope = share_of(calibration) * distance.slope(ratio)
    return np.asarray(slope + scaled_columns(calibration) @ prices)


# --- The form of the weights ----------------------------------------------------------------------


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", range(3))
def test_ratios_have_the_form_of_their_distance(
    seed: int, distance: str, bounds: tuple[float, float | None]
) -> None:
    """Away from the bounds the slope, log(w / d) for raking, is a combination of columns."""
    data = feasible(seed, spread=0.2)
    low, high = bounds
    calibration = calibrated(
        data, distance=distance, tolerances=0, min_weight_ratio=low, max_weight_ratio=high
    )
    ratio = ratio_of(calibration)
    upper = np.inf if high is None else high
    inside = (ratio > low + 1e-9) & (ratio < upper - 1e-9)
    form = distance_named(distance).slope(ratio[inside])
    coefficients, *_ = np.linalg.lstsq(data.matrix[inside], form)

    assert_allclose(data.matrix.T @ calibration.weights, data.targets, rtol=1e-9)
    assert_allclose(data.matrix[inside] @ coefficients, form, atol=1e-7)


@pytest.mark.parametrize("tolerances", [0, None, 0.01, MIXED], ids=["exact", "soft", "band", "mix"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_prices_are_complementary_to_bounds(
    distance: str, bounds: tuple[float, float | None], tolerances: Any
) -> None:
    """No slope inside the bounds; at the lower one it only pushes down, at the upper one up."""
    data = feasible(7, n_targets=6, spread=0.2)
    low, high = bounds
    calibration = calibrated(
        data, distance=distance, tolerances=tolerances, min_weight_ratio=low, max_weight_ratio=high
    )
    slope = multipliers(calibration) / share_of(calibration)
    ratio = ratio_of(calibration)
    at_low = ratio < low + 1e-6
    at_high = ratio > (np.inf if high is None else high) - 1e-6

    assert_allclose(slope[~at_low & ~at_high], 0, atol=1e-3)
    assert (slope[at_low] > -1e-3).all()
    assert (slope[at_high] < 1e-3).all()


@pytest.mark.parametrize("bounds", [(0.9, 1.1), (0.83, 1.26), (1 / 3, 7 / 3), (0.0, 1.07)])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("tolerances", [None, MIXED], ids=["soft", "mix"])
def test_no_weight_leaves_its_bounds_by_a_single_bit(
    tolerances: Any, distance: str, bounds: tuple[float, float]
) -> None:
    data = feasible(3, n_records=200, n_targets=6, spread=0.05)
    targets = data.targets * np.array([1.02, 1.0, 1.0, 0.97, 1.0, 1.0])
    low, high = bounds
    calibration = calibrated(
        Data(data.weights, targets, data.matrix),
        distance=distance,
        tolerances=tolerances,
        min_weight_ratio=low,
        max_weight_ratio=high,
    )

    assert (calibration.weights >= low * data.weights).all()
    assert (calibration.weights <= high * data.weights).all()


def test_bounds_may_differ_by_record() -> None:
    data = feasible(11, spread=0.15)
    rng = np.random.default_rng(11)
    low, high = rng.uniform(0.5, 0.84, 60), rng.uniform(1.16, 1.5, 60)
    weights = calibrated(data, tolerances=0, min_weight_ratio=low, max_weight_ratio=high).weights

    assert_allclose(data.matrix.T @ weights, data.targets, rtol=1e-9)
    assert (weights >= low * data.weights).all()
    assert (weights <= high * data.weights).all()


def test_linear_weights_may_turn_negative_where_that_is_allowed() -> None:
    """Without a lower bound chi2 is R's linear calibration: one system of equations."""
    data = feasible(5, n_records=20)
    targets = data.targets * np.array([3.0, 0.2, 1.0, 1.5, 0.4])
    calibration = calibrated(
        Data(data.weights, targets, data.matrix), tolerances=0, min_weight_ratio=-np.inf
    )
    columns = data.matrix * data.weights[:, None]
    prices = np.linalg.solve(data.matrix.T @ columns, targets - columns.sum(axis=0))

    assert calibration.weights.min() < 0
    assert_allclose(ratio_of(calibration), 1 + data.matrix @ prices, atol=1e-9)


# --- The certificate ------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerances", [0, None, 0.02, MIXED], ids=["exact", "soft", "band", "mix"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_no_weights_can_be_better(
    distance: str, bounds: tuple[float, float | None], tolerances: Any
) -> None:
    """Weak duality: the prices alone prove that the objective is within 1e-8 of the least."""
    data = feasible(2, n_targets=6, spread=0.2)
    low, high = bounds
    calibration = calibrated(
        data, distance=distance, tolerances=tolerances, min_weight_ratio=low, max_weight_ratio=high
    )
    objective = objective_of(calibration, ratio_of(calibration))

    assert calibration.result.gap <= 1e-8
    assert objective - dual_value_of(calibration) <= 1.1e-8 * objective


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("closeness", [1.0, 1e-4, 1e-7])
@pytest.mark.parametrize("seed", range(2))
def test_no_weights_can_be_better_when_targets_conflict(
    seed: int, closeness: float, distance: str
) -> None:
    calibration = calibrated(
        conflicting(seed), distance=distance, closeness=closeness, max_weight_ratio=10
    )
    objective = objective_of(calibration, ratio_of(calibration))

    assert objective - dual_value_of(calibration) <= 1.1e-8 * objective


@pytest.mark.parametrize("tolerances", [0, None, 0.02, MIXED], ids=["exact", "soft", "band", "mix"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gap_is_right_far_from_the_optimum(distance: str, tolerances: Any) -> None:
    """At any point: objective minus dual value, plus what misses of hard targets hide."""
    data = feasible(2, n_targets=6)
    problem = Problem.build(data.weights, data.targets, data.matrix, tolerances=tolerances,
                            min_weight_ratio=0.6, max_weight_ratio=1.5)  # fmt: skip
    program, _, _ = program_of(problem, distance_named(distance), 0.01)
    rng = np.random.default_rng(0)
    for size in (1e-6, 1e-3, 1.0):
        x = np.clip(rng.normal(1, 0.2, len(program.lower)), program.lower, program.upper)
        prices = size * rng.normal(size=6)
        errors, gradient = program.errors(x), program.gradient(prices)
        best = program.response(gradient)
        dual = program.cost(best).sum() + gradient @ best - prices @ program.goal
        dual -= 0.5 * (program.compliance * prices**2).sum()
        hard = program.is_hard
        hidden = np.abs(prices[hard] * errors[hard]).sum() + prices[hard] @ errors[hard]
        gap = program.gap(x, errors, prices, gradient)

        assert gap > 0
        assert_allclose(gap, program.objective(x, errors) - dual + hidden, rtol=1e-9)


def test_a_certificate_that_is_not_reached_is_not_claimed() -> None:
    data = conflicting(2)
    problem = Problem.build(data.weights, data.targets, data.matrix, max_weight_ratio=1.1)
    solution = solve(problem, distance_named("chi2"), max_iter=2)

    assert solution.status is Status.STEP_LIMIT
    assert solution.gap > 1e-8


def test_the_history_ends_with_the_certificate() -> None:
    calibration = calibrated(feasible(2), max_weight_ratio=1.1)
    last = calibration.result.history.iloc[-1]

    assert last["gap"] == calibration.result.gap <= 1e-8
    assert_allclose(last["loss"], objective_of(calibration, ratio_of(calibration)), rtol=1e-9)
    assert (calibration.result.history["step"].diff().dropna() == 1).all()


@pytest.mark.parametrize("tolerances", [0, None, 0.02, MIXED], ids=["exact", "soft", "band", "mix"])
@pytest.mark.parametrize("bounds", [(0.75, 1.4), (0.0, 3.0), (-1.0, 9.0)])
def test_no_weights_of_logit_can_be_better(bounds: tuple[float, float], tolerances: Any) -> None:
    data = feasible(2, n_targets=6, spread=0.2)
    low, high = bounds
    calibration = calibrated(
        data, distance="logit", tolerances=tolerances, min_weight_ratio=low, max_weight_ratio=high
    )
    objective = objective_of(calibration, ratio_of(calibration))

    assert objective - dual_value_of(calibration) <= 1.1e-8 * objective
    assert (ratio_of(calibration) > low).all()
    assert (ratio_of(calibration) < high).all()


# --- Against general solvers ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_general_solver_finds_the_same_weights(distance: str, seed: int) -> None:
    """SLSQP of SciPy, on a problem with all three kinds of target and both bounds."""
    data = feasible(seed, n_records=15, n_targets=6, spread=0.2)
    targets = data.targets * np.array([1.05, 1.0, 1.01, 0.96, 1.0, 1.02])
    calibration = calibrated(
        Data(data.weights, targets, data.matrix),
        tolerances=MIXED,
        closeness=0.1,
        min_weight_ratio=0.5,
        max_weight_ratio=1.6,
        distance=distance,
    )
    columns, goal = scaled_columns(calibration), targets / calibration.problem.scales
    phi, share = distance_named(distance), share_of(calibration)

    def errors(ratio: np.ndarray) -> np.ndarray:
        return np.asarray(columns.T @ ratio - goal)

    def slope(ratio: np.ndarray) -> np.ndarray:
        importance = calibration.problem.importances
        return np.asarray(share * phi.slope(ratio) + columns @ (importance * errors(ratio)))

    found = so.minimize(
        lambda ratio: objective_of(calibration, ratio),
        np.ones(15),
        jac=slope,
        bounds=[(0.5, 1.6)] * 15,
        constraints=[
            {"type": "eq", "fun": lambda r: errors(r)[[1, 4]], "jac": lambda _: columns.T[[1, 4]]},
            {
                "type": "ineq",
                "fun": lambda r: np.r_[
                    [0.02, 0.05] - errors(r)[[2, 5]], [0.02, 0.05] + errors(r)[[2, 5]]
                ],
                "jac": lambda _: np.vstack([-columns.T[[2, 5]], columns.T[[2, 5]]]),
            },
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1_000},
    )

    assert found.success, found.message
    assert objective_of(calibration, ratio_of(calibration)) <= found.fun * (1 + 1e-7)
    assert_allclose(ratio_of(calibration), found.x, atol=2e-4)


# --- What the options do --------------------------------------------------------------------------


def test_closeness_trades_fit_for_even_weights() -> None:
    data = conflicting(2)
    fit, kish = [], []
    for closeness in (1.0, 1e-2, 1e-4, 1e-6):
        after = calibrated(data, closeness=closeness).result.statistics["after"]
        fit.append(after["rms_error"])
        kish.append(after["kish"])

    assert fit == sorted(fit, reverse=True)
    assert kish == sorted(kish, reverse=True)


def test_importance_draws_a_target_closer() -> None:
    data = conflicting(3)
    error = [
        calibrated(data, importances=[1, 1, weight, 1, 1, 1]).result.targets["error"].abs()[2]
        for weight in (0.1, 1.0, 10.0, 100.0)
    ]

    assert error == sorted(error, reverse=True)


def test_feasible_soft_targets_are_met_closely() -> None:
    assert calibrated(feasible(4)).result.targets["error"].abs().max() < 1e-3


def test_chi2_stays_nearer_in_squares_and_raking_in_entropy() -> None:
    data = feasible(5)
    ratio = {
        name: calibrated(data, tolerances=0, distance=name).weights / data.weights
        for name in ("chi2", "raking")
    }
    squares = {name: data.weights @ (r - 1) ** 2 for name, r in ratio.items()}
    entropy = {name: data.weights @ (r * np.log(r) - r + 1) for name, r in ratio.items()}

    assert squares["chi2"] < squares["raking"]
    assert entropy["raking"] < entropy["chi2"]
