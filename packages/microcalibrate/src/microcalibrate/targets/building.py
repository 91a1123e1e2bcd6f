"""From declared targets to columns of the estimate matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.columns import Columns, Table
from microcalibrate.errors import (
    InvalidExpression,
    InvalidTargetTable,
    InvalidWeights,
    NoSupport,
)
from microcalibrate.expressions import evaluate
from microcalibrate.targets.differences import Difference
from microcalibrate.targets.rows import (
    Declared,
    declared,
    included_rows,
    refuse_same_names,
)

Vector: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets and what each record adds to them.

    Attributes:
        names: One name per target, all different.
        values: Target totals, shape `(n_targets,)`; 0 for a quotient such as a mean, see
            `build_targets`.
        matrix: What each record adds to each target per unit of weight, float64 CSR of shape
            `(n_records, n_targets)`.
        tolerances: Allowed relative errors, shape `(n_targets,)`: 0 exact, NaN soft.
        importances: Relative importances of soft targets, shape `(n_targets,)`.
        families: Group that each target belongs to, `""` for none.
        scales: What an error of 1 means, shape `(n_targets,)`, in the unit of the value. NaN is
            the default of a zero target: the design-weighted absolute total of its column.
        differences: Targets that are differences of quotients. Their columns and values are those
            at the design weights, and change with the weights.
    """

    names: tuple[str, ...]
    values: Vector
    matrix: sp.csr_array
    tolerances: Vector
    importances: Vector
    families: tuple[str, ...]
    scales: Vector
    differences: tuple[Difference, ...] = ()


def build_targets(
    data: Table,
    table: Table | Iterable[Mapping[str, Any]],
    *,
    initial_weights: npt.ArrayLike | None = None,
    differences: bool = False,
) -> Targets:
    """Columns of the estimate matrix for the targets that a table declares.

    Each row of the table is a target with a `name` and a `value`. Without more, its column is the
    column of the data that has its name (or the name in `column`). Otherwise:

    | `aggregate` | the target is | what a record adds |
    |---|---|---|
    | `sum` (default with a `variable`) | the total of `variable` in `filter` | `variable` |
    | `count` (default with a `filter` only) | the number of records in `filter` | 1 |
    | `count` with a `variable` | as `count`, where `variable` is not zero | 1 |
    | these with `minus` | the same, less that of the records in `minus` | the difference |
    | `mean` | the mean of `variable` where `filter` holds | `variable - value` |
    | `ratio` | total of `variable` over that of `denominator` | `variable - value * denominator` |
    | `share` | the share of records in `within` that are in `filter` | 1 or 0, less `value` |
    | `share` with a `variable` | the share of its total | the same times `variable` |
    | `quantile` | the `quantile` of `variable` in `filter` | 1 or 0, less `quantile` |
    | `mean` or `ratio` with `minus` | that in `filter` less that in `minus` | see below |
    | `share` with `minus` | that of `within` less that of `minus` | see below |

    A mean is a ratio of two totals. It equals `value` exactly if the total of `variable - value`
    is 0, which is linear in the weights; so its target total is 0, and its scale is the value
    times the design-weighted number of records: an error of 0.01 means a mean 1% off. Ratios and
    shares are alike, with the total of their denominator in place of the number of records.

    A quantile is `value` if the share of the records up to it is `quantile`, which is linear too.
    The distribution function is interpolated between the two values of the data next to `value`
    (Harms and Duchesne 2006), so that it is met exactly at any value. Its scale is the
    design-weighted number of records: an error of 0.01 means that 1% of the records are on the
    other side of `value`.

    The difference of two quotients is not linear in the weights, and no fixed column gives it.
    With `differences`, its column is the derivative at the design weights, its target what they
    are short of, and its scale the value, or for a value of 0 the sum of both quotients' sizes.
    `Calibration` makes it anew where the weights have gone, until they stand still.

    Args:
        data: One row per record, `n_records` rows: pandas or polars DataFrame.
        table: Targets: pandas or polars DataFrame, or a list of dictionaries. `tolerance` is a
            relative error (0 exact, blank soft), `importance` is 1 if blank, and a row whose
            `include` is false is left out. `agg`, `weight` and `group` are other words for
            `aggregate`, `importance` and `family`. Further columns are notes and not read.
        initial_weights: Design weights, shape `(n_records,)`. Scales of means and differences of
            quotients need them.
        differences: Whether whoever uses the columns does so for differences of quotients too, by
            `Targets.differences`. Otherwise they are refused.

    Returns:
        The targets, in the order of the table.

    Raises:
        InvalidTargetTable: If a target is not complete, not finite, named twice, or no record
            contributes to it. The message names the row (1 is the first) and the target.
        InvalidExpression: If a filter cannot be read.
        InvalidWeights: If initial weights do not fit the data, are negative or not finite.

    Examples:
        >>> people = {"age": np.array([70, 30, 68]), "income": np.array([20.0, 50.0, 30.0])}
        >>> targets = build_targets(
        ...     people,
        ...     [
        ...         {"name": "income", "value": 1_000.0},
        ...         {"name": "elderly", "value": 25.0, "filter": "age >= 65"},
        ...     ],
        ... )
        >>> targets.matrix.toarray()
        array([[20.,  1.],
               [50.,  0.],
               [30.,  1.]])
    """
    used = included_rows(table)
    columns = Columns(data)
    if columns.n_records == 0:
        raise InvalidTargetTable("The data has no records, so no target can be met.")
    weights = _checked_weights(initial_weights, columns.n_records)
    return build_rows(used, ColumnBuilder(columns), weights, differences=differences)


def build_rows(
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    builder: ColumnBuilder,
    weights: Vector | None,
    *,
    differences: bool = False,
) -> Targets:
    """Targets of numbered rows, whose `include` is not looked at.

    Args:
        rows: Number of each row, and its cells without blank ones.
        builder: Of columns of the estimate matrix.
        weights: Checked design weights, shape `(n_records,)`, for the scales of quotients.
        differences: See `build_targets`.

    Raises:
        InvalidTargetTable: If a target cannot be built.
    """
    columns = builder.columns
    targets = [declared(number, cells, columns.names) for number, cells in rows]
    refuse_same_names(targets)
    found = {
        place: builder.difference(target, place)
        for place, target in enumerate(targets)
        if differences and target.is_difference
    }
    start = np.ones(columns.n_records) if weights is None else weights
    near = {place: one.near(start) for place, one in found.items()}
    contributions = [
        near[place][:2] if place in near else builder.contributions(target)
        for place, target in enumerate(targets)
    ]
    values = np.concatenate([values for _, values in contributions])
    positions: npt.NDArray[Any] = np.concatenate([records for records, _ in contributions])
    offsets: npt.NDArray[Any] = np.cumsum([0, *(len(records) for records, _ in contributions)])
    if max(len(values), columns.n_records) <= np.iinfo(np.int32).max:
        positions, offsets = positions.astype(np.int32), offsets.astype(np.int32)
    shape = (columns.n_records, len(targets))
    matrix = sp.csc_array((values, positions, offsets), shape=shape).tocsr()
    return Targets(
        names=tuple(target.name for target in targets),
        values=np.array(
            [
                near[place][2] if place in near else 0.0 if target.is_relative else target.value
                for place, target in enumerate(targets)
            ]
        ),
        matrix=matrix,
        tolerances=np.array([target.tolerance for target in targets]),
        importances=np.array([target.importance for target in targets]),
        families=tuple(target.family for target in targets),
        scales=np.array(
            [
                found[place].scale(start) if place in found else builder.scale(target, weights)
                for place, target in enumerate(targets)
            ]
        ),
        differences=tuple(found.values()),
    )


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


def _checked_weights(weights: npt.ArrayLike | None, n_records: int) -> Vector | None:
    if weights is None:
        return None
    try:
        checked: Vector = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidWeights(f"initial_weights cannot be read as numbers: {error}.") from error
    if checked.shape != (n_records,):
        raise InvalidWeights(
            f"initial_weights has shape {checked.shape}, and the data has {n_records} records: "
            "give one weight per record."
        )
    wrong = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if len(wrong):
        raise InvalidWeights(
            f"initial_weights has {len(wrong)} values that are negative or not finite, the first "
            f"({checked[wrong[0]]}) at record {wrong[0]}. Drop or mend these records."
        )
    return checked
