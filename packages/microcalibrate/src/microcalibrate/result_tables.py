"""Columns of the tables of a result, and its targets as people declared them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TARGET_COLUMNS = (
    "name",
    "family",
    "target",
    "initial",
    "final",
    "initial_error",
    "error",
    "price",
    "scale",
    "tolerance",
    "importance",
)
DECLARED_COLUMNS = ("declared", "declared_initial", "declared_final")
"""The same of means, ratios, shares and quantiles in their own unit; older files have none."""
HISTORY_COLUMNS = (
    "phase",
    "step",
    "method",
    "loss",
    "gap",
    "residual",
    "step_length",
    "seconds",
    "records",
)


def as_declared(
    targets: pd.DataFrame,
    shown: Sequence[str] = ("target", "initial", "final"),
    declared: Sequence[str] = DECLARED_COLUMNS,
) -> pd.DataFrame:
    """A table of targets for people: what is no total is in its own unit.

    Args:
        targets: That of a result.
        shown: Columns of totals.
        declared: The same in the targets' own units, NaN for totals; older tables have none.

    Examples:
        >>> import pandas as pd
        >>> mean = {"target": 0.0, "initial": -50.0, "final": 0.0, "declared": 35.0}
        >>> ends = {"declared_initial": 30.0, "declared_final": 35.0}
        >>> as_declared(pd.DataFrame([mean | ends]))[["target", "initial", "final"]].values.tolist()
        [[35.0, 30.0, 35.0]]
    """
    if declared[0] not in targets:
        return targets
    is_total = targets[declared[0]].isna()
    return targets.assign(
        **{
            name: targets[name].where(is_total, targets[own])
            for name, own in zip(shown, declared, strict=True)
        }
    )
