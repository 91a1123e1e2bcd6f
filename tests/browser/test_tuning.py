"""A trial of a tuning, done again, gives what the tuning said of it."""

from __future__ import annotations

import pytest

from microcalibrate.jobs import RunState
from microcalibrate.reports.saved import kind_of


def result_of(run):
    return kind_of(run.result_folder).load(run.result_folder)


def test_the_best_trial_is_used_and_evaluated_with_the_same_loss(page, jobs, dataset):
    page.open("tune", dataset=dataset.id, view="New tuning")
    page.fill("tune_trials", "4")
    page.fill("tune_folds", "3")
    page.click("start_tune")
    page.shows("See what it found")
    tuning = jobs.run(page.query["run"])
    assert tuning.state is RunState.DONE
    trials = result_of(tuning).trials
    best = trials[trials.best].iloc[0]

    page.open("tune", run=tuning.id, tab="Trials")
    page.shows("Evaluate this trial")
    assert page.value("choose_trial").startswith(f"Trial {best.number}:")
    row = next(row for row in page.table("All trials") if row["trial"] == str(best.number))
    assert float(row["held out"]) == best.held_out_error
    page.click("evaluate_trial")
    page.until(lambda: page.title == "Robustness", "Robustness")
    page.click("start_evaluate")
    page.shows("See what it found")
    evaluation = result_of(jobs.run(page.query["run"]))
    assert evaluation["mean_error"] == pytest.approx(best.held_out_error, rel=1e-9)

    page.open("tune", run=tuning.id, tab="Trials")
    page.click("use_trial")
    page.until(lambda: page.title == "Settings", "Settings")
    assert float(page.value("calibrate_l0_lambda")) == pytest.approx(best.l0_lambda, rel=1e-12)
