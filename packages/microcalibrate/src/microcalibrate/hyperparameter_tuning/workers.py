"""Trials in several processes of this machine, all on one storage.

Processes are spawned, not forked: the threads of the engine's kernels do not survive a fork. The
problem goes over as files that all workers map into memory, and so do the dense weights that one
of them finds; only plain values are pickled.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from microcalibrate.arrays import is_sparse
from microcalibrate.errors import InfeasibleTargets, InvalidOption, WorkerFailed
from microcalibrate.evaluation.folds import Index
from microcalibrate.hyperparameter_tuning.storage import opened_storage, quiet_optuna
from microcalibrate.hyperparameter_tuning.tables import load_optuna
from microcalibrate.hyperparameter_tuning.trials import (
    CANCELLED,
    FINISHED,
    TIMED_OUT,
    DenseShelf,
    FoldSolves,
    Limits,
    Plan,
    run_trials,
)
from microcalibrate.problem import Problem

# How long workers may take to give up a trial before they are ended.
SECONDS_TO_END = 10.0
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Job:
    """What a worker needs beside the files of the problem.

    Attributes:
        folder: Where these are.
        storage: URL, path of a journal file, or an Optuna storage that can be pickled.
        study_name: The study, which exists.
        plan: What is done in every trial.
        deadline: Seconds since the epoch, or None.
        n_threads: For each worker.
    """

    folder: str
    storage: Any
    study_name: str
    plan: Plan
    deadline: float | None
    n_threads: int


def check_handover(**parts: Any) -> None:
    """Find out before any work whether processes can be handed what they need.

    Args:
        **parts: What is to be pickled, by the name of its option.

    Raises:
        InvalidOption: If something cannot be handed over.
    """
    if isinstance(parts.get("storage"), load_optuna().storages.InMemoryStorage):
        raise InvalidOption(
            "storage is in the memory of this process, where others cannot reach it. Give a "
            "database URL or a journal file, or n_jobs=1."
        )
    for name, part in parts.items():
        try:
            pickle.dumps(part)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise InvalidOption(
                f"{name} cannot be handed over to other processes: {error}. Set n_jobs=1."
            ) from error


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def save_problem(problem: Problem, folds: Sequence[Index], folder: Path) -> None:
    """Write problem and folds as arrays that can be mapped into memory."""
    arrays = {
        field.name: getattr(problem, field.name)
        for field in dataclasses.fields(Problem)
        if field.name not in ("estimate_matrix", "target_names")
    }
    matrix = problem.estimate_matrix
    if is_sparse(matrix):
        arrays |= {f"matrix_{part}": getattr(matrix, part) for part in _PARTS}
    else:
        arrays["matrix"] = matrix
    arrays |= {f"fold_{number}": fold for number, fold in enumerate(folds)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    text = json.dumps({"names": problem.target_names, "shape": matrix.shape, "n_folds": len(folds)})
    (folder / "problem.json").write_text(text, encoding="utf-8")


_PARTS = ("data", "indices", "indptr")


def load_problem(folder: Path) -> tuple[Problem, list[Index]]:
    """The problem and its folds as `save_problem` wrote them, the matrix mapped and not read."""
    about = json.loads((folder / "problem.json").read_text(encoding="utf-8"))

    def array(name: str, mapped: bool = False) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r" if mapped else None)

    if (folder / "matrix.npy").exists():
        matrix = array("matrix", mapped=True)
    else:
        parts = tuple(array(f"matrix_{part}", mapped=True) for part in _PARTS)
        matrix = sp.csr_array(parts, shape=tuple(about["shape"]))
    others = {
        field.name: array(field.name)
        for field in dataclasses.fields(Problem)
        if field.name not in ("estimate_matrix", "target_names")
    }
    problem = Problem(estimate_matrix=matrix, target_names=tuple(about["names"]), **others)
    return problem, [array(f"fold_{number}") for number in range(about["n_folds"])]


def run_workers(job: Job, n_jobs: int, n_folds: int, after_trial: Callable[[], None]) -> str:
    """Do the trials of a study in several processes.

    Args:
        job: What each of them does.
        n_jobs: How many processes.
        n_folds: Folds of the problem.
        after_trial: Called in this process when a worker has finished a trial.

    Returns:
        "finished", "timed out" or "cancelled" (on Ctrl-C, which ends all workers).

    Raises:
        WorkerFailed: If a worker ended with an error, or was ended from outside.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    locks = [context.Lock() for _ in range(n_folds)]
    workers: dict[Connection, Any] = {}
    try:
        for number in range(n_jobs):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(job, number, stop, locks, theirs), daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = process
        ends = _watched(workers, after_trial)
    except KeyboardInterrupt:
        return CANCELLED
    finally:
        stop.set()
        _end(list(workers.values()))
        for ours in workers:
            ours.close()
    return next((end for end in (CANCELLED, TIMED_OUT) if end in ends), FINISHED)


def _watched(workers: dict[Connection, Any], after_trial: Callable[[], None]) -> list[str]:
    """How each worker ended, once all have; the first error ends the wait."""
    ends: list[str] = []
    waiting = dict(workers)
    while waiting:
        for ours in wait(list(waiting), timeout=SECONDS_BETWEEN_LOOKS):
            assert isinstance(ours, Connection)
            try:
                kind, text = ours.recv()
            except EOFError as error:
                process = waiting[ours]
                process.join()
                raise WorkerFailed(_died(process.exitcode)) from error
            if kind == "trial":
                after_trial()
            elif kind == "error":
                raise WorkerFailed(f"a worker process ended with an error.\n{text}")
            else:
                ends.append(text)
                del waiting[ours]
    return ends


def _died(code: int | None) -> str:
    if code is not None and code < 0:
        how = f"was ended by signal {-code}" + (
            ", as a system does that runs out of memory" if code == -signal.SIGKILL else ""
        )
        return (
            f"a worker process {how}. Lower n_jobs. With a storage, the trials finished so far are "
            "kept there."
        )
    return (
        f"a worker process ended with code {code} before it could say why; its own text stands "
        'above. A script that sets n_jobs must do its work under `if __name__ == "__main__":`, '
        "since each worker imports it."
    )


def _end(processes: Sequence[Any]) -> None:
    """End what still runs: first asked to, so that it can mark its trial, then made to."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join(SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()


def _work(job: Job, number: int, stop: Any, locks: Sequence[Any], theirs: Connection) -> None:
    """The whole life of a worker process."""
    # Ctrl-C reaches every process of a terminal; the first one passes it on, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        last = _last_word(job, number, stop, locks, theirs)
    except KeyboardInterrupt:
        last = ("end", CANCELLED)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    theirs.send(last)


def _last_word(
    job: Job, number: int, stop: Any, locks: Sequence[Any], theirs: Connection
) -> tuple[str, str]:
    """Do trials, and say how it ended."""
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        return stop.is_set() or (parent is not None and not parent.is_alive())

    try:
        _limit_threads(job.n_threads)
        problem, folds = load_problem(Path(job.folder))
        shelf = DenseShelf(Path(job.folder), locks)
        solves = FoldSolves(problem, folds, job.plan, shelf, first_fold=number % len(folds))
        if not isinstance(job.plan.sampler, str):
            # Copies of one sampler would all draw the same random numbers.
            job.plan.sampler.reseed_rng()
        limits = Limits(job.deadline, True, stopped, lambda: theirs.send(("trial", "")))
        with quiet_optuna():
            storage = opened_storage(job.storage, pooled=True)
            study = load_optuna().load_study(study_name=job.study_name, storage=storage)
            return "end", run_trials(study, solves, job.plan, limits)
    except InfeasibleTargets as error:
        return "error", str(error)
    except Exception as error:
        return "error", "".join(traceback.format_exception(error)).rstrip()


def _interrupt(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _limit_threads(n_threads: int) -> None:
    """Kernels and BLAS of this process use so many threads, for as long as it lives."""
    import numba
    import threadpoolctl

    numba.set_num_threads(min(n_threads, numba.get_num_threads()))
    threadpoolctl.threadpool_limits(limits=n_threads)
