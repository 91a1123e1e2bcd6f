"""One trial: options in, draws and refits in every fold, figures out; and the loop over trials."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.atomic import atomic_path
from microcalibrate.errors import InfeasibleTargets
from microcalibrate.evaluation.fold_solve import Dense, FoldSolve, Refit
from microcalibrate.evaluation.folds import Index
from microcalibrate.hyperparameter_tuning.liveness import Watch, Worker
from microcalibrate.hyperparameter_tuning.sampling import next_trial
from microcalibrate.hyperparameter_tuning.scoring import ScoreWeights, aggregated, score
from microcalibrate.hyperparameter_tuning.search_space import Choice, SearchSpace
from microcalibrate.problem import Problem
from microcalibrate.result import Status
from microcalibrate.selection.drawing import SAMPLED_GATES

if TYPE_CHECKING:
    from optuna import Study

WITHIN = 0.1
# Between looks at a study whose last trials others are working on.
SECONDS_BETWEEN_LOOKS = 0.25

FINISHED, TIMED_OUT, CANCELLED = "finished", "timed out", "cancelled"


@dataclass(frozen=True)
class Plan:
    """What is done in every trial, and how many there are to be; plain values only.

    Attributes:
        space: What is varied.
        n_trials: How many trials the study is to have.
        objective: "balanced" (one score) or "pareto" (held-out error and records).
        aggregate: How the figures of folds become one: "mean", "median" or "worst".
        score_weights: Parts of the balanced score.
        sampler: A name, or an Optuna sampler.
        seed: Of sampler and draws.
        n_draws: Draws in each fold.
        max_iter: Most Newton steps of each solve.
        solve_options: Options of the dense solves: distance, refit_closeness.
        gate_options: Options of trained gates: temperature, device.
    """

    space: SearchSpace
    n_trials: int
    objective: str
    aggregate: str
    score_weights: ScoreWeights
    sampler: Any
    seed: int
    n_draws: int
    max_iter: int
    solve_options: Mapping[str, Any]
    gate_options: Mapping[str, Any]

    @property
    def draw_seeds(self) -> range:
        """Seed of each draw, the same in every fold and trial.

        Common random numbers: two trials then differ by their options and not by their luck, so
        that far fewer draws tell which is the better.
        """
        return range(self.seed, self.seed + self.n_draws)

    def values(self, figures: Mapping[str, Any], n_records: int) -> list[float]:
        """What the study minimises, from the figures of a trial."""
        errors, records = figures["held_out_errors"], figures["records"]
        if self.objective == "pareto":
            return [aggregated(errors, self.aggregate), aggregated(records, "mean")]
        within, weights = figures["within_10_percent"], self.score_weights
        return [score(errors, within, records, n_records, weights, self.aggregate)]


class DenseShelf:
    """Dense weights that worker processes have found, as files that the others read.

    Args:
        folder: Where they are, or None where one process does all.
        locks: One per fold, so that none is solved twice.
    """

    def __init__(self, folder: Path | None = None, locks: Sequence[Any] = ()) -> None:
        self._folder = folder
        self._locks = locks

    def locked(self, fold: int) -> AbstractContextManager[Any]:
        """Nobody else looks for dense weights of this fold meanwhile."""
        return self._locks[fold] if self._locks else nullcontext()

    def get(self, name: str) -> Dense | None:
        """Dense weights found before, if there are any."""
        if self._folder is None or not (path := self._folder / f"{name}.npz").exists():
            return None
        with np.load(path) as saved:
            return Dense(saved["weights"], Status[str(saved["status"])])

    def put(self, name: str, dense: Dense) -> None:
        """Keep dense weights for the other processes."""
        if self._folder is not None:
            with atomic_path(self._folder / f"{name}.npz") as path, path.open("wb") as file:
                np.savez(file, weights=dense.weights, status=dense.status.name)


class FoldSolves:
    """The dense solve of every fold and every value of closeness and bound: done once, when needed.

    Args:
        problem: The whole problem.
        folds: Positions of the targets of each fold.
        plan: What is done in every trial.
        shelf: Where dense weights are shared between processes.
        first_fold: Which fold to begin with; processes that begin with another do not wait.
    """

    def __init__(
        self,
        problem: Problem,
        folds: Sequence[Index],
        plan: Plan,
        shelf: DenseShelf | None = None,
        first_fold: int = 0,
    ) -> None:
        self.problem = problem
        self.n_folds = len(folds)
        self._folds = folds
        self._plan = plan
        self._shelf = shelf or DenseShelf()
        self._order = [(first_fold + fold) % len(folds) for fold in range(len(folds))]
        self._known: list[dict[tuple[int, int], FoldSolve | InfeasibleTargets]] = [
            {} for _ in folds
        ]

    def of_choice(self, choice: Choice) -> list[FoldSolve]:
        """The dense solve of every fold.

        Raises:
            InfeasibleTargets: If the targets left in a fold cannot all hold within the bounds.
        """
        key = self._key(choice)
        for fold in self._order:
            if key not in self._known[fold]:
                with self._shelf.locked(fold):
                    self._known[fold][key] = self._found(fold, key, choice)
        found = [known[key] for known in self._known]
        for solved in found:
            if isinstance(solved, InfeasibleTargets):
                raise solved
        return [solved for solved in found if isinstance(solved, FoldSolve)]

    def is_hopeless(self, choice: Choice) -> bool:
        """Whether it is a dense solve of this choice that cannot be done."""
        key = self._key(choice)
        return any(isinstance(known.get(key), InfeasibleTargets) for known in self._known)

    def _key(self, choice: Choice) -> tuple[int, int]:
        space = self._plan.space
        return (
            space.closeness.index(choice.closeness),
            space.max_weight_ratio.index(choice.max_weight_ratio),
        )

    def _found(
        self, fold: int, key: tuple[int, int], choice: Choice
    ) -> FoldSolve | InfeasibleTargets:
        name = f"dense-{fold}-{key[0]}-{key[1]}"
        dense = self._shelf.get(name)
        like = next((s for s in self._known[fold].values() if isinstance(s, FoldSolve)), None)
        bound = np.inf if choice.max_weight_ratio is None else choice.max_weight_ratio
        max_ratio = np.full(self.problem.n_records, bound)
        try:
            if like is not None:
                solved = like.varied(closeness=choice.closeness, max_ratio=max_ratio, dense=dense)
            else:
                solved = FoldSolve(
                    dataclasses.replace(self.problem, max_ratio=max_ratio),
                    self._folds[fold],
                    max_iter=self._plan.max_iter,
                    closeness=choice.closeness,
                    dense=dense,
                    **self._plan.solve_options,
                )
        except InfeasibleTargets as error:
            return error
        if dense is None:
            self._shelf.put(name, solved.dense)
        return solved

    def figures(self, choice: Choice) -> dict[str, Any]:
        """Draws and refits of one trial in every fold, as plain figures by name.

        Raises:
            InfeasibleTargets: If exact or banded targets cannot all hold, or not on the records
                drawn.
        """
        begun = time.perf_counter()
        options: dict[str, Any] = {"kappa": choice.kappa, "selection": choice.selection}
        if choice.selection == SAMPLED_GATES:
            options |= self._plan.gate_options
        rows = []
        for solved in self.of_choice(choice):
            seeds = self._plan.draw_seeds
            refits = [solved.refit(choice.l0_lambda, seed=seed, **options) for seed in seeds]
            rows.append(_fold_figures(solved, refits))
        by_name = {name: [row[name] for row in rows] for name in rows[0]}
        return {**by_name, "seconds": time.perf_counter() - begun, "seed": self._plan.seed}


def _fold_figures(solved: FoldSolve, refits: Sequence[Refit]) -> dict[str, Any]:
    """Means over the draws of a fold; the status of the first solve that is not certified."""

    def mean(values: Iterator[float]) -> float:
        return float(np.mean(list(values)))

    statuses = [solved.dense.status, *(refit.status for refit in refits)]
    open_ends = [status.name for status in statuses if not status.is_certified]
    return {
        "held_out_errors": mean(refit.held_out_error for refit in refits),
        "train_errors": mean(refit.train_error for refit in refits),
        "within_10_percent": mean(float((_held_out(refit) < WITHIN).mean()) for refit in refits),
        "records": mean(refit.n_records for refit in refits),
        "kish": mean(refit.kish for refit in refits),
        "statuses": (open_ends or [Status.CONVERGED.name])[0],
    }


def _held_out(refit: Refit) -> Vector:
    return refit.capped_errors[refit.held_out_index]


@dataclass(frozen=True)
class Limits:
    """When to begin no new trial, and who else is there.

    Attributes:
        deadline: Seconds since the epoch, or None.
        is_shared: Whether other processes may work on the study.
        stopped: Whether someone asked for an end.
        after_trial: Called when the state of the study has changed.
    """

    deadline: float | None = None
    is_shared: bool = True
    stopped: Callable[[], bool] = lambda: False
    after_trial: Callable[[], None] = lambda: None


def run_trials(study: Study, solves: FoldSolves, plan: Plan, limits: Limits) -> str:
    """Do trials until the study has all that it is to have, those of other workers counted.

    Args:
        study: The study; others may work on it at the same time.
        solves: The folds.
        plan: What is done in every trial.
        limits: When to stop before.

    Returns:
        "finished", "timed out" or "cancelled".

    Raises:
        KeyboardInterrupt: On Ctrl-C; the trial that was running counts as failed.
        InfeasibleTargets: If exact or banded targets cannot all hold whatever a trial chooses.
    """
    from optuna.trial import TrialState

    done_states = (TrialState.COMPLETE, TrialState.PRUNED)
    watch = Watch()
    with Worker(beats=limits.is_shared) as worker:
        while True:
            watch.fail_abandoned(study)
            states = [trial.state for trial in study.get_trials(deepcopy=False)]
            done = sum(state in done_states for state in states)
            limits.after_trial()
            if done >= plan.n_trials:
                return FINISHED
            if limits.stopped():
                return CANCELLED
            # The first trial is done however long it takes: there is no result without one.
            if limits.deadline is not None and time.time() >= limits.deadline and done:
                return TIMED_OUT
            if done + states.count(TrialState.RUNNING) >= plan.n_trials:
                # Others do the rest; should they die, it is done here.
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            trial = next_trial(study, worker, watch, plan.n_trials, plan.sampler, plan.seed)
            if trial is not None:
                _do(study, trial, worker, solves, plan)


def _do(study: Study, trial: Any, worker: Worker, solves: FoldSolves, plan: Plan) -> None:
    """Do one trial, and finish it whatever comes."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    try:
        choice = plan.space.suggested(trial)
        try:
            figures = solves.figures(choice)
        except InfeasibleTargets as error:
            # Too few records, or too tight a bound: that is a finding about this choice. But where
            # all trials share one dense solve, and it is that which fails, nothing can come.
            if plan.space.dense_solves == 1 and solves.is_hopeless(choice):
                raise
            trial.set_user_attr("infeasible", str(error))
            with worker.finishing():
                study.tell(trial, state=TrialState.PRUNED)
            return
        for name, value in figures.items():
            trial.set_user_attr(name, value)
        with worker.finishing():
            study.tell(trial, plan.values(figures, solves.problem.n_records))
    except UpdateFinishedTrialError:
        # It took so long that others took this worker for dead, and do the trial again.
        worker.trial = None
    except BaseException as error:
        # Whatever is wrong with the storage, too, is not to hide what happened first.
        with worker.finishing(), suppress(Exception):
            trial.set_user_attr("error", f"{type(error).__name__}: {error}".rstrip(": "))
            study.tell(trial, state=TrialState.FAIL)
        raise
