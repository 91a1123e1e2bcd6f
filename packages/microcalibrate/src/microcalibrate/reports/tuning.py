"""The report of a tuning: which trial was chosen, why, and what else there was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.figures import tuning as figures
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

    from microcalibrate.hyperparameter_tuning.result import TuningResult

BEST_TRIALS = 25
MOST_ON_FRONT = 50
MOST_FOLDS = 50
MOST_REASONS = 10
# Values of a setting that is a list, such as the sizes of folds.
MOST_VALUES = 12
ABOUT_ERRORS = (
    "Errors are absolute, relative to the scale of a target, and capped at 100% each; ± is one "
    "standard error over folds. A trial is on the front when no other has both a smaller held-out "
    "error and fewer records."
)
ABOUT_RULE = (
    "The one-standard-error rule takes the fewest records among the trials whose held-out error "
    "is within one standard error of that of the best (Breiman et al. 1984)."
)


def write_tuning_report(result: TuningResult, path: str | Path) -> Path:
    """Write a page with the trial chosen, and the figures and tables of all trials.

    Args:
        result: What `tune_hyperparameters` found.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    return write_page(render(result), path)


def render(result: TuningResult) -> str:
    """The page as text; see `write_tuning_report`."""
    return render_page(headline(result), lead(result), sections(result))


def lead(result: TuningResult) -> list[Part]:
    """What people should see first."""
    tried, best, told, *others = result.summary().splitlines()
    n_done = int((result.trials.state == "COMPLETE").sum())
    return [
        Verdict(best, told, is_good=not result.advice()),
        Sentences([tried, *others]),
        _tiles(result, n_done),
    ]


def sections(result: TuningResult) -> list[Section]:
    """The rest of the page, in order."""
    done = result.trials[result.trials.state == "COMPLETE"]
    goal = "score" if result.settings["objective"] == "balanced" else "held_out_error"
    return [
        Section(
            "How sparse is safe",
            [
                Figure("front", figures.front(result)),
                Paragraph("Trials on the front, the fewest records first:"),
                *_trials(result, result.front, MOST_ON_FRONT),
                Paragraph(f"{ABOUT_ERRORS} {ABOUT_RULE}", is_note=True),
            ],
            tab="Front",
        ),
        Section(
            "How sure it is",
            [Figure("folds", figures.folds(result)), *_folds(result)],
            tab="Folds",
        ),
        Section(
            "What matters", [Figure("importance", figures.importance(result))], tab="Importance"
        ),
        Section(
            "What was tried",
            [
                Figure("history", figures.history(result)),
                Paragraph(f"Trials by {goal.replace('_', '-', 1).replace('_', ' ')}:"),
                *_trials(result, done.sort_values(goal, kind="stable"), BEST_TRIALS),
                *_failures(result.trials),
            ],
            tab="History",
        ),
        Section(
            "How it was tuned",
            [Listing({name: _plain(value) for name, value in result.settings.items()})],
            tab="Settings",
        ),
    ]


def headline(result: TuningResult) -> str:
    """What was done, in one line."""
    count, folds = len(result.trials), result.settings["n_folds"]
    ended = "" if result.status in ("finished", "loaded") else f", {result.status}"
    return f"{count:,} trial{'s' if count != 1 else ''} of tuning over {folds:,} folds{ended}"


# --- Parts of the page ----------------------------------------------------------------------------


def _tiles(result: TuningResult, n_done: int) -> Tiles:
    """The numbers that people look for first."""
    best = result.best
    share = percent(best["records"] / result.settings["n_records"])
    return Tiles(
        [
            (_plain(result.best_lambda), "l0_lambda chosen", f"trial {best['number']}"),
            (
                percent(best["held_out_error"]),
                "error of held-out targets",
                f"{percent(best['train_error'])} of those calibrated to",
            ),
            (amount(best["records"]), "records kept", f"{share} of all"),
            (f"{n_done:,}", "trials finished", f"of {len(result.trials):,}"),
        ]
    )


def _trials(result: TuningResult, trials: pd.DataFrame, most: int) -> list[Part]:
    columns = list(trials.columns)
    searched = columns[columns.index("state") + 1 : columns.index("score")]
    rows = [
        [
            f"Trial {row['number']}{_mark(result, row['number'])}",
            *(_plain(row[name]) for name in searched),
            f"{row['score']:.4f}",
            _with_error(row["held_out_error"], row["standard_error"]),
            percent(row["train_error"]),
            percent(row["within_10_percent"]),
            amount(row["records"]),
        ]
        for row in trials.head(most).to_dict("records")
    ]
    heads = [
        "Trial",
        *searched,
        "Score",
        "Held out",
        "Calibrated to",
        "Within 10%",
        "Records",
    ]
    return [Table(heads, rows, has_short_names=True), *_more(len(trials) - len(rows), "trials")]


def _mark(result: TuningResult, number: int) -> str:
    if number == result.best["number"]:
        return " (chosen)"
    return " (one standard error)" if number == result.one_standard_error["number"] else ""


def _folds(result: TuningResult) -> list[Part]:
    own = result.fold_errors[result.fold_errors.number == result.best["number"]]
    rows = [
        [
            f"Fold {row['fold']}",
            percent(row["held_out_error"]),
            percent(row["train_error"]),
            percent(row["within_10_percent"]),
            amount(row["records"]),
            amount(row["kish"]),
            row["status"].replace("_", " ").capitalize(),
        ]
        for row in own.head(MOST_FOLDS).to_dict("records")
    ]
    heads = [
        "Fold of the trial chosen",
        "Held out",
        "Calibrated to",
        "Within 10%",
        "Records",
        "Effective",
        "Solve",
    ]
    return [Table(heads, rows, has_short_names=True), *_more(len(own) - len(rows), "folds")]


def _failures(trials: pd.DataFrame) -> list[Part]:
    """Why trials have no figures, the most frequent reason first."""
    reasons = trials.infeasible.where(trials.infeasible != "", trials.error)
    counts = reasons[reasons != ""].value_counts()
    rows = [[reason, f"{count:,}"] for reason, count in counts.head(MOST_REASONS).items()]
    if not rows:
        return []
    heads = ["Why trials have no figures", "Trials"]
    return [Table(heads, rows), *_more(len(counts) - len(rows), "reasons")]


def _with_error(value: float, spread: float) -> str:
    return percent(value) + (f" ± {percent(spread)}" if spread == spread else "")


def _more(left: int, what: str) -> list[Paragraph]:
    return [Paragraph(f"{left:,} more {what} are not shown.")] if left > 0 else []


def _plain(value: Any) -> Any:
    """A setting in few characters; what is not known is a dash."""
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e6 else amount(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(str(_plain(each)) for each in value[:MOST_VALUES])
        left = len(value) - MOST_VALUES
        return shown + (f" and {left:,} more" if left > 0 else "")
    return value
