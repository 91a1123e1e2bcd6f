"""What users ask for, by columns of their data: totals, means, ratios, quantiles, and their own.

An `Estimand` that is bound to data is a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import Columns, Mask
from microcalibrate.errors import InvalidEstimand
from microcalibrate.expressions import evaluate
from microcalibrate.inference.statistics import (
    DifferenceOf,
    FunctionOfTotals,
    OwnStatistic,
    Quantile,
    Statistic,
    ratio_of,
)

Vector: TypeAlias = npt.NDArray[np.float64]
Variable: TypeAlias = Any
"""A column of the data, an array with a number per record, or one number for all of them."""


@dataclass(frozen=True, eq=False)
class Estimand:
    """Something to estimate, as `total`, `mean`, `ratio`, `quantile` and the like make it.

    Attributes:
        name: Its label in tables.
        kind: Which function made it.
        variables: What it is of.
        where: Condition on the columns that records must meet, or None for all.
        build: From the variables' numbers, one array each, and the mask, to the statistic; None
            for a difference.
        parts: The two that a difference is of.
        entity: Which of linked tables it is of; None is the one with a row per record.
    """

    name: str
    kind: str
    variables: tuple[Variable, ...]
    where: str | None
    build: Callable[[list[Vector], Mask], Statistic] | None
    parts: tuple[Estimand, ...] = ()
    entity: str | None = None

    def bind(self, data: Any, n_records: int) -> Statistic:
        """The statistic of given records.

        Raises:
            InvalidEstimand: If a variable is missing, is no number where it counts, or does not
                fit the records.
            InvalidExpression: If the condition cannot be read.
        """
        if self.build is None:
            first, second = (one.bind(data, n_records) for one in self.parts)
            return DifferenceOf(first, second)  # type: ignore[arg-type]  # no quantile is a part
        columns = None if data is None else Columns(data)
        if columns is not None and columns.n_records != n_records:
            raise InvalidEstimand(
                f"the data have {columns.n_records} rows, and there are {n_records} weights."
            )
        mask = np.ones(n_records, dtype=np.bool_)
        if self.where is not None:
            if columns is None:
                raise InvalidEstimand(f"{self.name}: where={self.where!r} needs data: pass data=.")
            mask = evaluate(self.where, columns)
        numbers = [self._numbers(one, columns, n_records, mask) for one in self.variables]
        return self.build(numbers, mask)

    def _numbers(
        self, variable: Variable, columns: Columns | None, n_records: int, mask: Mask
    ) -> Vector:
        if isinstance(variable, str):
            if columns is None:
                raise InvalidEstimand(
                    f"{self.name}: {variable!r} names a column, and no data were given: pass data=."
                )
            values = columns.numbers(variable)
        else:
            values = np.asarray(variable, dtype=np.float64)
            if values.shape not in ((), (n_records,)):
                raise InvalidEstimand(
                    f"{self.name}: a variable has shape {values.shape}, and there are {n_records} "
                    "records."
                )
            values = np.broadcast_to(values, n_records)
        missing = mask & ~np.isfinite(values)
        if missing.any():
            what = repr(variable) if isinstance(variable, str) else "a variable"
            raise InvalidEstimand(
                f"{self.name}: {what} is missing or infinite in {int(missing.sum())} records, the "
                f"first at {int(np.flatnonzero(missing)[0])}. Fill these in, or leave them out "
                "with where=."
            )
        return np.where(mask, values, 0.0)


def total(
    variable: Variable,
    *,
    where: str | None = None,
    entity: str | None = None,
    name: str | None = None,
) -> Estimand:
    """The population total of a variable.

    Args:
        variable: Column of the data, or numbers, shape `(n_records,)`.
        where: Condition that records must meet, as in tables of targets: `"age >= 65"`.
        entity: Which of linked tables it is about, such as "person": its rows have the weights of
            the records that they belong to. Conditions may name columns of these too.
        name: Label in tables.

    Returns:
        What to hand to `estimate`.

    Examples:
        >>> total("income", where="age >= 65").name
        'total(income, age >= 65)'
    """

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return FunctionOfTotals(numbers[0][:, None], lambda t: float(t[0]), np.ones_like, mask)

    label = _named(name, "total", (variable,), where)
    return Estimand(label, "total", (variable,), where, build, entity=entity)


def count(
    *, where: str | None = None, entity: str | None = None, name: str | None = None
) -> Estimand:
    """The number of persons (or households) in the population; see `total`."""
    label = _named(name, "count", (), where)
    return replace(total(1.0, where=where, entity=entity, name=label), kind="count")


def mean(
    variable: Variable,
    *,
    where: str | None = None,
    entity: str | None = None,
    name: str | None = None,
) -> Estimand:
    """The mean of a variable; of a truth value, the share for which it holds. See `total`."""

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return ratio_of(numbers[0], mask.astype(np.float64), mask)

    label = _named(name, "mean", (variable,), where)
    return Estimand(label, "mean", (variable,), where, build, entity=entity)


def ratio(
    numerator: Variable,
    denominator: Variable,
    *,
    where: str | None = None,
    entity: str | None = None,
    name: str | None = None,
) -> Estimand:
    """The total of one variable over that of another; see `total`."""

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return ratio_of(numbers[0], numbers[1], mask)

    both = (numerator, denominator)
    return Estimand(_named(name, "ratio", both, where), "ratio", both, where, build, entity=entity)


def difference(first: Estimand, second: Estimand, *, name: str | None = None) -> Estimand:
    """One estimate less another, such as the mean of men less that of women.

    The two may be of the same records or of others; how they go together from sample to sample is
    in the standard error.

    Args:
        first: What is taken from: `mean("income", where="sex == 'm'")`.
        second: What is taken off.
        name: See `total`.

    Returns:
        What to hand to `estimate`.

    Raises:
        InvalidEstimand: If one of them is a quantile, which has no derivative, or they are of two
            entities.

    Examples:
        >>> men, women = (mean("income", where=f"sex == '{one}'") for one in "mf")
        >>> difference(men, women).name
        "mean(income, sex == 'm') - mean(income, sex == 'f')"
    """
    for one in (first, second):
        if one.kind == "quantile":
            raise InvalidEstimand(
                f"{one.name} has no derivative, so that a difference with it has no linearised "
                "error. Take the difference of its values in replicates: "
                "ReplicateWeights.confidence_interval."
            )
    if first.entity != second.entity:
        raise InvalidEstimand(
            f"{first.name} is of the entity {first.entity!r} and {second.name} of "
            f"{second.entity!r}: a difference is of one."
        )

    label = f"{first.name} - {second.name}" if name is None else name
    return Estimand(label, "difference", (), None, None, (first, second), first.entity)


def quantile(
    variable: Variable,
    probability: float = 0.5,
    *,
    where: str | None = None,
    entity: str | None = None,
    name: str | None = None,
) -> Estimand:
    """The value below which a share of the population lies: 0.5 is the median.

    Its interval is Woodruff's (1952): that of the share below the estimate, turned back into
    values of the variable. The standard error is the interval's width over what it would be for a
    standard error of 1.

    Args:
        variable: See `total`.
        probability: The share, in (0, 1).
        where: See `total`.
        entity: See `total`.
        name: See `total`.

    Returns:
        What to hand to `estimate`.

    Raises:
        InvalidEstimand: If the share is not in (0, 1).

    Examples:
        >>> quantile("income", 0.9).name
        'quantile(income, 0.9)'
    """
    if not 0 < probability < 1:
        raise InvalidEstimand(f"probability={probability!r} must lie between 0 and 1.")

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return Quantile(numbers[0], float(probability), mask)

    label = _named(name, "quantile", (variable, probability), where)
    return Estimand(label, "quantile", (variable,), where, build, entity=entity)


def smooth(
    function: Callable[[Vector], float],
    variables: Sequence[Variable],
    *,
    gradient: Callable[[Vector], Vector] | None = None,
    where: str | None = None,
    entity: str | None = None,
    name: str = "smooth",
) -> Estimand:
    """A smooth function of population totals.

    Args:
        function: From the totals of the variables, shape `(n_variables,)`, to a number.
        variables: Columns of the data, arrays, or a number for all records: `1` counts them.
        gradient: From the totals to the derivatives; central differences if None.
        where: See `total`.
        entity: See `total`.
        name: See `total`.

    Returns:
        What to hand to `estimate`.

    Examples:
        >>> import numpy as np
        >>> log_mean = smooth(lambda t: np.log(t[0] / t[1]), ["income", 1], name="log mean")
        >>> log_mean.name
        'log mean'
    """

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        kept = [np.where(mask, one, 0.0) for one in numbers]
        return FunctionOfTotals(np.column_stack(kept), function, gradient, mask)

    return Estimand(name, "smooth", tuple(variables), where, build, entity=entity)


def own(
    estimate: Callable[[Vector], float],
    influence: Callable[[Vector], Vector],
    *,
    where: str | None = None,
    name: str = "own",
) -> Estimand:
    """A statistic of your own, with its influence function.

    Args:
        estimate: From weights, shape `(n_records,)`, to a number. Records outside of a domain
            have weight zero.
        influence: From weights to the derivative of the estimate by the weight of each record,
            shape `(n_records,)`.
        where: See `total`.
        name: See `total`.

    Returns:
        What to hand to `estimate`.

    Examples:
        >>> own(lambda w: w.sum(), lambda w: np.ones_like(w), name="persons").name
        'persons'
    """

    def build(_numbers: list[Vector], mask: Mask) -> Statistic:
        return OwnStatistic(estimate, influence, mask)

    return Estimand(name, "own", (), where, build)


def _named(name: str | None, kind: str, variables: tuple[Variable, ...], where: str | None) -> str:
    if name is not None:
        return name
    parts = [
        one if isinstance(one, str) else f"{one:g}" if np.ndim(one) == 0 else "…"
        for one in variables
    ]
    return f"{kind}({', '.join([*parts, *([where] if where else [])])})"
