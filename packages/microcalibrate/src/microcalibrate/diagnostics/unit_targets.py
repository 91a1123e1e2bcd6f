"""Declared targets of several tables, and what each unit adds to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from microcalibrate.arrays import Vector
from microcalibrate.diagnostics.frame import Frame, Index
from microcalibrate.errors import InvalidOption, InvalidTargetTable
from microcalibrate.problem import Problem
from microcalibrate.targets import build_targets, is_included, read_rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class UnitTargets:
    """Targets, and what each unit adds to them.

    Attributes:
        matrix: Shape `(n_units, n_targets)`.
        names: One per target.
        families: Group of each target.
        values: Totals, shape `(n_targets,)`.
        scales: What an error of 1 means, shape `(n_targets,)`.
        tolerances: As fractions of the scales, NaN for a soft target.
        importances: Raw importances.
    """

    matrix: sp.csr_array
    names: tuple[str, ...]
    families: tuple[str, ...]
    values: Vector
    scales: Vector
    tolerances: Vector
    importances: Vector


def targets_of_units(
    tables: Mapping[str, pd.DataFrame],
    unit: str,
    unit_rows: Callable[[str], Index],
    table: pd.DataFrame,
    weights: Vector,
) -> UnitTargets:
    """Declared targets, each of the table that its column `entity` names, the unit's where blank.

    Args:
        tables: One per entity.
        unit: The entity that carries the weight.
        unit_rows: Row of the unit that each row of an entity belongs to.
        table: The declared targets.
        weights: Weight of each unit.

    Raises:
        InvalidTargetTable: If a target cannot be built, or stands twice.
    """
    import pandas as pd

    rows = enumerate(read_rows(table), start=1)
    table = table[[is_included(number, cells) for number, cells in rows]]
    if table.empty:
        raise InvalidTargetTable(
            "No row of the target table is included: set `include` to true in one at least."
        )
    entity = (
        table["entity"].where(table["entity"].notna(), unit)
        if "entity" in table.columns
        else pd.Series(unit, index=table.index)
    )
    unknown = sorted(set(entity.astype(str)) - set(tables))
    if unknown:
        raise InvalidTargetTable(
            f"a target is of the entity {unknown[0]!r}, and the survey has the tables "
            f"{', '.join(tables)}. Mend the column `entity`."
        )
    n_units = len(weights)
    parts: list[sp.csr_array] = []
    places: list[Any] = []
    found: list[Any] = []
    for name in dict.fromkeys(entity):
        chosen = np.flatnonzero(entity.to_numpy() == name)
        of_unit = unit_rows(str(name))
        built = build_targets(
            tables[str(name)], table.iloc[chosen], initial_weights=weights[of_unit]
        )
        ones = np.ones(len(of_unit))
        to_units = sp.csr_array((ones, (of_unit, np.arange(len(of_unit)))), (n_units, len(of_unit)))
        parts.append(sp.csr_array(to_units @ built.matrix))
        places.append(chosen)
        found.append(built)
    order = np.argsort(np.concatenate(places))
    matrix = sp.csr_array(sp.hstack(parts, format="csr")[:, order])
    matrix.sort_indices()

    def joined(what: str) -> Any:
        return np.concatenate([np.asarray(getattr(of, what)) for of in found])[order]

    names = tuple(map(str, joined("names")))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidTargetTable(f'target "{twice}" stands twice. Give each its own name.')
    return UnitTargets(
        matrix, names, tuple(map(str, joined("families"))), joined("values"), joined("scales"),
        joined("tolerances"), joined("importances"),
    )  # fmt: skip


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
        targets.reset_index(drop=True), weights,
    )  # fmt: skip
    return Problem.build(
        weights, found.values, found.matrix, target_names=found.names, scales=found.scales,
        tolerances=found.tolerances, importances=found.importances,
    )  # fmt: skip
