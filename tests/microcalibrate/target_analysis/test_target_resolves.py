"""What dropping and loosening give: first-order figures against solves of the changed problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate.engine import loop
from microcalibrate.engine.distances import distance_named
from microcalibrate.engine.solving import solve
from microcalibrate.problem import Problem
from microcalibrate.target_analysis import solves
from microcalibrate.target_analysis.analysis import TargetAnalysis, analyse_targets
from microcalibrate.target_analysis.conflict import sensitivity_of
from microcalibrate.target_analysis.solves import Solver, without

from ..problems import Data, survey


def analysed(data: Data, **options: Any) -> TargetAnalysis:
    return analyse_targets(data.weights, data.targets, data.matrix, **options)


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_loosening_a_little_gives_what_the_first_order_says(distance: str) -> None:
    """A random sample of targets, each solved again when it is 0.1% nearer to its estimate."""
    data = survey(21, n_records=800, n_targets=24)
    disagreeing = data.targets * np.random.default_rng(1).lognormal(0, 0.5, 24)
    data = replace(data, targets=disagreeing)
    step = 1e-3
    options = {
        "distance": distance,
        "min_weight_ratio": 0.6,
        "max_weight_ratio": 1.4,
        "scales": np.abs(data.targets),
    }
    found = analysed(data, loosening=step, **options)
    table = found.table.set_index("name").loc[list(found.target_names)]
    missed = np.flatnonzero(table.error.abs() > 2 * step)
    sample = np.random.default_rng(0).choice(missed, min(10, len(missed)), replace=False)
    assert len(sample) >= 5

    for j in sample:
        nearer = data.targets.copy()
        nearer[j] += np.sign(table.error.iloc[j]) * step * abs(nearer[j])
        fall = found.objective - analysed(replace(data, targets=nearer), **options).objective
        expected = table.loosen_objective.iloc[j]
        assert_allclose(fall, expected, rtol=0.02, atol=1e-7 * found.objective)


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_a_solve_from_the_former_prices_is_the_solve_from_scratch(distance: str) -> None:
    data = survey(22, n_records=800, n_targets=20)
    problem = Problem.build(data.weights, data.targets, data.matrix, max_weight_ratio=2.0)
    solver = Solver(distance_named(distance), 1e-4, 1000)
    whole, _ = solver.feasible(problem)
    sensitivity = sensitivity_of(whole.program, whole.prices)

    for j in range(0, 20, 3):
        dropped = np.arange(20) == j
        warm = solver.dropping(whole, dropped, sensitivity)
        fresh, _ = solver.feasible(without(problem, dropped))
        assert warm.gap <= 1e-8
        assert_allclose(warm.objective, fresh.objective, rtol=1e-7)
        assert_allclose(warm.prices, fresh.prices, atol=1e-6 * np.abs(fresh.prices).max())
        assert_allclose(warm.ratio, fresh.ratio, atol=1e-4)
        assert abs(warm.prices[j]) < 1e-25


def test_prices_without_some_targets_are_exact_while_no_record_meets_a_bound() -> None:
    data = survey(26, n_records=300, n_targets=12)
    problem = Problem.build(data.weights, data.targets, data.matrix, min_weight_ratio=-np.inf)
    solver = Solver(distance_named("chi2"), 1e-2, 1000)
    whole, _ = solver.feasible(problem)
    dropped = np.isin(np.arange(12), [2, 7])

    expected, _ = solver.feasible(without(problem, dropped))

    found = sensitivity_of(whole.program, whole.prices).prices_without(dropped)
    assert_allclose(found, expected.prices, atol=1e-7 * np.abs(expected.prices).max())


def test_targets_are_dropped_in_fewer_steps_than_a_solve_from_scratch_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = survey(23, n_records=800, n_targets=20)
    steps: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        solution = solve(*arguments, **options)
        steps.append(len(solution.history))
        return solution

    monkeypatch.setattr(solves, "solve", counted)
    found = analysed(data, max_weight_ratio=1.5, n_resolve=20)

    assert len(steps) == 21
    assert np.mean(steps[1:]) <= 0.7 * steps[0]
    assert found.table.exact_drop_objective.notna().all()
    assert (found.table.exact_drop_objective >= -1e-9 * found.objective).all()


def test_where_newton_steps_do_not_arrive_the_figures_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = survey(24, n_records=600, n_targets=16)
    usual = analysed(data, max_weight_ratio=2.0, n_resolve=3).table
    monkeypatch.setattr(loop, "WARM_STEPS", 0)

    afresh = analysed(data, max_weight_ratio=2.0, n_resolve=3).table

    columns = ["exact_drop_objective", "exact_drop_mean_error"]
    assert_allclose(usual[columns], afresh[columns], rtol=1e-5, atol=1e-9)


def test_targets_with_a_band_are_dropped_too() -> None:
    data = survey(25, n_records=600, n_targets=10)
    found = analysed(data, tolerances={"target_0": 0.05, "target_9": 0.05}, n_resolve=10)

    exact, first = found.table.exact_drop_objective, found.table.drop_objective
    assert_allclose(exact, first, rtol=0.3, atol=0.05 * found.objective)
