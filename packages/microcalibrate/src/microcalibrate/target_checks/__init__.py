"""Targets looked at row by row before a calibration: what is wrong, doubtful, or far off."""

from microcalibrate.target_checks.checking import check_targets
from microcalibrate.target_checks.checks import TargetChecks
from microcalibrate.target_checks.findings import Finding

__all__ = ["Finding", "TargetChecks", "check_targets"]
