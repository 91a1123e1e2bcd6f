"""What the figures of a tuning share: which trials are drawn, and what is said of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.figures.plotting import amount, escaped_lines, percent

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.hyperparameter_tuning.result import TuningResult

MOST_TRIALS = 1_500
"""Most trials that a figure draws, so that all its traces together stay below 5,000 marks."""


def goal_of(result: TuningResult) -> str:
    """Column of the table of trials that was to be small."""
    return "score" if result.settings["objective"] == "balanced" else "held_out_error"


def meaning(result: TuningResult) -> str:
    """What that column means, with its weights."""
    how = {"mean": "mean over", "median": "median of", "worst": "worst of"}
    over = f"{how[result.settings['aggregate']]} {result.settings['n_folds']} folds"
    if goal_of(result) != "score":
        return f"Mean capped error of held-out targets, {over}."
    weights = result.settings["score_weights"]
    parts = {
        "held_out_error": "held-out error",
        "beyond_10_percent": "share of held-out targets missed by 10% or more",
        "records": "share of records kept",
    }
    terms = [
        f"{weights[name]:g} × {words}" if weights[name] != 1 else words
        for name, words in parts.items()
        if weights[name]
    ]
    return f"Score, smaller is better: {' + '.join(terms)}; {over}."


def finished(result: TuningResult) -> pd.DataFrame:
    """The trials that have figures, in order."""
    return result.trials[result.trials.state == "COMPLETE"]


def place_of(done: pd.DataFrame, row: dict[str, Any]) -> int:
    """Position of a trial among others."""
    return int(np.flatnonzero(done.number.to_numpy() == row["number"])[0])


def thinned(n_all: int, needed: Any = (), most: int = MOST_TRIALS) -> NDArray[np.int64]:
    """Positions spread evenly, at most so many, those that are needed first among them."""
    if n_all <= most:
        return np.arange(n_all)
    must = np.unique(np.asarray(needed, dtype=np.int64))
    if len(must) > most // 2:
        must = must[np.linspace(0, len(must) - 1, most // 2).astype(int)]
    even = np.linspace(0, n_all - 1, most - len(must)).astype(np.int64)
    return np.unique(np.concatenate([must, even]))


def left_out(n_shown: int, n_all: int, what: str) -> str:
    """A sentence that says how many are drawn, where it is not all."""
    return f" Shows {n_shown:,} of {n_all:,} {what}." if n_shown < n_all else ""


def add_mark(
    figure: Figure,
    result: TuningResult,
    row: dict[str, Any],
    x: str,
    y: str,
    mark: dict[str, Any],
    name: str,
) -> None:
    """Draw one trial that stands out."""
    figure.add_scatter(
        x=[row[x]],
        y=[row[y]],
        mode="markers",
        marker=mark,
        name=name,
        text=[fact(result, row)],
        hoverinfo="text",
    )


def facts(result: TuningResult, trials: pd.DataFrame) -> list[str]:
    """What is said of each trial when the pointer is on it."""
    return [fact(result, row) for row in trials.to_dict("records")]


def fact(result: TuningResult, row: dict[Any, Any]) -> str:
    """Parameters and figures of a trial, a line each, escaped."""
    spread = row["standard_error"]
    known = "" if math.isnan(spread) else f" ± {percent(spread)}"
    options = [
        escaped_lines(f"{name} {number_text(row[name])}")
        for name in dict.fromkeys(["l0_lambda", *result.best_params])
    ]
    return "<br>".join(
        [
            f"trial {row['number']}",
            *options,
            f"held-out error {percent(row['held_out_error'])}{known}",
            f"{percent(row['within_10_percent'])} of held-out targets within 10%",
            f"{amount(row['records'])} records, Kish {amount(row['kish'])}",
        ]
    )


def number_text(value: Any) -> str:
    """A parameter in few digits; other choices as they are, a missing one (no bound) as none."""
    if value is None or value != value:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def log_axis(values: Any) -> dict[str, Any]:
    """A log axis with ticks at each decade, or between them too where it has few."""
    logs = np.log10(np.asarray(values, dtype=np.float64))
    low, high = float(logs.min()), float(logs.max())
    # Half a decade at least, so that there are ticks in it.
    margin = max(0.06 * (high - low), 0.25 - (high - low) / 2)
    low, high = low - margin, high + margin
    span = high - low
    steps = (1.0,) if span > 3 else (1.0, 2.0, 5.0) if span > 1 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [amount(tick) if tick >= 1e-3 else f"{tick:g}" for tick in ticks],
    }
