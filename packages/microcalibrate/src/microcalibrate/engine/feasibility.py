"""What can be known before any solve: targets that no weights within their bounds can meet.

Each finding is a fact about the columns and the bounds, not about a solution: a column of zeros, a
column twice, a target out of reach, parts that do not add up to their total.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import is_sparse
from microcalibrate.engine.difficulty import Difficulty, difficulty_of
from microcalibrate.engine.normal_equations import columns_of, symmetric_gram
from microcalibrate.engine.redundancy import Combination, combinations_of
from microcalibrate.problem import Problem

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Columns are multiples of each other when the cosine of their angle misses 1 by no more.
ALIKE = 1e-12
# Sums are looked for among at most so many targets: they take a matrix of that many squared.
MOST_SUMMED = 6_000
# A sum agrees with its total to this share of the larger of both.
AGREES = 1e-9
# Names that a sentence lists before it counts the others.
MOST_NAMES = 4


class Problematic(Enum):
    """What may be wrong with targets; the text says what to do."""

    NO_SUPPORT = "No record contributes. Drop the target, or mend its column."
    OUT_OF_REACH = "Out of reach within the bounds. Widen them, or change or drop the target."
    DUPLICATE = "The same column, up to a factor. Keep one of them."
    SUM_DISAGREES = "Parts and total disagree in the targets. Mend the one from the weaker source."
    REDUNDANT = "Follows from others and agrees with them. It may stay; dropping it is quicker."


@dataclass(frozen=True)
class Finding:
    """One fact about some targets.

    Attributes:
        kind: What it is.
        targets: Positions of the targets.
        text: The fact in a sentence, with names and numbers.
        is_fatal: Whether no weights can satisfy the tolerances of exact and banded targets.
    """

    kind: Problematic
    targets: tuple[int, ...]
    text: str
    is_fatal: bool


@dataclass(frozen=True, eq=False)
class Feasibility:
    """What is known of a problem before it is solved.

    Attributes:
        findings: Worst first: what makes exact and banded targets infeasible, then the rest.
        target_names: One name per target.
        targets: Shape `(n_targets,)`.
        initial: Estimates with the design weights, shape `(n_targets,)`.
        difficulty: Reach and support of each target.
        sums_were_sought: False where there are too many targets to look for sums among them.
    """

    findings: tuple[Finding, ...]
    target_names: tuple[str, ...]
    targets: Vector
    initial: Vector
    difficulty: Difficulty
    sums_were_sought: bool

    @property
    def is_infeasible(self) -> bool:
        """Whether it is certain that exact and banded targets cannot all hold.

        False does not mean that they can: several targets may conflict in ways that only a solve
        finds.
        """
        return any(finding.is_fatal for finding in self.findings)

    def table(self) -> pd.DataFrame:
        """One row per target, with what weights within their bounds can make of it.

        Columns are `name`, `target`, `initial`, `lowest`, `highest`, `support` and `findings`.
        """
        import pandas as pd

        notes: list[list[str]] = [[] for _ in self.target_names]
        for finding in self.findings:
            for j in finding.targets:
                notes[j].append(finding.text)
        return pd.DataFrame(
            {
                "name": self.target_names,
                "target": self.targets,
                "initial": self.initial,
                "lowest": self.difficulty.lowest,
                "highest": self.difficulty.highest,
                "support": self.difficulty.support,
                "findings": [" ".join(lines) for lines in notes],
            }
        )

    def summary(self) -> str:
        """All findings, a line each, with what to do."""
        lines = [f"{finding.text} {finding.kind.value}" for finding in self.findings]
        if not self.sums_were_sought:
            lines.append(f"Sums were not looked for: there are more than {MOST_SUMMED} targets.")
        return "\n".join(lines or ["Nothing stands against these targets on their own."])


def check_feasibility(problem: Problem) -> Feasibility:
    """Look at columns, targets and bounds before any solve.

    Args:
        problem: A checked problem.

    Returns:
        What was found.

    Examples:
        >>> problem = Problem.build(
        ...     [1.0, 1.0], [2.0, 1.0, 9.0], [[1, 0, 1], [0, 1, 1]], max_weight_ratio=3.0
        ... )
        >>> for finding in check_feasibility(problem).findings:
        ...     print(finding.text)
        "target_2" is 9, but weights within their bounds give 0 to 6.
        "target_0" + "target_1" is "target_2" in every record, but the targets are 3 and 9.
    """
    difficulty = difficulty_of(problem, problem.lower_ratio, problem.upper_ratio)
    found = _without_support(problem, difficulty) + _out_of_reach(problem, difficulty)
    groups = copies(problem.estimate_matrix, problem.design_weights)
    found += [_duplicates(problem, group) for group in groups]
    sought = problem.n_targets <= MOST_SUMMED
    if sought:
        # Of copies the first stands for all.
        spare = {j for group in groups for j in group[1:]}
        found += [_sum(problem, combination) for combination in sums(problem, spare)]
    return Feasibility(
        findings=tuple(sorted(found, key=lambda finding: not finding.is_fatal)),
        target_names=problem.target_names,
        targets=problem.targets,
        initial=problem.estimates(problem.design_weights),
        difficulty=difficulty,
        sums_were_sought=sought,
    )


# --- Facts about columns --------------------------------------------------------------------------


def reachable_range(problem: Problem) -> tuple[Vector, Vector]:
    """Least and greatest estimate of each target alone, with ratios within their bounds.

    Args:
        problem: A checked problem.

    Returns:
        Two vectors `(n_targets,)`, in the targets' units; infinite where no bound stops them.

    Examples:
        >>> problem = Problem.build([1.0, 2.0], [3.0], [[1.0], [-1.0]], max_weight_ratio=4.0)
        >>> reachable_range(problem)
        (array([-8.]), array([4.]))
    """
    found = difficulty_of(problem, problem.lower_ratio, problem.upper_ratio)
    return found.lowest, found.highest


def copies(estimate_matrix: Any, design_weights: Vector) -> tuple[tuple[int, ...], ...]:
    """Groups of columns that are multiples of each other among records of positive weight.

    Candidates are found by two random sums of each column, whose ratio copies share, and then
    compared in full. Columns of zeros are in no group.

    Args:
        estimate_matrix: Array or CSR array, shape `(n_records, n_targets)`.
        design_weights: Shape `(n_records,)`.

    Returns:
        Positions, ascending in each group; groups by their first.

    Examples:
        >>> copies(np.array([[1.0, 3.0, 2.0], [2.0, 1.0, 4.0]]), np.ones(2))
        ((0, 2),)
    """
    rng = np.random.default_rng(0)
    counts = design_weights > 0
    draws = rng.normal(size=(2, len(counts))) * counts
    first, second = np.asarray(estimate_matrix.T @ draws[0]), estimate_matrix.T @ draws[1]
    used = np.flatnonzero((first != 0) | (second != 0))
    angle = np.arctan(second[used] / np.where(first[used] == 0, 1e-300, first[used]))
    order = np.argsort(angle, kind="stable")
    breaks = np.flatnonzero(np.diff(angle[order]) > 1e-9) + 1
    groups = []
    for run in np.split(used[order], breaks):
        left = np.sort(run)
        while len(left) > 1:
            is_alike = _alike(estimate_matrix, counts, left)
            if is_alike.sum() > 1:
                groups.append(tuple(left[is_alike].tolist()))
            left = left[~is_alike]
    return tuple(sorted(groups))


def _alike(matrix: Any, counts: NDArray[np.bool_], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of some columns are multiples of the first of them."""
    block = matrix[:, columns]
    block = (block.toarray() if is_sparse(block) else block) * counts[:, None]
    block = block / np.maximum(np.abs(block).max(axis=0), 1e-300)
    cosine = (block[:, 0] @ block) / np.sqrt((block[:, 0] ** 2).sum() * (block**2).sum(axis=0))
    return np.asarray(np.abs(cosine) >= 1 - ALIKE)


def sums(problem: Problem, spare: set[int] | None = None) -> tuple[Combination, ...]:
    """Columns that are exact combinations of others, such as totals and their parts.

    Args:
        problem: A checked problem.
        spare: Positions of targets to leave out.

    Returns:
        The combinations, by position of the one that is made up.
    """
    kept = np.array([j for j in range(problem.n_targets) if j not in (spare or set())])
    matrix = problem.estimate_matrix
    columns = columns_of(matrix, np.ones(problem.n_records), np.ones(problem.n_targets))
    gram = symmetric_gram(columns, problem.design_weights)[np.ix_(kept, kept)]
    found = combinations_of(gram, min_explained=1 - 1e-9)
    return tuple(
        Combination(
            int(kept[one.of]),
            tuple(int(kept[part]) for part in one.parts),
            one.coefficients,
            one.explained,
            one.left,
        )
        for one in found
        if len(one.parts) > 1
    )


# --- Findings -------------------------------------------------------------------------------------


def _without_support(problem: Problem, difficulty: Difficulty) -> list[Finding]:
    names, targets = problem.target_names, problem.targets
    return [
        Finding(
            Problematic.NO_SUPPORT,
            (int(j),),
            f'"{names[j]}" is {_amount(targets[j])}, and no record of positive weight contributes.',
            bool(targets[j] != 0 and not problem.is_soft[j]),
        )
        for j in np.flatnonzero(difficulty.support == 0)
    ]


def _out_of_reach(problem: Problem, difficulty: Difficulty) -> list[Finding]:
    far = difficulty.is_unreachable & (difficulty.support > 0)
    order = np.argsort(-difficulty.beyond, kind="stable")
    return [
        Finding(
            Problematic.OUT_OF_REACH,
            (int(j),),
            f'"{problem.target_names[j]}" is {_amount(problem.targets[j])}, but weights within '
            f"their bounds give {_amount(difficulty.lowest[j])} to "
            f"{_amount(difficulty.highest[j])}.",
            not problem.is_soft[j],
        )
        for j in order[far[order]]
    ]


def _tolerated(problem: Problem, members: list[int], coefficients: Vector) -> float:
    """What tolerances of all members grant together, in the unit of the sum."""
    tolerance = np.where(problem.is_soft, 0.0, problem.tolerances)[members]
    return float(np.abs(coefficients) @ (tolerance * problem.scales[members]))


def _duplicates(problem: Problem, group: tuple[int, ...]) -> Finding:
    """Copies, which agree where all targets are the same multiple of their columns."""
    members = list(group)
    length = problem.estimates(problem.design_weights)[members]
    if not length.all():
        # A total of zero says nothing about the factor between two columns; their squares do.
        weights = problem.design_weights
        block = problem.estimate_matrix[:, members]
        block = block.toarray() if is_sparse(block) else block
        length = weights @ (block * block[:, :1])
    factor = length / length[0]
    misfit = problem.targets[members] - factor * problem.targets[members[0]]
    granted = [
        _tolerated(problem, [members[0], j], np.array([f, 1.0]))
        for j, f in zip(members, factor, strict=True)
    ]
    size = np.abs(problem.targets[members]) + problem.scales[members]
    off = np.abs(misfit) > np.array(granted) + AGREES * size
    named = _listed([f'"{problem.target_names[j]}"' for j in members])
    if not off.any():
        return Finding(Problematic.DUPLICATE, group, f"{named} have one column.", False)
    worst = int(np.argmax(np.abs(misfit) / size))
    odd = members[worst]
    text = (
        f"{named} have one column, but their targets contradict each other: "
        f'"{problem.target_names[odd]}" is {_amount(problem.targets[odd])}, and '
        f'"{problem.target_names[members[0]]}" makes it '
        f"{_amount(factor[worst] * problem.targets[members[0]])}."
    )
    return Finding(Problematic.DUPLICATE, group, text, not problem.is_soft[members].any())


def _sum(problem: Problem, combination: Combination) -> Finding:
    """A sum, with what its sides come to in the targets; the shorter side is named second."""
    members = [combination.of, *combination.parts]
    signed = np.array([1.0, *-combination.coefficients])
    signed /= np.abs(signed).min() if np.ptp(np.abs(signed)) < 1e-6 else 1.0
    if (signed > 0).sum() > (signed < 0).sum():
        signed = -signed
    left, right = (np.flatnonzero(signed * sign > 0) for sign in (-1, 1))
    values = problem.targets[members]
    implied, stated = (float(np.abs(signed[side]) @ values[side]) for side in (left, right))
    names = [f'"{problem.target_names[j]}"' for j in members]
    said = " is ".join(
        _added([names[k] for k in side], np.abs(signed[side])) for side in (left, right)
    )
    size = float(np.abs(signed) @ np.abs(values))
    room = _tolerated(problem, members, signed) + AGREES * max(size, 1e-300)
    where = tuple(int(members[k]) for k in (*left, *right))
    if abs(implied - stated) <= room:
        text = f"{said} in every record, and the targets agree."
        return Finding(Problematic.REDUNDANT, where, text, False)
    return Finding(
        Problematic.SUM_DISAGREES,
        where,
        f"{said} in every record, but the targets are {_amount(implied)} and {_amount(stated)}.",
        not problem.is_soft[members].any(),
    )


def _amount(value: float) -> str:
    """A number as people write it: large ones without an exponent or decimals."""
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:,.6g}"


def _added(names: list[str], coefficients: Vector) -> str:
    """A sum in words; beyond some terms the others are counted."""
    terms = [
        name if abs(factor - 1) < 1e-6 else f"{factor:.4g} {name}"
        for name, factor in zip(names, coefficients, strict=True)
    ]
    rest = len(terms) - MOST_NAMES
    return " + ".join(terms[:MOST_NAMES] + ([f"{rest} more"] if rest > 0 else [])) or "0"


def _listed(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    if rest > 0:
        names = [*names[:MOST_NAMES], f"{rest} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}"
