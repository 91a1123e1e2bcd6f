"""Targets made of the survey itself: totals by level of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.jobs import Dataset


def generator(dataset: Dataset) -> pd.DataFrame | None:
    """Let the reader ask for totals; returns them when there are some to take in."""
    return None
