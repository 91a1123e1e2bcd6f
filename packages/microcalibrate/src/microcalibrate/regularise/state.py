"""The survey at one point of the loop, with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.diagnostics import Diagnosis, Surface, diagnose
from microcalibrate.diagnostics.frame import Frame
from microcalibrate.evaluation.folds import without_targets
from microcalibrate.problem import Problem
from microcalibrate.regularise.acceptance import Measures
from microcalibrate.regularise.footing import Footing
from microcalibrate.regularise.provenance import LINEAGE
from microcalibrate.regularise.recalibration import (
    Recalibration,
    recalibrate,
    solved_weights,
)
from microcalibrate.regularise.survey import Survey
from microcalibrate.regularise.target_rows import Evaluated, TargetSet, as_vector


@dataclass(frozen=True, eq=False)
class State:
    """A survey, its prior weights, and what its units add to the targets.

    Attributes:
        survey: With columns of provenance and the weights in use.
        prior: Weights that recalibration starts from, shape `(n_units,)`.
        matrix: What each unit adds to each target, shape `(n_units, n_targets)`.
        evaluated: Columns of a user's model, or None.
        diagnosis: Who carries too much.
        target_loss: Mean squared relative error of the targets.
        held_out_loss: That of targets in weights that they were held out of; NaN where none is.
        recalibration: The solve that gave the weights; None for weights as they came.
        ceilings: Largest weight of each unit, above which it would carry too much; infinite where
            none was needed, None where there are none.
        n_steps: Steps of the engine for all solves that led here from the state before.
    """

    survey: Survey
    prior: Vector
    matrix: Any
    evaluated: Evaluated | None
    diagnosis: Diagnosis
    target_loss: float
    held_out_loss: float
    recalibration: Recalibration | None = None
    ceilings: Vector | None = None
    n_steps: int = 0

    @property
    def weights(self) -> Vector:
        """Weight of each unit, shape `(n_units,)`."""
        return as_vector(self.survey.weights)

    @property
    def lineage(self) -> NDArray[Any]:
        """Origin of each unit, shape `(n_units,)`."""
        return np.asarray(self.survey.tables[self.survey.unit][LINEAGE].to_numpy())

    def measures(self, units: Any, origins: Any, footing: Footing) -> Measures:
        """Figures that rounds are judged by.

        Args:
            units: Ids of the records of the batch.
            origins: Their origins.
            footing: Statistics in which shares count.
        """
        records = self.diagnosis.records
        of_origins = records.loc[records["lineage"].isin(origins), "lineage_share"]
        return Measures(
            target_loss=self.target_loss,
            held_out_loss=self.held_out_loss,
            batch_share=footing.largest_share(self.diagnosis, units),
            batch_lineage_share=float(of_origins.max()) if len(of_origins) else 0.0,
            lineage_share=footing.largest_lineage_share(self.diagnosis),
        )


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What all states of a run are measured with; nothing in it changes.

    Attributes:
        surface: What is reported.
        diagnosing: Further options of `diagnose`; the seed in it fixes the reforms.
        targets: The targets.
        folds: Positions of the targets that are held out together.
        entropy_lambda: Price of entropy.
        cap: Largest weight, or None.
        footing: Statistics and limits of the survey as it came.
    """

    surface: Surface
    diagnosing: Mapping[str, Any]
    targets: TargetSet
    folds: tuple[Any, ...]
    entropy_lambda: float
    cap: float | None
    footing: Footing

    def frame(self, survey: Survey, evaluated: Evaluated | None) -> Frame:
        """Tables with the columns of a user's model."""
        tables = survey.tables if evaluated is None else evaluated.attached(survey.tables)
        return Frame(tables, survey.unit, survey.ids, survey.links)

    def diagnosed(self, survey: Survey, evaluated: Evaluated | None) -> Diagnosis:
        """The diagnosis of a survey with its weights in use."""
        return diagnose(
            self.frame(survey, evaluated),
            survey.weights,
            surface=self.surface,
            lineage=LINEAGE,
            progress=False,
            **self.diagnosing,
        )

    def recalibrated(
        self,
        prior: Vector,
        matrix: Any,
        ceilings: Vector | None = None,
        start_prices: Vector | None = None,
    ) -> Recalibration:
        """Weights from all targets.

        Args:
            prior: Weights to be close to, shape `(n_units,)`.
            matrix: What each unit adds to each target.
            ceilings: Largest weight of each unit.
            start_prices: Prices of a state nearby: the same weights in fewer steps.

        Raises:
            InfeasibleTargets: If hard targets cannot hold.
            InvalidProblem: If no record contributes to a target.
            NotConverged: If the solve has no certificate.
        """
        targets = self.targets
        return recalibrate(
            prior,
            targets.values,
            matrix,
            target_names=targets.names,
            tolerances=targets.tolerances,
            importances=targets.importances,
            scales=targets.scales,
            entropy_lambda=self.entropy_lambda,
            cap=self.cap,
            ceilings=ceilings,
            start_prices=start_prices,
        )

    def held_out_loss(
        self, problem: Problem, start_prices: Vector | None = None
    ) -> tuple[float, int]:
        """Mean squared relative error of targets in weights that know nothing of them.

        Args:
            problem: Prior, targets and bounds of all targets.
            start_prices: Prices of all targets, for fewer steps. The answer does not know of
                them: each fold has one optimum, and is solved to its certificate.

        Returns:
            The mean over all targets by importance, each in the weights of its fold, NaN where
            no target is held out; and the engine's steps.
        """
        if not self.folds:
            return float("nan"), 0
        errors, n_steps = np.zeros(problem.n_targets), 0
        for fold in self.folds:
            part = Problem.build(**without_targets(problem, fold))
            start = None if start_prices is None else np.delete(start_prices, fold)
            weights, steps = solved_weights(part, self.entropy_lambda, start_prices=start)
            errors[fold] = problem.errors(weights)[fold]
            n_steps += steps
        return self.targets.loss(errors), n_steps

    def target_loss(self, weights: Vector, matrix: Any) -> float:
        """Mean squared relative error of weights."""
        return self.targets.loss(self.errors(weights, matrix))

    def errors(self, weights: Vector, matrix: Any) -> Vector:
        """`(estimate - target) / scale` of each target, shape `(n_targets,)`."""
        estimates = np.asarray(matrix.T @ weights, dtype=np.float64)
        return (estimates - self.targets.values) / self.targets.scales
