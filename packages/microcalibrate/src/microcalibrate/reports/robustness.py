"""The report of a robustness evaluation: how far a calibration holds beyond its own targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from microcalibrate.figures import robustness as figures
from microcalibrate.figures.plotting import amount, count, percent
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

    from microcalibrate.evaluation.robustness_result import RobustnessResult

WORST_TARGETS = 25
MOST_FOLDS = 100
MOST_VARIABLES = 50
UNKNOWN = "–"
ABOUT_ERRORS = (
    "Errors are absolute, relative to the scale of a target (its absolute value, unless that is "
    "zero or another scale was given), and capped at 100% each. A target is held out when neither "
    "its total nor its column had any influence on the weights that it is compared with."
)
ABOUT_STABILITY = (
    "Another seed draws other records. The bootstrap multiplies every design weight by an "
    "exponential random number of mean 1 and calibrates anew. Weight moves when it lies on other "
    "records: half the sum of absolute changes, as a share of all weight."
)
ABOUT_DRIFT = (
    "Changes are relative to the total at the dense weights on all targets: what a draw changes "
    "in a total that nothing holds in place."
)


def write_robustness_report(result: RobustnessResult, path: str | Path) -> Path:
    """Write a page with the verdict, and the figures and tables that it rests on.

    Args:
        result: What `evaluate_robustness` found.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(result), path)


def render(result: RobustnessResult) -> str:
    """The page as text; see `write_robustness_report`."""
    return render_page(headline(result), lead(result), sections(result))


def lead(result: RobustnessResult) -> list[Part]:
    """What people should see first."""
    first, second, *others = result.verdict
    return [Verdict(first, second, is_reassuring(result)), Sentences(others), _tiles(result)]


def sections(result: RobustnessResult) -> list[Section]:
    """The rest of the page, in order."""
    found = [
        Section(
            "How well held-out targets are met",
            [Figure("folds", figures.folds(result)), *_folds(result.folds)],
            tab="Folds",
        ),
        Section(
            "Which targets are missed when held out",
            [
                Figure("targets", figures.targets(result)),
                _worst(result.targets),
                Paragraph(ABOUT_ERRORS, is_note=True),
            ],
            tab="Targets",
        ),
        Section(
            "How stable it is",
            [
                Figure("stability", figures.stability(result)),
                _stability(result),
                Paragraph(ABOUT_STABILITY, is_note=True),
            ],
            tab="Stability",
        ),
    ]
    if len(result.drift):
        drawn = Figure("drift", figures.drift(result))
        about = Paragraph(ABOUT_DRIFT, is_note=True)
        found.append(
            Section(
                "What happens to other totals",
                [drawn, *_drift(result.drift), about],
                tab="Other totals",
            )
        )
    found.append(Section("How it was evaluated", [Listing(result.settings)], tab="Settings"))
    return found


# --- Sentences ------------------------------------------------------------------------------------


def headline(result: RobustnessResult) -> str:
    """What was done, in one line."""
    records = (
        f", {result['records']:,.0f} records kept" if result.is_drawn else ", no draw of records"
    )
    return (
        f"{count(len(result.targets), 'target')} held out in {len(result.folds):,} folds of "
        f"{count(result.targets.group.nunique(), 'group')}{records}"
    )


def is_reassuring(result: RobustnessResult) -> bool:
    """Whether calibrating brings held-out targets closer, and a draw does so no worse than chance.

    A difference from random samples counts beyond two of its standard errors.
    """
    random = result.random
    is_worse = random is not None and random.advantage < -2 * random.advantage_standard_error
    return result["mean_error"] < result["design_error"] and not is_worse


# --- Parts of the page ----------------------------------------------------------------------------


def _tiles(result: RobustnessResult) -> Tiles:
    """The numbers that people look for first."""
    tiles = [
        (
            percent(result["mean_error"]),
            "error of held-out targets",
            f"± {percent(result['std_error'])} over {len(result.folds):,} folds",
        ),
        (percent(result["train_error"]), "error of those calibrated to", "in the same folds"),
        (percent(result["gap"]), "gap between them", "held out less calibrated to"),
    ]
    random = result.random
    if random is None or not random.n_folds:
        design = percent(result["design_error"])
        tiles.append((design, "error of the design weights", "of the same held-out targets"))
    else:
        won = f"{random.folds_won} of {random.n_folds} folds won"
        tiles.append((f"{random.error_ratio:.2f} ×", "the error of random samples", won))
    return Tiles(tiles)


def _folds(folds: pd.DataFrame) -> list[Part]:
    rows = [
        [
            f"Fold {row['fold']}",
            f"{row['n_targets']:,}",
            percent(row["held_out_error"]),
            percent(row["train_error"]),
            percent(row["design_error"]),
            _known(row["random_error"]),
            percent(row["weight_change"]),
            amount(row["records"]),
            amount(row["kish"]),
        ]
        for row in folds.head(MOST_FOLDS).to_dict("records")
    ]
    heads = [
        "Fold",
        "Targets",
        "Held out",
        "Calibrated to",
        "Design weights",
        "Random sample",
        "Weight moved",
        "Records",
        "Effective",
    ]
    return [_table(heads, rows, short=True), *_more(len(folds) - len(rows), "folds")]


def _worst(targets: pd.DataFrame) -> Table:
    worst = targets.nlargest(WORST_TARGETS, "held_out_error", keep="first")
    rows = [
        [
            row["name"],
            amount(row["target"]),
            f"{row['fold']}",
            percent(row["held_out_error"]),
            percent(row["held_out_bias"], signed=True),
            percent(row["train_error"]),
            percent(row["design_error"]),
            _known(row["random_error"]),
        ]
        for row in worst.to_dict("records")
    ]
    heads = [
        "Target",
        "Value",
        "Fold",
        "Held out",
        "Signed, not capped",
        "Calibrated to",
        "Design weights",
        "Random sample",
    ]
    return _table(heads, rows)


def _stability(result: RobustnessResult) -> Table:
    """Mean and spread of each kind of repetition, as far as it was asked for."""
    draws, boot = result.draws, result.bootstrap
    chosen = draws[(draws.selection == "chosen") & (draws.fold >= 0)]
    random = draws[(draws.selection == "random") & (draws.fold >= 0)]
    kinds = [
        ("Held-out error by fold", result.folds.held_out_error),
        ("Held-out error by draw", chosen.groupby("seed").held_out_error.mean()),
        ("Held-out error by draw, random samples", random.groupby("seed").held_out_error.mean()),
        ("Error on all targets, records reweighted", boot.error),
        ("Weight that moves, dense", result.folds.weight_change),
    ]
    if result.is_drawn:
        final = result.folds.final_weight_change
        kinds.append(("Weight that moves, after draw and refit", final))
    rows = [
        [
            name,
            f"{values.count():,}",
            percent(values.mean()),
            percent(values.std()),
            percent(values.min()),
            percent(values.max()),
        ]
        for name, values in kinds
        if values.count() > 1
    ]
    heads = ["Figure", "Repetitions", "Mean", "Standard deviation", "Smallest", "Largest"]
    return Table(heads, rows)


def _drift(drift: pd.DataFrame) -> list[Part]:
    rows = [
        [
            row["variable"],
            amount(row["design_total"]),
            amount(row["dense_total"]),
            _known(row["draw_drift"]),
            _known(row["fold_drift"]),
            _known(row["random_drift"]),
            _known(row["bootstrap_std"]),
        ]
        for row in drift.nlargest(MOST_VARIABLES, "draw_drift", keep="first").to_dict("records")
    ]
    heads = [
        "Variable",
        "At design weights",
        "At dense weights",
        "Draw and refit",
        "A fold left out",
        "Random sample",
        "Standard deviation, records reweighted",
    ]
    return [_table(heads, rows), *_more(len(drift) - len(rows), "variables")]


def _table(heads: list[str], rows: list[list[str]], *, short: bool = False) -> Table:
    """A table without the columns in which nothing is known."""
    kept = [j for j in range(len(heads)) if not rows or any(row[j] != UNKNOWN for row in rows)]
    return Table(
        [heads[j] for j in kept], [[row[j] for j in kept] for row in rows], has_short_names=short
    )


def _known(fraction: float) -> str:
    """A percentage, or a dash where it is not known."""
    return percent(fraction) if fraction == fraction else UNKNOWN


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []
