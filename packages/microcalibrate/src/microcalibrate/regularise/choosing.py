"""Which candidates become offspring, and with what weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.engine.distances import RAKING
from microcalibrate.engine.solving import solve
from microcalibrate.errors import InfeasibleTargets
from microcalibrate.problem import Problem
from microcalibrate.regularise.slots import SlotColumn, slot_mask
from microcalibrate.result import Status

# What a lineage adds to a target that was met stays within this of what its source added: as near
# as the first where that is possible, so that weights hardly have to move afterwards.
NEARS = (0.005, 0.05)
NEAR = NEARS[-1]
# No offspring gets more than this multiple of its equal share, nor less than a fiftieth of it.
MOST_UNEVEN = 8.0
LEAST_SHARE = 0.02
# Price of uneven offspring in units of half the mean squared relative change of contributions.
EVENNESS = 1e-2


class Coordinates:
    """Places slot rows in a space in which unlike records are far apart (Gower's distance).

    A category that differs counts 1, a number its difference in standard deviations, at most 1;
    a cell that only one of two records has counts 1.

    Args:
        rows: Slot rows of the survey, for the scales of numbers.
        columns: Their columns.
    """

    def __init__(self, rows: pd.DataFrame, columns: Sequence[SlotColumn]) -> None:
        self._columns = tuple(columns)
        self._is_number = np.array([c.type in ("number", "integer") for c in self._columns])
        values = self.plain(rows)
        with np.errstate(invalid="ignore"):
            filled = ~np.isnan(values)
            count = np.maximum(filled.sum(axis=0), 1)
            mean = np.where(filled, values, 0).sum(axis=0) / count
            spread = np.sqrt(np.where(filled, (values - mean) ** 2, 0).sum(axis=0) / count)
        self._scale = np.where(self._is_number & (spread > 0), spread, 1.0)

    def of(self, rows: pd.DataFrame) -> Vector:
        """Coordinates, shape `(n_rows, n_columns)`; NaN where a cell is empty."""
        return self.scaled(self.plain(rows))

    def scaled(self, values: Vector) -> Vector:
        """Coordinates from what `plain` gave."""
        return np.asarray(values / self._scale, dtype=np.float64)

    def distances(self, place: Vector, others: Vector) -> Vector:
        """Mean distance of one record from others, shape `(n_others,)`, in [0, 1]."""
        apart = np.abs(others - place)
        one_empty = np.isnan(place) ^ np.isnan(others)
        differs = np.where(self._is_number, np.minimum(apart, 1.0), apart > 0)
        found = np.where(one_empty, 1.0, np.nan_to_num(differs, nan=0.0))
        return np.asarray(found.mean(axis=1), dtype=np.float64)

    def plain(self, rows: pd.DataFrame) -> Vector:
        """Values as numbers, categories as the positions of their levels."""
        mask = slot_mask(rows, self._columns)
        values = np.full((len(rows), len(self._columns)), np.nan)
        for position, column in enumerate(self._columns):
            stored = rows[column.name]
            if column.type == "category":
                codes = stored.cat.codes.to_numpy().astype(np.float64)
                values[:, position] = np.where(codes < 0, np.nan, codes)
            else:
                values[:, position] = stored.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        return np.where(mask, values, np.nan)


def chosen(
    coordinates: Coordinates, places: Vector, groups: NDArray[Any], k: int
) -> NDArray[np.intp]:
    """Up to `k` candidates that are far from each other.

    Greedy: the next one is that whose nearest among those chosen is furthest, the first one that
    which is furthest from all others on average. One of each group comes before all others, so
    that each is represented as far as `k` allows. The unit that they are made from has no say, so
    nothing of it that is not held leaks into the choice.

    Args:
        coordinates: Space of the records.
        places: Those of the candidates, shape `(n_candidates, n_columns)`.
        groups: Group of each candidate, shape `(n_candidates,)`.
        k: How many.

    Returns:
        Their positions, ascending.
    """
    nearest = np.array([coordinates.distances(place, places).mean() for place in places])
    taken: list[int] = []
    left = np.ones(len(places), dtype=np.bool_)

    def take(allowed: NDArray[np.bool_]) -> None:
        best = int(np.argmax(np.where(allowed, nearest, -1.0)))
        taken.append(best)
        left[best] = False
        apart = coordinates.distances(places[best], places)
        nearest[:] = apart if len(taken) == 1 else np.minimum(nearest, apart)

    for group in dict.fromkeys(groups.tolist()):
        if len(taken) < k:
            take(left & (groups == group))
    while len(taken) < k and left.any():
        take(left)
    return np.sort(np.array(taken, dtype=np.intp))


def shared_weights(
    weight: float,
    rows: Any,
    source_row: Any,
    met: NDArray[np.bool_],
    scales: Vector,
    most_uneven: float = MOST_UNEVEN,
) -> tuple[Vector, bool]:
    """How offspring share a weight: evenly, as far as the targets that are met stay met.

    The total is exact. What the offspring add to each target that is met stays within 5% of what
    their source added, where weights exist that do that; else it comes as near as can be.

    Args:
        weight: Of the source, positive.
        rows: What each offspring adds to each target, shape `(n_offspring, n_targets)`.
        source_row: What the source added, shape `(n_targets,)`.
        met: Which targets are met, shape `(n_targets,)`.
        scales: What an error of 1 means in each target.
        most_uneven: Largest multiple of its equal share that an offspring gets, above 1.

    Returns:
        Weights, shape `(n_offspring,)`, and whether all contributions are within 5%.

    Examples:
        >>> rows = np.array([[1.0], [3.0]])
        >>> weights, is_near = shared_weights(10.0, rows, np.array([1.6]), np.array([True]), [16.0])
        >>> is_near, float(weights.sum())
        (True, 10.0)
    """
    dense = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows, dtype=np.float64)
    source = np.asarray(source_row, dtype=np.float64).ravel()
    n = len(dense)
    even = np.full(n, weight / n)
    given = weight * source
    reached = np.abs(dense).sum(axis=0) > 0
    counts = met & reached
    # A share of nothing is nothing: a target that the source does not add to is kept low softly.
    is_zero = (np.abs(given) <= 1e-6 * np.asarray(scales))[counts]
    # Relative to what offspring could add at most, where the source adds little or nothing.
    most = weight * np.abs(dense[:, counts]).max(axis=0)
    size = np.where(is_zero, most, np.abs(given[counts]))
    if n == 1 or not counts.any():
        return even, not (met & (given != 0) & ~reached).any()

    def solved(tolerance: float) -> Vector | None:
        problem = Problem.build(
            even,
            np.r_[weight, given[counts]],
            np.column_stack([np.ones(n), dense[:, counts]]),
            scales=np.r_[weight, size],
            tolerances=np.r_[0.0, np.where(is_zero, np.nan, tolerance)],
            min_weight_ratio=LEAST_SHARE,
            max_weight_ratio=most_uneven,
        )
        try:
            solution = solve(problem, RAKING, closeness=EVENNESS)
        except InfeasibleTargets:
            return None
        if solution.status is Status.CANCELLED:
            raise KeyboardInterrupt
        return np.asarray(solution.ratio * even, dtype=np.float64)

    found = None
    for tolerance in (*NEARS, np.nan):
        found = solved(tolerance) if found is None else found
    if found is None:
        found = even
    found = found * (weight / found.sum())
    after = found @ dense[:, counts]
    apart = np.abs(after - given[counts])[~is_zero]
    return found, bool((apart <= (NEAR + 1e-6) * size[~is_zero]).all())
