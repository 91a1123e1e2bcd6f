"""The report of a regularisation: what spreading records did, by record and by origin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.diagnostics.frame import records_of
from microcalibrate.figures import diagnostics, weight_distribution
from microcalibrate.figures.plotting import amount, count, percent, power_of_ten, round_percent
from microcalibrate.regularise.tabulating import DECLARED
from microcalibrate.reports.calibration import kind
from microcalibrate.reports.diagnosis import flagged_records
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
from microcalibrate.reports.spreading import offender_parts, stability_parts
from microcalibrate.reports.surface import settings_parts
from microcalibrate.result_tables import as_declared

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.diagnostics.diagnosis import Diagnosis
    from microcalibrate.regularise.result import RegulariseResult

MOST_ROWS = 50
WORST_TARGETS = 25
ABOUT_OFFSPRING = (
    "{count:,} of the {total:,} {records} are generated: nobody was interviewed for them. "
    "They are marked in every table (_mc_synthetic), with the record that they come from "
    "(_mc_lineage). Leave them out wherever respondents are counted, and judge the result by its "
    "origins."
)
ABOUT_NONE = "No record was generated: the tables hold respondents alone."
ABOUT_SIDES = (
    "Spreading a record over several lowers the share of each by construction, whether or not "
    "anything was learned. The columns by origin take a record and all that was generated from it "
    "together: they are the ones that copies cannot improve."
)
ABOUT_ROUNDS = (
    "Round 0 recalibrates without any generated record: others are compared with it, and kept only "
    "if the targets, those held out and the shares of the origins are no worse than allowed, and "
    "the shares of its records fall. Errors are root mean squares, relative to the targets’ scales."
)
ABOUT_TARGETS = (
    "Errors are relative to the scale of a target: its absolute value, unless that is zero or "
    "another scale was given. The price is what the target costs per unit by which it is raised: "
    "targets with high prices drive the weights."
)


def write_regularise_report(result: RegulariseResult, path: str | Path) -> Path:
    """Write a page with the state before and after, by record and by origin, and every round.

    Args:
        result: What `regularise` did.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(result), path)


def render(result: RegulariseResult) -> str:
    """The page as text; see `write_regularise_report`."""
    return render_page(headline(result), lead(result), sections(result))


def lead(result: RegulariseResult) -> list[Part]:
    """What people should see first."""
    first, *others = [line.strip() for line in result.summary().splitlines() if line.strip()]
    is_good = result.status in ("improved", "recalibrated", "nothing_flagged")
    said: list[Part] = [Verdict(first, about_offspring(result), is_good)]
    said += [Sentences(others)] if others else []
    return [*said, _tiles(result)]


def sections(result: RegulariseResult) -> list[Section]:
    """The rest of the page, in order."""
    found = [
        Section(
            "Before and after, by record and by origin",
            [
                sides(result),
                Paragraph(ABOUT_SIDES, is_note=True),
                *_influence(result),
            ],
            tab="Before and after",
        ),
        Section("What happened round by round", _rounds(result), tab="Rounds"),
        Section(
            "How the targets are met",
            [
                Figure("targets", result.plot_targets()),
                *_targets(result.targets),
                Figure("prices", result.plot_prices()),
                Paragraph(ABOUT_TARGETS, is_note=True),
            ],
            tab="Targets",
        ),
        Section(
            "What happened to the weights",
            [
                Figure("weights", result.plot_weights()),
                Figure("kish", weight_distribution.kish(result.after)),
            ],
            tab="Weights",
        ),
        Section("Which records were spread", offender_parts(result), tab="Spread"),
        Section(
            "Which records are still flagged", flagged_records(result.after), tab="Still flagged"
        ),
    ]
    if len(result.stability):
        found.append(
            Section("What generating costs", stability_parts(result.stability), tab="Stability")
        )
    found += [
        Section("What is reported", settings_parts(result.after), tab="Surface"),
        Section(
            "How it was computed",
            [
                Listing(
                    {
                        **{name: _plain(value) for name, value in result.settings.items()},
                        **{f"version of {k}": v for k, v in result.versions.items()},
                    }
                )
            ],
            tab="Settings",
        ),
    ]
    return found


# --- Sentences ------------------------------------------------------------------------------------


def headline(result: RegulariseResult) -> str:
    """What was done, in one line."""
    before, after = result.n_flagged
    if not before:
        return "No record carries too much: nothing was changed"
    if not result.changed:
        flagged = count(before, "flagged record")
        return f"{flagged}, and no round that helped: nothing was changed"
    return f"{count(before, 'flagged record')} before, {after:,} after"


def about_offspring(result: RegulariseResult) -> str:
    """How many records are generated, and what that means."""
    count, total = n_generated(result), len(result.after.records)
    if not count:
        return ABOUT_NONE
    return ABOUT_OFFSPRING.format(
        count=count, total=total, records=records_of(result.after.settings["unit"])
    )


def n_generated(result: RegulariseResult) -> int:
    """Number of generated units that are in the tables."""
    return len(result.lineage)


# --- Before and after -----------------------------------------------------------------------------


def _tiles(result: RegulariseResult) -> Tiles:
    """The numbers that people look for first, each by record and by origin."""
    then, now = result.before.summary_figures, result.after.summary_figures
    before, after = result.n_flagged
    return Tiles(
        [
            (
                f"{before:,} → {after:,}",
                "records flagged where judged before",
                f"{then['n_lineages_above']:,} → {now['n_lineages_above']:,} origins above",
            ),
            (
                f"{percent(then['largest_share'])} → {percent(now['largest_share'])}",
                "largest share of a record",
                f"{percent(then['largest_lineage_share'])} → "
                f"{percent(now['largest_lineage_share'])} of an origin",
            ),
            (
                f"{amount(then['kish']['n_eff'])} → {amount(now['kish']['n_eff'])}",
                "effective sample size",
                f"{amount(then['kish']['lineage_n_eff'])} → "
                f"{amount(now['kish']['lineage_n_eff'])} by origin",
            ),
            (
                _change(result.targets),
                "mean error of the targets",
                count(len(result.targets), "target"),
            ),
        ]
    )


def sides(result: RegulariseResult) -> Table:
    """Figures before and after, by record and by origin side by side."""
    then, now = (_figures(each) for each in (result.before, result.after))
    rows = [[name, then[name][0], now[name][0], then[name][1], now[name][1]] for name in then]
    heads = ["", "By record, before", "After", "By origin, before", "After"]
    return Table(heads, rows)


def _figures(diagnosis: Diagnosis) -> dict[str, tuple[str, str]]:
    """Each figure by record and by origin; a dash where it is of one of them only."""
    found = diagnosis.summary_figures
    kish, weights = found["kish"], found["weights"]
    limit = round_percent(diagnosis.threshold)
    return {
        "Number": (f"{found['n_units']:,}", f"{found['n_lineages']:,}"),
        "Flagged, at baseline or over reforms": (f"{found['n_flagged']:,}", "–"),
        f"Above {limit} of a statistic at baseline": (
            f"{found['n_influential']:,}",
            f"{found['n_lineages_above']:,}",
        ),
        "Largest share of a statistic": (
            percent(found["largest_share"]),
            percent(found["largest_lineage_share"]),
        ),
        "Effective sample size (Kish)": (amount(kish["n_eff"]), amount(kish["lineage_n_eff"])),
        "Design effect of the weights": (f"{kish['design_effect']:.2f}", "–"),
        "Thin statistics": (f"{found['n_thin']:,} of {found['n_statistics']:,}", "–"),
        "Median weight": (amount(weights["median"]), "–"),
        "Largest weight": (amount(weights["largest"]), "–"),
        "Sum of weights": (amount(weights["total"]), "–"),
        "Weight of the heaviest 1%": (percent(weights["top_1_percent"]), "–"),
        "Skewness of the weights": (f"{weights['skewness']:.1f}", "–"),
    }


def _change(targets: pd.DataFrame) -> str:
    if not len(targets):
        return "–"
    before, after = (targets[name].abs().mean() for name in ("before_error", "after_error"))
    return f"{percent(before)} → {percent(after)}"


def _influence(result: RegulariseResult) -> list[Part]:
    """Weight and influence of every record, before and, where anything was changed, after."""
    after = Figure("influence", diagnostics.influence(result.after, result.before))
    if not result.changed:
        return [after]
    before = Figure("influence-before", diagnostics.influence(result.before))
    return [Paragraph("Before:"), before, Paragraph("After:"), after]


# --- Tables ---------------------------------------------------------------------------------------


def _rounds(result: RegulariseResult) -> list[Part]:
    table = result.history
    if not len(result.rounds):
        return [Paragraph("There was no round.")]
    rows = [
        [
            f"Round {row['round']}",
            _kept(row),
            f"{row['n_spawned']:,} over {row['n_offspring']:,}" if row["round"] else "none",
            f"{row['n_flagged_before']:,} → {row['n_flagged_after']:,}",
            _arrow(row, "batch_share", percent),
            _arrow(row, "lineage_share", percent),
            _arrow(row, "target_loss", _root),
            _arrow(row, "held_out_loss", _root),
        ]
        for row in table.head(MOST_ROWS).to_dict("records")
    ]
    heads = [
        "Round",
        "Outcome",
        "Records spread",
        "Flagged",
        "Their largest share",
        "Largest of an origin",
        "Error of targets",
        "Held out",
    ]
    return [
        Figure("rounds", result.plot_rounds()),
        Table(heads, rows, words=frozenset({1}), has_short_names=True),
        *_more(len(table) - len(rows), "rounds"),
        Paragraph(ABOUT_ROUNDS, is_note=True),
    ]


def _kept(row: Mapping[Any, Any]) -> str:
    done = ("✓ kept" if row["accepted"] else "✗ undone") if row["round"] else "recalibration alone"
    return f"{done}: {row['reason']}" if row["reason"] else done


def _targets(targets: pd.DataFrame) -> list[Part]:
    targets = as_declared(targets, ("target", "before", "after"), DECLARED)
    order = targets.after_error.abs().sort_values(ascending=False, kind="stable").index
    rows = [
        [
            row["name"],
            amount(row["target"]),
            amount(row["before"]),
            amount(row["after"]),
            percent(row["before_error"], signed=True),
            percent(row["after_error"], signed=True),
            kind(row["tolerance"]),
            power_of_ten(row["price"]),
        ]
        for row in targets.loc[order[:WORST_TARGETS]].to_dict("records")
    ]
    heads = [
        "Target",
        "Value",
        "Estimate before",
        "After",
        "Error before",
        "After",
        "Tolerance",
        "Price",
    ]
    return [Table(heads, rows), *_more(len(targets) - len(rows), "targets")]


def _root(loss: float) -> str:
    """The root of a mean squared error, as a percentage."""
    return percent(math.sqrt(max(loss, 0.0)))


# --- Cells ----------------------------------------------------------------------------------------


def _arrow(row: Mapping[Any, Any], name: str, written: Any) -> str:
    then, now = (row[f"{name}_{when}"] for when in ("before", "after"))
    cells = ["–" if each is None or each != each else written(each) for each in (then, now)]
    return " → ".join(cells)


def _plain(value: Any) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(_plain(each)) for each in value[:12])
    return value


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []
