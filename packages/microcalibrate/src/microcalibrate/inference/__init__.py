"""Standard errors after calibration: linearised, by replicates, and of the targets' own errors."""

from microcalibrate.inference.cautions import DesignVarianceWarning
from microcalibrate.inference.design import SurveyDesign
from microcalibrate.inference.estimands import (
    Estimand,
    count,
    difference,
    mean,
    own,
    quantile,
    ratio,
    smooth,
    total,
)
from microcalibrate.inference.estimates import Estimates
from microcalibrate.inference.estimating import estimate, weighted_residuals
from microcalibrate.inference.recalibrating import replicate_weights
from microcalibrate.inference.replicate_weights import ReplicateWeights
from microcalibrate.inference.replication import Replication

__all__ = [
    "DesignVarianceWarning",
    "Estimand",
    "Estimates",
    "ReplicateWeights",
    "Replication",
    "SurveyDesign",
    "count",
    "difference",
    "estimate",
    "mean",
    "own",
    "quantile",
    "ratio",
    "replicate_weights",
    "smooth",
    "total",
    "weighted_residuals",
]
