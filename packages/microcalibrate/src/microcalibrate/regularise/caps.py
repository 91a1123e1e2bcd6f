"""Caps on weights: whether hard targets can hold below one, and the smallest that allows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.engine.distances import RAKING
from microcalibrate.engine.solving import solve
from microcalibrate.errors import InfeasibleCap, InfeasibleTargets
from microcalibrate.problem import Problem

# The smallest feasible cap is found to this relative precision, from above.
CAP_PRECISION = 0.01
# A target holds in a test of feasibility when it is missed by no more than this, in scales.
HOLDS = 1e-7


def smallest_feasible_cap(problem: Problem, floor: float = 0.0, above: float = 0.0) -> float:
    """The smallest largest weight with which exact and banded targets can hold, by bisection.

    Args:
        problem: A checked problem; its own upper bounds do not count.
        floor: Smallest weight.
        above: A cap that is known to be too small.

    Returns:
        A cap that was tried and is feasible, at most a hundredth above the smallest one; 0 where
        there are only soft targets, which no cap makes infeasible.

    Raises:
        InfeasibleTargets: If no cap helps.

    Examples:
        >>> problem = Problem.build([1.0, 1.0], [6.0], [[1.0], [1.0]], tolerances=0)
        >>> round(smallest_feasible_cap(problem), 2)
        3.0
    """
    hard = np.flatnonzero(~problem.is_soft)
    if not len(hard):
        return 0.0
    free = _with_cap(problem, hard, None, floor)
    high = float((solve(free, RAKING, tolerance=1e-4).ratio * free.design_weights).max())
    alone = float(_least_caps(problem, hard, floor).max())
    low = max(above, alone, floor)
    # What a single target needs is often what all of them need.
    trial = alone * (1 + CAP_PRECISION / 2)
    if low < trial < high and _is_feasible(_with_cap(problem, hard, trial, floor)):
        high = trial
    while high > low * (1 + CAP_PRECISION):
        middle = float(np.sqrt(low * high)) if low > 0 else high / 2
        if _is_feasible(_with_cap(problem, hard, middle, floor)):
            high = middle
        else:
            low = middle
    return high


def check_reach(problem: Problem, cap: float, floor: float) -> None:
    """Refuse a cap with which even all weights on it do not reach a hard target."""
    hard = np.flatnonzero(~problem.is_soft)
    if not len(hard):
        return
    needed = _least_caps(problem, hard, floor)
    beyond = np.flatnonzero(needed > cap * (1 + HOLDS))
    if len(beyond):
        names = tuple(problem.target_names[hard[j]] for j in beyond[np.argsort(-needed[beyond])])
        raise infeasible_cap(problem, cap, floor, None, names)


def infeasible_cap(
    problem: Problem,
    cap: float,
    floor: float,
    error: InfeasibleTargets | None,
    names: tuple[str, ...] = (),
) -> InfeasibleCap:
    """What to say of a cap; an InfeasibleTargets of its own where no cap helps."""
    smallest = smallest_feasible_cap(problem, floor, above=cap)
    conflict = error.conflict if error is not None else names
    listed = ", ".join(f'"{name}"' for name in conflict[:5])
    listed += f" and {len(conflict) - 5} more" if len(conflict) > 5 else ""
    return InfeasibleCap(
        f"{listed} cannot {'all ' if len(conflict) > 1 else ''}hold with cap={cap:g}: the smallest "
        f"cap that allows it is {smallest:.6g}. Raise the cap, widen tolerances, or leave a "
        "tolerance out to make its target soft.",
        relaxation={} if error is None else error.relaxation,
        conflict=conflict,
        result=None if error is None else error.result,
        smallest_cap=smallest,
    )


def ratios_of(bound: Any, prior: Vector, without: float) -> Vector:
    """A bound on weights as bounds on the ratios to their prior."""
    positive = prior > 0
    ratios: Vector = np.full(len(prior), without)
    np.divide(bound, prior, out=ratios, where=positive)
    return ratios


def _with_cap(problem: Problem, hard: Any, cap: float | None, floor: float) -> Problem:
    """The hard targets alone, below another cap."""
    prior = problem.design_weights
    return Problem.build(
        prior,
        problem.targets[hard],
        problem.estimate_matrix[:, hard],
        target_names=[problem.target_names[j] for j in hard],
        scales=problem.scales[hard],
        tolerances=problem.tolerances[hard],
        min_weight_ratio=ratios_of(floor, prior, 0.0),
        max_weight_ratio=None if cap is None else ratios_of(cap, prior, np.inf),
    )


def _is_feasible(problem: Problem) -> bool:
    try:
        solution = solve(problem, RAKING, tolerance=1e-4).unless_cancelled()
    except InfeasibleTargets:
        return False
    return solution.residual <= HOLDS


def _least_caps(problem: Problem, hard: Any, floor: float) -> Vector:
    """Cap below which each hard target alone cannot be reached, shape `(n_hard,)`."""
    is_in = problem.design_weights > 0
    matrix = problem.estimate_matrix[:, hard]
    up = np.asarray(_positive_part(matrix).T @ is_in.astype(np.float64))
    down = np.asarray(_positive_part(-matrix).T @ is_in.astype(np.float64))
    band = problem.tolerances[hard] * problem.scales[hard]
    lowest, highest = problem.targets[hard] - band, problem.targets[hard] + band
    with np.errstate(divide="ignore", invalid="ignore"):
        to_rise = np.where(lowest > 0, (lowest + floor * down) / up, 0.0)
        to_fall = np.where(highest < 0, (floor * up - highest) / down, 0.0)
    return np.asarray(np.maximum(to_rise, to_fall), dtype=np.float64)


def _positive_part(matrix: Any) -> Any:
    return matrix.maximum(0) if hasattr(matrix, "tocsr") else np.maximum(matrix, 0)
