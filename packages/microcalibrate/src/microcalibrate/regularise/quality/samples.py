"""Rows of units with their weights, and their cells as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.errors import InvalidOption, InvalidSurvey, InvalidWeights
from microcalibrate.regularise.slots import SlotColumn, slot_mask
from microcalibrate.regularise.values import read_cells

if TYPE_CHECKING:
    import pandas as pd

Vector: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.intp]

NUMERIC = ("number", "integer")


@dataclass(frozen=True, eq=False)
class Sample:
    """Slot rows of units, real or generated.

    Attributes:
        rows: Slot rows, as a codec encodes or a generator draws them.
        weights: Weight of each row, in units that it stands for; None for equal weights.
        groups: What belongs together when rows are split, such as the household of each person
            of a flat table; None where each row is its own.
    """

    rows: pd.DataFrame
    weights: Vector | None = None
    groups: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        """Check lengths and weights."""
        if not len(self.rows):
            raise InvalidSurvey("a sample has no rows, so there is nothing to compare.")
        for name in ("weights", "groups"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != (len(self.rows),):
                raise InvalidOption(
                    f"{name} have shape {np.shape(values)}, and there are {len(self.rows)} rows."
                )
        if self.weights is not None:
            weights = np.asarray(self.weights, dtype=np.float64)
            if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
                raise InvalidWeights(
                    "weights of a sample must be finite and not negative, and one above 0."
                )


@dataclass(frozen=True, eq=False)
class Coded:
    """A sample in plain numbers.

    Attributes:
        columns: The columns, in order.
        values: Numbers, positions of levels, or 0 and 1; NaN where there is no value. Shape
            `(n_rows, n_columns)`.
        exists: False in empty slots, of the same shape.
        weights: Of the rows.
        groups: Of the rows, as numbers.
    """

    columns: tuple[SlotColumn, ...]
    values: Vector
    exists: Mask
    weights: Vector
    groups: Index

    @classmethod
    def of(cls, sample: Sample, columns: Sequence[SlotColumn]) -> Coded:
        """Read a sample.

        Raises:
            InvalidSurvey: If a column is absent, or a value does not fit its declaration.
        """
        rows, n_rows = sample.rows, len(sample.rows)
        values = np.empty((n_rows, len(columns)))
        absent = [column.name for column in columns if column.name not in rows]
        if absent:
            raise InvalidSurvey(f"the rows lack the columns {absent[:5]}. Give all of them.")
        for position, column in enumerate(columns):
            cells, wrong = read_cells(rows[column.name], column)
            values[:, position] = np.where(cells.missing | wrong, np.nan, cells.values)
        exists = slot_mask(rows, columns)
        values[~exists] = np.nan
        weights = np.ones(n_rows) if sample.weights is None else np.asarray(sample.weights, float)
        groups = np.arange(n_rows, dtype=np.intp)
        if sample.groups is not None:
            groups = np.unique(np.asarray(sample.groups), return_inverse=True)[1].astype(np.intp)
        return cls(tuple(columns), values, exists, weights, groups)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def take(self, rows: Index | Mask) -> Coded:
        """Some of the rows."""
        return Coded(
            self.columns, self.values[rows], self.exists[rows], self.weights[rows],
            self.groups[rows],
        )  # fmt: skip

    def at_most(self, n_rows: int, rng: np.random.Generator) -> Coded:
        """At most so many rows, chosen by chance and without regard to their weights."""
        if len(self) <= n_rows:
            return self
        return self.take(np.sort(rng.choice(len(self), n_rows, replace=False)))

    @cached_property
    def position(self) -> dict[str, int]:
        """Place of each column by its name."""
        return {column.name: place for place, column in enumerate(self.columns)}

    @cached_property
    def missing(self) -> Mask:
        """Cells that exist and have no value."""
        return self.exists & np.isnan(self.values)


def joined(first: Coded, second: Coded) -> Coded:
    """The rows of both; groups of one are never those of the other."""
    return Coded(
        first.columns,
        np.vstack([first.values, second.values]),
        np.vstack([first.exists, second.exists]),
        np.concatenate([first.weights, second.weights]),
        np.concatenate([first.groups, second.groups + 1 + first.groups.max()]),
    )


def random_split(pool: Coded, shares: Sequence[int], rng: np.random.Generator) -> list[Coded]:
    """Disjoint parts of a sample, whole groups each, with about the asked numbers of rows.

    Args:
        pool: What is split.
        shares: Rows of each part; at most as many as there are, together.
        rng: Source of chance.
    """
    order = rng.permutation(pool.groups.max() + 1)[pool.groups]
    rows = np.argsort(order, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(order[rows]) != 0, True]) + 1
    cuts = [0]
    for wanted in np.cumsum(shares):
        near = int(ends[min(np.searchsorted(ends, wanted), len(ends) - 1)])
        cuts.append(max(near, cuts[-1]))
    return [pool.take(rows[low:high]) for low, high in pairwise(cuts)]


def effective_number(weights: Vector) -> float:
    """Kish's number of equally weighted records that some weights amount to; 0 for none."""
    from microcalibrate.result import effective_sample_size

    return effective_sample_size(weights) if len(weights) and weights.sum() > 0 else 0.0
