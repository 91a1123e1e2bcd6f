"""Several linked tables as one calibration: which carries the weight, and who belongs to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.diagnostics.frame import Frame, SurveyTables, unit_weights
from microcalibrate.errors import InvalidOption, InvalidProblem

if TYPE_CHECKING:
    import pandas as pd


def linked_units(
    tables: Any, *, unit: str | None, weight: str | None, ids: Any, links: Any
) -> tuple[Frame, Vector]:
    """The tables with their links, and a design weight per unit.

    Args:
        tables: One DataFrame per entity, or a survey that knows unit, identifiers and links.
        unit: The entity that carries the weight; the one whose table has its column if None.
        weight: That column; "weight" for tables and the survey's own weights if None.
        ids: Identifier column of each entity; `<entity>_id`, where it is there, if None.
        links: Child entity to (parent entity to link column); columns of a child that are called
            like a parent's identifier if None.

    Raises:
        InvalidOption: If a survey is told what it knows.
        InvalidProblem: If unit, identifiers or links are not to be found, or do not fit.

    Examples:
        >>> import pandas as pd
        >>> homes = pd.DataFrame({"household_id": [7, 9], "weight": [10.0, 20.0]})
        >>> people = pd.DataFrame({"household_id": [9, 7, 9]})
        >>> frame, weights = linked_units(
        ...     {"household": homes, "person": people}, unit=None, weight=None, ids=None, links=None
        ... )
        >>> frame.unit, frame.rows_of("person", "household").tolist()
        ('household', [1, 0, 1])
    """
    if isinstance(tables, SurveyTables):
        given = {"unit": unit, "ids": ids, "links": links}
        told = [name for name, value in given.items() if value is not None]
        if told:
            raise InvalidOption(f"the survey says its {told[0]} itself: leave `{told[0]}` out.")
        frame = Frame(tables.tables, tables.unit, tables.ids, tables.links)
        return frame, unit_weights(frame, tables.weights if weight is None else weight)
    if not isinstance(tables, Mapping) or not tables:
        raise InvalidProblem(
            f"tables is a {type(tables).__name__}: give a mapping of entity to DataFrame, such as "
            '{"household": …, "person": …}, or a survey.'
        )
    frames = {
        str(name): table.to_pandas() if hasattr(table, "to_pandas") else table
        for name, table in tables.items()
    }
    column = "weight" if weight is None else weight
    if unit is None:
        unit = _unit_of(frames, column)
    ids = _ids_of(frames) if ids is None else ids
    links = _links_of(frames, ids) if links is None else links
    frame = Frame(frames, unit, ids, links)
    return frame, unit_weights(frame, column)


def frame_of(tables: Any, *, unit: str | None = None, ids: Any = None, links: Any = None) -> Frame:
    """Tables with their links, where weights come from elsewhere.

    Args:
        tables: A survey, or a DataFrame per entity.
        unit: The entity that carries the weight; the one that belongs to no other if None.
        ids: Identifier column of each entity; `<entity>_id`, where it is there, if None.
        links: Child entity to (parent entity to link column); columns of a child that are called
            like a parent's identifier if None.

    Raises:
        InvalidProblem: If they are not linked, or several belong to no other.

    Examples:
        >>> import pandas as pd
        >>> homes = pd.DataFrame({"household_id": [7, 9]})
        >>> people = pd.DataFrame({"household_id": [9, 7, 9]})
        >>> frame_of({"person": people, "household": homes}).unit
        'household'
    """
    if isinstance(tables, SurveyTables):
        return Frame(tables.tables, tables.unit, tables.ids, tables.links)
    frames = {
        str(name): table.to_pandas() if hasattr(table, "to_pandas") else table
        for name, table in tables.items()
    }
    ids = _ids_of(frames) if ids is None else ids
    links = _links_of(frames, ids) if links is None else links
    tops = [name for name in frames if name not in links]
    if unit is not None:
        return Frame(frames, unit, ids, links)
    if len(tops) != 1:
        raise InvalidProblem(
            f"of the tables {', '.join(map(repr, frames))}, {len(tops)} belong to no other by a "
            "column that is called like its identifier, such as household_id: one must. Hand over "
            "a survey that says its links."
        )
    return Frame(frames, tops[0], ids, links)


def without_rows(frame: Frame) -> tuple[str, ...]:
    """A sentence for each table in which units have no row, such as households without persons.

    They are no mistake by themselves (a dwelling may be vacant): they add nothing to its targets.

    Examples:
        >>> import pandas as pd
        >>> tables = {
        ...     "household": pd.DataFrame({"household_id": [7, 9], "weight": [10.0, 20.0]}),
        ...     "person": pd.DataFrame({"household_id": [9, 9]}),
        ... }
        >>> frame, _ = linked_units(tables, unit=None, weight=None, ids=None, links=None)
        >>> without_rows(frame)
        ("1 of 2 rows of 'household' has no row in 'person', the first with the identifier 7: it \
adds nothing to targets of 'person'.",)
    """
    said = []
    for entity in frame.tables:
        has_row = np.zeros(frame.n_units, dtype=np.bool_)
        has_row[frame.rows_of(entity, frame.unit)] = True
        n_without = int((~has_row).sum())
        if n_without:
            first = frame.unit_ids[~has_row].tolist()[0]
            has, adds = ("has", "it adds") if n_without == 1 else ("have", "they add")
            said.append(
                f"{n_without:,} of {frame.n_units:,} rows of {frame.unit!r} {has} no row in "
                f"{entity!r}, the first with the identifier {first!r}: {adds} nothing to targets "
                f"of {entity!r}."
            )
    return tuple(said)


def _unit_of(tables: Mapping[str, pd.DataFrame], weight: str) -> str:
    found = [name for name, table in tables.items() if weight in table.columns]
    if len(found) == 1:
        return found[0]
    raise InvalidProblem(
        f"{' and '.join(map(repr, found)) if found else 'none'} of the tables "
        f"{', '.join(map(repr, tables))} {'have' if found else 'has'} a column {weight!r}. Name "
        "the entity that carries the weight in `unit`, and its column in `weight`."
    )


def _ids_of(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    return {name: f"{name}_id" for name, table in tables.items() if f"{name}_id" in table.columns}


def _links_of(
    tables: Mapping[str, pd.DataFrame], ids: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Columns that are called like the identifier of another entity."""
    found: dict[str, dict[str, str]] = {}
    for child, table in tables.items():
        parents = {
            parent: column
            for parent, column in ids.items()
            if parent != child and column in table.columns
        }
        if parents:
            found[child] = parents
    return found
