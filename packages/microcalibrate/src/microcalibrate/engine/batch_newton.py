"""Newton steps on the prices of many programs at once, which differ in design weights only.

The steps are those of `dual_newton`, for a block of replicates side by side: matrices are read once
for all of them. Each starts from the same prices, those of the whole sample, and is done when its
certificate holds. A step that falls short of the best along its direction is taken as it is, and
one that goes too far is halved: the dual objective is concave, so that it rises with each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.arrays import is_sparse
from microcalibrate.engine.banded_step import (
    banded_direction,
    slack_of,
    slope_along,
    without_idle,
)
from microcalibrate.engine.normal_equations import Given, factor
from microcalibrate.engine.pair_columns import Pairs, WholeColumns, pairs_of
from microcalibrate.engine.program import Program

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Where plain steps arrive, they do in 3 to 8.
MOST_STEPS = 15
MOST_HALVINGS = 8
# Numbers of one array over records and replicates: a block of replicates stays in the cache.
BLOCK = 200_000
GAP, RESIDUAL = 1e-8, 1e-9
# Relative to what soft targets pay: a gap above this is not worth a closer look.
NEARLY = 1e-4


@dataclass(frozen=True, eq=False)
class Batch:
    """What replicates of a program have in common.

    Attributes:
        program: Of the whole sample, without slacks at a price.
        charged: Argument of the distance's response per price, times all shares: shape
            `(n_records, n_targets)`.
        transposed: Estimate matrix, shape `(n_targets, n_records)`.
        pairs: What normal equations are made of.
        design_weights: Shape `(n_records, 1)`.
        pull: Factor of the rows of `charged`, `(n_records, 1)`.
        lower: Bounds of ratios: one number where all have the same, or `(n_records, 1)`.
        upper: The same from above.
    """

    program: Program
    charged: Any
    transposed: Any
    pairs: Pairs | WholeColumns
    design_weights: Matrix
    pull: Matrix
    lower: Matrix | float
    upper: Matrix | float

    @classmethod
    def of(cls, program: Program, matrix: Any, design_weights: Vector) -> Batch:
        """Prepare a program for its replicates."""
        n = program.n_ratios
        pull = design_weights / (program.share * program.share.sum())
        sparse = is_sparse(matrix)
        return cls(
            program,
            sp.csr_array(sp.diags_array(pull) @ matrix) if sparse else pull[:, None] * matrix,
            matrix.T.tocsr() if sparse else matrix.T,
            pairs_of(matrix),
            design_weights[:, None],
            pull[:, None],
            one_or_all(program.lower[:n]),
            one_or_all(program.upper[:n]),
        )

    @property
    def size(self) -> int:
        """How many replicates to solve at once."""
        return int(np.clip(BLOCK // len(self.design_weights), 1, 32))


def one_or_all(bounds: Vector) -> Matrix | float:
    """One number where all are equal, else a column: a number is far faster beside replicates."""
    return float(bounds[0]) if (bounds == bounds[0]).all() else bounds[:, None]


class BatchNewton:
    """Iterates of a block of replicates; those that are done leave it.

    Args:
        batch: What they have in common.
        factors: What design weights are multiplied by, shape `(n_records, n_replicates)`.
        goals: Goals of the targets, in scales, shape `(n_targets, n_replicates)`.
        prices: Where all start, shape `(n_targets,)`.

    Attributes:
        prices: Of the replicates that are not done, shape `(n_targets, n_left)`.
        ratio: Best responses to them, shape `(n_records, n_left)`.
    """

    def __init__(self, batch: Batch, factors: Matrix, goals: Matrix, prices: Vector) -> None:
        program = batch.program
        self._batch = batch
        self._scale = program.columns.column_scale[:, None]
        self._compliance = program.compliance[:, None]
        self._soft = program.compliance > 0
        self._banded = program.slack_target
        self._tolerance = program.tolerance[self._banded, None]
        self._weights = batch.design_weights * factors
        self._goals = goals
        self._factors = factors
        self._total = program.share @ factors
        start = without_idle(prices, self._banded)
        self.prices = np.repeat(start[:, None], factors.shape[1], axis=1)
        self.ratio, self._errors = self._look(self.prices, slice(None))

    def solve(self) -> tuple[Matrix, npt.NDArray[np.bool_]]:
        """Step until each is certified or given up.

        Returns:
            Ratios, shape `(n_records, n_replicates)`, and which of them are certified.
        """
        ratios = np.empty_like(self.ratio)
        arrived = np.zeros(ratios.shape[1], dtype=np.bool_)
        left = np.arange(ratios.shape[1])
        for _ in range(MOST_STEPS + 1):
            done = self._certified()
            ratios[:, left[done]] = self.ratio[:, done]
            arrived[left[done]] = True
            left = self._keep(~done, left)
            if not len(left):
                break
            left = self._keep(self._step(), left)
            if not len(left):
                break
        return ratios, arrived

    def _keep(self, kept: npt.NDArray[np.bool_], left: Any) -> Any:
        """Go on with some of the replicates."""
        if kept.all():
            return left
        names = ("prices", "ratio", "_errors", "_goals", "_weights", "_factors")
        for name in names:
            setattr(self, name, getattr(self, name)[:, kept])
        self._total = self._total[kept]
        return left[kept]

    def _look(self, prices: Matrix, which: Any) -> tuple[Matrix, Matrix]:
        """Best responses to prices, and the targets' errors."""
        batch = self._batch
        argument = batch.charged @ (-self._scale * prices * self._total[which])
        ratio = np.asarray(batch.program.distance.inverse_slope(argument))
        if np.any(np.isfinite(batch.lower)):
            np.maximum(ratio, batch.lower, out=ratio)
        if np.any(np.isfinite(batch.upper)):
            np.minimum(ratio, batch.upper, out=ratio)
        errors = self._scale * (batch.transposed @ (self._weights[:, which] * ratio))
        return ratio, errors - self._goals[:, which]

    def _costs(self, which: Any) -> Vector:
        """Price of distance of each replicate, at its ratios."""
        program = self._batch.program
        cost = program.distance.value(self.ratio[:, which])
        cost *= self._factors[:, which]
        unit = program.share.sum() / self._total[which]
        return np.asarray(unit * (program.share @ cost))

    def _certified(self) -> npt.NDArray[np.bool_]:
        """Whether gap and residuals are below their tolerances; see `Program.gap`."""
        beyond, prices = self._errors.copy(), self.prices
        gap = np.zeros(prices.shape[1])
        if len(self._banded):
            held = prices[self._banded]
            slack = slack_of(self._errors[self._banded], held, self._tolerance)
            beyond[self._banded] -= slack
            gap += (np.abs(held) * self._tolerance - held * slack).sum(axis=0)
        soft, compliance = self._soft, self._compliance[self._soft]
        with np.errstate(over="ignore", invalid="ignore"):
            gap += (0.5 * (beyond[soft] - compliance * prices[soft]) ** 2 / compliance).sum(axis=0)
            gap += np.abs(prices[~soft] * beyond[~soft]).sum(axis=0)
            missed = np.abs(beyond[~soft]).max(axis=0, initial=0.0)
            paid = (0.5 * beyond[soft] ** 2 / compliance).sum(axis=0)
        # What soft targets pay is a part of the objective; the other takes a while to compute.
        fits = missed <= RESIDUAL
        certified = fits & (gap <= GAP * paid)
        unsure = fits & ~certified & ((paid == 0) | (gap <= NEARLY * paid))
        if unsure.any():
            objective = paid[unsure] + self._costs(unsure)
            certified[unsure] = gap[unsure] <= GAP * np.maximum(objective, 1e-16)
        return np.asarray(certified)

    def _step(self) -> npt.NDArray[np.bool_]:
        """Take a step with each; which ones can go on."""
        batch, distance = self._batch, self._batch.program.distance
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            curved = self._weights * batch.pull
            curved /= distance.curvature(self.ratio)
        curved *= (self.ratio > batch.lower) & (self.ratio < batch.upper)
        grams = batch.pairs.grams(curved)
        gradient = self._errors - self._compliance * self.prices
        direction = np.zeros_like(gradient)
        going = np.ones(len(grams), dtype=np.bool_)
        for column, gram in enumerate(grams):
            gram *= self._total[column]
            try:
                direction[:, column] = self._direction(gram, gradient[:, column], column)
            except np.linalg.LinAlgError:
                going[column] = False
        before, length = self.prices, np.ones(len(grams))
        slope = self._slope(direction, before, np.sign(direction), slice(None))
        self.prices = before + direction
        self.ratio, self._errors = self._look(self.prices, slice(None))
        everyone = np.arange(len(grams))
        far = everyone[going & ~self._rises(direction, slope, everyone)]
        for _ in range(MOST_HALVINGS):
            if not len(far):
                break
            length[far] /= 2
            self.prices[:, far] = before[:, far] + length[far] * direction[:, far]
            self.ratio[:, far], self._errors[:, far] = self._look(self.prices[:, far], far)
            far = far[~self._rises(direction, slope, far)]
        going[far] = False
        return going

    def _direction(self, gram: Matrix, gradient: Vector, column: int) -> Vector:
        """Newton's step of one replicate."""
        scale, compliance = self._scale[:, 0], self._compliance[:, 0]
        if not len(self._banded):
            return factor(Given(gram, scale), gradient[:0], compliance)(gradient)
        return banded_direction(
            gram,
            scale,
            compliance,
            gradient,
            self.prices[:, column],
            self._banded,
            self._tolerance[:, 0],
        )

    def _slope(self, direction: Matrix, prices: Matrix, at_kink: Matrix, which: Any) -> Vector:
        """Rise of the dual objective along a direction, with the given signs of prices of zero."""
        with np.errstate(invalid="ignore"):
            gradient = self._errors[:, which] - self._compliance * prices
            found = slope_along(direction, gradient, prices, at_kink, self._banded, self._tolerance)
        return np.asarray(found)

    def _rises(self, direction: Matrix, slope: Vector, which: Any) -> npt.NDArray[np.bool_]:
        """Whether a step did not go far beyond the best along its direction."""
        way = direction[:, which]
        left = self._slope(way, self.prices[:, which], -np.sign(way), which)
        return np.asarray(left >= -0.5 * slope[which])
