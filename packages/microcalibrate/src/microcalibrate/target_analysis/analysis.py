"""Which targets make trouble, why, and what dropping or loosening them would give."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.difficulty import difficulty_of
from microcalibrate.engine.distances import Distance
from microcalibrate.engine.normal_equations import symmetric_gram
from microcalibrate.engine.redundancy import combinations_of, groups_of
from microcalibrate.errors import InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.conflict import Sensitivity, sensitivity_of
from microcalibrate.target_analysis.identities import (
    forced_together,
    identity_of,
    identity_tables,
)
from microcalibrate.target_analysis.outcome import TargetAnalysis
from microcalibrate.target_analysis.ranking import Findings, ranked_table
from microcalibrate.target_analysis.solves import (
    Optimum,
    Solver,
    check_fraction,
    check_positive,
    check_whole,
    cost_of_distance,
    given_by,
)

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.result import CalibrationResult

Vector = NDArray[np.float64]

__all__ = ["TargetAnalysis", "analyse_targets"]

# Most pairs that the table of conflicts lists, and the least conflict that counts as one.
MOST_PAIRS = 1_000
LEAST_CONFLICT = 0.01


def analyse_targets(
    weights: Any,
    targets: Any,
    estimate_matrix: Any,
    *,
    target_names: Sequence[str] | None = None,
    scales: Any = None,
    tolerances: Any = None,
    importances: Any = None,
    min_weight_ratio: Any = 0.0,
    max_weight_ratio: Any = None,
    closeness: float | None = None,
    distance: str | Distance | None = None,
    result: CalibrationResult | None = None,
    loosening: float = 0.01,
    least_miss: float = 0.01,
    min_explained: float = 0.9999,
    n_resolve: int = 0,
    max_iter: int = 1000,
) -> TargetAnalysis:
    """Find out which targets are out of reach, contradictory, redundant or costly, and why.

    One dense solve (none where `result` is given) and the inverse of its normal equations answer
    for all targets; where some are out of reach, a second solve without them, from the first one's
    prices, shows the conflicts among the rest. First-order figures hold while no record reaches or
    leaves a bound.

    A target is contradictory only if it is missed, and either belongs to an identity that the
    targets do not satisfy (parts that do not add up to their total), or pulls against others that
    dropping it would relieve, all taken together, by at least half of what it is missed by itself.

    Args:
        weights: Design weights, shape `(n_records,)`, persons (or households) per record.
        targets: Population totals, shape `(n_targets,)`, or a mapping by target name.
        estimate_matrix: What each record adds to each target per unit of weight, shape
            `(n_records, n_targets)`: DataFrame, array or SciPy sparse matrix. Never densified.
        target_names: Names of the targets, where the matrix has no column names.
        scales: What a relative error is relative to; `|target|` where not given.
        tolerances: As for `Calibration`: 0 is exact, missing or NaN is soft.
        importances: As for `Calibration`.
        min_weight_ratio: Least calibrated over design weight, a number or one per record.
        max_weight_ratio: Greatest calibrated over design weight; None is no bound.
        closeness: Price of distance, positive; that of `result` if None, or 1e-4 without one.
        distance: "chi2", "raking" or a `Distance`; that of `result` if None, or "chi2".
        result: Outcome of a calibration of the same problem on all records, whose prices save
            the first solve.
        loosening: By how many scales `loosen_objective` loosens a target, positive.
        least_miss: Absolute error, in scales, from which a target counts as missed, positive.
        min_explained: Share of a column's squares, in `(0, 1)`, that others must explain before
            it counts as redundant.
        n_resolve: For how many of the worst targets dropping is solved exactly, from 0. Each
            starts from the prices of the first solve and takes a few steps, or, where these do
            not get there, about as long as a calibration.
        max_iter: Most Newton steps of each solve.

    Returns:
        The analysis.

    Raises:
        InvalidProblem: If weights, targets or matrix do not fit together; the message says where.
        InvalidOption: If an option is out of its range, or `result` is not of this problem.
        KeyboardInterrupt: If Ctrl-C ended a solve: half an analysis is none.

    Examples:
        >>> matrix = [[1.0, 2.0, 0.0], [1.0, 2.0, 1.0], [0.0, 0.0, 1.0]]
        >>> found = analyse_targets(
        ...     weights=[10.0, 10.0, 10.0], targets=[20.0, 40.0, 90.0], estimate_matrix=matrix,
        ...     target_names=["persons", "hands", "jobs"], max_weight_ratio=2.0,
        ... )
        >>> for name, reason in zip(found.table.name, found.table.reason):
        ...     print(f"{name}: {reason}")
        jobs: out of reach: at most 40 at ratios up to 2
        hands: same as 2 × 'persons'
        persons: no trouble found
    """
    begun = time.perf_counter()
    problem = Problem.build(
        weights,
        targets,
        estimate_matrix,
        target_names=target_names,
        scales=scales,
        tolerances=tolerances,
        importances=importances,
        min_weight_ratio=min_weight_ratio,
        max_weight_ratio=max_weight_ratio,
    )
    closeness, distance = cost_of_distance(problem, closeness, distance, result)
    check_fraction("min_explained", min_explained)
    check_positive("loosening", loosening)
    check_positive("least_miss", least_miss)
    check_whole("n_resolve", n_resolve, 0)
    check_whole("max_iter", max_iter, 1)
    lower = np.maximum(problem.lower_ratio, distance.lower)
    upper = np.minimum(problem.upper_ratio, distance.upper)
    if not ((problem.design_weights > 0) & (lower < upper)).any():
        raise InvalidOption(
            "the bounds leave no ratio free: min_weight_ratio equals max_weight_ratio. Widen them."
        )
    difficulty = difficulty_of(problem, lower, upper)
    unreachable = difficulty.is_unreachable
    solver = Solver(distance, closeness, max_iter)
    if result is None:
        whole, infeasible = solver.feasible(problem)
    else:
        whole, infeasible = given_by(result, problem, solver), ""
    problem = whole.problem
    at_whole = sensitivity_of(whole.program, whole.prices)
    errors = whole.errors
    at_core, core_errors = at_whole, errors
    if unreachable.any():
        core = solver.dropping(whole, unreachable, at_whole)
        at_core = sensitivity_of(core.program, core.prices)
        core_errors = np.where(unreachable, 0.0, core.errors)

    free, ratio, scales = whole.free, whole.ratio, problem.scales
    gram = symmetric_gram(whole.program.columns, 1 / problem.design_weights[free])
    combinations = combinations_of(gram, min_explained, difficulty.support)
    size_of_ratios = float(np.sqrt(problem.design_weights[free] @ ratio[free] ** 2))
    identities = tuple(
        identity_of(combination, problem, whole.program.goal * scales, size_of_ratios)
        for combination in combinations
    )
    findings = Findings(
        problem=problem,
        difficulty=difficulty,
        combinations=combinations,
        identities=identities,
        sensitivity=at_whole,
        core=at_core,
        core_errors=core_errors,
        final=problem.targets + errors * scales,
        objective=whole.objective,
        loosening=loosening,
        least_miss=least_miss,
    )
    rows, members = identity_tables(
        identities,
        problem,
        errors,
        at_whole,
        loosening,
        findings.objective,
        least_miss,
    )
    names = problem.target_names
    table = _with_exact(ranked_table(findings), whole, at_whole, solver, n_resolve)
    together = forced_together(identities, problem)
    return TargetAnalysis(
        table=table,
        groups=tuple(tuple(names[j] for j in group) for group in groups_of(combinations)),
        identities=rows,
        identity_members=members,
        conflicts=_pairs(findings),
        target_names=names,
        conflict_matrix=findings.conflict,
        sensitivity=at_core.fall_of_errors(),
        objective=findings.objective,
        mean_error=float(np.abs(errors).mean()),
        forced_share=together / findings.objective if findings.objective > 0 else 0.0,
        gap=whole.gap,
        loosening=float(loosening),
        least_miss=float(least_miss),
        infeasible=infeasible,
        seconds=time.perf_counter() - begun,
    )


def _pairs(found: Findings) -> pd.DataFrame:
    """Pairs that pull against each other, strongest first; see `TargetAnalysis.conflicts`."""
    import pandas as pd

    first, second = np.nonzero(np.triu(found.conflict > LEAST_CONFLICT, 1))
    conflict = found.conflict[first, second]
    # What either takes from the other: half the product of both prices with the inverse of H.
    strength = conflict * np.sqrt(found.drops[first] * found.drops[second])
    rounded = [float(f"{value:.9e}") for value in strength]
    order = np.argsort(-np.array(rounded), kind="stable")[:MOST_PAIRS]
    first, second = first[order], second[order]
    relief = found.core.fall_of_errors()
    names = np.array(found.problem.target_names, dtype=object)
    return pd.DataFrame(
        {
            "first": names[first],
            "second": names[second],
            "conflict": conflict[order],
            "strength": strength[order],
            "relief_first": relief[first, second],
            "relief_second": relief[second, first],
        }
    )


def _with_exact(
    table: pd.DataFrame, whole: Optimum, at_whole: Sensitivity, solver: Solver, n_resolve: int
) -> pd.DataFrame:
    """The table, with what dropping gives solved anew for its first `n_resolve` targets."""
    place = {name: position for position, name in enumerate(whole.problem.target_names)}
    misses, before = np.abs(whole.errors), whole.objective
    objective, mean_error = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for row, name in enumerate(table.name[:n_resolve]):
        dropped = np.zeros(len(table), dtype=np.bool_)
        dropped[place[name]] = True
        changed = solver.dropping(whole, dropped, at_whole)
        objective[row] = before - changed.objective
        if not dropped.all():
            mean_error[row] = (misses - np.abs(changed.errors))[~dropped].mean()
    return table.assign(exact_drop_objective=objective, exact_drop_mean_error=mean_error)
