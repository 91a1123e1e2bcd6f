"""Solves that start from the prices of a nearby problem: the same answer, in fewer steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.engine.distances import CHI2, RAKING, Distance
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.errors import InfeasibleTargets, InvalidOption
from microcalibrate.evaluation.fold_solve import FoldSolve
from microcalibrate.problem import Problem
from microcalibrate.regularise.recalibration import recalibrate
from microcalibrate.result import Status

from ..problems import Data, Vector, conflicting, feasible, survey

DISTANCES = [CHI2, RAKING]
BOUNDS = [(0.0, None), (0.7, 1.4)]
KINDS = {
    "soft": np.nan,
    "exact": 0.0,
    "banded": 0.02,
    "mixed": [np.nan, 0.0, 0.02, np.nan, 0.0, 0.01],
}


def problem_of(data: Data, kind: str, bounds: tuple[float, float | None] = BOUNDS[0]) -> Problem:
    low, high = bounds
    return Problem.build(
        data.weights,
        data.targets,
        data.matrix,
        tolerances=KINDS[kind],
        min_weight_ratio=low,
        max_weight_ratio=high,
    )


def other_sample(problem: Problem, seed: int, noise: float) -> Problem:
    """The problem with design weights that random factors change."""
    factors = np.random.default_rng(seed).lognormal(0, noise, problem.n_records)
    return replace(problem, design_weights=problem.design_weights * factors)


def objective_of(problem: Problem, distance: Distance, ratio: Vector) -> float:
    """Price of distance plus half the mean squared error of soft targets."""
    soft, weights = problem.is_soft, problem.design_weights
    price = 1e-4 if soft.any() else 1.0
    errors = problem.errors(ratio * weights)[soft]
    missed = 0.5 * problem.importances[soft] @ errors**2
    return float(price * weights @ distance.value(ratio) / weights.sum() + missed)


def assert_same(problem: Problem, distance: Distance, warm: Solution, cold: Solution) -> None:
    assert warm.status is cold.status is Status.CONVERGED
    assert warm.gap <= 1e-8
    assert warm.residual <= 1e-9
    # Both lie within 1e-8 of the least objective, which grows with the square of what is off in
    # the ratios; a hard target may be missed by 1e-9, which moves the objective by its price.
    least = objective_of(problem, distance, cold.ratio)
    assert_allclose(objective_of(problem, distance, warm.ratio), least, rtol=3e-7, atol=1e-15)
    assert_allclose(warm.ratio, cold.ratio, atol=2e-3)


# --- The same answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("distance", DISTANCES, ids=lambda distance: distance.name)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1_000),
    noise=st.sampled_from([0.0, 1e-3, 0.03]),
    shift=st.sampled_from([0.0, 0.01]),
)
def test_a_warm_start_gives_the_answer_of_a_cold_one(
    distance: Distance,
    bounds: tuple[float, float | None],
    kind: str,
    seed: int,
    noise: float,
    shift: float,
) -> None:
    problem = problem_of(feasible(seed, 80, 6, 0.15), kind, bounds)
    changed = other_sample(problem, seed, noise)
    shifts = 1 + shift * np.random.default_rng(seed).uniform(-1, 1, 6)
    changed = replace(changed, targets=changed.targets * shifts)
    start = solve(problem, distance).prices
    warm = solve(changed, distance, start_prices=start)

    assert_same(changed, distance, warm, solve(changed, distance))


@pytest.mark.parametrize("size", [0.0, 1e-12, 1.0, 1e6, 1e200])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", DISTANCES, ids=lambda distance: distance.name)
def test_prices_from_far_away_lead_to_the_same_answer(
    distance: Distance, kind: str, size: float
) -> None:
    problem = problem_of(feasible(3, 80, 6), kind, (0.6, 1.5))
    start = size * np.random.default_rng(0).normal(size=6)
    cold = solve(problem, distance)

    warm = solve(problem, distance, start_prices=start)

    assert_same(problem, distance, warm, cold)
    assert len(warm.history) <= len(cold.history) + 6


@pytest.mark.parametrize("kind", ["exact", "banded"])
def test_targets_that_cannot_hold_are_found_out_from_any_start(kind: str) -> None:
    problem = problem_of(conflicting(5), kind, (0.5, 2.0))
    with pytest.raises(InfeasibleTargets) as cold:
        solve(problem, RAKING)
    for start in (np.zeros(6), cold.value.result.prices):
        with pytest.raises(InfeasibleTargets) as warm:
            solve(problem, RAKING, start_prices=start)
        assert_allclose(
            sum(warm.value.relaxation.values()), sum(cold.value.relaxation.values()), rtol=1e-5
        )


def test_a_target_without_importance_keeps_no_price() -> None:
    data = survey(4, 300, 8)
    problem = Problem.build(data.weights, data.targets, data.matrix)
    start = solve(problem, RAKING).prices
    dropped = replace(problem, importances=np.where(np.arange(8) == 2, 0.0, problem.importances))
    assert abs(start[2]) > 1e-9

    warm, cold = solve(dropped, RAKING, start_prices=start), solve(dropped, RAKING)

    assert_same(dropped, RAKING, warm, cold)
    assert len(warm.history) < len(cold.history)
    assert abs(warm.prices[2]) < 1e-25


def test_given_prices_are_left_as_they_are() -> None:
    data = feasible(1, 80, 6)
    start = recalibrate(data.weights, data.targets, data.matrix).prices
    before = start.copy()

    recalibrate(data.weights * 1.01, data.targets, data.matrix, start_prices=start)

    assert np.array_equal(start, before)


# --- Fewer steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES, ids=lambda distance: distance.name)
@pytest.mark.parametrize("kind", ["banded", "mixed"])
def test_bands_take_a_handful_of_steps_and_fewer_from_near_prices(
    distance: Distance, kind: str
) -> None:
    """Their ends are all found in one step, where the interior point method takes some twenty."""
    share = {"chi2": 1.0, "raking": 0.8}[distance.name]
    cold, warm = [], []
    for seed in range(5):
        problem = problem_of(feasible(seed, 300, 6), kind, (0.5, 2.0))
        near = other_sample(problem, seed, 0.02)
        start = solve(problem, distance).prices
        cold.append(len(solve(near, distance).history))
        warm.append(len(solve(near, distance, start_prices=start).history))
    assert max(cold) <= 6
    assert sum(warm) <= share * sum(cold)


@pytest.mark.parametrize(("bounds", "share"), [((0.0, None), 0.6), ((0.6, 1.5), 0.9)])
@pytest.mark.parametrize("distance", DISTANCES, ids=lambda distance: distance.name)
def test_targets_in_conflict_at_active_bounds_take_fewer_steps(
    distance: Distance, bounds: tuple[float, float | None], share: float
) -> None:
    """With the wide bounds plain steps arrive; with the narrow ones the interior point must."""
    cold, warm = [], []
    for seed in range(6):
        data = survey(seed, 600, 40)
        noise = np.random.default_rng(seed).lognormal(0, 0.4, 40)
        problem = problem_of(replace(data, targets=data.targets * noise), "soft", bounds)
        near = other_sample(problem, seed, 0.02)
        start = solve(problem, distance).prices
        cold.append(len(solve(near, distance).history))
        warm.append(len(solve(near, distance, start_prices=start).history))
    assert sum(warm) <= share * sum(cold)
    assert max(np.subtract(warm, cold)) <= 3


@pytest.mark.parametrize(("kind", "most"), [("exact", 0), ("banded", 1)])
def test_a_problem_solved_before_is_certified_at_once(kind: str, most: int) -> None:
    for seed in range(4):
        problem = problem_of(feasible(seed, 200, 6), kind)
        start = solve(problem, RAKING).prices
        assert len(solve(problem, RAKING, start_prices=start).history) - 1 <= most


# --- Where users meet it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prices", "what"),
    [
        (np.zeros(5), "shape"),
        (np.zeros((6, 1)), "shape"),
        (0.0, "shape"),
        ([0, 0, np.nan, 0, 0, 0], r"start_prices\[2\] is nan"),
        ([0, 0, 0, np.inf, 0, 0], r"start_prices\[3\] is inf"),
        (["a"] * 6, "numbers"),
    ],
)
def test_prices_that_are_not_one_finite_number_per_target_are_refused(
    prices: Any, what: str
) -> None:
    data = feasible(0, 60, 6)
    with pytest.raises(InvalidOption, match=what):
        solve(problem_of(data, "soft"), CHI2, start_prices=prices)
    with pytest.raises(InvalidOption, match=what):
        Calibration(data.weights, data.targets, data.matrix).calibrate(
            start_prices=prices, progress=False
        )
    with pytest.raises(InvalidOption, match=what):
        FoldSolve(problem_of(data, "soft"), np.array([1]), start_prices=prices)
    with pytest.raises(InvalidOption, match=what):
        recalibrate(data.weights, data.targets, data.matrix, start_prices=prices)


def test_a_calibration_starts_from_the_prices_of_its_result() -> None:
    data = feasible(6, 200, 6)
    options = {"tolerances": 0.01, "distance": "raking"}
    cold = Calibration(data.weights, data.targets, data.matrix, **options)
    cold.calibrate(progress=False)
    warm = Calibration(data.weights, data.targets, data.matrix, **options)

    weights = warm.calibrate(start_prices=cold.result.targets["price"], progress=False)

    assert_allclose(weights, cold.weights, rtol=1e-4)
    assert len(warm.result.history) <= len(cold.result.history) / 2


def test_a_fold_starts_from_the_prices_of_the_whole_problem() -> None:
    data = feasible(7, 300, 6)
    problem = problem_of(data, "exact")
    whole = FoldSolve(problem, np.array([], dtype=np.int64))
    fold = np.array([1, 4])
    cold = FoldSolve(problem, fold)

    warm = FoldSolve(problem, fold, start_prices=whole.dense.prices)

    assert_allclose(warm.dense_weights, cold.dense_weights, rtol=1e-4)
    kept = np.delete(np.arange(6), fold)
    part = Data(data.weights, data.targets[kept], data.matrix[:, kept])
    expected = solve(problem_of(part, "exact"), CHI2).prices
    for dense in (warm.dense, cold.dense):
        assert dense.prices is not None
        assert_allclose(dense.prices[kept], expected, atol=1e-6 * np.abs(expected).max())
        assert not dense.prices[fold].any()


@pytest.mark.parametrize("tolerance", [np.nan, 0.0, 0.02])
@pytest.mark.parametrize("has_cap", [False, True])
def test_recalibration_from_former_prices_takes_fewer_steps(
    tolerance: float, has_cap: bool
) -> None:
    data = feasible(8, 400, 8, 0.8)
    cap = float(np.quantile(data.weights, 0.97)) if has_cap else None
    options: dict[str, Any] = {"tolerances": tolerance, "cap": cap}
    former = recalibrate(data.weights, data.targets, data.matrix, **options)
    prior = data.weights * np.random.default_rng(0).lognormal(0, 0.002, 400)
    cold = recalibrate(prior, data.targets, data.matrix, **options)

    warm = recalibrate(prior, data.targets, data.matrix, start_prices=former.prices, **options)

    assert warm.n_steps < cold.n_steps
    assert warm.gap <= 1e-8
    assert warm.max_bound_violation <= 1e-9
    assert_allclose(warm.weights, cold.weights, rtol=2e-4)
    assert_allclose(warm.objective, cold.objective, rtol=1e-7)
