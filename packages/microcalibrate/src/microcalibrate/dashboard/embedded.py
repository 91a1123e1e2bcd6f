"""The survey that comes with the package, taken up like any other file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from microcalibrate.dashboard import drafts, target_tables

if TYPE_CHECKING:
    from microcalibrate.jobs import Dataset, Workspace

NAME = "cps_2023.parquet"


def take_up(workspace: Workspace) -> Dataset:
    """Put the embedded tax units and their published totals into a workspace."""
    from microcalibrate.datasets import load_cps, load_us_targets

    file = io.BytesIO()
    load_cps().to_parquet(file, index=False)
    file.seek(0)
    dataset = workspace.add_upload(NAME, file)
    drafts.write_targets(dataset, target_tables.as_grid(load_us_targets()))
    return dataset
