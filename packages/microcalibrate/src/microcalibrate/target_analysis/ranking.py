"""Which target makes most trouble: the ranked table, with a reason in plain words for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.figures.plotting import amount, percent, power_of_ten
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.conflict import Sensitivity
from microcalibrate.target_analysis.difficulty import Difficulty
from microcalibrate.target_analysis.redundancy import Combination, groups_of

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

UNREACHABLE = "unreachable"
CONTRADICTORY = "contradictory"
REDUNDANT = "redundant"
MISSED = "missed"
THIN = "thin"
COSTLY = "costly"
FINE = "fine"
KINDS = (UNREACHABLE, CONTRADICTORY, REDUNDANT, MISSED, THIN, COSTLY, FINE)
"""Kinds of trouble, the worst first: out of reach of the bounds; only to be met at the cost of
others; made up of others; missed all the same; resting on a few records; met at a high price."""

# A combination whose target is this far from what it implies, in scales, is a contradiction.
LEAST_DISAGREEMENT = 0.005
# A target counts as missed from this absolute error, in scales, on.
LEAST_MISS = 0.01
# Two targets are in conflict where this share of their pull is against each other, and dropping
# either gives at least this share of what dropping the other gives: else one only suffers.
STRONG_CONFLICT = 0.3
COMPARABLE = 0.25
# Fewer effective records than this are thin support.
THIN_SUPPORT = 5.0
# A target is costly from this share of the objective on.
COSTLY_SHARE = 0.1
# Most names in a reason.
MOST_NAMES = 3


@dataclass(frozen=True, eq=False)
class Findings:
    """All that is known of the targets; arrays have shape `(n_targets,)`.

    Attributes:
        problem: The problem.
        difficulty: Reach and support of each target.
        combinations: Targets that are made up of others.
        implied_targets: Targets less what held records give, in their units.
        sensitivity: At the optimum of all targets.
        core: At the optimum of those within reach.
        core_errors: Errors at that optimum, signed, in scales; 0 for those out of reach.
        size_of_ratios: `sqrt(sum(d * r**2))` of the free records at that optimum.
        final: Estimates at the optimum of all targets, in the targets' units.
        objective: Value of the objective there.
        loosening: By how many scales targets are loosened.
    """

    problem: Problem
    difficulty: Difficulty
    combinations: tuple[Combination, ...]
    implied_targets: Vector
    sensitivity: Sensitivity
    core: Sensitivity
    core_errors: Vector
    size_of_ratios: float
    final: Vector
    objective: float
    loosening: float

    @cached_property
    def conflict(self) -> Matrix:
        """Conflict of each pair within reach, shape `(n_targets, n_targets)`."""
        return self.core.conflict()

    @cached_property
    def drops(self) -> Vector:
        """Fall of the objective at the optimum within reach, were each one dropped."""
        return self.core.fall_of_objective()

    def disagreement(self, combination: Combination) -> float:
        """How far a target is from what its combination implies, in scales.

        Granted are the tolerances, and what the part of the column that the combination leaves
        can add up to at ratios of the size of the present ones (Cauchy–Schwarz).
        """
        problem, of = self.problem, combination.of
        parts = list(combination.parts)
        band = np.where(problem.is_soft, 0.0, problem.tolerances) * problem.scales
        implied = combination.implied(self.implied_targets)
        granted = band[of] + np.abs(combination.coefficients) @ band[parts]
        granted += combination.left * self.size_of_ratios
        missing = abs(self.implied_targets[of] - implied) - granted
        return float(max(missing, 0.0) / problem.scales[of])


def ranked_table(found: Findings) -> pd.DataFrame:
    """One row per target, the most troublesome first; see `TargetAnalysis.table`."""
    import pandas as pd

    problem, difficulty, whole = found.problem, found.difficulty, found.sensitivity
    kinds, reasons = _kinds_and_reasons(found)
    group = np.full(problem.n_targets, -1)
    for number, members in enumerate(groups_of(found.combinations)):
        group[list(members)] = number
    explained = np.zeros(problem.n_targets)
    written = [""] * problem.n_targets
    for combination in found.combinations:
        explained[combination.of] = combination.explained
        written[combination.of] = in_words(combination, problem.target_names)
    strongest = np.argmax(found.conflict, axis=1)
    conflict = found.conflict[np.arange(problem.n_targets), strongest]
    names = np.array(problem.target_names, dtype=object)
    initial = problem.estimates(problem.design_weights)
    counted = problem.importances > 0
    table = pd.DataFrame(
        {
            "name": names,
            "kind": kinds,
            "reason": reasons,
            "target": problem.targets,
            "initial": initial,
            "final": found.final,
            "initial_error": (initial - problem.targets) / problem.scales,
            "error": (found.final - problem.targets) / problem.scales,
            "price": whole.prices,
            "lowest": difficulty.lowest,
            "highest": difficulty.highest,
            "unreachable": difficulty.is_unreachable,
            "support": difficulty.support,
            "effective_support": difficulty.effective_support,
            "largest_share": difficulty.largest_share,
            "group": group,
            "explained": explained,
            "combination": written,
            "conflict_with": np.where(conflict > 0, names[strongest], ""),
            "conflict": np.maximum(conflict, 0.0),
            "drop_objective": whole.fall_of_objective(),
            "drop_mean_error": whole.fall_of_mean_error(counted | ~problem.is_soft),
            "loosen_objective": whole.fall_of_objective(found.loosening),
        }
    )
    place = np.array([KINDS.index(kind) for kind in kinds])
    within = np.where(place == KINDS.index(UNREACHABLE), difficulty.beyond, found.drops)
    within = np.where(place == KINDS.index(REDUNDANT), explained, within)
    # Rounded, so that equal amounts keep the order that they were given in.
    within = np.array([float(f"{value:.6e}") for value in within])
    ranked = table.iloc[np.lexsort((np.arange(len(table)), -within, place))]
    ranked = ranked.reset_index(drop=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked


def _kinds_and_reasons(found: Findings) -> tuple[list[str], list[str]]:
    """Kind and reason of each target, the worst that holds; the last said wins."""
    problem, names = found.problem, found.problem.target_names
    kinds = [FINE] * problem.n_targets
    reasons = ["no trouble found"] * problem.n_targets

    def say(target: int, kind: str, reason: str) -> None:
        kinds[target], reasons[target] = kind, reason

    whole = found.sensitivity.fall_of_objective()
    share = whole / found.objective if found.objective > 0 else np.zeros_like(whole)
    difficulty = found.difficulty
    for j in range(problem.n_targets):
        if share[j] >= COSTLY_SHARE:
            said = f"met at a high price: without it the objective is {percent(share[j])} lower"
            say(j, COSTLY, said)
        if difficulty.support[j] == 0:
            say(j, THIN, "no record contributes to it")
        elif difficulty.effective_support[j] < THIN_SUPPORT < problem.n_records:
            held = percent(difficulty.largest_share[j])
            said = f"rests on few records: one of {difficulty.support[j]:,} holds {held}"
            say(j, THIN, said)
    for j in np.flatnonzero(np.abs(found.core_errors) >= LEAST_MISS).tolist():
        say(j, *_why_missed(found, j))
    unreachable = difficulty.is_unreachable
    contradictions = []
    for combination in found.combinations:
        if unreachable[[combination.of, *combination.parts]].any():
            continue
        if found.disagreement(combination) >= LEAST_DISAGREEMENT:
            contradictions.append(combination)
        elif kinds[combination.of] != CONTRADICTORY:
            text = in_words(combination, names)
            say(combination.of, REDUNDANT, f"{'same as' if _is_one(combination) else 'is'} {text}")
    for combination in contradictions:
        # In a long sum most others hardly bear it: dropping them would give little.
        parts = np.array(combination.parts)
        bearing = found.drops[parts] >= COMPARABLE * found.drops[combination.of]
        for part in parts[bearing].tolist():
            say(part, CONTRADICTORY, f"contradicts '{names[combination.of]}'")
    for combination in contradictions:
        implied = amount(combination.implied(found.implied_targets))
        others = _listed(names, combination.parts)
        one = _is_one(combination)
        said = f"contradicts {others}, which {'implies' if one else 'imply'} {implied}"
        say(combination.of, CONTRADICTORY, said)
    for j in np.flatnonzero(unreachable).tolist():
        say(j, UNREACHABLE, _why_unreachable(found, j))
    return kinds, reasons


def _why_missed(found: Findings, target: int) -> tuple[str, str]:
    """Kind and reason of a target that is missed among those within reach."""
    names, conflict, drops = found.problem.target_names, found.conflict[target], found.drops
    missed = percent(abs(found.core_errors[target]))
    strong = np.flatnonzero(conflict >= STRONG_CONFLICT)
    strong = strong[np.argsort(-conflict[strong] * drops[strong], kind="stable")]
    if not len(strong):
        return MISSED, f"missed by {missed}: too far from the design weights"
    others = _listed(names, strong)
    if drops[target] >= COMPARABLE * drops[strong].max():
        return CONTRADICTORY, f"contradicts {others} (missed by {missed})"
    return MISSED, f"missed by {missed}: held off by {others}"


def _why_unreachable(found: Findings, target: int) -> str:
    """Reason of a target outside its range."""
    problem, difficulty = found.problem, found.difficulty
    lowest, highest = difficulty.lowest[target], difficulty.highest[target]
    too_high = problem.targets[target] > highest
    bound = problem.max_ratio if too_high else problem.min_ratio
    edge = f"at most {amount(highest)}" if too_high else f"at least {amount(lowest)}"
    same = bool(np.all(bound == bound[0])) and np.isfinite(bound[0])
    # A column of one sign is at its edge with all ratios on the same bound.
    if same and problem.targets[target] > 0 and lowest >= 0:
        return f"out of reach: {edge} at ratios {'up' if too_high else 'down'} to {bound[0]:g}"
    return f"out of reach: {edge} within the bounds on the ratio"


def _is_one(combination: Combination) -> bool:
    return len(combination.parts) == 1


def in_words(combination: Combination, names: tuple[str, ...]) -> str:
    """A combination as a sum of named targets.

    Examples:
        >>> in_words(Combination(2, (0, 1), np.array([1.0, -2.5]), 1.0), ("a", "b", "c"))
        "'a' − 2.5 × 'b'"
    """
    text = ""
    pairs = list(zip(combination.parts, combination.coefficients, strict=True))
    for number, (part, coefficient) in enumerate(pairs[: MOST_NAMES + 1]):
        size = abs(float(coefficient))
        times = "" if abs(size - 1) < 1e-4 else f"{_factor(size)} × "
        sign = (" − " if coefficient < 0 else " + ") if number else "−" if coefficient < 0 else ""
        text += f"{sign}{times}'{names[part]}'"
    left = len(pairs) - MOST_NAMES - 1
    return text + (f" and {left:,} more" if left > 0 else "")


def _factor(size: float) -> str:
    return f"{size:.4g}" if 1e-3 <= size < 1e5 else power_of_ten(size)


def _listed(names: tuple[str, ...], positions: Any) -> str:
    """Names in a sentence, the first few of many."""
    quoted = [f"'{names[int(j)]}'" for j in positions]
    if len(quoted) > MOST_NAMES:
        return f"{', '.join(quoted[:MOST_NAMES])} and {len(quoted) - MOST_NAMES:,} more"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
