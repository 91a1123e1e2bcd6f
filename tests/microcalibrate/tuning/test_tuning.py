"""Trials cost draws and refits only, see nothing of held-out targets, and repeat themselves."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from microcalibrate import (
    Calibration,
    Distance,
    InfeasibleTargets,
    InvalidOption,
    NotConvergedWarning,
    Problem,
)
from microcalibrate.engine import solving
from microcalibrate.errors import NoFinishedTrial
from microcalibrate.evaluation import fold_solve, target_folds
from microcalibrate.evaluation.fold_solve import FoldSolve
from microcalibrate.hyperparameter_tuning import tune_hyperparameters
from microcalibrate.hyperparameter_tuning.scoring import score
from microcalibrate.hyperparameter_tuning.trials import FoldSolves

from ..problems import Data, feasible, survey

DATA = survey(1, 500, 20)


def tuned(data: Data = DATA, n_trials: int = 6, **options: Any) -> Any:
    return tune_hyperparameters(
        weights=data.weights,
        targets=data.targets,
        estimate_matrix=data.matrix,
        n_trials=n_trials,
        **options,
    )[1]


def params(result: Any) -> list[dict[str, Any]]:
    return [trial.params for trial in result.study.trials]


def figures(result: Any, name: str) -> list[Any]:
    return [trial.user_attrs[name] for trial in result.study.trials]


# --- The call -------------------------------------------------------------------------------------


def test_the_call_of_the_documentation() -> None:
    data = DATA
    best_lambda, results = tune_hyperparameters(
        weights=data.weights,
        targets=data.targets,
        estimate_matrix=data.matrix,
        lambda_min=1e-4,
        lambda_max=1e-1,
        n_trials=50,
    )

    assert len(results.trials) == len(results.study.trials) == 50
    assert results.status == "finished"
    assert best_lambda == results.best_lambda == results.study.best_params["l0_lambda"]
    assert 1e-4 <= best_lambda <= 1e-1
    assert len(results.fold_errors) == 50 * 5


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_a_trial_is_what_folds_done_by_hand_give(form: Any) -> None:
    data = Data(DATA.weights, DATA.targets, form(DATA.matrix))
    result = tuned(data, 3, n_folds=4, n_draws=2, seed=7, kappa=3.0, max_weight_ratio=5.0)
    problem = Problem.build(data.weights, data.targets, data.matrix, max_weight_ratio=5.0)
    folds = target_folds(problem, None, 4, seed=7)

    for trial in result.study.trials:
        refits = [
            [
                FoldSolve(problem, fold).refit(trial.params["l0_lambda"], seed=s, kappa=3.0)
                for s in (7, 8)
            ]
            for fold in folds
        ]
        errors = [np.mean([refit.held_out_error for refit in fold]) for fold in refits]
        records = [np.mean([refit.n_records for refit in fold]) for fold in refits]
        within = [
            np.mean([np.abs(refit.errors[refit.held_out_index]) < 0.1 for refit in fold])
            for fold in refits
        ]
        assert_allclose(trial.user_attrs["held_out_errors"], errors)
        assert_allclose(trial.user_attrs["records"], records)
        assert_allclose(trial.user_attrs["within_10_percent"], within)
        assert_allclose(trial.value, score(errors, within, records, 500))
    assert result.study.user_attrs["fold_sizes"] == [len(fold) for fold in folds]


def test_a_trial_cannot_see_the_targets_of_a_fold() -> None:
    """Their totals change: its records and train errors stay as they are, to the last bit."""
    problem = Problem.build(DATA.weights, DATA.targets, DATA.matrix)
    fold = target_folds(problem, None, 5)[2]
    targets = DATA.targets.copy()
    targets[fold] *= 3.0
    calm = tuned(sampler="random")
    wild = tuned(Data(DATA.weights, targets, DATA.matrix), sampler="random")

    assert params(calm) == params(wild)
    for name in ("records", "kish", "train_errors"):
        assert [of[2] for of in figures(calm, name)] == [of[2] for of in figures(wild, name)]
        assert [of[1] for of in figures(calm, name)] != [of[1] for of in figures(wild, name)]
    errors = zip(figures(calm, "held_out_errors"), figures(wild, "held_out_errors"), strict=True)
    assert all(ours[2] != theirs[2] for ours, theirs in errors)


# --- Cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "dense_solves"),
    [
        ({}, 5),
        ({"n_folds": 3}, 3),
        ({"closeness": [1e-4, 1e-3], "max_weight_ratio": [5, None]}, 20),
    ],
)
def test_dense_solves_are_shared_by_all_trials(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], dense_solves: int
) -> None:
    calls: list[float] = []

    def counted(problem: Problem, *args: Any, **keywords: Any) -> Any:
        calls.append(keywords["closeness"])
        return solving.solve(problem, *args, **keywords)

    monkeypatch.setattr(fold_solve, "solve", counted)
    result = tuned(n_trials=12, sampler="random", **options)

    assert len(result.trials) == 12
    assert len(calls) == dense_solves


def test_other_bounds_and_closeness_share_the_matrix_of_a_fold() -> None:
    problem = Problem.build(DATA.weights, DATA.targets, DATA.matrix)
    fold = np.array([1, 4])
    first = FoldSolve(problem, fold)
    bound = np.full(500, 2.0)
    varied = first.varied(closeness=1e-2, max_ratio=bound)
    by_hand = FoldSolve(
        Problem.build(DATA.weights, DATA.targets, DATA.matrix, max_weight_ratio=2.0),
        fold,
        closeness=1e-2,
    )

    assert varied._calibrated_to.estimate_matrix is first._calibrated_to.estimate_matrix
    assert_allclose(varied.dense_weights, by_hand.dense_weights)
    assert_allclose(varied.refit(0.01).weights, by_hand.refit(0.01).weights)
    given = first.varied(closeness=1e-2, max_ratio=bound, dense=varied.dense)
    assert given.dense is varied.dense


# --- Search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("objective", ["balanced", "pareto"])
def test_the_seed_settles_all_trials(sampler: str, objective: str) -> None:
    options: dict[str, Any] = {
        "sampler": sampler,
        "objective": objective,
        "kappa": (0.1, 10.0),
        "selection": ["closed_form", "random"],
    }
    data = survey(3, 200, 10)
    runs = [tuned(data, 14, seed=seed, n_folds=2, **options) for seed in (5, 5, 6)]

    assert params(runs[0]) == params(runs[1])
    assert [t.values for t in runs[0].study.trials] == [t.values for t in runs[1].study.trials]
    assert params(runs[0]) != params(runs[2])
    # A child of the genetic one may be its parent over again.
    if sampler != "nsga2":
        assert len({tuple(each.values()) for each in params(runs[0])}) == 14
    assert set(params(runs[0])[0]) == {"l0_lambda", "kappa", "selection"}


class Constant(optuna.samplers.RandomSampler):
    """Tries one price only."""

    def sample_independent(self, *_: Any) -> float:
        return 0.02


def test_a_sampler_of_ones_own_is_used() -> None:
    result = tuned(n_trials=2, sampler=Constant())

    assert params(result) == [{"l0_lambda": 0.02}] * 2
    assert result.settings["sampler"] == "Constant"
    with pytest.raises(InvalidOption, match="GridSampler ends a study"):
        tuned(sampler=optuna.samplers.GridSampler({"l0_lambda": [0.01]}))


def test_all_trials_draw_with_the_same_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Common random numbers: what differs between trials is their options."""
    seeds: list[int] = []
    refit = FoldSolve.refit

    def noted(self: FoldSolve, *args: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return refit(self, *args, seed=seed, **options)

    monkeypatch.setattr(FoldSolve, "refit", noted)
    tuned(n_trials=2, n_folds=2, n_draws=3, seed=4)

    assert seeds == [4, 5, 6] * 4


def test_pareto_has_two_values_per_trial() -> None:
    result = tuned(n_trials=8, objective="pareto", aggregate="worst")

    for trial in result.study.trials:
        errors, records = trial.user_attrs["held_out_errors"], trial.user_attrs["records"]
        assert trial.values == [max(errors), np.mean(records)]
    assert result.best_lambda in [each["l0_lambda"] for each in params(result)]


def test_the_one_standard_error_rule_keeps_fewer_records() -> None:
    plain = tuned(n_trials=12, objective="pareto")
    sparse = tuned(n_trials=12, objective="pareto", one_standard_error=True)

    assert params(plain) == params(sparse)
    assert sparse.best["records"] < plain.best["records"]
    assert sparse.best_lambda > plain.best_lambda


def test_draws_that_cannot_meet_their_targets_are_findings() -> None:
    data = feasible(0, 200, 6)
    result = tuned(
        data,
        10,
        lambda_max=1e4,
        tolerances=0.0,
        n_folds=2,
        sampler="random",
    )
    states = {trial.state.name for trial in result.study.trials}
    pruned = [trial for trial in result.study.trials if trial.state.name == "PRUNED"]

    assert states == {"COMPLETE", "PRUNED"}
    assert all("cannot" in trial.user_attrs["infeasible"] for trial in pruned)
    assert max(t.params["l0_lambda"] for t in pruned) > result.best_lambda


def test_targets_that_never_hold_are_an_error_at_once() -> None:
    data = feasible(0, 60, 6)
    off = Data(data.weights, data.targets * 50, data.matrix)
    with pytest.raises(InfeasibleTargets):
        tuned(off, tolerances=0.0, n_folds=2, max_weight_ratio=2.0)
    with pytest.raises(NoFinishedTrial, match="cannot"):
        tuned(off, 3, tolerances=0.0, n_folds=2, max_weight_ratio=[2.0, 3.0])


def test_fewer_groups_than_folds() -> None:
    labels = [0] * 10 + [1] * 10

    assert tuned(n_trials=1, groups=labels).study.user_attrs["n_folds"] == 2
    with pytest.raises(InvalidOption, match="at most 2 folds"):
        tuned(n_trials=1, groups=labels, n_folds=3)
    with pytest.raises(InvalidOption, match="too few"):
        tuned(n_trials=1, groups=[0] * 20)


def test_families_hold_targets_out_together() -> None:
    families = ["a", "b", "c", "d"] * 5
    result = tuned(n_trials=1, groups="family", families=families)

    assert result.study.user_attrs["fold_sizes"] == [5] * 4


# --- Time and end ---------------------------------------------------------------------------------


def test_no_trial_begins_after_the_time_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    figures_of = FoldSolves.figures

    def slow(self: FoldSolves, choice: Any) -> Any:
        now[0] += 10
        return figures_of(self, choice)

    monkeypatch.setattr(FoldSolves, "figures", slow)

    assert [len(tuned(timeout=t).trials) for t in (1, 10, 25)] == [1, 1, 3]
    assert tuned(timeout=25).status == "timed out"
    assert tuned(timeout=60).status == "finished"


def interrupting(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    calls = [0]
    refit = FoldSolve.refit

    def counted(self: FoldSolve, *args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise KeyboardInterrupt
        return refit(self, *args, **options)

    monkeypatch.setattr(FoldSolve, "refit", counted)


def test_ctrl_c_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tuned()
    interrupting(monkeypatch, 17)
    result = tuned()

    assert result.status == "cancelled"
    assert [trial.state.name for trial in result.study.trials] == ["COMPLETE"] * 3 + ["FAIL"]
    assert params(result) == params(whole)[:4]
    assert "KeyboardInterrupt" in result.study.trials[-1].user_attrs["error"]


def test_ctrl_c_before_anything_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        tuned()


def test_solves_without_certificate_are_said_aloud() -> None:
    with pytest.warns(NotConvergedWarning, match="of 5 solves of the best trial have no"):
        tuned(n_trials=2, max_iter=1, max_weight_ratio=1.01)


def test_optuna_is_as_talkative_afterwards_as_before() -> None:
    heard = io.StringIO()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with redirect_stderr(heard):
        tuned(n_trials=2)

    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert heard.getvalue() == ""


def test_the_bar_counts_trials_and_shows_the_best() -> None:
    heard = io.StringIO()
    with redirect_stderr(heard):
        result = tuned(n_trials=3, progress=True)

    assert "3/3" in heard.getvalue()
    assert f"best={result.best['score']:.4f}" in heard.getvalue()


# --- Use ------------------------------------------------------------------------------------------


def test_a_distance_of_ones_own_cannot_leave_this_process() -> None:
    own = Distance(
        name="chi2",
        value=lambda r: 0.5 * (r - 1) ** 2,
        slope=lambda r: r - 1,
        curvature=np.ones_like,
        inverse_slope=lambda u: 1 + u,
    )
    with pytest.raises(InvalidOption, match="n_jobs=1"):
        tuned(distance=own, n_jobs=2)
    assert params(tuned(distance=own, n_trials=2)) == params(tuned(n_trials=2))


def test_the_best_price_calibrates() -> None:
    result = tuned()
    weights = Calibration(DATA.weights, DATA.targets, DATA.matrix, **result.best_params).calibrate(
        progress=False
    )

    assert_allclose(np.count_nonzero(weights), result.best["records"], rtol=0.1)
