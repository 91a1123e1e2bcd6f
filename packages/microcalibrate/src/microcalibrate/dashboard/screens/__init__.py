"""The screens, in the order of the navigation."""

from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.screens import (
    compare,
    data,
    diagnose,
    downloads,
    regularise,
    results,
    robustness,
    run,
    settings,
    start,
    target_analysis,
    targets,
    tune,
)

SCREENS: tuple[Screen, ...] = (
    start.SCREEN,
    data.SCREEN,
    targets.SCREEN,
    settings.SCREEN,
    run.SCREEN,
    results.SCREEN,
    compare.SCREEN,
    downloads.SCREEN,
    tune.SCREEN,
    robustness.SCREEN,
    target_analysis.SCREEN,
    diagnose.SCREEN,
    regularise.SCREEN,
)
"""Each is a file of this folder; screens of one group stand together."""
