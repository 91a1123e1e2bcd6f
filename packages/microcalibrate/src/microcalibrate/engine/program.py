"""The convex program that the engine solves, in one form for soft, banded and exact targets.

Over ratios `r` of records and slacks `s` of targets, together `x = (r, s)`:

    minimise    sum_i share_i phi(r_i) + price . s + 1/2 sum_j e_j^2 / compliance_j
    with        e = A.T r - slack_sign s - b,   lower <= x <= upper,
                e_j = 0 where compliance_j = 0

An exact target has no compliance and no slack; a banded one has a free slack between minus and plus
its tolerance. A soft target whose errors are squared has a compliance, the inverse of its
importance; where they count by their absolute value, it has two slacks instead, up and down, at the
price of its importance; with both its loss is Huber's. A hard target may be made elastic in the
same way. So every kind of target is some numbers, and the engine knows boxes, costs and columns
only.

For prices `y` of the targets, the best response of each `x_i` is known in closed form, and so is
a lower bound of the objective (Fenchel duality): the gap between the two is the certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.distances import Distance
from microcalibrate.engine.losses import SQUARED, Loss
from microcalibrate.engine.normal_equations import Columns, columns_of
from microcalibrate.problem import Problem

Vector = NDArray[np.float64]

# A soft target of no importance costs nothing at any error; this stands for 1 / 0.
NO_IMPORTANCE = 1e30


@dataclass(frozen=True, eq=False)
class Program:
    """A calibration problem in the engine's form; see the module's text.

    Attributes:
        columns: Scaled columns `A`, shape `(n_free, n_targets)`.
        goal: `b`, shape `(n_targets,)`, in scales.
        compliance: Shape `(n_targets,)`; zero where an equation must hold as it stands: of exact
            and banded targets, and of soft ones whose errors are in slacks.
        tolerance: Shape `(n_targets,)`, in scales; infinite for soft targets.
        share: Price of distance times the record's share of design weight, shape `(n_free,)`.
        distance: What `phi` is.
        lower: Bounds of `x`, shape `(n_free + n_slacks,)`.
        upper: The same from above.
        slack_target: Which target each slack belongs to, shape `(n_slacks,)`.
        slack_sign: How a unit of slack counts in the error, shape `(n_slacks,)`.
        slack_price: Cost of a unit of slack, shape `(n_slacks,)`.
        n_elastic: How many of the slacks, the last ones, make hard targets elastic.
    """

    columns: Columns
    goal: Vector
    compliance: Vector
    tolerance: Vector
    share: Vector
    distance: Distance
    lower: Vector
    upper: Vector
    slack_target: NDArray[np.int64]
    slack_sign: Vector
    slack_price: Vector
    n_elastic: int = 0

    @property
    def n_ratios(self) -> int:
        """Number of ratios: the first entries of `x`."""
        return len(self.share)

    @property
    def is_hard(self) -> NDArray[np.bool_]:
        """Which targets are exact or banded, shape `(n_targets,)`."""
        return np.isfinite(self.tolerance)

    @property
    def is_equation(self) -> NDArray[np.bool_]:
        """For which targets the error, beyond its slacks, must be zero, shape `(n_targets,)`."""
        return np.asarray(self.compliance == 0)

    @property
    def has_slack(self) -> bool:
        """Whether some target has a slack, whose cost has no curvature."""
        return len(self.slack_target) > 0

    @property
    def has_priced_slack(self) -> bool:
        """Whether some target has slacks at a price: only the interior point method knows them."""
        return bool(np.any(self.slack_price > 0))

    def elastic(self, price: float) -> Program:
        """The same program with hard targets allowed to miss, at `price` a scale."""
        hard = np.flatnonzero(self.is_hard)
        free = np.zeros(2 * len(hard))
        return replace(
            self,
            lower=np.concatenate([self.lower, free]),
            upper=np.concatenate([self.upper, free + np.inf]),
            slack_target=np.concatenate([self.slack_target, hard, hard]),
            slack_sign=np.concatenate([self.slack_sign, np.repeat([1.0, -1.0], len(hard))]),
            slack_price=np.concatenate([self.slack_price, free + price]),
            n_elastic=len(free),
        )

    def allowed(self, prices: Vector) -> Vector:
        """Prices, none above that of a slack: the slack would pay to grow for ever."""
        most = np.full(len(prices), np.inf)
        priced = self.slack_price > 0
        most[self.slack_target[priced]] = self.slack_price[priced]
        return np.clip(prices, -most, most)

    def gradient(self, prices: Vector) -> Vector:
        """What the targets, at their prices, charge for a unit of each `x`."""
        slack = -self.slack_sign * prices[self.slack_target]
        return np.concatenate([self.columns.product(prices), slack])

    def totals(self, x: Vector) -> Vector:
        """`A.T r - slack_sign s`, shape `(n_targets,)`: what `x` adds up to for each target."""
        total = self.columns.transposed_product(x[: self.n_ratios])
        if self.has_slack:
            total -= self._slack_total(x)
        return total

    def errors(self, x: Vector) -> Vector:
        """`e`, shape `(n_targets,)`: how far each target is missed beyond its slack, in scales."""
        return self.totals(x) - self.goal

    def errors_with_slack(self, x: Vector, errors: Vector) -> Vector:
        """How far each target is missed, `(n_targets,)`: `errors` and what slack hides of them."""
        return errors + self._slack_total(x)

    def misses(self, x: Vector, errors: Vector) -> Vector:
        """How far exact and banded targets are missed beyond their tolerance, `(n_targets,)`."""
        return np.maximum(np.abs(self.errors_with_slack(x, errors)) - self.tolerance, 0.0)

    def cost(self, x: Vector) -> Vector:
        """Cost of each `x` on its own."""
        ratio, slack = x[: self.n_ratios], x[self.n_ratios :]
        return np.concatenate([self.share * self.distance.value(ratio), self.slack_price * slack])

    def cost_slope(self, x: Vector) -> Vector:
        """Derivative of `cost`."""
        ratio = x[: self.n_ratios]
        return np.concatenate([self.share * self.distance.slope(ratio), self.slack_price])

    def cost_curvature(self, x: Vector) -> Vector:
        """Second derivative of `cost`."""
        ratio = x[: self.n_ratios]
        flat = np.zeros(len(self.slack_price))
        return np.concatenate([self.share * self.distance.curvature(ratio), flat])

    def response(self, gradient: Vector) -> Vector:
        """The `x` within its bounds that minimises `cost(x) + gradient * x`, entry by entry."""
        n = self.n_ratios
        ratio = self.distance.inverse_slope(-gradient[:n] / self.share)
        ratio = np.clip(ratio, self.lower[:n], self.upper[:n])
        rising = self.slack_price + gradient[n:] >= 0
        return np.concatenate([ratio, np.where(rising, self.lower[n:], self.upper[n:])])

    def objective(self, x: Vector, errors: Vector) -> float:
        """Value of the objective at `x`, whose `errors` are known."""
        soft = ~self.is_equation
        return float(self.cost(x).sum() + 0.5 * (errors[soft] ** 2 / self.compliance[soft]).sum())

    def gap(self, x: Vector, errors: Vector, prices: Vector, gradient: Vector) -> float:
        """Objective at `x` minus its lower bound at `prices`; never negative, 0 at the optimum.

        It is added up from terms that are each non-negative (Fenchel–Young), so that nothing
        cancels: per `x` against its best response, and per target. Where hard targets were made
        elastic it is the smaller of two: that of the elastic program, and that of the program
        without these slacks, in which their rounding costs nothing.
        """
        best = self.response(gradient)
        with np.errstate(invalid="ignore"):
            terms = self.cost(x) - self.cost(best) + gradient * (x - best)
        # The bound is minus infinity while a slack would pay to grow for ever.
        terms = np.where(np.isnan(terms), np.inf, np.maximum(terms, 0))
        gap = float(terms.sum()) + self.gap_of_targets(errors, prices)
        if self.n_elastic == 0:
            return gap
        elastic = slice(len(x) - self.n_elastic, len(x))
        missed = errors + self._slack_total(np.where(np.arange(len(x)) < elastic.start, 0.0, x))
        hard_gap = float(terms[: elastic.start].sum()) + self.gap_of_targets(missed, prices)
        return min(gap, hard_gap)

    def _slack_total(self, x: Vector) -> Vector:
        """What the slacks in `x` take off each target's error, shape `(n_targets,)`."""
        slack = self.slack_sign * x[self.n_ratios :]
        return np.asarray(np.bincount(self.slack_target, slack, len(self.goal)), dtype=np.float64)

    def gap_of_targets(self, errors: Vector, prices: Vector) -> float:
        """The part of the gap that is left where each `x` is its best response.

        An equation that is missed by `e` adds `|price * e|`.
        """
        soft = ~self.is_equation
        compliance = self.compliance[soft]
        gap = (0.5 * (errors[soft] - compliance * prices[soft]) ** 2 / compliance).sum()
        return float(gap + np.abs(prices[~soft] * errors[~soft]).sum())


def program_of(
    problem: Problem,
    distance: Distance,
    closeness: float,
    loss: Loss = SQUARED,
) -> tuple[Program, NDArray[np.bool_], Vector]:
    """Bring a problem into the engine's form.

    Args:
        problem: A checked problem.
        distance: What `phi` is.
        closeness: Price of distance in units of half the mean squared error of soft targets.
            With hard targets alone it changes nothing and 1 is used.
        loss: What errors of soft targets cost; its cap is not looked at.

    Returns:
        The program over the free records; the mask `(n_records,)` of these; and the ratios of all
        records, right for those that are held: of design weight zero, or with equal bounds.
    """
    matrix, design_weights = problem.estimate_matrix, problem.design_weights
    lower = np.maximum(problem.lower_ratio, distance.lower)
    upper = np.minimum(problem.upper_ratio, distance.upper)
    free = (design_weights > 0) & (lower < upper)
    ratio = np.ones(problem.n_records)
    goal = problem.targets
    if not free.all():
        ratio = np.where(design_weights > 0, np.clip(1.0, lower, upper), 0.0)
        goal = goal - problem.estimates(np.where(free, 0.0, ratio * design_weights))
        matrix, design_weights = matrix[free], design_weights[free]
        lower, upper = lower[free], upper[free]
    soft = problem.is_soft
    counts = soft & (problem.importances > 0)
    importance = np.where(counts, problem.importances, 1.0)
    uncounted = np.where(soft, NO_IMPORTANCE, 0.0)
    compliance = np.where(counts, 1 / (importance * loss.curvature), uncounted)
    compliance = np.minimum(compliance, NO_IMPORTANCE)
    banded = np.flatnonzero(problem.tolerances > 0)
    band = problem.tolerances[banded]
    limited = np.flatnonzero(counts & np.isfinite(loss.most_slope))
    price = problem.importances[limited] * loss.most_slope
    up, down = np.ones(len(limited)), np.zeros(len(limited))
    spread = design_weights / problem.heteroscedasticity[free]
    program = Program(
        columns=columns_of(matrix, design_weights, 1 / problem.scales),
        goal=goal / problem.scales,
        compliance=compliance,
        tolerance=np.where(soft, np.inf, problem.tolerances),
        share=(closeness if soft.any() else 1.0) * spread / spread.sum(),
        distance=distance.between(lower, upper),
        lower=np.concatenate([lower, -band, down, down]),
        upper=np.concatenate([upper, band, down + np.inf, down + np.inf]),
        slack_target=np.concatenate([banded, limited, limited]),
        slack_sign=np.concatenate([np.ones(len(banded)), up, -up]),
        slack_price=np.concatenate([np.zeros(len(banded)), price, price]),
    )
    return program, free, ratio
