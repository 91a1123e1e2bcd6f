"""The screens, in the order of the navigation."""

from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.screens import data, downloads, results, run, settings, targets

SCREENS: tuple[Screen, ...] = (
    data.SCREEN,
    targets.SCREEN,
    settings.SCREEN,
    run.SCREEN,
    results.SCREEN,
    downloads.SCREEN,
)
"""Each is a file of this folder; screens of one group stand together."""
