"""What is said of a tuning in words: the figures, the rule, and advice that is true."""

from __future__ import annotations

import math

import optuna
import pytest

from microcalibrate.hyperparameter_tuning.result import TuningResult

from ..studies import add_finished, empty_study, random_study, study_of_three


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (1.1e-4, "lies at the lower end of the range searched (0.0001 to 0.1)"),
        (9e-2, "Raise lambda_max"),
        (3e-3, None),
    ],
)
def test_a_best_at_the_edge_asks_for_a_wider_range(price: float, words: str | None) -> None:
    study = empty_study()
    add_finished(study, price, [0.1, 0.1, 0.1], 200)

    advice = " ".join(TuningResult.from_study(study).advice())

    assert (words or "end of the range") in advice if words else "end of the range" not in advice


def test_another_option_at_its_edge_is_named() -> None:
    study = empty_study()
    add_finished(study, 0.003, [0.1, 0.1, 0.1], 200, kappa=9.9, selection="top_k")

    advice = TuningResult.from_study(study).advice()

    assert len(advice) == 1
    assert advice[0].startswith("The best kappa, 9.9, lies at the upper end")
    assert "Widen its range" in advice[0]


def test_the_summary_has_the_figures() -> None:
    said = TuningResult.from_study(study_of_three(), "timed out").summary()

    for words in (
        "3 trials (3 finished), each over 3 folds of 30 targets",
        "Best is trial 1 (lowest score): l0_lambda = 0.005",
        "Held-out error 21.00% ± 5.77% (standard error over folds)",
        "300 records (30.0%), Kish 150",
        "The one-standard-error rule would choose the same trial",
        "Time ran out before all trials were made",
    ):
        assert words in said


def test_the_summary_compares_the_choice_of_the_rule_in_the_same_folds() -> None:
    said = TuningResult.from_study(study_of_three("pareto"), "cancelled").summary()

    # Every fold is one point worse: the difference has no spread, though the folds differ.
    assert "The one-standard-error rule would choose trial 1 (l0_lambda = 0.005)" in said
    assert "its error is 1.00 ± 0.00 points higher than the best's" in said
    assert "cancelled" in said


def test_solves_without_certificate_are_told() -> None:
    study = empty_study()
    add_finished(study, 0.003, [0.1, 0.1, 0.1], 200)
    trial = study.get_trials()[0]
    attributes = trial.user_attrs | {"statuses": ["CONVERGED", "STEP_LIMIT", "STEP_LIMIT"]}
    study = empty_study()
    study.add_trial(
        optuna.create_trial(
            values=trial.values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attributes,
        )
    )

    assert "2 of 3 solves of the best trial have no certificate" in " ".join(
        TuningResult.from_study(study).advice()
    )


def test_a_single_fold_has_no_standard_error() -> None:
    result = TuningResult.from_study(random_study(5, n_folds=1))

    assert math.isnan(result.best["standard_error"])
    assert result.one_standard_error["number"] == result.best["number"]
    assert "±" not in result.summary()
