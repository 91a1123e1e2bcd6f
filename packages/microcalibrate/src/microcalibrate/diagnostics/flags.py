"""When a unit carries too much of a statistic, and when a cell has too few to say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from microcalibrate.diagnostics.frame import Vector
from microcalibrate.errors import InvalidOption

Mask: TypeAlias = NDArray[np.bool_]

NOT_THIN, NO_CONTRIBUTORS, FEW_CONTRIBUTORS, FEW_CARRY_IT, ONE_DOMINATES = (
    "",
    "no contributors",
    "few contributors",
    "few carry nearly all of it",
    "one record carries most of it",
)
THIN_REASONS = (NOT_THIN, NO_CONTRIBUTORS, FEW_CONTRIBUTORS, FEW_CARRY_IT, ONE_DOMINATES)


@dataclass(frozen=True)
class FlagRules:
    """The limits that flags use.

    Args:
        threshold: Gross share of a statistic above which a unit is influential, in `(0, 1)`.
        least_contributors: Units with a non-zero amount below which a cell is thin.
        least_effective: Effective contributors below which a cell is thin.
        contributor_multiple: A unit must also have more than this over the number of
            contributors, so that nobody is flagged for being one of few.
        reform_fraction: Fraction of the reforms, in `(0, 1]`, in which a unit must be influential
            to be flagged over reforms.
        flag_dominating: Whether a cell with enough contributors, of which one record carries so
            much that the effective ones are too few, is judged as any other (True), or is thin
            and reported as a cell (False).

    Raises:
        InvalidOption: If a limit is out of its range.
    """

    threshold: float = 0.05
    least_contributors: int = 30
    least_effective: float = 10.0
    contributor_multiple: float = 3.0
    reform_fraction: float = 0.2
    flag_dominating: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.threshold < 1:
            raise InvalidOption(
                f"threshold={self.threshold!r} must be a share between 0 and 1, for example 0.05."
            )
        if not 0 < self.reform_fraction <= 1:
            raise InvalidOption(f"reform_fraction={self.reform_fraction!r} must be in (0, 1].")
        for name in ("least_contributors", "least_effective", "contributor_multiple"):
            if not getattr(self, name) >= 1:
                raise InvalidOption(f"{name}={getattr(self, name)!r} must be at least 1.")

    @property
    def floor(self) -> float:
        """Share above which the figures of a unit and statistic are kept."""
        return self.threshold / 5

    def limits(self, n_contributors: Vector) -> Vector:
        """Gross share above which a unit is influential: `max(threshold, 3 / n)`.

        Examples:
            >>> FlagRules().limits(np.array([30.0, 1000.0])).tolist()
            [0.1, 0.05]
        """
        few = self.contributor_multiple / np.maximum(n_contributors, 1)
        return np.maximum(self.threshold, few)

    def thin_reasons(self, n: Vector, effective: Vector, largest: Vector) -> NDArray[np.intp]:
        """Why each cell is thin: its members are then no offenders, the cell itself is reported.

        Args:
            n: Contributors with a non-zero amount, shape `(n_cells,)`.
            effective: Effective contributors `1 / sum(share**2)`, shape `(n_cells,)`.
            largest: Largest share, shape `(n_cells,)`.

        Returns:
            Positions in `THIN_REASONS`, 0 where a cell is not thin.

        Examples:
            >>> n, effective = np.array([5.0, 100.0, 100.0]), np.array([5.0, 60.0, 4.0])
            >>> FlagRules().thin_reasons(n, effective, np.array([0.2, 0.1, 0.4])).tolist()
            [2, 0, 3]
        """
        # Ten equal shares have effective contributors of 10 up to rounding.
        is_concentrated = effective < self.least_effective * (1 - 1e-9)
        squares = np.divide(1.0, effective, out=np.zeros(len(n)), where=effective > 0)
        others = squares - largest**2
        without = np.divide((1 - largest) ** 2, others, out=np.zeros(len(n)), where=others > 1e-15)
        one_dominates = 0 if self.flag_dominating else 4
        concentrated = np.where(without >= self.least_effective, one_dominates, 3)
        reasons = np.where(is_concentrated, concentrated, 0)
        return np.where(n == 0, 1, np.where(n < self.least_contributors, 2, reasons))


def variance_limit(n_contributors: Vector) -> Vector:
    """Share of the variance above which it is high: `10 / n` (NAEP school trimming)."""
    return 10 / np.maximum(n_contributors, 1)


def standardised_limit(n_contributors: Vector) -> Vector:
    """Standardised influence above which it is high: `3 / sqrt(n)` (as svydiags' cut-offs)."""
    return 3 / np.sqrt(np.maximum(n_contributors, 1))
