"""How calibrated weights move with the sample and with the targets: the optimum, differentiated.

At the optimum the ratios are the best responses `r(y)` to the prices `y`, and each target holds or
pays for its miss: `A.T r(y) - b = compliance * y`. So by the implicit function theorem, with
`D = diag(1 / (share * phi''(r)))` on the records that are on no bound and zero on those that are,

    H = A.T D A + diag(compliance),    dr = D A H^-1 db

and a statistic whose derivative by the weights is `z` has the coefficients

    B = H^-1 A.T D (d * z)

on the columns: those of a regression of `z` on the targets' columns. They are all that is needed:
`B / scale` is what the statistic gains per unit of each target, and a record's part in the error
of the sample is its weight times the residual `z - x B` (Deville and Särndal 1992, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from microcalibrate.engine.normal_equations import Columns, factor
from microcalibrate.engine.optimum import Optimum
from microcalibrate.engine.program import NO_IMPORTANCE, Program, program_of

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Prices of bands below this share of the largest one hold nothing back.
NO_PRICE = 1e-6
# A ratio this near to its bound, in units of 1, is on it: the engine ends right on bounds.
ON_BOUND = 1e-9
# Rounds of iterative refinement; each takes off most of what the ridge of collinear columns left.
REFINEMENTS = 3


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Derivatives of calibrated weights, at an optimum.

    Args:
        optimum: What was solved.
        at_design: Whether the regression has the records' design weights, as R `survey` has for
            every distance; by default it is the one that belongs to the optimum, in which records
            on a bound do not count and others by the curvature of the distance there. The two
            agree as samples grow where all targets are exact.
    """

    optimum: Optimum
    at_design: bool = False
    _program: Program = field(init=False)
    _columns: Columns = field(init=False)
    _free: npt.NDArray[np.bool_] = field(init=False)
    _record_weight: Vector = field(init=False)
    _compliance: Vector = field(init=False)

    def __post_init__(self) -> None:
        """Take from the engine what the derivatives are made of."""
        optimum = self.optimum
        program, free, _ = program_of(
            optimum.problem, optimum.distance, optimum.closeness, optimum.loss
        )
        n = program.n_ratios
        ratio_of_all = optimum.solution.ratio
        ratio = ratio_of_all[free]
        if self.at_design:
            record_weight = 1 / (program.share * program.distance.curvature(np.ones(n)))
        else:
            inside = (ratio > program.lower[:n] + ON_BOUND) & (ratio < program.upper[:n] - ON_BOUND)
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                curved = 1 / (program.share * program.distance.curvature(ratio))
            record_weight = np.where(inside, curved, 0.0)
        # A target whose price does not move for small changes is taken out: one within its band
        # has none, one whose slack pays has the slack's, one beyond a cap is left alone.
        compliance = program.compliance.copy()
        prices = np.abs(optimum.solution.prices)
        has_band = program.is_hard & (program.tolerance > 0)
        compliance[has_band & (prices <= NO_PRICE * prices.max(initial=0.0))] = NO_IMPORTANCE
        priced = program.slack_price > 0
        limit = np.full(len(prices), np.inf)
        limit[program.slack_target[priced]] = program.slack_price[priced]
        compliance[prices >= (1 - NO_PRICE) * limit] = NO_IMPORTANCE
        missed = np.abs(optimum.problem.errors(ratio_of_all * optimum.problem.design_weights))
        compliance[optimum.problem.is_soft & (missed > optimum.loss.cap)] = NO_IMPORTANCE
        found = {
            "_program": program,
            "_columns": program.columns,
            "_free": free,
            "_record_weight": record_weight,
            "_compliance": compliance,
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def coefficients(self, influence: Matrix) -> Matrix:
        """`B`, in scales of the targets: shape `(n_targets, n_statistics)`.

        Args:
            influence: Derivative of each statistic by the weight of each record of the problem,
                shape `(n_solved, n_statistics)`.
        """
        solve = factor(self._columns, self._record_weight, self._compliance)
        design_weights = self.optimum.problem.design_weights[self._free]
        weighted = self._record_weight[:, None] * design_weights[:, None] * influence[self._free]
        out = np.empty((len(self._compliance), influence.shape[1]))
        for k in range(influence.shape[1]):
            right = self._columns.transposed_product(weighted[:, k])
            found = solve(right)
            for _ in range(REFINEMENTS):
                found = found + solve(right - self._normal(found))
            out[:, k] = found
        return out

    def contributions(self, influence: Matrix) -> Matrix:
        """What each record adds to the linearised error of each statistic.

        Args:
            influence: See `coefficients`.

        Returns:
            Calibrated weight times residual, shape `(n_solved, n_statistics)`. The price of
            distance is shared out by design weights, so that a record makes that of the others
            cheaper; where soft targets pull against it, this moves their ratios too.
        """
        optimum, program = self.optimum, self._program
        free, record_weight = self._free, self._record_weight
        design_weights = optimum.problem.design_weights
        ratio = optimum.solution.ratio
        out = (ratio * design_weights)[:, None] * influence
        coefficients = self.coefficients(influence)
        moved = record_weight * self._columns.product(optimum.solution.prices)
        share = program.share / program.share.sum()
        for k in range(influence.shape[1]):
            fitted = self._columns.product(coefficients[:, k])
            residual = design_weights[free] * influence[free, k] - fitted
            out[free, k] -= ratio[free] * fitted + share * float(residual @ moved)
        # A record that is held at its ratio moves no price, but counts for the targets as others.
        if not self._free.all():
            held = ~self._free & (design_weights > 0)
            rows = optimum.problem.estimate_matrix[held] @ (
                coefficients / optimum.problem.scales[:, None]
            )
            out[held] -= (ratio * design_weights)[held, None] * rows
        return out

    def by_target(
        self, influence: Matrix, denominators: Iterable[tuple[int, Vector]] = ()
    ) -> Matrix:
        """Derivative of each statistic by each target, shape `(n_targets, n_statistics)`.

        In units of the statistic per unit of the target; scales, tolerances and which bounds are
        active are held. A quotient is held by the total of `numerator - value * denominator`: with
        its value the total moves by the denominator's, and the column, at whose price the ratios
        were pulled, by the denominator of each record.

        Args:
            influence: See `coefficients`.
            denominators: Positions of targets that are quotients, each with what the records of
                the problem add to its denominator, shape `(n_solved,)`.
        """
        optimum, free = self.optimum, self._free
        coefficients, scales = self.coefficients(influence), optimum.problem.scales
        found = coefficients / scales[:, None]
        design_weights = optimum.problem.design_weights
        residuals: Matrix | None = None
        for target, denominator in denominators:
            if residuals is None:
                fitted = np.column_stack([self._columns.product(b) for b in coefficients.T])
                residuals = design_weights[free, None] * influence[free] - fitted
            added = design_weights * denominator
            pull = self._record_weight * added[free] * optimum.solution.prices[target]
            found[target] *= optimum.solution.ratio @ added
            found[target] += residuals.T @ pull / scales[target]
        return np.asarray(found)

    def _normal(self, prices: Vector) -> Vector:
        product = self._columns.product(prices)
        return np.asarray(
            self._columns.transposed_product(self._record_weight * product)
            + self._compliance * prices
        )
