"""What users of calibration software complained of, one test each, named for the complaint.

The packages and their threads: balance (#69, #80, #431), icarus (#12, #14, #18), svy (pull request
#85), pewmethods (#5), PopulationSim (#131, #68, #171, #221), taxdata (#371, #411), WeightIt (#33),
iterake (#4, #9), autumn (pull request #9), ipfn (#22, pull request #4), surveysd (#26).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import (
    Calibration,
    InfeasibleTargets,
    InvalidOption,
    InvalidProblem,
    NotConvergedWarning,
    Status,
    trim,
)

from ..problems import Data, calibrated, conflicting, feasible, survey

# --- Zeros ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["chi2", "raking", "hellinger"])
def test_zero_margins_are_possible(distance: str) -> None:
    """icarus #18: a margin of zero made raking fail. Here its records lose all their weight."""
    data = feasible(1, spread=0.1)
    cell = np.zeros(60)
    cell[:5] = 1
    matrix = np.column_stack([cell, np.ones(60)])
    targets = np.array([0.0, data.weights.sum()])
    calibration = Calibration(
        data.weights, targets, matrix, tolerances=[1e-6, 0.0], distance=distance
    )
    weights = calibration.calibrate(progress=False)

    assert calibration.result.converged
    assert weights[:5].sum() <= 1.001e-6 * data.weights[:5].sum()
    assert_allclose(weights.sum(), data.weights.sum(), rtol=1e-9)


def test_an_exact_zero_margin_is_exactly_zero() -> None:
    """icarus #18 and Calmar: the weights of an empty cell are zeros, not small numbers."""
    matrix = np.column_stack([np.r_[1.0, 1.0, 0.0, 0.0], np.ones(4)])
    calibration = calibrated(Data(np.full(4, 5.0), np.array([0.0, 20.0]), matrix), tolerances=0)

    assert_allclose(calibration.weights, [0, 0, 10, 10], atol=1e-12)
    assert (calibration.weights >= 0).all()


def test_a_target_without_any_record_is_refused_with_its_name() -> None:
    """taxdata and PopulationSim #188: empty zones ended in a crash or in silence."""
    matrix = pd.DataFrame({"people": [1.0, 1.0], "zone 7": [0.0, 0.0]})
    with pytest.raises(InvalidProblem, match='"zone 7"'):
        Calibration([1.0, 1.0], {"people": 3.0, "zone 7": 5.0}, matrix)


# --- Caps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber", "capped"])
@pytest.mark.parametrize("seed", range(3))
def test_a_hard_cap_is_honoured_however_infeasible_the_targets(seed: int, loss: str) -> None:
    """PopulationSim #221: the cap was 50, weights were 20 times above it."""
    data = conflicting(seed, noise=1.0)
    wild = Data(data.weights, data.targets * 50, data.matrix)
    calibration = calibrated(wild, loss=loss, max_weight_ratio=1.5, max_weight=22.0)

    assert (calibration.weights <= 1.5 * data.weights).all()
    assert calibration.weights.max() <= 22.0


def test_a_cap_is_honoured_by_the_weights_of_infeasible_exact_targets_too() -> None:
    """PopulationSim #221: what the error hands out keeps the bounds as well."""
    data = feasible(2)
    calibration = Calibration(
        data.weights, data.targets * 3, data.matrix, tolerances=0, max_weight_ratio=1.5
    )
    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    assert (caught.value.result.ratio <= 1.5).all()
    assert (caught.value.result.ratio >= 0).all()


def test_absolute_limits_on_weights() -> None:
    """PopulationSim #131: limits on the weight itself, for all records or each."""
    data = feasible(3, spread=0.2)
    most = np.where(np.arange(60) % 2, 18.0, 30.0)
    weights = calibrated(data, tolerances=0, min_weight=1.5, max_weight=most).weights

    assert weights.min() >= 1.5
    assert (weights <= most).all()


def test_the_weighted_number_stays_right_with_a_cap_and_a_minimum() -> None:
    """iterake #4, #9: the weighted number was wrong after the cap; a minimum was missing."""
    data = survey(1)
    targets, matrix = data.weights.sum(), np.ones((1_500, 1))
    weights = calibrated(
        Data(data.weights, np.array([targets]), matrix), tolerances=0, min_weight=5, max_weight=60
    ).weights

    assert_allclose(weights.sum(), targets, rtol=1e-12)
    assert weights.min() >= 5
    assert weights.max() <= 60


def test_bounded_raking_converges() -> None:
    """autumn, pull request #9: raking with bounds went round in circles."""
    data = survey(2)
    for high in (1.3, 1.6, 3.0):
        calibration = calibrated(data, distance="raking", max_weight_ratio=high)
        assert calibration.result.status is Status.CONVERGED
        assert (calibration.weights <= high * data.weights).all()


def test_trimming_does_something_and_leaves_the_base_weights_alone() -> None:
    """balance #69: trimming was ignored. svy, pull request #85: it overwrote the base weights."""
    data = survey(3)
    before = data.weights.copy()
    trimmed = trim(data.weights, data.matrix, quantile=0.95)

    assert trimmed.n_trimmed > 0
    assert trimmed.weights.max() <= trimmed.max_weight < before.max()
    assert_allclose(data.weights, before, rtol=0)


# --- Options that are ignored ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"max_weight_ratio": 1.1},
        {"min_weight_ratio": 0.9},
        {"max_weight": 15.0},
        {"min_weight": 4.0},
        {"frozen": np.arange(60) < 30},
        {"heteroscedasticity": np.linspace(0.2, 5, 60)},
        {"cluster": np.arange(60) // 3},
        {"distance": "raking"},
        {"distance": "sinh"},
        {"distance": "hellinger"},
        {"distance": "logit", "min_weight_ratio": 0.2, "max_weight_ratio": 3.0},
        {"loss": "absolute"},
        {"loss": "huber:0.01"},
        {"loss": "capped:0.01"},
        {"closeness": 1.0},
        {"importances": [1, 2, 3, 4, 5, 6]},
        {"scales": [1, 2, 3, 4, 5, 6]},
        {"tolerances": 0.2},
    ],
    ids=lambda option: "-".join(option) + str(next(iter(option.values())))[:12],
)
def test_every_option_changes_the_answer(option: dict[str, Any]) -> None:
    """svy, pull request #85: `bounded=` was accepted and ignored. None of ours is."""
    data = conflicting(4, noise=0.1) if "tolerances" not in option else feasible(4, n_targets=6)
    plain = calibrated(data, closeness=1e-2).weights
    changed = calibrated(data, **{"closeness": 1e-2} | option).weights

    assert np.abs(changed - plain).max() > 1e-3


def test_an_option_that_does_not_exist_is_an_error() -> None:
    """balance #69: an unknown or unused option passed without a word."""
    data = feasible(0)
    with pytest.raises(TypeError, match="bounded"):
        Calibration(data.weights, data.targets, data.matrix, bounded=True)  # type: ignore[call-arg]


def test_options_without_an_effect_are_errors() -> None:
    data = feasible(0)
    for option in ({"temperature": 0.5}, {"device": "cpu"}, {"loss": "huber", "tolerances": 0}):
        with pytest.raises(InvalidOption):
            Calibration(data.weights, data.targets, data.matrix, **option)  # type: ignore[arg-type]


def test_design_weights_are_not_dropped() -> None:
    """balance #431: raking took all weights of a cell as equal."""
    cell = np.repeat(np.eye(2), 3, axis=0)
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = calibrated(
        Data(weights, np.array([12.0, 30.0]), cell), tolerances=0, distance="raking"
    ).weights

    assert_allclose(found, weights * [2, 2, 2, 2, 2, 2])


# --- False convergence ----------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["chi2", "raking", "hellinger", "sinh"])
def test_a_wrong_fit_is_not_called_converged(distance: str) -> None:
    """ipfn #22, surveysd #26: "convergence reached" while margins were off by 80%."""
    columns = np.column_stack([np.r_[np.ones(30), np.zeros(30)], np.ones(60)])
    calibration = Calibration(np.ones(60), [50.0, 40.0], columns, tolerances=0, distance=distance)
    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    # Half of the people are more than all of them: together they are off by 10 of them.
    assert set(caught.value.conflict) == {"target_0", "target_1"}
    with pytest.raises(InvalidOption, match="no result"):
        _ = calibration.result


@pytest.mark.parametrize("seed", range(5))
def test_every_dimension_is_checked_not_the_last_alone(seed: int) -> None:
    """ipfn, pull request #4: only the last margin was looked at."""
    result = calibrated(feasible(seed), tolerances=0, distance="raking").result

    assert_allclose(result.targets["final"], result.targets["target"], rtol=1e-8)


def test_weights_that_are_not_finished_come_with_a_warning() -> None:
    """WeightIt #33: weights were returned without convergence, and without a word."""
    data = conflicting(0)
    calibration = Calibration(data.weights, data.targets, data.matrix, max_weight_ratio=1.1)
    with pytest.warns(NotConvergedWarning, match="gap"):
        calibration.calibrate(max_iter=1, progress=False)

    assert not calibration.result.converged


@pytest.mark.parametrize("tolerance", [0.0, 0.001, 0.03])
def test_no_target_lies_outside_its_stated_tolerance(tolerance: float) -> None:
    """taxdata #411: totals outside of the tolerances that were asked for."""
    result = calibrated(feasible(6), tolerances=tolerance, max_weight_ratio=2.0).result

    assert (result.targets["error"].abs() <= tolerance + 1e-8).all()


# --- Reasons --------------------------------------------------------------------------------------


def test_a_calibration_that_fails_gives_the_reason() -> None:
    """pewmethods #5, PopulationSim #68, taxdata #371: "failed", with no word on what."""
    data = feasible(7, n_records=30)
    targets = dict(zip("abcde", data.targets, strict=True))
    targets["b"] *= 4
    matrix = pd.DataFrame(data.matrix, columns=list("abcde"))
    with pytest.raises(InfeasibleTargets, match='"b"') as caught:
        Calibration(data.weights, targets, matrix, tolerances=0, max_weight_ratio=1.5).calibrate()

    assert "b" in caught.value.conflict
    assert 0 < caught.value.relaxation["b"] < 1
    assert "Widen" in str(caught.value)


def test_the_least_change_that_is_named_is_enough_and_no_less_is() -> None:
    """taxdata #371: which target makes it infeasible, and by how much?"""
    data = feasible(7, n_records=30)
    targets = data.targets * [1, 4, 1, 1, 1]
    with pytest.raises(InfeasibleTargets) as caught:
        Calibration(
            data.weights, targets, data.matrix, tolerances=0, max_weight_ratio=1.5
        ).calibrate()
    relaxation = caught.value.relaxation

    def solve_with(share: float) -> None:
        tolerances = [share * relaxation.get(f"target_{j}", 0.0) for j in range(5)]
        calibrated(
            Data(data.weights, targets, data.matrix), tolerances=tolerances, max_weight_ratio=1.5
        )

    solve_with(1.0 + 1e-6)
    with pytest.raises(InfeasibleTargets):
        solve_with(0.99)


@pytest.mark.parametrize("factor", [1e-4, 1e-3, 1e-2, 1e2, 1e4])
def test_the_same_inputs_converge_here_that_stall_elsewhere(factor: float) -> None:
    """icarus #14: raking converged in Calmar and not in R: starts that are far off.

    With the number of people among the targets the answer does not depend on such a factor.
    """
    data = feasible(8)
    matrix = np.column_stack([data.matrix, np.ones(60)])
    targets = matrix.T @ (data.weights * np.linspace(0.8, 1.2, 60))
    near, far = (
        calibrated(Data(weights, targets, matrix), tolerances=0, distance="raking").weights
        for weights in (data.weights, data.weights * factor)
    )

    assert_allclose(far, near, rtol=1e-6)


def test_hundreds_of_constraints_many_of_them_redundant() -> None:
    """icarus #12: with 800 to 900 constraints margins came out strange."""
    rng = np.random.default_rng(9)
    n = 3_000
    region, age = rng.integers(40, size=n), rng.integers(20, size=n)
    cells = np.eye(800)[region * 20 + age]
    matrix = np.hstack([cells, np.eye(40)[region], np.eye(20)[age], np.ones((n, 1))])
    matrix = matrix[:, matrix.any(axis=0)]
    weights = rng.uniform(50, 150, n)
    truth = weights * rng.uniform(0.8, 1.25, n)
    result = calibrated(Data(weights, matrix.T @ truth, matrix), tolerances=0).result

    assert matrix.shape[1] > 800
    assert result.targets["error"].abs().max() < 1e-8


def test_continuous_controls_beside_counts() -> None:
    """PopulationSim #171: total income as a control, not counts alone."""
    data = feasible(10)
    matrix = np.column_stack([data.matrix, 1e6 * data.matrix[:, -1] ** 2])
    targets = matrix.T @ (data.weights * np.linspace(0.8, 1.2, 60))
    result = calibrated(Data(data.weights, targets, matrix), tolerances=0).result

    assert result.targets["error"].abs().max() < 1e-8


def test_a_category_that_is_lumped_or_misspelt_is_an_error() -> None:
    """balance #80: categories were lumped together, or failed, without saying so."""
    people = pd.DataFrame({"weight": [1.0, 1.0], "region": ["north", "south"]})
    with pytest.raises(InvalidProblem, match="west"):
        Calibration.from_table(
            people, [{"name": "west", "value": 3.0, "filter": "region == 'west'"}]
        )
