"""From all records to the few that stay: a draw by gates, and a refit of the survivors."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp

from microcalibrate.arrays import Vector, is_sparse
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.problem import Problem
from microcalibrate.progress import ProgressBar
from microcalibrate.selection.drawing import SAMPLED_GATES, SELECTIONS, Budget, Draw
from microcalibrate.settings import Settings

# No survivor of a selection ends with less than this share of the weight it was drawn with: a
# record that is simulated must carry something.
LEAST_SURVIVOR = 0.05


def draw_records(
    problem: Problem, settings: Settings, budget: Budget, dense_weights: Vector, bar: ProgressBar
) -> Draw:
    """Draw the records that stay.

    Args:
        problem: The targets and records.
        settings: How they are chosen, and the seed.
        budget: How many stay.
        dense_weights: Weights calibrated on all records, shape `(n_records,)`.
        bar: Where the training of gates shows its passes.

    Returns:
        Positions, inclusion probabilities and starting weights.
    """
    weights = _with_enough(problem, dense_weights, budget)
    if settings.selection != SAMPLED_GATES:
        return SELECTIONS[settings.selection](problem, weights, budget, settings.seed)
    from microcalibrate.selection.sampled_gates import PASSES, sampled_gates

    return sampled_gates(
        problem,
        weights,
        budget,
        settings.seed,
        temperature=settings.temperature,
        device=settings.device,
        progress=lambda number, loss: bar.show_pass(number, loss, PASSES),
    )


def refit_records(
    problem: Problem, settings: Settings, draw: Draw, max_iter: int, bar: ProgressBar
) -> tuple[Solution, Vector]:
    """Calibrate the survivors from where the draw starts them.

    Args:
        problem: The targets and records.
        settings: Distance and closeness of the refit.
        draw: The survivors.
        max_iter: Most Newton steps.
        bar: Where the steps are shown.

    Returns:
        The solution on the survivors, and weights of all records, shape `(n_records,)`, exact
        zeros for those dropped.

    Raises:
        InfeasibleTargets: If exact or banded targets cannot all hold on these records.
    """
    kept = draw.record_index
    survivors = survivors_of(problem, draw)
    solution = solve(
        survivors,
        settings.distance,
        loss=settings.loss,
        closeness=settings.refit_closeness,
        max_iter=max_iter,
        phase="refit",
        progress=bar.show,
    )
    weights = np.zeros(problem.n_records)
    weights[kept] = survivors.weights_of(solution.ratio)
    return solution, weights


def survivors_of(problem: Problem, draw: Draw) -> Problem:
    """The problem of the refit: the survivors, from where the draw starts them."""
    kept = draw.record_index
    # Bounds on the ratio to a design weight count from that of the record's whole stratum:
    # d / pi. The refit works on the ratio to its own start.
    probability = np.maximum(draw.probabilities[kept], 1e-12)
    stratum_weight = problem.design_weights[kept] / probability
    unit = stratum_weight / draw.start_weights
    upper = problem.max_ratio[kept] * unit
    lower = np.minimum(np.maximum(problem.min_ratio[kept] * unit, LEAST_SURVIVOR), upper)
    rows = problem.estimate_matrix[kept]
    return dataclasses.replace(
        problem,
        design_weights=draw.start_weights,
        estimate_matrix=sp.csr_array(rows) if is_sparse(rows) else rows,
        min_ratio=lower,
        max_ratio=upper,
        min_weight=problem.min_weight[kept],
        max_weight=problem.max_weight[kept],
        frozen=problem.frozen[kept],
        heteroscedasticity=problem.heteroscedasticity[kept],
    )


def _with_enough(problem: Problem, weights: Vector, budget: Budget) -> Vector:
    """The dense weights; where fewer records have any than are asked for, a little for all."""
    if budget.records is None or int((weights > 0).sum()) >= budget.records:
        return weights
    share = np.minimum(np.maximum(LEAST_SURVIVOR, problem.lower_ratio), problem.upper_ratio)
    return np.maximum(weights, share * problem.design_weights)
