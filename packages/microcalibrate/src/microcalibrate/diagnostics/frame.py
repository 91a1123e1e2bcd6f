"""The tables that are diagnosed: units with weights, and rows that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import checked_weights
from microcalibrate.columns import Columns, did_you_mean
from microcalibrate.errors import InvalidProblem, InvalidWeights

if TYPE_CHECKING:
    import pandas as pd

Vector: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]

LINEAGE_COLUMN = "_mc_lineage"
"""Column of the unit table with the origin of each unit, read where no lineage is given."""


@runtime_checkable
class SurveyTables(Protocol):
    """What a survey of several tables must offer to be diagnosed directly.

    `tables` are DataFrames by entity, `unit` is the entity that carries the weight, `ids` are the
    identifier columns, `links` say for a child entity which column names its parent
    (`{"person": {"household": "household_id"}}`), and `weights` belong to the units: a Series by
    their identifier, or an array in their order.
    """

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """One table per entity."""
        ...

    @property
    def unit(self) -> str:
        """The entity that carries the weight."""
        ...

    @property
    def ids(self) -> Mapping[str, str]:
        """Identifier column of each entity that others are linked to."""
        ...

    @property
    def links(self) -> Mapping[str, Mapping[str, str]]:
        """Link columns: child entity, then parent entity, to the column in the child's table."""
        ...

    @property
    def weights(self) -> Any:
        """One weight per unit."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """Tables of a survey and how their rows belong to its sampling units.

    Every table other than that of the unit must be linked to it, directly or through others:
    persons to households, or persons to benefit units and these to households.

    Args:
        tables: One pandas DataFrame per entity.
        unit: The entity that carries the weight.
        ids: Identifier column of the unit and of each entity that others are linked to; the
            unit of a single table needs none.
        links: Child entity to (parent entity to link column in the child's table).

    Raises:
        InvalidProblem: If a table, column or link is missing, an identifier occurs twice, or a
            link leads nowhere.

    Examples:
        >>> import pandas as pd
        >>> homes = pd.DataFrame({"home": [7, 9]})
        >>> people = pd.DataFrame({"home": [9, 7, 9], "age": [30, 30, 8]})
        >>> frame = Frame(
        ...     {"household": homes, "person": people}, unit="household",
        ...     ids={"household": "home"}, links={"person": {"household": "home"}},
        ... )
        >>> frame.rows_of("person", "household").tolist()
        [1, 0, 1]
    """

    tables: Mapping[str, pd.DataFrame]
    unit: str = "record"
    ids: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _rows: dict[tuple[str, str], Index] = field(default_factory=dict, init=False, repr=False)
    _columns: dict[str, Columns] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check names, identifiers and links once."""
        if self.unit not in self.tables:
            raise InvalidProblem(
                f"there is no table for the unit {self.unit!r}."
                f"{_nearest(self.unit, self.tables)} Name the entity that carries the weight."
            )
        if len(self.tables[self.unit]) == 0:
            raise InvalidProblem(f"the table of {self.unit!r} has no rows.")
        for entity, column in self.ids.items():
            self._check_identifier(entity, column)
        for child, parents in self.links.items():
            for parent, column in parents.items():
                self._rows[child, parent] = self._resolved(child, parent, column)
        for entity in self.tables:
            if self.unit not in self._ancestors(entity):
                raise InvalidProblem(
                    f"the table {entity!r} is not linked to the unit {self.unit!r}. Give the "
                    "column that names its parent in `links`, or leave the table out; columns of "
                    "an entity above the unit belong on the unit's own table."
                )

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return len(self.tables[self.unit])

    @property
    def unit_ids(self) -> NDArray[Any]:
        """Identifier of each unit, or its position where the unit has no identifier column."""
        column = self.ids.get(self.unit)
        if column is None:
            return np.arange(self.n_units)
        return np.asarray(self.tables[self.unit][column].to_numpy())

    def columns(self, entity: str) -> Columns:
        """Columns of one table, each read once.

        Raises:
            InvalidProblem: If there is no such table.
        """
        self.check_entity(entity)
        if entity not in self._columns:
            self._columns[entity] = Columns(self.tables[entity])
        return self._columns[entity]

    def check_entity(self, entity: str) -> None:
        """Refuse a name that no table has."""
        if entity not in self.tables:
            raise InvalidProblem(f"there is no table {entity!r}.{_nearest(entity, self.tables)}")

    def is_within(self, entity: str, ancestor: str) -> bool:
        """Whether each row of `entity` belongs to one row of `ancestor` (or is one)."""
        return ancestor in self._ancestors(entity)

    def rows_of(self, entity: str, ancestor: str) -> Index:
        """For each row of an entity, the row of the ancestor it belongs to.

        Args:
            entity: An entity.
            ancestor: The same entity, its parent, or a parent's parent.

        Returns:
            Positions in the ancestor's table, shape `(n_rows,)`.
        """
        if entity == ancestor:
            return np.arange(len(self.tables[entity]), dtype=np.intp)
        if (entity, ancestor) not in self._rows:
            parent = next(
                parent for parent in self.links[entity] if ancestor in self._ancestors(parent)
            )
            below = self.rows_of(entity, parent)
            self._rows[entity, ancestor] = self.rows_of(parent, ancestor)[below]
        return self._rows[entity, ancestor]

    def _ancestors(self, entity: str) -> set[str]:
        """The entity itself and all above it."""
        found, waiting = {entity}, [entity]
        while waiting:
            for parent in self.links.get(waiting.pop(), ()):
                if parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return found

    def _check_identifier(self, entity: str, column: str) -> None:
        values = self._column(entity, column)
        if values.isna().any():
            raise InvalidProblem(
                f"column {column!r} of {entity!r} identifies its rows, and "
                f"{int(values.isna().sum())} of them have no identifier. Fill them in."
            )
        if values.duplicated().any():
            first = values[values.duplicated()].tolist()[0]
            raise InvalidProblem(
                f"identifier {first!r} occurs more than once in column {column!r} of {entity!r}. "
                "Give each row one of its own."
            )

    def _resolved(self, child: str, parent: str, column: str) -> Index:
        import pandas as pd

        if parent not in self.ids:
            raise InvalidProblem(
                f"{child!r} is linked to {parent!r}, whose identifier column is not named. "
                f"Add it to `ids`."
            )
        index = pd.Index(self._column(parent, self.ids[parent]))
        links = self._column(child, column)
        rows = np.asarray(index.get_indexer(pd.Index(links)), dtype=np.intp)
        if (rows < 0).any():
            first = links[rows < 0].tolist()[0]
            raise InvalidProblem(
                f"{int((rows < 0).sum())} rows of {child!r} are linked to no row of {parent!r}: "
                f"the first says {first!r} in column {column!r}. Drop them, or mend the link."
            )
        return rows

    def _column(self, entity: str, column: str) -> pd.Series[Any]:
        self.check_entity(entity)
        table = self.tables[entity]
        if column not in table.columns:
            raise InvalidProblem(
                f"the table {entity!r} has no column {column!r}."
                f"{did_you_mean(column, map(str, table.columns))}"
            )
        return table[column]


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    return did_you_mean(name, known).replace("columns", "tables")


def as_frame(data: Any, id_column: str | None = None) -> Frame:
    """A flat table, several tables, or a survey, as a `Frame`.

    Raises:
        InvalidProblem: If it is none of these, or its parts do not fit together.
    """
    if isinstance(data, Frame):
        frame = data
    elif isinstance(data, SurveyTables):
        frame = Frame(data.tables, data.unit, data.ids, data.links)
    else:
        if hasattr(data, "to_pandas"):
            data = data.to_pandas()
        if not (hasattr(data, "columns") and hasattr(data, "iloc")):
            raise InvalidProblem(
                f"a {type(data).__name__} cannot be diagnosed: give a DataFrame, a Frame of "
                "several tables, or a survey."
            )
        return Frame({"record": data}, ids={} if id_column is None else {"record": id_column})
    if id_column is not None:
        raise InvalidProblem("id_column is for a single table: name identifiers in `ids`.")
    return frame


def records_of(unit: str) -> str:
    """What several units are called.

    Examples:
        >>> records_of("household"), records_of("record")
        ('household records', 'records')
    """
    return "records" if unit == "record" else f"{unit} records"


def unit_weights(frame: Frame, weights: Any) -> Vector:
    """One checked weight per unit, from a column's name, a Series by identifier, or an array.

    Raises:
        InvalidWeights: If there are none, or they are missing, not finite, negative, all zero,
            or not one per unit.
    """
    table = frame.tables[frame.unit]
    if weights is None:
        raise InvalidWeights(
            f"the units ({frame.unit!r}) have no weights: give `weights`, a column's name or one "
            "number per unit."
        )
    if isinstance(weights, str):
        if weights not in table.columns:
            raise InvalidWeights(
                f"the table {frame.unit!r} has no column {weights!r} to take weights from."
                f"{did_you_mean(weights, map(str, table.columns))}"
            )
        weights = table[weights].to_numpy()
    elif hasattr(weights, "reindex") and frame.unit in frame.ids:
        if weights.index.has_duplicates:
            raise InvalidWeights("weights name a unit more than once. Give one weight per unit.")
        weights = weights.reindex(frame.unit_ids).to_numpy()
    checked = checked_weights(weights)
    if len(checked) != frame.n_units:
        raise InvalidWeights(
            f"there are {len(checked)} weights for {frame.n_units} rows of {frame.unit!r}. "
            "Give one weight per unit."
        )
    return checked


def unit_labels(frame: Frame, labels: Any, what: str) -> NDArray[Any]:
    """One label per unit: a column of the unit's table, or an array; none may be missing.

    Raises:
        InvalidProblem: If there is no such column, or not one label per unit.
    """
    import pandas as pd

    table = frame.tables[frame.unit]
    if isinstance(labels, str):
        if labels not in table.columns:
            raise InvalidProblem(
                f"{what}: the table {frame.unit!r} has no column {labels!r}."
                f"{did_you_mean(labels, map(str, table.columns))}"
            )
        labels = table[labels].to_numpy()
    array = np.asarray(labels)
    if array.shape != (frame.n_units,):
        raise InvalidProblem(
            f"{what} has shape {array.shape}, and must have one label for each of the "
            f"{frame.n_units} rows of {frame.unit!r}."
        )
    if pd.isna(array).any():
        raise InvalidProblem(
            f"{what} is missing for {int(pd.isna(array).sum())} units. Fill them in."
        )
    return array
