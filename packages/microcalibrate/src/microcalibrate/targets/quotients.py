"""Means, ratios and shares among the targets, in the unit that they were declared in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Quotients:
    """Targets that are quotients of two totals.

    The target total of a quotient is its numerator less its level times its denominator, and shall
    be 0. So the quotient is its level plus that total over the denominator.

    Attributes:
        columns: Positions of the quotients among the targets, shape `(n_quotients,)`.
        levels: What they shall be, shape `(n_quotients,)`: of a quantile, its share of records.
        denominators: What each record adds to each different denominator, shape
            `(n_records, n_denominators)`.
        denominator_index: Which of these is a quotient's, shape `(n_quotients,)`.
    """

    columns: Index
    levels: Vector
    denominators: sp.csc_array
    denominator_index: Index

    def at(self, estimates: Vector, weights: Vector) -> Vector:
        """The quotients, NaN or infinite where a denominator is zero.

        Args:
            estimates: Of all targets at these weights, shape `(n_targets,)`.
            weights: Shape `(n_records,)`.

        Examples:
            >>> incomes = np.array([20.0, 40.0])
            >>> mean = Quotients(
            ...     columns=np.array([0]),
            ...     levels=np.array([35.0]),
            ...     denominators=sp.csc_array(np.ones((2, 1))),
            ...     denominator_index=np.array([0]),
            ... )
            >>> weights = np.array([3.0, 1.0])
            >>> mean.at(estimates=np.array([(incomes - 35.0) @ weights]), weights=weights)
            array([25.])
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            short_of = estimates[self.columns] / self.denominated(weights)
        return np.asarray(self.levels + short_of)

    def denominated(self, weights: Vector) -> Vector:
        """The denominator of each quotient, shape `(n_quotients,)`."""
        return np.asarray((self.denominators.T @ weights)[self.denominator_index])

    def bands(self, scales: Vector, tolerances: Vector, weights: Vector) -> Bands | None:
        """Those that may be missed by a tolerance; None where there are none.

        Args:
            scales: Of all targets at some weights, shape `(n_targets,)`.
            tolerances: Of all targets, shape `(n_targets,)`: NaN is soft, 0 is exact.
            weights: Shape `(n_records,)`.
        """
        denominators = np.abs(self.denominated(weights))
        index = np.flatnonzero((tolerances[self.columns] > 0) & (denominators > 0))
        if not len(index):
            return None
        return Bands(self, index, scales[self.columns[index]] / denominators[index])

    def moved_to(self, columns: Index, members: sp.csr_array) -> Quotients:
        """The same at other positions, of the units that records are members of.

        Args:
            columns: Positions among other targets, shape `(n_quotients,)`.
            members: Sums records up to their units, shape `(n_units, n_records)`.
        """
        return replace(
            self, columns=columns, denominators=sp.csc_array(members @ self.denominators)
        )

    @staticmethod
    def joined(parts: Sequence[Quotients]) -> Quotients | None:
        """Quotients of the same records as one; None of none."""
        if not parts:
            return None
        before = np.cumsum([0, *(part.denominators.shape[1] for part in parts)])
        return Quotients(
            columns=np.concatenate([part.columns for part in parts]),
            levels=np.concatenate([part.levels for part in parts]),
            denominators=sp.csc_array(sp.hstack([part.denominators for part in parts])),
            denominator_index=np.concatenate(
                [part.denominator_index + n for part, n in zip(parts, before, strict=False)]
            ),
        )


@dataclass(frozen=True, eq=False)
class Bands:
    """Quotients with a tolerance, whose scales are in proportion to their denominators.

    A mean of 50 may be missed by 1% where it lies between 49.5 and 50.5. Its total, that of
    `variable - 50`, may then be missed by half the number of records, whatever that comes to be.

    Attributes:
        quotients: These and others.
        index: Which of them have a tolerance, shape `(n_bands,)`.
        units: Their scales per unit of the denominator, shape `(n_bands,)`.
    """

    quotients: Quotients
    index: Index
    units: Vector

    @property
    def columns(self) -> Index:
        """Positions among the targets, shape `(n_bands,)`."""
        return self.quotients.columns[self.index]

    def scales_at(self, weights: Vector, scales: Vector) -> Vector:
        """Scales of all targets at given weights.

        Args:
            weights: Shape `(n_records,)`.
            scales: Of all targets at other weights, shape `(n_targets,)`: those without a
                denominator at these weights keep theirs.
        """
        found = scales.copy()
        denominators = np.abs(self.quotients.denominated(weights))[self.index]
        found[self.columns] = np.where(
            denominators > 0, self.units * denominators, scales[self.columns]
        )
        return found
