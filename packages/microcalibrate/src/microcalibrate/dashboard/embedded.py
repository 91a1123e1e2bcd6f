"""The surveys that come with the package, taken up like any other file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from microcalibrate.dashboard import drafts, target_tables

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.jobs import Dataset, Workspace

NAME, HOUSEHOLD_NAMES = "cps_2023.parquet", "cps_2023_{}.parquet"


def take_up(workspace: Workspace) -> Dataset:
    """Put the embedded tax units and their published totals into a workspace."""
    from microcalibrate.datasets import load_cps, load_us_targets

    dataset = _uploaded(workspace, NAME, load_cps())
    drafts.write_targets(dataset, target_tables.as_grid(load_us_targets()))
    return dataset


def take_up_households(workspace: Workspace) -> Dataset:
    """Put the embedded households into a workspace, with their tables and published totals."""
    from microcalibrate.cli.demo_regularise import published_totals
    from microcalibrate.datasets import load_cps_households

    survey = load_cps_households()
    unit, linked = survey.unit, []
    for entity, links in survey.links.items():
        name = HOUSEHOLD_NAMES.format(entity)
        members = _uploaded(workspace, name, survey.tables[entity])
        linked.append(drafts.LinkedTable(members.id, name, entity, links[unit]))
    # The newest of all is what other screens show first.
    dataset = _uploaded(workspace, HOUSEHOLD_NAMES.format(unit), survey.tables[unit])
    roles = drafts.Roles(survey.schema.weight, survey.ids[unit], unit, tuple(linked))
    drafts.write_roles(dataset, roles)
    drafts.write_targets(dataset, target_tables.as_grid(published_totals(survey)))
    return dataset


def _uploaded(workspace: Workspace, name: str, table: pd.DataFrame) -> Dataset:
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    file.seek(0)
    return workspace.add_upload(name, file)
