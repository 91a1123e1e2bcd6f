"""Plain Newton steps on the prices: the shortest road where few records sit on a bound.

With prices `y`, every ratio is its best response `r(y)`, so only the targets' equations
`A.T r(y) - b = compliance * y` are left. With the chi-square distance and no active bound they are
linear, and one step solves them; raking takes a handful (Deville and Särndal 1992, section 3).
"""

from __future__ import annotations

import numpy as np

from microcalibrate.engine.normal_equations import Vector, factor
from microcalibrate.engine.program import Program

SHORTEST_STEP = 1 / 16
# Bounds are in the way when steps must be cut this often: then another road is shorter.
MOST_CUT_STEPS = 3


class DualNewton:
    """Newton iterates on the prices; each `x` is the best response to them.

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
        self._look()

    def _look(self) -> None:
        self.gradient = self._program.gradient(self.prices)
        self.x = self._program.response(self.gradient)
        self.errors = self._program.errors(self.x)

    def gap(self) -> float:
        """Objective at `x`, a best response, minus its lower bound at `prices`."""
        return self._program.gap_of_targets(self.errors, self.prices)

    def _residual(self) -> Vector:
        return self.errors - self._program.compliance * self.prices

    def step(self) -> bool:
        """Take one step.

        Returns:
            False if bounds are in the way: the residual does not fall, or only with cut steps.
        """
        program = self._program
        inside = (self.x > program.lower) & (self.x < program.upper)
        with np.errstate(divide="ignore", over="ignore"):
            record_weight = np.where(inside, 1 / program.cost_curvature(self.x), 0.0)
        residual = self._residual()
        try:
            solve = factor(program.columns, record_weight, program.compliance)
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
                return self._cut_steps <= MOST_CUT_STEPS
            self.step_length /= 2
            self._cut_steps += 1
        self.prices = before
        self._look()
        return False
