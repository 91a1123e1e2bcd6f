"""What keeps slot rows from being households."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from microcalibrate.regularise.schema import Schema
from microcalibrate.regularise.slots import Mask, SlotColumn, modelled_links
from microcalibrate.regularise.values import read_cells

Fault: TypeAlias = tuple[str, str, Mask]
"""Column, what is wrong, and in which rows."""


def faults_of(
    rows: pd.DataFrame, schema: Schema, columns: Sequence[SlotColumn], n_slots: Mapping[str, int]
) -> list[Fault]:
    """Every check of slot rows, also those that all rows pass.

    Args:
        rows: Slot rows.
        schema: Of the survey.
        columns: All columns of the rows.
        n_slots: Slots of each entity below the unit.
    """
    faults: list[Fault] = []
    filled = {c.name: rows[c.name].to_numpy(dtype=np.bool_) for c in columns if c.kind == "present"}
    everywhere = np.ones(len(rows), dtype=np.bool_)
    codes: dict[str, np.ndarray] = {}
    for column in columns:
        if column.kind == "present":
            continue
        here = filled[column.presence] if column.presence else everywhere
        cells, wrong = read_cells(rows[column.name], column)
        faults.append((column.name, "a value in an empty slot", ~here & ~cells.missing))
        faults.append((column.name, "a value that does not fit", here & wrong))
        if not column.missing:
            faults.append((column.name, "a missing value", here & cells.missing))
        if column.kind == "link":
            codes[column.name] = np.where(here & ~cells.missing & ~wrong, cells.values, -1)
            slots = range(len(column.levels or ()))
            there = np.column_stack([filled[f"{column.to}.{slot}.present"] for slot in slots])
            named = there[np.arange(len(rows)), np.maximum(codes[column.name], 0)]
            lost = (codes[column.name] >= 0) & ~named
            faults.append((column.name, "a link to an empty slot", lost))
    for entity in schema.children:
        some = [filled[f"{entity.name}.{slot}.present"] for slot in range(n_slots[entity.name])]
        faults.append((f"{entity.name}.0.present", f"no {entity.name}", ~np.any(some, axis=0)))
        for link, to in modelled_links(schema, entity).items():
            if to == entity.name:
                continue
            names = [f"{entity.name}.{slot}.{link}" for slot in range(n_slots[entity.name])]
            owners = np.column_stack([codes[name] for name in names])
            for slot in range(n_slots[to]):
                name = f"{to}.{slot}.present"
                without = filled[name] & ~(owners == slot).any(axis=1)
                faults.append((name, f"a {to} without a {entity.name}", without))
    return faults
