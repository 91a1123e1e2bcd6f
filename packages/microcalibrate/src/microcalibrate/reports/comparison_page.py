"""The page of two runs or logs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microcalibrate.figures.plotting import amount, relative
from microcalibrate.reports.page import (
    Figure,
    Paragraph,
    Part,
    Section,
    Sentences,
    Table,
    Tiles,
    Verdict,
    render_page,
)

if TYPE_CHECKING:
    from microcalibrate.reports.comparison import Comparison

MOST_ROWS = 25


def render(comparison: Comparison) -> str:
    """The page as text; see `Comparison.report`."""
    from microcalibrate.figures import comparison as figures
    from microcalibrate.figures.log_comparison import curves, errors

    first, second = comparison.names
    counts = comparison.counts()
    shared = comparison.targets[comparison.targets.change.isin(["improved", "worsened", "alike"])]
    lead: list[Part] = [
        Verdict(
            comparison.verdict(),
            comparison.about_weights() if len(comparison.weights) else comparison.about_errors(),
            counts.get("worsened", 0) <= counts.get("improved", 0),
        )
    ]
    sections = [Section("Side by side", [_statistics(comparison)])]
    if len(comparison.targets):
        lead.append(
            Tiles(
                [
                    (f"{counts.get(change, 0):,}", words, f"of {len(comparison.targets):,} targets")
                    for change, words in (
                        ("improved", "closer in the second"),
                        ("worsened", "farther"),
                        ("alike", "alike"),
                    )
                ]
            )
        )
        sections.append(
            Section(
                "Targets",
                [
                    Figure(
                        "errors",
                        errors(comparison.logs)
                        if comparison.kind == "log" and comparison.logs is not None
                        else figures.errors(shared, first, second),
                    ),
                    *_changed(comparison, "improved"),
                    *_changed(comparison, "worsened"),
                    *_alone(comparison),
                ],
            )
        )
    if comparison.logs is not None:
        sections.append(Section("Epochs", [Figure("curves", curves(comparison.logs))]))
    if len(comparison.weights):
        drawn = Figure("weights", figures.weights(comparison.weights, first, second))
        sections.append(Section("Weights", [drawn]))
    if len(comparison.settings):
        rows = comparison.settings.values.tolist()
        table = Table(["Setting that differs", first, second], rows, words=frozenset({1, 2}))
        sections.append(Section("Settings", [table]))
    if comparison.notes:
        sections.append(Section("Notes", [Sentences(list(comparison.notes))]))
    what = "logs" if comparison.kind == "log" else f"{comparison.kind} runs"
    return render_page(f"{first} and {second}: two {what}", lead, sections)


def _statistics(comparison: Comparison) -> Table:
    rows = [
        [row["statistic"], row["first_written"], row["second_written"]]
        for row in comparison.statistics.to_dict("records")
    ]
    return Table(["", *comparison.names], rows)


def _changed(comparison: Comparison, change: str) -> list[Part]:
    ranked = comparison.ranked(change)
    if not len(ranked):
        return [Paragraph(f"No target {change}.")]
    rows = [
        [
            row["name"],
            amount(row["target"]),
            relative(row["first_error"], row["target"], signed=True),
            relative(row["second_error"], row["target"], signed=True),
        ]
        for row in ranked.head(MOST_ROWS).to_dict("records")
    ]
    heads = [f"Target that {change}", "Value", "Error in the first", "Error in the second"]
    left = len(ranked) - len(rows)
    more: list[Part] = [Paragraph(f"{left:,} more targets are not shown.")] if left > 0 else []
    return [Table(heads, rows), *more]


def _alone(comparison: Comparison) -> list[Part]:
    said = []
    for change, name in zip(("first only", "second only"), comparison.names, strict=True):
        names = comparison.targets.name[comparison.targets.change == change]
        if len(names):
            listed = ", ".join(names.head(MOST_ROWS))
            more = f" and {len(names) - MOST_ROWS:,} more" if len(names) > MOST_ROWS else ""
            said.append(f"Only in {name}: {listed}{more}.")
    return [Sentences(said)] if said else []
