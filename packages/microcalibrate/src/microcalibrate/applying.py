"""Fit once, apply later: the prices of a calibration give new records of the survey their weights.

At the optimum each ratio is what the prices of the targets make of the record's own row and
nothing else (Deville and Särndal 1992): the inverse of the distance's slope, clipped to the bounds.
So a record that comes later gets the ratio that it would have had, had it been there and had the
prices been the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from microcalibrate.arrays import Vector, is_sparse
from microcalibrate.clusters import cluster_index, clustered
from microcalibrate.engine.distances import DISTANCES, Distance, distance_named
from microcalibrate.errors import InvalidOption, InvalidProblem
from microcalibrate.problem import Problem
from microcalibrate.result import CalibrationResult

BOUNDS = ("min_weight_ratio", "max_weight_ratio", "min_weight", "max_weight")


def apply_prices(
    result: CalibrationResult,
    estimate_matrix: Any,
    design_weights: Any,
    *,
    cluster: Any = None,
    distance: Distance | None = None,
) -> Vector:
    """Weights of new records at the prices of a calibration that was done before.

    Args:
        result: Of a calibration of all records, computed or loaded.
        estimate_matrix: What each new record adds to each target, shape `(n_new, n_targets)`, in
            the order of the targets; columns of a DataFrame are found by name.
        design_weights: Of the new records, shape `(n_new,)`.
        cluster: A label per new record, where the calibration had clusters.
        distance: The distance of your own that the calibration had.

    Returns:
        Calibrated weights, shape `(n_new,)`, within the bounds of the calibration.

    Raises:
        InvalidOption: If the result does not say enough: records were chosen, options were given
            per record, targets were differences of quotients, or it has no certificate.
        InvalidProblem: If matrix and weights do not fit together, or to the targets.

    Examples:
        >>> from microcalibrate import Calibration
        >>> cal = Calibration([1.0, 1.0], [3.0], [[1.0], [1.0]], tolerances=0)
        >>> weights = cal.calibrate()
        >>> apply_prices(cal.result, [[1.0], [0.0]], [2.0, 2.0])
        array([3., 2.])
    """
    settings = result.settings
    _check_sufficient(result)
    known = _distance_of(settings["distance"], distance)
    names = tuple(map(str, result.targets["name"]))
    problem = Problem.build(
        design_weights,
        np.zeros(len(names)),
        _in_order(estimate_matrix, names),
        target_names=names,
        scales=result.targets["scale"].to_numpy(),
        **_bounds(result),
    )
    solved, index = problem, None
    if (settings.get("n_clusters") is None) != (cluster is None):
        raise InvalidOption(
            "the calibration gave all records of a cluster one ratio: name the clusters of the new "
            "records in `cluster`."
            if cluster is None
            else "the calibration had no clusters: leave `cluster` out."
        )
    if cluster is not None:
        index, _ = cluster_index(cluster, problem.n_records)
        solved = clustered(problem, index)
    ratio = _ratios(result, solved, known)
    return problem.weights_of(ratio if index is None else ratio[index])


def _ratios(result: CalibrationResult, problem: Problem, distance: Distance) -> Vector:
    """The best response of each record to the prices; what the engine's `Program` has too."""
    table = result.targets
    lower = np.maximum(problem.lower_ratio, distance.lower)
    upper = np.minimum(problem.upper_ratio, distance.upper)
    free = (problem.design_weights > 0) & (lower < upper)
    ratio = np.where(problem.design_weights > 0, np.clip(1.0, lower, upper), 0.0)
    # With hard targets alone the price of distance changes nothing, and the engine takes 1.
    closeness = result.settings["closeness"] if table["tolerance"].isna().any() else 1.0
    charged = problem.estimate_matrix[free] @ (table["price"] / table["scale"]).to_numpy()
    slope = -np.asarray(charged) * _total_spread(result, distance) / closeness
    form = distance.between(lower[free], upper[free])
    ratio[free] = np.clip(form.inverse_slope(slope), lower[free], upper[free])
    return np.asarray(ratio, dtype=np.float64)


def _total_spread(result: CalibrationResult, distance: Distance) -> float:
    """Design weight of the records that were free to move: what shares of it count from."""
    d = result.design_weights
    fitted = Problem.build(d, [0.0], np.zeros((len(d), 1)), **_bounds(result))
    lower = np.maximum(fitted.lower_ratio, distance.lower)
    upper = np.minimum(fitted.upper_ratio, distance.upper)
    return float(d[(d > 0) & (lower < upper)].sum())


def _bounds(result: CalibrationResult) -> dict[str, Any]:
    """The bounds on all records, as they were given."""
    found = {name: result.settings[name] for name in BOUNDS}
    return {name: -np.inf if value == "-inf" else value for name, value in found.items()}


def _check_sufficient(result: CalibrationResult) -> None:
    settings = result.settings
    reason = ""
    if settings.get("selection"):
        reason = "its records were chosen: those that stayed stand for others"
    elif settings.get("n_frozen"):
        reason = "it froze some records, and does not say how new ones are to be treated"
    elif settings.get("heteroscedasticity"):
        reason = "it had factors of heteroscedasticity per record, and new records have none"
    elif settings.get("n_differences"):
        reason = (
            "it met differences of means, ratios or shares, whose columns are derivatives at its "
            "own weights, and new records have others"
        )
    elif not result.converged:
        reason = f"it has no certificate ({result.status.name}), so its prices are not final"
    for name in BOUNDS:
        if settings[name] == "per record":
            reason = f"it had {name} per record, and new records have none"
    if reason:
        raise InvalidOption(
            f"the prices of this calibration cannot be applied to new records: {reason}. Calibrate "
            "old and new records together, or fit without it."
        )


def _distance_of(name: str, given: Distance | None) -> Distance:
    if given is not None and given.name != name:
        raise InvalidOption(
            f"the calibration had the distance {name!r}, not {given.name!r}. Pass that one, or "
            "leave `distance` out."
        )
    if given is None and name not in DISTANCES:
        raise InvalidOption(
            f"the calibration had a distance of your own, {name!r}: pass it as `distance`."
        )
    return distance_named(name if given is None else given)


def _in_order(estimate_matrix: Any, names: tuple[str, ...]) -> Any:
    """The matrix with its columns in the order of the targets, where it has names."""
    if is_sparse(estimate_matrix) or not hasattr(estimate_matrix, "columns"):
        return estimate_matrix
    columns = [str(column) for column in estimate_matrix.columns]
    absent = [name for name in names if name not in columns]
    if absent:
        raise InvalidProblem(
            f"the estimate matrix has no column {absent[0]!r} ({len(absent)} of {len(names)} "
            "missing): it must have one for each target of the calibration."
        )
    return estimate_matrix[[estimate_matrix.columns[columns.index(name)] for name in names]]
