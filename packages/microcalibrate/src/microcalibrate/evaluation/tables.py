"""Figures of a robustness evaluation, out of its tables: means that pass over what is not known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# Position that stands for "no fold": all targets were calibrated to.
ALL_TARGETS = -1
# Status of a refit that could not meet the exact and banded targets.
INFEASIBLE = "INFEASIBLE"


def known_mean(values: Iterable[float]) -> float:
    """Mean of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def known_std(values: Iterable[float]) -> float:
    """Standard deviation of those that are numbers; NaN below two."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else math.nan


@dataclass(frozen=True, eq=False)
class RandomComparison:
    """A simple random sample of as many records, refitted the same way in the same folds.

    Attributes:
        mean_error: Its mean held-out error over folds, in [0, 1].
        std_error: Standard deviation of that over folds.
        error_ratio: Ours over that of the random sample; below 1 is better than random.
        advantage: Random less ours, mean over folds; positive is better than random.
        advantage_standard_error: Of `advantage`, from the differences within folds.
        folds_won: In how many folds ours is the smaller.
        n_folds: Of how many: those in which the random sample could be refitted.
        n_infeasible: Random samples that could not meet the exact and banded targets; they are
            left out, in favour of the random sample.
    """

    mean_error: float
    std_error: float
    error_ratio: float
    advantage: float
    advantage_standard_error: float
    folds_won: int
    n_folds: int
    n_infeasible: int


def compared(folds: pd.DataFrame, draws: pd.DataFrame) -> RandomComparison:
    """The comparison over those folds in which a random sample could be refitted."""
    both = folds[folds.random_error.notna()]
    advantage = both.random_error - both.held_out_error
    mean = known_mean(both.random_error)
    return RandomComparison(
        mean_error=mean,
        std_error=known_std(both.random_error),
        error_ratio=known_mean(both.held_out_error) / mean if mean > 0 else math.nan,
        advantage=known_mean(advantage),
        advantage_standard_error=known_std(advantage) / math.sqrt(max(len(both), 1)),
        folds_won=int((advantage > 0).sum()),
        n_folds=len(both),
        n_infeasible=int((draws.status == INFEASIBLE).sum()),
    )


def robustness_figures(
    tables: dict[str, pd.DataFrame], random: RandomComparison | None
) -> dict[str, float]:
    """Figures by name from the tables of an evaluation; those that are not known are left out."""
    folds, targets, draws = tables["folds"], tables["targets"], tables["draws"]
    own = draws[(draws.fold != ALL_TARGETS) & (draws.selection == "chosen")]
    held_out = folds.held_out_error
    figures = {
        "mean_error": known_mean(held_out),
        "std_error": known_std(held_out),
        "worst_error": float(held_out.max()),
        "train_error": known_mean(folds.train_error),
        "gap": known_mean(folds.gap),
        "design_error": known_mean(folds.design_error),
        "within_10_percent": float((targets.held_out_error < 0.1).mean()),
        "weight_change": known_mean(folds.weight_change),
        "records": known_mean(folds.records),
        "kish": known_mean(folds.kish),
        "n_folds": float(len(folds)),
        "n_groups": float(targets.group.nunique()),
        "n_targets": float(len(targets)),
        "draw_std": known_std(own.groupby("seed").held_out_error.mean()),
        "bootstrap_std": known_std(tables["bootstrap"].error),
        "random_mean_error": random.mean_error if random else math.nan,
        "random_ratio": random.error_ratio if random else math.nan,
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}
