"""Targets that are not linear in the weights: made linear where the weights are, and solved again.

A difference of two means is replaced by its derivative at the present weights, which is a target
like any other. The weights that come out are not quite those that meet the difference; so it is
made linear anew there, until nothing moves. Where it stands still, the difference has the value
that the certificate speaks of, and the derivative of the distance is a combination of those of the
targets: the condition of an optimum.

A mean is linear in the weights once its value is known, but by how much its total may be missed
depends on the number of records. So the width of its band is made anew in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import scipy.sparse as sp

from microcalibrate.arrays import Vector, is_sparse
from microcalibrate.engine.solving import Solution
from microcalibrate.errors import InfeasibleTargets, InvalidOption, NotConverged
from microcalibrate.problem import Problem

if TYPE_CHECKING:
    from microcalibrate.targets import Bands, Difference, Quotients

Rest = TypeVar("Rest")

MOST_ROUNDS = 60
# How far the difference may be from its linear form, in scales.
SETTLED = 1e-9
# Movement of weights, in units of the largest, below which they stand still.
STILL = 1e-8
# What is known of weights between bands is the root of the gap: below this, movement that does
# not get less is that of the certificate.
PRECISION = 1e-4


@dataclass(frozen=True, eq=False)
class Moving:
    """What of a problem depends on the weights.

    Attributes:
        differences: Targets that are differences of quotients: their columns do.
        bands: Quotients with a tolerance: their scales do. None where there are none.
    """

    differences: tuple[Difference, ...] = ()
    bands: Bands | None = None

    @classmethod
    def checked(
        cls, differences: Sequence[Difference], quotients: Quotients | None, problem: Problem
    ) -> Moving:
        """What of a problem, whose scales are those at the design weights, depends on the weights.

        Raises:
            InvalidOption: If a difference is of other records, or of another target.
        """
        weights, bands = problem.design_weights, None
        if quotients is not None:
            bands = quotients.bands(problem.scales, problem.tolerances, weights)
        return cls(checked_differences(differences, problem), bands)

    @property
    def is_nothing(self) -> bool:
        """Whether the problem is the same at all weights."""
        return not self.differences and self.bands is None

    def at(self, problem: Problem, weights: Vector) -> Problem:
        """The problem as it is near given weights, shape `(n_records,)`.

        Raises:
            NotConverged: If a quotient has no denominator at these weights.
        """
        near = linearised(problem, self.differences, weights)
        if self.bands is None:
            return near
        return replace(near, scales=self.bands.scales_at(weights, near.scales))

    def widened(self, problem: Problem, weights: Vector) -> float:
        """How far ends of bands move at most where these are made anew, in scales."""
        if self.bands is None:
            return 0.0
        columns = self.bands.columns
        ratio = self.bands.scales_at(weights, problem.scales)[columns] / problem.scales[columns]
        return float((problem.tolerances[columns] * np.abs(ratio - 1)).max())


def checked_differences(
    differences: Sequence[Difference], problem: Problem
) -> tuple[Difference, ...]:
    """Differences of quotients that are targets of a problem.

    Raises:
        InvalidOption: If one is of other records, or of another target.
    """
    for one in differences:
        if one.column >= problem.n_targets or problem.target_names[one.column] != one.name:
            raise InvalidOption(
                f'differences has "{one.name}" for target {one.column}, which is another one. Hand '
                "over those of the targets that were built."
            )
        if one.totals.shape[0] != problem.n_records:
            raise InvalidOption(
                f'differences: "{one.name}" is about {one.totals.shape[0]} records, and there are '
                f"{problem.n_records}."
            )
    return tuple(differences)


def linearised(problem: Problem, differences: Sequence[Difference], weights: Vector) -> Problem:
    """The problem with its differences as they are near given weights.

    Args:
        problem: The targets and records.
        differences: Those of its targets that are differences of quotients.
        weights: Shape `(n_records,)`.

    Raises:
        NotConverged: If a quotient has no denominator at these weights.
    """
    if not differences:
        return problem
    places = [one.column for one in differences]
    columns = np.empty((problem.n_records, len(places)))
    targets = problem.targets.copy()
    for k, one in enumerate(differences):
        if not np.isfinite(one.at(weights)):
            raise NotConverged(
                f'target "{one.name}" is a difference of two quotients, and the denominator of one '
                "is zero at the weights: none of the records it counts has any. Set a least ratio "
                "(min_weight_ratio), or drop the target."
            )
        columns[:, k], targets[one.column] = one.linearised(weights)
    matrix = problem.estimate_matrix
    if is_sparse(matrix):
        kept = np.ones(problem.n_targets)
        kept[places] = 0.0
        place = sp.csr_array(
            (np.ones(len(places)), (np.arange(len(places)), places)),
            shape=(len(places), problem.n_targets),
        )
        matrix = sp.csr_array(matrix @ sp.diags_array(kept) + sp.csr_array(columns) @ place)
        matrix.eliminate_zeros()
        matrix.sort_indices()
    else:
        matrix = matrix.copy()
        matrix[:, places] = columns
    return replace(problem, estimate_matrix=matrix, targets=targets)


def linear_part(problem: Problem, differences: Sequence[Difference]) -> Problem:
    """The problem without its differences: what can be said of columns that do not change.

    Raises:
        InvalidOption: If nothing is left.
    """
    if not differences:
        return problem
    kept = np.ones(problem.n_targets, dtype=np.bool_)
    kept[[one.column for one in differences]] = False
    if not kept.any():
        raise InvalidOption(
            "all targets are differences of quotients, whose columns change with the weights. Look "
            "at them with check_targets."
        )
    return replace(
        problem,
        estimate_matrix=problem.estimate_matrix[:, kept],
        target_names=tuple(np.array(problem.target_names, dtype=object)[kept]),
        **{
            name: getattr(problem, name)[kept]
            for name in ("targets", "scales", "tolerances", "importances")
        },
    )


def to_convergence(
    problem: Problem,
    moving: Moving,
    weights: Vector,
    solve: Callable[[Problem, Vector | None], tuple[Solution, Vector, Rest]],
) -> tuple[Problem, Solution, Vector, Rest]:
    """Solve a problem, with what depends on the weights made anew until nothing moves.

    Args:
        problem: The targets and records.
        moving: What of it depends on the weights; where nothing does, one solve is all there is.
        weights: Where that is first made, shape `(n_records,)`.
        solve: From a problem, and prices to start from, to a solution, the weights of all
            records, and what else comes with it.

    Returns:
        The problem of the last solve, and what that gave; the history is that of all.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
        NotConverged: If the weights go on moving.
    """
    differences = moving.differences
    if moving.is_nothing:
        return problem, *solve(problem, None)
    solutions: list[Solution] = []
    prices, before, moved, apart = None, np.inf, np.inf, np.inf
    conflict: InfeasibleTargets | None = None
    for _ in range(MOST_ROUNDS):
        problem = moving.at(problem, weights)
        try:
            solution, found, rest = solve(problem, prices)
        except InfeasibleTargets as error:
            nearest = _nearest(problem, error)
            if nearest is not None and moving.widened(problem, nearest) > SETTLED:
                weights, conflict = nearest, error
                continue
            raise _located(error, differences, len(solutions) + 1) from error
        solutions.append(solution)
        apart = _apart(problem, differences, found)
        before, moved = moved, float(np.abs(found - weights).max() / np.abs(found).max())
        is_still = not differences or moved <= STILL or before < moved <= PRECISION
        is_settled = max(apart, moving.widened(problem, found)) <= SETTLED
        if not solution.status.is_certified or (is_settled and is_still):
            return problem, _joined(solutions), found, rest
        weights, prices = found, solution.prices
    if not solutions and conflict is not None:
        raise conflict
    raise NotConverged(_unsettled(problem, moving, apart, moved), result=_joined(solutions))


def _nearest(problem: Problem, error: InfeasibleTargets) -> Vector | None:
    """Weights that miss targets in conflict by least, where they are known of all records."""
    if error.result is None or error.result.ratio.shape != problem.design_weights.shape:
        return None
    return problem.weights_of(error.result.ratio)


def _located(
    error: InfeasibleTargets, differences: Sequence[Difference], number: int
) -> InfeasibleTargets:
    """The same conflict, with where differences were made linear for it."""
    if not differences:
        return error
    return InfeasibleTargets(
        f"{error} The difference {_listed([one.name for one in differences])} was made linear for "
        f"it where the weights of round {number} were, and a value nearer to the present one may "
        "be met.",
        relaxation=error.relaxation,
        conflict=error.conflict,
        result=error.result,
    )


def _unsettled(problem: Problem, moving: Moving, apart: float, moved: float) -> str:
    """What goes on moving, and the way out."""
    if not moving.differences:
        assert moving.bands is not None
        names = _listed([problem.target_names[column] for column in moving.bands.columns])
        return (
            f"the tolerance of {names} is a share of a value whose denominator depends on the "
            f"weights, and {MOST_ROUNDS} solves, each with the denominator of the weights before, "
            "did not settle. Make it exact or soft, narrow the bounds on the ratio, or add a "
            "target for the denominator."
        )
    return (
        f"the difference {_listed([one.name for one in moving.differences])} is not linear in the "
        f"weights, and {MOST_ROUNDS} solves, each with its derivative at the weights before, did "
        f"not settle: it is {apart:.1g} of its scale from where its derivative has it, and weights "
        f"move by {moved:.1g} of the largest. Give it a tolerance, narrow the bounds on the ratio, "
        "or ask for a value nearer to that of the design weights."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:3])


def _apart(problem: Problem, differences: Sequence[Difference], weights: Vector) -> float:
    """How far differences are from their linear forms at most, in scales."""
    with np.errstate(invalid="ignore"):
        linear = problem.errors(weights)
        off = [
            abs((one.at(weights) - one.value) / problem.scales[one.column] - linear[one.column])
            for one in differences
        ]
    return float(max(off, default=0.0)) if np.isfinite(off).all() else np.inf


def _joined(solutions: Sequence[Solution]) -> Solution:
    """The last solution, with the steps of all."""
    steps = [step for one in solutions for step in one.history]
    return replace(
        solutions[-1],
        history=tuple(replace(step, step=number) for number, step in enumerate(steps)),
        step_errors=np.concatenate([one.step_errors for one in solutions]),
    )
