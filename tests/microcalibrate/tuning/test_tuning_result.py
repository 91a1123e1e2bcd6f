"""What a tuning says of its study: tables, the best, the front, and advice that is true."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from microcalibrate.errors import InvalidOption, NoFinishedTrial, UnreadableFile, UnwritableFile
from microcalibrate.hyperparameter_tuning.result import TuningResult
from microcalibrate.hyperparameter_tuning.tables import FIGURES

from ..studies import add_finished, add_unfinished, empty_study, random_study, study_of_three


def with_unfinished(study: optuna.Study) -> optuna.Study:
    add_unfinished(study, TrialState.RUNNING)
    add_unfinished(study, TrialState.WAITING)
    add_unfinished(study, TrialState.PRUNED, infeasible='"rent" cannot hold.')
    add_unfinished(study, TrialState.FAIL, error="=1+1")
    return study


def test_figures_of_a_trial_are_those_of_its_folds() -> None:
    result = TuningResult.from_study(study_of_three())

    first = result.trials.iloc[0]
    assert_allclose(first.held_out_error, 0.2)
    assert_allclose(first.standard_error, 0.1 / math.sqrt(3))
    assert_allclose(first.gap, 0.19)
    assert_allclose(first.score, 0.2 + 0.1 * 0.5 + 0.1 * 0.8)
    assert (first.records, first.kish, first.seed, first.state) == (800, 400, 7, "COMPLETE")
    folds = result.fold_errors
    assert len(folds) == 9
    assert list(folds[folds.number == 1].held_out_error) == [0.11, 0.21, 0.31]


@pytest.mark.parametrize(
    ("how", "error", "within"), [("mean", 0.2, 0.6), ("median", 0.1, 0.7), ("worst", 0.4, 0.3)]
)
def test_folds_are_aggregated_as_was_asked(how: str, error: float, within: float) -> None:
    study = empty_study(aggregate=how)
    add_finished(study, 0.01, [0.1, 0.1, 0.4], 200, within=[0.8, 0.7, 0.3])

    best = TuningResult.from_study(study).best

    assert_allclose(best["held_out_error"], error)
    # The worst share within 10% is the smallest.
    assert_allclose(best["within_10_percent"], within)


def test_the_balanced_best_has_the_lowest_score() -> None:
    result = TuningResult.from_study(study_of_three())

    assert result.best["number"] == result.lowest["number"] == 1
    assert result.best_lambda == 0.005
    assert result.best_params == {"l0_lambda": 0.005}
    assert list(result.trials.best) == [False, True, False]
    assert result.best["score"] == result.trials.score.min() == result.study.best_value


def test_the_best_of_the_front_has_the_smallest_error() -> None:
    result = TuningResult.from_study(study_of_three("pareto"))

    assert result.best["number"] == 0
    # From there the rule goes to fewer records, since 0.21 is within 0.2 ± 0.058.
    assert result.one_standard_error["number"] == 1
    assert TuningResult.from_study(study_of_three("pareto", one_standard_error=True)).best == (
        result.one_standard_error
    )


def test_the_rule_starts_from_the_lowest_score() -> None:
    study = empty_study(one_standard_error=True)
    # The second has the lowest score; the third is within its standard error of 0.115.
    add_finished(study, 0.001, [0.20, 0.20, 0.20], 900)
    add_finished(study, 0.010, [0.05, 0.25, 0.45], 200)
    add_finished(study, 0.050, [0.32, 0.32, 0.32], 100)

    result = TuningResult.from_study(study)

    assert result.lowest["number"] == 1
    assert result.best["number"] == 2


@pytest.mark.parametrize("objective", ["balanced", "pareto"])
def test_trials_without_figures_are_shown_and_never_chosen(objective: str) -> None:
    alone = TuningResult.from_study(study_of_three(objective))
    result = TuningResult.from_study(with_unfinished(study_of_three(objective)))

    states = ["RUNNING", "WAITING", "PRUNED", "FAIL"]
    assert list(result.trials.state) == ["COMPLETE"] * 3 + states
    rest = result.trials[3:]
    assert rest[list(FIGURES)].isna().all(axis=None)
    assert not rest[["best", "on_front"]].any(axis=None)
    assert result.best == alone.best
    assert list(rest.infeasible) == ["", "", '"rent" cannot hold.', ""]
    assert "1 pruned" in result.summary()
    assert "1 trial could not meet the exact and banded targets" in result.summary()


def test_the_front_is_sorted_and_falls() -> None:
    result = TuningResult.from_study(random_study(60))

    front = result.front
    assert list(front.number) == list(
        result.trials[result.trials.on_front].sort_values("records").number
    )
    assert np.all(np.diff(front.records) > 0)
    assert np.all(np.diff(front.held_out_error) < 0)
    assert result.trials.held_out_error.min() == front.held_out_error.min()
    assert result.trials.records.min() == front.records.min()


def test_the_front_is_that_of_optuna() -> None:
    result = TuningResult.from_study(random_study(60, "pareto"))

    assert set(result.front.number) == {trial.number for trial in result.study.best_trials}


@pytest.mark.parametrize(
    ("state", "attributes", "words"),
    [
        (None, {}, "none begun"),
        (TrialState.RUNNING, {}, "1 running.*same storage"),
        (TrialState.PRUNED, {"infeasible": '"rent" cannot hold.'}, '"rent" cannot hold. Lower l0'),
        (TrialState.FAIL, {"error": "out of memory."}, "1 failed.*out of memory"),
    ],
)
def test_a_study_without_a_finished_trial_says_why(
    state: TrialState | None, attributes: dict[str, str], words: str
) -> None:
    study = empty_study()
    if state is not None:
        add_unfinished(study, state, **attributes)

    with pytest.raises(NoFinishedTrial, match=words):
        TuningResult.from_study(study)


def test_studies_of_something_else_are_refused() -> None:
    with pytest.raises(InvalidOption, match="format None"):
        TuningResult.from_study(optuna.create_study())
    half = optuna.create_study()
    half.set_user_attr("format", "microcalibrate.tuning/1")
    with pytest.raises(InvalidOption, match="lacks 'objective'"):
        TuningResult.from_study(half)
    with pytest.raises(InvalidOption, match="status='done'"):
        TuningResult.from_study(study_of_three(), "done")


@pytest.mark.parametrize(
    "change",
    [{"held_out_errors": [0.1]}, {"records": None}, {"statuses": "CONVERGED"}, {"seconds": ...}],
)
def test_trials_of_something_else_are_refused(change: dict[str, Any]) -> None:
    study = study_of_three()
    other = study.get_trials()[0]
    kept = {**other.user_attrs, **change}
    attributes = {name: value for name, value in kept.items() if value is not ...}
    study.add_trial(
        optuna.create_trial(
            values=other.values,
            params=other.params,
            distributions=other.distributions,
            user_attrs=attributes,
        )
    )

    with pytest.raises(InvalidOption, match="trial 3 of the study"):
        TuningResult.from_study(study)


def test_settings_hold_objective_and_options_side_by_side() -> None:
    settings = TuningResult.from_study(study_of_three()).settings

    assert settings["objective"] == "balanced"
    assert settings["closeness"] == 1e-4
    assert "settings" not in settings


# --- Importance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["balanced", "pareto"])
def test_what_matters_comes_first(objective: str) -> None:
    shares = TuningResult.from_study(random_study(60, objective)).importances()

    assert next(iter(shares)) == "l0_lambda"
    assert shares["l0_lambda"] > 0.6
    assert_allclose(sum(shares.values()), 1)


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (lambda: study_of_three(), "only l0_lambda was searched"),
        (lambda: random_study(19), "19 trials finished, and 20 are needed"),
    ],
)
def test_importance_that_is_not_known_says_why(study: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        TuningResult.from_study(study()).importances()


def test_equal_trials_have_no_importance() -> None:
    study = empty_study()
    for kappa in np.linspace(0.2, 5, 25):
        add_finished(study, 0.01, [0.1, 0.2, 0.3], 200, kappa=float(kappa))

    with pytest.raises(InvalidOption, match="equally good"):
        TuningResult.from_study(study).importances()


# --- Files and storages ---------------------------------------------------------------------------


def same(one: TuningResult, other: TuningResult) -> None:
    pd.testing.assert_frame_equal(one.trials, other.trials)
    pd.testing.assert_frame_equal(one.fold_errors, other.fold_errors)
    assert (one.best, one.lowest, one.settings) == (other.best, other.lowest, other.settings)
    assert [trial.distributions for trial in one.study.trials] == [
        trial.distributions for trial in other.study.trials
    ]


@pytest.mark.parametrize("objective", ["balanced", "pareto"])
def test_a_saved_tuning_comes_back_whole(tmp_path: Path, objective: str) -> None:
    result = TuningResult.from_study(with_unfinished(random_study(30, objective)), "timed out")

    assert result.save(tmp_path / "run") == tmp_path / "run"
    again = TuningResult.load(tmp_path / "run")

    same(again, result)
    assert again.status == "timed out"
    assert again.summary() == result.summary()
    assert again.importances() == result.importances()


def test_the_tables_are_files_that_spreadsheets_open(tmp_path: Path) -> None:
    result = TuningResult.from_study(with_unfinished(random_study(30)))
    folder = result.save(tmp_path / "run")

    trials, front = pd.read_csv(folder / "trials.csv"), pd.read_csv(folder / "front.csv")
    assert_allclose(trials.score[:30], result.trials.score[:30].astype(float))
    assert list(front.number) == list(result.front.number)
    assert len(pd.read_csv(folder / "folds.csv")) == 90
    with (folder / "trials.csv").open(encoding="utf-8") as file:
        assert [row["error"] for row in csv.DictReader(file)][-1] == "'=1+1"
    values = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    assert values["format"] == "microcalibrate.tuning/1"
    assert values["best"]["l0_lambda"] == result.best_lambda


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    folder = TuningResult.from_study(random_study(3, n_folds=1)).save(tmp_path / "run")

    values = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    assert values["best"]["standard_error"] is None


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UnwritableFile):
        TuningResult.from_study(study_of_three()).save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "microcalibrate.tuning/9"}, "format 'microcalibrate.tuning/9'"),
        ({"status": None}, "not complete"),
        ({"study": {"name": "x"}}, "not complete: 'directions'"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = TuningResult.from_study(study_of_three()).save(tmp_path / "run") / "tuning.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change))

    with pytest.raises(UnreadableFile, match=words):
        TuningResult.load(tmp_path / "run")


def test_a_storage_is_read_while_its_study_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "study.log"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = study_of_three(storage=storage, study_name="here")
    with_unfinished(study)
    capfd.readouterr()

    result = TuningResult.load(journal, "here")

    same(result, TuningResult.from_study(study))
    assert result.status == "loaded"
    # The only study needs no name.
    assert TuningResult.load(storage).best == result.best
    assert capfd.readouterr().err == ""
    with pytest.raises(InvalidOption, match=r"'there' is not one study.*'here'"):
        TuningResult.load(journal, "there")


def test_a_storage_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="nothing of that name"):
        TuningResult.load(tmp_path / "study.log")
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_study(tmp_path: Path) -> None:
    TuningResult.from_study(study_of_three()).save(tmp_path / "run")

    with pytest.raises(InvalidOption, match="study_name='x' is for a storage"):
        TuningResult.load(tmp_path / "run", "x")
