"""How far generated records must be from real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.regularise.quality import Sample
from microcalibrate.regularise.quality.limits import GATES, KNOWN_FAILURES
from microcalibrate.regularise.quality.privacy import (
    BLOCK,
    Space,
    nearest_distances,
    weighted_percentile,
)
from microcalibrate.regularise.quality.samples import Coded, Vector
from microcalibrate.regularise.slots import Mask, SlotColumn

METRIC = "dcr_ratio"
# Rows from which the distance of real records to each other is learned.
MOST_ROWS = 2_000
PERCENTILE = 0.05


@dataclass(frozen=True, eq=False)
class LeastDistance:
    """The distance to the closest record (DCR) that a generated record must keep.

    Attributes:
        space: Where records are points.
        points: Real records, shape `(n_records, n_coordinates)`.
        labels: Their ids.
        columns: Slot columns.
        least: The distance.
    """

    space: Space
    points: Vector
    labels: pd.Index[Any]
    columns: tuple[SlotColumn, ...]
    least: float

    @classmethod
    def of(
        cls, rows: pd.DataFrame, columns: Sequence[SlotColumn], weights: Vector, ratio: float
    ) -> LeastDistance:
        """A share of what real records keep from each other, at its 5th percentile.

        Args:
            rows: Slot rows of the survey as it came.
            columns: Their columns.
            weights: Of the rows.
            ratio: The share: the limit of the quality report of the model.
        """
        coded = Coded.of(Sample(rows, np.where(weights > 0, weights, 0.0)), columns)
        space = Space.of(coded)
        points = space.points(coded)
        every = -(-len(points) // MOST_ROWS)
        some = np.arange(0, len(points), every)
        own = distances_to_others(points, some)
        low = weighted_percentile(own, coded.weights[some], PERCENTILE)
        return cls(space, points, rows.index, tuple(columns), ratio * low)

    def is_kept(self, rows: pd.DataFrame, origins: pd.Index[Any]) -> Mask:
        """Which rows keep it from all real records but the one that they are made from.

        Args:
            rows: Generated slot rows.
            origins: Id of the record that each descends from.
        """
        if self.least <= 0 or not len(rows):
            return np.ones(len(rows), dtype=np.bool_)
        made = self.space.points(Coded.of(Sample(rows.reset_index(drop=True)), self.columns))
        kept = nearest_distances(made, self.points) >= self.least
        # A record may be near to its own origin: it shares cells with it on purpose.
        for place in np.flatnonzero(~kept):
            others = self.points[np.asarray(self.labels != origins[int(place)])]
            kept[place] = nearest_distances(made[[place]], others)[0] >= self.least
        return kept


def distances_to_others(points: Vector, some: NDArray[np.intp]) -> Vector:
    """Distance of some of the points to the nearest other one.

    Args:
        points: Shape `(n_points, n_coordinates)`.
        some: Which, shape `(n_some,)`.
    """
    norms = (points**2).sum(axis=1)
    found = np.empty(len(some))
    for start in range(0, len(some), BLOCK):
        rows = some[start : start + BLOCK]
        squares = norms - 2 * points[rows] @ points.T + norms[rows, None]
        squares[np.arange(len(rows)), rows] = np.inf
        found[start : start + BLOCK] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return found


def ratio_of(model: Any, backend: str) -> float | None:
    """Limit of the distance to the closest record in the report of a model.

    Args:
        model: A trained model with a report, or a generator without one.
        backend: Name of the generator.

    Returns:
        The limit that the report used, else that of the first gates; None for a generator that
        is known to copy by design, which no such limit fits.
    """
    if METRIC in KNOWN_FAILURES.get(backend, {}):
        return None
    gates = getattr(getattr(model, "quality", None), "gates", None)
    if gates is not None:
        found = gates.loc[gates["metric"] == METRIC, "limit"].dropna()
        if len(found):
            return float(found.iloc[0])
    return next((gate.limit for gate in GATES if gate.metric == METRIC), None)
