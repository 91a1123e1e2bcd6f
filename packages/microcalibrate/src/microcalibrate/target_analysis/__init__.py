"""Which targets make trouble, why, and what they cost."""

from microcalibrate.target_analysis.analysis import TargetAnalysis, analyse_targets

__all__ = ["TargetAnalysis", "analyse_targets"]
