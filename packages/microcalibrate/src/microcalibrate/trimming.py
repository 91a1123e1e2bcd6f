"""Calibrated trimming: weights below a cap, with every total as it was.

Cutting large weights off changes the totals, calibrating again brings large weights back, and
loops of both need not end. Both are wanted of the same weights: so they are one solve, from the
weights as they are, with the cap as a bound and the totals as exact targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import checked_matrix, checked_weights
from microcalibrate.engine.distances import Distance, distance_named
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.errors import InvalidOption, NotConverged
from microcalibrate.problem import Problem

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrimmedWeights:
    """Trimmed weights, and what became of them.

    Attributes:
        weights: Shape `(n_records,)`: none above the cap, totals as before.
        max_weight: The cap, one number or one per record.
        n_trimmed: How many weights were above it.
        n_on_cap: How many are on it now.
        solution: The solve, with its certificate and the prices of the totals.
    """

    weights: Vector
    max_weight: float | Vector
    n_trimmed: int
    n_on_cap: int
    solution: Solution


def trim(
    weights: Any,
    estimate_matrix: Any,
    *,
    max_weight: Any = None,
    quantile: float | None = None,
    multiple: float | None = None,
    min_weight: Any = None,
    tolerances: Any = 0.0,
    target_names: Sequence[str] | None = None,
    distance: str | Distance = "chi2",
    heteroscedasticity: Any = None,
    max_iter: int = 1000,
) -> TrimmedWeights:
    """Bring weights below a cap without a change of totals.

    Args:
        weights: Calibrated weights, shape `(n_records,)`; zeros stay zero.
        estimate_matrix: Columns whose totals are to stay, shape `(n_records, n_targets)`.
        max_weight: The cap: a number, or one per record.
        quantile: The cap as a quantile of the weights that are not zero, in `(0, 1)`.
        multiple: The cap as a multiple of their median, above 1.
        min_weight: Least weight of a record that has one; 0 where not given.
        tolerances: By what share of itself a total may change: 0 is not at all.
        target_names: Names of the columns, where the matrix has none, for messages.
        distance: What closeness to the weights before means.
        heteroscedasticity: Factors `q`; with the inverse of the weights, and one column of ones,
            what is cut off is shared out equally, as R's `trimWeights` does.
        max_iter: Most Newton steps.

    Returns:
        The weights nearest to those before, of all that keep cap and totals.

    Raises:
        InvalidOption: If there is not one cap, or it is out of its range.
        InfeasibleTargets: If no weights below the cap have these totals; it says which totals, and
            the least change with which some do.
        NotConverged: If the solve ended without its certificate.

    Examples:
        >>> trim([1.0, 1.0, 4.0], [[1.0], [1.0], [1.0]], max_weight=3.0).weights
        array([1.5, 1.5, 3. ])
    """
    before = checked_weights(weights)
    cap = _checked_cap(before, max_weight, quantile, multiple)
    matrix, names = checked_matrix(estimate_matrix, len(before), None)
    problem = Problem.build(
        before,
        np.asarray(matrix.T @ before),
        matrix,
        target_names=names if target_names is None else target_names,
        tolerances=tolerances,
        min_weight=min_weight,
        max_weight=cap,
        heteroscedasticity=heteroscedasticity,
    )
    if problem.is_soft.any():
        raise InvalidOption("tolerances must be numbers: a total that is soft is not kept.")
    solution = solve(problem, distance_named(distance), max_iter=max_iter).unless_cancelled()
    if not solution.status.is_certified:
        raise NotConverged(
            f"trimming ended before its certificate: {solution.status.value}", result=solution
        )
    after = problem.weights_of(solution.ratio)
    return TrimmedWeights(
        weights=after,
        max_weight=cap,
        n_trimmed=int((before > cap).sum()),
        n_on_cap=int(((after >= cap) & (after > 0)).sum()),
        solution=solution,
    )


def _checked_cap(
    weights: Vector, max_weight: Any, quantile: float | None, multiple: float | None
) -> float | Vector:
    given = {"max_weight": max_weight, "quantile": quantile, "multiple": multiple}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InvalidOption(
            f"give one cap: max_weight, quantile or multiple (given: {', '.join(named) or 'none'})."
        )
    used = weights[weights > 0]
    if quantile is not None:
        if not 0 < quantile < 1:
            raise InvalidOption(f"quantile={quantile!r} must be between 0 and 1.")
        return float(np.quantile(used, quantile))
    if multiple is not None:
        if not (np.isfinite(multiple) and multiple > 1):
            raise InvalidOption(f"multiple={multiple!r} of the median must be above 1.")
        return float(multiple * np.median(used))
    cap = np.asarray(max_weight, dtype=np.float64)
    return float(cap) if cap.ndim == 0 else cap
