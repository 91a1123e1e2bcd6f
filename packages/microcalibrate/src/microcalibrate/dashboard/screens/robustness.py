"""Robustness: how far a calibration holds beyond its own targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard.browsing import Order, browse, ordered_by
from microcalibrate.dashboard.launching import Form, targets_form
from microcalibrate.dashboard.saved import result_and_form, saved, show
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome

FORM = Form(
    command="evaluate",
    shown=(
        "l0_lambda",
        "records",
        "seed",
        "folds",
        "draws",
        "bootstrap",
        "groups",
        "untargeted",
        "random",
    ),
    label="Evaluate",
    what="robustness",
)


def render(context: Context) -> None:
    """Draw the screen."""
    result_and_form(
        context,
        ("evaluation of robustness",),
        _result,
        lambda: targets_form(context, FORM),
        "New evaluation",
        "An evaluation leaves out a part of the targets at a time, and looks how well they are met "
        "all the same: beside those calibrated to, beside the design weights, and beside random "
        "samples of as many records.",
    )


def _result(outcome: Outcome) -> None:
    found = saved(outcome)

    def every_target() -> None:
        browse(found.result.targets, ORDERS, _columns(), "held_out", searched=("name", "group"))

    show(found, {"Every target": every_target})


ORDERS: dict[str, Order] = {
    "largest error when held out": ordered_by("held_out_error"),
    "smallest error when held out": ordered_by("held_out_error", ascending=True),
    "largest error when calibrated to": ordered_by("train_error"),
    "fold": ordered_by("fold", ascending=True),
    "name": ordered_by("name", ascending=True),
}


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "name": config.TextColumn("target", width=240),
        "fold": config.NumberColumn("fold", width=60),
        "target": config.NumberColumn("wanted", format="localized", width=150),
        "held_out_error": config.NumberColumn("held out", format="percent", width=90),
        "train_error": config.NumberColumn("calibrated to", format="percent", width=105),
        "held_out_bias": config.NumberColumn("signed, held out", format="percent", width=125),
        "design_error": config.NumberColumn("design weights", format="percent", width=115),
        "random_error": config.NumberColumn("random sample", format="percent", width=115),
        "group": config.TextColumn("held out with", width=150),
    }


SCREEN = Screen(
    title="Robustness",
    icon=":material/verified:",
    url="robustness",
    lead="How far a calibration holds beyond its own targets, and how stable it is.",
    render=render,
    group="Go further",
)
