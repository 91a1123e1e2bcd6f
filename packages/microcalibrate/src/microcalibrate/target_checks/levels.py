"""The tables that targets are about, and what rows of theirs add to the records with weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from microcalibrate.diagnostics.frame import Frame
from microcalibrate.errors import NoSupport
from microcalibrate.targets import ColumnBuilder, Declared, builder_of
from microcalibrate.targets.contributions import Index, Quotient, Vector


@dataclass(frozen=True, eq=False)
class Level:
    """One table: its own rows are records with weights, or belong to such records.

    Attributes:
        builder: Of columns of the table.
        unit_rows: Record that each row belongs to, shape `(n_rows,)`; None where it is one.
    """

    builder: ColumnBuilder
    unit_rows: Index | None = None

    def contributions(self, target: Declared) -> tuple[Index, Vector]:
        """Records that contribute to a target, and what each adds per unit of its weight.

        Raises:
            InvalidTargetTable: If it cannot be built, or no record contributes.
        """
        if target.is_difference:
            return self._near_equal_weights(target)
        rows, values = self.builder.contributions(target)
        if self.unit_rows is None:
            return rows, values
        records, (sums,) = self._summed(rows, values)
        contributing = np.flatnonzero(sums)
        if not len(contributing):
            raise NoSupport(
                f"{target.where}: what its rows add cancels out in every record that they belong "
                "to, so that no record contributes to it. Drop the target."
            )
        return records[contributing], sums[contributing]

    def quotient(self, target: Declared) -> Quotient:
        """The two totals that a relative target is the quotient of, by record."""
        found = self.builder.quotient(target)
        if self.unit_rows is None:
            return found
        records, sums = self._summed(found.records, found.numerator, found.denominator)
        return Quotient(records, *sums)

    def amounts(self, target: Declared) -> tuple[Index, Vector]:
        """The values that a quantile is about, and the record that each belongs to."""
        rows = self.builder.quotient(target).records
        values = self.builder.amounts(target, target.variable, rows)
        return (rows if self.unit_rows is None else self.unit_rows[rows]), values

    def scale(self, target: Declared, design_weights: Vector) -> float:
        """What an error of 1 means; NaN is the default of a zero target."""
        if target.is_difference and target.value == 0:
            size = 0.0
            for one in map(self.quotient, target.quotients):
                d = design_weights[one.records]
                denominator = float(d @ one.denominator)
                size += abs(float(d @ one.numerator) / denominator) if denominator else 0.0
            return size or float("nan")
        if target.is_difference:
            return abs(target.value)
        of_rows = design_weights if self.unit_rows is None else design_weights[self.unit_rows]
        return self.builder.scale(target, of_rows)

    def _near_equal_weights(self, target: Declared) -> tuple[Index, Vector]:
        """Of a difference of quotients, which is not linear: its derivative at equal weights."""
        # Refuses what is no difference, or has no denominator.
        self.builder.difference(target, 0)
        records, values = [], []
        for sign, one in zip((1.0, -1.0), target.quotients, strict=True):
            found = self.quotient(one)
            total = found.denominator.sum()
            level = found.numerator.sum() / total
            records.append(found.records)
            values.append(sign * (found.numerator - level * found.denominator) / total)
        joined, place = np.unique(np.concatenate(records), return_inverse=True)
        sums = np.asarray(np.bincount(place, np.concatenate(values), len(joined)), np.float64)
        contributing = np.flatnonzero(sums)
        if not len(contributing):
            raise NoSupport(
                f"{target.where}: both of its quotients are the same in every record that they "
                "count, so that it holds for all weights or none. Drop the target."
            )
        return joined[contributing], sums[contributing]

    def _summed(self, rows: Index, *values: Vector) -> tuple[Index, list[Vector]]:
        """The records that rows belong to, and the sums over their rows."""
        assert self.unit_rows is not None
        records, place = np.unique(self.unit_rows[rows], return_inverse=True)
        sums = (np.bincount(place, each, len(records)) for each in values)
        return records, [np.asarray(each, dtype=np.float64) for each in sums]


def levels_of(frame: Frame) -> Mapping[str, Level]:
    """Every table of linked ones, by entity; that of the unit has the records.

    Raises:
        InvalidTargetTable: If a table has no rows.

    Examples:
        >>> import pandas as pd
        >>> homes = pd.DataFrame({"household_id": [7, 8, 9]})
        >>> people = pd.DataFrame({"household_id": [9, 7, 9]})
        >>> ids, links = {"household": "household_id"}, {"person": {"household": "household_id"}}
        >>> tables = {"household": homes, "person": people}
        >>> levels = levels_of(Frame(tables, "household", ids, links))
        >>> levels["household"].unit_rows, levels["person"].unit_rows.tolist()
        (None, [2, 0, 2])
    """
    levels = {}
    for entity in frame.tables:
        rows = frame.rows_of(entity, frame.unit)
        builder = builder_of(frame.tables, frame.unit, entity, rows)
        levels[entity] = Level(builder, None if entity == frame.unit else rows)
    return levels
