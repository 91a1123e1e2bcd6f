"""Records chosen where they hang together: households as a whole, and from independent parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import (
    Calibration,
    CalibrationResult,
    InvalidOption,
    evaluate_robustness,
    tune_hyperparameters,
)

RNG = np.random.default_rng(17)
N_HOMES = 120
# All numbers are such that sums and means over members are exact: ties stay ties on both roads.
SIZES = RNG.choice([1, 2, 4], N_HOMES)
# Households stand in the order in which their first member does.
HOME = pd.factorize(RNG.permutation(np.repeat(np.arange(N_HOMES), SIZES)))[0]
SIZES = np.bincount(HOME)
N = len(HOME)
DESIGN = RNG.integers(20, 60, N_HOMES).astype(float)[HOME]
MATRIX = np.column_stack(
    [np.ones(N), RNG.random((N, 2)) < 0.4, np.round(64 * RNG.lognormal(0, 0.5, N)) / 64]
)
TARGETS = MATRIX.T @ (DESIGN * RNG.uniform(0.8, 1.3, N_HOMES)[HOME])


def chosen(**options: Any) -> Calibration:
    calibration = Calibration(DESIGN, TARGETS, MATRIX, **options)
    calibration.calibrate()
    return calibration


def of_home(values: Any) -> Any:
    """Sums over the members of each household."""
    return np.stack([np.bincount(HOME, column) for column in np.atleast_2d(values.T)]).T


@pytest.mark.parametrize("choice", [{"target_records": 30}, {"l0_lambda": 0.02}])
@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_households_are_chosen_as_the_records_that_they_are(
    distance: str, choice: dict[str, Any]
) -> None:
    """Two roads: clusters of persons, and a table with a row per household."""
    options = {"distance": distance, "tolerances": 0.01, "max_weight_ratio": 4, "seed": 3, **choice}
    persons = chosen(cluster=HOME, **options)

    summed = of_home(DESIGN).ravel()
    rows = of_home(MATRIX * DESIGN[:, None]) / summed[:, None]
    homes = Calibration(summed, TARGETS, rows, **options)
    weights = homes.calibrate()
    assert_allclose(persons.weights, (weights / summed)[HOME] * DESIGN, rtol=1e-9)
    kept = homes.result.inclusion_probabilities
    assert_allclose(persons.result.inclusion_probabilities, kept[HOME], rtol=1e-9)
    assert kept.min() < 0.9
    assert 0 < (weights > 0).sum() < N_HOMES


def test_members_stay_together_and_targets_hold(tmp_path: Any) -> None:
    result = chosen(cluster=HOME, target_records=40, tolerances=0, max_weight_ratio=6).result

    home = of_home((result.weights > 0).astype(float)).ravel()
    assert_array_equal(home[home > 0], SIZES[home > 0])
    assert (home > 0).sum() == 40
    ratio = result.weights / DESIGN
    assert_array_equal(ratio, ratio[np.unique(HOME, return_index=True)[1]][HOME])
    assert_allclose(MATRIX.T @ result.weights, TARGETS, rtol=1e-9)
    assert result.history["records"].iloc[-1] == (result.weights > 0).sum()
    saved = CalibrationResult.load(result.save(tmp_path / "run"))
    assert saved.settings["n_clusters"] == N_HOMES
    assert saved.settings["target_records"] == 40


def test_bounds_on_weights_count_for_each_member() -> None:
    """They are not those of a stratum: no record may weigh more, however few are kept."""
    most = np.where(np.arange(N) % 7 == 0, 130.0, np.inf)
    least = np.where(np.arange(N) % 5 == 0, 90.0, -np.inf)
    free = chosen(cluster=HOME, target_records=50).weights
    weights = chosen(cluster=HOME, target_records=50, max_weight=most, min_weight=least).weights

    assert (free > most).any()
    assert (weights <= most).all()
    assert (weights[weights > 0] >= least[weights > 0]).all()
    ratio = weights / DESIGN
    assert_allclose(ratio, ratio[np.unique(HOME, return_index=True)[1]][HOME], rtol=1e-12)


def test_clusters_of_one_are_records() -> None:
    plain = chosen(target_records=60, max_weight=400, seed=2)
    alone = chosen(target_records=60, max_weight=400, seed=2, cluster=np.arange(N))

    assert_allclose(alone.weights, plain.weights, rtol=1e-9)


@pytest.mark.parametrize("cluster", [None, HOME])
def test_parts_solved_side_by_side_are_chosen_from_as_a_whole(cluster: Any) -> None:
    part = np.array(["a", "b", "c"])[HOME % 3]
    matrix = np.hstack([MATRIX * (part == name)[:, None] for name in "abc"])
    totals = matrix.T @ (DESIGN * RNG.uniform(0.9, 1.2, N_HOMES)[HOME])
    options: dict[str, Any] = {"cluster": cluster, "target_records": 60, "tolerances": 0.02}
    whole = Calibration(DESIGN, totals, sp.csr_array(matrix), **options)
    parts = Calibration(DESIGN, totals, sp.csr_array(matrix), partition=part, **options)

    assert_allclose(parts.calibrate(), whole.calibrate(), rtol=1e-5)
    assert (parts.parts["status"] == "CONVERGED").all()
    assert len(parts.parts) == 3


def as_homes() -> tuple[dict[str, Any], dict[str, Any]]:
    """Households as clusters of persons, and as the rows of a table."""
    summed = of_home(DESIGN).ravel()
    rows = of_home(MATRIX * DESIGN[:, None]) / summed[:, None]
    persons = {"weights": DESIGN, "targets": TARGETS, "estimate_matrix": MATRIX, "cluster": HOME}
    return persons, {"weights": summed, "targets": TARGETS, "estimate_matrix": rows}


def test_clusters_are_held_out_and_reweighted_as_the_records_that_they_are() -> None:
    persons, homes = as_homes()
    options: dict[str, Any] = {"n_folds": 2, "n_bootstrap": 2, "target_records": 40}
    untargeted = RNG.integers(0, 9, (N, 2)).astype(float)
    found = evaluate_robustness(**persons, **options, untargeted=untargeted)

    means = of_home(untargeted * DESIGN[:, None]) / homes["weights"][:, None]
    expected = evaluate_robustness(**homes, **options, untargeted=means)
    assert_allclose(list(found.values()), list(expected.values()), rtol=1e-7)
    assert_allclose(found.drift["draw_drift"], expected.drift["draw_drift"], rtol=1e-6)


def test_prices_of_clusters_are_those_of_the_records_that_they_are() -> None:
    persons, homes = as_homes()
    options: dict[str, Any] = {"n_folds": 2, "n_trials": 3, "max_weight_ratio": [4.0, 8.0]}
    _, found = tune_hyperparameters(**persons, **options)

    _, expected = tune_hyperparameters(**homes, **options)
    assert_allclose(found.trials["records"], expected.trials["records"])
    assert_allclose(found.trials["held_out_error"], expected.trials["held_out_error"], rtol=1e-7)


def test_more_clusters_than_there_are_and_frozen_ones_are_refused() -> None:
    with pytest.raises(InvalidOption, match="counts clusters"):
        Calibration(DESIGN, TARGETS, MATRIX, cluster=HOME, target_records=N_HOMES + 1)
    with pytest.raises(InvalidOption, match="some are frozen"):
        Calibration(DESIGN, TARGETS, MATRIX, cluster=HOME, l0_lambda=0.1, frozen=HOME == 0)
