"""Which price of records to take: trials on targets that were held out."""

from microcalibrate.hyperparameter_tuning.result import TuningResult
from microcalibrate.hyperparameter_tuning.tuning import tune_hyperparameters

__all__ = ["TuningResult", "tune_hyperparameters"]
