"""The report of a calibration: what was asked, what came out, and how far to trust it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from microcalibrate.figures import calibration as figures
from microcalibrate.figures.log_course import loss_and_error
from microcalibrate.figures.plotting import amount, count, percent, power_of_ten
from microcalibrate.reports.page import (
    Columns,
    Figure,
    Pairs,
    Paragraph,
    Part,
    Section,
    Table,
    Tiles,
    Verdict,
    render_page,
    write_page,
)
from microcalibrate.result import STATISTICS
from microcalibrate.result_tables import as_declared

if TYPE_CHECKING:
    from microcalibrate.result import CalibrationResult

TILES = {
    "within_10_percent": "targets within 10%",
    "median_error": "median error",
    "records": "records with weight",
    "kish": "effective sample size",
}
WORST_TARGETS = 25
MOST_FAMILIES = 200
ABOUT_ERRORS = (
    "Errors are relative to the scale of a target: its absolute value, unless that is zero or "
    "another scale was given. The price is the fall of the objective per scale by which the "
    "target is raised; for a soft target, its importance times its error. The errors of a mean, a "
    "ratio or a share are as if its denominator were that of the design weights."
)


def write_report(result: CalibrationResult, path: str | Path) -> Path:
    """Write a page with what was asked, what came out, and how far to trust it.

    Args:
        result: What to report.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(result), path)


def render(result: CalibrationResult) -> str:
    """The page as text; see `write_report`."""
    ended = f"{result.status.name.replace('_', ' ').capitalize()}."
    seconds = {name: f"{took:.2f} s" for name, took in result.seconds.items()}
    return render_page(
        headline(result),
        [
            Verdict(ended, result.status.value, result.converged),
            Paragraph(gap_sentence(result), is_note=True),
            tiles(result),
            summary_table(result),
        ],
        [
            Section(
                "How well the targets are met",
                [
                    Figure("fit", figures.fit(result)),
                    *_families(result),
                    Figure("estimates", figures.estimates(result)),
                ],
            ),
            Section(
                "Which targets are missed",
                [
                    Figure("worst", figures.worst_targets(result)),
                    _worst(result),
                    Paragraph(ABOUT_ERRORS, is_note=True),
                ],
            ),
            Section("What happened to the weights", [Figure("weights", figures.weights(result))]),
            Section(
                "How it was computed",
                [
                    Figure("course", loss_and_error(result.log().curve)),
                    Figure("history", figures.history(result)),
                    Columns(
                        [
                            Pairs("Settings", result.settings),
                            Pairs("Wall time", seconds),
                            Pairs("Versions", result.versions),
                        ]
                    ),
                ],
            ),
        ],
    )


# --- Sentences ------------------------------------------------------------------------------------


def headline(result: CalibrationResult) -> str:
    """What was done, in one line."""
    records, targets = len(result.weights), len(result.targets)
    kept = int(result.statistics["after"]["records"])
    chosen = result.settings.get("target_records") or result.settings.get("l0_lambda")
    reduced = f" reduced to {kept:,} and" if chosen else ""
    return f"{count(records, 'record')}{reduced} calibrated to {count(targets, 'target')}"


def gap_sentence(result: CalibrationResult) -> str:
    """What the certificate says."""
    if not math.isfinite(result.gap):
        return "No duality gap could be computed: nothing is known about better weights."
    records = "these records" if (result.inclusion_probabilities == 1).all() else "the records kept"
    return (
        f"Relative duality gap {power_of_ten(result.gap)}: no other weights of {records} can "
        "lower the objective (half the mean squared relative error plus the price of distance) by "
        "more than this share."
    )


# --- Parts of the page ----------------------------------------------------------------------------


def tiles(result: CalibrationResult) -> Tiles:
    """The four numbers that people look for first."""
    before, after = result.statistics["before"], result.statistics["after"]
    patterns = {key: pattern for key, _, pattern in STATISTICS}
    return Tiles(
        [
            (patterns[key].format(after[key]), label, f"{patterns[key].format(before[key])} before")
            for key, label in TILES.items()
        ]
    )


def summary_table(result: CalibrationResult) -> Table:
    """Fit and concentration of weights, before and after."""
    return Table(
        ["", "Before", "After"],
        [
            [
                label[0].upper() + label[1:],
                *(pattern.format(result.statistics[when][key]) for when in ("before", "after")),
            ]
            for key, label, pattern in STATISTICS
        ],
    )


def _families(result: CalibrationResult) -> list[Part]:
    table = result.targets
    order = figures.family_order(table)
    rows = []
    for name in order[:MOST_FAMILIES]:
        part = table[table.family == name]
        before, after = part.initial_error.abs(), part.error.abs()
        rows.append(
            [
                name,
                f"{len(part):,}",
                percent(before.median()),
                percent(after.median()),
                percent(after.max()),
                percent((before < 0.1).mean()),
                percent((after < 0.1).mean()),
            ]
        )
    heads = [
        "Family",
        "Targets",
        "Median error before",
        "Median error after",
        "Largest error after",
        "Within 10% before",
        "Within 10% after",
    ]
    left = len(order) - len(rows)
    more = [Paragraph(f"{left:,} more families are not shown.")] if left else []
    return [Table(heads, rows), *more]


def _worst(result: CalibrationResult) -> Table:
    worst = as_declared(figures.by_error(result.targets).head(WORST_TARGETS))
    rows = [
        [
            row["name"],
            amount(row["target"]),
            amount(row["final"]),
            percent(row["initial_error"], signed=True),
            percent(row["error"], signed=True),
            kind(row["tolerance"]),
            power_of_ten(row["price"]),
        ]
        for row in worst.to_dict("records")
    ]
    heads = [
        "Target",
        "Value",
        "Estimate",
        "Error before",
        "Error after",
        "Tolerance",
        "Price",
    ]
    return Table(heads, rows)


def kind(tolerance: float) -> str:
    """What a tolerance asks for, in a word."""
    if tolerance != tolerance:
        return "soft"
    return "exact" if tolerance == 0 else percent(tolerance)
