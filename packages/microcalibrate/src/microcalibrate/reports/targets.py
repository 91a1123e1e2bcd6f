"""The report of a target analysis: which targets make trouble, why, and what to do about it."""

from __future__ import annotations

import math
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from microcalibrate.figures.plotting import amount, count, percent
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
    write_page,
)
from microcalibrate.target_analysis.ranking import (
    CONTRADICTORY,
    COSTLY,
    FINE,
    KINDS,
    MISSED,
    REDUNDANT,
    THIN,
    UNREACHABLE,
)

if TYPE_CHECKING:
    from microcalibrate.target_analysis import TargetAnalysis

WORST_TARGETS = 40
MOST_PAIRS = 25
MOST_GROUPS = 25
MOST_IDENTITIES = 25
# Names of a group that are listed.
MOST_NAMES = 8
NUMBERED = re.compile(r"^\s*\d+\. ")
MEANINGS = {
    UNREACHABLE: "no weights within the bounds on the ratio give it",
    CONTRADICTORY: "it and others cannot be met together",
    REDUNDANT: "it is made up of others, and says nothing new",
    MISSED: "missed all the same",
    THIN: "it rests on few records, or on none",
    COSTLY: "met, but at a high price",
    FINE: "no trouble found",
}
ABOUT_FIGURES = (
    "Errors are relative to the scale of a target: its absolute value, unless that is zero or "
    "another scale was given. Dropping a target lowers the objective (the price of distance plus "
    "half the mean squared relative error) by the share shown, to first order."
)
ABOUT_CONFLICTS = (
    "Conflict is 1 where only one of two targets can be met and 0 where they do not meet. Relief "
    "is the fall of the error of one, per scale by which the other is loosened."
)
ABOUT_IDENTITIES = (
    "An identity holds in every record, so the targets of its parts should add up to that of its "
    "total. Where they do not, no weights can meet them all, and the share of the loss is what "
    "this alone forces."
)


def write_targets_report(analysis: TargetAnalysis, path: str | Path) -> Path:
    """Write a page with the targets that make most trouble, and why.

    Args:
        analysis: What `analyse_targets` found.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(analysis), path)


def render(analysis: TargetAnalysis) -> str:
    """The page as text; see `write_targets_report`."""
    return render_page(headline(analysis), lead(analysis), sections(analysis))


def lead(analysis: TargetAnalysis) -> list[Part]:
    """What people should see first."""
    first, second, *others = analysis.summary(5).splitlines()
    verdict = Verdict(first, second, is_reassuring(analysis))
    return [verdict, *_said(others), _tiles(analysis)]


def sections(analysis: TargetAnalysis) -> list[Section]:
    """The rest of the page, in order."""
    found = [Section("Kinds of trouble", [_kinds(analysis)], tab="Kinds")]
    if len(analysis.identities):
        about = Paragraph(ABOUT_IDENTITIES, is_note=True)
        found.append(
            Section("Totals and their parts", [*_identities(analysis), about], tab="Totals")
        )
    found += [
        Section(
            "Which targets make most trouble",
            [
                Figure("ranking", analysis.plot_ranking()),
                *_worst(analysis),
                Paragraph(ABOUT_FIGURES, is_note=True),
            ],
            tab="Trouble",
        ),
        Section(
            "Which targets pull against each other",
            [
                Figure("conflicts", analysis.plot()),
                *_pairs(analysis),
                Paragraph(ABOUT_CONFLICTS, is_note=True),
            ],
            tab="Conflicts",
        ),
    ]
    if analysis.groups:
        found.append(Section("Which targets hang together", _groups(analysis), tab="Redundant"))
    return found


# --- Sentences ------------------------------------------------------------------------------------


def headline(analysis: TargetAnalysis) -> str:
    """What was done, in one line."""
    count = len(analysis.table)
    troubled = int((analysis.table.kind != FINE).sum())
    return f"{troubled:,} of {count:,} target{'s' if count != 1 else ''} make trouble"


def is_reassuring(analysis: TargetAnalysis) -> bool:
    """Whether all targets can be met together."""
    impossible = analysis.table.kind.isin([UNREACHABLE, CONTRADICTORY]).any()
    return not impossible and not analysis.infeasible


# --- Parts of the page ----------------------------------------------------------------------------


def _said(lines: list[str]) -> list[Part]:
    """Lines of the summary; those with numbers are a ranking, whose numbers the list brings."""
    parts: list[Part] = []
    for is_ranked, run in groupby(lines, key=lambda line: bool(NUMBERED.match(line))):
        words = [NUMBERED.sub("", line).strip() for line in run]
        parts += [Sentences(words, is_ranked=True)] if is_ranked else map(Paragraph, words)
    return parts


def _tiles(analysis: TargetAnalysis) -> Tiles:
    """The numbers that people look for first."""
    counts = analysis.table.kind.value_counts()
    of_all = f"of {len(analysis.table):,} targets"
    return Tiles(
        [
            (f"{counts.get(UNREACHABLE, 0):,}", "out of reach", of_all),
            (f"{counts.get(CONTRADICTORY, 0):,}", "contradictory", of_all),
            (f"{counts.get(REDUNDANT, 0):,}", "redundant", count(len(analysis.groups), "group")),
            (percent(analysis.mean_error), "mean error", "after calibration to all"),
        ]
    )


def _kinds(analysis: TargetAnalysis) -> Table:
    counts = analysis.table.kind.value_counts()
    rows = [[kind.capitalize(), MEANINGS[kind], f"{counts.get(kind, 0):,}"] for kind in KINDS]
    words = frozenset({1})
    return Table(["Kind", "Meaning", "Targets"], rows, words=words, has_short_names=True)


def _worst(analysis: TargetAnalysis) -> list[Part]:
    table = analysis.table
    troubled = table[table.kind != FINE]
    if troubled.empty:
        return [Paragraph("No target makes trouble.")]
    rows = [
        [
            row["name"],
            row["reason"],
            percent(row["initial_error"], signed=True),
            percent(row["error"], signed=True),
            _share(row["drop_objective"], analysis.objective),
        ]
        for row in troubled.head(WORST_TARGETS).to_dict("records")
    ]
    heads = ["Target", "Reason", "Error before", "Error after", "Dropping it lowers"]
    words = frozenset({1})
    return [Table(heads, rows, words=words), *_more(len(troubled) - len(rows), "targets")]


def _pairs(analysis: TargetAnalysis) -> list[Part]:
    pairs = analysis.conflicts
    if pairs.empty:
        return [Paragraph("No two targets pull against each other.")]
    rows = [
        [
            row["first"],
            row["second"],
            f"{row['conflict']:.2f}",
            _share(row["strength"], analysis.objective),
            _relief(row["relief_first"]),
            _relief(row["relief_second"]),
        ]
        for row in pairs.head(MOST_PAIRS).to_dict("records")
    ]
    heads = [
        "Target",
        "Against",
        "Conflict",
        "Share of the objective",
        "Relief of the first",
        "Relief of the second",
    ]
    words = frozenset({1})
    return [Table(heads, rows, words=words), *_more(len(pairs) - len(rows), "pairs")]


def _identities(analysis: TargetAnalysis) -> list[Part]:
    found = analysis.identities
    rows = [
        [
            row["identity"],
            amount(row["implied"]),
            amount(row["stated"]),
            percent(row["discrepancy"], signed=True),
            f"{row['n_missed']:,} of {row['n_members']:,}",
            percent(row["share_of_loss"]),
            row["drop_first"],
        ]
        for row in found.head(MOST_IDENTITIES).to_dict("records")
    ]
    heads = [
        "Identity",
        "Sum of parts",
        "Total",
        "Difference",
        "Missed",
        "Share of the loss",
        "Drop first",
    ]
    words = frozenset({6})
    return [Table(heads, rows, words=words), *_more(len(found) - len(rows), "identities")]


def _groups(analysis: TargetAnalysis) -> list[Part]:
    rows = []
    for number, names in enumerate(analysis.groups[:MOST_GROUPS], start=1):
        left = len(names) - MOST_NAMES
        listed = ", ".join(names[:MOST_NAMES]) + (f" and {left:,} more" if left > 0 else "")
        rows.append([f"Group {number}", listed, f"{len(names):,}"])
    heads, words = ["Group", "Targets of which each is a combination of the others", "Size"], {1}
    table = Table(heads, rows, words=frozenset(words), has_short_names=True)
    return [table, *_more(len(analysis.groups) - len(rows), "groups")]


def _share(value: float, objective: float) -> str:
    return percent(value / objective) if objective > 0 and math.isfinite(value) else "–"


def _relief(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []
