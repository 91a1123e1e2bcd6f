"""The screens, in the order of the navigation."""

from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.screens import data, downloads, results, run, settings, start, targets

SCREENS: tuple[Screen, ...] = (
    start.SCREEN,
    data.SCREEN,
    targets.SCREEN,
    settings.SCREEN,
    run.SCREEN,
    results.SCREEN,
    downloads.SCREEN,
)
"""Each is a file of this folder; screens of one group stand together."""
