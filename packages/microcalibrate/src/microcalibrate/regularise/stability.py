"""How much statistics depend on the seed of the generator: the price of synthesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.errors import InfeasibleTargets, InvalidTargetTable, NotConverged
from microcalibrate.regularise.rounds import Loop, with_k
from microcalibrate.regularise.state import State

MOST_SD = 0.02
"""A statistic that is not thin fails where its standard deviation between seeds exceeds this."""

COLUMNS = ("statistic", "n_seeds", "mean", "sd", "relative_sd", "is_thin", "fails")


def stability(loop: Loop, start: State, spread_units: dict[Any, int], n_seeds: int) -> pd.DataFrame:
    """Spread the same units with other seeds, and compare all statistics.

    Args:
        loop: The run.
        start: The survey as it came.
        spread_units: Units of it that were spread, with the number of their offspring.
        n_seeds: How often, with seeds that the run did not use.

    Returns:
        One row per statistic at baseline: `statistic`, `n_seeds` (those whose targets could be
        met), `mean`, `sd`, `relative_sd` (to the gross amount of a total, to the mean of a mean
        or ratio), `is_thin`, and `fails`: more than 2% where it is not thin.

    Raises:
        KeyboardInterrupt: If it was cancelled.
    """
    offenders = [
        with_k(offender, spread_units[offender.unit])
        for offender in loop.offenders(start, list(spread_units))
    ]
    plain = {**loop.yardstick.diagnosing, "reforms": None, "n_reforms": None}
    yardstick = replace(loop.yardstick, diagnosing=plain, folds=())
    tables = []
    for number in range(n_seeds):
        stream = np.random.SeedSequence(loop.spawner.seed, spawn_key=(2, number))
        spawner = loop.spawner.with_seed(int(stream.generate_state(1)[0]))
        again = replace(loop, spawner=spawner, yardstick=yardstick, was_checked=True)
        litters = [
            litter for litter in spawner.candidates(start.survey, offenders, 1) if not litter.reason
        ]
        if not litters:
            continue
        try:
            state = again.recalibrated(again.bred(start, litters, 1))
        except (InfeasibleTargets, InvalidTargetTable, NotConverged):
            # Such a seed would have been rolled back; the number of those that count is given.
            continue
        tables.append(state.diagnosis.cells.set_index("statistic"))
    if len(tables) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    first = tables[0]
    labels = first.index.astype(str)
    aligned = [table.set_axis(table.index.astype(str)).reindex(labels) for table in tables]
    estimates = np.column_stack([table["estimate"] for table in aligned])
    gross = np.column_stack([table["gross"] for table in aligned]).mean(axis=1)
    mean, sd = estimates.mean(axis=1), estimates.std(axis=1, ddof=1)
    size = np.where(first["kind"] == "total", gross, np.abs(mean))
    relative = np.divide(sd, size, out=np.zeros(len(sd)), where=size > 0)
    is_thin = np.any([table["is_thin"].fillna(True).to_numpy(bool) for table in aligned], axis=0)
    return pd.DataFrame(
        {
            "statistic": labels,
            "n_seeds": len(tables),
            "mean": mean,
            "sd": sd,
            "relative_sd": relative,
            "is_thin": is_thin,
            "fails": ~is_thin & (relative > MOST_SD),
        }
    )
