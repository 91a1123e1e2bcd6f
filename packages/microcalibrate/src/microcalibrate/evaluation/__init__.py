"""How far a calibration holds beyond its own targets, and how stable its answer is."""

from microcalibrate.evaluation.folds import target_folds, target_groups
from microcalibrate.evaluation.robustness import evaluate_robustness
from microcalibrate.evaluation.robustness_result import RobustnessResult

__all__ = ["RobustnessResult", "evaluate_robustness", "target_folds", "target_groups"]
