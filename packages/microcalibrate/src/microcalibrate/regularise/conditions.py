"""What generated records share with the unit that they are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.columns import did_you_mean
from microcalibrate.diagnostics import Slice, Surface
from microcalibrate.diagnostics.default_surface import REGION_NAMES
from microcalibrate.diagnostics.frame import Frame
from microcalibrate.errors import InvalidOption
from microcalibrate.expressions import columns_used
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.rules import Aggregate, Calculated, reads
from microcalibrate.regularise.schema import Schema
from microcalibrate.regularise.slots import records_of, slots_of
from microcalibrate.regularise.survey import Survey, select_units

FRACTIONS = (0.2, 0.4, 0.5, 0.6, 0.8)
"""Shares of a unit's cells that its candidates share with it, in equal numbers."""


@dataclass(frozen=True, eq=False)
class Offender:
    """A unit that carries too much, and what its offspring must share with it.

    Attributes:
        unit: Its id.
        position: Its row in the unit table.
        weight: Weight in use.
        prior: Weight that recalibration starts from.
        share: Its largest gross share, over baseline and reforms.
        statistic: Where it exceeds the limit most.
        held: Slot columns that all of its offspring share with it.
        holds_structure: Whether they share the structure of the household.
        k: How many offspring are wanted.
        only_place: Those of `held` that say where it is, and do not put it into its worst cell.
    """

    unit: Any
    position: int
    weight: float
    prior: float
    share: float
    statistic: str
    held: frozenset[str]
    holds_structure: bool
    k: int
    only_place: frozenset[str] = frozenset()


class Conditions(NamedTuple):
    """What offspring must share with their source.

    Attributes:
        held: Names of slot columns.
        structure: Whether the structure of the household is among it.
        only_place: Those of `held` that say where the unit is, and do not put it into the cell.
    """

    held: frozenset[str]
    structure: bool
    only_place: frozenset[str]


def n_offspring(
    share: float, weight: float, share_target: float, weight_target: float, most: int
) -> int:
    """Over how many records a unit is spread: `max(share / target, weight / target)`, from 2.

    Examples:
        >>> n_offspring(0.31, 900.0, 0.025, 100.0, most=50)
        13
    """
    wanted = max(share / share_target, weight / weight_target)
    return int(min(max(np.ceil(wanted * (1 - 1e-12)), 2), most))


def geography_columns(schema: Schema, given: Sequence[str] | None) -> tuple[str, ...]:
    """Columns of the unit that say where it is.

    Args:
        schema: Of the survey.
        given: The user's choice; None takes what external columns are looked up from, and
            columns with names such as `region` or `state`.

    Raises:
        InvalidOption: If a given column is not generated.
    """
    unit = schema.unit_entity
    inputs = [column.name for column in unit.of_kind("input", "structural")]
    if given is not None:
        for name in given:
            if name not in inputs:
                raise InvalidOption(
                    f"geography={name!r} is no input of {unit.name!r}.{did_you_mean(name, inputs)}"
                )
        return tuple(given)
    looked_up = {
        name
        for column in unit.of_kind("external")
        if column.rule is not None
        for entity, name in reads(column.rule, unit.name)
        if entity == unit.name
    }
    return tuple(n for n in inputs if n in looked_up or n.lower() in REGION_NAMES)


def traced(schema: Schema, entity: str, names: set[str]) -> tuple[set[tuple[str, str]], bool]:
    """Generated columns that some columns follow from, and whether the structure matters too.

    Columns that are no part of the schema (a model's output) lead nowhere.
    """
    inputs: set[tuple[str, str]] = set()
    structure = False
    waiting, seen = [(entity, name) for name in names], set()
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        of = {column.name: column for column in schema.entity(key[0]).columns}
        column = of.get(key[1])
        if column is None:
            continue
        structure |= column.kind == "structural"
        if column.kind in ("input", "structural"):
            inputs.add(key)
        elif column.rule is not None:
            # A total over members depends on who they are.
            structure |= isinstance(column.rule, Aggregate | Calculated)
            waiting += sorted(reads(column.rule, key[0]))
    return inputs, structure


class CellConditions:
    """Finds the slot columns that put units into cells.

    Args:
        survey: The survey as it stands.
        frame: The same with the columns of a user's model.
        weights: Weight of each unit.
        surface: What is reported.
        codec: Of the slot rows.
        geography: Columns of the unit that are always held.
        units: Ids of the units in question.
    """

    def __init__(
        self,
        survey: Survey,
        frame: Frame,
        weights: Vector,
        surface: Surface,
        codec: Codec,
        geography: Sequence[str],
        units: Sequence[Any],
    ) -> None:
        self._survey, self._frame, self._weights = survey, frame, weights
        self._slices = {part.name: part for part in surface.slices}
        self._metrics = {metric.name: metric for metric in surface.metrics}
        self._geography = tuple(geography)
        self._names = {column.name for column in codec.columns}
        part = select_units(survey, units)
        _, records = records_of(part)
        slots = slots_of(records, survey.schema)
        self._slot_of: dict[str, dict[Any, int]] = {
            name: dict(zip(part.tables[name][part.ids[name]], of.tolist(), strict=True))
            for name, of in slots.items()
        }
        self._cells: dict[str, Any] = {}
        self._positions: Mapping[Any, int] = {u: i for i, u in enumerate(survey.unit_ids)}

    def position(self, unit: Any) -> int:
        """Row of a unit in its table."""
        return self._positions[unit]

    def of(self, unit: Any, slice_name: str, cell: str, metric: str = "") -> Conditions:
        """Slot columns that put a unit into a cell with an amount, and those of geography.

        They are of the members that are in the cell, or that belong to one that is. Offspring
        without the amount would leave a hole in the total, which other records had to fill;
        offspring with it have their part of it.
        """
        part = self._slices.get(slice_name)
        found = self._amounts(unit, metric, part, cell)
        structure = False
        if part is not None:
            schema = self._survey.schema
            entity = part.entity_in(self._frame)
            of_table = self._frame.tables[entity].columns
            used = {part.by} if part.by in of_table else columns_used(part.by)
            inputs, structure = traced(schema, entity, set(used))
            for owner, name in inputs:
                found |= self._slots(owner, name, self._rows(unit, owner, part, cell))
        # A held cell of a slot that the donor of a structure does not fill would be lost.
        place = frozenset(self._geography) & self._names
        held = frozenset(found & self._names)
        return Conditions(held | place, structure, place - held)

    def _amounts(self, unit: Any, metric: str, part: Slice | None, cell: str) -> set[str]:
        """Slot columns of what a unit has of a metric in a cell, where it has any of it."""
        found = self._metrics.get(metric)
        if found is None or not isinstance(found.value, str):
            return set()
        schema, names = self._survey.schema, set()
        inputs, _ = traced(schema, found.entity_in(self._frame), set(columns_used(found.value)))
        for owner, name in inputs:
            values = self._survey.tables[owner][name]
            if values.dtype.kind not in "iuf" and not pd.api.types.is_numeric_dtype(values):
                continue
            rows = self._rows(unit, owner, part, cell)
            filled = values.iloc[rows].fillna(0).to_numpy(np.float64) != 0
            names |= self._slots(owner, name, rows[filled])
        return names

    def _slots(self, owner: str, name: str, rows: NDArray[np.intp]) -> set[str]:
        """Slot columns of a column of some records."""
        if owner == self._survey.schema.unit:
            return {name} if len(rows) else set()
        ids = self._survey.tables[owner][self._survey.ids[owner]].iloc[rows].tolist()
        return {f"{owner}.{self._slot_of[owner][member]}.{name}" for member in ids}

    def _rows(self, unit: Any, owner: str, part: Slice | None, cell: str) -> NDArray[np.intp]:
        """Records of a unit that are in a cell, or are above or below one that is."""
        survey, schema = self._survey, self._survey.schema
        rows: NDArray[np.intp] = np.flatnonzero(survey.unit_positions(owner) == self.position(unit))
        if part is None:
            return rows
        entity = part.entity_in(self._frame)
        own: NDArray[np.intp] = np.flatnonzero(survey.unit_positions(entity) == self.position(unit))
        if part.name not in self._cells:
            self._cells[part.name] = part.cells(self._frame, self._weights)
        cells = self._cells[part.name]
        own = own[np.array(cells.labels, dtype=object)[cells.codes[own]] == cell]
        if not len(own):
            return rows
        if owner == entity:
            return own
        if entity in schema.ancestors(owner):
            below: NDArray[np.intp] = rows[np.isin(survey.positions(owner, entity)[rows], own)]
            return below
        if owner in schema.ancestors(entity):
            return np.unique(survey.positions(entity, owner)[own]).astype(np.intp)
        return rows
