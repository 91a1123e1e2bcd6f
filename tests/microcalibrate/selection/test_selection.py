"""Which records stay: exact counts, the probabilities' optimality, and draws that honour them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import Calibration
from microcalibrate.problem import Problem
from microcalibrate.selection.drawing import (
    SELECTIONS,
    Budget,
    Draw,
    count_for,
    gate_sizes,
    record_contributions,
)

from ..problems import Data, calibrated, feasible, survey

DATA = survey(0)
N_RECORDS = len(DATA.weights)


def capped_error(calibration: Calibration) -> float:
    return calibration.result.statistics["after"]["capped_error"]


# --- The closed form ------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerances", [None, [np.nan, 0.0, np.nan], 0.0])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_contributions_give_the_expected_loss_of_independent_gates(
    storage: Any, tolerances: Any
) -> None:
    """Added up over all 2**5 states of five gates, with importances of the soft targets."""
    data = feasible(0, n_records=5, n_targets=3)
    problem = Problem.build(
        data.weights,
        data.targets,
        storage(data.matrix),
        importances=[1.0, 2.0, 5.0],
        tolerances=tolerances,
    )
    # A hard target, which has no importance of its own, counts as an average one.
    soft = problem.is_soft
    importance = np.where(soft, problem.importances * soft.mean(), 1 / 3)
    chance = np.array([0.2, 0.9, 0.5, 1.0, 0.7])
    expected = 0.0
    for gates in itertools.product([0.0, 1.0], repeat=5):
        gate = np.array(gates)
        probability = np.prod(np.where(gate == 1, chance, 1 - chance))
        error = problem.errors(data.weights * gate / chance)
        expected += probability * (importance @ error**2)

    spread = data.weights**2 * record_contributions(problem) * (1 / chance - 1)

    assert_allclose(
        importance @ problem.errors(data.weights) ** 2 + spread.sum(), expected, rtol=1e-12
    )


@pytest.mark.parametrize("kappa", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("l0_lambda", [1e-4, 1e-2, 1.0])
def test_the_count_is_that_of_the_best_probabilities(l0_lambda: float, kappa: float) -> None:
    """Found anew: each probability minimises its share of expected loss plus price of a record."""
    problem = Problem.build(DATA.weights, DATA.targets, DATA.matrix)
    contribution = record_contributions(problem)
    cost = DATA.weights**2 * (contribution + kappa * np.median(contribution))
    best = [
        so.minimize_scalar(
            lambda log_p, c=c: c * np.exp(-log_p) + l0_lambda / N_RECORDS * np.exp(log_p),
            bounds=(-25, 0),
            method="bounded",
            options={"xatol": 1e-9},
        ).x
        for c in cost
    ]

    sizes = gate_sizes(problem, DATA.weights, kappa)
    count = count_for(problem, sizes, Budget(None, l0_lambda, kappa))

    assert abs(count - np.exp(best).sum()) <= 0.51


def test_draws_honour_their_probabilities() -> None:
    """Monte Carlo: a record is kept as often as its probability says, so totals are unbiased."""
    data = survey(3, 60, 8)
    problem = Problem.build(data.weights, data.targets, data.matrix)
    budget = Budget(20, 0.0, 1.0)
    n_draws = 1_500
    kept, totals = np.zeros(60), np.zeros(8)
    for seed in range(n_draws):
        draw = SELECTIONS["closed_form"](problem, data.weights, budget, seed)
        kept[draw.record_index] += 1 / n_draws
        totals += data.matrix[draw.record_index].T @ draw.start_weights / n_draws
    chance = draw.probabilities
    error = np.sqrt(chance * (1 - chance) / n_draws)

    assert_allclose(chance.sum(), 20, rtol=1e-9)
    assert (np.abs(kept - chance) <= 4.5 * error + 1e-9).all()
    assert_allclose(totals, data.matrix.T @ data.weights, rtol=0.05)


def test_a_draw_along_neighbours_is_tighter_than_an_independent_one() -> None:
    """Estimates of the targets before any refit: less spread than the gates' own formula says."""
    data = survey(4, 800, 16)
    problem = Problem.build(data.weights, data.matrix.T @ data.weights, data.matrix)
    budget = Budget(150, 0.0, 1.0)
    losses = []
    for seed in range(40):
        draw = SELECTIONS["closed_form"](problem, data.weights, budget, seed)
        weights = np.zeros(800)
        weights[draw.record_index] = draw.start_weights
        losses.append(np.mean(problem.errors(weights) ** 2))
    chance = draw.probabilities
    independent = (data.weights**2 * record_contributions(problem) * (1 / chance - 1)).sum()

    assert np.mean(losses) < 0.8 * independent


# --- Exact counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", sorted(SELECTIONS))
@pytest.mark.parametrize("target_records", [1, 37, 400, N_RECORDS])
def test_exactly_as_many_records_as_asked(target_records: int, selection: str) -> None:
    calibration = calibrated(DATA, target_records=target_records, selection=selection)
    weights = calibration.weights

    assert np.count_nonzero(weights) == target_records
    assert (weights >= 0).all()
    assert calibration.result.statistics["after"]["records"] == target_records
    assert_allclose(calibration.result.inclusion_probabilities.sum(), target_records, rtol=1e-6)


@pytest.mark.parametrize("selection", sorted(SELECTIONS))
def test_never_more_records_than_asked_where_few_have_weight(selection: str) -> None:
    """A dense solve that pushes records to zero leaves fewer than the count: those are taken."""
    data = survey(5, 300, 30)
    weights = data.weights.copy()
    weights[100:] = 0
    calibration = calibrated(
        Data(weights, data.targets, data.matrix),
        target_records=100,
        selection=selection,
        closeness=1e-8,
    )
    kept = np.flatnonzero(calibration.weights)

    assert 1 <= len(kept) <= 100
    assert kept.max() < 100


@pytest.mark.parametrize("selection", sorted(SELECTIONS))
@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_no_survivor_is_tiny(distance: str, selection: str) -> None:
    """Each ends with at least 5% of what the draw gave it."""
    dense = calibrated(DATA, distance=distance).weights
    calibration = calibrated(DATA, target_records=60, selection=selection, distance=distance)
    problem = calibration.problem
    draw = SELECTIONS[selection](problem, dense, Budget(60, 0.0, 1.0), 0)
    weights = calibration.weights

    assert_array_equal(np.flatnonzero(weights), draw.record_index)
    assert (weights[draw.record_index] >= 0.05 * draw.start_weights * (1 - 1e-12)).all()


def test_bounds_count_from_the_whole_stratum() -> None:
    """A record kept with chance pi stands for d / pi: bounds hold relative to that."""
    options = {"target_records": 200, "min_weight_ratio": 0.5, "max_weight_ratio": 1.5}
    calibration = calibrated(DATA, **options)
    kept = calibration.weights > 0
    stratum = DATA.weights[kept] / calibration.result.inclusion_probabilities[kept]
    ratio = calibration.weights[kept] / stratum

    assert ratio.min() >= 0.5 * (1 - 1e-12)
    assert ratio.max() <= 1.5 * (1 + 1e-12)


def test_a_cap_holds_wherever_a_draw_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw may start a record far above its cap; it may not stay there."""

    def far_above(problem: Problem, weights: Any, _budget: Budget, _seed: int) -> Draw:
        kept = np.arange(200)
        return Draw(kept, 100 * weights[kept].clip(1.0), np.ones(problem.n_records))

    monkeypatch.setitem(SELECTIONS, "random", far_above)
    calibration = calibrated(DATA, target_records=200, selection="random", max_weight_ratio=1.2)

    assert (calibration.weights <= 1.2 * DATA.weights * (1 + 1e-12)).all()


def test_exact_targets_are_exact_on_few_records() -> None:
    data = feasible(2, n_records=500, n_targets=6)
    calibration = calibrated(data, target_records=60, tolerances=0)

    assert_allclose(calibration.result.targets["final"], data.targets, rtol=1e-9)
    assert np.count_nonzero(calibration.weights) == 60


def test_a_refit_is_the_dense_solve_of_what_was_drawn() -> None:
    """Two roads: the refit inside `calibrate`, and a fresh calibration of the survivors."""
    options: dict[str, Any] = {"target_records": 120, "max_weight_ratio": 4.0}
    dense = calibrated(DATA, max_weight_ratio=4.0).weights
    calibration = calibrated(DATA, **options)
    kept = calibration.weights > 0
    chance = calibration.result.inclusion_probabilities[kept]
    start = dense[kept] / chance
    unit = DATA.weights[kept] / chance / start

    again = calibrated(
        Data(start, DATA.targets, DATA.matrix[kept]),
        closeness=1e-3,
        min_weight_ratio=0.05,
        max_weight_ratio=np.maximum(4.0 * unit, 0.05),
    )

    assert_allclose(calibration.weights[kept], again.weights, rtol=1e-5)


# --- The price of records -------------------------------------------------------------------------


def test_a_price_of_zero_keeps_all_records() -> None:
    weights = calibrated(DATA).weights

    assert_array_equal(calibrated(DATA, l0_lambda=0).weights, weights)
    assert np.count_nonzero(weights) > 0.95 * N_RECORDS


def test_a_higher_price_keeps_fewer_records() -> None:
    prices = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 100.0]
    kept = [np.count_nonzero(calibrated(DATA, l0_lambda=price).weights) for price in prices]

    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.9 * N_RECORDS
    assert 0 < kept[-1] < 0.1 * N_RECORDS


def test_a_higher_kappa_keeps_start_weights_more_even() -> None:
    problem = Problem.build(DATA.weights, DATA.targets, DATA.matrix)
    spread = []
    for kappa in (0.0, 1.0, 100.0, 1e12):
        draw = SELECTIONS["closed_form"](problem, DATA.weights, Budget(150, 0.0, kappa), 0)
        spread.append(draw.start_weights.std() / draw.start_weights.mean())

    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 0.2
    assert spread[-1] < 1e-4


# --- Seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", [*sorted(SELECTIONS), "sampled_gates"])
def test_a_seed_repeats_to_the_last_bit(selection: str) -> None:
    data = survey(6, 300, 10)
    options: dict[str, Any] = {"target_records": 50, "selection": selection, "seed": 5}

    assert_array_equal(calibrated(data, **options).weights, calibrated(data, **options).weights)


@pytest.mark.parametrize("selection", ["closed_form", "random"])
def test_another_seed_draws_other_records(selection: str) -> None:
    drawn = {
        tuple(
            np.flatnonzero(
                calibrated(DATA, target_records=50, seed=seed, selection=selection).weights
            )
        )
        for seed in range(5)
    }

    assert len(drawn) == 5


# --- Quality --------------------------------------------------------------------------------------


def test_closed_form_draws_fit_better_than_random_ones() -> None:
    errors = {
        selection: np.mean(
            [
                capped_error(calibrated(DATA, target_records=100, selection=selection, seed=seed))
                for seed in range(5)
            ]
        )
        for selection in ("closed_form", "random")
    }

    assert errors["closed_form"] < 0.6 * errors["random"]


def test_sampled_gates_fit_better_than_design_weights() -> None:
    data = survey(7, 200, 12)
    far = data.targets * np.random.default_rng(7).lognormal(0.3, 0.2, 12)
    calibration = calibrated(
        Data(data.weights, far, data.matrix), target_records=60, selection="sampled_gates"
    )
    statistics = calibration.result.statistics

    assert np.count_nonzero(calibration.weights) == 60
    assert statistics["after"]["capped_error"] < 0.3 * statistics["before"]["capped_error"]


def test_sampled_gates_take_a_price_and_a_temperature() -> None:
    data = survey(7, 200, 12)
    options: dict[str, Any] = {"selection": "sampled_gates", "temperature": 0.3, "device": "cpu"}
    kept = [
        np.count_nonzero(calibrated(data, l0_lambda=price, **options).weights)
        for price in (1e-2, 1.0)
    ]

    assert 200 > kept[0] > kept[1] > 0


@pytest.mark.parametrize("selection", sorted(SELECTIONS))
def test_dense_and_sparse_matrices_keep_the_same_records(selection: str) -> None:
    data = survey(8, 400, 20)
    options: dict[str, Any] = {"target_records": 80, "selection": selection}
    wanted = calibrated(data, **options).weights

    found = calibrated(Data(data.weights, data.targets, sp.csr_array(data.matrix)), **options)

    assert_array_equal(found.weights > 0, wanted > 0)
    assert_allclose(found.weights, wanted, rtol=1e-5)
