"""The narrowest range of ratios with which exact and banded targets can hold: a linear program.

Bounds that are too narrow leave no weights, and trial and error finds the limit slowly. Over ratios
`r` and the ends `L`, `U` of the range the question is linear: make `U - L` small, with the targets
as constraints.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize as so
import scipy.sparse as sp
from numpy.typing import NDArray

from microcalibrate.engine.distances import CHI2
from microcalibrate.engine.solving import solve
from microcalibrate.errors import InvalidOption, NotConverged
from microcalibrate.problem import Problem

Vector = NDArray[np.float64]

SHAPES = ("narrowest", "symmetric")


class RatioRange(NamedTuple):
    """Ends of a range of ratios.

    Attributes:
        lower: Least ratio.
        upper: Greatest ratio.
    """

    lower: float
    upper: float


def feasible_ratio_range(
    problem: Problem,
    *,
    shape: str = "narrowest",
    lower: float | None = None,
    upper: float | None = None,
) -> RatioRange:
    """The smallest range that ratios need, to meet exact targets and banded ones in their bands.

    With `min_weight_ratio` and `max_weight_ratio` at its ends weights exist, and with anything
    narrower none do. Give them a little more room, such as 1e-6: at the ends there is only one
    point left, or few.

    Args:
        problem: A checked problem. Its own bounds hold too, so that the range is the smallest one
            within them; soft targets play no part.
        shape: "narrowest" makes `upper - lower` as small as can be (the minimum bounds of
            icarus), "symmetric" the distance of both from 1.
        lower: Where the range begins, if that is given: the least `upper` is found.
        upper: Where it ends, if that is given: the greatest `lower` is found.

    Returns:
        The range, as precise as linear programming in double precision: about 1e-7.

    Raises:
        InvalidOption: If no target is exact or banded, or options contradict each other.
        InfeasibleTargets: If there is no such range: the targets cannot all hold within the
            problem's own bounds and the given end.
        NotConverged: If the linear program ended without an answer.

    Examples:
        >>> problem = Problem.build([1.0, 1.0], [2.5, 1.5], [[1, 1], [1, 0]], tolerances=0)
        >>> feasible_ratio_range(problem)
        RatioRange(lower=1.0, upper=1.5)
    """
    if shape not in SHAPES:
        raise InvalidOption(f"shape={shape!r} is not known. Use one of {list(SHAPES)}.")
    if lower is not None and upper is not None:
        raise InvalidOption("give lower or upper: the other end is what is looked for.")
    if shape == "symmetric" and not (lower is None and upper is None):
        raise InvalidOption('a given end leaves nothing symmetric. Leave shape="symmetric" out.')
    hard = np.flatnonzero(~problem.is_soft)
    if not hard.size:
        raise InvalidOption(
            "all targets are soft, and soft targets need no room. Set tolerances: 0 is exact."
        )
    low, high = problem.lower_ratio, problem.upper_ratio
    if lower is not None:
        low = np.maximum(low, lower)
    if upper is not None:
        high = np.minimum(high, upper)
    free = (problem.design_weights > 0) & (low < high)
    held = np.where(problem.design_weights > 0, np.clip(1.0, low, high), 0.0)
    fixed = problem.estimates(np.where(free, 0.0, held * problem.design_weights))
    goal = ((problem.targets - fixed) / problem.scales)[hard]
    rows = sp.csr_array(problem.estimate_matrix)[free][:, hard]
    columns = rows.multiply(problem.design_weights[free, None]).multiply(1 / problem.scales[hard])

    found = _linear_program(
        sp.csr_array(columns.T),
        goal,
        problem.tolerances[hard],
        (low[free], high[free]),
        shape,
        (lower, upper),
    )
    if found.status == 2:
        # Says which targets, and the least change that would do.
        solve(replace(problem, min_ratio=low, max_ratio=high), CHI2)
    if found.status != 0:
        raise NotConverged(
            f"the linear program for the range of ratios ended without an answer: {found.message}"
        )
    begin, end = found.x[-2:]
    return RatioRange(float(begin), float(end))


def _linear_program(
    columns: sp.csr_array,
    goal: Vector,
    tolerance: Vector,
    bounds: tuple[Vector, Vector],
    shape: str,
    given: tuple[float | None, float | None],
) -> so.OptimizeResult:
    """Over ratios, `L` and `U`: each ratio between them, each target within its tolerance."""
    n = columns.shape[1]
    ends = sp.csr_array((columns.shape[0], 2))
    targets = sp.hstack([columns, ends])
    one, none, unit = sp.csr_array(np.ones((n, 1))), sp.csr_array((n, 1)), sp.eye_array(n)
    above = sp.csr_array(sp.hstack([unit, none, -one]))
    below = sp.csr_array(sp.hstack([-unit, one, none]))
    lower, upper = given
    fixed = [
        (lower, lower) if lower is not None else (None, None),
        (upper, upper) if upper is not None else (None, None),
    ]
    parts, limits = [above, below, targets, -targets], [np.zeros(2 * n)]
    limits += [goal + tolerance, tolerance - goal]
    equal, equal_to = None, None
    if not tolerance.any():
        parts, limits = parts[:2], limits[:1]
        equal, equal_to = targets, goal
    if shape == "symmetric":
        middle = sp.csr_array(np.r_[np.zeros(n), 1.0, 1.0][None])
        equal = middle if equal is None else sp.vstack([equal, middle])
        equal_to = np.array([2.0]) if equal_to is None else np.append(equal_to, 2.0)
    matrices: dict[str, Any] = {
        "A_ub": sp.csr_array(sp.vstack(parts)),
        "A_eq": None if equal is None else sp.csr_array(equal),
    }
    return so.linprog(
        np.r_[np.zeros(n), -1.0, 1.0],
        b_ub=np.concatenate(limits),
        b_eq=equal_to,
        bounds=[*np.column_stack(bounds).tolist(), *fixed],
        method="highs",
        **matrices,
    )
