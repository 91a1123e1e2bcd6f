"""From solves to a result: what a calibration went through, and the tables made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.solving import Solution
from microcalibrate.errors import InvalidOption
from microcalibrate.logs.history import PhaseTrail, State, history_of_targets
from microcalibrate.problem import Problem
from microcalibrate.record_options import RecordOptions
from microcalibrate.result import CalibrationResult, installed_versions, weight_statistics
from microcalibrate.result_tables import DECLARED_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.targets import Bands, Difference, Quotients

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
        self,
        problem: Problem,
        families: Sequence[Any],
        record_ids: NDArray[Any],
        *,
        differences: Sequence[Difference] = (),
        quotients: Quotients | None = None,
        bands: Bands | None = None,
    ) -> CalibrationResult:
        """The result, with its tables.

        Args:
            problem: What was calibrated.
            families: A family per target.
            record_ids: A label per record.
            differences: Targets that are differences of quotients.
            quotients: Targets that are quotients, in their own unit.
            bands: Those of them with a tolerance.
        """
        import pandas as pd

        before = problem
        if bands is not None:
            scales = bands.scales_at(problem.design_weights, problem.scales)
            before = dataclasses.replace(problem, scales=scales)
        states = States(problem, tuple(differences), quotients)
        start = dataclasses.replace(states, problem=before).at(problem.design_weights)
        end = states.at(self.weights)
        targets = _targets_table(before, problem, families, self.weights, self.solution.prices)
        for name, values in zip(
            DECLARED_COLUMNS, (states.targets, start.estimates, end.estimates), strict=True
        ):
            targets[name] = np.where(states.is_total, np.nan, values)
        return CalibrationResult(
            weights=self.weights,
            design_weights=problem.design_weights,
            record_ids=record_ids,
            inclusion_probabilities=self.probabilities,
            status=self.solution.status,
            gap=self.solution.gap,
            targets=targets,
            history=pd.DataFrame(self.history),
            target_history=history_of_targets(
                self.trails,
                problem.target_names,
                states.targets,
                start,
                [states.at(trail.weights) for trail in self.trails],
            ),
            statistics={
                "before": weight_statistics(
                    problem.design_weights, before.errors(problem.design_weights)
                ),
                "after": weight_statistics(self.weights, problem.errors(self.weights)),
            },
            settings=self.settings | {"n_differences": len(differences) or None},
            seconds=self.seconds,
            versions=installed_versions(),
            record_options=self.record_options,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class States:
    """What the targets of a problem shall be, and are at given weights, in their own units.

    Attributes:
        problem: What was calibrated.
        differences: Targets that are differences of quotients.
        quotients: Targets that are quotients.
    """

    problem: Problem
    differences: tuple[Difference, ...]
    quotients: Quotients | None

    @property
    def is_total(self) -> NDArray[np.bool_]:
        """Which targets are totals, shape `(n_targets,)`."""
        found = np.ones(self.problem.n_targets, dtype=np.bool_)
        found[[one.column for one in self.differences]] = False
        if self.quotients is not None:
            found[self.quotients.columns] = False
        return found

    @property
    def targets(self) -> Vector:
        """What they shall be, shape `(n_targets,)`."""
        found = self.problem.targets.copy()
        for one in self.differences:
            found[one.column] = one.value
        if self.quotients is not None:
            found[self.quotients.columns] = self.quotients.levels
        return found

    def at(self, weights: Vector) -> State:
        """What they are at some weights."""
        estimates, scales = self.problem.estimates(weights), self.problem.scales.copy()
        if self.quotients is not None:
            columns, denominated = self.quotients.columns, self.quotients.denominated(weights)
            estimates[columns] = self.quotients.at(estimates, weights)
            scales[columns] /= np.where(denominated == 0, np.nan, denominated)
        for one in self.differences:
            estimates[one.column] = one.at(weights)
        return State(estimates, scales)


def _targets_table(
    before: Problem, problem: Problem, families: Sequence[Any], weights: Vector, prices: Vector
) -> pd.DataFrame:
    """A row per target; errors at the design weights are in the scales of `before`."""
    import pandas as pd

    initial, final = problem.estimates(problem.design_weights), problem.estimates(weights)
    return pd.DataFrame(
        {
            "name": problem.target_names,
            "family": families,
            "target": problem.targets,
            "initial": initial,
            "final": final,
            "initial_error": (initial - problem.targets) / before.scales,
            "error": (final - problem.targets) / problem.scales,
            "price": prices,
            "scale": problem.scales,
            "tolerance": problem.tolerances,
            "importance": problem.importances,
        }
    )


def checked_quotients(quotients: Quotients | None, problem: Problem) -> Quotients | None:
    """Quotients that are targets of a problem.

    Raises:
        InvalidOption: If they are of other records, or of targets that it does not have.
    """
    if quotients is None:
        return None
    n_records, last = quotients.denominators.shape[0], int(quotients.columns.max(initial=0))
    if n_records != problem.n_records or last >= problem.n_targets:
        raise InvalidOption(
            f"quotients are of {n_records} records and target {last}, and there are "
            f"{problem.n_records} records and {problem.n_targets} targets. Hand over those of the "
            "targets that were built."
        )
    return quotients


def history_rows(solution: Solution, records: int) -> list[dict[str, Any]]:
    """A row per step of a solve, with the number of records in it."""
    return [{**dataclasses.asdict(step), "records": records} for step in solution.history]
