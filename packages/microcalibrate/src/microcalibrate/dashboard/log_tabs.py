"""What the Results screen shows of a log, tab by tab."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import links, parts, words
from microcalibrate.dashboard.browsing import Order, browse, in_digits_that_count, ordered_by
from microcalibrate.figures import log_course, log_errors, target_tree
from microcalibrate.figures.plotting import percent
from microcalibrate.reports.page import Table

if TYPE_CHECKING:
    from microcalibrate.logs import CalibrationLog

MOST_CHANGED = 5
CHANGED = {
    "improved": "improved",
    "worsened": "worsened",
    "alike": "as before",
    "unknown": "not comparable",
}
"""What became of a target, in words."""
AREAS = {"count": "number of targets", "error": "their errors", "loss": "their loss"}


def lead(log: CalibrationLog) -> None:
    """Show what people should see first."""
    found = log.quality()
    parts.tiles(
        [
            (f"{found.score:.0f} of 100", "quality", "full marks within 5%, half within 20%"),
            (f"{found.n_close:,}", "targets within 5%", f"{found.n_fair:,} more within 20%"),
            (percent(found.median_error), "median error", f"mean {percent(found.mean_error)}"),
            (
                f"{found.n_targets:,}",
                "targets",
                f"{found.n_excluded:,} of them not calibrated to" if found.n_excluded else "",
            ),
        ]
    )
    if log.notes:
        parts.sentences(log.notes)


def summary(log: CalibrationLog) -> None:
    """Show how many targets are how far off, and what became of them."""
    histogram(log)
    changed(log)


def targets(log: CalibrationLog) -> None:
    """Show a table of all targets at an epoch."""
    epochs = [int(epoch) for epoch in log.epochs]
    epoch = epochs[-1]
    if len(epochs) > 1:
        epoch = st.select_slider(
            "Epoch", epochs, **links.kept("epoch", epochs[-1], epochs, read=int)
        )
    state = in_digits_that_count(log.at(epoch), ("target", "estimate", "error"))
    if not log.excluded:
        state = state.drop(columns="excluded")
    browse(state, ORDERS, _columns(), key="log_targets")


def one_target(log: CalibrationLog) -> None:
    """Show the course of one target."""
    names = {str(place): name for place, name in enumerate(log.target_names)}
    chosen = links.choose("Target", names, "target", help="Type to search.")
    name = names[chosen]
    last = log.history([name]).iloc[-1]
    undefined = pd.isna(last.rel_abs_error)
    parts.tiles(
        [
            (words.figure(last.target), "target", ""),
            (words.figure(last.estimate), "estimate at the end", ""),
            ("n/a (target 0)" if undefined else percent(last.rel_abs_error), "relative error", ""),
            (words.figure(last.error), "estimate minus target", ""),
        ]
    )
    if len(log.epochs) > 1:
        parts.chart("target_values", log_course.target_values(log, [name]))
        if not undefined:
            parts.chart("target_errors", log_course.target_errors(log, [name]))
    else:
        parts.note("This log has the final state only, so there is no course to draw.")


def course(log: CalibrationLog) -> None:
    """Show loss and errors by epoch."""
    if len(log.epochs) > 1:
        parts.chart("loss_and_error", log_course.loss_and_error(log.curve, log.loss_kind))
    else:
        parts.note("This log has the final state only, so there is no course to draw.")


# --- Figures that a calibration shows too ---------------------------------------------------------


def histogram(log: CalibrationLog) -> None:
    """Show how many targets are how far off at the end."""
    from microcalibrate.logs.quality import error_histogram

    parts.chart("error_histogram", log_errors.error_histogram(error_histogram(log.final)))


def changed(log: CalibrationLog) -> None:
    """Show how many targets are met better or worse than at the start, and the most of each."""
    from microcalibrate.logs.comparing import changes_within

    if log.excluded:
        parts.note(f"Not calibrated to: {words.count(len(log.excluded), 'target')}.")
    if len(log.epochs) < 2:
        return
    found = changes_within(log)
    counts = found.change.value_counts()
    said = [f"{counts[word]:,} {CHANGED[word]}" for word in CHANGED if word in counts]
    parts.note(f"From the first state to the last: {', '.join(said)}.")
    better = found.first_error.abs() - found.last_error.abs()
    for word, gain in (("improved", better), ("worsened", -better)):
        most = found[found.change == word].assign(gain=gain)
        most = most.sort_values("gain", ascending=False, kind="stable").head(MOST_CHANGED)
        if len(most):
            ends = zip(most.name, most.first_error, most.last_error, strict=True)
            rows = [[name, error(first), error(last)] for name, first, last in ends]
            parts.show(Table([f"{word.capitalize()} most", "Error at first", "At last"], rows))


def error(relative: float) -> str:
    """A relative error with its sign, or why there is none."""
    return "n/a (target 0)" if pd.isna(relative) else percent(relative, signed=True)


def tree(log: CalibrationLog) -> None:
    """Show the targets as a tree by the parts of their names."""
    if not any("/" in name for name in log.target_names):
        parts.empty(
            "No groups",
            "Targets stand in groups where their names have slashes, as in snap_by_state/CA.",
        )
        return
    size = st.segmented_control(
        "Area of a rectangle",
        list(target_tree.SIZES),
        format_func=lambda each: AREAS.get(each, each),
        default="count",
        required=True,
        key="tree_size",
    )
    parts.chart("target_tree", target_tree.target_tree(log.final, size))


def estimates(log: CalibrationLog) -> None:
    """Show targets beside their estimates, the worst first, a page at a time."""
    from microcalibrate.logs.quality import ranked

    n_pages = math.ceil(log.n_targets / log_errors.A_PAGE)
    page = 1
    if n_pages > 1:
        page = st.pagination(n_pages, **links.kept("page", 1, range(1, n_pages + 1), read=int))
    parts.chart("estimate_bars", log_errors.estimate_bars(ranked(log.final), page - 1))


# --- The table of targets -------------------------------------------------------------------------


def _worst(table: pd.DataFrame) -> pd.DataFrame:
    from microcalibrate.logs.quality import ranked

    return ranked(table)


ORDERS: dict[str, Order] = {
    "largest error": _worst,
    "smallest error": lambda table: _worst(table).iloc[::-1],
    "largest target": ordered_by("target", ascending=False),
    "name": ordered_by("name", ascending=True),
    "as in the log": lambda table: table,
}


def _columns() -> dict[str, object]:
    config = st.column_config
    return {
        "name": config.TextColumn("target", width=260),
        "target": config.NumberColumn("wanted", format="localized", width=150),
        "estimate": config.NumberColumn("estimate", format="localized", width=150),
        "relative_error": config.NumberColumn("relative error", format="percent", width=115),
        "error": config.NumberColumn("error", format="localized", width=150),
        "achievable": config.CheckboxColumn("achievable", width=95),
        "excluded": config.CheckboxColumn("not calibrated to", width=125),
    }
