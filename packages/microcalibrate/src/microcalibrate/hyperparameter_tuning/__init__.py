"""Which price of records to take: trials on targets that were held out."""

from microcalibrate.hyperparameter_tuning.result import TuningResult
from microcalibrate.hyperparameter_tuning.scoring import ScoreWeights
from microcalibrate.hyperparameter_tuning.tuning import tune_hyperparameters

__all__ = ["ScoreWeights", "TuningResult", "tune_hyperparameters"]
