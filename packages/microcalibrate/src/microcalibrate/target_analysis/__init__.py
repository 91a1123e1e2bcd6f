"""Which targets make trouble, why, and what they cost."""

from microcalibrate.target_analysis.analysis import analyse_targets
from microcalibrate.target_analysis.outcome import TargetAnalysis

__all__ = ["TargetAnalysis", "analyse_targets"]
