"""Where the right sparsity is known, tuning finds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from microcalibrate import Problem
from microcalibrate.evaluation import target_folds
from microcalibrate.evaluation.held_out import solve_folds
from microcalibrate.hyperparameter_tuning import tune_hyperparameters

from ..problems import Data

N_PLANTED, N_STRAY, N_TARGETS, N_FOLDS = 80, 240, 18, 3
LAMBDAS = (1e-4, 3.0)


def planted(seed: int, stray_weight: float, noise: float) -> Data:
    """A quarter of all records reproduces every total but for its noise; the others are stray.

    Each stray record adds far more to some targets than to others, and what a calibration to
    some of the targets does about that is wrong for the rest. So weights are best that leave the
    stray ones out and all planted ones in: their held-out error is the noise of the totals, which
    no weights can foresee.
    """
    rng = np.random.default_rng(seed)
    weights = np.concatenate([np.full(N_PLANTED, 100.0), np.full(N_STRAY, stray_weight)])
    weights *= rng.uniform(0.9, 1.1, len(weights))
    matrix = rng.lognormal(0, 0.7, (len(weights), N_TARGETS))
    of_stray = rng.lognormal(0, 1.0, N_TARGETS)
    matrix[N_PLANTED:] *= of_stray / of_stray.mean()
    true = matrix[:N_PLANTED].T @ weights[:N_PLANTED]
    return Data(weights, true * rng.lognormal(0, noise, N_TARGETS), matrix)


def errors_of(data: Data, prices: Any, seeds: range, selection: str, fold_seed: int) -> Any:
    """Mean held-out error of each price, over folds and other draws, and records kept."""
    problem = Problem.build(data.weights, data.targets, data.matrix)
    folds = target_folds(problem, None, N_FOLDS, groups=None, seed=fold_seed)
    solved = list(solve_folds(problem, folds, selection=selection))
    refits = [
        [fold.refit(price, seed=seed) for fold in solved for seed in seeds] for price in prices
    ]
    return (
        np.array([np.mean([refit.held_out_error for refit in each]) for each in refits]),
        np.array([np.mean([refit.n_records for refit in each]) for each in refits]),
    )


def tuned_against_grid(data: Data, seed: int, selection: str, n_draws: int) -> Any:
    """Held-out error and records: of the price chosen first, then of those on a fine grid."""
    best_lambda, _ = tune_hyperparameters(
        data.weights,
        data.targets,
        data.matrix,
        *LAMBDAS,
        n_trials=16,
        n_folds=N_FOLDS,
        groups=None,
        selection=selection,
        objective="pareto",
        n_draws=n_draws,
        seed=seed,
    )
    # The seeds of these draws are none of those that the price was chosen with.
    others = range(1_000, 1_000 + n_draws)
    return errors_of(data, [best_lambda, *np.geomspace(*LAMBDAS, 20)], others, selection, seed)


@pytest.mark.parametrize("seed", range(20))
def test_stray_records_are_left_out_and_planted_ones_kept(seed: int) -> None:
    """The heavier records are the planted ones: the right price keeps just these."""
    errors, records = tuned_against_grid(planted(seed, 10.0, 0.05), seed, "top_k", 1)

    assert errors[0] <= 1.2 * errors[1:].min()
    assert errors[0] < 0.75 * errors[1], "nearly all records are kept, stray ones too"
    assert errors[0] < 0.5 * errors[-1], "few records are kept, not all of the planted ones"
    assert 0.75 * N_PLANTED < records[0] < 1.4 * N_PLANTED


@pytest.mark.parametrize("seed", range(20))
def test_draws_by_chance_keep_enough_records(seed: int) -> None:
    """Stray records weigh next to nothing: any price will do that keeps the planted ones."""
    errors, records = tuned_against_grid(planted(seed, 0.3, 0.1), seed, "closed_form", 2)

    assert errors[0] <= 1.2 * errors[1:].min()
    assert errors[0] < 0.8 * errors[-1], "few records are kept, not all of the planted ones"
    assert records[0] > 0.4 * N_PLANTED
