"""A trial of a tuning as values of the forms of a calibration and of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from microcalibrate.figures.plotting import percent

if TYPE_CHECKING:
    from microcalibrate.hyperparameter_tuning.result import TuningResult

# What the forms call the options of the library; the others have the same name.
_FIELDS = {"max_weight_ratio": "max_ratio", "min_weight_ratio": "min_ratio"}
# Defaults of the library, which a form leaves blank.
_DEFAULTS: dict[str, Any] = {
    "min_ratio": 0.0,
    "distance": "chi2",
    "loss": "squared",
    "max_iter": 1000,
}
_FIXED = (
    "kappa",
    "closeness",
    "refit_closeness",
    "max_weight_ratio",
    "selection",
    "min_weight_ratio",
    "distance",
    "loss",
)
_OF_GATES = ("temperature", "device")
# Of these the tuning keeps no number: they became part of its problem.
_ENTERED = ("tolerance", "max_weight", "min_weight", "heteroscedasticity", "cluster")


def named(trial: Mapping[Any, Any]) -> str:
    """A trial in a few words.

    Args:
        trial: Its row in the table of trials.
    """
    marks = [word for name, word in (("best", "chosen"), ("on_front", "on front")) if trial[name]]
    mark = f" · {marks[0]}" if marks else ""
    return (
        f"Trial {trial['number']}: {percent(trial['held_out_error'])} held out, "
        f"{trial['records']:,.0f} records{mark}"
    )


def calibration_values(
    result: TuningResult, number: int, entered: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of the form of a calibration with the options and the seed of a trial.

    Args:
        result: The tuning.
        number: Of the trial.
        entered: What the form of the tuning said, for what the tuning itself did not see.
    """
    settings = result.settings
    options: dict[str, Any] = {name: settings.get(name) for name in _FIXED}
    options |= result.study.get_trials(deepcopy=False)[number].params
    values = {_FIELDS.get(name, name): value for name, value in options.items()}
    values["max_iter"] = settings.get("max_iter")
    if values["selection"] == "sampled_gates":
        values |= {name: settings.get(name) for name in _OF_GATES}
    values = {name: each for name, each in values.items() if each != _DEFAULTS.get(name)}
    values |= {name: entered.get(name) for name in _ENTERED}
    values["seed"] = settings["seed"] or None
    return {name: value for name, value in values.items() if value is not None}


def evaluation_values(
    result: TuningResult, number: int, entered: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of the form of an evaluation in the same folds as a trial."""
    settings = result.settings
    groups = settings.get("groups")
    return {
        **calibration_values(result, number, entered),
        "folds": settings["n_folds"],
        "draws": settings["n_draws"],
        "groups": entered.get("groups") or (groups if isinstance(groups, str) else None),
    }
