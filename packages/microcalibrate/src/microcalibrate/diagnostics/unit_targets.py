"""The calibration of a survey's units to targets that are declared, or to a problem of theirs."""

from __future__ import annotations

from typing import Any

from microcalibrate.arrays import Vector
from microcalibrate.diagnostics.frame import Frame
from microcalibrate.errors import InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.targets import targets_of_units


def problem_of(frame: Frame, weights: Vector, targets: Any) -> Problem:
    """The calibration of the units to some targets.

    Args:
        frame: The tables.
        weights: Of the units.
        targets: A table of declared targets, or a problem of the units.

    Raises:
        InvalidOption: If it is neither, or a problem of other units.
        InvalidTargetTable: If a declared target cannot be built.
    """
    import pandas as pd

    if isinstance(targets, Problem):
        if targets.n_records != len(weights):
            raise InvalidOption(
                f"targets is a problem of {targets.n_records:,} records, and there are "
                f"{len(weights):,} units. Build it with a row per unit."
            )
        return targets
    if hasattr(targets, "to_pandas"):
        targets = targets.to_pandas()
    if not isinstance(targets, pd.DataFrame):
        raise InvalidOption(
            f"targets is a {type(targets).__name__}: give a table of declared targets, or a "
            "`Problem` with a row per unit."
        )
    found = targets_of_units(
        frame.tables, frame.unit, lambda name: frame.rows_of(name, frame.unit),
        targets, weights,
    )  # fmt: skip
    return Problem.build(
        weights, found.values, found.matrix, target_names=found.names, scales=found.scales,
        tolerances=found.tolerances, importances=found.importances,
    )  # fmt: skip
