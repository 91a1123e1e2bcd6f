"""Independent parts of a problem, solved side by side: each with its own certificate.

Where every target is about the records of one part, such as a state, the problem falls apart. The
answer is that of one solve. With many targets a part it takes less time, as the matrices of all
parts together are far smaller than that of the whole; and a part that cannot be solved is known by
its name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from microcalibrate.arrays import is_sparse
from microcalibrate.engine.distances import Distance
from microcalibrate.engine.loop import Progress, Step
from microcalibrate.engine.losses import SQUARED, Loss
from microcalibrate.engine.solving import Solution, checked_prices, solve
from microcalibrate.errors import InfeasibleTargets, InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.result import Status

Index = NDArray[np.int64]

# What a solve in parts ended as: the first of these that any part did.
WORST_FIRST = (
    Status.CANCELLED,
    Status.STALLED,
    Status.STEP_LIMIT,
    Status.STATIONARY,
    Status.CONVERGED,
)


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a problem.

    Attributes:
        name: Label of its records.
        records: Their positions, shape `(n_part_records,)`.
        targets: Positions of the targets about them, shape `(n_part_targets,)`.
        problem: The part as a problem of its own, or None where no target is about it.
        closeness: Price of distance with which its optimum is that of the whole.
        factor: What a unit of its objective is in that of the whole.
        solution: How it was solved, or None before that.
    """

    name: Any
    records: Index
    targets: Index
    problem: Problem | None
    closeness: float
    factor: float
    solution: Solution | None = None


def parts_of(
    problem: Problem, index: Index, names: Sequence[Any], closeness: float
) -> tuple[Part, ...]:
    """Take a problem apart.

    Args:
        problem: A checked problem.
        index: Position of each record's part, shape `(n_records,)`.
        names: Their names.
        closeness: Price of distance in the whole.

    Raises:
        InvalidOption: If a target is about records of two parts.

    Examples:
        >>> problem = Problem.build([1.0, 1.0], [2.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
        >>> [part.targets.tolist() for part in parts_of(problem, np.array([0, 1]), "ab", 1e-4)]
        [[0], [1]]
    """
    part_of_target = _part_of_targets(problem, index, names)
    free = (problem.design_weights > 0) & (problem.lower_ratio < problem.upper_ratio)
    spread = np.where(free, problem.design_weights / problem.heteroscedasticity, 0.0)
    share = np.bincount(index, spread, len(names)) / max(spread.sum(), 1e-300)
    order = np.argsort(index, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(index, minlength=len(names)))[:-1])
    parts = []
    for number, (name, records) in enumerate(zip(names, groups, strict=True)):
        targets = np.flatnonzero(part_of_target == number)
        part, own_closeness, factor = None, closeness, float(share[number])
        if len(targets) and (problem.design_weights[records] > 0).any():
            importance = float(problem.importances[targets].sum())
            part = _rows_and_columns(problem, records, targets, importance)
            price = closeness if problem.is_soft.any() else 1.0
            if part.is_soft.any() and importance > 0:
                own_closeness = price * float(share[number]) / importance
                factor = importance
            else:
                factor *= price
                own_closeness = 1.0
        parts.append(Part(name, records, targets, part, max(own_closeness, 1e-300), factor))
    return tuple(parts)


def solve_parts(
    problem: Problem,
    parts: Sequence[Part],
    distance: Distance,
    *,
    loss: Loss = SQUARED,
    max_iter: int = 1000,
    progress: Progress | None = None,
    start_prices: Any = None,
) -> tuple[Solution, tuple[Part, ...]]:
    """Solve all parts, some at a time, and put the whole together.

    Args:
        problem: The whole.
        parts: Its parts.
        distance: As for `solve`, as all that follows.
        loss: What errors of soft targets cost.
        max_iter: Most Newton steps of each part.
        progress: Called with each step of each part.
        start_prices: Prices of all targets to start from, shape `(n_targets,)`.

    Returns:
        The solution of the whole, whose history goes through the parts' steps together, and the
        parts with theirs.

    Raises:
        InfeasibleTargets: If exact or banded targets of some parts cannot all hold: of all such
            parts at once.
    """
    start = None if start_prices is None else checked_prices(start_prices, problem.n_targets)
    cancelled = threading.Event()
    lock = threading.Lock()

    def note(step: Step) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        if progress is not None:
            try:
                with lock:
                    progress(step)
            except KeyboardInterrupt:
                cancelled.set()
                raise

    def solved(part: Part) -> Part | InfeasibleTargets:
        if part.problem is None:
            return part
        prices = None if start is None else start[part.targets] / part.factor
        try:
            solution = solve(
                part.problem,
                distance,
                loss=loss,
                closeness=part.closeness,
                max_iter=max_iter,
                progress=note,
                start_prices=prices,
            )
        except InfeasibleTargets as error:
            return error
        return replace(part, solution=solution)

    # On one core, or where loops over sparse records cannot be entered by two threads, in turn.
    n_threads = min(os.cpu_count() or 1, len(parts)) if _may_share_threads(problem) else 1
    with ThreadPoolExecutor(n_threads) as pool:
        futures = [pool.submit(solved, part) for part in parts]
        try:
            outcomes = [future.result() for future in futures]
        except KeyboardInterrupt:
            cancelled.set()
            outcomes = [future.result() for future in futures]
    failures = {
        part.name: outcome
        for part, outcome in zip(parts, outcomes, strict=True)
        if isinstance(outcome, InfeasibleTargets)
    }
    if failures:
        raise _all_conflicts(failures)
    done = tuple(outcome for outcome in outcomes if isinstance(outcome, Part))
    return _together(problem, done), done


def _may_share_threads(problem: Problem) -> bool:
    if not is_sparse(problem.estimate_matrix):
        return True
    # numba's other pool of threads, `workqueue`, ends the process when two of them enter it.
    return find_spec("numba.np.ufunc.omppool") is not None


def _part_of_targets(problem: Problem, index: Index, names: Sequence[Any]) -> Index:
    """The part that each target is about, shape `(n_targets,)`; 0 where no record counts."""
    counts = (problem.design_weights > 0).astype(np.float64)
    rows = sp.csr_array((counts, (index, np.arange(len(index)))), shape=(len(names), len(index)))
    matrix = problem.estimate_matrix
    if is_sparse(matrix):
        pattern = sp.csr_array(
            (np.ones(len(matrix.data)), matrix.indices, matrix.indptr), matrix.shape
        )
        pattern.data[matrix.data == 0] = 0.0
        touched = (rows @ pattern).toarray() > 0
    else:
        touched = np.vstack(
            [(matrix[index == number] != 0)[counts[index == number] > 0].any(axis=0)
             for number in range(len(names))]
        )  # fmt: skip
    shared = np.flatnonzero(touched.sum(axis=0) > 1)
    if shared.size:
        first = int(shared[0])
        one, other = np.flatnonzero(touched[:, first])[:2]
        raise InvalidOption(
            f'partition: target "{problem.target_names[first]}" is about records of '
            f"{names[one]!r} and of {names[other]!r} ({shared.size} such targets). Parts must not "
            "share targets: use wider parts, or leave partition out."
        )
    return np.asarray(touched.argmax(axis=0), dtype=np.int64)


def _rows_and_columns(
    problem: Problem, records: Index, targets: Index, importance: float
) -> Problem:
    matrix = problem.estimate_matrix[records][:, targets]
    per_target = {
        name: getattr(problem, name)[targets] for name in ("targets", "scales", "tolerances")
    }
    bounds = ("min_ratio", "max_ratio", "min_weight", "max_weight", "frozen", "heteroscedasticity")
    per_record = {name: getattr(problem, name)[records] for name in bounds}
    return replace(
        problem,
        design_weights=problem.design_weights[records],
        estimate_matrix=sp.csr_array(matrix) if is_sparse(matrix) else matrix,
        target_names=tuple(problem.target_names[j] for j in targets),
        importances=problem.importances[targets] / (importance if importance > 0 else 1.0),
        **per_target,
        **per_record,
    )


def _together(problem: Problem, parts: Sequence[Part]) -> Solution:
    """The solution of the whole: step `k` of it is step `k` of every part that has one."""
    ratio = np.clip(1.0, problem.lower_ratio, problem.upper_ratio)
    ratio[problem.design_weights == 0] = 0.0
    prices = np.zeros(problem.n_targets)
    solved = [(part, part.solution) for part in parts if part.solution is not None]
    n_steps = max((len(solution.history) for _, solution in solved), default=0)
    errors = np.zeros((n_steps, problem.n_targets))
    for part, solution in solved:
        ratio[part.records] = solution.ratio
        prices[part.targets] = part.factor * solution.prices
        own = solution.step_errors
        if len(own):
            errors[:, part.targets] = own[np.minimum(np.arange(n_steps), len(own) - 1)]
        else:
            final = part.problem.errors(solution.ratio * part.problem.design_weights)  # type: ignore[union-attr]  # solved
            errors[:, part.targets] = final
    histories = [(part.factor, solution.history) for part, solution in solved if solution.history]
    history = tuple(_joint_step(k, histories) for k in range(n_steps))
    statuses = {solution.status for _, solution in solved}
    return Solution(
        ratio,
        prices,
        next((status for status in WORST_FIRST if status in statuses), Status.CONVERGED),
        history[-1].gap if history else 0.0,
        max((solution.residual for _, solution in solved), default=0.0),
        history,
        errors,
    )


def _joint_step(number: int, histories: Sequence[tuple[float, tuple[Step, ...]]]) -> Step:
    steps = [(factor, steps[min(number, len(steps) - 1)]) for factor, steps in histories]
    loss = sum(factor * step.loss for factor, step in steps)
    gap = sum(factor * step.gap * max(abs(step.loss), 1e-16) for factor, step in steps)
    running = [steps[number] for _, steps in histories if number < len(steps)]
    return Step(
        phase=steps[0][1].phase,
        step=number,
        method=running[0].method,
        loss=float(loss),
        gap=float(gap / max(abs(loss), 1e-16)),
        residual=max(step.residual for _, step in steps),
        step_length=min(step.step_length for step in running),
        seconds=max(step.seconds for _, step in steps),
    )


def _all_conflicts(failures: dict[Any, InfeasibleTargets]) -> InfeasibleTargets:
    """One error for all parts that have no feasible weights."""
    listed = "; ".join(f"in {name!r} {error}" for name, error in list(failures.items())[:3])
    if len(failures) > 3:
        listed += f"; and {len(failures) - 3} parts more"
    return InfeasibleTargets(
        listed[0].upper() + listed[1:],
        relaxation={k: v for error in failures.values() for k, v in error.relaxation.items()},
        conflict=tuple(name for error in failures.values() for name in error.conflict),
    )
