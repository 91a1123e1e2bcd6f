"""The report of a diagnosis: which records carry too much, of what, and what the weights leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.figures import cutoffs, diagnostics, weight_distribution
from microcalibrate.figures.plotting import amount, percent, round_percent
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
from microcalibrate.reports.surface import settings_parts

if TYPE_CHECKING:
    from microcalibrate.diagnostics.diagnosis import Diagnosis

MOST_FLAGGED = 50
MOST_THIN = 50
MOST_CELLS = 60
MOST_REFORMS = 50
BANDS = ((100, "under 100"), (500, "under 500"))
ABOUT_SHARES = (
    "The gross share of a record in a statistic is the absolute amount that its weight and its "
    "rows in the cell bring, over the sum of all absolute amounts in it; the shares of a statistic "
    "add up to 100%. The share of an origin takes all records that come from one record together: "
    "copies of a record lower its own share, and leave that of its origin where it was."
)
ABOUT_LEFT_OUT = (
    "What publication would change by if the record had not been there: each is left out alone. "
    "With weights fixed, what it carries is gone. Fitted again, the others take over what it "
    "brought to the targets, from their weights in use and with the least entropy, in the same "
    "cells."
)
ABOUT_THIN = (
    "In a thin statistic fewer than {contributors:,} records contribute, or fewer than "
    "{effective:g} effective ones (1 / sum of squared shares). Its figures rest on few records "
    "whoever they are, so the cell is named, and its records are not flagged for it."
)
ABOUT_KISH = (
    "Effective records: (sum of weights)² / sum of squared weights, of the rows of the slice’s own "
    "entity (Kish 1965). By unit: rows of one sampled unit taken together. By origin: all units of "
    "one origin taken together."
)
ABOUT_RULES = (
    "These rules look at weights alone, whatever the records report. They stand here for "
    "comparison and flag nobody."
)


def write_diagnosis_report(diagnosis: Diagnosis, path: str | Path) -> Path:
    """Write a page with the records that carry too much, and the figures that it rests on.

    Args:
        diagnosis: What `diagnose` found.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(diagnosis), path)


def render(diagnosis: Diagnosis) -> str:
    """The page as text; see `write_diagnosis_report`."""
    return render_page(headline(diagnosis), lead(diagnosis), sections(diagnosis))


def lead(diagnosis: Diagnosis) -> list[Part]:
    """What people should see first."""
    first, second, *others = summary_lines(diagnosis)
    return [
        Verdict(first, second, diagnosis.flagged.empty),
        Sentences(others),
        _tiles(diagnosis),
    ]


def sections(diagnosis: Diagnosis) -> list[Section]:
    """The rest of the page, in order."""
    found = [
        Section(
            "Which records carry too much",
            [
                *flagged_records(diagnosis),
                Figure("influence", diagnostics.influence(diagnosis)),
                Figure("heat-map", diagnostics.heat_map(diagnosis)),
                Paragraph(ABOUT_SHARES, is_note=True),
            ],
            tab="Influence",
        ),
        Section("Which statistics rest on few records", thin_cells(diagnosis), tab="Thin cells"),
        Section(
            "How much information the weights leave",
            [
                Figure("kish", weight_distribution.kish(diagnosis)),
                *_kish(diagnosis),
                Paragraph(ABOUT_KISH, is_note=True),
            ],
            tab="Effective sample",
        ),
    ]
    if not diagnosis.left_out.empty:
        found.insert(1, Section("Left out, and fitted again", left_out(diagnosis), tab="Left out"))
    if len(diagnosis.reforms):
        found.append(Section("Reforms", _reforms(diagnosis), tab="Reforms"))
    found += [
        Section(
            "The weights themselves",
            [
                Figure("weights", weight_distribution.weights(diagnosis)),
                *_comparisons(diagnosis),
            ],
            tab="Weights",
        ),
        Section("How it was diagnosed", settings_parts(diagnosis), tab="Settings"),
    ]
    return found


# --- Sentences ------------------------------------------------------------------------------------


def headline(diagnosis: Diagnosis) -> str:
    """What was found, in one line."""
    flagged, units = len(diagnosis.flagged), len(diagnosis.records)
    unit = diagnosis.settings["unit"]
    word = "record" if unit == "record" else f"{unit} record"
    what = f"{units:,} {word}{'s' if units != 1 else ''}"
    return f"{flagged:,} of {what} carr{'y' if flagged != 1 else 'ies'} too much"


def summary_lines(diagnosis: Diagnosis) -> list[str]:
    """The lines of the summary, without those of single records, which a table shows."""
    return [line for line in diagnosis.summary().splitlines() if not line.startswith(" ")]


# --- Parts of the page ----------------------------------------------------------------------------


def _tiles(diagnosis: Diagnosis) -> Tiles:
    """The numbers that people look for first, by record and by origin."""
    found = diagnosis.summary_figures
    kish = found["kish"]
    return Tiles(
        [
            (
                f"{found['n_flagged']:,}",
                "records flagged",
                f"{found['n_lineages_above']:,} origins above the limit at baseline",
            ),
            (
                percent(found["largest_share"]),
                "largest share of a record",
                f"{percent(found['largest_lineage_share'])} of an origin",
            ),
            (
                amount(kish["n_eff"]),
                f"effective sample size of {kish['n']:,}",
                f"{amount(kish['lineage_n_eff'])} by origin",
            ),
            (f"{found['n_thin']:,}", "thin statistics", f"of {found['n_statistics']:,}"),
        ]
    )


def flagged_records(diagnosis: Diagnosis, most: int = MOST_FLAGGED) -> list[Part]:
    """Table of flagged records, by record and by origin."""
    table = diagnosis.flagged
    if table.empty:
        limit = round_percent(diagnosis.threshold)
        return [Paragraph(f"No record carries more than {limit} of a statistic that is not thin.")]
    n_reforms = diagnosis.summary_figures["n_reforms_ok"]
    rows = []
    for row in table.head(most).to_dict("records"):
        is_baseline = row["share"] >= row["reform_max_share"]
        worst = row["worst_statistic"] if is_baseline else row["reform_worst_statistic"]
        cells = [
            row["id"],
            worst,
            percent(max(row["share"], row["reform_max_share"])),
            percent(row["share"]),
            percent(row["lineage_share"]),
            f"{row['n_influential']:,}",
            f"{row['n_reforms_above']:,} of {n_reforms:,}",
            amount(row["weight"]),
            amount(row["weight_over_median"]),
        ]
        rows.append(cells if n_reforms else [*cells[:2], *cells[3:6], *cells[7:]])
    heads = [
        "Record",
        "Statistic it carries most of",
        "Largest share",
        "Share at baseline",
        "Of its origin",
        "Statistics above",
        "Reforms above",
        "Weight",
        "Over the median",
    ]
    heads = heads if n_reforms else [*heads[:2], *heads[3:6], *heads[7:]]
    words = frozenset({1})
    shown = Table(heads, rows, words=words, has_short_names=_are_short(table.id.head(most)))
    return [shown, *_more(len(table) - len(rows), "records")]


def left_out(diagnosis: Diagnosis) -> list[Part]:
    """Table of what statistics would change by without a record."""
    table = diagnosis.left_out
    rows = [
        [
            row["id"],
            row["statistic"],
            percent(row["share"]),
            amount(row["estimate"]),
            _relative(row, "change"),
            _relative(row, "change_recalibrated"),
        ]
        for row in table.head(MOST_FLAGGED).to_dict("records")
    ]
    heads = [
        "Record",
        "Statistic that changes most",
        "Share",
        "Estimate",
        "Weights fixed",
        "Weights fitted again",
    ]
    shown = Table(
        heads, rows, words=frozenset({1}), has_short_names=_are_short(table.id.head(MOST_FLAGGED))
    )
    return [
        shown,
        *_more(len(table) - len(rows), "records"),
        Paragraph(ABOUT_LEFT_OUT, is_note=True),
    ]


def _relative(row: Any, name: str) -> str:
    return percent(row[name] / row["estimate"], signed=True) if row["estimate"] else "–"


def thin_cells(diagnosis: Diagnosis) -> list[Part]:
    """Table of thin statistics, and what thin means."""
    thin, settings = diagnosis.thin_cells, diagnosis.settings
    note = ABOUT_THIN.format(
        contributors=settings["least_contributors"], effective=settings["least_effective"]
    )
    if thin.empty:
        return [Paragraph("No statistic is thin."), Paragraph(note, is_note=True)]
    rows = [
        [
            row["statistic"],
            row["thin_reason"],
            f"{row['n']:,}",
            amount(row["effective"]),
            percent(row["largest_share"]),
            row["largest_id"] or "–",
        ]
        for row in thin.head(MOST_THIN).to_dict("records")
    ]
    heads = [
        "Statistic",
        "Why it is thin",
        "Contributors",
        "Effective",
        "Largest share",
        "Of record",
    ]
    table = Table(heads, rows, words=frozenset({1, 5}))
    more = _more(len(thin) - len(rows), "statistics")
    return [table, *more, Paragraph(note, is_note=True)]


def _kish(diagnosis: Diagnosis) -> list[Part]:
    table = diagnosis.kish
    chosen = table
    if len(table) > MOST_CELLS:
        keep = np.argsort(table.n_eff.to_numpy(), kind="stable")[: MOST_CELLS - 1]
        chosen = table.iloc[np.union1d([0], keep)]
    rows = []
    for row in chosen.to_dict("records"):
        band = next((text for bound, text in BANDS if row["n_eff"] < bound), "")
        rows.append(
            [
                "all" if row["slice"] == "all" else f"{row['slice']} = {row['cell']}",
                row["entity"],
                f"{row['n']:,}",
                amount(row["n_eff"]),
                f"{row['design_effect']:.2f}",
                percent(row["n_eff_over_n"]),
                amount(row["cluster_n_eff"]),
                amount(row["lineage_n_eff"]),
                band,
            ]
        )
    heads = [
        "Cell",
        "Entity",
        "Records",
        "Effective",
        "Design effect",
        "Effective / records",
        "By unit",
        "By origin",
        "Band",
    ]
    left = len(table) - len(chosen)
    more = _more(left, "cells") if left else []
    return [Table(heads, rows, words=frozenset({1, 8})), *more]


def _reforms(diagnosis: Diagnosis) -> list[Part]:
    table = diagnosis.reforms
    parts: list[Part] = []
    if (table.status == "ok").any():
        parts.append(Figure("reforms", cutoffs.reforms(diagnosis)))
    order = table.status.map({"failed": 0, "inert": 1, "ok": 2}).to_numpy()
    shown = table.iloc[np.lexsort((-table.largest_share.fillna(0).to_numpy(), order))]
    rows = [
        [
            row["reform"],
            row["message"] or row["description"],
            row["status"],
            amount(row["gross_change"]) if row["status"] == "ok" else "–",
            f"{row['n_influential']:,}" if row["status"] == "ok" else "–",
            percent(row["largest_share"]) if row["status"] == "ok" else "–",
            row["largest_id"] or "–",
        ]
        for row in shown.head(MOST_REFORMS).to_dict("records")
    ]
    heads = [
        "Reform",
        "What it is",
        "Status",
        "Gross change",
        "Influential",
        "Largest share",
        "Of record",
    ]
    parts.append(Table(heads, rows, words=frozenset({1, 2, 6}), has_short_names=True))
    about = (
        "An inert reform changes nothing that is reported, and counts neither for nor against a "
        "record. Shares are of the absolute change."
    )
    return [*parts, *_more(len(table) - len(rows), "reforms"), Paragraph(about, is_note=True)]


def _comparisons(diagnosis: Diagnosis) -> list[Part]:
    rows = [
        [
            row["rule"],
            row["group"],
            amount(row["cutoff"]),
            f"{row['n_above']:,} of {row['n']:,}",
            percent(row["weight_above"]),
        ]
        for row in diagnosis.comparisons.head(MOST_CELLS).to_dict("records")
    ]
    heads = ["Rule", "Group", "Cut-off", "Records above", "Weight above"]
    return [
        Figure("potter", cutoffs.potter(diagnosis)),
        Table(heads, rows, words=frozenset({1})),
        *_more(len(diagnosis.comparisons) - len(rows), "rules"),
        Paragraph(ABOUT_RULES, is_note=True),
    ]


def _are_short(names: Any) -> bool:
    return max((len(str(name)) for name in names), default=0) <= 16


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []
