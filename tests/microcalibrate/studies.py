"""Studies of tuning that several tests share, filled without a solve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from microcalibrate.hyperparameter_tuning.scoring import ScoreWeights, aggregated, score
from microcalibrate.hyperparameter_tuning.storage import quiet_optuna
from microcalibrate.hyperparameter_tuning.tables import FORMAT

RANGES: dict[str, BaseDistribution] = {
    "l0_lambda": FloatDistribution(1e-4, 1e-1, log=True),
    "kappa": FloatDistribution(0.1, 10, log=True),
    "selection": CategoricalDistribution(["closed_form", "top_k"]),
    "max_weight_ratio": CategoricalDistribution([None, 50.0]),
}
N_RECORDS = 1_000


def empty_study(
    objective: str = "balanced",
    *,
    n_folds: int = 3,
    aggregate: str = "mean",
    one_standard_error: bool = False,
    **options: Any,
) -> optuna.Study:
    """A study with the attributes of one that `tune_hyperparameters` began."""
    n_directions = 1 if objective == "balanced" else 2
    with quiet_optuna():
        study = optuna.create_study(directions=["minimize"] * n_directions, **options)
    attributes = {
        "format": FORMAT,
        "objective": objective,
        "aggregate": aggregate,
        "score_weights": ScoreWeights().as_plain(),
        "n_records": N_RECORDS,
        "n_targets": 10 * n_folds,
        "n_folds": n_folds,
        "fold_sizes": [10] * n_folds,
        "seed": 0,
        "settings": {"lambda_min": 1e-4, "lambda_max": 1e-1, "closeness": 1e-4},
        "one_standard_error": one_standard_error,
        "fingerprint": "none",
    }
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    return study


def add_finished(
    study: optuna.Study,
    l0_lambda: float,
    errors: Sequence[float],
    records: float,
    *,
    within: float | Sequence[float] = 0.5,
    **params: Any,
) -> None:
    """Add a finished trial with these held-out errors, one per fold."""
    n_folds, own = len(errors), {"l0_lambda": l0_lambda, **params}
    figures = {
        "held_out_errors": list(errors),
        "train_errors": [0.01] * n_folds,
        "within_10_percent": np.broadcast_to(within, n_folds).tolist(),
        "records": [float(records)] * n_folds,
        "kish": [records / 2] * n_folds,
    }
    how = study.user_attrs["aggregate"]
    values = [aggregated(errors, how), float(records)]
    if study.user_attrs["objective"] == "balanced":
        parts = (figures["within_10_percent"], figures["records"], N_RECORDS)
        values = [score(errors, *parts, how=how)]
    more = {"statuses": ["CONVERGED"] * n_folds, "seconds": 0.5, "seed": 7}
    study.add_trial(
        optuna.create_trial(
            values=values,
            params=own,
            distributions={name: RANGES[name] for name in own},
            user_attrs=figures | more,
        )
    )


def add_unfinished(study: optuna.Study, state: TrialState, **attributes: Any) -> None:
    """Add a trial without figures."""
    own = {} if state == TrialState.WAITING else {"l0_lambda": 0.05}
    study.add_trial(
        optuna.create_trial(
            state=state,
            params=own,
            distributions={name: RANGES[name] for name in own},
            user_attrs=attributes,
        )
    )


def random_study(
    n_trials: int, objective: str = "balanced", n_folds: int = 3, **options: Any
) -> optuna.Study:
    """Finished trials whose error rises with the price of records; kappa matters little."""
    rng = np.random.default_rng(0)
    study = empty_study(objective, n_folds=n_folds, **options)
    hardness = rng.uniform(0.5, 1.5, n_folds)
    for _ in range(n_trials):
        price = float(10 ** rng.uniform(-4, -1))
        error = 0.05 + price + 0.01 * rng.random()
        records = round(N_RECORDS * (0.1 - 0.2 * np.log10(price)))
        kappa = float(10 ** rng.uniform(-1, 1))
        add_finished(study, price, list(error * hardness), records, kappa=kappa)
    return study


FEW_FOLDS = {
    # Error of three folds each: mean 0.2, 0.21 and 0.5.
    0.0005: ([0.1, 0.2, 0.3], 800),
    0.005: ([0.11, 0.21, 0.31], 300),
    0.05: ([0.4, 0.5, 0.6], 100),
}


def study_of_three(objective: str = "balanced", **options: Any) -> optuna.Study:
    """Three finished trials: a small error, one nearly as small, and a sparse one."""
    study = empty_study(objective, **options)
    for price, (errors, records) in FEW_FOLDS.items():
        add_finished(study, price, errors, records)
    return study
