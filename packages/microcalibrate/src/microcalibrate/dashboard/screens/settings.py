"""Settings: every option of a calibration, and the same in words for a terminal or a programme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import drafts, option_widgets, parts, target_tables
from microcalibrate.dashboard.calibration_job import (
    SUPPLIED,
    calibration_arguments,
    calibration_details,
    python_program,
)
from microcalibrate.dashboard.launching import is_ready
from microcalibrate.dashboard.option_schema import Option, options_of
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset

PREFIX = "calibrate"
SHOWN = (
    "l0_lambda",
    "records",
    "seed",
    "max_ratio",
    "min_ratio",
    "tolerance",
    "distance",
    "closeness",
)


@dataclass(frozen=True)
class Preset:
    """A usual question, and the options that ask it."""

    key: str
    title: str
    meaning: str
    values: Mapping[str, Any]


PRESETS = (
    Preset(
        "all", "All records", "Every record keeps a weight; targets are met as well as can be.", {}
    ),
    Preset(
        "price",
        "A price for records",
        "Few records where they are enough: the price decides how many.",
        {"l0_lambda": 0.01},
    ),
    Preset(
        "count",
        "A number of records",
        "Exactly so many records, chosen as an optimal sample and weighted anew.",
        {"records": 2000},
    ),
    Preset(
        "exact",
        "Exact margins",
        "Classical raking: every target is met exactly, or you are told which cannot be.",
        {"tolerance": 0, "distance": "raking"},
    ),
)


def render(context: Context) -> None:
    """Draw the screen."""
    dataset = context.dataset()
    if dataset is None:
        return
    options = {
        name: option for name, option in options_of("calibrate").items() if name not in SUPPLIED
    }
    _presets(options)
    columns = [str(each["name"]) for each in (dataset.profile or {}).get("columns", [])]
    values = option_widgets.fields(PREFIX, options, SHOWN, columns=columns)
    st.divider()
    _start(context, dataset, options, values)


def _presets(options: Mapping[str, Option]) -> None:
    st.subheader("What do you want?", anchor=False)
    for column, preset in zip(st.columns(len(PRESETS)), PRESETS, strict=True):
        with column:
            st.button(
                preset.title,
                key=f"preset_{preset.key}",
                on_click=option_widgets.fill,
                args=(PREFIX, options, preset.values),
                width="stretch",
                wrap=True,
            )
            st.caption(preset.meaning)


def _start(
    context: Context, dataset: Dataset, options: Mapping[str, Option], values: Mapping[str, Any]
) -> None:
    grid = target_tables.included(drafts.read_targets(dataset))
    roles = drafts.read_roles(dataset)
    if not is_ready(context, dataset, grid, option_widgets.is_complete(options, values)):
        return
    arguments = calibration_arguments(dataset, roles, options, values)
    name = st.text_input(
        "Name of the run", key="run_name", placeholder=f"{dataset.name}, {len(grid):,} targets"
    )
    if st.button(
        "Calibrate", key="start_calibration", type="primary", icon=":material/play_arrow:"
    ):
        run = context.workspace.submit(
            "calibrate",
            arguments,
            name=name.strip() or f"{dataset.name}, {len(grid):,} targets",
            files={"targets.csv": target_tables.as_bytes(grid)},
            details=calibration_details(dataset, values),
        )
        context.go("run", run=run.id, dataset=dataset.id)
    command, python = st.tabs(["Copy as command line", "Copy as Python"], key="copy_as")
    with command:
        parts.note(
            "The command that the page runs. Save the targets as targets.csv first (Downloads, or "
            "the button on the Targets screen); the weights are the same to the last bit."
        )
        typed = [
            word.replace("{run}/targets.csv", "targets.csv").replace("{run}/result", "result")
            for word in arguments
        ]
        st.code(
            option_widgets.command_line(["microcalibrate", "calibrate", *typed]), language="bash"
        )
    with python:
        parts.note("The same in Python, with the same result.")
        st.code(python_program(dataset, roles, options, values), language="python")


SCREEN = Screen(
    title="Settings",
    icon=":material/tune:",
    url="settings",
    lead="How close, how many records, within which bounds.",
    render=render,
    group="Prepare",
)
