"""What the Results screen shows of a calibration, tab by tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import log_tabs, outcomes, parts
from microcalibrate.dashboard.browsing import Order, browse, in_digits_that_count
from microcalibrate.figures import calibration as figures
from microcalibrate.figures import weight_density
from microcalibrate.reports import calibration as report
from microcalibrate.reports.page import Columns, Pairs, Paragraph, Verdict
from microcalibrate.result_tables import as_declared

if TYPE_CHECKING:
    from microcalibrate.dashboard.outcomes import Outcome
    from microcalibrate.result import CalibrationResult

N_WORST = 20


def lead(result: CalibrationResult) -> None:
    """Show what people should see first: what was done, how it ended, the four numbers."""
    ended = f"{result.status.name.replace('_', ' ').capitalize()}."
    parts.show(
        Paragraph(report.headline(result)),
        Verdict(ended, result.status.value, result.converged),
        report.tiles(result),
    )


def summary(result: CalibrationResult, outcome: Outcome) -> None:
    """Show the certificate, errors by size and by family, and numbers before and after."""
    parts.note(report.gap_sentence(result))
    log = outcomes.log_of(outcome)
    log_tabs.histogram(log)
    log_tabs.changed(log)
    parts.chart("fit", figures.fit(result))
    parts.show(report.summary_table(result))


def targets(result: CalibrationResult) -> None:
    """Show those that are missed most with their prices, and a table of all."""
    browse(
        _table(result.targets), ORDERS, _columns(), key="all_targets", searched=("name", "family")
    )
    parts.chart("worst", figures.worst_targets(result, N_WORST))
    parts.note(report.ABOUT_ERRORS)


def estimates(result: CalibrationResult, outcome: Outcome) -> None:
    """Show targets against their estimates, and beside them."""
    parts.chart("estimates", figures.estimates(result))
    log_tabs.estimates(outcomes.log_of(outcome))


def weights(result: CalibrationResult) -> None:
    """Show the weights before and after, and each record's two against each other."""
    parts.chart("weights", figures.weights(result))
    parts.chart(
        "weight_density", weight_density.before_and_after(result.design_weights, result.weights)
    )


def course(result: CalibrationResult, outcome: Outcome) -> None:
    """Show how the solver came there, and what it was asked for."""
    parts.chart("history", figures.history(result))
    log_tabs.course(outcomes.log_of(outcome))
    seconds = {name: f"{took:.2f} s" for name, took in result.seconds.items()}
    parts.show(
        Columns(
            [
                Pairs("Settings", result.settings),
                Pairs("Wall time", seconds),
                Pairs("Versions", result.versions),
            ]
        )
    )


# --- The table of targets -------------------------------------------------------------------------


def _table(table: pd.DataFrame) -> pd.DataFrame:
    shown = in_digits_that_count(as_declared(table), ("target", "initial", "final"))
    return shown.assign(improved=table.initial_error.abs() - table.error.abs())


def _largest(column: str) -> Order:
    return lambda table: table.iloc[(-table[column].abs().to_numpy()).argsort(kind="stable")]


ORDERS: dict[str, Order] = {
    "largest error after": _largest("error"),
    "smallest error after": lambda table: _largest("error")(table).iloc[::-1],
    "largest error before": _largest("initial_error"),
    "most improved": lambda table: table.sort_values("improved", ascending=False, kind="stable"),
    "most worsened": lambda table: table.sort_values("improved", kind="stable"),
    "largest price": _largest("price"),
    "name": lambda table: table.sort_values("name", kind="stable"),
    "as entered": lambda table: table,
}


def _columns() -> dict[str, object]:
    config = st.column_config
    return {
        "name": config.TextColumn("target", width=230),
        "target": config.NumberColumn("wanted", format="localized", width=145),
        "final": config.NumberColumn("after", format="localized", width=145),
        "error": config.NumberColumn("error after", format="percent", width=100),
        "price": config.NumberColumn("price", format="scientific", width=90),
        "initial": config.NumberColumn("before", format="localized", width=145),
        "initial_error": config.NumberColumn("error before", format="percent", width=105),
        "tolerance": config.NumberColumn("tolerance", format="percent", width=90),
        "family": config.TextColumn("family", width=150),
    }
