"""Do generated rows copy, or hug, the records that a generator learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microcalibrate.regularise.quality.pairs import middle_ranks
from microcalibrate.regularise.quality.samples import NUMERIC, Coded, Mask, Vector

BLOCK = 512


def exact_copies(rows: Coded, of: Coded, free: Sequence[str] | None = None) -> Mask:
    """Rows that equal one of some others in every free column.

    Args:
        rows: Rows to look at.
        of: Rows that they may be copies of.
        free: Columns to compare, all by default; leave out those that were conditions.

    Returns:
        Shape `(n_rows,)`.
    """
    places = [rows.position[name] for name in free] if free is not None else slice(None)
    known = {row.tobytes() for row in _canonical(of.values[:, places])}
    return np.array([row.tobytes() in known for row in _canonical(rows.values[:, places])])


def _canonical(values: Vector) -> Vector:
    """The same numbers with one NaN and one zero, so that equal rows have equal bytes."""
    return np.ascontiguousarray(np.where(np.isnan(values), np.nan, values + 0.0))


@dataclass(frozen=True, eq=False)
class Space:
    """Where rows are points: ranks of numbers in `[0, 1]`, and two points 1 apart for categories.

    Ranks are those among the cells of the rows that it was made from, so that one unusual amount
    does not rule the distance. A missing value is a category of its own; empty slots are at 0,
    and differ by their `present`.

    Attributes:
        scales: Sorted values and their ranks of each numeric column; None for other columns.
        n_levels: Levels of each other column; 0 for numeric ones.
    """

    scales: tuple[tuple[Vector, Vector] | None, ...]
    n_levels: tuple[int, ...]

    @classmethod
    def of(cls, sample: Coded) -> Space:
        """Space of real rows."""
        scales: list[tuple[Vector, Vector] | None] = []
        n_levels = []
        for place, column in enumerate(sample.columns):
            if column.type in NUMERIC:
                values = sample.values[:, place]
                kept = ~np.isnan(values)
                known, first = np.unique(values[kept], return_index=True)
                ranks = middle_ranks(values[kept], np.ones(int(kept.sum())))
                scales.append((known, ranks[first]))
                n_levels.append(0)
            else:
                scales.append(None)
                n_levels.append(2 if column.levels is None else len(column.levels))
        return cls(tuple(scales), tuple(n_levels))

    def points(self, sample: Coded) -> Vector:
        """Coordinates of rows, shape `(n_rows, n_coordinates)`."""
        parts = []
        for place, scale in enumerate(self.scales):
            values = sample.values[:, place]
            missing = sample.missing[:, place]
            if scale is None:
                levels = np.arange(self.n_levels[place])
                parts.append((values[:, None] == levels) * np.sqrt(0.5))
            else:
                known, ranks = scale
                placed = np.interp(values, known, ranks) if len(known) else np.zeros(len(values))
                parts.append(np.where(np.isnan(values), 0.0, placed)[:, None])
            if sample.columns[place].missing:
                parts.append((missing * np.sqrt(0.5))[:, None])
        return np.hstack(parts)


def nearest_distances(points: Vector, references: Vector) -> Vector:
    """Euclidean distance of each point to the nearest reference.

    Args:
        points: Shape `(n_points, n_coordinates)`.
        references: Shape `(n_references, n_coordinates)`.

    Examples:
        >>> nearest_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [6.0, 8.0]]))
        array([5.])
    """
    norms = (references**2).sum(1)
    found = np.empty(len(points))
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        nearest = np.argmin(norms - 2 * block @ references.T, axis=1)
        # Once more by differences: a copy has distance 0, and not what rounding leaves.
        found[start : start + BLOCK] = np.sqrt(((block - references[nearest]) ** 2).sum(1))
    return found


def weighted_percentile(values: Vector, weights: Vector, share: float) -> float:
    """Smallest value with at least a share of the weight at or below it.

    Examples:
        >>> weighted_percentile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), 0.5)
        2.0
    """
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    place = np.searchsorted(cumulated, share * cumulated[-1] * (1 - 1e-12))
    return float(values[order][min(place, len(values) - 1)])


def distance_figures(synthetic: Coded, train: Coded, holdout: Coded) -> dict[str, float]:
    """How near generated rows are to the rows that were learned from.

    Args:
        synthetic: Generated rows.
        train: Rows that the generator learned from.
        holdout: Real rows that it has not seen.

    Returns:
        `dcr_ratio`: 5th percentile of the distance of generated rows to their closest training
        record, over that of holdout rows. 1 where both are 0.
        `nearer_train_gap`: how far the share of generated rows that are nearer to a training than
        to a holdout row is from one half; both sides have the same number of rows, and ties count
        half. `nearer_train_share` is that share.
    """
    space = Space.of(train)
    made, learned, held = (space.points(part) for part in (synthetic, train, holdout))
    to_train = nearest_distances(made, learned)
    low = weighted_percentile(to_train, synthetic.weights, 0.05)
    real_low = weighted_percentile(nearest_distances(held, learned), holdout.weights, 0.05)
    n_rows = min(len(train), len(holdout))
    near, far = (nearest_distances(made, part[:n_rows]) for part in (learned, held))
    share = np.average((near < far) + 0.5 * (near == far), weights=synthetic.weights)
    ratio = 1.0
    if low > 0 or real_low > 0:
        ratio = low / max(real_low, float(np.finfo(np.float32).tiny))
    return {
        "dcr_ratio": float(ratio),
        "nearer_train_gap": float(abs(share - 0.5)),
        "nearer_train_share": float(share),
    }
