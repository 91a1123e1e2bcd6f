"""What an Optuna study of tuning holds, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from microcalibrate.errors import InvalidOption
from microcalibrate.hyperparameter_tuning.scoring import (
    ScoreWeights,
    aggregated,
    score,
    standard_error,
)

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study
    from optuna.trial import FrozenTrial

FORMAT = "microcalibrate.tuning/1"

BALANCED, PARETO = OBJECTIVES = ("balanced", "pareto")
"""One score with weights, or held-out error against records."""

STUDY_ATTRIBUTES = ("objective", "aggregate", "score_weights", "n_records", "n_targets", "n_folds")
"""What the attributes of a study must hold for its trials to be read."""

FOLD_FIGURES = {
    "held_out_errors": "held_out_error",
    "train_errors": "train_error",
    "within_10_percent": "within_10_percent",
    "records": "records",
    "kish": "kish",
}
"""Attribute of a finished trial, with one number per fold, and its column in the table of folds."""

TRIAL_ATTRIBUTES = (*FOLD_FIGURES, "statuses", "seconds", "seed", "infeasible", "error")

FIGURES = (
    "score",
    "held_out_error",
    "standard_error",
    "train_error",
    "gap",
    "within_10_percent",
    "records",
    "kish",
    "seconds",
)
"""Columns of the table of trials that are numbers, NaN for trials that did not finish."""

FOLD_COLUMNS = ("number", "fold", *FOLD_FIGURES.values(), "status")


def load_optuna() -> Any:
    """Optuna, imported where it is used: it takes longer than the rest of the package."""
    import optuna

    return optuna


def checked_attributes(study: Study) -> dict[str, Any]:
    """Attributes of a study, if it is one of tuning in the format of this version.

    Raises:
        InvalidOption: If it is none, or lacks an attribute.
    """
    attributes = dict(study.user_attrs)
    found = attributes.pop("format", None)
    if found != FORMAT:
        raise InvalidOption(
            f'the study "{study.study_name}" has format {found!r}, not {FORMAT!r}: it was not '
            "written by this version of tune_hyperparameters. Name another study."
        )
    if missing := [name for name in STUDY_ATTRIBUTES if name not in attributes]:
        raise InvalidOption(
            f'the study "{study.study_name}" lacks {missing[0]!r}: its first process was stopped '
            "before it began. Tune again under another name."
        )
    return attributes


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial has figures."""
    return trial.state.name == "COMPLETE"


def trials_table(study: Study) -> pd.DataFrame:
    """One row per trial of any state: number, state, parameters, and figures of finished ones.

    Raises:
        InvalidOption: If the study is not one of tuning, or a finished trial lacks its figures.
    """
    import pandas as pd

    attributes = checked_attributes(study)
    trials = study.get_trials(deepcopy=False)
    names = dict.fromkeys(["l0_lambda", *(name for trial in trials for name in trial.params)])
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            **{name: trial.params.get(name) for name in names},
            **dict.fromkeys(FIGURES, math.nan),
            **(_figures(trial, study, attributes) if is_finished(trial) else {}),
            "seed": trial.user_attrs.get("seed"),
            "infeasible": str(trial.user_attrs.get("infeasible", "")),
            "error": str(trial.user_attrs.get("error", "")),
        }
        for trial in trials
    ]
    columns = ["number", "state", *names, *FIGURES, "seed", "infeasible", "error"]
    table = pd.DataFrame(rows, columns=columns)
    # Missing values must turn neither numbers into objects nor seeds into fractions.
    types = {name: "float64" for name in ("l0_lambda", *FIGURES)} | {"seed": "Int64"}
    return table.astype(types)


def folds_table(study: Study) -> pd.DataFrame:
    """One row per finished trial and fold.

    Raises:
        InvalidOption: If the study is not one of tuning, or a finished trial lacks its figures.
    """
    import pandas as pd

    n_folds = checked_attributes(study)["n_folds"]
    rows = []
    for trial in filter(is_finished, study.get_trials(deepcopy=False)):
        own = _checked_trial(trial, study, n_folds)
        for fold in range(n_folds):
            figures = {column: float(own[name][fold]) for name, column in FOLD_FIGURES.items()}
            status = str(own["statuses"][fold])
            rows.append({"number": trial.number, "fold": fold, **figures, "status": status})
    return pd.DataFrame(rows, columns=list(FOLD_COLUMNS))


def _figures(trial: FrozenTrial, study: Study, attributes: Mapping[str, Any]) -> dict[str, float]:
    """Figures of a finished trial over its folds; see the columns of `FIGURES`."""
    own = _checked_trial(trial, study, attributes["n_folds"])
    how = attributes["aggregate"]
    held_out, within = own["held_out_errors"], own["within_10_percent"]
    error, train = aggregated(held_out, how), aggregated(own["train_errors"], how)
    if attributes["objective"] == BALANCED:
        value = float(trial.values[0])
    else:
        weights = ScoreWeights.of(attributes["score_weights"])
        value = score(held_out, within, own["records"], attributes["n_records"], weights, how)
    return {
        "score": value,
        "held_out_error": error,
        "standard_error": standard_error(held_out),
        "train_error": train,
        "gap": error - train,
        "within_10_percent": 1 - aggregated([1 - share for share in within], how),
        "records": aggregated(own["records"], "mean"),
        "kish": aggregated(own["kish"], "mean"),
        "seconds": float(own["seconds"]),
    }


def _checked_trial(trial: FrozenTrial, study: Study, n_folds: int) -> dict[str, Any]:
    own = trial.user_attrs
    for name in (*FOLD_FIGURES, "statuses"):
        if not isinstance(own.get(name), (list, tuple)) or len(own[name]) != n_folds:
            raise InvalidOption(
                f'trial {trial.number} of the study "{study.study_name}" has {name}='
                f"{own.get(name)!r}, not one value for each of {n_folds} folds: something else "
                "than tune_hyperparameters wrote it. Give that a study of its own."
            )
    if "l0_lambda" not in trial.params or "seconds" not in own:
        raise InvalidOption(
            f'trial {trial.number} of the study "{study.study_name}" has no l0_lambda or no '
            "seconds: something else than tune_hyperparameters wrote it. Give that a study of "
            "its own."
        )
    return own
