"""The course of one calibration: a dense solve, and for fewer records a draw and a refit."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.optimum import Optimum
from microcalibrate.engine.solving import Solution
from microcalibrate.logs.history import PhaseTrail
from microcalibrate.outcome import history_rows
from microcalibrate.partition import Part
from microcalibrate.problem import Problem
from microcalibrate.progress import ProgressBar
from microcalibrate.reduction import draw_records, refit_records, survivors_of
from microcalibrate.relinearising import Moving, to_convergence
from microcalibrate.result import Status
from microcalibrate.selection.drawing import Draw
from microcalibrate.settings import Settings
from microcalibrate.structure import Structure

Vector = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What one calibration went through.

    Attributes:
        weights: Of all records, shape `(n_records,)`.
        optimum: The last solve with its problem.
        parts: Independent parts of the dense solve with theirs.
        probabilities: Chance of each record to be kept, shape `(n_records,)`.
        history: A row per step of every solve.
        trails: Errors of the targets along each solve.
        seconds: Wall time by phase.
    """

    weights: Vector
    optimum: Optimum
    parts: tuple[Part, ...]
    probabilities: Vector
    history: list[dict[str, Any]]
    trails: list[PhaseTrail]
    seconds: dict[str, float]

    @property
    def solution(self) -> Solution:
        """The last solve."""
        return self.optimum.solution

    def cancelled(self) -> Run:
        """The same as far as it went, with the status of what Ctrl-C ended."""
        solution = dataclasses.replace(self.solution, status=Status.CANCELLED)
        return dataclasses.replace(
            self, optimum=dataclasses.replace(self.optimum, solution=solution)
        )


def run(
    problem: Problem,
    settings: Settings,
    structure: Structure,
    moving: Moving,
    *,
    max_iter: int,
    bar: ProgressBar,
    start_prices: Any = None,
) -> tuple[Problem, Run]:
    """Calibrate all records, and where fewer are asked for, draw these and calibrate them.

    Args:
        problem: The targets and records.
        settings: Options of the calibration.
        structure: Clusters and parts of the records.
        moving: What of the problem depends on the weights.
        max_iter: Most Newton steps of each solve.
        bar: Where steps are shown.
        start_prices: Prices of all targets to start from.

    Returns:
        The problem as it is near the weights that come out, and the run.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
        NotConverged: If what depends on the weights does not settle.
    """
    begun = time.perf_counter()
    bar.records = int((problem.design_weights > 0).sum())

    def solve(
        near: Problem, prices: Vector | None
    ) -> tuple[Solution, Vector, tuple[Structure, tuple[Part, ...]]]:
        there = structure if moving.is_nothing else structure.of(near, settings)
        solution, parts = there.solve(
            settings,
            max_iter=max_iter,
            progress=bar.show,
            start_prices=start_prices if prices is None else prices,
        )
        return solution, near.weights_of(there.of_records(solution.ratio)), (there, parts)

    problem, solution, weights, (there, parts) = to_convergence(
        problem, moving, problem.design_weights, solve
    )
    solved = there.problem
    dense = Run(
        weights=weights,
        optimum=Optimum(
            solved,
            settings.distance,
            settings.closeness,
            solution,
            record_index=np.arange(solved.n_records),
            n_records=solved.n_records,
            selection=None,
            loss=settings.loss,
        ),
        parts=parts,
        probabilities=np.ones(problem.n_records),
        history=history_rows(solution, bar.records),
        trails=[PhaseTrail("dense", solution.step_errors, weights)],
        seconds={"dense": time.perf_counter() - begun},
    )
    if settings.budget is None or solution.status is Status.CANCELLED:
        return problem, dense
    drawn_at = time.perf_counter()
    if there.cluster is not None:
        weights = solved.weights_of(solution.ratio)
    try:
        draw = draw_records(solved, settings, settings.budget, weights, bar)
    except KeyboardInterrupt:
        return problem, dense.cancelled()
    seconds = {"draw": time.perf_counter() - drawn_at}
    return _refitted(problem, settings, there, moving, dense, draw, seconds, max_iter, bar)


def _refitted(
    problem: Problem,
    settings: Settings,
    structure: Structure,
    moving: Moving,
    dense: Run,
    draw: Draw,
    seconds: dict[str, float],
    max_iter: int,
    bar: ProgressBar,
) -> tuple[Problem, Run]:
    """The survivors of a draw, calibrated from where it starts them."""
    begun = time.perf_counter()
    kept = np.zeros(structure.problem.n_records, dtype=np.bool_)
    kept[draw.record_index] = True
    bar.records = int((structure.of_records(kept) & (problem.design_weights > 0)).sum())

    def solve(near: Problem, _: Vector | None) -> tuple[Solution, Vector, Structure]:
        there = structure if moving.is_nothing else structure.of(near, settings)
        solution, weights = refit_records(there.problem, settings, draw, max_iter, bar)
        return solution, there.weights_of_records(near, weights), there

    problem, solution, weights, there = to_convergence(problem, moving, dense.weights, solve)
    optimum = dataclasses.replace(
        dense.optimum,
        problem=survivors_of(there.problem, draw),
        closeness=settings.refit_closeness,
        solution=solution,
        record_index=draw.record_index,
        selection=settings.selection,
    )
    trail = PhaseTrail("refit", solution.step_errors, weights)
    return problem, dataclasses.replace(
        dense,
        weights=weights,
        optimum=optimum,
        probabilities=structure.of_records(draw.probabilities),
        history=[*dense.history, *history_rows(solution, bar.records)],
        trails=[*dense.trails, trail],
        seconds={**dense.seconds, **seconds, "refit": time.perf_counter() - begun},
    )
