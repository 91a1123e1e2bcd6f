"""The one loop around the engine's steps: limits, certificate, history, progress and cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microcalibrate.engine.distances import Distance
from microcalibrate.engine.dual_newton import DualNewton
from microcalibrate.engine.interior_point import InteriorPoint
from microcalibrate.engine.normal_equations import Vector
from microcalibrate.engine.program import NO_IMPORTANCE, Program, program_of
from microcalibrate.errors import InfeasibleTargets, InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.result import Status

# Below this relative gap it is nearly known which records sit on a bound: plain Newton steps then
# may end the solve at once, with weights exactly on their bounds.
POLISH_BELOW = 1e-6
# Steps beyond the certificate, for the sake of weights that lie exactly on their bounds.
EXTRA_STEPS = 3
# Plain Newton steps are given up when the objective exceeds that of the start this many times.
RUNS_AWAY = 10
# From the prices of a nearby problem plain Newton steps take this many at most.
WARM_STEPS = 12
# They are handed to the interior point method where their relative gap, 1 for prices of zero, is
# below this: on some twenty problems starts from worse ones took no fewer steps than cold ones.
NEAR_GAP = 0.8
# An exact or banded target holds when it is missed by no more than this, in scales.
HARD_TOLERANCE = 1e-9
# Price of a miss of a hard target, in units of the objective: tries in turn.
ELASTIC_PRICES = (1e3, 1e6, 1e9)
# A miss that the highest price leaves is real above this size, in scales.
REAL_MISS = 1e-7
# A target is part of the conflict if its price is more than this share of that of a miss.
IN_CONFLICT = 1e-3


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


@dataclass(frozen=True, eq=False)
class Solution:
    """What the engine returns.

    Attributes:
        ratio: Calibrated over design weight, shape `(n_records,)`.
        prices: Fall of the objective per scale by which a target is raised, `(n_targets,)`;
            for a soft target its importance times its error.
        status: How the solve ended.
        gap: Relative duality gap: the certificate.
        residual: Largest miss of a hard target beyond its tolerance, in scales.
        history: One entry per step.
        step_errors: Errors of the targets after each step of the history, in scales, shape
            `(n_steps, n_targets)`.
    """

    ratio: Vector
    prices: Vector
    status: Status
    gap: float
    residual: float
    history: tuple[Step, ...] = field(repr=False)
    step_errors: Vector = field(repr=False)

    def unless_cancelled(self) -> Solution:
        """The solution itself, for work that half a solve is of no use to.

        Raises:
            KeyboardInterrupt: If Ctrl-C ended the solve.
        """
        if self.status is Status.CANCELLED:
            raise KeyboardInterrupt
        return self


def solve(
    problem: Problem,
    distance: Distance,
    *,
    closeness: float = 1e-4,
    max_iter: int = 1000,
    tolerance: float = 1e-8,
    phase: str = "dense",
    progress: Progress | None = None,
    start_prices: Any = None,
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
        start_prices: Prices of a nearby problem that was solved before, `(n_targets,)`, as
            `Solution.prices` gives them: the same answer in fewer steps. Prices that are further
            from this problem's than zero is are left alone.

    Returns:
        Ratios within their bounds, prices, and how the solve ended. Ctrl-C ends it early with the
        best ratios so far.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
        InvalidOption: If `start_prices` are not one finite number per target.

    Examples:
        >>> from microcalibrate.engine.distances import CHI2
        >>> problem = Problem.build([1.0, 1.0], [3.0], [[1.0], [1.0]], tolerances=0)
        >>> solve(problem, CHI2).ratio
        array([1.5, 1.5])
    """
    start = None if start_prices is None else checked_prices(start_prices, problem.n_targets)
    program, free, ratio = program_of(problem, distance, closeness)
    loop = _Loop(max_iter, tolerance, phase, progress)
    ratio = ratio.copy()
    if not free.any():
        return _all_held(problem, ratio)
    relaxed: InfeasibleTargets | None = None
    for price in ELASTIC_PRICES if program.is_hard.any() else (0.0,):
        status = loop.run(program, price, start)
        start = None
        ratio[free] = loop.ratio
        solution = Solution(
            ratio.copy(),
            loop.prices,
            status,
            loop.gap,
            loop.residual,
            tuple(loop.history),
            np.reshape(loop.step_errors[: len(loop.history)], (-1, problem.n_targets)),
        )
        if status in (Status.CANCELLED, Status.STEP_LIMIT) or loop.misses.max() <= REAL_MISS:
            return solution
        # A relaxation is the least one only where its solve converged.
        if status is Status.CONVERGED:
            relaxed = _infeasible(problem, solution, loop.misses, loop.prices / price)
    if relaxed is not None:
        raise relaxed
    return solution


def checked_prices(prices: Any, n_targets: int) -> Vector:
    """Prices to start from, as an array of their own.

    Raises:
        InvalidOption: If they are not one finite number per target.
    """
    try:
        array = np.array(prices, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            "start_prices must be numbers, one per target, as an earlier solve gave them."
        ) from error
    if array.shape != (n_targets,):
        raise InvalidOption(
            f"start_prices has shape {array.shape} for {n_targets} targets: give one price per "
            "target, in the order of the targets, 0 where none is known."
        )
    if not np.isfinite(array).all():
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidOption(
            f"start_prices[{where}] is {array[where]}: prices must be finite, and 0 where none is "
            "known."
        )
    return array


def _all_held(problem: Problem, ratio: Vector) -> Solution:
    """What is left to say where bounds leave no record free."""
    misses = np.abs(problem.errors(ratio * problem.design_weights)) - problem.tolerances
    misses = np.where(problem.is_soft, 0.0, np.maximum(misses, 0.0))
    prices = np.zeros(problem.n_targets)
    residual = float(misses.max())
    no_steps = np.zeros((0, problem.n_targets))
    solution = Solution(ratio, prices, Status.CONVERGED, 0.0, residual, (), no_steps)
    if residual > REAL_MISS:
        raise _infeasible(problem, solution, misses, prices)
    return solution


def _infeasible(
    problem: Problem, solution: Solution, misses: Vector, share_of_price: Vector
) -> InfeasibleTargets:
    """Name the targets that cannot hold together, and the least relaxation.

    The relaxed problem minimises the sum of misses: its prices, as shares of the price of a miss,
    are a Farkas certificate, and the targets of which they are not zero are the conflict.
    """
    names = problem.target_names
    missed = np.flatnonzero(misses > REAL_MISS)
    missed = missed[np.argsort(-misses[missed])]
    hard = ~problem.is_soft
    involved = np.flatnonzero(hard & (np.abs(share_of_price) > IN_CONFLICT))
    conflict = tuple(names[j] for j in dict.fromkeys([*missed, *involved]))
    relaxation = {names[j]: float(misses[j]) for j in missed}
    listed = ", ".join(f'"{name}"' for name in conflict[:5])
    if len(conflict) > 5:
        listed += f" and {len(conflict) - 5} more"
    least = ", ".join(
        f'{value:.3g} of its scale on "{name}"' for name, value in list(relaxation.items())[:3]
    )
    if len(relaxation) > 3:
        least += f", and less on {len(relaxation) - 3} more"
    return InfeasibleTargets(
        f"{listed} cannot {'all ' if len(conflict) > 1 else ''}hold within tolerances and bounds "
        f"on the ratio. The least change: {least}. Widen these tolerances, or the bounds, or "
        "leave the tolerance out to make a target soft.",
        relaxation=relaxation,
        conflict=conflict,
        result=solution,
    )


def _newton_from(program: Program, prices: Vector) -> DualNewton:
    """Newton's method at given prices, or at zero where that is nearer to the optimum.

    Of two prices the one with the higher lower bound of the objective counts as nearer.
    """
    # A target without importance has no price: its compliance would turn one into a vast error.
    newton = DualNewton(program, np.where(program.compliance < NO_IMPORTANCE, prices, 0.0))
    at_zero = program.cost(program.response(np.zeros(len(program.lower)))).sum()
    return newton if newton.bound() > at_zero else DualNewton(program)


def _is_near(program: Program, newton: DualNewton) -> bool:
    """Whether prices tell the interior point method more than a start from nothing would."""
    return newton.gap() <= NEAR_GAP * program.objective(newton.x, newton.errors)


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
        self.step_errors: list[Vector] = []
        self.begun = time.perf_counter()

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
        # again when the interior point method nearly knows the answer. Without such prices they
        # need a program whose costs are all curved: one without slacks.
        warm = None if start is None else _newton_from(program, start)
        newton_works = not program.has_slack
        newton = warm or (DualNewton(program) if newton_works else None)
        interior: InteriorPoint | None = None
        elastic = program
        polish_below = POLISH_BELOW
        extra_steps = 0
        while True:
            if newton:
                self._judge(program, newton)
                self._note(newton)
            else:
                if interior is None:
                    elastic = program.elastic(price) if price else program
                    # Hard targets may turn out infeasible: then prices that Newton's steps have
                    # raised lead far away, and a start from nothing takes fewer steps.
                    is_near = warm is not None and not price and _is_near(program, warm)
                    interior = InteriorPoint(elastic, warm.prices if warm and is_near else None)
                self._judge(elastic, interior)
                self._note(interior)
            if self._is_certified():
                if newton or interior is None or self._settles(elastic, interior):
                    return Status.CONVERGED
                extra_steps += 1
                if extra_steps > EXTRA_STEPS:
                    return Status.CONVERGED
            if len(self.history) > self.max_iter:
                return Status.CONVERGED if self._is_certified() else Status.STEP_LIMIT
            if interior and newton_works and not newton and self.gap < polish_below:
                polish_below = self.gap * 1e-2
                newton = DualNewton(program, interior.prices)
            if newton and (self._runs_away(newton is warm) or not newton.step()):
                newton = None
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
        self.residual = float(np.abs(method.errors[program.is_hard]).max(initial=0.0))
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
