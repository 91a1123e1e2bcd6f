"""Held-out errors are honest: nothing of a fold reaches its weights, and copies do not leak."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import (
    Calibration,
    InfeasibleTargets,
    InvalidOption,
    InvalidProblem,
    NotConvergedWarning,
    Problem,
    effective_sample_size,
)
from microcalibrate.evaluation.folds import target_folds
from microcalibrate.evaluation.held_out import FoldSolve, solve_folds
from microcalibrate.evaluation.robustness import evaluate_robustness

from ..problems import Data, feasible, survey

DATA = survey(1, 500, 20)
PROBLEM = Problem.build(DATA.weights, DATA.targets, DATA.matrix)
FOLD = np.array([2, 7, 11])
OTHERS = np.delete(np.arange(20), FOLD)
UNTARGETED = pd.DataFrame(np.random.default_rng(0).lognormal(size=(500, 6)), columns=list("abcdef"))


def evaluated(data: Data = DATA, **options: Any) -> Any:
    return evaluate_robustness(data.weights, data.targets, data.matrix, **options)


# --- No influence ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("selection", ["closed_form", "top_k", "random"])
def test_held_out_targets_have_no_influence_on_the_weights(form: Any, selection: str) -> None:
    """Their totals, columns, scales, tolerances and names change wildly: not one bit follows."""
    rng = np.random.default_rng(0)
    targets, matrix = DATA.targets.copy(), DATA.matrix.copy()
    targets[FOLD] *= [-1e6, 1e-9, 37.0]
    matrix[:, FOLD] = rng.normal(size=(500, 3)) * 1e8
    tolerances = np.full(20, np.nan)
    tolerances[FOLD] = 0
    names = [f"other {j}" if j in FOLD else f"target_{j}" for j in range(20)]
    wild = Problem.build(
        DATA.weights, targets, form(matrix), tolerances=tolerances, target_names=names
    )
    calm = Problem.build(DATA.weights, DATA.targets, form(DATA.matrix))
    solved = [FoldSolve(problem, FOLD, selection=selection) for problem in (calm, wild)]

    assert_array_equal(solved[0].dense_weights, solved[1].dense_weights)
    for budget in ({}, {"l0_lambda": 0.05}, {"target_records": 60}):
        calm_refit, wild_refit = (fold.refit(**budget, seed=3) for fold in solved)
        assert_array_equal(calm_refit.weights, wild_refit.weights)
        assert calm_refit.train_error == wild_refit.train_error
        assert calm_refit.held_out_error != wild_refit.held_out_error


@pytest.mark.parametrize(
    "budget", [{}, {"l0_lambda": 0.05}, {"target_records": 60}, {"target_records": 60, "kappa": 3}]
)
def test_a_fold_is_the_calibration_one_would_do_by_hand(budget: dict[str, Any]) -> None:
    by_hand = Calibration(
        DATA.weights, DATA.targets[OTHERS], DATA.matrix[:, OTHERS], seed=5, **budget
    )
    weights = by_hand.calibrate(progress=False)
    refit = FoldSolve(PROBLEM, FOLD).refit(**budget, seed=5)
    miss = np.minimum(np.abs(DATA.matrix.T @ weights / DATA.targets - 1), 1)

    assert_array_equal(refit.weights, weights)
    assert_allclose(refit.held_out_error, miss[FOLD].mean())
    assert_allclose(refit.train_error, miss[OTHERS].mean())
    assert refit.n_records == np.count_nonzero(weights)
    assert refit.kish == effective_sample_size(weights)


def test_options_reach_the_folds() -> None:
    options: dict[str, Any] = {
        "importances": np.arange(1.0, 21.0),
        "max_weight_ratio": 3.0,
        "distance": "raking",
        "closeness": 1e-3,
        "target_records": 80,
    }
    result = evaluated(**options, n_draws=1, seed=2, compare_with_random=False)
    out = result.targets.index[result.targets.fold == 0].to_numpy()
    kept = np.delete(np.arange(20), out)
    by_hand = Calibration(
        DATA.weights,
        DATA.targets[kept],
        DATA.matrix[:, kept],
        seed=2,
        **{**options, "importances": options["importances"][kept]},
    ).calibrate(progress=False)
    error = DATA.matrix.T @ by_hand / DATA.targets - 1

    assert_allclose(result.targets.held_out_bias[out], error[out], rtol=1e-6, atol=1e-9)
    assert result.folds.records[0] == 80


# --- Leakage --------------------------------------------------------------------------------------


def test_groups_show_the_leakage_of_copies_that_single_targets_hide() -> None:
    """Each target stands twice; its copy, calibrated to, would make it look foreseen."""
    twice = Data(DATA.weights, np.tile(DATA.targets, 2), np.hstack([DATA.matrix] * 2))
    grouped = evaluated(twice)
    leaky = evaluated(twice, groups=None, n_folds=10)
    single = evaluated(DATA)

    assert_array_equal(grouped.targets.fold[:20].to_numpy(), grouped.targets.fold[20:].to_numpy())
    assert leaky["mean_error"] < 0.2 * grouped["mean_error"]
    assert_allclose(grouped["mean_error"], single["mean_error"], rtol=0.35)
    assert "leaked" in leaky.summary()
    assert "leaked" not in grouped.summary()


# --- Figures --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result() -> Any:
    return evaluated(target_records=80, n_draws=2, n_bootstrap=3, untargeted=UNTARGETED, seed=4)


def test_figures_are_those_of_the_folds_done_one_by_one(result: Any) -> None:
    folds = target_folds(PROBLEM, None, 5, seed=4)
    refits = [
        [solved.refit(target_records=80, seed=seed) for seed in (4, 5)]
        for solved in solve_folds(PROBLEM, folds)
    ]
    held_out = np.array([[refit.held_out_error for refit in fold] for fold in refits])
    train = np.array([[refit.train_error for refit in fold] for fold in refits])

    assert_allclose(result.folds.held_out_error, held_out.mean(axis=1))
    assert_allclose(result["mean_error"], held_out.mean())
    assert_allclose(result["std_error"], held_out.mean(axis=1).std(ddof=1))
    assert_allclose(result["draw_std"], held_out.mean(axis=0).std(ddof=1))
    assert_allclose(result["train_error"], train.mean())
    assert_allclose(result["gap"], held_out.mean() - train.mean())
    assert_allclose(
        result.targets.groupby("fold").held_out_error.mean(), held_out.mean(axis=1), rtol=1e-12
    )
    for target in (0, 9):
        fold = result.targets.fold[target]
        inside = [refit.capped_errors[target] for n in range(5) if n != fold for refit in refits[n]]
        assert_allclose(result.targets.train_error[target], np.mean(inside))


def test_the_result_is_a_mapping_with_tables(result: Any) -> None:
    assert dict(result) == result.figures
    assert len(result) == len(result.figures)
    assert result["n_folds"] == len(result.folds) == 5
    assert result["records"] == 80
    assert 0 < result["weight_change"] < 1
    assert 0 <= result["train_error"] < result["mean_error"] <= result["worst_error"] <= 1
    assert len(result.draws) == 2 * 2 * 6
    assert len(result.bootstrap) == 3
    assert set(result.draws.status) == {"CONVERGED"}
    assert result.draws.held_out_error[result.draws.fold == -1].isna().all()
    assert "mean_error=" in repr(result)
    with pytest.raises(KeyError, match="mean_error"):
        result["no_such_figure"]


def test_drift_is_that_of_calibrations_by_hand(result: Any) -> None:
    dense = Calibration(DATA.weights, DATA.targets, DATA.matrix).calibrate(progress=False)
    drawn = [
        Calibration(
            DATA.weights, DATA.targets, DATA.matrix, target_records=80, seed=seed
        ).calibrate(progress=False)
        for seed in (4, 5)
    ]
    totals = UNTARGETED.to_numpy().T @ dense
    changes = np.array([UNTARGETED.to_numpy().T @ weights / totals - 1 for weights in drawn])
    drift = result.drift

    assert list(drift.variable) == list("abcdef")
    assert (changes.min(axis=0) * changes.max(axis=0) < 0).any()
    assert_allclose(drift.design_total, UNTARGETED.to_numpy().T @ DATA.weights)
    assert_allclose(drift.dense_total, totals)
    assert_allclose(drift.draw_drift, np.abs(changes).mean(axis=0))
    assert (drift[["fold_drift", "random_drift", "bootstrap_std"]] > 0).all(axis=None)


def test_the_random_sample_has_as_many_records_and_the_same_folds(result: Any) -> None:
    draws = result.draws[result.draws.fold >= 0]
    ours, random = (draws[draws.selection == kind] for kind in ("chosen", "random"))

    assert_array_equal(ours.records.to_numpy(), random.records.to_numpy())
    assert_array_equal(ours.fold.to_numpy(), random.fold.to_numpy())
    assert_array_equal(ours.seed.to_numpy(), random.seed.to_numpy())
    by_fold = random.groupby("fold").held_out_error.mean().to_numpy()
    assert_allclose(result.folds.random_error, by_fold)
    assert_allclose(result.random.mean_error, by_fold.mean())
    assert_allclose(result["random_ratio"], result["mean_error"] / by_fold.mean())
    assert_allclose(result.random.advantage, by_fold.mean() - result["mean_error"])
    assert "random" in result.summary()


def test_a_random_selection_is_no_better_than_random() -> None:
    same = evaluated(target_records=80, selection="random", n_draws=1)

    assert same.random.error_ratio == 1
    assert same.random.advantage == 0
    assert "no clear difference from random" in same.summary()


def test_the_seed_settles_everything(result: Any) -> None:
    options: dict[str, Any] = {"target_records": 80, "n_draws": 2, "untargeted": UNTARGETED}
    again = evaluated(**options, n_bootstrap=3, seed=4)
    other = evaluated(**options, n_bootstrap=3, seed=9)

    assert again.figures == result.figures
    assert again.verdict == result.verdict
    for name in ("folds", "targets", "draws", "bootstrap", "drift"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name))
    assert other.figures != result.figures


def test_dense_calibrations_have_no_draws_to_compare() -> None:
    dense = evaluated()

    assert dense.random is None
    assert "random_ratio" not in dense
    assert dense["records"] == 500
    assert len(dense.draws) == 6
    assert dense.drift.empty
    assert dense.bootstrap.empty


def test_a_result_is_saved(result: Any, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "robustness")
    saved = json.loads((folder / "robustness.json").read_text())

    assert saved["figures"] == pytest.approx(result.figures)
    assert saved["random"]["folds_won"] == result.random.folds_won
    assert tuple(saved["verdict"]) == result.verdict
    for name in ("folds", "targets", "draws", "bootstrap", "drift"):
        table = pd.read_csv(folder / f"{name}.csv")
        pd.testing.assert_frame_equal(table, getattr(result, name), check_dtype=False)
    assert evaluated().save(folder) == folder


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"n_folds": 1}, InvalidOption, "n_folds"),
        ({"n_folds": 21}, InvalidOption, "at most 20 folds"),
        ({"n_draws": 2}, InvalidOption, "l0_lambda or target_records"),
        ({"n_draws": 0, "target_records": 9}, InvalidOption, "n_draws=0"),
        ({"n_bootstrap": -1}, InvalidOption, "n_bootstrap=-1"),
        ({"seed": -1}, InvalidOption, "seed"),
        ({"l0_lambda": -1.0}, InvalidOption, "l0_lambda"),
        ({"l0_lambda": "much"}, InvalidOption, "l0_lambda"),
        ({"max_iter": 0}, InvalidOption, "max_iter"),
        ({"untargeted": np.ones((3, 1))}, InvalidProblem, "500"),
        ({"target_names": ["a"]}, InvalidProblem, "1 target names"),
        ({"selection": "best"}, InvalidOption, "closed_form"),
    ],
)
def test_bad_input_is_refused(options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        evaluated(**options)


def test_a_fold_of_all_targets_is_refused() -> None:
    with pytest.raises(InvalidOption, match="every target"):
        FoldSolve(PROBLEM, np.arange(20))


@pytest.mark.parametrize("fold", [[-1], [20], [0.5], [[0]]])
def test_positions_that_are_none_are_refused(fold: Any) -> None:
    with pytest.raises(InvalidOption, match="0 to 19"):
        FoldSolve(PROBLEM, np.array(fold))


def test_a_refit_cannot_change_the_dense_solve() -> None:
    with pytest.raises(InvalidOption, match="another FoldSolve"):
        FoldSolve(PROBLEM, FOLD).refit(closeness=1e-2)


def test_solves_without_certificate_are_said_aloud() -> None:
    with pytest.warns(NotConvergedWarning, match="6 of .* no certificate"):
        evaluated(max_iter=1, max_weight_ratio=1.01)


def test_samples_that_cannot_meet_banded_targets_are_counted(tmp_path: Path) -> None:
    options: dict[str, Any] = {"tolerances": 0.05, "max_weight_ratio": 2.0, "n_folds": 2}
    few = evaluated(feasible(0, 60, 6), **options, target_records=10, n_bootstrap=3)
    refused = few.draws[few.draws.status == "INFEASIBLE"]

    assert set(refused.selection) == {"random"}
    assert few.random.n_infeasible == len(refused) == 3
    assert refused.held_out_error.isna().all()
    assert (few.bootstrap.status == "INFEASIBLE").sum() == 2
    assert "2 of 3 reweightings" in few.summary()
    assert (few.save(tmp_path / "few") / "draws.csv").exists()


def test_a_choice_that_cannot_meet_its_targets_is_refused() -> None:
    with pytest.raises(InfeasibleTargets):
        evaluated(feasible(0, 60, 6), tolerances=0, target_records=3, n_folds=2)


def test_ctrl_c_ends_the_comparison() -> None:
    bar: Any = dataclasses.make_dataclass("Bar", [("records", int, 0)])()

    def interrupt(_step: Any) -> None:
        raise KeyboardInterrupt

    bar.show = interrupt
    with pytest.raises(KeyboardInterrupt):
        FoldSolve(PROBLEM, FOLD, bar=bar)
