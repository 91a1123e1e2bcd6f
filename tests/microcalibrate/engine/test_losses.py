"""Losses of soft targets: their optimality conditions, and what they do to targets in conflict."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.testing import assert_allclose

from microcalibrate import Calibration, InvalidOption, Status, analyse_targets
from microcalibrate.engine.distances import CHI2, RAKING
from microcalibrate.engine.losses import (
    ABSOLUTE,
    LOSSES,
    SQUARED,
    Loss,
    capped,
    huber,
    loss_named,
)
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.problem import Problem

from ..problems import Data, calibrated, conflicting, feasible, survey

CONVEX = [SQUARED, ABSOLUTE, huber(0.05), huber(1.0)]


def problem_of(data: Data, **options: Any) -> Problem:
    return Problem.build(data.weights, data.targets, data.matrix, **options)


def objective(problem: Problem, ratio: np.ndarray, loss: Loss, closeness: float) -> float:
    share = problem.design_weights / problem.design_weights.sum()
    errors = problem.errors(ratio * problem.design_weights)
    soft = problem.is_soft
    distance = closeness * share @ CHI2.value(ratio)
    return float(distance + problem.importances[soft] @ loss.value(errors[soft]))


def errors_of(problem: Problem, solution: Solution) -> np.ndarray:
    return problem.errors(solution.ratio * problem.design_weights)


# --- The losses themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_a_loss_is_even_and_grows_with_the_error(loss: Loss) -> None:
    errors = np.linspace(0, 3, 301)

    assert_allclose(loss.value(-errors), loss.value(errors))
    assert loss.value(np.zeros(1)) == 0
    assert (np.diff(loss.value(errors)) >= 0).all()


def test_huber_is_squares_within_its_bend_and_straight_beyond() -> None:
    loss = huber(0.2)

    assert_allclose(loss.value(np.array([0.1, 0.2])), [0.005, 0.02])
    assert_allclose(np.diff(loss.value(np.array([0.2, 1.2, 2.2]))), 0.2)


@pytest.mark.parametrize(
    "name", ["squares", "huber:", "huber:-1", "huber:x", "squared:2", "capped:0", 3, None]
)
def test_an_unknown_loss_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(InvalidOption, match=r"squared.*absolute|positive number"):
        loss_named(name)


@pytest.mark.parametrize("name", ["squared", "absolute", "huber:0.25", "capped:2"])
def test_a_loss_is_written_as_it_is_given(name: str) -> None:
    assert str(loss_named(name)) == name
    assert loss_named(loss_named(name)) == loss_named(name)


# --- Optima ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", CONVEX, ids=str)
@pytest.mark.parametrize("distance", [CHI2, RAKING], ids=lambda d: d.name)
@pytest.mark.parametrize("seed", range(3))
def test_prices_are_slopes_of_the_loss(seed: int, distance: Any, loss: Loss) -> None:
    """The optimality conditions: of each target, and of each ratio inside its bounds."""
    problem = problem_of(conflicting(seed), max_weight_ratio=4.0, importances=[1, 2, 1, 5, 1, 1])
    solution = solve(problem, distance, loss=loss, closeness=1e-3, tolerance=1e-10)
    error, price, importance = errors_of(problem, solution), solution.prices, problem.importances

    assert solution.status is Status.CONVERGED
    assert (np.abs(price) <= importance * min(loss.most_slope, np.inf) * (1 + 1e-9)).all()
    bent = np.abs(error) > loss.bend + 1e-6
    assert_allclose(
        price[bent], importance[bent] * loss.most_slope * np.sign(error[bent]), rtol=1e-6
    )
    if loss.bend > 0:
        assert_allclose(price[~bent], importance[~bent] * error[~bent], atol=1e-7)
    inside = (solution.ratio > 1e-3) & (solution.ratio < 4 - 1e-3)
    share = 1e-3 * problem.design_weights / problem.design_weights.sum()
    columns = problem.estimate_matrix * problem.design_weights[:, None] / problem.scales
    slope = share * distance.slope(np.maximum(solution.ratio, 1e-300)) + columns @ price
    assert_allclose(slope[inside] / share[inside], 0, atol=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_absolute_errors_are_the_least_that_a_linear_program_finds(seed: int) -> None:
    problem = problem_of(conflicting(seed), min_weight_ratio=0.5, max_weight_ratio=2.0)
    solution = solve(problem, CHI2, loss=ABSOLUTE, closeness=1e-9)
    columns = problem.estimate_matrix * problem.design_weights[:, None] / problem.scales
    n, m = columns.shape
    goal = problem.targets / problem.scales
    least = so.linprog(
        np.r_[np.zeros(n), np.full(2 * m, 1 / m)],
        A_eq=np.hstack([columns.T, -np.eye(m), np.eye(m)]),
        b_eq=goal,
        bounds=[(0.5, 2.0)] * n + [(0, None)] * (2 * m),
    )

    assert_allclose(np.abs(errors_of(problem, solution)).mean(), least.fun, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_general_solver_finds_the_same_huber_optimum(seed: int) -> None:
    loss = huber(0.05)
    problem = problem_of(conflicting(seed, n_records=20), max_weight_ratio=3.0)
    solution = solve(problem, CHI2, loss=loss, closeness=0.01)
    found = so.minimize(
        lambda ratio: objective(problem, ratio, loss, 0.01),
        np.ones(20),
        bounds=[(0, 3)] * 20,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5_000, "maxfun": 200_000},
    )

    assert objective(problem, solution.ratio, loss, 0.01) <= found.fun * (1 + 1e-7)


def test_huber_with_a_far_bend_is_least_squares() -> None:
    problem = problem_of(conflicting(1), max_weight_ratio=5.0)
    far, squared = (
        solve(problem, CHI2, loss=loss, closeness=0.01, tolerance=1e-12)
        for loss in (huber(1e3), SQUARED)
    )

    assert_allclose(far.ratio, squared.ratio, atol=1e-5)


def test_soft_losses_stand_beside_exact_and_banded_targets() -> None:
    data = feasible(3, n_targets=6, spread=0.2)
    tolerances = [np.nan, 0.0, 0.02, np.nan, 0.0, 0.05]
    targets = data.targets * np.array([3.0, 1.0, 1.01, 0.2, 1.0, 1.02])
    problem = Problem.build(
        data.weights, targets, data.matrix, tolerances=tolerances, max_weight_ratio=2.0
    )
    for loss in (ABSOLUTE, huber(0.05)):
        solution = solve(problem, CHI2, loss=loss, closeness=1e-3)
        error = errors_of(problem, solution)
        assert solution.status is Status.CONVERGED
        assert_allclose(error[[1, 4]], 0, atol=1e-8)
        assert (np.abs(error[[2, 5]]) <= np.array([0.02, 0.05]) + 1e-8).all()
        assert (np.abs(error[[0, 3]]) > 1e-3).any()


def test_a_target_of_no_importance_has_no_price() -> None:
    problem = problem_of(conflicting(2), importances=[1, 1, 0, 1, 1, 1])
    for loss in (ABSOLUTE, huber(0.05), capped(0.3)):
        assert abs(solve(problem, CHI2, loss=loss, closeness=1e-3).prices[2]) < 1e-12


@pytest.mark.parametrize("loss", CONVEX, ids=str)
def test_records_that_are_held_leave_targets_their_prices(loss: Loss) -> None:
    """What a soft target would gain is the same whether a record cannot move or hardly can."""
    data = conflicting(2)
    held, nearly = (
        solve(problem_of(data, **bounds), CHI2, loss=loss)
        for bounds in (
            {"frozen": np.ones(len(data.weights), dtype=bool)},
            {"min_weight_ratio": 1 - 1e-9, "max_weight_ratio": 1 + 1e-9},
        )
    )

    assert np.abs(held.prices).max() > 0
    assert_allclose(held.prices, nearly.prices, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("loss", [ABSOLUTE, huber(0.05)], ids=str)
def test_prices_of_before_lead_to_the_same_answer_in_fewer_steps(loss: Loss) -> None:
    data = survey(2)
    problem = problem_of(data, max_weight_ratio=3.0)
    cold = solve(problem, CHI2, loss=loss, closeness=1e-3)
    moved = dataclasses.replace(problem, targets=problem.targets * 1.002)
    fresh = solve(moved, CHI2, loss=loss, closeness=1e-3)
    warm = solve(moved, CHI2, loss=loss, closeness=1e-3, start_prices=cold.prices)

    assert_allclose(warm.ratio, fresh.ratio, atol=1e-4)
    assert len(warm.history) <= len(fresh.history)


# --- The capped loss ------------------------------------------------------------------------------


def hopeless(seed: int) -> tuple[Data, list[int]]:
    """A feasible problem to which two targets are added that nothing can meet."""
    data = survey(seed, n_records=400, n_targets=20)
    targets = data.targets.copy()
    targets[[3, 15]] *= [40.0, 25.0]
    return Data(data.weights, targets, data.matrix), [3, 15]


@pytest.mark.parametrize("seed", range(3))
def test_hopeless_targets_are_left_alone_and_the_others_are_met(seed: int) -> None:
    data, lost = hopeless(seed)
    problem = problem_of(data, max_weight_ratio=5.0)
    by_cap, by_size = (
        solve(problem, CHI2, loss=loss, closeness=1e-3) for loss in (capped(0.5), ABSOLUTE)
    )
    others = np.delete(np.arange(20), lost)

    assert by_cap.status is Status.STATIONARY
    assert (np.abs(errors_of(problem, by_cap)[lost]) > 0.5).all()
    assert np.abs(errors_of(problem, by_cap)[others]).max() < 0.01
    assert objective(problem, by_cap.ratio, capped(0.5), 1e-3) <= objective(
        problem, by_size.ratio, capped(0.5), 1e-3
    )
    assert_allclose(by_cap.prices[lost], 0, atol=1e-20)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_near_is_better_under_the_cap(seed: int) -> None:
    problem = problem_of(conflicting(seed, noise=0.6), max_weight_ratio=3.0)
    loss = capped(0.2)
    solution = solve(problem, CHI2, loss=loss, closeness=1e-3)
    best = objective(problem, solution.ratio, loss, 1e-3)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-4):
        for _ in range(200):
            near = np.clip(solution.ratio + size * rng.normal(size=60), 0, 3)
            assert objective(problem, near, loss, 1e-3) >= best - 1e-9


def test_what_is_certified_is_said() -> None:
    """A capped loss claims no global optimum, and still counts as a finished solve."""
    data = conflicting(0)
    calibration = calibrated(data, loss="capped:0.2", max_weight_ratio=3.0)
    result = calibration.result

    assert result.status is Status.STATIONARY
    assert "cannot be ruled out" in result.summary()
    assert result.settings["loss"] == "capped:0.2"
    assert (result.history["step"].diff().dropna() == 1).all()
    assert result.gap <= 1e-8


def test_a_capped_solve_that_is_cut_short_is_no_stationary_point() -> None:
    problem = problem_of(conflicting(0), max_weight_ratio=1.1)

    assert solve(problem, CHI2, loss=capped(0.2), max_iter=2).status is Status.STEP_LIMIT


# --- Options that cannot be honoured --------------------------------------------------------------


def test_a_loss_without_soft_targets_is_refused() -> None:
    data = feasible(0)
    with pytest.raises(InvalidOption, match="none is soft"):
        Calibration(data.weights, data.targets, data.matrix, tolerances=0, loss="absolute")


def test_gates_that_are_trained_on_squares_refuse_another_loss() -> None:
    data = feasible(0)
    with pytest.raises(InvalidOption, match="squared errors"):
        Calibration(
            data.weights, data.targets, data.matrix, 0.01, selection="sampled_gates", loss="huber"
        )


def test_an_analysis_of_squares_refuses_a_result_of_another_loss() -> None:
    data = conflicting(0)
    result = calibrated(data, loss="absolute").result
    with pytest.raises(InvalidOption, match="absolute"):
        analyse_targets(data.weights, data.targets, data.matrix, result=result)


def test_records_are_chosen_and_refitted_under_any_loss() -> None:
    data = survey(1, n_records=300, n_targets=10)
    calibration = calibrated(data, loss="absolute", target_records=60, max_weight_ratio=20.0)

    assert (calibration.weights > 0).sum() == 60
    assert calibration.result.targets["error"].abs().max() < 0.05
