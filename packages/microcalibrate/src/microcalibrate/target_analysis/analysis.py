"""Which targets make trouble, why, and what dropping or loosening them would give."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.distances import Distance
from microcalibrate.errors import InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.conflict import sensitivity_of, symmetric_gram
from microcalibrate.target_analysis.difficulty import difficulty_of
from microcalibrate.target_analysis.ranking import FINE, Findings, ranked_table
from microcalibrate.target_analysis.redundancy import combinations_of, groups_of
from microcalibrate.target_analysis.solves import (
    Solver,
    check_fraction,
    check_positive,
    check_prices,
    check_whole,
    cost_of_distance,
    given_by,
    objective_at,
    without,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.result import CalibrationResult

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Most pairs that the table of conflicts lists, and the least conflict that counts as one.
MOST_PAIRS = 1_000
LEAST_CONFLICT = 0.01
# Prices of a solve that ended above this relative gap are not exact enough to be trusted blindly.
ROUGH_GAP = 1e-6


@dataclass(frozen=True, eq=False)
class TargetAnalysis:
    """Which targets make trouble, and why.

    Attributes:
        table: One row per target, the most troublesome first. `rank`, `name`, `kind` (see
            `reason` for it in words), `target`, `initial` and `final` estimate, `initial_error`
            and `error` (signed, in scales), `price`; before solving `lowest` and `highest`
            estimate at the bounds on the ratio, `unreachable`, `support` (records that
            contribute), `effective_support`, `largest_share` (of one record, in `[0, 1]`);
            `group` (of near-collinear targets, -1 for none), `explained` (share that its
            combination explains, in `[0, 1]`), `combination`; `conflict_with` and `conflict`
            (strongest); and `drop_objective`, `drop_mean_error`, `loosen_objective`: fall of the
            objective and of the mean absolute error of the other targets, to first order, with
            `exact_drop_objective` and `exact_drop_mean_error` where solved again (else NaN).
        groups: Names of near-collinear targets, group by group.
        conflicts: One row per pair that pulls against each other, strongest first: `first`,
            `second`, `conflict` (in `[0, 1]`), `strength` (in units of the objective),
            `relief_first` (fall of the first's absolute error, in scales, per scale by which the
            second is loosened) and `relief_second`.
        target_names: Names in the order of the matrices.
        conflict_matrix: Shape `(n_targets, n_targets)`, in `[-1, 1]`: 1 where only one of two
            targets can be met, 0 where they do not meet, below 0 where they pull as one. Targets
            out of reach are left out of it: they would hide the rest.
        sensitivity: Shape `(n_targets, n_targets)`: fall of the absolute error of target `j`
            (row), in scales, per scale by which target `k` (column) is loosened; also among those
            within reach.
        objective: Price of distance plus half the mean squared error, before any change.
        mean_error: Mean absolute error, in scales.
        gap: Relative duality gap of the solve, or of the given result.
        loosening: By how many scales `loosen_objective` loosens.
        infeasible: Why exact or banded targets cannot all hold, or an empty text. Where they
            cannot, all targets were analysed as soft ones.
        seconds: Wall time.
    """

    table: pd.DataFrame
    groups: tuple[tuple[str, ...], ...]
    conflicts: pd.DataFrame
    target_names: tuple[str, ...]
    conflict_matrix: Matrix
    sensitivity: Matrix
    objective: float
    mean_error: float
    gap: float
    loosening: float
    infeasible: str
    seconds: float

    def summary(self, n_targets: int = 10) -> str:
        """A few lines for people: how many of each kind, and the worst with their reasons.

        Args:
            n_targets: Most targets to list, from 1.

        Raises:
            InvalidOption: If `n_targets` is below 1.
        """
        check_whole("n_targets", n_targets, 1)
        counts = self.table.kind.value_counts()
        found = [f"{counts[kind]} {kind}" for kind in dict.fromkeys(self.table.kind)]
        lines = [f"{len(self.table)} targets: {', '.join(found)}."]
        if self.infeasible:
            lines.append(f"All analysed as soft, because {self.infeasible}")
        if not self.gap <= ROUGH_GAP:
            lines.append(f"Figures are rough: the solve ended at a relative gap of {self.gap:.1e}.")
        lines.append(f"Mean absolute error after calibration: {self.mean_error:.3%}.")
        worst = self.table[self.table.kind != FINE].head(n_targets)
        lines += [
            f"{rank:>4}. '{name}': {reason}."
            for rank, name, reason in zip(worst["rank"], worst.name, worst.reason, strict=True)
        ]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> Path:
        """Write the tables, the matrix of conflicts and the summary into a folder.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced as a
                whole, and only once the new one is complete.

        Returns:
            The folder, with the files of `write_into`.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        from microcalibrate.atomic import run_folder

        folder = Path(folder)
        with run_folder(folder) as fresh:
            self.write_into(fresh)
        return folder

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists, each as a whole.

        They are `target_analysis.csv`, `target_conflicts.csv`, `target_analysis.txt`, and
        `target_conflict_matrix.npz` with `names`, `conflict` and `sensitivity`.

        Raises:
            UnwritableFile: If a file cannot be written; it is then as it was.
        """
        from microcalibrate.atomic import atomic_path
        from microcalibrate.io import write_table

        write_table(self.table, folder / "target_analysis.csv", guard_formulas=True)
        write_table(self.conflicts, folder / "target_conflicts.csv", guard_formulas=True)
        with (
            atomic_path(folder / "target_conflict_matrix.npz") as unfinished,
            unfinished.open("wb") as file,
        ):
            np.savez_compressed(
                file,
                names=np.array(self.target_names, dtype=np.str_),
                conflict=self.conflict_matrix,
                sensitivity=self.sensitivity,
            )
        with atomic_path(folder / "target_analysis.txt") as unfinished:
            unfinished.write_text(self.summary() + "\n", encoding="utf-8")

    def plot(self, n_targets: int = 30) -> Figure:
        """Heat map of the conflicts among the most troublesome targets.

        Args:
            n_targets: Most targets to show, from 1 to 60.

        Raises:
            InvalidOption: If `n_targets` is out of its range.
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures.heat_map import heat_map

        return heat_map(self, n_targets)


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
    min_explained: float = 0.9999,
    n_resolve: int = 0,
    max_iter: int = 1000,
) -> TargetAnalysis:
    """Find out which targets are out of reach, contradictory, redundant or costly, and why.

    One dense solve (none where `result` is given) and the inverse of its normal equations answer
    for all targets; where some are out of reach, a second solve without them shows the conflicts
    among the rest. First-order figures hold while no record reaches or leaves a bound.

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
        min_explained: Share of a column's squares, in `(0, 1)`, that others must explain before
            it counts as redundant.
        n_resolve: For how many of the worst targets dropping is solved exactly, from 0. Each
            takes about as long as a calibration.
        max_iter: Most Newton steps of each solve.

    Returns:
        The analysis.

    Raises:
        InvalidProblem: If weights, targets or matrix do not fit together; the message says where.
        InvalidOption: If an option is out of its range, or `result` is not of this problem.

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
    check_whole("n_resolve", n_resolve, 0)
    check_whole("max_iter", max_iter, 1)
    lower = np.maximum(problem.min_ratio, distance.lower)
    upper = np.minimum(problem.max_ratio, distance.upper)
    if not ((problem.design_weights > 0) & (lower < upper)).any():
        raise InvalidOption(
            "the bounds leave no ratio free: min_weight_ratio equals max_weight_ratio. Widen them."
        )
    difficulty = difficulty_of(problem, lower, upper)
    unreachable = difficulty.is_unreachable
    solver = Solver(distance, closeness, max_iter)
    infeasible = ""
    if result is None:
        problem, solution, infeasible = solver.feasible(problem)
        prices, ratio, gap = solution.prices, solution.ratio, solution.gap
    else:
        prices, ratio, gap = given_by(result, problem)
    program, free = solver.program(problem)
    if result is not None:
        check_prices(program, prices, ratio[free])
    whole = sensitivity_of(program, prices)

    errors = problem.errors(ratio * problem.design_weights)
    core, core_errors = whole, errors
    if unreachable.any():
        reachable, rest, _ = solver.feasible(without(problem, unreachable))
        core = sensitivity_of(solver.program(reachable)[0], rest.prices)
        core_errors = np.where(
            unreachable, 0.0, problem.errors(rest.ratio * problem.design_weights)
        )
    gram = symmetric_gram(program.columns, 1 / problem.design_weights[free])
    findings = Findings(
        problem=problem,
        difficulty=difficulty,
        combinations=combinations_of(gram, min_explained),
        implied_targets=program.goal * problem.scales,
        sensitivity=whole,
        core=core,
        core_errors=core_errors,
        size_of_ratios=float(np.sqrt(problem.design_weights[free] @ ratio[free] ** 2)),
        final=problem.estimates(ratio * problem.design_weights),
        objective=objective_at(program, ratio[free]),
        loosening=loosening,
    )
    names = problem.target_names
    return TargetAnalysis(
        table=_with_exact(ranked_table(findings), findings, solver, np.abs(errors), n_resolve),
        groups=tuple(tuple(names[j] for j in group) for group in groups_of(findings.combinations)),
        conflicts=_pairs(findings),
        target_names=names,
        conflict_matrix=findings.conflict,
        sensitivity=core.fall_of_errors(),
        objective=findings.objective,
        mean_error=float(np.abs(errors).mean()),
        gap=gap,
        loosening=float(loosening),
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
    table: pd.DataFrame, found: Findings, solver: Solver, misses: Vector, n_resolve: int
) -> pd.DataFrame:
    """The table, with what dropping gives solved anew for its first `n_resolve` targets."""
    problem = found.problem
    place = {name: position for position, name in enumerate(problem.target_names)}
    objective, mean_error = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for row, name in enumerate(table.name[:n_resolve]):
        dropped = np.zeros(problem.n_targets, dtype=np.bool_)
        dropped[place[name]] = True
        changed = without(problem, dropped)
        solution = solver.solution(changed)
        program, free = solver.program(changed)
        objective[row] = found.objective - objective_at(program, solution.ratio[free])
        left = np.abs(changed.errors(solution.ratio * problem.design_weights))
        if not dropped.all():
            mean_error[row] = (misses - left)[~dropped].mean()
    return table.assign(exact_drop_objective=objective, exact_drop_mean_error=mean_error)
