"""The dense solve without some of the targets, done once, and the draws and refits from it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.calibration import Calibration
from microcalibrate.engine.solving import checked_prices, solve
from microcalibrate.errors import InvalidOption
from microcalibrate.evaluation.folds import Index, checked_positions, without_targets
from microcalibrate.problem import Problem
from microcalibrate.progress import ProgressBar
from microcalibrate.reduction import draw_records, refit_records
from microcalibrate.result import Status, effective_sample_size
from microcalibrate.settings import Settings

# Options that a fold keeps for its draws; the dense solve has no use for them.
OF_THE_CHOICE = ("refit_closeness", "selection", "temperature", "device")


@dataclass(frozen=True, eq=False)
class Dense:
    """What draws start from: the solve on all records, without the targets of a fold.

    Attributes:
        weights: Shape `(n_records,)`.
        status: How the solve ended.
        prices: Of the targets of the whole problem, shape `(n_targets,)`, 0 for those left out;
            None where they were not kept.
    """

    weights: Vector
    status: Status
    prices: Vector | None = None


@dataclass(frozen=True, eq=False)
class Refit:
    """Weights that never saw the targets of a fold, and how far off they are.

    Attributes:
        weights: Shape `(n_records,)`, exact zeros for dropped records.
        errors: `(estimate - target) / scale` of every target, shape `(n_targets,)`, signed.
        held_out_index: Targets that had no influence on the weights, shape `(n_held_out,)`.
        status: How the last solve ended.
        seed: Of the draw.
    """

    weights: Vector
    errors: Vector
    held_out_index: Index
    status: Status
    seed: int

    @property
    def n_records(self) -> int:
        """How many records have weight."""
        return int(np.count_nonzero(self.weights))

    @property
    def kish(self) -> float:
        """Kish's effective sample size, in records."""
        return effective_sample_size(self.weights)

    @property
    def capped_errors(self) -> Vector:
        """Absolute relative error of every target, each capped at 1, shape `(n_targets,)`."""
        return np.minimum(np.abs(self.errors), 1.0)

    @property
    def held_out_error(self) -> float:
        """Mean capped error of the held-out targets, in [0, 1]; NaN where none is held out."""
        held_out = self.capped_errors[self.held_out_index]
        return float(held_out.mean()) if held_out.size else float("nan")

    @property
    def train_error(self) -> float:
        """Mean capped error of the targets calibrated to, in [0, 1]."""
        return float(np.delete(self.capped_errors, self.held_out_index).mean())


class FoldSolve:
    """The dense solve on all targets but a fold's, from which draws and refits start.

    Args:
        problem: The whole problem, checked.
        held_out_index: Positions of the targets to leave out; none is the whole problem.
        max_iter: Most Newton steps of each solve.
        bar: Where progress is shown.
        kappa: Price of concentrated weights when records are chosen.
        dense: The dense solve, if it was done before with the same options; then none is done.
        start_prices: Prices of all targets, shape `(n_targets,)`, such as `dense.prices` of the
            whole problem: the same solve in fewer steps.
        **options: Further options of `Calibration` that are not about targets, weights or
            bounds: `distance`, `loss`, `closeness`, `refit_closeness`, `selection`, `temperature`,
            `device`. Those of the draw can be given anew in `refit`.

    Attributes:
        problem: The whole problem.
        held_out_index: Positions of the targets left out, ascending.
        dense: Weights, status and prices of the dense solve, without these targets.

    Raises:
        InvalidOption: If all targets are left out, an option is out of its range, or
            `start_prices` are not one finite number per target.
        InfeasibleTargets: If the other targets cannot all hold within bounds and tolerances.
        KeyboardInterrupt: If Ctrl-C ended a solve: half a comparison is none.

    Examples:
        >>> problem = Problem.build([1.0, 1.0], [3.0, 5.0], [[1.0, 0.0], [0.0, 1.0]])
        >>> fold = FoldSolve(problem, np.array([1]))
        >>> fold.refit().weights.round(2)
        array([3., 1.])
    """

    def __init__(
        self,
        problem: Problem,
        held_out_index: Index,
        *,
        max_iter: int = 1000,
        bar: ProgressBar | None = None,
        kappa: float = 1.0,
        dense: Dense | None = None,
        start_prices: Any = None,
        **options: Any,
    ) -> None:
        self.problem = problem
        self.held_out_index = checked_positions(held_out_index, problem.n_targets)
        if not isinstance(max_iter, (int, np.integer)) or max_iter < 1:
            raise InvalidOption(f"max_iter={max_iter!r} must be a whole number from 1.")
        self._kappa = kappa
        self._max_iter = max_iter
        self._bar = bar or ProgressBar(False)
        self._refit_closeness = options.get("refit_closeness")
        choice = {name: options.pop(name) for name in OF_THE_CHOICE if name in options}
        calibration = Calibration(**without_targets(problem, self.held_out_index), **options)
        self._calibrated_to, self._settings = calibration.problem, calibration.settings
        self._settings = self._checked(self._calibrated_to, **choice)
        self._kept = np.delete(np.arange(problem.n_targets), self.held_out_index)
        if start_prices is not None:
            start_prices = checked_prices(start_prices, problem.n_targets)[self._kept]
        self.dense = dense or self._solved(start_prices)

    @property
    def dense_weights(self) -> Vector:
        """Weights of the dense solve, shape `(n_records,)`."""
        return self.dense.weights

    def varied(
        self, *, closeness: float, max_ratio: Vector, dense: Dense | None = None
    ) -> FoldSolve:
        """The same fold with another price of distance and other bounds; the matrix is shared.

        Args:
            closeness: Price of distance in the dense solve; the refit's is ten times that where
                none was given.
            max_ratio: Greatest calibrated over design weight, shape `(n_records,)`.
            dense: Its dense solve, if that was done before.

        Returns:
            The other fold, solved.
        """
        other = copy.copy(self)
        other.problem = dataclasses.replace(self.problem, max_ratio=max_ratio)
        other._calibrated_to = dataclasses.replace(self._calibrated_to, max_ratio=max_ratio)
        other._settings = self._checked(other._calibrated_to, closeness=closeness)
        other.dense = dense or other._solved()
        return other

    def _solved(self, start_prices: Vector | None = None) -> Dense:
        part, settings = self._calibrated_to, self._settings
        self._bar.records = int((part.design_weights > 0).sum())
        solution = solve(
            part,
            settings.distance,
            loss=settings.loss,
            closeness=settings.closeness,
            max_iter=self._max_iter,
            progress=self._bar.show,
            start_prices=start_prices,
        ).unless_cancelled()
        prices = np.zeros(self.problem.n_targets)
        prices[self._kept] = solution.prices
        return Dense(part.weights_of(solution.ratio), solution.status, prices)

    def _checked(self, part: Problem, **changed: Any) -> Settings:
        """Own options, some of them changed, checked together."""
        own = self._settings
        options: dict[str, Any] = {
            "l0_lambda": 0.0,
            "target_records": None,
            "kappa": self._kappa,
            "distance": own.distance,
            "loss": own.loss,
            "closeness": own.closeness,
            "refit_closeness": self._refit_closeness,
            "selection": own.selection,
            "temperature": own.temperature,
            "seed": 0,
            "device": own.device,
        }
        return Settings.checked(part, **{**options, **changed})

    def refit(
        self,
        l0_lambda: float = 0.0,
        target_records: int | None = None,
        *,
        seed: int = 0,
        **options: Any,
    ) -> Refit:
        """Draw records by a price or a count, and calibrate them to the targets that are not out.

        Args:
            l0_lambda: Price of records; 0 with no count keeps all, at their dense weights.
            target_records: Exact number of records, instead of a price.
            seed: Of the draw.
            **options: `kappa`, `selection`, `refit_closeness`, `temperature` or `device`, where
                they differ from those of the fold.

        Returns:
            The weights and their errors on all targets of the whole problem.

        Raises:
            InvalidOption: If an option is out of its range, or would need another dense solve.
            InfeasibleTargets: If so few records cannot meet the exact and banded targets.
        """
        if dense := {"distance", "closeness"} & set(options):
            raise InvalidOption(f"{min(dense)} is that of the dense solve: make another FoldSolve.")
        settings = self._checked(
            self._calibrated_to,
            l0_lambda=l0_lambda,
            target_records=target_records,
            seed=seed,
            **options,
        )
        budget = settings.budget
        if budget is None:
            return self._measured(self.dense.weights, self.dense.status, seed)
        part, bar = self._calibrated_to, self._bar
        draw = draw_records(part, settings, budget, self.dense.weights, bar)
        bar.records = len(draw.record_index)
        solution, weights = refit_records(part, settings, draw, self._max_iter, bar)
        status = solution.unless_cancelled().status
        return self._measured(weights, status, seed)

    def _measured(self, weights: Vector, status: Status, seed: int) -> Refit:
        errors = self.problem.errors(weights)
        return Refit(weights, errors, self.held_out_index, status, seed)


def solve_folds(problem: Problem, folds: Iterable[Index], **options: Any) -> Iterator[FoldSolve]:
    """The dense solve of each fold, one after the other.

    Args:
        problem: The whole problem, checked.
        folds: Positions of the targets of each fold, as `target_folds` gives them.
        **options: Those of `FoldSolve`.

    Yields:
        One solve per fold. A list keeps all, each with its part of the estimate matrix.

    Examples:
        >>> problem = Problem.build([1.0, 1.0], [3.0, 5.0], [[1.0, 0.0], [0.0, 1.0]])
        >>> [solved.refit().held_out_error for solved in solve_folds(problem, [[0], [1]])]
        [0.67, 0.80]
    """
    for fold in folds:
        yield FoldSolve(problem, fold, **options)
