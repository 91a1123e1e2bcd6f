"""Targets that must hold: exact, banded, mixed with soft ones; and those that cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.testing import assert_allclose

from microcalibrate import Calibration, InfeasibleTargets
from microcalibrate.engine.distances import distance_named
from microcalibrate.engine.dual_newton import DualNewton
from microcalibrate.engine.solving import solve
from microcalibrate.problem import Problem

from ..problems import Data, calibrated, conflicting, feasible, objective_of, ratio_of

DISTANCES = ["chi2", "raking"]
# Soft, exact and banded targets next to each other.
MIXED = [np.nan, 0.0, 0.02, np.nan, 0.0, 0.05]

# --- Soft, banded and exact targets ---------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_price_of_a_soft_target_is_importance_times_error(distance: str) -> None:
    calibration = calibrated(
        conflicting(4), distance=distance, importances=[1, 2, 3, 1, 0.5, 2], max_weight_ratio=5
    )
    table = calibration.result.targets

    assert_allclose(table["importance"], np.array([1, 2, 3, 1, 0.5, 2]) / 9.5)
    assert table["error"].abs().max() > 0.01
    assert_allclose(table["price"], table["importance"] * table["error"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_price_is_the_slope_of_the_objective(distance: str) -> None:
    """Raising an exact target by a step changes the least distance by minus price times step."""
    data = feasible(6)
    prices = calibrated(data, tolerances=0, distance=distance).result.targets["price"]
    for target in range(len(data.targets)):
        step = 1e-4 * data.targets[target]
        least = []
        for sign in (1, -1):
            targets = data.targets.copy()
            targets[target] += sign * step
            moved = calibrated(
                Data(data.weights, targets, data.matrix),
                tolerances=0,
                distance=distance,
                scales=data.targets,
            )
            least.append(objective_of(moved, ratio_of(moved)))

        assert_allclose((least[0] - least[1]) / 2e-4, -prices[target], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("tolerance", [0.001, 0.05, 0.3])
def test_a_banded_target_stays_in_its_band_and_is_free_inside(
    tolerance: float, distance: str
) -> None:
    data = feasible(8, spread=0.4)
    table = calibrated(data, tolerances=tolerance, distance=distance).result.targets
    error, price = table["error"].to_numpy(), table["price"].to_numpy()
    at_edge = np.abs(error) > tolerance * (1 - 1e-4)

    assert (np.abs(error) <= tolerance + 1e-9).all()
    assert_allclose(price[~at_edge], 0, atol=1e-12 + 1e-5 * np.abs(price).max())
    # A target at the upper edge is held down: raising its estimate would lower the distance.
    assert (price[at_edge] * error[at_edge] >= -1e-9).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", range(3))
def test_soft_banded_and_exact_targets_in_one_problem(seed: int, distance: str) -> None:
    data = feasible(seed, n_targets=6)
    targets = data.targets * np.array([1.05, 1.0, 1.01, 0.96, 1.0, 1.02])
    calibration = calibrated(
        Data(data.weights, targets, data.matrix),
        tolerances=dict(
            zip(["target_1", "target_2", "target_4", "target_5"], [0, 0.02, 0, 0.05], strict=True)
        ),
        distance=distance,
    )
    table = calibration.result.targets

    assert_allclose(table["tolerance"], MIXED)
    assert (table["error"].abs()[[1, 4]] <= 1e-9).all()
    assert (table["error"].abs()[[2, 5]] <= np.array([0.02, 0.05]) + 1e-9).all()
    assert_allclose(table["importance"], [0.5, 0, 0, 0.5, 0, 0])
    soft = table["tolerance"].isna()
    assert_allclose(table["price"][soft], 0.5 * table["error"][soft], rtol=1e-5, atol=1e-9)


def test_a_soft_target_of_no_importance_changes_nothing() -> None:
    data = feasible(9)
    kept = [0, 1, 2, 3]
    without = calibrated(Data(data.weights, data.targets[kept], data.matrix[:, kept]))
    targets = data.targets * np.array([1, 1, 1, 1, 9.0])
    with_it = calibrated(Data(data.weights, targets, data.matrix), importances=[1, 1, 1, 1, 0])

    assert_allclose(with_it.weights, without.weights, rtol=1e-6)


# --- Infeasible targets ---------------------------------------------------------------------------


def least_relaxation(data: Data, tolerances: np.ndarray, low: float, high: float) -> np.ndarray:
    """Least sum of relative misses beyond the tolerances, by linear programming; per target."""
    n_records, n_targets = data.matrix.shape
    scale = np.abs(data.targets)
    columns = (data.matrix * data.weights[:, None] / scale).T
    limits = np.r_[np.sign(data.targets) + tolerances, -np.sign(data.targets) + tolerances]
    eye = np.eye(n_targets)
    found = so.linprog(
        np.r_[np.zeros(n_records), np.ones(n_targets)],
        A_ub=np.block([[columns, -eye], [-columns, -eye]]),
        b_ub=limits,
        bounds=[(low, high)] * n_records + [(0, None)] * n_targets,
    )
    assert found.success
    return np.asarray(found.x[n_records:])


def test_a_total_and_its_parts_that_disagree_are_named() -> None:
    """Women 40 and men 40, but 100 people: the cheapest mend is 20% fewer people."""
    weights = np.ones(40)
    women = np.repeat([1.0, 0.0], 20)
    income = np.linspace(1, 5, 40)
    matrix = np.column_stack([women, 1 - women, np.ones(40), income])
    calibration = Calibration(
        weights,
        [40, 40, 100, 250],
        matrix,
        target_names=["women", "men", "people", "income"],
        tolerances=0,
    )

    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    assert set(caught.value.conflict) == {"women", "men", "people"}
    assert set(caught.value.relaxation) == {"people"}
    assert_allclose(caught.value.relaxation["people"], 0.2, rtol=1e-6)
    assert '"people"' in str(caught.value)
    assert "income" not in str(caught.value)


def test_a_bound_that_cannot_reach_a_target_is_found() -> None:
    """At most twice the weight: 10 records of weight 1 give 20, and 25 are asked for."""
    matrix = np.column_stack([np.repeat([1.0, 0.0], 10), np.repeat([0.0, 1.0], 10)])
    calibration = Calibration(
        np.ones(20),
        {"north": 25.0, "south": 12.0},
        matrix,
        target_names=["north", "south"],
        tolerances={"north": 0.05, "south": 0.0},
        max_weight_ratio=2,
    )

    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    assert caught.value.conflict == ("north",)
    assert set(caught.value.relaxation) == {"north"}
    # Missed by 5 of 25, and 5% of that was allowed.
    assert_allclose(caught.value.relaxation["north"], 0.15, rtol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", range(6))
def test_the_relaxation_is_the_least_there_is(seed: int, distance: str) -> None:
    data = conflicting(seed, n_records=40)
    tolerances = np.where(np.arange(6) % 2, 0.0, 0.01)
    wanted = least_relaxation(data, tolerances, 0.5, 2.0)
    assert wanted.sum() > 1e-3
    calibration = Calibration(
        data.weights,
        data.targets,
        data.matrix,
        tolerances=tolerances,
        min_weight_ratio=0.5,
        max_weight_ratio=2,
        distance=distance,
    )

    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    names = calibration.problem.target_names
    found = np.array([caught.value.relaxation.get(name, 0.0) for name in names])
    assert_allclose(found.sum(), wanted.sum(), rtol=1e-4)
    assert set(caught.value.relaxation) <= set(caught.value.conflict)


def test_the_relaxation_is_the_least_where_numbers_run_over_many_orders() -> None:
    """Columns from 1e-5 to 1e5 and weights alike: a high price of misses is out of digits here."""
    rng = np.random.default_rng(211)
    n_records, n_targets = int(rng.integers(3, 120)), int(rng.integers(2, 12))
    weights = rng.lognormal(0, rng.choice([0.1, 1, 4]), n_records) * 10 ** rng.uniform(-6, 6)
    matrix = rng.lognormal(0, rng.choice([0.5, 1.5]), (n_records, n_targets))
    matrix *= rng.random(matrix.shape) < rng.choice([0.1, 0.5, 1])
    rng.random()
    matrix *= rng.choice([-1, 1], matrix.shape)
    rng.random()
    matrix[:, -1] = matrix[:, 0] + matrix[:, 1]
    matrix *= 10 ** rng.uniform(-5, 5, n_targets)
    rng.integers(7), rng.integers(4)
    targets = matrix.T @ (weights * rng.lognormal(0, 0.3, n_records))
    targets[rng.integers(n_targets)] *= rng.choice([0, 3.0, -1, 0.2])
    calibration = Calibration(
        weights,
        targets,
        matrix,
        tolerances=[0.2, 0.0, np.nan, 0.01, 0.01, 0.0],
        closeness=2.677e-5,
        distance="raking",
    )

    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    # By SciPy's linear programming, with each record's column scaled to 1.
    assert_allclose(sum(caught.value.relaxation.values()), 0.6864738, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_with_the_relaxation_granted_the_targets_can_be_met(seed: int) -> None:
    data = conflicting(seed, n_records=40)
    names = [f"t{number}" for number in range(6)]
    options: dict[str, Any] = {"target_names": names, "max_weight_ratio": 3}
    with pytest.raises(InfeasibleTargets) as caught:
        Calibration(data.weights, data.targets, data.matrix, tolerances=0, **options).calibrate(
            progress=False
        )
    granted = {name: 1.001 * caught.value.relaxation.get(name, 0.0) for name in names}

    table = calibrated(data, tolerances=granted, **options).result.targets

    assert (table["error"].abs() <= table["tolerance"] + 1e-9).all()


def test_the_weights_of_the_relaxed_problem_come_with_the_error() -> None:
    """They keep their bounds, and miss each target by its relaxation."""
    data = conflicting(1)
    problem = Problem.build(
        data.weights, data.targets, data.matrix, tolerances=0, max_weight_ratio=3
    )
    with pytest.raises(InfeasibleTargets) as caught:
        solve(problem, distance_named("chi2"))
    ratio = caught.value.result.ratio
    relaxation = [caught.value.relaxation.get(name, 0.0) for name in problem.target_names]

    assert ((ratio >= 0) & (ratio <= 3)).all()
    assert_allclose(np.abs(problem.errors(ratio * data.weights)), relaxation, atol=1e-7)


@pytest.mark.parametrize("distance", DISTANCES)
def test_targets_at_the_edge_of_what_bounds_allow_are_feasible(distance: str) -> None:
    """All records must sit on their upper bound: feasible, but nothing is left inside."""
    data = feasible(12, n_records=30)
    targets = 1.5 * data.matrix.T @ data.weights
    calibration = calibrated(
        Data(data.weights, targets, data.matrix),
        tolerances=0,
        max_weight_ratio=1.5,
        distance=distance,
    )

    assert_allclose(calibration.weights, 1.5 * data.weights, rtol=1e-6)


def test_collinear_targets_that_agree_are_no_conflict() -> None:
    data = feasible(13)
    matrix = np.column_stack([data.matrix, data.matrix[:, 0] + 2 * data.matrix[:, 3]])
    targets = np.append(data.targets, data.targets[0] + 2 * data.targets[3])

    calibration = calibrated(Data(data.weights, targets, matrix), tolerances=0)

    assert_allclose(calibration.result.targets["final"], targets, rtol=1e-9)
    assert_allclose(calibration.weights, calibrated(data, tolerances=0).weights, rtol=1e-8)


@pytest.mark.parametrize("tolerances", [0.002, [0.001, np.nan, 0, np.nan, 0.002]])
def test_no_weight_lingers_beside_a_bound(
    tolerances: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where steps stay inside the bounds, weights still end on them, not a hair off."""
    monkeypatch.setattr(DualNewton, "step", lambda _: False)
    data = feasible(21, n_records=200, spread=0.9)
    low, high = 0.85, 1.12
    calibration = calibrated(
        data, tolerances=tolerances, min_weight_ratio=low, max_weight_ratio=high
    )
    ratio = calibration.weights / data.weights

    assert "interior point" in set(calibration.result.history["method"])
    off = np.minimum(np.abs(ratio - low), np.abs(ratio - high))
    assert (off < 1e-14).sum() > 10
    assert not ((off > 1e-14) & (off < 1e-7)).any()
