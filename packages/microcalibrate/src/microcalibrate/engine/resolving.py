"""One problem solved again and again, each time with other design weights.

The columns, their layout and the products of their pairs are made once; each solve begins with
plain Newton steps from the prices of the whole sample, and only where these do not arrive it takes
the usual road.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from microcalibrate.arrays import is_sparse
from microcalibrate.engine.dual_newton import DualNewton
from microcalibrate.engine.optimum import Optimum
from microcalibrate.engine.pair_columns import PairColumns, n_products
from microcalibrate.engine.program import Program, program_of
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.problem import Problem
from microcalibrate.result import Status

Vector = npt.NDArray[np.float64]

# Products of pairs of columns are kept up to this number of them, some 240 MB.
MOST_PRODUCTS = 20_000_000
# Plain Newton steps of a replicate; where they arrive, they do in 3 to 8.
MOST_STEPS = 15
GAP, RESIDUAL = 1e-8, 1e-9


class Resolver:
    """Solves a problem with its design weights multiplied by given factors.

    Args:
        optimum: The solve of the whole sample: its prices are where each solve begins.

    Examples:
        >>> from microcalibrate import Calibration
        >>> cal = Calibration([1.0, 1.0, 1.0], [4.0], [[1.0], [1.0], [0.0]], tolerances=0)
        >>> _ = cal.calibrate()
        >>> Resolver(cal.optimum).weights(np.array([0.0, 2.0, 1.0]))
        array([0., 4., 1.])
    """

    def __init__(self, optimum: Optimum) -> None:
        problem = optimum.problem
        self._optimum = optimum
        self._program, self._free, self._ratio = program_of(
            problem, optimum.distance, optimum.closeness
        )
        self._held_total = problem.estimates(
            np.where(self._free, 0.0, self._ratio * problem.design_weights)
        )
        matrix = problem.estimate_matrix
        if is_sparse(matrix) and n_products(matrix) <= MOST_PRODUCTS:
            kept = matrix if self._free.all() else matrix[self._free]
            self._program = replace(
                self._program,
                columns=PairColumns(kept, problem.design_weights[self._free], 1 / problem.scales),
            )

    def weights(self, factors: Vector) -> Vector:
        """Calibrated weights, shape `(n_records,)`: zero where the factor is.

        Args:
            factors: What design weights are multiplied by, shape `(n_records,)`, not negative.

        Raises:
            InfeasibleTargets: If exact or banded targets cannot all hold.
            KeyboardInterrupt: If Ctrl-C ended the solve.
        """
        solution = self.solve(factors)
        return np.asarray(solution.ratio * self._optimum.problem.design_weights * factors)

    def solve(self, factors: Vector) -> Solution:
        """Ratios to the multiplied design weights; see `weights`."""
        found = self._by_newton(factors)
        if found is not None:
            return found
        optimum = self._optimum
        changed = self._changed(factors)
        return solve(
            changed,
            optimum.distance,
            closeness=optimum.closeness,
            start_prices=optimum.solution.prices,
        ).unless_cancelled()

    def _changed(self, factors: Vector) -> Problem:
        problem = self._optimum.problem
        return replace(problem, design_weights=problem.design_weights * factors)

    def _program_with(self, factors: Vector) -> Program:
        """The program of a replicate, on the records that are free in the whole sample.

        A record whose factor is zero has a row of zeros; it rests at a ratio of 1 and matters to
        nothing. So no columns are taken out.
        """
        problem, base = self._optimum.problem, self._program
        free = factors[self._free]
        columns = copy(base.columns)
        columns.row_scale = problem.design_weights[self._free] * free
        spread = base.share * free
        unit = base.share.sum() / spread.sum()
        goal = base.goal
        if not self._free.all():
            held = np.where(self._free, 0.0, self._ratio * problem.design_weights * factors)
            goal = goal + (self._held_total - problem.estimates(held)) / problem.scales
        share = unit * np.where(free > 0, spread, base.share)
        return replace(base, columns=columns, share=share, goal=goal)

    def _by_newton(self, factors: Vector) -> Solution | None:
        """Plain Newton steps from the prices of the whole sample, if they arrive."""
        if not factors[self._free].any():
            return None
        program = self._program_with(factors)
        newton = DualNewton(program, self._optimum.solution.prices.copy(), is_patient=True)
        for step in range(MOST_STEPS + 1):
            loss = program.objective(newton.x, newton.errors)
            gap = newton.gap() / max(abs(loss), 1e-16)
            residual = float(np.abs(newton.errors[program.is_hard]).max(initial=0.0))
            if gap <= GAP and residual <= RESIDUAL:
                ratio = self._ratio.copy()
                ratio[self._free] = newton.x[: program.n_ratios]
                return Solution(
                    ratio,
                    newton.prices,
                    Status.CONVERGED,
                    gap,
                    residual,
                    (),
                    np.zeros((0, len(program.goal))),
                )
            if step == MOST_STEPS or not newton.step():
                return None
        return None
