"""From the progress of a run to the tables of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from microcalibrate.regularise.history import Progress
from microcalibrate.regularise.provenance import (
    BACKEND,
    CONDITIONED,
    LINEAGE,
    ROUND,
    SYNTHETIC,
)
from microcalibrate.regularise.state import State

if TYPE_CHECKING:
    from microcalibrate.regularise.rounds import Loop

DECLARED = ("declared", "declared_before", "declared_after")

ROUND_TYPES = {
    "round": "int64", "accepted": "bool", "reason": "str", "n_offenders": "int64",
    "n_spawned": "int64", "n_offspring": "int64", "n_candidates": "int64", "n_valid": "int64",
    "added": "int64", "share_near": "float64", "n_flagged_before": "int64",
    "n_flagged_after": "int64", "n_flagged_elsewhere": "int64",
    "largest_share": "float64", "target_loss_before": "float64",
    "target_loss_after": "float64", "held_out_loss_before": "float64",
    "held_out_loss_after": "float64", "batch_share_before": "float64",
    "batch_share_after": "float64", "batch_lineage_share_before": "float64",
    "batch_lineage_share_after": "float64", "lineage_share_before": "float64",
    "lineage_share_after": "float64", "kish": "float64", "lineage_kish": "float64",
    "gap": "float64", "n_at_cap": "int64", "n_steps": "int64",
}  # fmt: skip
OFFENDER_TYPES = {
    "round": "int64", "id": "", "lineage": "", "lineage_size": "int64", "statistic": "str",
    "share": "float64", "weight": "float64", "k": "int64", "n_offspring": "int64",
    "n_candidates": "int64", "n_valid": "int64", "n_moved": "int64", "acceptance_rate": "float64",
    "accepted": "bool", "reason": "str",
}  # fmt: skip


def rounds_table(progress: Progress) -> pd.DataFrame:
    """One row per round, with its seconds."""
    table = _typed(progress.rounds, ROUND_TYPES, None)
    return table.assign(seconds=np.asarray(progress.seconds, dtype=np.float64))


def comparison_table(row: dict[str, Any] | None) -> pd.DataFrame:
    """The row of recalibration alone, in the columns of the rounds but for its seconds."""
    return _typed([] if row is None else [row], ROUND_TYPES, None)


def offenders_table(progress: Progress, ids: pd.Series[Any]) -> pd.DataFrame:
    """One row per unit and round."""
    return _typed(progress.offenders, OFFENDER_TYPES, ids)


def irreducible_table(progress: Progress, ids: pd.Series[Any]) -> pd.DataFrame:
    """Units that could not be spread, and why."""
    rows = [{"id": unit, "reason": reason} for unit, reason in progress.irreducible.items()]
    return _typed(rows, {"id": "", "reason": "str"}, ids)


def targets_table(loop: Loop, start: State, state: State) -> pd.DataFrame:
    """One row per target, before and after."""
    targets = loop.yardstick.targets
    first, last = (np.asarray(of.matrix.T @ of.weights, dtype=np.float64) for of in (start, state))
    prices = np.full(len(targets.names), np.nan)
    if state.recalibration is not None:
        prices = state.recalibration.prices
    return pd.DataFrame(
        {
            "name": pd.Series(targets.names, dtype="str"),
            "family": pd.Series(targets.families, dtype="str"),
            "target": targets.values,
            "before": first,
            "after": last,
            "before_error": (first - targets.values) / targets.scales,
            "after_error": (last - targets.values) / targets.scales,
            "scale": targets.scales,
            "tolerance": targets.tolerances,
            "importance": targets.importances,
            "price": prices,
            "price_per_scale": prices * targets.scales,
        }
    ).assign(**_declared(loop, start, state))


def _declared(loop: Loop, start: State, state: State) -> dict[str, Any]:
    """Targets that are no totals, in their own unit; NaN for totals."""
    first = loop.builder.in_own_units(start.survey, start.weights)
    last = first and loop.builder.in_own_units(state.survey, state.weights)
    if first is None or last is None:
        return dict.fromkeys(DECLARED, np.nan)
    return dict(zip(DECLARED, (*first, last[1]), strict=True))


def lineage_table(progress: Progress, state: State) -> pd.DataFrame:
    """One row per unit that this run generated and that is in the survey."""
    table = state.survey.tables[state.survey.unit]
    ids = state.survey.unit_ids.to_numpy()
    rows = [row for row, unit in enumerate(ids.tolist()) if unit in progress.offspring]
    known = [progress.offspring[unit] for unit in ids[rows].tolist()]
    source = pd.Series([of[0] for of in known], dtype=object)
    return pd.DataFrame(
        {
            "id": ids[rows],
            "lineage": table[LINEAGE].to_numpy()[rows],
            "source": _as_ids(source, pd.Series(ids)),
            "round": table[ROUND].to_numpy()[rows],
            "backend": pd.Series(table[BACKEND].to_numpy()[rows], dtype="str"),
            "conditioned": pd.Series(table[CONDITIONED].to_numpy()[rows], dtype="str"),
            "fraction": np.array([of[1] for of in known], dtype=np.float64),
            "achieved": np.array([of[2] for of in known], dtype=np.float64),
            "weight": state.weights[rows],
            "prior": state.prior[rows],
        }
    )


def units_table(state: State, original: pd.DataFrame) -> pd.DataFrame:
    """One row per unit, with its weights before and after."""
    table = state.survey.tables[state.survey.unit]
    ids = state.survey.unit_ids
    former = pd.Series(original["weight"].to_numpy(), index=original["id"])
    return pd.DataFrame(
        {
            "id": ids.to_numpy(),
            "lineage": table[LINEAGE].to_numpy(),
            "is_synthetic": table[SYNTHETIC].to_numpy(),
            "original_weight": former.reindex(ids).to_numpy(),
            "prior": state.prior,
            "weight": state.weights,
            "ceiling": np.full(len(ids), np.inf) if state.ceilings is None else state.ceilings,
        }
    )


def _typed(
    rows: list[dict[str, Any]], types: dict[str, str], ids: pd.Series[Any] | None
) -> pd.DataFrame:
    """Rows with the columns and types that they always have, also where there are none."""
    content: dict[str, Any] = {}
    for name, dtype in types.items():
        values = [row[name] for row in rows]
        if dtype:
            content[name] = pd.Series(values, dtype=dtype)
        else:
            assert ids is not None
            content[name] = _as_ids(pd.Series(values, dtype=object), ids)
    return pd.DataFrame(content)


def _as_ids(values: pd.Series[Any], ids: pd.Series[Any]) -> pd.Series[Any]:
    """Ids in the type that the table of units has."""
    return values.astype(ids.dtype)
