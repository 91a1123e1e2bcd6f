"""Results: how well the targets are met, which are missed, and what became of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microcalibrate.dashboard import log_tabs, outcomes, parts, result_tabs
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome


def render(context: Context) -> None:
    """Draw the screen."""
    outcome = context.outcome("calibration", "log")
    if outcome is None:
        parts.empty(
            "No results yet",
            "A calibration shows its results here when it is done. Logs of earlier ones are taken "
            "in on the Compare screen; saved runs open with: microcalibrate dashboard FOLDER",
        )
        context.link("settings", "Go to the settings")
        return
    if outcome.kind == "log":
        _log(outcome)
    else:
        _calibration(outcome)
    context.link("downloads", "Download its files", run=outcome.id)
    context.link("compare", "Compare it with another", b=outcome.id)
    dataset = outcome.run.details.get("dataset") if outcome.run else None
    if dataset:
        context.link(
            "diagnostics",
            "Diagnose its weights",
            view="New diagnosis",
            source=dataset,
            weights=outcome.id,
        )


def _calibration(outcome: Outcome) -> None:
    result = outcomes.calibration_of(outcome)
    result_tabs.lead(result)
    parts.tabs(
        {
            "Summary": lambda: result_tabs.summary(result, outcome),
            "Targets": lambda: result_tabs.targets(result),
            "One target": lambda: log_tabs.one_target(outcomes.log_of(outcome)),
            "Groups": lambda: log_tabs.tree(outcomes.log_of(outcome)),
            "Estimates": lambda: result_tabs.estimates(result, outcome),
            "Weights": lambda: result_tabs.weights(result),
            "Course": lambda: result_tabs.course(result, outcome),
        }
    )


def _log(outcome: Outcome) -> None:
    log = outcomes.log_of(outcome)
    log_tabs.lead(log)
    parts.tabs(
        {
            "Summary": lambda: log_tabs.summary(log),
            "Targets": lambda: log_tabs.targets(log),
            "One target": lambda: log_tabs.one_target(log),
            "Groups": lambda: log_tabs.tree(log),
            "Estimates": lambda: log_tabs.estimates(log),
            "Course": lambda: log_tabs.course(log),
        }
    )


SCREEN = Screen(
    title="Results",
    icon=":material/insights:",
    url="results",
    lead="How well the targets are met, which are missed, and what became of the weights.",
    render=render,
    group="Look",
)
