"""Differences of two means, ratios or shares: targets that are not linear in the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.errors import NoSupport

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Difference:
    """A target that is one quotient of totals less another one.

    At the weights `w`, with the totals `t = totals.T @ w`, it is `t[0] / t[1] - t[2] / t[3]`.

    Attributes:
        column: Its position among the targets.
        name: Of the target.
        value: What the difference shall be.
        totals: What each record adds to the numerator and denominator of the first quotient, and
            to those of the second, shape `(n_records, 4)`.
    """

    column: int
    name: str
    value: float
    totals: sp.csc_array

    def quotients(self, weights: Vector) -> tuple[float, float]:
        """The two quotients, NaN or infinite where a denominator is zero."""
        t = self.totals.T @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(t[0] / t[1]), float(t[2] / t[3])

    def at(self, weights: Vector) -> float:
        """The difference at given weights, shape `(n_records,)`.

        Examples:
            >>> totals = sp.csc_array(np.array([[9.0, 1, 0, 0], [5, 1, 0, 0], [0, 0, 4, 1]]))
            >>> Difference(0, "gap", 2.0, totals).at(np.array([1.0, 3.0, 5.0]))
            2.0
        """
        first, second = self.quotients(weights)
        return first - second

    def linearised(self, weights: Vector) -> tuple[Vector, float]:
        """The same target as a total, near given weights (Deville 1999).

        What a record adds is the derivative of the difference by its weight, times which the
        given weights come to 0: a quotient does not change if all weights are multiplied. So the
        target is what the difference is short of at the given weights.

        Args:
            weights: Shape `(n_records,)`.

        Returns:
            What each record adds per unit of weight, shape `(n_records,)`, and the target.
        """
        t = self.totals.T @ weights
        first, second = self.quotients(weights)
        slopes = np.array([1 / t[1], -first / t[1], -1 / t[3], second / t[3]])
        return np.asarray(self.totals @ slopes), self.value - (first - second)

    def near(self, weights: Vector) -> tuple[npt.NDArray[np.intp], Vector, float]:
        """`linearised`, as the records that contribute, what each adds, and the target.

        Raises:
            NoSupport: If a quotient has no denominator at these weights.
        """
        if not np.isfinite(self.at(weights)):
            raise NoSupport(
                f'target "{self.name}": the denominator of one of its two quotients is zero at the '
                "design weights, so that there is no difference to begin with. Mend `filter`, "
                "`minus` or the weights, or drop the target."
            )
        column, target = self.linearised(weights)
        contributing = np.flatnonzero(column)
        return contributing, column[contributing], target

    def scale(self, weights: Vector) -> float:
        """What an error of 1 means: the value, or for 0 the sizes of both quotients together."""
        size = abs(self.value) or sum(map(abs, self.quotients(weights)))
        return size if size > 0 else float("nan")

    def moved_to(self, column: int, members: sp.csr_array | None = None) -> Difference:
        """The same at another position, of units that records are members of where these are given.

        Args:
            column: Its position among other targets.
            members: Sums records up to their units, shape `(n_units, n_records)`.
        """
        totals = self.totals if members is None else sp.csc_array(members @ self.totals)
        return replace(self, column=column, totals=totals)
