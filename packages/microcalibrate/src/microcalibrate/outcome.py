"""From solves to a result: what a calibration went through, and the tables made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.solving import Solution
from microcalibrate.logs.history import PhaseTrail, history_of_targets
from microcalibrate.problem import Problem
from microcalibrate.record_options import RecordOptions
from microcalibrate.result import CalibrationResult, installed_versions, weight_statistics

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a calibration went through.

    Attributes:
        weights: Of all records, shape `(n_records,)`.
        probabilities: Chance of each record to be kept, shape `(n_records,)`.
        solution: The last solve.
        history: A row per step of every solve.
        trails: Errors of the targets along each solve.
        seconds: Wall time by phase.
        settings: Every option, in plain types.
        record_options: Those that differ by record.
    """

    weights: Vector
    probabilities: Vector
    solution: Solution
    history: list[dict[str, Any]]
    trails: list[PhaseTrail]
    seconds: dict[str, float]
    settings: dict[str, Any]
    record_options: RecordOptions

    def result(
        self, problem: Problem, families: Sequence[Any], record_ids: NDArray[Any]
    ) -> CalibrationResult:
        """The result, with its tables.

        Args:
            problem: What was calibrated.
            families: A family per target.
            record_ids: A label per record.
        """
        import pandas as pd

        before = problem.errors(problem.design_weights)
        return CalibrationResult(
            weights=self.weights,
            design_weights=problem.design_weights,
            record_ids=record_ids,
            inclusion_probabilities=self.probabilities,
            status=self.solution.status,
            gap=self.solution.gap,
            targets=_targets_table(problem, families, self.weights, self.solution.prices),
            history=pd.DataFrame(self.history),
            target_history=history_of_targets(
                self.trails, problem.target_names, problem.targets, problem.scales
            ),
            statistics={
                "before": weight_statistics(problem.design_weights, before),
                "after": weight_statistics(self.weights, problem.errors(self.weights)),
            },
            settings=self.settings,
            seconds=self.seconds,
            versions=installed_versions(),
            record_options=self.record_options,
        )


def _targets_table(
    problem: Problem, families: Sequence[Any], weights: Vector, prices: Vector
) -> pd.DataFrame:
    import pandas as pd

    initial, final = problem.estimates(problem.design_weights), problem.estimates(weights)
    return pd.DataFrame(
        {
            "name": problem.target_names,
            "family": families,
            "target": problem.targets,
            "initial": initial,
            "final": final,
            "initial_error": (initial - problem.targets) / problem.scales,
            "error": (final - problem.targets) / problem.scales,
            "price": prices,
            "scale": problem.scales,
            "tolerance": problem.tolerances,
            "importance": problem.importances,
        }
    )


def history_rows(solution: Solution, records: int) -> list[dict[str, Any]]:
    """A row per step of a solve, with the number of records in it."""
    return [{**dataclasses.asdict(step), "records": records} for step in solution.history]
