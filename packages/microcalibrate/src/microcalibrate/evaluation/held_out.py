"""Calibration without some of the targets, and how well those are met all the same.

The dense solve on the other targets is done once; draws and refits start from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.calibration import Calibration
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.errors import InfeasibleTargets, InvalidOption
from microcalibrate.evaluation.folds import Index, checked_positions, without_targets
from microcalibrate.evaluation.tables import ALL_TARGETS, INFEASIBLE, known_mean
from microcalibrate.problem import Problem
from microcalibrate.progress import ProgressBar
from microcalibrate.reduction import draw_records, refit_records
from microcalibrate.result import Status, effective_sample_size
from microcalibrate.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


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
        **options: Further options of `Calibration` that are not about targets, weights or
            bounds: `distance`, `closeness`, `refit_closeness`, `selection`, `temperature`,
            `device`. Those of the draw can be given anew in `refit`.

    Attributes:
        problem: The whole problem.
        held_out_index: Positions of the targets left out, ascending.
        solution: The dense solution, without these targets.
        dense_weights: Its weights, shape `(n_records,)`.

    Raises:
        InvalidOption: If all targets are left out, or an option is out of its range.
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
        **options: Any,
    ) -> None:
        self.problem = problem
        self.held_out_index = checked_positions(held_out_index, problem.n_targets)
        if not isinstance(max_iter, (int, np.integer)) or max_iter < 1:
            raise InvalidOption(f"max_iter={max_iter!r} must be a whole number from 1.")
        self._kappa = kappa
        self._max_iter = max_iter
        self._bar = bar or ProgressBar(False)
        calibration = Calibration(**without_targets(problem, self.held_out_index), **options)
        self._calibrated_to, self._settings = calibration.problem, calibration.settings
        self._bar.records = int((problem.design_weights > 0).sum())
        settings = self._settings
        self.solution: Solution = solve(
            self._calibrated_to,
            settings.distance,
            closeness=settings.closeness,
            max_iter=max_iter,
            progress=self._bar.show,
        )
        _stop_if_cancelled(self.solution)
        self.dense_weights: Vector = self.solution.ratio * problem.design_weights

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
        own = self._settings
        chosen = {
            "kappa": self._kappa,
            "refit_closeness": own.refit_closeness,
            "selection": own.selection,
            "temperature": own.temperature,
            "device": own.device,
        }
        settings = Settings.checked(
            self._calibrated_to,
            l0_lambda=l0_lambda,
            target_records=target_records,
            distance=own.distance,
            closeness=own.closeness,
            seed=seed,
            **{**chosen, **options},
        )
        budget = settings.budget
        if budget is None:
            return self._measured(self.dense_weights, self.solution.status, seed)
        part, bar = self._calibrated_to, self._bar
        draw = draw_records(part, settings, budget, self.dense_weights, bar)
        bar.records = len(draw.record_index)
        solution, weights = refit_records(part, settings, draw, self._max_iter, bar)
        _stop_if_cancelled(solution)
        return self._measured(weights, solution.status, seed)

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


@dataclass(frozen=True, eq=False)
class Runs:
    """Every draw and refit from one dense solve.

    Attributes:
        held_out_index: Targets left out, shape `(n_held_out,)`.
        dense_weights: Shape `(n_records,)`.
        dense_status: How the dense solve ended.
        drawn: One refit per seed.
        random: A simple random sample of as many records for each of these, None where it could
            not meet the exact and banded targets; empty where none was asked for.
    """

    held_out_index: Index
    dense_weights: Vector
    dense_status: Status
    drawn: tuple[Refit, ...]
    random: tuple[Refit | None, ...]


@dataclass(frozen=True)
class Plan:
    """Which draws are made from each dense solve.

    Attributes:
        l0_lambda: Price of records.
        target_records: Exact number of records, or None.
        seeds: One draw each.
        with_random: Whether each is set beside a simple random sample of as many records.
    """

    l0_lambda: float
    target_records: int | None
    seeds: tuple[int, ...]
    with_random: bool

    def run(self, solved: FoldSolve) -> Runs:
        """Make the draws."""
        drawn = tuple(
            solved.refit(self.l0_lambda, self.target_records, seed=seed) for seed in self.seeds
        )
        random = tuple(_random_like(solved, refit) for refit in drawn if self.with_random)
        return Runs(
            solved.held_out_index, solved.dense_weights, solved.solution.status, drawn, random
        )

    def replicate(self, problem: Problem, number: int, **options: Any) -> Refit | None:
        """The whole calibration anew, with randomly reweighted records (Rubin 1981).

        Args:
            problem: The whole problem.
            number: Of the replicate, from 1; with the first seed it settles the random numbers.
            **options: Those of `FoldSolve`.

        Returns:
            The weights and their errors, or None where targets could not all hold.
        """
        seed = self.seeds[0]
        rng = np.random.default_rng([seed, number])
        design_weights = problem.design_weights * rng.exponential(size=problem.n_records)
        replicate = dataclasses.replace(problem, design_weights=design_weights)
        try:
            solved = FoldSolve(replicate, np.array([], dtype=np.int64), **options)
            return solved.refit(self.l0_lambda, self.target_records, seed=seed)
        except InfeasibleTargets:
            return None


def _random_like(solved: FoldSolve, refit: Refit) -> Refit | None:
    """A simple random sample of as many records, refitted the same way."""
    try:
        return solved.refit(
            target_records=refit.n_records,
            seed=refit.seed,
            selection="random",
            temperature=None,
            device=None,
        )
    except InfeasibleTargets:
        return None


def _stop_if_cancelled(solution: Solution) -> None:
    if solution.status is Status.CANCELLED:
        raise KeyboardInterrupt


def _moved(weights: Vector, reference: Vector) -> float:
    """Share of the reference's weight that lies elsewhere: half the sum of absolute changes."""
    return float(np.abs(weights - reference).sum() / (2 * np.abs(reference).sum()))


def _random_error(run: Runs) -> float:
    return known_mean(refit.held_out_error for refit in run.random if refit is not None)


def folds_table(problem: Problem, whole: Runs, parts: Sequence[Runs]) -> pd.DataFrame:
    """One row per fold, as `RobustnessResult.folds` says."""
    import pandas as pd

    before = np.minimum(np.abs(problem.errors(problem.design_weights)), 1)
    rows = []
    for number, part in enumerate(parts):
        held_out = known_mean(refit.held_out_error for refit in part.drawn)
        train = known_mean(refit.train_error for refit in part.drawn)
        pairs = zip(part.drawn, whole.drawn, strict=True)
        rows.append(
            {
                "fold": number,
                "n_targets": len(part.held_out_index),
                "held_out_error": held_out,
                "train_error": train,
                "gap": held_out - train,
                "design_error": float(before[part.held_out_index].mean()),
                "random_error": _random_error(part),
                "weight_change": _moved(part.dense_weights, whole.dense_weights),
                "final_weight_change": known_mean(_moved(a.weights, b.weights) for a, b in pairs),
                "records": known_mean(refit.n_records for refit in part.drawn),
                "kish": known_mean(refit.kish for refit in part.drawn),
            }
        )
    return pd.DataFrame(rows)


def targets_table(problem: Problem, labels: Any, parts: Sequence[Runs]) -> pd.DataFrame:
    """One row per target, as `RobustnessResult.targets` says."""
    import pandas as pd

    capped = np.array([np.mean([r.capped_errors for r in part.drawn], axis=0) for part in parts])
    fold = np.empty(problem.n_targets, dtype=np.int64)
    bias, random = np.empty(problem.n_targets), np.full(problem.n_targets, np.nan)
    for number, part in enumerate(parts):
        held_out = part.held_out_index
        fold[held_out] = number
        bias[held_out] = np.mean([refit.errors[held_out] for refit in part.drawn], axis=0)
        if samples := [refit.capped_errors[held_out] for refit in part.random if refit is not None]:
            random[held_out] = np.mean(samples, axis=0)
    is_own = np.arange(len(parts))[:, None] == fold
    return pd.DataFrame(
        {
            "name": problem.target_names,
            "group": labels,
            "fold": fold,
            "target": problem.targets,
            "held_out_error": np.where(is_own, capped, 0).sum(axis=0),
            "train_error": np.where(is_own, 0, capped).sum(axis=0) / (len(parts) - 1),
            "held_out_bias": bias,
            "design_error": np.minimum(np.abs(problem.errors(problem.design_weights)), 1),
            "random_error": random,
        }
    )


def draws_table(runs: Sequence[Runs]) -> pd.DataFrame:
    """One row per refit; the first of the runs is the one on all targets."""
    import pandas as pd

    rows = []
    for number, run in enumerate(runs, ALL_TARGETS):
        of_kind = {"chosen": run.drawn, "random": run.random}
        for kind, refits in of_kind.items():
            for ours, refit in zip(run.drawn, refits, strict=False):
                rows.append(
                    {"fold": number, "selection": kind, "seed": ours.seed, **refit_row(refit)}
                )
    return pd.DataFrame(rows)


def refit_row(refit: Refit | None) -> dict[str, Any]:
    """One refit in a table; None is one that could not meet its targets."""
    numbers = ("records", "kish", "train_error", "held_out_error")
    if refit is None:
        return {**dict.fromkeys(numbers, math.nan), "status": INFEASIBLE}
    values = (refit.n_records, refit.kish, refit.train_error, refit.held_out_error)
    return {**dict(zip(numbers, values, strict=True)), "status": refit.status.name}
