"""What the Results screen shows of a log, tab by tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import links, parts, words
from microcalibrate.dashboard.browsing import Order, browse
from microcalibrate.figures.plotting import percent

if TYPE_CHECKING:
    from microcalibrate.logs import CalibrationLog


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
    """Show how many targets are how far off."""


def targets(log: CalibrationLog) -> None:
    """Show a table of all targets at an epoch."""
    epochs = [int(epoch) for epoch in log.epochs]
    epoch = epochs[-1]
    if len(epochs) > 1:
        epoch = st.select_slider(
            "Epoch", epochs, value=epochs[-1], key="epoch", bind="query-params"
        )
    browse(log.at(epoch), ORDERS, _columns(), key="log_targets")


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


def course(log: CalibrationLog) -> None:
    """Show loss and errors by epoch."""


# --- The table of targets -------------------------------------------------------------------------


def _by(column: str, ascending: bool) -> Order:
    return lambda table: table.sort_values(column, ascending=ascending, kind="stable")


def _worst(table: pd.DataFrame) -> pd.DataFrame:
    from microcalibrate.logs.quality import ranked

    return ranked(table)


ORDERS: dict[str, Order] = {
    "largest error": _worst,
    "smallest error": lambda table: _worst(table).iloc[::-1],
    "largest target": _by("target", ascending=False),
    "name": _by("name", ascending=True),
    "as in the log": lambda table: table,
}


def _columns() -> dict[str, object]:
    config = st.column_config
    return {
        "name": config.TextColumn("target", width="large"),
        "target": config.NumberColumn("wanted", format="localized"),
        "estimate": config.NumberColumn("estimate", format="localized"),
        "error": config.NumberColumn("error", format="localized"),
        "relative_error": config.NumberColumn("relative error", format="percent"),
        "achievable": config.CheckboxColumn("achievable"),
        "excluded": config.CheckboxColumn("not calibrated to"),
    }
