"""What each record adds to a target, and to the two totals that a mean or a ratio is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.columns import Columns
from microcalibrate.errors import InvalidExpression, InvalidTargetTable, NoSupport
from microcalibrate.expressions import evaluate
from microcalibrate.targets.differences import Difference
from microcalibrate.targets.quotients import Quotients
from microcalibrate.targets.rows import Declared

Vector: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Quotient:
    """Two totals, whose quotient a relative target is: what each record adds to either.

    Attributes:
        records: Positions of the records that count, shape `(n,)`.
        numerator: Shape `(n,)`.
        denominator: Shape `(n,)`.
    """

    records: Index
    numerator: Vector
    denominator: Vector


@dataclass(eq=False)
class ColumnBuilder:
    """Columns of targets; what several of them share is computed once.

    Attributes:
        columns: Of the data: variables.
        conditions: Columns that filters may name; those of the data where None is given.
    """

    columns: Columns
    conditions: Columns | None = None
    selections: dict[str | None, Index] = field(default_factory=dict)
    variables: dict[str, Vector] = field(default_factory=dict)

    def selection(self, target: Declared, condition: str | None) -> Index:
        """Positions of the records that a condition of a target selects, all where it is None."""
        if condition not in self.selections:
            if condition is None:
                selected = np.arange(self.columns.n_records)
            else:
                try:
                    selected = np.flatnonzero(evaluate(condition, self.conditions or self.columns))
                except InvalidExpression as error:
                    raise InvalidExpression(f"{target.where}: {error}") from error
            self.selections[condition] = selected
        if not len(self.selections[condition]):
            raise NoSupport(
                f"{target.where}: its filter {condition!r} selects no record, so no weights "
                "can meet it. Mend the filter, or drop the target."
            )
        return self.selections[condition]

    def contributions(self, target: Declared) -> tuple[Index, Vector]:
        """Records that contribute to a target, and what each adds."""
        if target.is_difference:
            raise InvalidTargetTable(
                f"{target.where}: the difference of two {target.aggregate}s is not linear in the "
                "weights, and this needs targets that are. Calibrate to it with "
                "Calibration.from_table or `microcalibrate calibrate`; here, leave `minus` out."
            )
        if target.is_relative:
            found = self.quotient(target)
            records = found.records
            values = found.numerator - target.level * found.denominator
        else:
            records = self.selection(target, target.filter)
            values = self.amounts(target, target.variable, records)
            if target.minus is not None:
                taken = self.selection(target, target.minus)
                whole = np.zeros(self.columns.n_records)
                whole[records] = values
                whole[taken] -= self.amounts(target, target.variable, taken)
                records, values = np.arange(len(whole)), whole
        contributing = np.flatnonzero(values)
        if not len(contributing):
            raise NoSupport(f"{target.where}: {_nothing(target)}")
        return records[contributing], values[contributing]

    def difference(self, target: Declared, column: int) -> Difference:
        """A target that is a difference of quotients, and which one among the targets it is.

        Raises:
            NoSupport: If both quotients are the same, or one has no denominator.
        """
        parts = [self.quotient(one) for one in target.quotients]
        totals = np.zeros((self.columns.n_records, 4))
        for place, part in enumerate(parts):
            totals[part.records, 2 * place] = part.numerator
            totals[part.records, 2 * place + 1] = part.denominator
            if not part.denominator.any():
                raise NoSupport(
                    f"{target.where}: {target.denominator or target.variable!r} is zero in every "
                    "record that one of its two quotients counts. Mend it, or drop the target."
                )
        if np.array_equal(totals[:, :2], totals[:, 2:]):
            raise NoSupport(f"{target.where}: {_nothing(target)}")
        return Difference(column, target.name, target.value, sp.csc_array(totals))

    def quotients(self, targets: Sequence[Declared]) -> Quotients | None:
        """Those of some targets that are quotients, in their own unit; None of none."""
        columns = [
            place
            for place, target in enumerate(targets)
            if target.is_relative and not target.is_difference
        ]
        if not columns:
            return None
        index: dict[Any, int] = {}
        found: list[Quotient] = []
        for target in (targets[place] for place in columns):
            if target.denominated_by not in index:
                index[target.denominated_by] = len(found)
                found.append(self.quotient(target))
        denominators = sp.csc_array(
            (
                np.concatenate([one.denominator for one in found]),
                np.concatenate([one.records for one in found]),
                np.cumsum([0, *(len(one.records) for one in found)]),
            ),
            shape=(self.columns.n_records, len(found)),
        )
        return Quotients(
            columns=np.array(columns),
            levels=np.array([targets[place].level for place in columns]),
            denominators=denominators,
            denominator_index=np.array([index[targets[place].denominated_by] for place in columns]),
        )

    def quotient(self, target: Declared) -> Quotient:
        """The two totals that a relative target is the quotient of."""
        records = self.selection(
            target, target.within if target.aggregate == "share" else target.filter
        )
        numerator = self.amounts(target, target.variable, records)
        denominator = np.ones(len(records))
        if target.aggregate == "ratio":
            denominator = self.amounts(target, target.denominator, records)
        elif target.aggregate == "share":
            counts = np.zeros(self.columns.n_records)
            counts[self.selection(target, target.filter)] = 1.0
            numerator, denominator = numerator * counts[records], numerator
        elif target.aggregate == "quantile":
            numerator = self._up_to(target, numerator)
        return Quotient(records, numerator, denominator)

    def amounts(self, target: Declared, name: str | None, records: Index) -> Vector:
        """What a column is in some records, each 1 where no column is named."""
        if name is None:
            return np.ones(len(records))
        if name not in self.variables:
            try:
                self.variables[name] = self.columns.numbers(name)
            except InvalidExpression as error:
                raise InvalidTargetTable(f"{target.where}: {error}") from error
        values = self.variables[name][records]
        n_missing = int(np.count_nonzero(~np.isfinite(values)))
        if n_missing:
            raise InvalidTargetTable(
                f"{target.where}: variable {name!r} is missing or infinite in {n_missing} of the "
                f"{len(records)} records that the target counts. Fill or drop them."
            )
        return np.where(values != 0, 1.0, 0.0) if target.aggregate == "count" else values

    def scale(self, target: Declared, weights: Vector | None) -> float:
        """What an error of 1 means for a target; NaN is the default of a zero target."""
        scale = abs(target.value)
        if target.is_relative:
            found = self.quotient(target)
            total = 0.0 if weights is None else abs(weights[found.records] @ found.denominator)
            scale = float(total) * (1.0 if target.aggregate == "quantile" else scale)
        return scale if scale > 0 else float("nan")

    def _up_to(self, target: Declared, values: Vector) -> Vector:
        """How much of each record counts as up to the value of a quantile."""
        least, greatest = float(values.min()), float(values.max())
        if not least <= target.value < greatest:
            raise NoSupport(
                f"{target.where}: {target.variable!r} lies between {least:g} and {greatest:g} in "
                f"the records it selects, so that {target.value:g} is no quantile of theirs at any "
                "weights. Mend the value or the filter, or drop the target."
            )
        below = values <= target.value
        low, high = float(values[below].max()), float(values[~below].min())
        return np.where(values == high, (target.value - low) / (high - low), below.astype(float))


def _nothing(target: Declared) -> str:
    """Why no record contributes to a target, and the way out."""
    if target.is_relative and target.minus is None:
        return (
            f"its {target.aggregate} is {target.level:g} in every record it selects, so that it "
            "holds for all weights. Drop the target."
        )
    if target.minus is not None:
        return (
            "its filter and what it takes off are the same in every record, so that no record "
            "contributes to it. Mend `filter` or `minus`, or drop the target."
        )
    return (
        f"{target.variable!r} is zero in every record it selects, so no record contributes to it. "
        "Mend the variable or the filter, or drop the target."
    )
