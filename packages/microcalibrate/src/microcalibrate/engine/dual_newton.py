"""Plain Newton steps on the prices: the shortest road where few records sit on a bound.

With prices `y`, every ratio is its best response `r(y)`, so only the targets' equations
`A.T r(y) - b = compliance * y` are left. With the chi-square distance and no active bound they are
linear, and one step solves them; raking takes a handful (Deville and Särndal 1992, section 3).

A banded target adds a choice: it is missed by its tolerance, up or down, and has a price of that
sign, or it lies within its band and has none. The choice is that of the prices at the start, and
is mended after each step (a primal–dual active set, Hintermüller, Ito and Kunisch 2002).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.normal_equations import Vector, factor
from microcalibrate.engine.program import NO_IMPORTANCE, Program

SHORTEST_STEP = 1 / 16
# Bounds are in the way when steps must be cut this often: then another road is shorter.
MOST_CUT_STEPS = 3
# A band whose target has a price below this share of the largest one holds nothing back.
NO_PRICE = 1e-6


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
        self.prices = np.zeros(len(program.goal)) if prices is None else prices
        self.step_length = 0.0
        self._cut_steps = 0
        self._banded = program.slack_target
        # The end of each band that its target is held at: -1, 1, or 0 for none.
        self._ends = np.sign(self.prices[self._banded])
        least = NO_PRICE * np.abs(self.prices).max(initial=0.0)
        self._let_go(np.abs(self.prices[self._banded]) <= least)
        self._look()

    def _let_go(self, released: NDArray[np.bool_]) -> None:
        """Take the targets of some bands as held at neither end, without a price."""
        if released.any():
            self._ends[released] = 0.0
            self.prices = self.prices.copy()
            self.prices[self._banded[released]] = 0.0

    def _look(self) -> None:
        program, n = self._program, self._program.n_ratios
        self.gradient = program.gradient(self.prices)
        self.x = program.response(self.gradient)
        if program.has_slack:
            self.x[n:] = 0.0
            self._missed = program.errors(self.x)[self._banded]
            ends = self._ends * program.upper[n:]
            within = np.clip(self._missed, program.lower[n:], program.upper[n:])
            self.x[n:] = np.where(self._ends == 0, within, ends)
        self.errors = program.errors(self.x)

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

    def _residual(self) -> Vector:
        residual = self.errors - self._program.compliance * self.prices
        residual[self._banded[self._ends == 0]] = 0.0
        return residual

    def step(self) -> bool:
        """Take one step.

        Returns:
            False if bounds are in the way: the residual does not fall, or only with cut steps.
        """
        program, n = self._program, self._program.n_ratios
        x = self.x[:n]
        inside = (x > program.lower[:n]) & (x < program.upper[:n])
        with np.errstate(divide="ignore", over="ignore"):
            record_weight = np.where(inside, 1 / program.cost_curvature(self.x)[:n], 0.0)
        compliance = program.compliance.copy()
        compliance[self._banded[self._ends == 0]] = NO_IMPORTANCE
        residual = self._residual()
        try:
            solve = factor(program.columns, record_weight, compliance)
        except np.linalg.LinAlgError:
            return False
        direction = solve(residual)
        # The dual objective is concave, with the residual as its gradient. Its slope along the
        # direction says how far to go without a need for its value.
        slope = float(direction @ residual)
        before = self.prices
        self.step_length = 1.0
        while self.step_length >= SHORTEST_STEP:
            self.prices = before + self.step_length * direction
            self._look()
            if abs(float(direction @ self._residual())) <= 0.5 * slope:
                self._choose_ends()
                return self._cut_steps <= MOST_CUT_STEPS
            self.step_length /= 2
            self._cut_steps += 1
        self.prices = before
        self._look()
        return False

    def _choose_ends(self) -> None:
        """Let a band go whose price has the wrong sign; hold a target that left its band."""
        if not self._program.has_slack:
            return
        tolerance = self._program.tolerance[self._banded]
        price = self.prices[self._banded]
        left = np.where(np.abs(self._missed) > tolerance, np.sign(self._missed), 0.0)
        ends = np.where(self._ends == 0, left, np.where(price * self._ends > 0, self._ends, 0.0))
        self._ends = ends
        self._let_go(ends == 0)
        self._look()
