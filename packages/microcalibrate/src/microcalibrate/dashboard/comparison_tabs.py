"""What the Compare screen shows of two runs or logs, tab by tab."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import links, parts, words
from microcalibrate.dashboard.browsing import Order, browse, ordered_by
from microcalibrate.figures import comparison as pairs
from microcalibrate.figures import diagnostics, log_comparison
from microcalibrate.figures.plotting import amount, relative
from microcalibrate.reports.page import Table

if TYPE_CHECKING:
    from microcalibrate.diagnostics import Diagnosis
    from microcalibrate.reports.comparison import Comparison

CHANGES = {
    "improved": "▲ closer in the second",
    "worsened": "▼ farther in the second",
    "alike": "= alike",
    "unknown": "? unknown",
    "first only": "first only",
    "second only": "second only",
}
"""How a change is shown: by its shape, too."""


def lead(comparison: Comparison) -> None:
    """Show what people should see first: how many targets are closer, farther, in both."""
    counts = comparison.counts()
    about = comparison.about_weights() if len(comparison.weights) else ""
    if comparison.kind == "log":
        about = comparison.about_errors()
    is_good = counts.get("worsened", 0) <= counts.get("improved", 0)
    parts.notice(comparison.verdict(), about, is_good=is_good)
    if not counts:
        return
    alone = {name: counts.get(name, 0) for name in ("first only", "second only")}
    n_both = len(comparison.targets) - sum(alone.values())
    parts.tiles(
        [
            (f"{counts.get('improved', 0):,}", "closer in the second", f"of {n_both:,} in both"),
            (f"{counts.get('worsened', 0):,}", "farther in the second", f"of {n_both:,} in both"),
            (f"{counts.get('alike', 0):,}", "alike", _unknown(counts.get("unknown", 0))),
            (
                f"{n_both:,}",
                "targets in both",
                f"{alone['first only']:,} in the first only, {alone['second only']:,} in the "
                "second only",
            ),
        ]
    )
    if comparison.notes:
        parts.sentences(comparison.notes)


def _unknown(count: int) -> str:
    return f"{count:,} cannot be told" if count else ""


def statistics(comparison: Comparison) -> None:
    """Show the figures of both, and which targets they were not calibrated to."""
    rows = [
        [row["statistic"], row["first_written"], row["second_written"]]
        for row in comparison.statistics.to_dict("records")
    ]
    parts.show(Table(["", *comparison.names], rows))
    excluded = comparison.logs.excluded if comparison.logs is not None else {}
    if any(excluded.values()):
        parts.note(
            f"Not calibrated to: {words.count(excluded['both'], 'target')} in both, "
            f"{excluded['first only']:,} in the first only, {excluded['second only']:,} in the "
            "second only."
        )


def targets(comparison: Comparison) -> None:
    """Show a table of the targets of either."""
    table = _combined(comparison)
    counts = comparison.counts()
    there = [change for change in CHANGES if counts.get(change)]
    only = st.segmented_control("Only", there, **links.kept("change", None, there))
    shown = table[table.change == only] if only else table
    shown = shown.assign(change=shown.change.map(CHANGES))
    browse(shown, ORDERS, _columns(comparison), "compared")


def errors(comparison: Comparison) -> None:
    """Show the errors of one against those of the other, with correlation and slope."""
    logs = comparison.logs
    if logs is None:
        common = comparison.targets[
            comparison.targets.change.isin(["improved", "worsened", "alike"])
        ]
        parts.chart("pairs", pairs.errors(common, *comparison.names))
        return
    parts.tiles(
        [
            (_two_digits(logs.correlation), "correlation", "of the signed relative errors"),
            (_two_digits(logs.slope), "slope", "of the second's on the first's"),
        ]
    )
    parts.chart("pairs", log_comparison.errors(logs))


def _two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "–"


def one_target(comparison: Comparison) -> None:
    """Show the course of one target in both."""
    if comparison.logs is None:
        return
    table = comparison.logs.targets
    names = {str(place): str(name) for place, name in enumerate(table.name)}
    chosen = links.choose("Target", names, "target", help="Type to search.", memory="pair target")
    row: Any = table.iloc[int(chosen)]
    tiles = []
    for side, name in zip(("first", "second"), comparison.names, strict=True):
        goal, estimate = row[f"{side}_target"], row[f"{side}_estimate"]
        if pd.isna(estimate):
            tiles.append(("–", f"estimate in {name}", "not there"))
            continue
        error = row[f"{side}_error"]
        off = "n/a (target 0)" if pd.isna(error) else relative(error, goal, signed=True)
        tiles.append((amount(estimate), f"estimate in {name}", off))
    goal = row.first_target if not pd.isna(row.first_target) else row.second_target
    parts.tiles([(amount(goal), "target", words.figure(goal)), *tiles])
    parts.chart("pair_course", log_comparison.target_course(comparison.logs, names[chosen]))


def course(comparison: Comparison) -> None:
    """Show loss and mean error of both by epoch."""
    if comparison.logs is not None:
        parts.chart("curves", log_comparison.curves(comparison.logs))


def weights(comparison: Comparison) -> None:
    """Show the weights of one against those of the other."""
    parts.note(comparison.about_weights())
    parts.chart("pair_weights", pairs.weights(comparison.weights, *comparison.names))


def influence(first: Diagnosis, second: Diagnosis) -> None:
    """Show how weight and influence of records have moved from one diagnosis to the other."""
    parts.chart("pair_influence", diagnostics.influence(second, first))


def settings(comparison: Comparison) -> None:
    """Show the options that differ."""
    if comparison.settings.empty:
        parts.note("No option differs, as far as both tell theirs.")
        return
    given = comparison.settings.to_numpy().tolist()
    rows = [["–" if cell in (None, "None") else f"{cell}" for cell in row] for row in given]
    heads = ["Setting that differs", *comparison.names]
    parts.show(Table(heads, rows, words=frozenset({1, 2})))


# --- The table of targets -------------------------------------------------------------------------


def _combined(comparison: Comparison) -> pd.DataFrame:
    """Targets of either, with estimates where both are logs or have one."""
    table = comparison.targets
    if comparison.logs is not None:
        known = comparison.logs.targets[["name", "first_estimate", "second_estimate"]]
        table = table.merge(known, on="name", how="left")
    moved = (table.second_error.abs() - table.first_error.abs()).fillna(0.0)
    return table.assign(moved=moved)


ORDERS: dict[str, Order] = {
    "largest change": ordered_by("moved", size=True),
    "most improved": ordered_by("moved", ascending=True),
    "most worsened": ordered_by("moved"),
    "largest error in the first": ordered_by("first_error", size=True),
    "largest error in the second": ordered_by("second_error", size=True),
    "name": ordered_by("name", ascending=True),
}


def _columns(comparison: Comparison) -> dict[str, Any]:
    config = st.column_config
    first, second = (words.label(name) for name in comparison.names)
    return {
        "name": config.TextColumn("target", width=220),
        "change": config.TextColumn("change", width=165),
        "target": config.NumberColumn("wanted", format="localized", width=140),
        "first_error": config.NumberColumn("first: error", format="percent", width=95, help=first),
        "second_error": config.NumberColumn(
            "second: error", format="percent", width=105, help=second
        ),
        "first_estimate": config.NumberColumn("first: estimate", format="localized", width=175),
        "second_estimate": config.NumberColumn("second: estimate", format="localized", width=175),
    }
