"""Runs begin from a form: what is still missing, a name, a button, and the same as a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import drafts, linking, option_widgets, parts, target_tables, words
from microcalibrate.dashboard.calibration_job import (
    SUPPLIED,
    calibration_arguments,
    calibration_details,
)
from microcalibrate.dashboard.option_schema import Option, options_of

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset


@dataclass(frozen=True)
class Job:
    """A run that can be started.

    Attributes:
        command: Of microcalibrate.
        arguments: What follows it; `{run}` stands for the run's folder.
        name: Where the reader gives none.
        files: Contents by name, for the run's folder.
        details: What the page remembers.
    """

    command: str
    arguments: Sequence[str]
    name: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def start(context: Context, job: Job, label: str, note: str = "", **kept: str) -> None:
    """A name, the button that starts the run, and its command line to be copied.

    Args:
        context: Of the page.
        job: What to start.
        label: On the button.
        note: What the command line needs besides, in a sentence.
        **kept: What stays in the address.
    """
    name = st.text_input("Name of the run", key=f"{job.command}_name", placeholder=job.name)
    if st.button(label, key=f"start_{job.command}", type="primary", icon=":material/play_arrow:"):
        run = context.workspace.submit(
            job.command,
            job.arguments,
            name=name.strip() or job.name,
            files=job.files,
            details=job.details,
        )
        context.go("run", run=run.id, **kept)
    with st.expander("Copy as command line", key=f"{job.command}_copy"):
        typed = [word.replace("{run}/", "") for word in job.arguments]
        st.code(
            option_widgets.command_line(["microcalibrate", job.command, *typed]), language="bash"
        )
        if note:
            parts.note(note)


@dataclass(frozen=True)
class Form:
    """The form of a command that works on a data set and its targets.

    Attributes:
        command: Of microcalibrate; also the beginning of the keys of its fields.
        shown: Options that stand first, in their order; the others are folded.
        label: On the button that starts it.
        what: Word for the run, as in "tuning of people.csv".
        left_out: Options that a page must not offer, or that it fills in.
    """

    command: str
    shown: tuple[str, ...]
    label: str
    what: str
    left_out: tuple[str, ...] = ()

    def options(self) -> dict[str, Option]:
        """Those that the form has."""
        return offered(self.command, self.left_out)


def offered(command: str, left_out: Sequence[str] = ()) -> dict[str, Option]:
    """Options of a command without those that the page fills in."""
    hidden = {*SUPPLIED, *left_out}
    return {name: each for name, each in options_of(command).items() if name not in hidden}


def columns_of(dataset: Dataset) -> list[str]:
    """Names of the columns of a data set."""
    return [str(each["name"]) for each in (dataset.profile or {}).get("columns", [])]


def targets_form(context: Context, form: Form) -> None:
    """The form of a command on the data set and the targets that the reader works on."""
    dataset = context.dataset()
    if dataset is None:
        return
    options = form.options()
    roles = drafts.read_roles(dataset)
    values = option_widgets.fields(
        form.command,
        options,
        form.shown,
        columns=columns_of(dataset),
        of_members=linking.columns_of_members(dataset, roles),
    )
    grid = target_tables.included(drafts.read_targets(dataset))
    if not is_ready(context, dataset, grid, option_widgets.is_complete(options, values)):
        return
    job = Job(
        form.command,
        calibration_arguments(dataset, roles, options, values),
        f"{form.what} of {dataset.name}, {words.count(len(grid), 'target')}",
        {"targets.csv": target_tables.as_bytes(grid)},
        calibration_details(dataset, values),
    )
    note = "Save the targets as targets.csv first: the button is on the Targets screen."
    start(context, job, form.label, note, dataset=dataset.id)


def is_ready(context: Context, dataset: Dataset, grid: pd.DataFrame, is_complete: bool) -> bool:
    """Whether a run can begin; what it lacks is said, with a link to where it is mended.

    Args:
        context: Of the page.
        dataset: To work on.
        grid: Its targets in use.
        is_complete: Whether every field of the form could be read.
    """
    lacks: tuple[str, str, str] | None = None
    roles = drafts.read_roles(dataset)
    if dataset.profile is None:
        lacks = "The data set is still being read.", "data", "Look at it on the Data screen"
    elif not roles.weight:
        lacks = "No column is chosen for the weights.", "data", "Choose it on the Data screen"
    elif said := linking.lack(dataset, roles) or linking.foreign(roles, grid):
        lacks = said, "data", "See the tables on the Data screen"
    elif grid.empty:
        lacks = "There are no targets.", "targets", "Enter them on the Targets screen"
    elif not is_complete:
        lacks = "A field above cannot be read.", "", ""
    if lacks is None:
        return True
    said, url, label = lacks
    parts.notice("Not yet.", said)
    if url:
        context.link(url, label, dataset=dataset.id)
    return False
