"""The report of a trained model: what its draws are worth beside households it has not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.figures.plotting import amount, percent
from microcalibrate.reports.page import (
    Figure,
    Listing,
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

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.regularise.quality import QualityReport

MOST_ROWS = 60
KINDS = {"ks": "largest difference", "tv": "total variation"}
MARKS = {True: "✓ passed", False: "✗ failed", None: "– reported only"}
ABOUT_GATES = (
    "A gate compares a figure of the drawn households with its limit. The baseline is the same "
    "figure between real households and real ones: what chance alone does in samples of this size. "
    "Figures without a limit are reported and decide nothing."
)
ABOUT_MARGINALS = (
    "The distance of each column’s distribution from the real one: largest difference of the "
    "cumulative shares for numbers (Kolmogorov and Smirnov), half the sum of differences of shares "
    "for categories (total variation)."
)
ABOUT_USE = (
    "Households drawn from a model are generated, not interviewed. A model that passes draws "
    "households that look like real ones in these respects; it adds no evidence about the "
    "population."
)


def write_quality_report(quality: QualityReport, path: str | Path) -> Path:
    """Write a page with the gates, and the figures that they rest on.

    Args:
        quality: What `check_quality` found.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(quality), path)


def render(quality: QualityReport) -> str:
    """The page as text; see `write_quality_report`."""
    return render_page(headline(quality), lead(quality), sections(quality))


def lead(quality: QualityReport) -> list[Part]:
    """What people should see first."""
    verdict, *others = quality.summary().splitlines()
    said = [line.strip() for line in others if line.strip()]
    told: list[Part] = [Verdict(verdict, ABOUT_USE, bool(quality.passed))]
    told += [Sentences(said)] if said else []
    return [*told, _tiles(quality)]


def sections(quality: QualityReport) -> list[Section]:
    """The rest of the page, in order."""
    return [
        Section(
            "Which gates it passes",
            [
                _gates(quality.gates),
                Paragraph(ABOUT_GATES, is_note=True),
            ],
            tab="Gates",
        ),
        Section(
            "Each column by itself",
            [
                Figure("marginals", quality.plot_marginals()),
                *_marginals(quality.marginals),
                Paragraph(ABOUT_MARGINALS, is_note=True),
            ],
            tab="Columns",
        ),
        *_more_tables(quality),
        Section(
            "How it was checked",
            [
                Listing(
                    {
                        **{name: _plain(value) for name, value in quality.settings.items()},
                        **{f"version of {k}": v for k, v in quality.versions.items()},
                    }
                )
            ],
            tab="Settings",
        ),
    ]


def headline(quality: QualityReport) -> str:
    """What was found, in one line."""
    decided = [passed for passed in map(_decision, quality.gates.passed) if passed is not None]
    return f"The model passes {sum(decided):,} of {len(decided):,} gates"


# --- Parts of the page ----------------------------------------------------------------------------


def _tiles(quality: QualityReport) -> Tiles:
    """How many gates of each family are passed, as far as there is room."""
    tiles = []
    for family, part in quality.gates.groupby("family", sort=False):
        decided = [passed for passed in map(_decision, part.passed) if passed is not None]
        if decided:
            tiles.append((f"{sum(decided)} of {len(decided)}", f"{family}", "gates passed"))
    return Tiles(tiles)


def _gates(gates: pd.DataFrame) -> Table:
    rows = [
        [
            _sentence(row["words"]),
            row["family"],
            MARKS[_decision(row["passed"])],
            _number(row["value"]),
            _limit(row),
            _number(row["baseline"]),
            row["note"] or "",
        ]
        for row in gates.to_dict("records")
    ]
    heads = ["Figure", "Family", "Gate", "Drawn", "Limit", "Real beside real", "Note"]
    return Table(heads, rows, words=frozenset({1, 2, 6}))


def _marginals(marginals: pd.DataFrame) -> list[Part]:
    judged_first = marginals.sort_values("value", ascending=False, kind="stable")
    worst = judged_first.sort_values("is_thin", kind="stable").head(MOST_ROWS)
    rows = [
        [
            row["column"],
            row["type"],
            KINDS.get(row["statistic"], row["statistic"]),
            _number(row["value"]),
            _number(row["baseline"]),
            percent(row["zero_real"]) if row["zero_real"] == row["zero_real"] else "–",
            percent(row["zero_synthetic"])
            if row["zero_synthetic"] == row["zero_synthetic"]
            else "–",
            amount(row["effective"]),
            "too few to judge" if row["is_thin"] else "",
        ]
        for row in worst.to_dict("records")
    ]
    heads = [
        "Column",
        "Type",
        "Statistic",
        "Value",
        "Real beside real",
        "Zeros, real",
        "Zeros, drawn",
        "Effective values",
        "",
    ]
    words = frozenset({1, 2, 8})
    return [Table(heads, rows, words=words), *_more(len(marginals) - len(rows), "figures")]


def _more_tables(quality: QualityReport) -> list[Section]:
    """Tables that only some checks have, each under a title of its own."""
    titles = {
        "pairs": "Columns in pairs",
        "conditional": "Columns given the others",
        "statistics": "Reported statistics",
    }
    sections = []
    for name, title in titles.items():
        table = getattr(quality, name)
        if table.empty:
            continue
        shown = table.head(MOST_ROWS)
        kinds = [str(dtype).lower().startswith(("int", "float")) for dtype in shown.dtypes]
        rows = [
            [
                _number(value) if is_number else _word(value)
                for value, is_number in zip(row, kinds, strict=True)
            ]
            for row in shown.itertuples(index=False)
        ]
        heads = [str(head).replace("_", " ").capitalize() for head in shown.columns]
        words = frozenset(place for place, is_number in enumerate(kinds) if not is_number)
        sections.append(
            Section(
                title, [Table(heads, rows, words=words), *_more(len(table) - len(rows), "rows")]
            )
        )
    return sections


# --- Cells ----------------------------------------------------------------------------------------


def _decision(passed: Any) -> bool | None:
    """Whether a gate was passed; None where a figure is only reported."""
    import pandas as pd

    return None if pd.isna(passed) else bool(passed)


def _limit(row: Mapping[Any, Any]) -> str:
    if _decision(row["passed"]) is None or _is_gone(row["limit"]):
        return "–"
    return f"{'≤' if row['direction'] == 'at most' else '≥'} {_number(row['limit'])}"


def _number(value: Any) -> str:
    """A figure in few characters; what is not known is a dash."""
    if _is_gone(value):
        return "–"
    if isinstance(value, str):
        return value
    return amount(value) if abs(value) >= 100 else f"{value:.3g}".replace("-", "−")


def _share(value: float) -> str:
    return "–" if _is_gone(value) else percent(value)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _is_gone(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value)) or (isinstance(value, float) and not math.isfinite(value))


def _word(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    return "–" if _is_gone(value) else str(value)


def _plain(value: Any) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(_plain(each)) for each in value[:12])
    return percent(value) if isinstance(value, float) and 0 < abs(value) < 1e-3 else value


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []
