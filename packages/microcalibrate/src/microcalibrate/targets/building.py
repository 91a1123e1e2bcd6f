"""From declared targets to columns of the estimate matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.columns import Columns, Table
from microcalibrate.errors import InvalidTargetTable, InvalidWeights
from microcalibrate.targets.contributions import ColumnBuilder
from microcalibrate.targets.differences import Difference
from microcalibrate.targets.quotients import Quotients
from microcalibrate.targets.rows import declared, included_rows, refuse_same_names

Vector: TypeAlias = npt.NDArray[np.float64]


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
        quotients: Targets that are means, ratios, shares or quantiles, in their own unit; None
            where there are none.
    """

    names: tuple[str, ...]
    values: Vector
    matrix: sp.csr_array
    tolerances: Vector
    importances: Vector
    families: tuple[str, ...]
    scales: Vector
    differences: tuple[Difference, ...] = ()
    quotients: Quotients | None = None


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
    shares are alike, with the total of their denominator in place of the number of records. What
    they come to in their own unit, `Targets.quotients` says. Where they have a tolerance,
    `Calibration` takes the denominator at the calibrated weights instead, so that it is kept in
    the unit of the value.

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
        quotients=builder.quotients(targets),
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
