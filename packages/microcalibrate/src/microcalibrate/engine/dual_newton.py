"""Plain Newton steps on the prices: the shortest road where few records sit on a bound.

With prices `y`, every ratio is its best response `r(y)`, so only the targets' equations
`A.T r(y) - b = compliance * y` are left. With the chi-square distance and no active bound they are
linear, and one step solves them; raking takes a handful (Deville and Särndal 1992, section 3).

A banded target has a price of zero while it lies within its band; `banded_step` finds out which
targets are held at an end of theirs.
"""

from __future__ import annotations

import numpy as np

from microcalibrate.engine.banded_step import (
    banded_direction,
    slack_of,
    slope_along,
    without_idle,
)
from microcalibrate.engine.normal_equations import Vector, factor
from microcalibrate.engine.program import Program

# Along a direction the dual objective has risen enough where its slope is this share of the first.
FLAT = 0.5
# Looks along one direction, and how far from either end of what is left the next one stays.
MOST_LOOKS = 12
MARGIN = 0.1
# Bounds are in the way after so many steps that fell short: then another road is shorter.
MOST_POOR_STEPS = 4


class DualNewton:
    """Newton iterates on the prices; each `x` is the best response to them.

    Args:
        program: What to solve; its slacks are those of bands.
        prices: Where to start, shape `(n_targets,)`; zero where not given.

    Attributes:
        prices: Shape `(n_targets,)`.
        x: Best response, within its bounds to the last bit.
        step_length: Of the last step.
    """

    name = "newton"

    def __init__(self, program: Program, prices: Vector | None = None) -> None:
        self._program = program
        self.step_length = 0.0
        self._poor_steps = 0
        self._banded = program.slack_target
        self._tolerance = program.tolerance[self._banded]
        start = np.zeros(len(program.goal)) if prices is None else prices
        self.prices = without_idle(start, self._banded)
        self._look()

    def _look(self) -> None:
        program, n = self._program, self._program.n_ratios
        self.gradient = program.gradient(self.prices)
        self.x = program.response(self.gradient)
        self.errors = program.errors(self.x)
        if program.has_slack:
            self.x[n:] = 0.0
            self._missed = program.errors(self.x)
            banded = self._banded
            self.x[n:] = slack_of(self._missed[banded], self.prices[banded], self._tolerance)
            self.errors = program.errors(self.x)
        else:
            self._missed = self.errors

    def gap(self) -> float:
        """Objective at `x` minus its lower bound at `prices`."""
        program = self._program
        if program.has_slack:
            return program.gap(self.x, self.errors, self.prices, self.gradient)
        return program.gap_of_targets(self.errors, self.prices)

    def bound(self) -> float:
        """Lower bound of the objective at `prices`: what Newton's steps raise."""
        program, n = self._program, self._program.n_ratios
        with np.errstate(invalid="ignore", over="ignore"):
            charged = self.prices * (self.errors - 0.5 * program.compliance * self.prices)
            # A band takes its tolerance off what its target is charged, wherever its slack is now.
            of_slack = (
                self.gradient[n:] * self.x[n:] + np.abs(self.gradient[n:]) * program.upper[n:]
            )
            return float(program.cost(self.x).sum() + charged.sum() - of_slack.sum())

    def _slope(self, direction: Vector, at_kink: Vector) -> float:
        """Rise of the dual objective along a direction, with the given signs of prices of zero."""
        gradient = self._missed - self._program.compliance * self.prices
        return float(
            slope_along(direction, gradient, self.prices, at_kink, self._banded, self._tolerance)
        )

    def step(self) -> bool:
        """Take one step.

        Returns:
            False if bounds are in the way: the dual objective does not rise, or only slowly.
        """
        program, n = self._program, self._program.n_ratios
        x = self.x[:n]
        inside = (x > program.lower[:n]) & (x < program.upper[:n])
        with np.errstate(divide="ignore", over="ignore"):
            record_weight = np.where(inside, 1 / program.cost_curvature(self.x)[:n], 0.0)
        try:
            direction = self._direction(record_weight)
        except np.linalg.LinAlgError:
            return False
        return self._walk(direction)

    def _walk(self, direction: Vector) -> bool:
        """Go so far that the dual objective has nearly stopped rising, one whole step at most.

        That objective is concave: its slope alone says how far to go, by false position.
        """
        sign, before = np.sign(direction), self.prices
        first = self._slope(direction, sign)
        # Rounding is all that is left of a rise, or numbers overflow.
        if not 0 < first < np.inf:
            return False
        short, low = 0.0, first
        far, high = np.inf, -np.inf
        length = 1.0
        for _ in range(MOST_LOOKS):
            self.prices = before + length * direction
            self._look()
            slope = self._slope(direction, -sign)
            if abs(slope) <= FLAT * first or (slope > 0 and length == 1.0):
                break
            if slope > 0:
                short, low = length, slope
            else:
                # Too far, or so far that numbers overflow.
                far, high = length, slope if np.isfinite(slope) else -np.inf
            left = far - short
            guess = short + left * low / (low - high)
            length = float(np.clip(guess, short + MARGIN * left, far - MARGIN * left))
        else:
            length = short
            self.prices = before + length * direction
            self._look()
        self.step_length = length
        # A whole step that leaves the slope as it was is no better: hard targets that cannot all
        # hold have prices without end.
        self._poor_steps += length < 1.0 or slope > FLAT * first
        return length > 0.0 and self._poor_steps <= MOST_POOR_STEPS

    def _direction(self, record_weight: Vector) -> Vector:
        program, columns = self._program, self._program.columns
        gradient = self._missed - program.compliance * self.prices
        if not program.has_slack:
            return factor(columns, record_weight, program.compliance)(gradient)
        with columns.blas_threads():
            return banded_direction(
                columns.unscaled_gram(record_weight),
                columns.column_scale,
                program.compliance,
                gradient,
                self.prices,
                self._banded,
                self._tolerance,
            )
