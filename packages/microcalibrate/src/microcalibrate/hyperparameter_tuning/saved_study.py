"""A study as plain values that a file holds, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from microcalibrate.hyperparameter_tuning.storage import quiet_optuna
from microcalibrate.hyperparameter_tuning.tables import TRIAL_ATTRIBUTES, load_optuna

if TYPE_CHECKING:
    from optuna import Study


def study_as_plain(study: Study) -> dict[str, Any]:
    """A study as values that JSON holds: directions, attributes, and every trial."""
    optuna = load_optuna()

    def moment(when: datetime | None) -> str | None:
        return when.isoformat() if when else None

    return {
        "name": study.study_name,
        "directions": [direction.name for direction in study.directions],
        "attributes": dict(study.user_attrs),
        "trials": [
            {
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "distributions": {
                    name: json.loads(optuna.distributions.distribution_to_json(distribution))
                    for name, distribution in trial.distributions.items()
                },
                "attributes": {
                    name: value
                    for name, value in trial.user_attrs.items()
                    if name in TRIAL_ATTRIBUTES
                },
                "started": moment(trial.datetime_start),
                "ended": moment(trial.datetime_complete),
            }
            for trial in study.get_trials(deepcopy=False)
        ],
    }


def study_from_plain(values: Mapping[str, Any]) -> Study:
    """The study that `study_as_plain` wrote, in memory.

    Raises:
        KeyError, TypeError, ValueError: If something is missing or of another kind.
    """
    optuna = load_optuna()

    def moment(text: str | None) -> datetime | None:
        return datetime.fromisoformat(text) if text else None

    storage = optuna.storages.InMemoryStorage()
    directions = [optuna.study.StudyDirection[name] for name in values["directions"]]
    with quiet_optuna():
        storage.create_new_study(directions, values["name"])
        study: Study = optuna.load_study(study_name=values["name"], storage=storage)
    for name, value in values["attributes"].items():
        study.set_user_attr(name, value)
    for number, trial in enumerate(values["trials"]):
        study.add_trial(
            optuna.trial.FrozenTrial(
                number=number,
                trial_id=number,
                state=optuna.trial.TrialState[trial["state"]],
                value=None,
                values=trial["values"],
                params=trial["params"],
                distributions={
                    name: optuna.distributions.json_to_distribution(json.dumps(distribution))
                    for name, distribution in trial["distributions"].items()
                },
                user_attrs=trial["attributes"],
                system_attrs={},
                intermediate_values={},
                datetime_start=moment(trial["started"]),
                datetime_complete=moment(trial["ended"]),
            )
        )
    return study
