"""Declared targets of several tables, and what each unit adds to them.

Persons belong to households and a household has one weight: what its members add to a target, it
adds. So targets of every level are columns of one matrix, with a row per unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.columns import Columns, Table, did_you_mean
from microcalibrate.errors import InvalidTargetTable
from microcalibrate.targets.building import Targets, build_rows
from microcalibrate.targets.contributions import ColumnBuilder
from microcalibrate.targets.quotients import Quotients
from microcalibrate.targets.rows import included_rows, where

Vector: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]


def targets_of_units(
    tables: Mapping[str, Any],
    unit: str,
    unit_rows: Callable[[str], Index],
    table: Table | Iterable[Mapping[str, Any]],
    weights: Vector,
    *,
    differences: bool = False,
) -> Targets:
    """Declared targets, each of the table that its `entity` names, the unit's where that is blank.

    A filter may also name columns of the unit, such as the state that a person's household is in.

    Args:
        tables: One pandas DataFrame per entity.
        unit: The entity that carries the weight.
        unit_rows: Row of the unit that each row of an entity belongs to.
        table: The declared targets.
        weights: Weight of each unit, shape `(n_units,)`.
        differences: See `build_targets`.

    Returns:
        The targets, in the order of the table; the matrix has a row per unit.

    Raises:
        InvalidTargetTable: If a target cannot be built, or stands twice.

    Examples:
        >>> import pandas as pd
        >>> homes, people = pd.DataFrame({"rooms": [3, 5]}), pd.DataFrame({"age": [70, 9, 30]})
        >>> wanted = [
        ...     {"name": "rooms", "value": 8},
        ...     {"name": "adults", "value": 2, "filter": "age > 17", "entity": "person"},
        ... ]
        >>> of_home = {"household": np.array([0, 1]), "person": np.array([0, 0, 1])}
        >>> targets_of_units(
        ...     {"household": homes, "person": people}, "household", of_home.get, wanted, np.ones(2)
        ... ).matrix.toarray()
        array([[3., 1.],
               [5., 1.]])
    """
    by_entity: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    first: dict[str, int] = {}
    for number, cells in included_rows(table):
        name, entity = str(cells.get("name", "")), str(cells.get("entity", unit))
        if entity not in tables:
            raise InvalidTargetTable(
                f"{where(number, name)}: it is of the entity {entity!r}, and the survey has the "
                f"tables {', '.join(tables)}.{_nearest(entity, tables)} Mend the column `entity`."
            )
        if name and name in first:
            raise InvalidTargetTable(
                f"{where(number, name)}: row {first[name]} has the same name. Give each target a "
                "name of its own."
            )
        first[name] = number
        by_entity.setdefault(entity, []).append((number, cells))
    built = {}
    for entity, rows in by_entity.items():
        of_unit = unit_rows(entity)
        builder = builder_of(tables, unit, entity, of_unit)
        built[entity] = build_rows(rows, builder, weights[of_unit], differences=differences)
    n_units = len(weights)
    parts: list[Any] = [
        sp.csr_array(_members(unit_rows(entity), n_units) @ found.matrix)
        for entity, found in built.items()
    ]
    order = np.argsort([number for rows in by_entity.values() for number, _ in rows])
    matrix = sp.csr_array(sp.hstack(parts, format="csr")[:, order])
    matrix.sort_indices()

    # Where each target of the entities, one after the other, has its place in the table.
    place = np.argsort(order)
    n_before = np.cumsum([0, *map(len, by_entity.values())])
    moved, quotients = [], []
    for before, (entity, found) in zip(n_before, built.items(), strict=False):
        members = _members(unit_rows(entity), n_units)
        moved += [
            one.moved_to(int(place[before + one.column]), members) for one in found.differences
        ]
        if found.quotients is not None:
            columns = place[before + found.quotients.columns]
            quotients.append(found.quotients.moved_to(columns, members))

    def joined(what: str) -> Any:
        return np.concatenate([np.asarray(getattr(found, what)) for found in built.values()])[order]

    return Targets(
        names=tuple(map(str, joined("names"))),
        values=joined("values"),
        matrix=matrix,
        tolerances=joined("tolerances"),
        importances=joined("importances"),
        families=tuple(map(str, joined("families"))),
        scales=joined("scales"),
        differences=tuple(moved),
        quotients=Quotients.joined(quotients),
    )


def builder_of(
    tables: Mapping[str, Any], unit: str, entity: str, unit_rows: Index
) -> ColumnBuilder:
    """Builder of the targets of one entity, whose filters may also name columns of the unit.

    Args:
        tables: One pandas DataFrame per entity.
        unit: The entity that carries the weight.
        entity: The one that targets are of.
        unit_rows: Row of the unit that each of its rows belongs to.

    Raises:
        InvalidTargetTable: If its table has no rows.
    """
    columns = Columns(tables[entity])
    if columns.n_records == 0:
        raise InvalidTargetTable(f"The table {entity!r} has no rows, so no target can be met.")
    if entity == unit:
        return ColumnBuilder(columns)
    return ColumnBuilder(columns, Columns(WithUnit(tables[entity], tables[unit], unit_rows)))


def _members(of_unit: Index, n_units: int) -> sp.csr_array:
    """A matrix that sums rows up to their units."""
    n_rows = len(of_unit)
    return sp.csr_array((np.ones(n_rows), (of_unit, np.arange(n_rows))), (n_units, n_rows))


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    return did_you_mean(name, known).replace("columns", "tables")


@dataclass(frozen=True, eq=False)
class WithUnit(Mapping[str, Any]):
    """Columns of a table, and those of the unit that it has none of that name for.

    Attributes:
        own: The table.
        unit: That of the unit.
        rows: Row of the unit for each row.
    """

    own: Any
    unit: Any
    rows: Index

    def __getitem__(self, name: str) -> Any:
        """One column, computed when it is asked for."""
        if name in self.own.columns:
            return self.own[name].to_numpy()
        return self.unit[name].to_numpy()[self.rows]

    def __iter__(self) -> Iterator[str]:
        """Names, the table's own first."""
        return iter(dict.fromkeys([*self.own.columns, *self.unit.columns]))

    def __len__(self) -> int:
        """How many names there are."""
        return len(list(iter(self)))
