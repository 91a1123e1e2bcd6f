"""Statistics: functions of weights, with their derivatives.

A smooth function of totals is enough for most; quantiles have intervals of their own, and anything
else brings its influence function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import Mask
from microcalibrate.errors import InvalidEstimand

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = npt.NDArray[np.float64]


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
        return ratio_of(below.astype(np.float64), self.mask.astype(np.float64), self.mask)

    def within(self, mask: Mask) -> Quantile:
        """See `Statistic.within`."""
        return replace(self, mask=self.mask & mask)


@dataclass(frozen=True, eq=False)
class DifferenceOf:
    """One statistic less another one, of the same records or of others.

    Attributes:
        first: What is taken from.
        second: What is taken off.
    """

    first: Differentiable
    second: Differentiable

    @property
    def mask(self) -> Mask:
        """See `Statistic.mask`: records that count in either."""
        return np.asarray(self.first.mask | self.second.mask)

    def value(self, weights: Vector) -> float:
        """See `Statistic.value`."""
        return self.first.value(weights) - self.second.value(weights)

    def values(self, weights: Matrix) -> Vector:
        """See `Statistic.values`."""
        return self.first.values(weights) - self.second.values(weights)

    def influence(self, weights: Vector) -> Vector:
        """See `Differentiable.influence`."""
        return self.first.influence(weights) - self.second.influence(weights)

    def within(self, mask: Mask) -> DifferenceOf:
        """See `Statistic.within`."""
        return DifferenceOf(self.first.within(mask), self.second.within(mask))


@dataclass(frozen=True, eq=False)
class OfMembers:
    """A statistic of rows that belong to records and have their weights: persons of households.

    Attributes:
        statistic: Of the rows.
        record: Record of each row, shape `(n_rows,)`.
        n_records: How many records there are.
    """

    statistic: Statistic
    record: npt.NDArray[np.intp]
    n_records: int

    @property
    def mask(self) -> Mask:
        """See `Statistic.mask`: records with a row that counts."""
        return np.bincount(self.record[self.statistic.mask], minlength=self.n_records) > 0

    def value(self, weights: Vector) -> float:
        """See `Statistic.value`."""
        return self.statistic.value(weights[self.record])

    def values(self, weights: Matrix) -> Vector:
        """See `Statistic.values`."""
        return self.statistic.values(weights[self.record])

    def influence(self, weights: Vector) -> Vector:
        """See `Differentiable.influence`: what the rows of a record add up to."""
        of_rows = self.statistic.influence(weights[self.record])  # type: ignore[attr-defined]  # of quantiles it is not asked
        return np.asarray(np.bincount(self.record, of_rows, self.n_records))

    def within(self, mask: Mask) -> OfMembers:
        """See `Statistic.within`."""
        return replace(self, statistic=self.statistic.within(mask[self.record]))

    def at(self, probability: float, weights: Vector) -> float:
        """See `Quantile.at`, for a quantile."""
        assert isinstance(self.statistic, Quantile)
        return self.statistic.at(probability, weights[self.record])

    def share_below(self, quantile: float) -> OfMembers:
        """See `Quantile.share_below`, for a quantile."""
        assert isinstance(self.statistic, Quantile)
        return replace(self, statistic=self.statistic.share_below(quantile))


def is_quantile(statistic: Statistic) -> bool:
    """Whether a statistic has no derivative, but the share below it has."""
    return isinstance(
        statistic.statistic if isinstance(statistic, OfMembers) else statistic, Quantile
    )


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


def ratio_of(numerator: Vector, denominator: Vector, mask: Mask) -> FunctionOfTotals:
    """The total of one variable over that of another, of the records in `mask`."""

    def slopes(totals: Vector) -> Vector:
        return np.array([1 / totals[1], -totals[0] / totals[1] ** 2])

    columns = np.column_stack([numerator, denominator])
    return FunctionOfTotals(columns, lambda t: float(t[0] / t[1]), slopes, mask)
