"""Options of tuning that cannot be honoured are refused, with the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from microcalibrate import InvalidOption
from microcalibrate.hyperparameter_tuning import tune_hyperparameters

from ..problems import survey

DATA = survey(1, 500, 20)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lambda_min": 0.1, "lambda_max": 0.1}, "lambda_min=0.1 must be below"),
        ({"lambda_min": 0.0}, "lambda_min=0.0 must be a positive"),
        ({"lambda_max": float("inf")}, "lambda_max=inf"),
        ({"lambda_max": "much"}, "lambda_max='much'"),
        ({"n_trials": 0}, "n_trials=0"),
        ({"n_trials": 2.5}, "n_trials=2.5"),
        ({"n_jobs": 0}, "n_jobs=0"),
        ({"n_draws": 0}, "n_draws=0"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"n_folds": 1}, "n_folds=1"),
        ({"n_folds": 21}, "at most 20 folds"),
        ({"seed": -1}, "seed=-1"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": "soon"}, "timeout='soon'"),
        ({"kappa": -1}, "kappa=-1"),
        ({"kappa": (2.0, 1.0)}, "no range"),
        ({"kappa": (0.0, 1.0)}, "low end of kappa"),
        ({"kappa": (1.0, 2.0, 3.0)}, "a .low, high. range"),
        ({"closeness": 0}, "closeness=0"),
        ({"closeness": []}, "closeness has 0 values"),
        ({"closeness": [1e-4, 1e-4]}, "a value twice"),
        ({"max_weight_ratio": np.ones(500)}, "not one value per record"),
        ({"max_weight_ratio": [5.0, 0.0]}, "max_weight_ratio=0"),
        ({"max_weight_ratio": [5.0, 0.2], "min_weight_ratio": 0.5}, "cross"),
        ({"selection": "best"}, "selection='best'"),
        ({"selection": ["random", "best"]}, "selection='best'"),
        ({"objective": "both"}, "objective='both'"),
        ({"aggregate": "least"}, "aggregate='least'"),
        ({"objective": "pareto", "score_weights": {"records": 1.0}}, "Leave them out"),
        ({"score_weights": {"errors": 1.0}}, "no 'errors'"),
        ({"one_standard_error": "yes"}, "one_standard_error"),
        ({"sampler": "grid"}, "sampler='grid'"),
        ({"storage": 3}, "storage=3"),
        ({"study_name": ""}, "study_name=''"),
        ({"storage": "study.db"}, "sqlite:///study.db"),
        ({"l0_lambda": 0.1}, "from lambda_min to lambda_max"),
        ({"target_records": 10}, "from lambda_min to lambda_max"),
        ({"colour": "red"}, "colour is no option"),
        ({"temperature": 0.5}, "temperature acts on trained gates"),
        ({"groups": "colour"}, "groups='colour'"),
        ({"distance": "far"}, "distance='far'"),
        ({"tolerances": -1.0}, "tolerance"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        tune_hyperparameters(DATA.weights, DATA.targets, DATA.matrix, **{"n_trials": 2, **options})
