"""Policy reforms over which influence is looked at: anybody's model, or none at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from microcalibrate.columns import Columns, Text
from microcalibrate.diagnostics.surface import Metric, row_values
from microcalibrate.errors import InvalidOption

Reform: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]
"""A function of the tables that returns metrics under the reform: name to one value per row.

The names are those of metrics of the surface, whose own values are the baseline; what is looked at
is the change.
"""


@runtime_checkable
class ReformSpace(Protocol):
    """Something that reforms are drawn from.

    `metrics` are those that its reforms return beside the surface's own; they have a baseline
    value as any metric has.
    """

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that the reforms bring along."""
        ...

    def draw(self, rng: np.random.Generator) -> Reform:
        """One reform, decided by the generator alone."""
        ...


@dataclass(frozen=True)
class ScheduleReform:
    """A tax schedule on an income, and lump sums by group; see `RandomScheduleReforms`.

    Attributes:
        metric: Name of the amount it returns: what a row gains, negative for a loss.
        income: The income, as a metric of some entity (None where there is one table).
        thresholds: Lower ends of the brackets, ascending.
        rates: Marginal tax rate in each bracket, a fraction of the income in it.
        group: Column of the groups, or None.
        lump_sums: Amounts given to the groups, in the order of their sorted labels; with more
            groups than amounts they start again.
    """

    metric: str
    income: Metric
    thresholds: tuple[float, ...]
    rates: tuple[float, ...]
    group: str | None = None
    lump_sums: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The schedule in words."""
        brackets = ", ".join(
            f"{rate:+.1%} above {low:,.0f}"
            for low, rate in zip(self.thresholds, self.rates, strict=True)
        )
        numbered = enumerate(self.lump_sums, 1)
        sums = ", ".join(f"{amount:+,.0f} to group {n}" for n, amount in numbered if amount)
        return f"tax of {brackets}" + (f"; by {self.group}: {sums}" if sums else "")

    def __call__(self, tables: dict[str, Any]) -> dict[str, Any]:
        """What each row gains.

        Args:
            tables: The tables by entity.

        Returns:
            The metric's name to the gains, shape `(n_rows,)`.

        Raises:
            InvalidOption: If there are several tables and no entity is named.
            InvalidExpression: If the income or the group cannot be read.
        """
        if self.income.entity is None and len(tables) > 1:
            raise InvalidOption(
                f"there are the tables {sorted(tables)}: name the `entity` whose income is taxed."
            )
        columns = Columns(tables[self.income.entity or next(iter(tables))])
        n_rows = columns.n_records
        income = row_values("the income of a reform", str(self.income.value), columns, n_rows)
        gain = np.zeros(n_rows)
        ends = (*self.thresholds[1:], np.inf)
        for low, high, rate in zip(self.thresholds, ends, self.rates, strict=True):
            gain -= rate * np.clip(income - low, 0.0, high - low)
        if self.group is not None:
            values = columns[self.group]
            labels = values.decoded().astype(str) if isinstance(values, Text) else values
            _, codes = np.unique(labels, return_inverse=True)
            gain += np.asarray(self.lump_sums)[codes % len(self.lump_sums)]
        return {self.metric: gain}


@dataclass(frozen=True)
class RandomScheduleReforms:
    """Reforms that need no tax-benefit model: random brackets and rates, and random lump sums.

    Each draw has one to `most_brackets` brackets, whose lower ends are log-uniform between `low`
    and `high`, marginal rates uniform between plus and minus `largest_rate`, and, with a group,
    a lump sum of up to `largest_lump` either way for about half of up to 12 groups. A draw does
    not look at the data, so the same seed gives the same reforms before and after records change.

    Args:
        income: Column, or expression, of the income that is taxed.
        low: Least lower end of a bracket, in the unit of the income, positive.
        high: Greatest one, above `low`.
        entity: Whose rows they are; None where there is one table.
        group: Column of the same table by which lump sums differ.
        largest_rate: A fraction, positive.
        largest_lump: In the unit of the income; None is a tenth of `low`.
        most_brackets: At least 1.
        metric: What the change is called.

    Raises:
        InvalidOption: If an option is out of its range.

    Examples:
        >>> space = RandomScheduleReforms("wages", low=10_000, high=200_000)
        >>> reform = space.draw(np.random.default_rng(0))
        >>> gains = reform({"record": {"wages": np.array([0.0, 50_000.0, 300_000.0])}})
        >>> gains["gain"].shape
        (3,)
    """

    income: str
    low: float
    high: float
    entity: str | None = None
    group: str | None = None
    largest_rate: float = 0.1
    largest_lump: float | None = None
    most_brackets: int = 4
    metric: str = "gain"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.low < self.high < np.inf:
            raise InvalidOption(
                f"low={self.low!r} and high={self.high!r} must be positive amounts, low the lesser."
            )
        if not 0 < self.largest_rate < np.inf:
            raise InvalidOption(f"largest_rate={self.largest_rate!r} must be positive.")
        if self.largest_lump is not None and not 0 < self.largest_lump < np.inf:
            raise InvalidOption(f"largest_lump={self.largest_lump!r} must be positive, or None.")
        if self.largest_lump is not None and self.group is None:
            raise InvalidOption("largest_lump is for groups: name their column, or leave it out.")
        if self.most_brackets < 1:
            raise InvalidOption(f"most_brackets={self.most_brackets!r} must be at least 1.")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The gain of each row; nothing at baseline."""
        return (Metric(self.metric, "0", self.entity),)

    def draw(self, rng: np.random.Generator) -> ScheduleReform:
        """A reform, decided by the generator alone."""
        n_brackets = int(rng.integers(1, self.most_brackets + 1))
        ends = np.sort(np.exp(rng.uniform(np.log(self.low), np.log(self.high), n_brackets)))
        rates = rng.uniform(-self.largest_rate, self.largest_rate, n_brackets)
        lump_sums: tuple[float, ...] = ()
        if self.group is not None:
            most = self.low / 10 if self.largest_lump is None else self.largest_lump
            sums = rng.uniform(-most, most, 12) * (rng.random(12) < 0.5)
            lump_sums = tuple(sums.tolist())
        return ScheduleReform(
            self.metric,
            Metric("income", self.income, self.entity),
            tuple(ends.tolist()),
            tuple(rates.tolist()),
            self.group,
            lump_sums,
        )


@dataclass(frozen=True, eq=False)
class NamedReform:
    """A reform and what it is called in tables."""

    name: str
    description: str
    apply: Reform


def named_reforms(
    reforms: ReformSpace | Mapping[str, Reform] | Sequence[Reform] | None,
    n_reforms: int | None,
    seed: int,
) -> tuple[list[NamedReform], tuple[Metric, ...]]:
    """The reforms to look at, and the metrics that they bring along.

    A reform that is drawn has a random stream of its own, so the third is the same whether three
    or thirty are drawn, and in whatever order they are computed.

    Args:
        reforms: A space, functions by name, or functions; None is none.
        n_reforms: How many to draw from a space, 20 if None; not for given reforms.
        seed: Of the draws.

    Raises:
        InvalidOption: If the reforms are none of these, or a count is given where none is drawn.
    """
    if isinstance(reforms, ReformSpace):
        count = 20 if n_reforms is None else n_reforms
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidOption(f"n_reforms={n_reforms!r} must be a whole number from 1.")
        drawn = []
        for number in range(count):
            stream = np.random.SeedSequence(seed, spawn_key=(number,))
            reform = reforms.draw(np.random.default_rng(stream))
            description = str(getattr(reform, "name", ""))
            drawn.append(NamedReform(f"reform {number + 1}", description, reform))
        return drawn, tuple(reforms.metrics)
    if n_reforms is not None:
        raise InvalidOption(
            "n_reforms is for reforms that are drawn: give a ReformSpace, or leave it out."
        )
    if reforms is None:
        return [], ()
    if isinstance(reforms, Mapping):
        listed = [NamedReform(str(name), "", reform) for name, reform in reforms.items()]
    elif isinstance(reforms, Sequence) and not isinstance(reforms, str):
        listed = [
            NamedReform(f"reform {number}", str(getattr(reform, "__name__", "")), reform)
            for number, reform in enumerate(reforms, start=1)
        ]
    else:
        raise InvalidOption(
            f"reforms are a ReformSpace, a list of functions, or functions by name, not a "
            f"{type(reforms).__name__}."
        )
    for named in listed:
        if not callable(named.apply):
            raise InvalidOption(f"{named.name!r} is no function of the tables.")
        if named.name == "baseline":
            raise InvalidOption("no reform may be called 'baseline'. Choose another name.")
    return listed, ()
