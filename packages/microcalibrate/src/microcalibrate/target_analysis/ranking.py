"""Which target makes most trouble: the ranked table, with a reason in plain words for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.difficulty import Difficulty
from microcalibrate.engine.redundancy import Combination, groups_of
from microcalibrate.figures.plotting import amount, percent
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.conflict import Sensitivity
from microcalibrate.target_analysis.identities import MOST_NAMES, Identity, side_in_words

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
"""Kinds of trouble, the worst first: out of reach of the bounds; missed, and only to be met at the
cost of others; made up of others; missed all the same; resting on a few records; met at a high
price."""

# Two targets are in conflict where this share of their pull is against each other, and dropping
# either gives at least this share of what dropping the other gives: else one only suffers.
STRONG_CONFLICT = 0.3
COMPARABLE = 0.25
# And where dropping it relieves the others, taken together, by this share of its own miss.
SHARE_OF_OWN = 0.5
# Fewer effective records than this are thin support.
THIN_SUPPORT = 5.0
# A target is costly from this share of the objective on.
COSTLY_SHARE = 0.1
# Most members of an identity that a reason spells out.
MOST_SPELT = 13


@dataclass(frozen=True, eq=False)
class Findings:
    """All that is known of the targets; arrays have shape `(n_targets,)`.

    Attributes:
        problem: The problem.
        difficulty: Reach and support of each target.
        combinations: Targets that are made up of others.
        identities: The same, as totals and parts.
        sensitivity: At the optimum of all targets.
        core: At the optimum of those within reach.
        core_errors: Errors at that optimum, signed, in scales; 0 for those out of reach.
        final: Estimates at the optimum of all targets, in the targets' units.
        objective: Value of the objective there.
        loosening: By how many scales targets are loosened.
        least_miss: Absolute error, in scales, from which a target counts as missed.
    """

    problem: Problem
    difficulty: Difficulty
    combinations: tuple[Combination, ...]
    identities: tuple[Identity, ...]
    sensitivity: Sensitivity
    core: Sensitivity
    core_errors: Vector
    final: Vector
    objective: float
    loosening: float
    least_miss: float

    @cached_property
    def conflict(self) -> Matrix:
        """Conflict of each pair within reach, shape `(n_targets, n_targets)`."""
        return self.core.conflict()

    @cached_property
    def drops(self) -> Vector:
        """Fall of the objective at the optimum within reach, were each one dropped."""
        return self.core.fall_of_objective()

    @cached_property
    def relief(self) -> Vector:
        """Fall of the sum of the absolute errors of all others within reach, were each dropped."""
        problem = self.problem
        counted = (problem.importances > 0) | ~problem.is_soft
        counted &= ~self.difficulty.is_unreachable
        n_others = np.maximum(counted.sum() - counted, 1)
        return np.asarray(self.core.fall_of_mean_error(counted) * n_others)

    @cached_property
    def missed(self) -> NDArray[np.bool_]:
        """Which targets within reach are missed, shape `(n_targets,)`."""
        return np.asarray(np.abs(self.core_errors) >= self.least_miss)


def ranked_table(found: Findings) -> pd.DataFrame:
    """One row per target, the most troublesome first; see `TargetAnalysis.table`."""
    import pandas as pd

    problem, difficulty, whole = found.problem, found.difficulty, found.sensitivity
    kinds, reasons = _kinds_and_reasons(found)
    group = np.full(problem.n_targets, -1)
    # A target of several identities is listed with the one that costs most.
    cost = {
        frozenset(identity.members.tolist()): identity.forced_loss for identity in found.identities
    }
    groups = list(enumerate(groups_of(found.combinations)))
    for number, members in sorted(
        groups, key=lambda item: (cost.get(frozenset(item[1]), 0.0), -item[0])
    ):
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
    # What members of a contradicted identity cost is said of the identity.
    told = {
        int(member)
        for identity in found.identities
        if identity.is_contradicted(found.least_miss)
        for member in identity.members
    }
    for j in range(problem.n_targets):
        if share[j] >= COSTLY_SHARE and j not in told:
            said = f"met at a high price: without it the loss is {percent(share[j])} lower"
            say(j, COSTLY, said)
        if difficulty.support[j] == 0:
            say(j, THIN, "no record contributes to it")
        elif difficulty.effective_support[j] < THIN_SUPPORT < problem.n_records:
            held = percent(difficulty.largest_share[j])
            said = f"rests on few records: one of {difficulty.support[j]:,} holds {held}"
            say(j, THIN, said)
    for j in np.flatnonzero(found.missed).tolist():
        say(j, *_why_missed(found, j))
    unreachable = difficulty.is_unreachable
    contradicted = []
    for combination, identity in zip(found.combinations, found.identities, strict=True):
        if unreachable[identity.members].any():
            continue
        if identity.is_contradicted(found.least_miss):
            contradicted.append(identity)
        elif kinds[identity.of] != CONTRADICTORY:
            text = in_words(combination, names)
            missed = (
                f" (missed by {_miss(found, identity.of)})" if found.missed[identity.of] else ""
            )
            same = "same as" if _is_one(combination) else "is"
            say(identity.of, REDUNDANT, f"{same} {text}{missed}")
    # The last said wins: the identity that costs most.
    for identity in sorted(contradicted, key=lambda identity: identity.forced_loss):
        # Whoever is met bears nothing of it, however well dropping it would do.
        members = identity.members
        bearing = found.drops[members] >= COMPARABLE * found.drops[members].max()
        for member in members[bearing & found.missed[members]].tolist():
            say(member, CONTRADICTORY, _why_contradictory(found, identity, member))
    for j in np.flatnonzero(unreachable).tolist():
        say(j, UNREACHABLE, _why_unreachable(found, j))
    return kinds, reasons


def _why_contradictory(found: Findings, identity: Identity, target: int) -> str:
    """Reason of a missed member of an identity that its targets do not satisfy."""
    names = found.problem.target_names
    missed = f" (missed by {_miss(found, target)})"
    if len(identity.members) > MOST_SPELT or len(identity.totals) > 1:
        off = percent(abs(identity.discrepancy))
        return f"contradicts others: {identity.in_words(names)} is off by {off}{missed}"
    if target in identity.parts:
        return f"contradicts '{names[identity.totals[0]]}'{missed}"
    others = _listed(names, identity.parts)
    one = len(identity.parts) == 1
    implied = amount(identity.implied / float(identity.total_coefficients[0]))
    return f"contradicts {others}, which {'implies' if one else 'imply'} {implied}{missed}"


def _miss(found: Findings, target: int) -> str:
    return percent(abs(found.core_errors[target]))


def _why_missed(found: Findings, target: int) -> tuple[str, str]:
    """Kind and reason of a target that is missed among those within reach."""
    names, conflict, drops = found.problem.target_names, found.conflict[target], found.drops
    missed = _miss(found, target)
    strong = np.flatnonzero(conflict >= STRONG_CONFLICT)
    strong = strong[np.argsort(-conflict[strong] * drops[strong], kind="stable")]
    if not len(strong):
        return MISSED, f"missed by {missed}: too far from the design weights"
    others = _listed(names, strong)
    difficulty = found.difficulty
    if difficulty.effective_support[target] < THIN_SUPPORT < found.problem.n_records:
        count = difficulty.support[target]
        few = f"{count:,} record{'' if count == 1 else 's'}"
        return MISSED, f"missed by {missed}: rests on {few}, which {others} pull on too"
    own = abs(found.core_errors[target])
    gives = found.relief[target] >= max(found.least_miss, SHARE_OF_OWN * own)
    if gives and drops[target] >= COMPARABLE * drops[strong].max():
        return CONTRADICTORY, f"contradicts {others} (missed by {missed})"
    return MISSED, f"missed by {missed}: held off by {others}"


def _why_unreachable(found: Findings, target: int) -> str:
    """Reason of a target outside its range."""
    problem, difficulty = found.problem, found.difficulty
    lowest, highest = difficulty.lowest[target], difficulty.highest[target]
    too_high = problem.targets[target] > highest
    bound = problem.upper_ratio if too_high else problem.lower_ratio
    edge = f"at most {amount(highest)}" if too_high else f"at least {amount(lowest)}"
    same = bool(np.all(bound == bound[0])) and np.isfinite(bound[0])
    # A column of one sign is at its edge with all ratios on the same bound.
    if same and problem.targets[target] > 0 and lowest >= 0:
        return f"out of reach: {edge} at ratios {'up' if too_high else 'down'} to {bound[0]:g}"
    return f"out of reach: {edge} within the bounds on the ratio"


def _is_one(combination: Combination) -> bool:
    return len(combination.parts) == 1


def in_words(combination: Combination, names: tuple[str, ...]) -> str:
    """A combination as a sum of named targets; see `side_in_words`."""
    return side_in_words(combination.coefficients, [names[part] for part in combination.parts])


def _listed(names: tuple[str, ...], positions: Any) -> str:
    """Names in a sentence, the first few of many."""
    quoted = [f"'{names[int(j)]}'" for j in positions]
    if len(quoted) > MOST_NAMES:
        return f"{', '.join(quoted[:MOST_NAMES])} and {len(quoted) - MOST_NAMES:,} more"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
