"""What to make of a tuning, in words with figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.hyperparameter_tuning.scoring import standard_error
from microcalibrate.hyperparameter_tuning.tables import BALANCED

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.hyperparameter_tuning.result import TuningResult

# Share of the range searched, at either end, within which the best is said to lie at the edge.
EDGE = 0.05

STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


def summary(result: TuningResult) -> str:
    """What was tried, what came out, and what to do next, a few lines."""
    settings, best, rule = result.settings, result.best, result.settings.get("one_standard_error")
    goal = "score" if settings["objective"] == BALANCED else "held-out error"
    lines = [
        f"{len(result.trials)} trials ({_counted(result.trials)}), each over "
        f"{settings['n_folds']} folds of {settings['n_targets']} targets in all; "
        f"{settings['aggregate']} of the folds.",
        f"Best is trial {best['number']} ({'one-standard-error rule' if rule else f'lowest {goal}'}"
        f"): {', '.join(f'{name} = {_short(value)}' for name, value in _parameters(result))}.",
        f"{_told(result, best)} Targets calibrated to are missed by {best['train_error']:.2%}.",
    ]
    other = result.one_standard_error
    if not rule and other["number"] == best["number"]:
        lines.append("The one-standard-error rule would choose the same trial.")
    elif not rule:
        lines.append(
            f"The one-standard-error rule would choose trial {other['number']} (l0_lambda = "
            f"{_short(other['l0_lambda'])}). {_told(result, other)} In the same folds, its error "
            f"is {_paired(result, other)} than the best's."
        )
    return "\n".join([*lines, *advice(result)])


def advice(result: TuningResult) -> tuple[str, ...]:
    """What to do next, one sentence each: wider ranges, more trials, targets in conflict."""
    said = []
    best = result.study.get_trials(deepcopy=False)[result.best["number"]]
    for name, distribution in best.distributions.items():
        end = edge(distribution, best.params[name])
        if not end:
            continue
        remedy = "Widen its range"
        if name == "l0_lambda":
            remedy = "Lower lambda_min" if end == "lower" else "Raise lambda_max"
        said.append(
            f"The best {name}, {_short(best.params[name])}, lies at the {end} end of the range "
            f"searched ({_short(distribution.low)} to {_short(distribution.high)}): a better one "
            f"may lie beyond. {remedy}."
        )
    ends = {"timed out": "Time ran out", "cancelled": "Tuning was cancelled"}
    if result.status in ends:
        said.append(
            f"{ends[result.status]} before all trials were made. Run it again on the same storage "
            "to go on."
        )
    if n_infeasible := int((result.trials.infeasible != "").sum()):
        said.append(
            f"{n_infeasible} {'trial' if n_infeasible == 1 else 'trials'} could not meet the exact "
            "and banded targets on the records drawn: the choice is among the others."
        )
    own = result.fold_errors[result.fold_errors.number == result.best["number"]]
    if n_open := int((own.status != "CONVERGED").sum()):
        said.append(
            f"{n_open} of {len(own)} solves of the best trial have no certificate. Raise max_iter."
        )
    return tuple(said)


def why_none(study_name: str, trials: pd.DataFrame) -> str:
    """Why a study has no finished trial, and what to do."""
    remedy = "Run it again on the same storage to go on."
    for column, way_out in (
        ("infeasible", "Lower l0_lambda, or give targets a tolerance."),
        ("error", "Mend that, and run it again."),
    ):
        reasons = trials[trials[column] != ""]
        if len(reasons):
            first = reasons.iloc[0]
            remedy = f"Trial {first.number}: {first[column]} {way_out}"
            break
    counts = _counted(trials) or "none begun"
    return f'the study "{study_name}" has no finished trial ({counts}). {remedy}'


def edge(distribution: Any, value: Any) -> str:
    """At which end of the range searched a value lies: "lower", "upper", or empty for neither.

    Args:
        distribution: Optuna's, of a number; one of other choices has no ends.
        value: What was chosen.
    """
    low, high = getattr(distribution, "low", None), getattr(distribution, "high", None)
    if low is None or high is None or low == high:
        return ""
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    place = (value - low) / (high - low)
    return "lower" if place <= EDGE else "upper" if place >= 1 - EDGE else ""


def _counted(trials: pd.DataFrame) -> str:
    counts = trials.state.astype(str).value_counts()
    return ", ".join(f"{n} {STATES.get(str(s), str(s).lower())}" for s, n in counts.items())


def _parameters(result: TuningResult) -> list[tuple[str, Any]]:
    return sorted(result.best_params.items(), key=lambda item: item[0] != "l0_lambda")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _told(result: TuningResult, row: dict[str, Any]) -> str:
    spread, share = row["standard_error"], row["records"] / result.settings["n_records"]
    known = "" if math.isnan(spread) else f" ± {spread:.2%} (standard error over folds)"
    return (
        f"Held-out error {row['held_out_error']:.2%}{known}; {row['within_10_percent']:.0%} of "
        f"held-out targets within 10%; {row['records']:,.0f} records ({share:.1%}), Kish "
        f"{row['kish']:,.0f}."
    )


def _paired(result: TuningResult, row: dict[str, Any]) -> str:
    """How a trial compares with the best in the same folds, which are alike hard for both."""
    errors = result.fold_errors.set_index(["number", "fold"]).held_out_error
    difference = np.asarray(errors[row["number"]] - errors[result.best["number"]])
    mean, spread = float(difference.mean()), standard_error(difference)
    known = "" if math.isnan(spread) else f" ± {100 * spread:.2f}"
    return f"{abs(100 * mean):.2f}{known} points {'higher' if mean >= 0 else 'lower'}"
