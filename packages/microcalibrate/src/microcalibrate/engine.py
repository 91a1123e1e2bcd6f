"""The one loop around the engine's steps: limits, certificate, history, progress and cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from microcalibrate.dual_newton import DualNewton
from microcalibrate.errors import InfeasibleTargets
from microcalibrate.interior_point import InteriorPoint
from microcalibrate.normal_equations import Vector
from microcalibrate.problem import Problem
from microcalibrate.program import Program, program_of
from microcalibrate.distances import Distance

# Below this relative gap it is nearly known which records sit on a bound: plain Newton steps then
# may end the solve at once, with weights exactly on their bounds.
POLISH_BELOW = 1e-6
# An exact or banded target holds when it is missed by no more than this, in scales.
HARD_TOLERANCE = 1e-9
# Price of a miss of a hard target, in units of the distance: first and last try.
ELASTIC_PRICES = (1e4, 1e8)
# A slack that the highest price leaves is real above this size, in scales.
REAL_SLACK = 1e-7


class Status(Enum):
    """How a solve ended; the text is what to make of it."""

    CONVERGED = "The duality gap is below its tolerance: these are the closest weights."
    STEP_LIMIT = (
        "Stopped at the step limit. Raise `max_iter`, or look at `result.targets` for targets in "
        "conflict."
    )
    STALLED = (
        "No further step could be computed in double precision. The gap says how far the "
        "optimum may be; look for targets of very different size or support."
    )
    CANCELLED = "Cancelled. These are the best weights so far, not the optimum."


@dataclass(frozen=True)
class Step:
    """One line of the history of a solve.

    Attributes:
        phase: What is being solved: "dense" or "refit".
        step: Steps taken, from 0.
        method: Which kind of step came last.
        loss: Objective; see `design` in the explanation of the method.
        gap: Relative duality gap.
        residual: Largest miss of an exact or banded target beyond its tolerance, in scales.
        step_length: In [0, 1].
        seconds: Since the solve began.
    """

    phase: str
    step: int
    method: str
    loss: float
    gap: float
    residual: float
    step_length: float
    seconds: float


Progress = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Solution:
    """What the engine returns.

    Attributes:
        ratio: Calibrated over design weight, shape `(n_records,)`.
        prices: Rise of the objective per scale by which a target is raised, `(n_targets,)`.
        status: How the solve ended.
        gap: Relative duality gap: the certificate.
        residual: Largest miss of a hard target beyond its tolerance, in scales.
        history: One entry per step.
    """

    ratio: Vector
    prices: Vector
    status: Status
    gap: float
    residual: float
    history: tuple[Step, ...] = field(repr=False)


def solve(
    problem: Problem,
    distance: Distance,
    *,
    closeness: float = 1e-4,
    max_iter: int = 1000,
    tolerance: float = 1e-8,
    phase: str = "dense",
    progress: Progress | None = None,
) -> Solution:
    """The closest ratios that reproduce the targets, with a certificate.

    Args:
        problem: A checked problem.
        distance: Distance of ratios from 1.
        closeness: Price of distance in units of half the mean squared error of soft targets.
        max_iter: Most Newton steps.
        tolerance: Relative duality gap at which to stop.
        phase: Label of the history.
        progress: Called with each step.

    Returns:
        Ratios within their bounds, prices, and how the solve ended. Ctrl-C ends it early with the
        best ratios so far.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.

    Examples:
        >>> from microcalibrate.distances import CHI2
        >>> problem = Problem.build([1.0, 1.0], [3.0], [[1.0], [1.0]], tolerances=0)
        >>> solve(problem, CHI2).ratio
        array([1.5, 1.5])
    """
    program, free, ratio = program_of(problem, distance, closeness)
    loop = _Loop(max_iter, tolerance, phase, progress)
    ratio = ratio.copy()
    if not free.any():
        return Solution(ratio, np.zeros(problem.n_targets), Status.CONVERGED, 0.0, 0.0, ())
    status = loop.run(program)
    if status is Status.STALLED and program.is_hard.any():
        for price in ELASTIC_PRICES:
            status = loop.run(program.elastic(price))
            slack = np.abs(loop.slack)
            if status is not Status.CONVERGED or slack.max() <= REAL_SLACK:
                break
        else:
            ratio[free] = loop.ratio
            raise _infeasible(problem, ratio, slack, loop.prices / ELASTIC_PRICES[-1])
    ratio[free] = loop.ratio
    return Solution(
        ratio, loop.prices, status, loop.gap, loop.residual, tuple(loop.history)
    )


class _Loop:
    """Runs methods on programs; keeps what is common to all: limits, history, the best point."""

    def __init__(
        self, max_iter: int, tolerance: float, phase: str, progress: Progress | None
    ) -> None:
        self.max_iter = max_iter
        self.tolerance = tolerance
        self.phase = phase
        self.progress = progress
        self.history: list[Step] = []
        self.begun = time.perf_counter()

    def run(self, program: Program) -> Status:
        """Solve one program; afterwards `ratio`, `slack`, `prices`, `gap`, `residual` are set."""
        try:
            return self._iterate(program)
        except KeyboardInterrupt:
            return Status.CANCELLED

    def _iterate(self, program: Program) -> Status:
        interior = InteriorPoint(program)
        method: DualNewton | InteriorPoint = interior
        if not program.has_slack:
            method = DualNewton(program)
        polish_below = POLISH_BELOW
        while True:
            self._record(program, method)
            if self.gap <= self.tolerance and self.residual <= HARD_TOLERANCE:
                return Status.CONVERGED
            if len(self.history) > self.max_iter:
                return Status.STEP_LIMIT
            if method is interior and self.gap < polish_below and not program.has_slack:
                polish_below = self.gap * 1e-2
                method = DualNewton(program, interior.prices)
            if method is not interior and not method.step():
                method = interior
            if method is interior and not interior.step():
                return Status.STALLED

    def _record(self, program: Program, method: DualNewton | InteriorPoint) -> None:
        loss = program.objective(method.x, method.errors)
        gap = program.gap(method.x, method.errors, method.prices, method.gradient)
        self.gap = gap / max(abs(loss), 1e-16)
        hard = program.is_hard
        self.residual = float(np.abs(method.errors[hard]).max(initial=0.0))
        self.prices = method.prices
        self.ratio, self.slack = np.split(method.x, [program.n_ratios])
        step = Step(
            self.phase,
            len(self.history),
            method.name,
            loss,
            self.gap,
            self.residual,
            method.step_length,
            time.perf_counter() - self.begun,
        )
        self.history.append(step)
        if self.progress is not None:
            self.progress(step)
