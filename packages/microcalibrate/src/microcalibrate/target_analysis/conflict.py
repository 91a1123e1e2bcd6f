"""How targets act on each other at the optimum: prices, and the inverse of the normal equations.

At the optimum raising target `k` by one scale lowers the objective by its price `y_k`, and changes
the prices by `-inverse(H)[:, k]` with `H` the matrix of the engine's Newton step, taken over the
records that are on no bound. With chi-square distance, and while no record reaches or leaves a
bound, this is exact for changes of any size; else it is a first-order (sensitivity) analysis
(Fiacco 1983).

To loosen a target by `delta` is to move it by `delta` scales towards its estimate, or, for a banded
one, its band. At `delta = |y_k| / inverse(H)[k, k]` its price is zero: more would change
nothing, and the target is as good as dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray

from microcalibrate.engine.normal_equations import Columns, symmetric_gram
from microcalibrate.engine.program import NO_IMPORTANCE, Program

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# See Note [Ridge] of the normal equations.
FIRST_RIDGE = 1e-13
LAST_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Prices and the inverse of `H` at an optimum; see the module's text.

    Attributes:
        prices: Fall of the objective per scale by which a target is raised, `(n_targets,)`.
        inverse: Inverse of `H`, shape `(n_targets, n_targets)`: fall of the price of target `j`
            per scale by which target `k` is raised.
        compliance: Error of a soft target per unit of its price, shape `(n_targets,)`; 0 for
            hard ones.
    """

    prices: Vector
    inverse: Matrix
    compliance: Vector

    @property
    def curvature(self) -> Vector:
        """Second derivative of the objective with respect to each target, `(n_targets,)`."""
        return np.maximum(np.diagonal(self.inverse), 1e-300)

    @property
    def errors(self) -> Vector:
        """Errors of soft targets, in scales, shape `(n_targets,)`; 0 for hard ones."""
        counted = np.where(self.compliance < NO_IMPORTANCE, self.compliance, 0.0)
        return counted * self.prices

    def fall_of_objective(self, loosening: float = np.inf) -> Vector:
        """Fall of the objective if each target alone is loosened by so many scales, `(n_targets,)`.

        Infinite drops it.
        """
        room = np.minimum(np.abs(self.prices) / self.curvature, loosening)
        return np.asarray(np.abs(self.prices) * room - 0.5 * self.curvature * room**2)

    def fall_by_moving(self, targets: NDArray[np.int64], moved: Vector) -> float:
        """Fall of the objective if some targets are raised by so many scales each."""
        own = self.inverse[np.ix_(targets, targets)]
        return float(self.prices[targets] @ moved - 0.5 * moved @ own @ moved)

    def prices_without(self, dropped: NDArray[np.bool_]) -> Vector:
        """Prices if some targets are dropped, to first order, shape `(n_targets,)`."""
        own = self.inverse[np.ix_(dropped, dropped)]
        step = la.lstsq(own, self.prices[dropped])[0]
        return np.where(dropped, 0.0, self.prices - self.inverse[:, dropped] @ step)

    def fall_of_errors(self) -> Matrix:
        """Fall of `|error|` of target `j` per scale by which target `k` is loosened.

        Shape `(n_targets, n_targets)`, row `j`, column `k`; the diagonal is 0, as are rows of
        hard targets, which stay met. Positive: the two pull against each other.
        """
        counted = np.where(self.compliance < NO_IMPORTANCE, self.compliance, 0.0)
        fall = (counted * np.sign(self.prices))[:, None] * self.inverse * np.sign(self.prices)
        np.fill_diagonal(fall, 0.0)
        return np.asarray(fall)

    def fall_of_mean_error(self, counted: NDArray[np.bool_]) -> Vector:
        """Fall of the mean `|error|` over the other `counted` targets, were each one dropped."""
        step = self.prices / self.curvature
        compliance = np.where(counted & (self.compliance < NO_IMPORTANCE), self.compliance, 0.0)
        before = compliance * self.prices
        after = before[:, None] - compliance[:, None] * self.inverse * step
        np.fill_diagonal(after, np.abs(before))
        n_others = np.maximum(counted.sum() - counted, 1)
        return np.asarray((np.abs(before)[:, None] - np.abs(after)).sum(axis=0) / n_others)

    def conflict(self) -> Matrix:
        """Share in `[-1, 1]` of each pair's pull that is against each other, symmetric.

        The normalised inverse of `H`, times the signs of both prices: 1 for two targets of which
        only one can be met, 0 for two that do not meet in any record, -1 for two that pull as one.
        The diagonal is 0, as are targets that have no price.
        """
        scale = np.sign(self.prices) / np.sqrt(self.curvature)
        # A price that is rounding has a sign without a meaning.
        scale[np.abs(self.prices) <= 1e-9 * np.abs(self.prices).max(initial=0.0)] = 0.0
        scale[self.compliance >= NO_IMPORTANCE] = 0.0
        out = np.clip(scale[:, None] * self.inverse * scale, -1.0, 1.0)
        np.fill_diagonal(out, 0.0)
        return np.asarray(out)


def sensitivity_of(program: Program, prices: Vector) -> Sensitivity:
    """What prices at an optimum say about small changes of the targets.

    Args:
        program: The program whose optimum it is, without elastic slacks.
        prices: Its optimal prices, shape `(n_targets,)`.

    Returns:
        Prices with the inverse of `H`.
    """
    n = program.n_ratios
    pull = program.columns.product(prices)
    with np.errstate(over="ignore"):
        ratio = program.distance.inverse_slope(-pull / program.share)
    free = (ratio > program.lower[:n]) & (ratio < program.upper[:n])
    theta = program.share * program.distance.curvature(np.where(free, ratio, 1.0))
    diagonal = program.compliance.copy()
    # A band that does not bind leaves its target free: it complies without a price.
    banded = program.slack_target
    without_price = np.abs(prices[banded]) <= 1e-9 * np.abs(prices).max(initial=0.0)
    diagonal[banded[without_price]] = NO_IMPORTANCE
    prices = prices.copy()
    prices[banded[without_price]] = 0.0
    inverse = inverse_of(program.columns, np.where(free, 1 / theta, 0.0), diagonal)
    return Sensitivity(prices, inverse, diagonal)


def inverse_of(columns: Columns, record_weight: Vector, diagonal: Vector) -> Matrix:
    """Inverse of `A.T @ diag(record_weight) @ A + diag(diagonal)`, by Cholesky.

    Args:
        columns: Scaled columns `A`.
        record_weight: One non-negative factor per record, shape `(n_records,)`.
        diagonal: Non-negative, shape `(n_targets,)`.

    Returns:
        Shape `(n_targets, n_targets)`, symmetric. Where columns are collinear a ridge stands in:
        the inverse is then very large along what they have in common.

    Examples:
        >>> from microcalibrate.engine.normal_equations import columns_of
        >>> columns = columns_of(np.array([[1.0], [2.0]]), np.ones(2), np.ones(1))
        >>> inverse_of(columns, np.ones(2), np.array([3.0]))
        array([[0.125]])
    """
    gram = symmetric_gram(columns, record_weight) * np.multiply.outer(
        columns.column_scale, columns.column_scale
    )
    gram[np.diag_indices_from(gram)] += diagonal
    length = np.sqrt(np.diagonal(gram))
    length = np.where(length > 0, length, 1.0)
    gram /= np.outer(length, length)
    ridge = FIRST_RIDGE
    with columns.blas_threads():
        while True:
            np.fill_diagonal(gram, 1 + ridge)
            factor, failed = la.lapack.dpotrf(gram, lower=1)
            if not failed:
                break
            ridge *= 100
            if ridge > LAST_RIDGE:
                raise np.linalg.LinAlgError("normal equations are not positive semidefinite")
        lower, _ = la.lapack.dpotri(factor, lower=1)
    lower = np.tril(lower)
    return np.asarray((lower + np.tril(lower, -1).T) / np.outer(length, length))
