"""What is estimated: totals, means, ratios, quantiles, and statistics of the user's own.

An `Estimand` is what users ask for, by columns of their data. Bound to the data it becomes a
statistic: a function of weights, with its derivative. A smooth function of totals is enough for
most; quantiles have intervals of their own, and anything else brings its influence function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import Columns, Mask
from microcalibrate.errors import InvalidEstimand
from microcalibrate.expressions import evaluate

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = npt.NDArray[np.float64]
Variable: TypeAlias = Any
"""A column of the data, an array with a number per record, or one number for all of them."""


class Statistic(Protocol):
    """A function of weights that standard errors can be had for; `mask` says of which records."""

    @property
    def mask(self) -> Mask:
        """Records that count, shape `(n_records,)`."""

    def value(self, weights: Vector) -> float:
        """The estimate with given weights, shape `(n_records,)`."""

    def values(self, weights: Matrix) -> Vector:
        """The estimates with each column of `(n_records, n_replicates)`."""

    def within(self, mask: Mask) -> Statistic:
        """The same statistic of the records in a domain."""


class Differentiable(Statistic, Protocol):
    """A statistic with a derivative by the weights: any but a quantile."""

    def influence(self, weights: Vector) -> Vector:
        """Derivative of the estimate by each record's weight, shape `(n_records,)`."""

    def within(self, mask: Mask) -> Differentiable:
        """See `Statistic.within`."""


@dataclass(frozen=True, eq=False)
class FunctionOfTotals:
    """A smooth function of weighted totals.

    Attributes:
        columns: What is added up, shape `(n_records, n_totals)`.
        function: From totals, shape `(n_totals,)`, to the estimate.
        gradient: From totals to the derivatives, `(n_totals,)`; None takes differences.
        mask: Records that count, shape `(n_records,)`.
    """

    columns: Matrix
    function: Callable[[Vector], float]
    gradient: Callable[[Vector], Vector] | None
    mask: Mask

    def value(self, weights: Vector) -> float:
        """See `Statistic.value`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.function(self.columns.T @ weights))

    def values(self, weights: Matrix) -> Vector:
        """See `Statistic.values`."""
        totals = self.columns.T @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.array([float(self.function(one)) for one in totals.T])

    def influence(self, weights: Vector) -> Vector:
        """See `Differentiable.influence`."""
        totals = self.columns.T @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = (
                numerical_gradient(self.function, totals)
                if self.gradient is None
                else np.asarray(self.gradient(totals), dtype=np.float64)
            )
        return np.asarray(self.columns @ slopes)

    def within(self, mask: Mask) -> FunctionOfTotals:
        """See `Statistic.within`."""
        kept = np.where(mask[:, None], self.columns, 0.0)
        return replace(self, columns=kept, mask=self.mask & mask)


@dataclass(frozen=True, eq=False)
class Quantile:
    """The value below which a share of all weight lies.

    Attributes:
        variable: Value of each record, shape `(n_records,)`.
        probability: The share, in (0, 1).
        mask: Records that count, shape `(n_records,)`.
    """

    variable: Vector
    probability: float
    mask: Mask

    def value(self, weights: Vector) -> float:
        """See `Statistic.value`."""
        return self.at(self.probability, weights)

    def at(self, probability: float, weights: Vector) -> float:
        """The quantile of another share, NaN for one outside of `[0, 1]`.

        Of the records in order of their value, the last whose weight and that of all before it
        are no more than the share: the quantile is its value if they are that share exactly, and
        the next value if not (the inverse of the distribution function, R's "math" rule).
        """
        counted = self.mask & (weights != 0)
        if not 0 <= probability <= 1 or not counted.any():
            return float("nan")
        order = np.argsort(self.variable[counted], kind="stable")
        values = self.variable[counted][order]
        summed = np.cumsum(weights[counted][order])
        total = weights[counted].sum()
        place = int((summed <= probability * total).sum()) - 1
        if place < 0:
            return float(values[0])
        if probability == summed[place] / total:
            return float(values[place])
        return float(values[min(place + 1, len(values) - 1)])

    def values(self, weights: Matrix) -> Vector:
        """See `Statistic.values`."""
        return np.array([self.value(one) for one in weights.T])

    def share_below(self, quantile: float) -> FunctionOfTotals:
        """The share of weight up to a value: what Woodruff's interval is made of."""
        below = (self.variable <= quantile) & self.mask
        return _ratio_of(below.astype(np.float64), self.mask.astype(np.float64), self.mask)

    def within(self, mask: Mask) -> Quantile:
        """See `Statistic.within`."""
        return replace(self, mask=self.mask & mask)


@dataclass(frozen=True, eq=False)
class OwnStatistic:
    """A statistic of the user's own, with its influence function.

    Attributes:
        estimate: From weights, shape `(n_records,)`, to the estimate.
        derivative: From weights to its derivative by each of them, `(n_records,)`.
        mask: Records that count; the weights of others are handed over as zero.
    """

    estimate: Callable[[Vector], float]
    derivative: Callable[[Vector], Vector]
    mask: Mask

    def value(self, weights: Vector) -> float:
        """See `Statistic.value`."""
        return float(self.estimate(np.where(self.mask, weights, 0.0)))

    def values(self, weights: Matrix) -> Vector:
        """See `Statistic.values`."""
        return np.array([self.value(one) for one in weights.T])

    def influence(self, weights: Vector) -> Vector:
        """See `Differentiable.influence`."""
        found = np.asarray(self.derivative(np.where(self.mask, weights, 0.0)), dtype=np.float64)
        if found.shape != weights.shape:
            raise InvalidEstimand(
                f"the influence function returned shape {found.shape}; it must give one number per "
                f"record, shape {weights.shape}: the derivative of the estimate by its weight."
            )
        return np.where(self.mask, found, 0.0)

    def within(self, mask: Mask) -> OwnStatistic:
        """See `Statistic.within`."""
        return replace(self, mask=self.mask & mask)


def numerical_gradient(function: Callable[[Vector], float], at: Vector) -> Vector:
    """Derivatives by central differences, each with a step in proportion to its argument."""
    steps = np.cbrt(np.finfo(np.float64).eps) * np.maximum(np.abs(at), 1e-8)
    slopes = np.empty(len(at))
    for k, step in enumerate(steps):
        high, low = at.copy(), at.copy()
        high[k] += step
        low[k] -= step
        slopes[k] = (function(high) - function(low)) / (high[k] - low[k])
    return slopes


# --- What users ask for ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Estimand:
    """Something to estimate, as `total`, `mean`, `ratio`, `quantile` and the like make it.

    Attributes:
        name: Its label in tables.
        kind: Which function made it.
        variables: What it is of.
        where: Condition on the columns that records must meet, or None for all.
        build: From the variables' numbers, one array each, and the mask, to the statistic.
    """

    name: str
    kind: str
    variables: tuple[Variable, ...]
    where: str | None
    build: Callable[[list[Vector], Mask], Statistic]

    def bind(self, data: Any, n_records: int) -> Statistic:
        """The statistic of given records.

        Raises:
            InvalidEstimand: If a variable is missing, is no number where it counts, or does not
                fit the records.
            InvalidExpression: If the condition cannot be read.
        """
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


def total(variable: Variable, *, where: str | None = None, name: str | None = None) -> Estimand:
    """The population total of a variable.

    Args:
        variable: Column of the data, or numbers, shape `(n_records,)`.
        where: Condition that records must meet, as in tables of targets: `"age >= 65"`.
        name: Label in tables.

    Returns:
        What to hand to `estimate`.

    Examples:
        >>> total("income", where="age >= 65").name
        'total(income, age >= 65)'
    """

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return FunctionOfTotals(numbers[0][:, None], lambda t: float(t[0]), np.ones_like, mask)

    return Estimand(_named(name, "total", (variable,), where), "total", (variable,), where, build)


def count(*, where: str | None = None, name: str | None = None) -> Estimand:
    """The number of persons (or households) in the population; see `total`."""
    return replace(total(1.0, where=where, name=_named(name, "count", (), where)), kind="count")


def mean(variable: Variable, *, where: str | None = None, name: str | None = None) -> Estimand:
    """The mean of a variable; of a truth value, the share for which it holds. See `total`."""

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return _ratio_of(numbers[0], mask.astype(np.float64), mask)

    return Estimand(_named(name, "mean", (variable,), where), "mean", (variable,), where, build)


def ratio(
    numerator: Variable,
    denominator: Variable,
    *,
    where: str | None = None,
    name: str | None = None,
) -> Estimand:
    """The total of one variable over that of another; see `total`."""

    def build(numbers: list[Vector], mask: Mask) -> Statistic:
        return _ratio_of(numbers[0], numbers[1], mask)

    both = (numerator, denominator)
    return Estimand(_named(name, "ratio", both, where), "ratio", both, where, build)


def quantile(
    variable: Variable,
    probability: float = 0.5,
    *,
    where: str | None = None,
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
    return Estimand(label, "quantile", (variable,), where, build)


def smooth(
    function: Callable[[Vector], float],
    variables: Sequence[Variable],
    *,
    gradient: Callable[[Vector], Vector] | None = None,
    where: str | None = None,
    name: str = "smooth",
) -> Estimand:
    """A smooth function of population totals.

    Args:
        function: From the totals of the variables, shape `(n_variables,)`, to a number.
        variables: Columns of the data, arrays, or a number for all records: `1` counts them.
        gradient: From the totals to the derivatives; central differences if None.
        where: See `total`.
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

    return Estimand(name, "smooth", tuple(variables), where, build)


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


def _ratio_of(numerator: Vector, denominator: Vector, mask: Mask) -> FunctionOfTotals:
    def slopes(totals: Vector) -> Vector:
        return np.array([1 / totals[1], -totals[0] / totals[1] ** 2])

    columns = np.column_stack([numerator, denominator])
    return FunctionOfTotals(columns, lambda t: float(t[0] / t[1]), slopes, mask)


def _named(name: str | None, kind: str, variables: tuple[Variable, ...], where: str | None) -> str:
    if name is not None:
        return name
    parts = [
        one if isinstance(one, str) else f"{one:g}" if np.ndim(one) == 0 else "…"
        for one in variables
    ]
    return f"{kind}({', '.join([*parts, *([where] if where else [])])})"
