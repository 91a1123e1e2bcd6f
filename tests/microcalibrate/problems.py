"""Problems that several tests share, as plain functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate import Calibration
from microcalibrate.engine.distances import distance_named

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """The three arguments of a calibration.

    Attributes:
        weights: Design weights, shape `(n_records,)`.
        targets: Shape `(n_targets,)`.
        matrix: Shape `(n_records, n_targets)`.
    """

    weights: Vector
    targets: Vector
    matrix: Matrix


def feasible(seed: int, n_records: int = 60, n_targets: int = 5, spread: float = 0.3) -> Data:
    """Counts and totals that some ratios in `[1 - spread, 1 + spread]` reproduce exactly."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(1, 20, n_records)
    counts = rng.random((n_records, n_targets // 2)) < 0.4
    totals = rng.lognormal(0, 0.6, (n_records, n_targets - n_targets // 2))
    matrix = np.hstack([counts, totals]).astype(np.float64)
    matrix[: n_targets // 2, : n_targets // 2] = np.eye(n_targets // 2)
    ratio = rng.uniform(1 - spread, 1 + spread, n_records)
    return Data(weights, matrix.T @ (weights * ratio), matrix)


def conflicting(seed: int, n_records: int = 60, n_targets: int = 6, noise: float = 0.3) -> Data:
    """Targets that no positive weights meet: the first three columns add up, their targets not."""
    data = feasible(seed, n_records, n_targets)
    rng = np.random.default_rng(seed + 1_000)
    matrix = data.matrix.copy()
    matrix[:, 2] = matrix[:, 0] + matrix[:, 1]
    targets = matrix.T @ data.weights * rng.lognormal(0, noise, n_targets)
    targets[2] = 1.3 * (targets[0] + targets[1])
    return Data(data.weights, targets, matrix)


def survey(seed: int, n_records: int = 1_500, n_targets: int = 40) -> Data:
    """A medium survey: skewed incomes, one-hot areas, and targets some of which disagree."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(3, 0.5, n_records)
    areas = np.eye(n_targets // 2)[rng.integers(n_targets // 2, size=n_records)]
    income = rng.lognormal(3, 1, (n_records, n_targets - n_targets // 2))
    income *= rng.random(income.shape) < 0.3
    matrix = np.hstack([areas, income])
    truth = weights * rng.lognormal(0, 0.3, n_records)
    return Data(weights, matrix.T @ truth * rng.lognormal(0, 0.02, n_targets), matrix)


def calibrated(data: Data, **options: Any) -> Calibration:
    """A calibration that has been run and has converged."""
    calibration = Calibration(data.weights, data.targets, data.matrix, **options)
    calibration.calibrate(progress=False)
    assert calibration.result.converged
    return calibration


def ratio_of(calibration: Calibration) -> Vector:
    """Calibrated over design weights, shape `(n_records,)`."""
    return np.asarray(calibration.weights / calibration.problem.design_weights)


def scaled_columns(calibration: Calibration) -> Matrix:
    """`a_ij = x_ij d_i / scale_j`, shape `(n_records, n_targets)`: errors are `a.T @ ratio - b`."""
    problem = calibration.problem
    matrix = problem.estimate_matrix
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return np.asarray(dense * problem.design_weights[:, None] / problem.scales)


def share_of(calibration: Calibration) -> Vector:
    """What a unit of distance of each record costs, shape `(n_records,)`."""
    problem = calibration.problem
    closeness = calibration.result.settings["closeness"] if problem.is_soft.any() else 1.0
    return np.asarray(closeness * problem.design_weights / problem.design_weights.sum())


def objective_of(calibration: Calibration, ratio: Vector) -> float:
    """Distance plus half the mean squared error of soft targets, written out anew."""
    problem = calibration.problem
    distance = distance_named(calibration.result.settings["distance"])
    distance = distance.between(problem.min_ratio, problem.max_ratio)
    error = scaled_columns(calibration).T @ ratio - problem.targets / problem.scales
    soft = problem.is_soft
    misfit = 0.5 * (problem.importances[soft] * error[soft] ** 2).sum()
    return float(share_of(calibration) @ distance.value(ratio) + misfit)


def dual_value_of(calibration: Calibration) -> float:
    """A bound that no weights can beat, from the prices alone (weak duality)."""
    problem, prices = calibration.problem, calibration.result.targets["price"].to_numpy()
    distance = distance_named(calibration.result.settings["distance"])
    share, charge = share_of(calibration), scaled_columns(calibration) @ prices
    distance = distance.between(problem.min_ratio, problem.max_ratio)
    best = np.clip(distance.inverse_slope(-charge / share), problem.min_ratio, problem.max_ratio)
    value = (
        share @ distance.value(best) + charge @ best - prices @ (problem.targets / problem.scales)
    )
    soft = problem.is_soft
    value -= 0.5 * (prices[soft] ** 2 / problem.importances[soft]).sum()
    return float(value - np.abs(prices[~soft]) @ problem.tolerances[~soft])
