"""Calibrates survey weights to population targets, and selects the few records that matter.

Names are imported when they are first used, so that `import microcalibrate` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microcalibrate.applying import apply_prices
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
    from microcalibrate.inference import (
        DesignVarianceWarning,
        Estimates,
        ReplicateWeights,
        Replication,
        SurveyDesign,
        estimate,
        mean,
        quantile,
        ratio,
        replicate_weights,
        total,
    )
    from microcalibrate.problem import Problem
    from microcalibrate.result import CalibrationResult, Status, effective_sample_size
    from microcalibrate.target_analysis import TargetAnalysis, analyse_targets
    from microcalibrate.target_checks import TargetChecks, check_targets
    from microcalibrate.targets import (
        Targets,
        build_targets,
        describe_targets,
        margins,
        totals_by_level,
    )
    from microcalibrate.trimming import TrimmedWeights, trim

_HOMES = {
    "Calibration": "calibration",
    "CalibrationError": "errors",
    "CalibrationResult": "result",
    "DesignVarianceWarning": "inference",
    "Diagnosis": "diagnostics",
    "Distance": "engine.distances",
    "Estimates": "inference",
    "Feasibility": "engine.feasibility",
    "InfeasibleTargets": "errors",
    "InvalidOption": "errors",
    "InvalidProblem": "errors",
    "Loss": "engine.losses",
    "NotConvergedWarning": "calibration",
    "Problem": "problem",
    "RatioRange": "engine.ratio_range",
    "ReplicateWeights": "inference",
    "Replication": "inference",
    "RobustnessResult": "evaluation",
    "Status": "result",
    "SurveyDesign": "inference",
    "TargetAnalysis": "target_analysis",
    "TargetChecks": "target_checks",
    "Targets": "targets",
    "TrimmedWeights": "trimming",
    "TuningResult": "hyperparameter_tuning",
    "analyse_targets": "target_analysis",
    "apply_prices": "applying",
    "build_targets": "targets",
    "check_targets": "target_checks",
    "describe_targets": "targets",
    "diagnose": "diagnostics",
    "effective_sample_size": "result",
    "estimate": "inference",
    "evaluate_robustness": "evaluation",
    "feasible_ratio_range": "engine.ratio_range",
    "margins": "targets",
    "mean": "inference",
    "quantile": "inference",
    "ratio": "inference",
    "replicate_weights": "inference",
    "total": "inference",
    "totals_by_level": "targets",
    "trim": "trimming",
    "tune_hyperparameters": "hyperparameter_tuning",
}

__all__ = [
    "Calibration",
    "CalibrationError",
    "CalibrationResult",
    "DesignVarianceWarning",
    "Diagnosis",
    "Distance",
    "Estimates",
    "Feasibility",
    "InfeasibleTargets",
    "InvalidOption",
    "InvalidProblem",
    "Loss",
    "NotConvergedWarning",
    "Problem",
    "RatioRange",
    "ReplicateWeights",
    "Replication",
    "RobustnessResult",
    "Status",
    "SurveyDesign",
    "TargetAnalysis",
    "TargetChecks",
    "Targets",
    "TrimmedWeights",
    "TuningResult",
    "analyse_targets",
    "apply_prices",
    "build_targets",
    "check_targets",
    "describe_targets",
    "diagnose",
    "effective_sample_size",
    "estimate",
    "evaluate_robustness",
    "feasible_ratio_range",
    "margins",
    "mean",
    "quantile",
    "ratio",
    "replicate_weights",
    "total",
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
