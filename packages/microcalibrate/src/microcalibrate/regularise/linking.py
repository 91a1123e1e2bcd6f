"""Which record belongs to which: links between tables as positions of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.errors import InvalidSurvey

if TYPE_CHECKING:
    from microcalibrate.regularise.schema import Schema

Positions: TypeAlias = npt.NDArray[np.intp]


class Links:
    """Row of the record that each record belongs to, for every pair of entities.

    Args:
        tables: Table of each entity, with its id and link columns.
        schema: What they hold.

    Raises:
        InvalidSurvey: If an id is missing or there twice, a link leads nowhere, a record belongs
            to two units, or a unit or other parent has no members.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame], schema: Schema) -> None:
        """Resolve and check every link."""
        self._schema = schema
        self._rows: dict[tuple[str, str], Positions] = {}
        ids = {
            entity.name: _checked_ids(tables[entity.name][entity.id_column], entity.name)
            for entity in schema.entities
        }
        for entity in schema.entities:
            for link in entity.of_kind("link"):
                to = str(link.to)
                stored = tables[entity.name][link.name]
                gone = stored.isna().to_numpy(dtype=np.bool_)
                rows = np.full(len(stored), -1, dtype=np.intp)
                rows[~gone] = ids[to].get_indexer(_plain_index(stored[~gone]))
                lost = (rows < 0) & ~(link.missing & gone)
                if lost.any():
                    raise InvalidSurvey(
                        f"{entity.name}.{link.name} names {stored[lost].iloc[0]!r} (record "
                        f"{ids[entity.name][lost][0]!r}), and no {to!r} has that id; "
                        f"{int(lost.sum())} such links in all. Mend or drop these records."
                    )
                self._rows[entity.name, link.name] = rows
        for child in schema.entities:
            for parent in sorted(schema.ancestors(child.name)):
                self._check_paths(child.name, parent, ids)
        for child in schema.entities:
            for parent, name in child.parents.items():
                without = np.bincount(self._rows[child.name, name], minlength=len(ids[parent])) == 0
                if without.any():
                    raise InvalidSurvey(
                        f"{parent!r} {ids[parent][without][0]!r} has no {child.name!r}; "
                        f"{int(without.sum())} have none in all. Drop them, or add their records."
                    )
        self._check_peers(ids)

    def link(self, entity: str, column: str) -> Positions:
        """Row that each record's link names, -1 where it is missing."""
        return self._rows[entity, column]

    def positions(self, child: str, parent: str) -> Positions:
        """Row in the parent's table of the record that each record belongs to.

        Raises:
            InvalidSurvey: If no link leads there.
        """
        if child == parent:
            raise InvalidSurvey(f"{child!r} is asked for the {parent!r} that it belongs to.")
        return self._paths(child, parent)[0]

    def _paths(self, child: str, parent: str) -> list[Positions]:
        """Rows of the parent along each way of links."""
        ways = []
        for step, name in self._schema.entity(child).parents.items():
            rows = self._rows[child, name]
            if step == parent:
                ways.append(rows)
            elif parent in self._schema.ancestors(step):
                ways += [way[rows] for way in self._paths(step, parent)]
        if not ways:
            raise InvalidSurvey(f"no link leads from {child!r} to {parent!r}.")
        return ways

    def _check_paths(self, child: str, parent: str, ids: Mapping[str, pd.Index[Any]]) -> None:
        first, *others = self._paths(child, parent)
        for other in others:
            differ = first != other
            if differ.any():
                raise InvalidSurvey(
                    f"{child!r} {ids[child][differ][0]!r} belongs to two different records of "
                    f"{parent!r} along its links; {int(differ.sum())} such records in all. The "
                    "members of one unit must belong together: mend the links."
                )

    def _check_peers(self, ids: Mapping[str, pd.Index[Any]]) -> None:
        unit = self._schema.unit
        for entity in self._schema.children:
            for link in entity.of_kind("link"):
                if link.to != entity.name:
                    continue
                rows, of = self._rows[entity.name, link.name], self.positions(entity.name, unit)
                apart = (rows >= 0) & (of != of[rows])
                if apart.any():
                    raise InvalidSurvey(
                        f"{entity.name}.{link.name} of {ids[entity.name][apart][0]!r} names a "
                        f"record of another {unit!r}. Such links stay in one {unit!r}: mend them."
                    )


def _checked_ids(stored: pd.Series[Any], entity: str) -> pd.Index[Any]:
    if stored.isna().any():
        raise InvalidSurvey(f"{entity}.{stored.name} has a missing id. Give each record one.")
    kind = pd.api.types.infer_dtype(stored, skipna=False)
    if kind not in ("integer", "string", "empty") or isinstance(stored.dtype, pd.CategoricalDtype):
        raise InvalidSurvey(
            f"{entity}.{stored.name} has ids of type {stored.dtype} ({kind}). Store them as whole "
            "numbers or as text."
        )
    if stored.duplicated().any():
        twice = stored[stored.duplicated()].iloc[0]
        raise InvalidSurvey(f"{entity}.{stored.name} has {twice!r} more than once. Mend the ids.")
    return _plain_index(stored)


def _plain_index(stored: pd.Series[Any]) -> pd.Index[Any]:
    """Ids without missing ones; whole numbers stay numbers, which are found faster."""
    if getattr(stored.dtype, "kind", "O") in "iu":
        whole: pd.Index[Any] = pd.Index(stored.to_numpy(dtype=np.int64))
        return whole
    objects: pd.Index[Any] = pd.Index(stored.to_numpy(dtype=object), dtype=object)
    return objects
