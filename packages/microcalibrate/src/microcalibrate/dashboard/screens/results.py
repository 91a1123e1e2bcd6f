"""Results: how well the targets are met, which are missed, and what became of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import log_tabs, outcomes, parts, result_tabs
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context, Outcome

TABS = ("Summary", "Targets", "One target", "Estimates", "Weights", "Course")
LOG_TABS = ("Summary", "Targets", "One target", "Course")


def render(context: Context) -> None:
    """Draw the screen."""
    outcome = context.outcome("calibration", "log")
    if outcome is None:
        parts.empty(
            "No results yet",
            "A calibration shows its results here when it is done. Logs and saved runs are opened "
            "with: microcalibrate dashboard FOLDER --log FILE",
        )
        context.link("settings", "Go to the settings")
        return
    if outcome.kind == "log":
        _log(outcome)
        return
    _calibration(outcome)
    context.link("downloads", "Download its files", run=outcome.id)


def _calibration(outcome: Outcome) -> None:
    result = outcomes.calibration_of(outcome)
    result_tabs.lead(result)
    chosen = dict(zip(TABS, st.tabs(list(TABS), key="tab", bind="query-params"), strict=True))
    # Only the tab that is open is drawn: the others would cost time that nobody sees.
    for name, draw in (
        ("Summary", lambda: result_tabs.summary(result)),
        ("Targets", lambda: result_tabs.targets(result, outcome)),
        ("One target", lambda: log_tabs.one_target(outcomes.log_of(outcome))),
        ("Estimates", lambda: result_tabs.estimates(result)),
        ("Weights", lambda: result_tabs.weights(result)),
        ("Course", lambda: result_tabs.course(result, outcome)),
    ):
        if chosen[name].open:
            with chosen[name]:
                draw()


def _log(outcome: Outcome) -> None:
    log = outcomes.log_of(outcome)
    log_tabs.lead(log)
    chosen = dict(
        zip(LOG_TABS, st.tabs(list(LOG_TABS), key="tab", bind="query-params"), strict=True)
    )
    for name, draw in (
        ("Summary", log_tabs.summary),
        ("Targets", log_tabs.targets),
        ("One target", log_tabs.one_target),
        ("Course", log_tabs.course),
    ):
        if chosen[name].open:
            with chosen[name]:
                draw(log)


SCREEN = Screen(
    title="Results",
    icon=":material/insights:",
    url="results",
    lead="How well the targets are met, which are missed, and what became of the weights.",
    render=render,
    group="Look",
)
