"""Calibrates survey weights to population targets, and selects the few records that matter.

Names are imported when they are first used, so that `import microcalibrate` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microcalibrate.calibration import Calibration, NotConvergedWarning
    from microcalibrate.diagnostics import Diagnosis, diagnose
    from microcalibrate.engine.distances import Distance
    from microcalibrate.engine.feasibility import Feasibility
    from microcalibrate.engine.losses import Loss
    from microcalibrate.engine.ratio_range import RatioRange, feasible_ratio_range
    from microcalibrate.errors import (
        CalibrationError,
        InfeasibleTargets,
        InvalidOption,
        InvalidProblem,
    )
    from microcalibrate.evaluation import RobustnessResult, evaluate_robustness
    from microcalibrate.hyperparameter_tuning import TuningResult, tune_hyperparameters
    from microcalibrate.problem import Problem
    from microcalibrate.result import CalibrationResult, Status, effective_sample_size
    from microcalibrate.target_analysis import TargetAnalysis, analyse_targets
    from microcalibrate.target_checks import TargetChecks, check_targets
    from microcalibrate.targets import (
        Targets,
        build_targets,
        describe_targets,
        totals_by_level,
    )
    from microcalibrate.trimming import TrimmedWeights, trim

_HOMES = {
    "Calibration": "calibration",
    "CalibrationError": "errors",
    "CalibrationResult": "result",
    "Diagnosis": "diagnostics",
    "Distance": "engine.distances",
    "Feasibility": "engine.feasibility",
    "InfeasibleTargets": "errors",
    "InvalidOption": "errors",
    "InvalidProblem": "errors",
    "Loss": "engine.losses",
    "NotConvergedWarning": "calibration",
    "Problem": "problem",
    "RatioRange": "engine.ratio_range",
    "RobustnessResult": "evaluation",
    "Status": "result",
    "TargetAnalysis": "target_analysis",
    "TargetChecks": "target_checks",
    "Targets": "targets",
    "TrimmedWeights": "trimming",
    "TuningResult": "hyperparameter_tuning",
    "analyse_targets": "target_analysis",
    "build_targets": "targets",
    "check_targets": "target_checks",
    "describe_targets": "targets",
    "diagnose": "diagnostics",
    "effective_sample_size": "result",
    "evaluate_robustness": "evaluation",
    "feasible_ratio_range": "engine.ratio_range",
    "trim": "trimming",
    "totals_by_level": "targets",
    "tune_hyperparameters": "hyperparameter_tuning",
}

__all__ = [
    "Calibration",
    "CalibrationError",
    "CalibrationResult",
    "Diagnosis",
    "Distance",
    "Feasibility",
    "InfeasibleTargets",
    "InvalidOption",
    "InvalidProblem",
    "Loss",
    "NotConvergedWarning",
    "Problem",
    "RatioRange",
    "RobustnessResult",
    "Status",
    "TargetAnalysis",
    "TargetChecks",
    "Targets",
    "TrimmedWeights",
    "TuningResult",
    "analyse_targets",
    "build_targets",
    "check_targets",
    "describe_targets",
    "diagnose",
    "effective_sample_size",
    "evaluate_robustness",
    "feasible_ratio_range",
    "totals_by_level",
    "trim",
    "tune_hyperparameters",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("microcalibrate")
    if name in _HOMES:
        return getattr(import_module(f"microcalibrate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'microcalibrate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
