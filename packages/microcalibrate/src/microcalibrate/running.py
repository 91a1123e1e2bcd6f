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
from microcalibrate.result import Status
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


def run_dense(
    problem: Problem,
    settings: Settings,
    structure: Structure,
    *,
    max_iter: int,
    bar: ProgressBar,
    start_prices: Any = None,
) -> Run:
    """Calibrate all records.

    Args:
        problem: The targets and records.
        settings: Options of the calibration.
        structure: Clusters and parts of the records.
        max_iter: Most Newton steps.
        bar: Where steps are shown.
        start_prices: Prices of all targets to start from.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
    """
    begun = time.perf_counter()
    bar.records = int((problem.design_weights > 0).sum())
    solution, parts = structure.solve(
        settings, max_iter=max_iter, progress=bar.show, start_prices=start_prices
    )
    weights = problem.weights_of(structure.of_records(solution.ratio))
    solved = structure.problem
    return Run(
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
        trails=[PhaseTrail("dense", solution.step_errors, problem.estimates(weights))],
        seconds={"dense": time.perf_counter() - begun},
    )


def run_reduced(
    dense: Run, problem: Problem, settings: Settings, *, max_iter: int, bar: ProgressBar
) -> Run:
    """Draw the records that stay, and calibrate them from where the draw starts them.

    Args:
        dense: The calibration of all records; returned where a price or a number of records is
            not asked for, or it was cancelled.
        problem: The targets and records.
        settings: Options of the calibration.
        max_iter: Most Newton steps.
        bar: Where steps are shown.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold on these records.
    """
    if settings.budget is None or dense.solution.status is Status.CANCELLED:
        return dense
    drawn_at = time.perf_counter()
    try:
        draw = draw_records(problem, settings, settings.budget, dense.weights, bar)
    except KeyboardInterrupt:
        cancelled = dataclasses.replace(dense.solution, status=Status.CANCELLED)
        return dataclasses.replace(
            dense, optimum=dataclasses.replace(dense.optimum, solution=cancelled)
        )
    bar.records = len(draw.record_index)
    refit_at = time.perf_counter()
    solution, weights = refit_records(problem, settings, draw, max_iter, bar)
    return dataclasses.replace(
        dense,
        weights=weights,
        optimum=dataclasses.replace(
            dense.optimum,
            problem=survivors_of(problem, draw),
            closeness=settings.refit_closeness,
            solution=solution,
            record_index=draw.record_index,
            selection=settings.selection,
        ),
        probabilities=draw.probabilities,
        history=[*dense.history, *history_rows(solution, bar.records)],
        trails=[
            *dense.trails,
            PhaseTrail("refit", solution.step_errors, problem.estimates(weights)),
        ],
        seconds={
            **dense.seconds,
            "draw": refit_at - drawn_at,
            "refit": time.perf_counter() - refit_at,
        },
    )
