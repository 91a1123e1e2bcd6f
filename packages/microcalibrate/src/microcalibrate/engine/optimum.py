"""A solve together with what it was of: what standard errors and replicates stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.engine.distances import Distance
from microcalibrate.engine.losses import SQUARED, Loss
from microcalibrate.engine.solving import Solution
from microcalibrate.problem import Problem

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Optimum:
    """The last solve of a calibration.

    Attributes:
        problem: What was solved: for chosen records the refit, whose design weights are those
            that the draw starts them from.
        distance: What closeness to design weights means.
        closeness: Its price.
        solution: Ratios and prices.
        record_index: Positions of the problem's records among all, shape `(n_solved,)`.
        n_records: How many records there are in all.
        selection: How records were chosen, or None where all stayed.
        loss: What errors of soft targets cost.
    """

    problem: Problem
    distance: Distance
    closeness: float
    solution: Solution
    record_index: npt.NDArray[np.int64]
    n_records: int
    selection: str | None
    loss: Loss = SQUARED

    @property
    def weights(self) -> Vector:
        """Calibrated weights of all records, shape `(n_records,)`, zero where not chosen."""
        return self.spread(self.problem.weights_of(self.solution.ratio))

    def spread(self, values: Any) -> Vector:
        """Values of the problem's records, `(n_solved, …)`, among zeros for all others."""
        values = np.asarray(values, dtype=np.float64)
        if len(values) == self.n_records:
            return np.asarray(values)
        out = np.zeros((self.n_records, *values.shape[1:]))
        out[self.record_index] = values
        return np.asarray(out)
