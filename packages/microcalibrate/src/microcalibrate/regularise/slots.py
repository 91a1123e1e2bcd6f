"""Slot rows: one row for each unit, with a slot for each member that it can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.regularise.linking import Positions
from microcalibrate.regularise.schema import Bounds, Entity, Schema, Type
from microcalibrate.regularise.values import Cells, read_cells, row_values

if TYPE_CHECKING:
    from microcalibrate.regularise.survey import Survey

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SlotColumn:
    """One column of slot rows.

    | type | values in rows |
    |---|---|
    | `category` | pandas category with the declared levels in their order |
    | `integer` | `Int64` |
    | `number` | `float64`, NaN where missing |
    | `boolean` | `boolean`; `bool` for `present` |

    Attributes:
        name: `region` for a column of the unit, `person.3.age` for one of a slot.
        entity: Entity that it describes.
        slot: Position among the unit's records of that entity, from 0; 0 for the unit itself.
        source: Column of the entity's table, or `present`.
        type: `category`, `integer`, `number` or `boolean`.
        levels: Values of a category.
        ordered: Whether they form a scale.
        bounds: Smallest and largest value, None for no bound.
        missing: Whether a record that is present may lack a value.
        kind: `present`; `link` (slot of the record that it names); or `column`.
        block: `structure` (who is there and how they belong together) or `values`.
        presence: Name of the `present` column without which this one is empty, or None.
        to: For a link, the entity whose slot it names.
    """

    name: str
    entity: str
    slot: int
    source: str
    type: Type
    levels: tuple[Any, ...] | None = None
    ordered: bool = False
    bounds: Bounds = (None, None)
    missing: bool = False
    kind: Literal["present", "link", "column"] = "column"
    block: Literal["structure", "values"] = "values"
    presence: str | None = None
    to: str | None = None


@dataclass(frozen=True, eq=False)
class Records:
    """Records of one entity in plain numbers.

    Attributes:
        unit: Position of the unit of each record.
        cells: Its modelled columns.
        links: Position of the record that each link to another entity than the unit, or to a
            peer, names; -1 where there is none.
        tie: What puts records that are alike in order: the rank of their ids.
    """

    unit: Positions
    cells: Mapping[str, Cells]
    links: Mapping[str, Positions]
    tie: npt.NDArray[np.int64]


def modelled_links(schema: Schema, entity: Entity) -> dict[str, str]:
    """Links that are part of slot rows, with the entity they name: all but those to the unit."""
    return {link.name: str(link.to) for link in entity.of_kind("link") if link.to != schema.unit}


def slot_columns(schema: Schema, n_slots: Mapping[str, int]) -> tuple[SlotColumn, ...]:
    """Columns of slot rows, those of the unit first.

    Args:
        schema: Of the survey.
        n_slots: Slots of each entity below the unit.
    """
    found = []
    for entity in (schema.unit_entity, *schema.children):
        is_unit = entity.name == schema.unit
        for slot in range(1 if is_unit else n_slots[entity.name]):
            prefix = "" if is_unit else f"{entity.name}.{slot}."
            presence = None if is_unit else f"{prefix}present"
            where: dict[str, Any] = {"entity": entity.name, "slot": slot}
            if presence is not None:
                found.append(
                    SlotColumn(
                        name=presence,
                        source="present",
                        type="boolean",
                        kind="present",
                        block="structure",
                        **where,
                    )
                )
            for name, to in modelled_links(schema, entity).items():
                found.append(
                    SlotColumn(
                        name=f"{prefix}{name}",
                        source=name,
                        type="category",
                        levels=tuple(range(n_slots[to])),
                        missing=entity.column(name).missing,
                        kind="link",
                        block="structure",
                        presence=presence,
                        to=to,
                        **where,
                    )
                )
            for column in entity.of_kind("structural", "input"):
                assert column.type is not None
                found.append(
                    SlotColumn(
                        name=f"{prefix}{column.name}",
                        source=column.name,
                        type=column.type,
                        levels=column.levels,
                        ordered=column.ordered,
                        bounds=column.bounds,
                        missing=column.missing,
                        block="structure" if column.kind == "structural" else "values",
                        presence=presence,
                        **where,
                    )
                )
    return tuple(found)


def slot_mask(rows: pd.DataFrame, columns: Sequence[SlotColumn]) -> Mask:
    """Cells that exist: those of the unit, of slots that are filled, and all `present` themselves.

    Args:
        rows: Slot rows.
        columns: Some of their columns.

    Returns:
        Shape `(n_rows, n_columns)`; False in empty slots.
    """
    mask = np.ones((len(rows), len(columns)), dtype=np.bool_)
    filled: dict[str, Mask] = {}
    for position, column in enumerate(columns):
        if column.presence is not None:
            if column.presence not in filled:
                filled[column.presence] = rows[column.presence].to_numpy(dtype=np.bool_)
            mask[:, position] = filled[column.presence]
    return mask


def slots_of(records: Mapping[str, Records], schema: Schema) -> dict[str, Positions]:
    """Canonical slot of each record within its unit, from 0.

    Records stand by the columns that their entity is ordered by (levels by rank, missing values
    last), then by the first of their members, then by id.

    Args:
        records: Records of each entity below the unit.
        schema: Of the survey.
    """
    slots: dict[str, Positions] = {}
    for entity in reversed(schema.children):
        of = records[entity.name]
        keys: list[npt.NDArray[Any]] = [of.unit]
        for name in entity.order:
            cells = of.cells[name.removeprefix("-")]
            values = cells.values.astype(np.float64)
            keys += [cells.missing, -values if name.startswith("-") else values]
            keys[-1] = np.where(cells.missing, 0, keys[-1])
        for member in schema.children:
            link = member.parents.get(entity.name)
            if link is not None:
                first = np.full(len(of.unit), np.iinfo(np.int64).max)
                owner = records[member.name].links[link]
                held = owner >= 0
                np.minimum.at(first, owner[held], slots[member.name][held])
                keys.append(first)
        keys.append(of.tie)
        order = np.lexsort(keys[::-1])
        unit = of.unit[order]
        starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]]) if len(unit) else unit
        lengths = np.diff(np.r_[starts, len(unit)])
        place = np.empty(len(unit), dtype=np.intp)
        place[order] = np.arange(len(unit)) - np.repeat(starts, lengths)
        slots[entity.name] = place
    return slots


def rows_of(
    units: Records,
    records: Mapping[str, Records],
    slots: Mapping[str, Positions],
    columns: Sequence[SlotColumn],
    index: pd.Index[Any],
) -> pd.DataFrame:
    """Slot rows of records that are in their slots.

    Args:
        units: The units, one for each row.
        records: Records of each entity below them.
        slots: Slot of each record.
        columns: Columns of the rows.
        index: Labels of the rows.
    """
    n_units = len(index)
    content: dict[str, Any] = {}
    row_at: dict[str, Positions] = {}
    for column in columns:
        if column.presence is None and column.kind == "column":
            content[column.name] = row_values(units.cells[column.source], column)
            continue
        name = column.entity
        if name not in row_at:
            n_slots = 1 + max(c.slot for c in columns if c.entity == name)
            row_at[name] = np.full((n_units, n_slots), -1, dtype=np.intp)
            row_at[name][records[name].unit, slots[name]] = np.arange(len(records[name].unit))
        rows = row_at[name][:, column.slot]
        if column.kind == "present":
            content[column.name] = rows >= 0
        elif column.kind == "link":
            linked = records[name].links[column.source]
            of = slots[str(column.to)]
            named = of[linked] if len(of) else linked
            cells = Cells(named.astype(np.int64), linked < 0).at(rows)
            content[column.name] = row_values(cells, column)
        else:
            content[column.name] = row_values(records[name].cells[column.source].at(rows), column)
    return pd.DataFrame(content, index=index)


def records_in(
    rows: pd.DataFrame, schema: Schema, columns: Sequence[SlotColumn]
) -> tuple[Records, dict[str, Records], dict[str, Positions]]:
    """Records that slot rows stand for, by row and then by slot.

    Args:
        rows: Slot rows, valid or not; a link to an empty slot is -1.
        schema: Of the survey.
        columns: All columns of the rows.

    Returns:
        The units, the records of each entity below them, and the slot of each.
    """
    cells = {c.name: read_cells(rows[c.name], c)[0] for c in columns if c.kind != "present"}
    n_rows = len(rows)
    units = Records(
        unit=np.arange(n_rows, dtype=np.intp),
        cells={c.source: cells[c.name] for c in columns if c.entity == schema.unit},
        links={},
        tie=np.arange(n_rows, dtype=np.int64),
    )
    row_at: dict[str, Positions] = {}
    place: dict[str, tuple[Positions, Positions]] = {}
    for entity in schema.children:
        present = [c for c in columns if c.entity == entity.name and c.kind == "present"]
        filled = np.column_stack([rows[c.name].to_numpy(dtype=np.bool_) for c in present])
        row_at[entity.name] = np.where(filled, np.cumsum(filled).reshape(filled.shape) - 1, -1)
        unit_at, slot_at = np.nonzero(filled)
        place[entity.name] = (unit_at, slot_at)
    records, slots = {}, {}
    for entity in schema.children:
        unit, slot = place[entity.name]
        stacked: dict[str, Cells] = {}
        links: dict[str, Positions] = {}
        mine = [c for c in columns if c.entity == entity.name and c.kind != "present"]
        for source in dict.fromkeys(c.source for c in mine):
            parts = [c for c in mine if c.source == source]
            values = np.column_stack([cells[c.name].values for c in parts])[unit, slot]
            missing = np.column_stack([cells[c.name].missing for c in parts])[unit, slot]
            to = parts[0].to
            if to is None:
                stacked[source] = Cells(values, missing)
            else:
                is_known = ~missing & (values >= 0)
                links[source] = np.where(is_known, row_at[to][unit, values], -1)
        tie = np.arange(len(unit), dtype=np.int64)
        records[entity.name] = Records(unit, stacked, links, tie)
        slots[entity.name] = slot
    return units, records, slots


def records_of(survey: Survey) -> tuple[Records, dict[str, Records]]:
    """Units and records below them in plain numbers."""
    schema = survey.schema
    found = {}
    for entity in schema.entities:
        table = survey.tables[entity.name]
        ids = table[entity.id_column].to_numpy()
        tie = np.empty(len(ids), dtype=np.int64)
        tie[np.argsort(ids, kind="stable")] = np.arange(len(ids))
        found[entity.name] = Records(
            unit=survey.unit_positions(entity.name),
            cells={
                column.name: read_cells(table[column.name], column)[0]
                for column in entity.of_kind("structural", "input")
            },
            links={name: survey.link(entity.name, name) for name in modelled_links(schema, entity)},
            tie=tie,
        )
    units = found.pop(schema.unit)
    return units, found


def taken(
    records: Records,
    rows: Positions,
    new_unit: Positions,
    moved: Mapping[str, Positions] | None = None,
) -> Records:
    """Some of the records, with their units and links renumbered."""
    links = {}
    for name, linked in records.links.items():
        target = linked[rows]
        links[name] = np.where(target < 0, -1, (moved or {})[name][target])
    return Records(
        unit=new_unit[records.unit[rows]],
        cells={name: cells.at(rows) for name, cells in records.cells.items()},
        links=links,
        tie=records.tie[rows],
    )
