"""Which draws an evaluation makes from each dense solve, and tables of what came out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.errors import InfeasibleTargets
from microcalibrate.evaluation.fold_solve import FoldSolve as FoldSolve
from microcalibrate.evaluation.fold_solve import Refit as Refit
from microcalibrate.evaluation.fold_solve import solve_folds as solve_folds
from microcalibrate.evaluation.folds import Index
from microcalibrate.evaluation.tables import ALL_TARGETS, INFEASIBLE, known_mean
from microcalibrate.problem import Problem
from microcalibrate.result import Status

if TYPE_CHECKING:
    import pandas as pd


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
        return Runs(solved.held_out_index, solved.dense_weights, solved.dense.status, drawn, random)

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
