"""How sparse is safe: trials of the price of records, judged by targets that were held out.

Targets, not records, are held out (Stone 1974 for cross-validation; Roberts et al. 2017 for folds
of whole groups). A trial costs draws and refits: the dense solve of each fold is shared by all.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.calibration import NotConvergedWarning
from microcalibrate.errors import InvalidOption
from microcalibrate.hyperparameter_tuning.checks import (
    GATE_OPTIONS,
    SOLVE_OPTIONS,
    check_counts,
    check_plan_handover,
    check_ways,
    checked_folds,
    checked_problem,
    checked_timeout,
    study_attributes,
)
from microcalibrate.hyperparameter_tuning.liveness import Watch
from microcalibrate.hyperparameter_tuning.result import TuningResult
from microcalibrate.hyperparameter_tuning.sampling import checked_sampler
from microcalibrate.hyperparameter_tuning.scoring import ScoreWeights, aggregated
from microcalibrate.hyperparameter_tuning.search_space import SearchSpace
from microcalibrate.hyperparameter_tuning.storage import (
    is_url,
    open_study,
    opened_storage,
    quiet_optuna,
    working_storage,
)
from microcalibrate.hyperparameter_tuning.tables import PARETO, load_optuna
from microcalibrate.hyperparameter_tuning.trials import (
    CANCELLED,
    FoldSolves,
    Limits,
    Plan,
    run_trials,
)
from microcalibrate.hyperparameter_tuning.workers import (
    Job,
    cores,
    run_workers,
    save_problem,
)
from microcalibrate.progress import Bar
from microcalibrate.result import Status

if TYPE_CHECKING:
    from optuna import Study


def tune_hyperparameters(
    weights: Any,
    targets: Any,
    estimate_matrix: Any,
    lambda_min: float = 1e-4,
    lambda_max: float = 1e-1,
    n_trials: int = 50,
    *,
    n_folds: int | None = None,
    target_names: Sequence[str] | None = None,
    groups: Any = "correlation",
    families: Sequence[str | None] | None = None,
    kappa: float | tuple[float, float] | None = None,
    closeness: float | Iterable[float] = 1e-4,
    max_weight_ratio: float | Iterable[float | None] | None = None,
    selection: str | Iterable[str] = "closed_form",
    objective: str = "balanced",
    score_weights: ScoreWeights | Mapping[str, float] | None = None,
    aggregate: str = "mean",
    one_standard_error: bool = False,
    sampler: Any = "tpe",
    storage: Any = None,
    study_name: str = "microcalibrate",
    n_jobs: int = 1,
    timeout: float | None = None,
    n_draws: int = 1,
    seed: int = 0,
    progress: bool | None = False,
    max_iter: int = 1000,
    **options: Any,
) -> tuple[float, TuningResult]:
    """Find the price of records that does best on targets which were not calibrated to.

    Each fold of targets is left out in turn. The dense solve on the others is done once, by the
    first trial that needs it; every trial draws records at its own price, refits them, and is
    judged by the targets left out. Draws have the same seeds in all trials, so that these differ
    by their options and not by their luck.

    Args:
        weights: Design weights, shape `(n_records,)`, persons (or households) per record.
        targets: Population totals, shape `(n_targets,)`, or a mapping by target name.
        estimate_matrix: What each record adds to each target per unit of weight, shape
            `(n_records, n_targets)`: DataFrame, array or SciPy sparse matrix.
        lambda_min: Least price of records, positive.
        lambda_max: Greatest price; prices are searched in log.
        n_trials: How many trials the study is to have in the end, those of earlier runs and of
            other workers on the same storage counted.
        n_folds: How many folds, from 2 to the number of groups of targets; None is 5, or as many
            as there are groups if these are fewer.
        target_names: Names of the targets, where the matrix has no column names.
        groups: Which targets are held out together: "correlation" of their columns, "family",
            "names", None, or one label per target; see `microcalibrate.evaluation.target_groups`.
        families: A family per target, for `groups="family"`.
        kappa: Price of concentrated weights: a number, or a (low, high) range searched in log;
            None is 1.
        closeness: Price of distance in the dense solve: a number, or several to choose from. Each
            costs one dense solve per fold.
        max_weight_ratio: Greatest calibrated over design weight: a number or None (no bound), or
            several to choose from, at the same cost.
        selection: How records are chosen: a name, or several to choose from.
        objective: "balanced" minimises one score, in units of held-out error: see `ScoreWeights`.
            "pareto" looks for the front of held-out error against records.
        score_weights: Parts of the balanced score; None for the defaults.
        aggregate: How figures of folds become one: "mean", "median" or "worst".
        one_standard_error: Whether the best is the sparsest trial within one standard error of
            the smallest held-out error, or of that of the best score (Breiman et al. 1984).
        sampler: "tpe" (Bergstra et al. 2011), "nsga2" (Deb et al. 2002) or "random", or an Optuna
            sampler; runs repeat themselves with the first three.
        storage: Where trials are kept, so that a run can be resumed and shared by machines: a
            database URL, the path of a journal file (.log or .journal), or an Optuna storage.
            None keeps them in memory.
        study_name: Name of the study in the storage.
        n_jobs: Processes on this machine. Each imports the script that sets it, which must do its
            work under `if __name__ == "__main__":`. With more than one the order of trials is a
            matter of chance.
        timeout: Seconds after which no further trial begins; one is done in any case.
        n_draws: Draws in each fold of a trial, with seeds from `seed` on.
        seed: Of folds, draws and sampler. A run that was stopped in any way and is resumed ends
            with the same trials as one that was not.
        progress: Whether to show a bar; None shows it on a terminal.
        max_iter: Most Newton steps of each solve.
        **options: Further options of `Calibration`: tolerances, importances, scales,
            min_weight_ratio, min_weight, max_weight, frozen, heteroscedasticity, cluster (whose
            records are chosen as one), distance, loss, refit_closeness, temperature, device.

    Returns:
        The best price of records, and the result: trials, fold errors, front, plots and study.
        Ctrl-C ends the run early, with the status "cancelled" and every finished trial.

    Raises:
        InvalidProblem: If weights, targets or matrix do not fit together.
        InvalidOption: If an option is out of its range or not known, there are fewer groups than
            folds, or the storage has a study of that name about something else.
        InfeasibleTargets: If exact or banded targets cannot all hold in a fold.
        NoFinishedTrial: If no trial could meet them on the records that it drew.
        WorkerFailed: If a worker process ended with an error.
        KeyboardInterrupt: On Ctrl-C before any trial has finished.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> matrix = rng.lognormal(size=(300, 8))
        >>> best_lambda, results = tune_hyperparameters(
        ...     weights=np.ones(300),
        ...     targets=matrix.sum(axis=0) * rng.uniform(0.9, 1.1, 8),
        ...     estimate_matrix=matrix,
        ...     lambda_min=1e-3,
        ...     lambda_max=1e-1,
        ...     n_trials=6,
        ... )
        >>> 1e-3 <= best_lambda <= 1e-1
        True
        >>> len(results.trials)
        6
    """
    optuna = load_optuna()
    begun = time.time()
    check_counts(n_trials=n_trials, n_jobs=n_jobs, n_draws=n_draws, max_iter=max_iter)
    check_ways(objective, aggregate, score_weights, one_standard_error)
    if not isinstance(study_name, str) or not study_name:
        raise InvalidOption(f"study_name={study_name!r} must be a text that is not empty.")
    deadline = None if timeout is None else begun + checked_timeout(timeout)
    space = SearchSpace.checked(
        lambda_min,
        lambda_max,
        kappa=kappa,
        closeness=closeness,
        max_weight_ratio=max_weight_ratio,
        selection=selection,
    )
    problem = checked_problem(weights, targets, estimate_matrix, target_names, space, seed, options)
    plan = Plan(
        space=space,
        n_trials=int(n_trials),
        objective=objective,
        aggregate=aggregate,
        score_weights=ScoreWeights.of(score_weights),
        sampler=checked_sampler(sampler),
        seed=int(seed),
        n_draws=int(n_draws),
        max_iter=int(max_iter),
        solve_options={key: options[key] for key in SOLVE_OPTIONS if key in options},
        gate_options={key: options[key] for key in GATE_OPTIONS if key in options},
    )
    folds = checked_folds(problem, n_folds, groups, families, int(seed))
    about = study_attributes(problem, folds, plan, groups, bool(one_standard_error), options)
    if n_jobs > 1:
        check_plan_handover(storage, plan)
    directions = 2 if objective == PARETO else 1

    with quiet_optuna(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        where = folder / "study.journal" if n_jobs > 1 and storage is None else storage
        with working_storage(where) as opened:
            study = open_study(opened, study_name, directions, about)
            bar = Bar(
                progress,
                "trials",
                "trials",
                total=plan.n_trials,
                label="tuning",
                formats={"best": ".4f", "records": ",.0f"},
            )
            show = partial(_told, bar, study)
            with bar:
                try:
                    if n_jobs > 1:
                        save_problem(problem, folds, folder)
                        threads = max(1, cores() // n_jobs)
                        job = Job(temporary, where, study_name, plan, deadline, threads)
                        status = run_workers(job, n_jobs, len(folds), show)
                        Watch().fail_abandoned(study)
                    else:
                        limits = Limits(deadline, storage is not None, after_trial=show)
                        solves = FoldSolves(problem, folds, plan)
                        status = run_trials(study, solves, plan, limits)
                    show()
                except KeyboardInterrupt:
                    status = CANCELLED
            if status == CANCELLED and not _finished(study):
                raise KeyboardInterrupt
            if where is not storage:
                study = _in_memory(optuna, study)
        if is_url(storage):
            # From here on it is looked at now and then: no connection is held open for that.
            study = optuna.load_study(study_name=study_name, storage=opened_storage(storage))
        result = TuningResult.from_study(study, status=status)
    _warn_of_open_ends(result)
    return result.best_lambda, result


def _finished(study: Study) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _in_memory(optuna: Any, study: Study) -> Study:
    """The same study, when the file that it was kept in is about to go."""
    copied: Study = optuna.create_study(
        study_name=study.study_name, directions=study.directions, sampler=study.sampler
    )
    for key, value in study.user_attrs.items():
        copied.set_user_attr(key, value)
    copied.add_trials(study.trials)
    return copied


def _warn_of_open_ends(result: TuningResult) -> None:
    """Say aloud where the best trial stands on solves that are not certified."""
    best = result.study.trials[int(result.best["number"])]
    statuses = best.user_attrs["statuses"]
    open_ends = [status for status in statuses if not Status[status].is_certified]
    if open_ends:
        warnings.warn(
            f"{len(open_ends)} of {len(statuses)} solves of the best trial have no certificate: "
            f"{Status[open_ends[0]].value}",
            NotConvergedWarning,
            stacklevel=3,
        )


def _told(bar: Bar, study: Study) -> None:
    """Show the trials of all workers, and the best of them."""
    if not bar.is_watched:
        return
    finished = _finished(study)
    pruned = [t for t in study.get_trials(deepcopy=False) if t.state.name == "PRUNED"]
    figures = {}
    if finished:
        best = min(finished, key=lambda trial: trial.values[0])
        records = aggregated(best.user_attrs["records"], "mean")
        figures = {"best": best.values[0], "records": records}
    bar.to(len(finished) + len(pruned), **figures)
