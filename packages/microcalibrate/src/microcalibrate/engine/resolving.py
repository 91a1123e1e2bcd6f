"""One problem solved again and again, each time with other design weights.

The layout of the matrix and the products of its columns are made once. Replicates are solved a
block at a time by plain Newton steps from the prices of the whole sample; one that does not arrive
so takes the usual road alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Lock

import numpy as np
import numpy.typing as npt

from microcalibrate.engine.batch_newton import Batch, BatchNewton, one_or_all
from microcalibrate.engine.optimum import Optimum
from microcalibrate.engine.program import program_of
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.errors import InfeasibleTargets, NotConverged

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class Resolver:
    """Solves a problem with its design weights multiplied by given factors.

    Args:
        optimum: The solve of the whole sample: its prices are where each solve begins.

    Attributes:
        n_by_newton: How many were solved by plain steps from these prices.

    Examples:
        >>> from microcalibrate import Calibration
        >>> cal = Calibration([1.0, 1.0, 1.0], [4.0], [[1.0], [1.0], [0.0]], tolerances=0)
        >>> _ = cal.calibrate()
        >>> next(Resolver(cal.optimum).weights(np.array([[0.0], [2.0], [1.0]])))
        array([0., 4., 1.])
    """

    def __init__(self, optimum: Optimum) -> None:
        problem = optimum.problem
        self._optimum = optimum
        self.n_by_newton = 0
        self._lock = Lock()
        program, free, ratio = program_of(
            problem, optimum.distance, optimum.closeness, optimum.loss
        )
        self._free, self._ratio = free, ratio
        matrix = problem.estimate_matrix
        held = ~free & (problem.design_weights > 0)
        self._held = (held, matrix[held] * 1.0) if held.any() else None
        self._batch: Batch | None = None
        # Bounds on weights, not on ratios, are other ones in each replicate; slacks at a price
        # belong to the interior point method. Such problems take the usual road.
        has_absolute = (
            np.isfinite(problem.min_weight).any() or np.isfinite(problem.max_weight).any()
        )
        if free.any() and not has_absolute and not program.has_priced_slack:
            n = program.n_ratios
            bounds = one_or_all(program.lower[:n]), one_or_all(program.upper[:n])
            program = replace(program, distance=optimum.distance.between(*bounds))
            kept = matrix if free.all() else matrix[free]
            self._batch = Batch.of(program, kept, problem.design_weights[free])

    @property
    def block(self) -> int:
        """How many replicates are best solved at once."""
        return self._batch.size if self._batch else 1

    def weights(self, factors: Matrix) -> Iterator[Vector]:
        """Calibrated weights of each replicate, shape `(n_records,)`: zero where the factor is.

        Args:
            factors: What design weights are multiplied by, shape `(n_records, n_replicates)`, not
                negative.

        Raises:
            InfeasibleTargets: If exact or banded targets cannot all hold.
            NotConverged: If a solve ended without its certificate.
            KeyboardInterrupt: If Ctrl-C ended the solve.
        """
        for outcome in self.outcomes(factors):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def outcomes(self, factors: Matrix) -> Iterator[Vector | InfeasibleTargets | NotConverged]:
        """The same, with what went wrong in place of the weights of a replicate."""
        design_weights = self._optimum.problem.design_weights
        for start in range(0, factors.shape[1], self.block):
            some = factors[:, start : start + self.block]
            ratios, arrived = self._by_newton(some)
            self.n_by_newton += int(arrived.sum())
            for column, factor in enumerate(some.T):
                if arrived[column]:
                    yield np.asarray(ratios[:, column] * design_weights * factor)
                    continue
                try:
                    # Loops over records run in threads of their own, one solve at a time.
                    with self._lock:
                        # Prices that plain steps have just failed from are no help again.
                        solution = self.solution(factor, is_warm=self._batch is None)
                except InfeasibleTargets as error:
                    yield error
                else:
                    yield (
                        np.asarray(solution.ratio * design_weights * factor)
                        if solution.status.is_certified
                        else NotConverged(solution.status.value, result=solution)
                    )

    def solution(self, factor: Vector, *, is_warm: bool = True) -> Solution:
        """One replicate by the usual road, from the prices of the whole sample or from nothing."""
        optimum, problem = self._optimum, self._optimum.problem
        return solve(
            replace(problem, design_weights=problem.design_weights * factor),
            optimum.distance,
            loss=optimum.loss,
            closeness=optimum.closeness,
            start_prices=optimum.solution.prices if is_warm else None,
        ).unless_cancelled()

    def _by_newton(self, factors: Matrix) -> tuple[Matrix, npt.NDArray[np.bool_]]:
        """Ratios of a block, and for which of its replicates plain steps arrived."""
        n_replicates = factors.shape[1]
        free = factors[self._free]
        if self._batch is None or not free.any(axis=0).all():
            return np.empty((len(factors), 0)), np.zeros(n_replicates, dtype=np.bool_)
        problem, program = self._optimum.problem, self._batch.program
        goals = np.repeat(program.goal[:, None], n_replicates, axis=1)
        if self._held is not None:
            held, rows = self._held
            change = (self._ratio * problem.design_weights)[held, None] * (1 - factors[held])
            goals += (rows.T @ change) / problem.scales[:, None]
        start = self._optimum.solution.prices
        found, arrived = BatchNewton(self._batch, free, goals, start).solve()
        if self._free.all():
            return found, arrived
        ratios = np.repeat(self._ratio[:, None], n_replicates, axis=1)
        ratios[self._free] = found
        return ratios, arrived
