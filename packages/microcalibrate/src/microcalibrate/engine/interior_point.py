"""The engine: a primal-dual interior point method for every kind of calibration.

For the program of `program.py`, with multipliers `z_lower, z_upper >= 0` of the bounds and prices
`y` of the targets, the optimum satisfies

    cost'(x) + G y - z_lower + z_upper = 0          (each x is a best response)
    G.T x - b = compliance * y                      (each target is met, or pays for its miss)
    z_lower * (x - lower) = z_upper * (upper - x) = 0

where `G y` is what the targets charge each `x`. The method follows the path on which the products
of the last line equal a common `mu`, as `mu` goes to zero. A Newton step on it, with the entries
of `x` eliminated, leaves

    (G.T @ diag(1 / theta) @ G + diag(compliance)) dy = right-hand side
    theta = cost''(x) + z_lower / (x - lower) + z_upper / (upper - x)

Predictor and corrector steps are Mehrotra's (1992), followed by one centrality correction of
Gondzio (1996); primal and dual step lengths differ.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np

from microcalibrate.engine.normal_equations import Vector, factor
from microcalibrate.engine.program import Program

# Complementarity products start at this share of the starting loss, spread over the ratios: of the
# powers of ten tried on a surface of 280,000 records the one with the fewest steps.
START_SHARE = 0.1
# From given prices they start at this share of what the targets' equations leave of the gap.
# Shares from 0.3 to 100 made little difference; prices far off may cost two steps more than none.
WARM_SHARE = 1.0
# How much of the way to the nearest bound a step may go.
TO_THE_BOUNDARY = 0.995
# The slack of a band that does not bind has no curvature left: it is held above this, so that its
# inverse is still a number.
LEAST_THETA = 1e-100
# Within this of a bound, `x` is the bound and its room: exact to the last bit when the room is 0.
NEAR = 1e-6
# Gondzio's correction: below which step length it is made, how much longer a step it aims at, and
# which complementarity products, relative to their target, it leaves alone.
LONG_STEP = 0.8
LONGER_STEP = 0.3
CENTRAL = (0.1, 10.0)
# No step may raise the curvature of a ratio's cost more than this many times. Only costs that grow
# like an exponential, such as sinh's, come near it: Newton's model is of no use so far out.
STEEPEST = 1e4


class InteriorPoint:
    """Iterates strictly within the bounds; see the module's text.

    Args:
        program: What to solve.
        prices: Where to start, shape `(n_targets,)`; None where no price is known.

    Attributes:
        x: Ratios and slacks.
        prices: Shape `(n_targets,)`.
        step_length: The shorter of the last primal and dual steps.
    """

    name = "interior point"

    def __init__(self, program: Program, prices: Vector | None = None) -> None:
        self._program = program
        self.step_length = 0.0
        self._n_bounds = np.isfinite(program.lower).sum() + np.isfinite(program.upper).sum()
        if prices is None:
            self._start()
        else:
            self._start_at(prices)

    def _start(self) -> None:
        """Start where no price is known."""
        program = self._program
        n_targets = len(program.goal)
        soft = ~program.is_equation
        self.prices = np.zeros(n_targets)

        # Ratios start at 1, or well within bounds that exclude it; slacks in the middle of their
        # box, or just off the bound of a half-open one.
        low, high = program.lower, program.upper
        margin = 0.1 * np.minimum(high - low, 1.0)
        n = program.n_ratios
        ratio = np.clip(1.0, low[:n] + margin[:n], high[:n] - margin[:n])
        middle = low[n:] + 0.5 * np.minimum(high[n:] - low[n:], 2.0)
        self.x = np.concatenate([ratio, middle])
        self._look()

        importance = np.where(soft, 1 / np.where(soft, program.compliance, 1.0), 1 / n_targets)
        loss = 0.5 * float((importance * np.minimum(self.errors**2, 1e20)).sum())
        product = START_SHARE * max(loss, 1e-12) / program.n_ratios
        self._below, self._above = self.x - program.lower, program.upper - self.x
        self._z_below = product / self._below
        self._z_above = product / self._above
        # A slack with a price starts dual feasible: its multiplier is that price.
        priced = np.flatnonzero(program.slack_price > 0) + program.n_ratios
        self._z_below[priced] = program.slack_price[priced - program.n_ratios]

    def _start_at(self, prices: Vector) -> None:
        """Start near the central path above given prices, as far as slacks allow these.

        Each `x` is its best response, moved off its bounds so far that its multiplier times its
        room is the common product. Multipliers are what the prices leave over, plus what gives
        every other bound that product too. So only the targets' equations are left to mend.
        """
        program = self._program
        low, high = program.lower, program.upper
        self.prices = prices = program.allowed(prices)
        self.gradient = program.gradient(prices)
        best = program.response(self.gradient)
        missed = program.errors(best)
        loss = program.gap_of_targets(missed, prices)
        product = WARM_SHARE * max(loss, 1e-12) / program.n_ratios
        left_over = program.cost_slope(best) + self.gradient
        with np.errstate(divide="ignore"):
            room = np.minimum(product / np.abs(left_over), 0.1 * np.minimum(high - low, 1.0))
        self.x = np.clip(best, low + room, high - room)
        self._below, self._above = self.x - low, high - self.x
        left_over = program.cost_slope(self.x) + self.gradient
        self._z_below = np.maximum(left_over, 0.0) + product / self._below
        self._z_above = np.maximum(-left_over, 0.0) + product / self._above
        self._z_below[np.isinf(self._below)] = 0.0
        self._z_above[np.isinf(self._above)] = 0.0
        self._look()

    def _look(self) -> None:
        self.gradient = self._program.gradient(self.prices)
        self.errors = self._program.errors(self.x)

    def gap(self) -> float:
        """Objective at `x` minus its lower bound at `prices`."""
        return self._program.gap(self.x, self.errors, self.prices, self.gradient)

    def settled(self) -> InteriorPoint:
        """This point with every `x` that is coming to a bound put right on it."""
        program = self._program
        at_rest = copy(self)
        unit = np.concatenate([program.share, np.ones(len(self.x) - program.n_ratios)])
        for room, multiplier, bound in (
            (self._below, self._z_below, program.lower),
            (self._above, self._z_above, program.upper),
        ):
            arriving = (room < NEAR) & (room < multiplier / unit)
            at_rest.x = np.where(arriving, bound, at_rest.x)
        at_rest.errors = program.errors(at_rest.x)
        return at_rest

    def step(self) -> bool:
        """Take one predictor–corrector step.

        Returns:
            False if no step could be computed: the numbers have run out of digits.
        """
        # A weight that runs against its bound by hundreds of orders of magnitude overflows to an
        # infinite theta, whose inverse is the zero that is meant; other infinities end the solve.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step()

    def _step(self) -> bool:
        program = self._program
        below, above, z_below, z_above = self._below, self._above, self._z_below, self._z_above
        theta = program.cost_curvature(self.x) + z_below / below + z_above / above
        inverse_theta = 1 / np.maximum(theta, LEAST_THETA)
        pull = program.cost_slope(self.x) + self.gradient
        missing = self.errors - program.compliance * self.prices
        n = program.n_ratios
        slack_diagonal = np.bincount(
            program.slack_target, inverse_theta[n:], minlength=len(self.prices)
        )
        try:
            solve = factor(program.columns, inverse_theta[:n], program.compliance + slack_diagonal)
        except np.linalg.LinAlgError:
            return False

        def direction(product_below: Vector | float, product_above: Vector | float) -> _Step:
            """Newton's step towards the given complementarity products."""
            aim_below, aim_above = product_below / below, product_above / above
            force = pull - aim_below + aim_above
            d_prices = solve(missing - program.totals(force * inverse_theta))
            d_x = -(force + program.gradient(d_prices)) * inverse_theta
            return _Step(
                d_prices,
                d_x,
                aim_below - z_below - z_below / below * d_x,
                aim_above - z_above + z_above / above * d_x,
            )

        def lengths(step: _Step) -> tuple[float, float]:
            """Longest primal and dual steps, at most 1, that stay well within the bounds."""
            primal = max(_most(-step.x, below), _most(step.x, above), TO_THE_BOUNDARY)
            dual = max(_most(-step.below, z_below), _most(-step.above, z_above), TO_THE_BOUNDARY)
            return TO_THE_BOUNDARY / primal, TO_THE_BOUNDARY / dual

        n_bounds = max(self._n_bounds, 1)
        mu = (_dot(below, z_below) + _dot(above, z_above)) / n_bounds
        predictor = direction(0.0, 0.0)
        primal, dual = lengths(predictor)
        after = _dot(below + primal * predictor.x, z_below + dual * predictor.below) + _dot(
            above - primal * predictor.x, z_above + dual * predictor.above
        )
        target = mu * (after / n_bounds / mu) ** 3 if mu > 0 else 0.0
        aim_below = target - predictor.x * predictor.below
        aim_above = target + predictor.x * predictor.above
        best = direction(aim_below, aim_above)
        primal, dual = lengths(best)

        if target > 0 and min(primal, dual) < LONG_STEP:
            further = min(1.0, min(primal, dual) + LONGER_STEP)
            aim_below = aim_below + _recentre(
                below + further * best.x, z_below + further * best.below, target
            )
            aim_above = aim_above + _recentre(
                above - further * best.x, z_above + further * best.above, target
            )
            corrected = direction(aim_below, aim_above)
            lengths_corrected = lengths(corrected)
            if sum(lengths_corrected) > primal + dual:
                best, (primal, dual) = corrected, lengths_corrected

        if not np.isfinite(best.prices).all() or not np.isfinite(best.x).all():
            return False
        steepest = STEEPEST * program.cost_curvature(self.x)
        moved = self._moved(best.x, primal)
        while np.any(program.cost_curvature(moved[0]) > steepest):
            primal /= 2
            moved = self._moved(best.x, primal)
        self.x, self._below, self._above = moved
        self.prices = self.prices + dual * best.prices
        self._z_below = z_below + dual * best.below
        self._z_above = z_above + dual * best.above
        self.step_length = min(primal, dual)
        self._look()
        return True

    def _moved(self, direction: Vector, length: float) -> tuple[Vector, Vector, Vector]:
        """`x`, and its rooms below and above, after a step.

        Rooms are kept beside `x`, not computed from it: near a bound the difference of two close
        numbers would round to zero long before the room does.
        """
        below, above = self._below + length * direction, self._above - length * direction
        x = self.x + length * direction
        np.copyto(x, self._program.lower + below, where=below < NEAR)
        np.copyto(x, self._program.upper - above, where=above < NEAR)
        return x, below, above


@dataclass(frozen=True, eq=False, slots=True)
class _Step:
    """A direction in prices, in `x`, and in the multipliers of its bounds."""

    prices: Vector
    x: Vector
    below: Vector
    above: Vector


def _most(change: Vector, room: Vector) -> float:
    """Largest `change / room`; where there is no bound, both are 0 or the room is infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.fmax.reduce(change / room, initial=0.0))


def _dot(room: Vector, multiplier: Vector) -> float:
    """Sum of products; an infinite bound has no multiplier and adds nothing."""
    with np.errstate(invalid="ignore"):
        products = room * multiplier
    return float(products[np.isfinite(products)].sum())


def _recentre(room: Vector, multiplier: Vector, target: float) -> Vector:
    """What would bring outlying products back towards `target`, at most ten times it."""
    low, high = CENTRAL
    with np.errstate(invalid="ignore"):
        products = room * multiplier
    change = np.clip(products, low * target, high * target) - products
    return np.where(np.isfinite(products), np.maximum(change, -high * target), 0.0)
