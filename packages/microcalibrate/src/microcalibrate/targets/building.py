"""From declared targets to columns of the estimate matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from microcalibrate.targets.rows import (
    Declared,
    declared,
    is_included,
    read_rows,
    refuse_same_names,
)

Vector: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets and what each record adds to them.

    Attributes:
        names: One name per target, all different.
        values: Target totals, shape `(n_targets,)`; 0 for a mean, see `build_targets`.
        matrix: What each record adds to each target per unit of weight, float64 CSR of shape
            `(n_records, n_targets)`.
        tolerances: Allowed relative errors, shape `(n_targets,)`: 0 exact, NaN soft.
        importances: Relative importances of soft targets, shape `(n_targets,)`.
        families: Group that each target belongs to, `""` for none.
        scales: What an error of 1 means, shape `(n_targets,)`, in the unit of the value. NaN is
            the default of a zero target: the design-weighted absolute total of its column.
    """

    names: tuple[str, ...]
    values: Vector
    matrix: sp.csr_array
    tolerances: Vector
    importances: Vector
    families: tuple[str, ...]
    scales: Vector


def build_targets(
    data: Table,
    table: Table | Iterable[Mapping[str, Any]],
    *,
    initial_weights: npt.ArrayLike | None = None,
) -> Targets:
    """Columns of the estimate matrix for the targets that a table declares.

    Each row of the table is a target with a `name` and a `value`. Without more, its column is the
    column of the data that has its name (or the name in `column`). Otherwise:

    | `aggregate` | the target is | what a record adds |
    |---|---|---|
    | `sum` (default with a `variable`) | the total of `variable` in `filter` | `variable` |
    | `count` (default with a `filter` only) | the number of records in `filter` | 1 |
    | `count` with a `variable` | as `count`, where `variable` is not zero | 1 |
    | `mean` | the mean of `variable` where `filter` holds | `variable - value` |

    A mean is a ratio of two totals. It equals `value` exactly if the total of `variable - value`
    is 0, which is linear in the weights; so its target total is 0, and its scale is the value
    times the design-weighted number of records: an error of 0.01 means a mean 1% off.

    Args:
        data: One row per record, `n_records` rows: pandas or polars DataFrame.
        table: Targets: pandas or polars DataFrame, or a list of dictionaries. `tolerance` is a
            relative error (0 exact, blank soft), `importance` is 1 if blank, and a row whose
            `include` is false is left out. `agg`, `weight` and `group` are other words for
            `aggregate`, `importance` and `family`. Further columns are notes and not read.
        initial_weights: Design weights, shape `(n_records,)`. Only the scales of means need them.

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
    rows = enumerate(read_rows(table), start=1)
    used = [(number, cells) for number, cells in rows if is_included(number, cells)]
    if not used:
        raise InvalidTargetTable(
            "No row of the target table is included: set `include` to true in one at least."
        )
    columns = Columns(data)
    if columns.n_records == 0:
        raise InvalidTargetTable("The data has no records, so no target can be met.")
    weights = _checked_weights(initial_weights, columns.n_records)
    targets = [declared(number, cells, columns.names) for number, cells in used]
    refuse_same_names(targets)

    builder = ColumnBuilder(columns)
    contributions = [builder.contributions(target) for target in targets]
    values = np.concatenate([values for _, values in contributions])
    positions: npt.NDArray[Any] = np.concatenate([records for records, _ in contributions])
    offsets: npt.NDArray[Any] = np.cumsum([0, *(len(records) for records, _ in contributions)])
    if max(len(values), columns.n_records) <= np.iinfo(np.int32).max:
        positions, offsets = positions.astype(np.int32), offsets.astype(np.int32)
    shape = (columns.n_records, len(targets))
    matrix = sp.csc_array((values, positions, offsets), shape=shape).tocsr()
    return Targets(
        names=tuple(target.name for target in targets),
        values=np.array([0.0 if target.is_mean else target.value for target in targets]),
        matrix=matrix,
        tolerances=np.array([target.tolerance for target in targets]),
        importances=np.array([target.importance for target in targets]),
        families=tuple(target.family for target in targets),
        scales=np.array([builder.scale(target, weights) for target in targets]),
    )


@dataclass(eq=False)
class ColumnBuilder:
    """Columns of targets; what several of them share is computed once.

    Attributes:
        columns: Of the data.
    """

    columns: Columns
    selections: dict[str | None, Index] = field(default_factory=dict)
    variables: dict[str, Vector] = field(default_factory=dict)

    def selection(self, target: Declared) -> Index:
        """Positions of the records that the filter of a target selects."""
        if target.filter not in self.selections:
            if target.filter is None:
                selected = np.arange(self.columns.n_records)
            else:
                try:
                    selected = np.flatnonzero(evaluate(target.filter, self.columns))
                except InvalidExpression as error:
                    raise InvalidExpression(f"{target.where}: {error}") from error
            self.selections[target.filter] = selected
        return self.selections[target.filter]

    def contributions(self, target: Declared) -> tuple[Index, Vector]:
        """Records that contribute to a target, and what each adds."""
        selected = self.selection(target)
        if not len(selected):
            raise NoSupport(
                f"{target.where}: its filter {target.filter!r} selects no record, so no weights "
                "can meet it. Mend the filter, or drop the target."
            )
        if target.variable is None:
            return selected, np.ones(len(selected))
        values = self.variable(target)[selected]
        n_missing = int(np.count_nonzero(~np.isfinite(values)))
        if n_missing:
            raise InvalidTargetTable(
                f"{target.where}: variable {target.variable!r} is missing or infinite in "
                f"{n_missing} of the {len(selected)} records that the target counts. Fill or drop "
                "them."
            )
        if target.is_mean:
            values = values - target.value
        contributing = np.flatnonzero(values)
        if not len(contributing):
            raise NoSupport(
                f"{target.where}: {target.variable!r} is {target.value:g} in every record it "
                "selects, so that the mean holds for all weights. Drop the target."
                if target.is_mean
                else f"{target.where}: {target.variable!r} is zero in every record it selects, so "
                "no record contributes to it. Mend the variable or the filter, or drop the target."
            )
        values = values[contributing]
        if target.aggregate == "count":
            values = np.ones(len(values))
        return selected[contributing], values

    def variable(self, target: Declared) -> Vector:
        """What the variable of a target is in each record, shape `(n_records,)`."""
        assert target.variable is not None
        if target.variable not in self.variables:
            try:
                self.variables[target.variable] = self.columns.numbers(target.variable)
            except InvalidExpression as error:
                raise InvalidTargetTable(f"{target.where}: {error}") from error
        return self.variables[target.variable]

    def scale(self, target: Declared, weights: Vector | None) -> float:
        """What an error of 1 means for a target; NaN is the default of a zero target."""
        scale = abs(target.value)
        if target.is_mean:
            scale *= float(weights[self.selection(target)].sum()) if weights is not None else 0.0
        return scale if scale > 0 else float("nan")


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
