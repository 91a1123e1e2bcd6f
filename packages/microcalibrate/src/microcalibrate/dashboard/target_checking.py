"""Checks of targets by a job, begun anew whenever the targets change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset


def checks(context: Context, dataset: Dataset, grid: pd.DataFrame) -> None:
    """Show what was found in the targets."""
