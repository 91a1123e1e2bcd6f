"""The one loop around the engine's steps: limits, certificate, history, progress and cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from microcalibrate.engine.dual_newton import DualNewton
from microcalibrate.engine.interior_point import InteriorPoint
from microcalibrate.engine.normal_equations import Vector
from microcalibrate.engine.program import NO_IMPORTANCE, Program
from microcalibrate.result import Status

# Below this relative gap it is nearly known which records sit on a bound: plain Newton steps then
# may end the solve at once, with weights exactly on their bounds.
POLISH_BELOW = 1e-6
# Steps beyond the certificate, for the sake of weights that lie exactly on their bounds.
EXTRA_STEPS = 3
# A certificate speaks of the objective, and far from the design weights, where that is large, it
# leaves digits of the ratios open. Plain Newton steps double them: so many more, down to this gap.
FINE_GAP = 1e-12
FINE_STEPS = 2
# Plain Newton steps are given up when the objective exceeds that of the start this many times.
RUNS_AWAY = 10
# From the prices of a nearby problem plain Newton steps take this many at most.
WARM_STEPS = 12
# They are handed to the interior point method where their relative gap, 1 for prices of zero, is
# below this: on some twenty problems starts from worse ones took no fewer steps than cold ones.
NEAR_GAP = 0.8
# An exact or banded target holds when it is missed by no more than this, in scales.
HARD_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Step:
    """One line of the history of a solve.

    Attributes:
        phase: What is being solved: "dense" or "refit".
        step: Steps taken, from 0.
        method: Which kind of step came last.
        loss: Objective: price of distance plus half the mean squared error of soft targets.
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


def _newton_from(program: Program, prices: Vector) -> DualNewton:
    """Newton's method at given prices, or at zero where that is nearer to the optimum.

    Of two prices the one with the higher lower bound of the objective counts as nearer.
    """
    # A target without importance has no price: its compliance would turn one into a vast error.
    newton = DualNewton(program, np.where(program.compliance < NO_IMPORTANCE, prices, 0.0))
    at_zero = program.cost(program.response(np.zeros(len(program.lower)))).sum()
    return newton if newton.bound() > at_zero else DualNewton(program)


def _interior_from(
    program: Program, newton: DualNewton | None, prices: Vector | None
) -> InteriorPoint:
    """The interior point method at prices that tell more than a start from nothing would."""
    if prices is None:
        return InteriorPoint(program)
    interior = None if newton else InteriorPoint(program, prices)
    at = newton or interior
    assert at is not None
    is_near = at.gap() <= NEAR_GAP * program.objective(at.x, at.errors)
    if not is_near:
        return InteriorPoint(program)
    return interior or InteriorPoint(program, prices)


class Loop:
    """Runs methods on programs; keeps what is common to all: limits, history, the best point."""

    def __init__(
        self, max_iter: int, tolerance: float, phase: str, progress: Progress | None
    ) -> None:
        self.max_iter = max_iter
        self.tolerance = tolerance
        self.phase = phase
        self.progress = progress
        self.history: list[Step] = []
        self.step_errors: list[Vector] = []
        self.begun = time.perf_counter()
        self._fell_short = False

    def run(self, program: Program, price: float, start: Vector | None = None) -> Status:
        """Solve one program; a miss of a hard target costs `price`, in units of its objective.

        Afterwards `ratio`, `prices`, `gap`, `residual` and `misses` are set.
        """
        n = program.n_ratios
        self.ratio = np.clip(1.0, program.lower[:n], program.upper[:n])
        self.prices = np.zeros(len(program.goal))
        self.misses = np.zeros(len(program.goal))
        self.gap = self.residual = np.inf
        try:
            return self._iterate(program, price, start)
        except KeyboardInterrupt:
            return Status.CANCELLED

    def _iterate(self, program: Program, price: float, start: Vector | None) -> Status:
        # Plain Newton steps come first, from the prices of a nearby problem or from zero, and
        # again when the interior point method nearly knows the answer. Slacks at a price are for
        # that method alone.
        newton_works = not program.has_priced_slack
        warm = _newton_from(program, start) if newton_works and start is not None else None
        starts_plainly = newton_works and not self._fell_short
        newton = warm or (DualNewton(program) if starts_plainly else None)
        interior: InteriorPoint | None = None
        elastic = program
        polish_below = POLISH_BELOW
        extra_steps = fine_steps = 0
        while True:
            if newton:
                self._judge(program, newton)
                self._note(newton)
            else:
                if interior is None:
                    elastic = program.elastic(price) if price else program
                    # Hard targets may turn out infeasible: then prices that Newton's steps have
                    # raised lead far away, and a start from nothing takes fewer steps.
                    from_prices = None if price else (warm.prices if warm else start)
                    interior = _interior_from(elastic, warm, from_prices)
                self._judge(elastic, interior)
                self._note(interior)
            # Before the first step a miss has no price, and the gap, 0, says nothing.
            polishes = interior and newton_works and not newton and 0 < self.gap < polish_below
            if self._is_certified():
                # Prices of a problem that was solved before are as fine as they were then.
                is_rough = self.gap > FINE_GAP and newton is not warm
                if newton and is_rough and fine_steps < FINE_STEPS and newton.step():
                    fine_steps += 1
                    continue
                if newton or interior is None:
                    return Status.CONVERGED
                if not (polishes and self.gap > FINE_GAP):
                    extra_steps += 1
                    if self._settles(elastic, interior) or extra_steps > EXTRA_STEPS:
                        return Status.CONVERGED
            if len(self.history) > self.max_iter:
                return Status.CONVERGED if self._is_certified() else Status.STEP_LIMIT
            if polishes and interior:
                polish_below = self.gap * 1e-2
                newton = DualNewton(program, interior.prices)
            if newton and (self._runs_away(newton is warm) or not newton.step()):
                newton = None
                # What comes next may be the same program at another price of misses.
                self._fell_short = True
            if interior and not newton and not interior.step():
                return Status.CONVERGED if self._is_certified() else Status.STALLED

    def _settles(self, program: Program, interior: InteriorPoint) -> bool:
        """Put ratios that are coming to a bound right on it, if the certificate survives that."""
        self._judge(program, interior.settled())
        if self._is_certified():
            return True
        self._judge(program, interior)
        return False

    def _runs_away(self, is_warm: bool) -> bool:
        """Whether plain steps have made things far worse than at the start, or take too many."""
        if is_warm and len(self.history) > WARM_STEPS:
            return True
        return self.loss > RUNS_AWAY * self.history[0].loss > 0

    def _is_certified(self) -> bool:
        return self.gap <= self.tolerance and self.residual <= HARD_TOLERANCE

    def _judge(self, program: Program, method: DualNewton | InteriorPoint) -> None:
        self.loss = program.objective(method.x, method.errors)
        self.gap = method.gap() / max(abs(self.loss), 1e-16)
        self.residual = float(np.abs(method.errors[program.is_equation]).max(initial=0.0))
        self.misses = program.misses(method.x, method.errors)
        self.errors = program.errors_with_slack(method.x, method.errors)
        self.prices = method.prices
        self.ratio = method.x[: program.n_ratios]

    def _note(self, method: DualNewton | InteriorPoint) -> None:
        step = Step(
            self.phase,
            len(self.history),
            method.name,
            self.loss,
            self.gap,
            self.residual,
            method.step_length,
            time.perf_counter() - self.begun,
        )
        self.step_errors.append(self.errors)
        self.history.append(step)
        if self.progress is not None:
            self.progress(step)
