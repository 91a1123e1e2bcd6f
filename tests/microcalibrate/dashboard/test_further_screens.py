"""Tune, robustness, target analysis: forms from the commands, results, and trials used again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")
pytest.importorskip("optuna")

from microcalibrate.dashboard import drafts, target_tables
from microcalibrate.dashboard.calibration_job import calibration_arguments, calibration_details
from microcalibrate.dashboard.option_schema import options_of
from microcalibrate.hyperparameter_tuning.result import TuningResult
from microcalibrate.result import CalibrationResult

COMMANDS = {
    "tune": {"trials": 5, "folds": 2, "seed": 3, "closeness": [1e-4, 1e-3], "max_ratio": [20]},
    "evaluate": {"records": 60, "folds": 2, "draws": 1, "untargeted": ["age"]},
    "targets": {},
}


@pytest.fixture(scope="module")
def runs(workspace, dataset, wait):
    """A run of each command, as its form would submit it."""
    grid = target_tables.included(drafts.read_targets(dataset))
    made = {}
    for command, values in COMMANDS.items():
        words = calibration_arguments(
            dataset, drafts.read_roles(dataset), options_of(command), values
        )
        made[command] = workspace.submit(
            command,
            words,
            f"my {command}",
            files={"targets.csv": target_tables.as_bytes(grid)},
            details=calibration_details(dataset, values),
        )
    return {command: wait(run) for command, run in made.items()}


@pytest.fixture(scope="module")
def wait():
    import time

    def over(run):
        while not run.state.is_over:
            time.sleep(0.1)
        assert run.state.value == "done", run.log_tail()
        return run

    return over


# --- Forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "command"),
    [("tune", "tune"), ("robustness", "evaluate"), ("target_analysis", "targets")],
)
def test_a_form_starts_its_command_on_the_drafted_targets(opened, empty, over, url, command):
    dataset = empty.add_upload("people.csv", [b"w,age\n1,2\n3,4\n"])
    over(dataset.run)
    drafts.write_targets(dataset, target_tables.read_text("age,15"))
    page = opened(empty, url, dataset=dataset.id)
    assert "No results yet" in page.words

    page.widget("text_input", f"{command}_name").set_value("mine")
    page.widget("button", f"start_{command}").click()
    page.tested.run()

    [run] = [each for each in empty.runs() if each.command == command]
    assert run.name == "mine"
    assert (run.folder / "targets.csv").read_text() == "name,value\nage,15.0\n"
    run.cancel()
    over(run)


def test_a_field_for_several_numbers_repeats_its_flag(opened, workspace, dataset):
    page = opened(workspace, "tune", dataset=dataset.id, view="New tuning")

    page.widget("text_input", "tune_closeness").set_value("1e-4; 1e-3")
    page.widget("text_input", "tune_kappa_range").set_value("0.5 2")
    page.widget("multiselect", "tune_selection").set_value(["top_k", "random"])
    page.run()

    [line] = [each.value for each in page.tested.code if "microcalibrate tune" in each.value]
    words = " ".join(line.replace("\\\n", " ").split())
    assert "--closeness 0.0001 --closeness 0.001" in words
    assert "--kappa-range 0.5 2.0" in words
    assert "--selection top_k --selection random" in words


def test_a_pair_with_one_number_is_refused(opened, workspace, dataset):
    page = opened(workspace, "tune", dataset=dataset.id, view="New tuning")

    page.widget("text_input", "tune_kappa_range").set_value("0.5")
    page.run()

    assert "2 numbers are needed" in page.words
    assert not [each for each in page.tested.button if each.key == "start_tune"]


def test_files_and_databases_of_the_readers_choice_are_not_offered(opened, workspace, dataset):
    page = opened(workspace, "tune", dataset=dataset.id, view="New tuning")

    keys = {each.key for each in page.tested.text_input}
    assert not {"tune_storage", "tune_study_name"} & keys


# --- Results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tab", ["Trials", "Front", "Folds", "Importance", "History", "Settings"])
def test_each_tab_of_a_tuning_is_drawn(opened, workspace, runs, tab):
    page = opened(workspace, "tune", run=runs["tune"].id, tab=tab)

    assert "5 trials of tuning over 2 folds" in page.words
    assert bool(page.tested.get("plotly_chart")) is (tab not in ("Trials", "Settings"))


def test_the_trials_are_those_of_the_study(opened, workspace, runs):
    result = TuningResult.load(runs["tune"].result_folder)
    page = opened(workspace, "tune", run=runs["tune"].id, tab="Trials")

    [shown] = page.tables
    shown = shown.set_index("number").sort_index()
    expected = pd.DataFrame(
        {
            trial.number: {"l0_lambda": trial.params["l0_lambda"], "score": trial.values[0]}
            for trial in result.study.trials
        }
    ).T
    for name in ("l0_lambda", "score"):
        assert shown[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-15)
    assert list(shown.index[shown.best]) == [result.best["number"]]
    # By hand: on the front are those that no other beats in both.
    beaten = [
        any(
            (o.held_out_error <= t.held_out_error) & (o.records <= t.records)
            and ((o.held_out_error < t.held_out_error) | (o.records < t.records))
            for o in shown.itertuples()
        )
        for t in shown.itertuples()
    ]
    assert [not each for each in beaten] == list(shown.on_front)


@pytest.mark.parametrize("tab", ["Every target", "Folds", "Targets", "Stability", "Other totals"])
def test_each_tab_of_an_evaluation_is_drawn(opened, workspace, runs, tab):
    page = opened(workspace, "robustness", run=runs["evaluate"].id, tab=tab)

    assert "3 targets held out in 2 folds" in page.words
    if tab == "Every target":
        assert set(page.tables[-1].name) == {"people/old", "people/young", "income"}


@pytest.mark.parametrize("tab", ["Every target", "Kinds", "Trouble", "Conflicts"])
def test_each_tab_of_a_target_analysis_is_drawn(opened, workspace, runs, tab):
    page = opened(workspace, "target_analysis", run=runs["targets"].id, tab=tab)

    assert "3 targets make trouble" in page.words


def test_a_run_of_another_kind_in_the_address_is_no_dead_link(opened, workspace, runs):
    page = opened(workspace, "robustness", run=runs["tune"].id)

    assert "Not here." not in page.words


# --- Use this trial -------------------------------------------------------------------------------


def test_a_trial_says_when_other_tables_were_linked(opened, workspace, dataset, runs):
    roles, tuning = drafts.read_roles(dataset), {"run": runs["tune"].id, "tab": "Trials"}
    assert "The tables have changed." not in opened(workspace, "tune", **tuning).words

    members = drafts.LinkedTable(dataset.id, dataset.name, "person", "id")
    drafts.write_roles(dataset, dataclasses.replace(roles, tables=(members,)))
    try:
        assert "The tables have changed." in opened(workspace, "tune", **tuning).words
    finally:
        drafts.write_roles(dataset, roles)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_trial_that_is_used_gives_the_same_loss(opened, workspace, dataset, runs, wait, place):
    """The calibration that the form starts has the loss that the library finds with the trial."""
    from microcalibrate import Calibration
    from microcalibrate.io import read_table

    result = TuningResult.load(runs["tune"].result_folder)
    trial = result.study.trials[place]
    page = opened(workspace, "tune", run=runs["tune"].id, tab="Trials", trial=str(place))
    page.widget("button", "use_trial").click()
    page.tested.run()

    options = options_of("calibrate")
    kept = page.tested.session_state
    values = {}
    for name in ("l0_lambda", "closeness", "max_ratio", "kappa", "seed"):
        values[name] = options[name].read(kept[f"calibrate_{name}"])
    assert values["seed"] == 3
    grid = target_tables.included(drafts.read_targets(dataset))
    run = wait(
        workspace.submit(
            "calibrate",
            calibration_arguments(dataset, drafts.read_roles(dataset), options, values),
            f"trial {place}",
            files={"targets.csv": target_tables.as_bytes(grid)},
        )
    )
    made = CalibrationResult.load(run.result_folder)
    direct = Calibration.from_table(
        read_table(dataset.table),
        read_table(run.folder / "targets.csv"),
        weight="weight",
        max_weight_ratio=20.0,
        seed=3,
        **trial.params,
    )
    direct.calibrate()

    assert np.array_equal(made.weights, direct.weights)
    assert np.mean(made.targets.error**2) == np.mean(direct.result.targets.error**2)


def test_a_trial_that_is_evaluated_has_the_same_held_out_error(
    opened, workspace, dataset, runs, wait
):
    result = TuningResult.load(runs["tune"].result_folder)
    page = opened(workspace, "tune", run=runs["tune"].id, tab="Trials")
    page.widget("button", "evaluate_trial").click()
    page.tested.run()

    options = options_of("evaluate")
    kept = page.tested.session_state
    values = {"groups": kept["evaluate_groups"] or None}
    for name in ("l0_lambda", "closeness", "max_ratio", "seed", "folds", "draws"):
        values[name] = options[name].read(kept[f"evaluate_{name}"])
    grid = target_tables.included(drafts.read_targets(dataset))
    run = wait(
        workspace.submit(
            "evaluate",
            calibration_arguments(dataset, drafts.read_roles(dataset), options, values),
            "the best trial",
            files={"targets.csv": target_tables.as_bytes(grid)},
        )
    )
    from microcalibrate.evaluation import RobustnessResult

    found = RobustnessResult.load(run.result_folder)
    assert found["mean_error"] == pytest.approx(result.best["held_out_error"], rel=1e-9)


def test_changed_targets_are_said_before_a_trial_is_used(opened, workspace, dataset, runs):
    before = drafts.read_targets(dataset)
    drafts.write_targets(dataset, before.iloc[:2])
    try:
        page = opened(workspace, "tune", run=runs["tune"].id, tab="Trials")
        assert "The targets have changed." in page.words
    finally:
        drafts.write_targets(dataset, before)
    page = opened(workspace, "tune", run=runs["tune"].id, tab="Trials")
    assert "The targets have changed." not in page.words
