"""A problem in, its certified weights out: conflicts named, losses that are not convex included."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from microcalibrate.engine.distances import Distance
from microcalibrate.engine.loop import Loop, Progress, Step
from microcalibrate.engine.losses import SQUARED, Loss
from microcalibrate.engine.normal_equations import Vector
from microcalibrate.engine.program import program_of
from microcalibrate.errors import InfeasibleTargets, InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.result import Status

# Price of a miss of a hard target, in units of the objective: tries in turn.
ELASTIC_PRICES = (1e3, 1e6, 1e9)
# A miss that the highest price leaves is real above this size, in scales.
REAL_MISS = 1e-7
# A target is part of the conflict if its price is more than this share of that of a miss.
IN_CONFLICT = 1e-3


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
    loss: Loss = SQUARED,
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
        loss: What errors of soft targets cost. With a capped one the answer is the best near it,
            and its status is `STATIONARY`.
        closeness: Price of distance in units of the loss: for squares, half the mean squared
            error of soft targets.
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
    if np.isfinite(loss.cap):
        return _solve_capped(
            problem,
            distance,
            loss,
            start,
            closeness=closeness,
            max_iter=max_iter,
            tolerance=tolerance,
            phase=phase,
            progress=progress,
        )
    program, free, ratio = program_of(problem, distance, closeness, loss)
    loop = Loop(max_iter, tolerance, phase, progress)
    ratio = ratio.copy()
    if not free.any():
        return _all_held(problem, distance, loss, ratio)
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
            relaxed = _infeasible(problem, distance, solution, loop.misses, loop.prices / price)
    if relaxed is not None:
        raise relaxed
    return solution


def _solve_capped(
    problem: Problem, distance: Distance, loss: Loss, start: Vector | None, **options: Any
) -> Solution:
    """Majorise and minimise; see `losses.capped`.

    At given weights the capped loss lies below, and touches, the loss without a cap in which the
    targets beyond it do not count. The minimum of the latter is certified, so the capped loss
    falls from round to round, until the targets beyond the cap are those that were left out: then
    both losses agree near the answer.
    """
    convex = replace(loss, cap=np.inf)
    left_out = np.zeros(problem.n_targets, dtype=np.bool_)
    history: list[Step] = []
    errors: list[Vector] = []
    least = np.inf
    while True:
        counted = replace(problem, importances=np.where(left_out, 0.0, problem.importances))
        solution = solve(counted, distance, loss=convex, start_prices=start, **options)
        history += [
            replace(step, step=len(history) + place) for place, step in enumerate(solution.history)
        ]
        errors.append(solution.step_errors)
        missed = np.abs(problem.errors(solution.ratio * problem.design_weights))
        beyond = problem.is_soft & (missed > loss.cap)
        before, least = least, loss.cap * problem.importances[left_out].sum()
        least += solution.history[-1].loss if solution.history else 0.0
        # Rounds that gain nothing could go on for ever between equals.
        has_gained = least < before - options["tolerance"] * abs(least)
        if solution.status is not Status.CONVERGED or (beyond == left_out).all() or not has_gained:
            break
        left_out = beyond
        start = np.where(beyond, 0.0, solution.prices)
    ended = solution.status
    return replace(
        solution,
        status=Status.STATIONARY if ended is Status.CONVERGED else ended,
        history=tuple(history),
        step_errors=np.concatenate(errors),
    )


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


def _all_held(problem: Problem, distance: Distance, loss: Loss, ratio: Vector) -> Solution:
    """What is left to say where bounds leave no record free."""
    errors = problem.errors(ratio * problem.design_weights)
    misses = np.where(problem.is_soft, 0.0, np.maximum(np.abs(errors) - problem.tolerances, 0.0))
    prices = problem.importances * loss.slope(errors)
    residual = float(misses.max())
    no_steps = np.zeros((0, problem.n_targets))
    solution = Solution(ratio, prices, Status.CONVERGED, 0.0, residual, (), no_steps)
    if residual > REAL_MISS:
        raise _infeasible(problem, distance, solution, misses, np.zeros(problem.n_targets))
    return solution


def _infeasible(
    problem: Problem,
    distance: Distance,
    solution: Solution,
    misses: Vector,
    share_of_price: Vector,
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
        f"leave the tolerance out to make a target soft.{_limits(problem, distance)}",
        relaxation=relaxation,
        conflict=conflict,
        result=solution,
    )


def _limits(problem: Problem, distance: Distance) -> str:
    """A sentence on the limits of a distance, where they are narrower than the bounds."""
    low, high = float(np.max(distance.lower)), float(np.min(distance.upper))
    narrower = (problem.lower_ratio < low) | (problem.upper_ratio > high)
    if not np.any(narrower & (problem.design_weights > 0)):
        return ""
    end = f"to {high:g}" if np.isfinite(high) else "on"
    known = f'distance="{distance.name}"'
    return f" Ratios are also kept to where {known} is defined: from {low:g} {end}."
