"""Which records were spread over generated ones, and what that costs, as tables of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microcalibrate.figures.plotting import amount, percent
from microcalibrate.reports.page import Paragraph, Part, Table

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.regularise.result import RegulariseResult

MOST_ROWS = 50
ABOUT_STABILITY = (
    "The same records were spread anew with other seeds. The standard deviation of a statistic "
    "between them is the price of generating records: it is noise that the survey did not have."
)


def offender_parts(result: RegulariseResult) -> list[Part]:
    """Table of the records that were spread, and those that could not be."""
    table = result.offenders
    if not len(table):
        return [Paragraph("No record was spread.")]
    rows = [
        [
            row["id"],
            row["statistic"],
            f"{row['round']}",
            percent(row["share"]),
            f"{row['n_offspring']:,}",
            f"{row['n_valid']:,} of {row['n_candidates']:,}",
            "✓ kept" if row["accepted"] else f"✗ {row['reason']}",
        ]
        for row in table.head(MOST_ROWS).to_dict("records")
    ]
    heads = [
        "Record",
        "Statistic it carried most of",
        "Round",
        "Share",
        "Offspring",
        "Possible candidates",
        "Outcome",
    ]
    parts: list[Part] = [Table(heads, rows, words=frozenset({1, 6}))]
    parts += _more(len(table) - len(rows), "records")
    if len(result.irreducible):
        left = result.irreducible.head(MOST_ROWS)
        given_up = list(map(list, zip(left.id, left.reason, strict=True)))
        parts += [
            Paragraph("Records that could not be spread, and are left as they were:"),
            Table(["Record", "Why"], given_up, words=frozenset({1})),
            *_more(len(result.irreducible) - len(given_up), "records"),
        ]
    return parts


def stability_parts(stability: pd.DataFrame) -> list[Part]:
    """Table of how much statistics differ between seeds, and what that means."""
    order = stability.relative_sd.sort_values(ascending=False, kind="stable").index
    rows = [
        [
            row["statistic"],
            amount(row["mean"]),
            amount(row["sd"]),
            percent(row["relative_sd"]),
            "thin" if row["is_thin"] else "✗ too much" if row["fails"] else "✓",
        ]
        for row in stability.loc[order[:MOST_ROWS]].to_dict("records")
    ]
    heads = ["Statistic", "Mean over seeds", "Standard deviation", "Relative", ""]
    return [
        Table(heads, rows, words=frozenset({4})),
        *_more(len(stability) - len(rows), "statistics"),
        Paragraph(ABOUT_STABILITY, is_note=True),
    ]


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []
