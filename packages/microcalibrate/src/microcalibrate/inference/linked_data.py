"""What statistics are of: one table with a row per record, or linked tables, of which one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.diagnostics.frame import Frame, SurveyTables
from microcalibrate.errors import InvalidEstimand
from microcalibrate.linked_tables import frame_of
from microcalibrate.targets import WithUnit

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Level:
    """One table that statistics are of.

    Attributes:
        columns: Its columns, with those of the unit that it has none of that name for.
        n_rows: How many rows it has.
        record: Record that each row belongs to, shape `(n_rows,)`; None where it is one.
    """

    columns: Any
    n_rows: int
    record: Index | None


@dataclass(frozen=True, eq=False)
class Tables:
    """The data of an estimate.

    Attributes:
        own: Table with a row per record, or None where no data were given.
        frame: The linked tables, or None where there is one.
        n_records: How many records there are.
    """

    own: Any
    frame: Frame | None
    n_records: int

    @classmethod
    def of(cls, data: Any, n_records: int) -> Tables:
        """What users hand over: a table, linked tables, or nothing.

        Raises:
            InvalidEstimand: If the unit of linked tables has not a row per record.
            InvalidProblem: If tables are not linked.
        """
        of_tables = isinstance(data, Mapping) and bool(data)
        if not isinstance(data, Frame | SurveyTables) and not (
            of_tables and all(hasattr(table, "columns") for table in data.values())
        ):
            return cls(data, None, n_records)
        frame = data if isinstance(data, Frame) else frame_of(data)
        if frame.n_units != n_records:
            raise InvalidEstimand(
                f"the table {frame.unit!r} has {frame.n_units} rows, and there are {n_records} "
                "weights: hand over the tables that were calibrated."
            )
        return cls(frame.tables[frame.unit], frame, n_records)

    def level(self, entity: str | None) -> Level:
        """The table of an entity; None is that with a row per record.

        Raises:
            InvalidEstimand: If there is no such table.
        """
        if entity is None or (self.frame is not None and entity == self.frame.unit):
            return Level(self.own, self.n_records, None)
        if self.frame is None or entity not in self.frame.tables:
            known = "one table" if self.frame is None else ", ".join(self.frame.tables)
            raise InvalidEstimand(
                f"entity={entity!r}: the data are {known}. Hand over linked tables, as "
                '{"household": …, "person": …}, or mend the entity.'
            )
        rows = self.frame.rows_of(entity, self.frame.unit)
        columns = WithUnit(self.frame.tables[entity], self.own, rows)
        return Level(columns, len(rows), rows)
