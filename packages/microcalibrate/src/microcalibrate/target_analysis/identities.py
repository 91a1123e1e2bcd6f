"""Linear identities among targets: totals and their parts, and what it costs where they disagree.

Where columns satisfy `sum_j c_j x_j = 0` in every record, so do the estimates at any weights. If
the targets miss that by `delta = sum_j c_j t_j`, the errors have to make it up, whatever the
weights: `sum_j c_j scale_j e_j = -delta`. The least loss that does it is

    delta**2 / (2 * sum_j (c_j scale_j)**2 / omega_j),

with errors in proportion to `c_j scale_j / omega_j` (least squares; omega the importances). It is a
lower bound of the loss: no weights, bounds or closeness can go below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.redundancy import Combination
from microcalibrate.figures.plotting import amount, percent, power_of_ten
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.conflict import Sensitivity

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

# An identity is contradicted where it forces an error of this share of what counts as a miss.
SHARE_OF_MISS = 0.5
# Most names in a sentence; longer sums are told by what their names have in common.
MOST_NAMES = 3
SEPARATORS = "/_-.:| "
# Coefficients this close to 1 are not written.
ONE = 1e-4


@dataclass(frozen=True, eq=False)
class Identity:
    """Parts that add up to a total, in every record and so in all estimates.

    Attributes:
        of: Position of the target that is written in terms of the others.
        parts: Positions on the side of more targets, shape `(n_parts,)`.
        part_coefficients: Shape `(n_parts,)`.
        totals: Positions on the side of fewer targets, shape `(n_totals,)`.
        total_coefficients: Shape `(n_totals,)`.
        explained: Share of the squares of the column of `of` that the others reproduce.
        implied: What the targets of the parts add up to, in units of the total.
        stated: What those of the totals do.
        granted: By how much both sides may differ at no cost: tolerances, and what is left of the
            column where the identity is not exact.
        forced_error: Largest error that the disagreement puts on a member, in scales.
        forced_loss: Least loss that it leaves, in units of the objective.
    """

    of: int
    parts: Index
    part_coefficients: Vector
    totals: Index
    total_coefficients: Vector
    explained: float
    implied: float
    stated: float
    granted: float
    forced_error: float
    forced_loss: float

    @property
    def members(self) -> Index:
        """Positions of all targets in it, parts first."""
        return np.concatenate([self.parts, self.totals])

    @property
    def coefficients(self) -> Vector:
        """Coefficients of `members` in `sum_j c_j x_j = 0`."""
        return np.concatenate([self.part_coefficients, -self.total_coefficients])

    @property
    def rescale(self) -> float:
        """What brings the targets of the parts to the total; NaN where no positive factor does."""
        agree = self.stated / self.implied if self.implied != 0 else np.nan
        return agree if agree > 0 else np.nan

    @property
    def discrepancy(self) -> float:
        """`implied / stated - 1`; infinite where only one of both is zero."""
        if self.stated == 0:
            return 0.0 if self.implied == 0 else float(np.copysign(np.inf, self.implied))
        return (self.implied - self.stated) / abs(self.stated)

    def is_contradicted(self, least_miss: float) -> bool:
        """Whether it forces errors of the size of a miss."""
        return self.forced_error >= SHARE_OF_MISS * least_miss

    def in_words(self, names: Sequence[str]) -> str:
        """The identity as an equation of named targets."""
        parts = side_in_words(self.part_coefficients, [names[j] for j in self.parts])
        totals = side_in_words(self.total_coefficients, [names[j] for j in self.totals])
        return f"{parts} = {totals}"

    def sentence(self, names: Sequence[str], least_miss: float) -> str:
        """The identity, and whether its targets satisfy it."""
        said = self.in_words(names)
        if self.is_contradicted(least_miss):
            return (
                f"{said} in every record, but the targets give {amount(self.implied)} on the left "
                f"and {amount(self.stated)} on the right: off by {percent(abs(self.discrepancy))}"
            )
        if abs(self.discrepancy) < 1e-6:
            return f"{said} in every record, and the targets agree"
        return f"{said} in every record, and the targets agree to {percent(abs(self.discrepancy))}"


def identity_of(
    combination: Combination, problem: Problem, implied_targets: Vector, size_of_ratios: float
) -> Identity:
    """Part a combination into a total and its parts, and find what its disagreement forces.

    Args:
        combination: One column in terms of others.
        problem: The problem it is of.
        implied_targets: Targets less what held records give, shape `(n_targets,)`.
        size_of_ratios: `sqrt(sum(d * r**2))` over free records: what is left of a column that is
            nearly explained adds up to no more than `left` times this (Cauchy–Schwarz).

    Examples:
        >>> problem = Problem.build([1.0], [4.0, 5.0, 10.0], [[4.0, 6.0, 10.0]])
        >>> combination = Combination(2, (0, 1), np.ones(2), 1.0)
        >>> found = identity_of(combination, problem, problem.targets, 1.0)
        >>> found.in_words(["men", "women", "all"]), found.implied, found.stated
        ("'men' + 'women' = 'all'", 9.0, 10.0)
    """
    members = np.array([combination.of, *combination.parts])
    signed = np.array([1.0, *-combination.coefficients])
    mine, other = signed > 0, signed < 0
    if not other.any():  # The sum of all is zero: the first is minus the rest.
        mine = np.arange(len(members)) == 0
        other = ~mine
    is_total = mine if mine.sum() <= other.sum() else other
    unit = _commonest(np.abs([*signed[is_total], *signed[~is_total]]))
    signed = signed / unit * np.sign(signed[is_total][0])
    parts, totals = members[~is_total], members[is_total]
    in_parts, in_totals = -signed[~is_total], signed[is_total]
    implied = float(in_parts @ implied_targets[parts])
    stated = float(in_totals @ implied_targets[totals])

    size = np.abs(signed) * problem.scales[members]
    soft = problem.is_soft[members]
    granted = float(size[~soft] @ problem.tolerances[members][~soft])
    granted += combination.left / unit * size_of_ratios
    # Sums of many terms are rounded relative to their own size.
    granted += 1e-9 * float(np.abs(signed) @ np.abs(implied_targets[members]))
    missing = max(abs(implied - stated) - granted, 0.0)
    with np.errstate(divide="ignore"):
        yielding = np.where(soft, size / problem.importances[members], 0.0)
    # A target of no importance makes up for everything at no cost.
    gives = float(yielding @ size)
    shared = missing > 0 and 0 < gives < np.inf
    return Identity(
        of=combination.of,
        parts=parts,
        part_coefficients=in_parts,
        totals=totals,
        total_coefficients=in_totals,
        explained=combination.explained,
        implied=implied,
        stated=stated,
        granted=granted,
        forced_error=missing * float(yielding.max()) / gives if shared else 0.0,
        forced_loss=0.5 * missing**2 / gives if shared else 0.0,
    )


def _commonest(sizes: Vector) -> float:
    """The size that most coefficients have, the first of them in a tie."""
    alike = np.abs(sizes[:, None] - sizes) <= ONE * sizes
    return float(sizes[np.argmax(alike.sum(axis=1))])


def forced_together(identities: Sequence[Identity], problem: Problem) -> float:
    """Least loss that all these identities leave together, in units of the objective.

    Those that share members do not add up: the smallest errors that satisfy all at once count.
    """
    counted = [identity for identity in identities if identity.forced_loss > 0]
    if not counted:
        return 0.0
    pull = np.zeros((len(counted), problem.n_targets))
    missing = np.zeros(len(counted))
    root = np.sqrt(np.where(problem.importances > 0, problem.importances, 1.0))
    for row, identity in enumerate(counted):
        members = identity.members
        soft = problem.is_soft[members]
        pull[row, members] = identity.coefficients * problem.scales[members] / root[members] * soft
        off = identity.implied - identity.stated
        missing[row] = np.sign(off) * (abs(off) - identity.granted)
    length = np.sqrt((pull**2).sum(axis=1))
    errors = np.linalg.lstsq(pull / length[:, None], missing / length, rcond=1e-9)[0]
    return 0.5 * float(errors @ errors)


# --- In words -------------------------------------------------------------------------------------


def side_in_words(coefficients: Vector, names: Sequence[str]) -> str:
    """One side of an identity; long sums of like names by what these have in common.

    Examples:
        >>> side_in_words(np.array([1.0, -2.5]), ["a", "b"])
        "'a' − 2.5 × 'b'"
        >>> side_in_words(np.ones(4), [f"income/{state}/amount" for state in "ABCD"])
        "sum of 4 'income/…/amount'"
    """
    if len(names) > MOST_NAMES and np.all(np.abs(coefficients - 1) < ONE):
        return f"sum of {len(names):,} {common_name(names)}"
    text = ""
    for number, (name, coefficient) in enumerate(zip(names, coefficients, strict=True)):
        if number == MOST_NAMES:
            return f"{text} and {len(names) - MOST_NAMES:,} more"
        size = abs(float(coefficient))
        times = "" if abs(size - 1) < ONE else f"{_factor(size)} × "
        sign = (" − " if coefficient < 0 else " + ") if number else "−" if coefficient < 0 else ""
        text += f"{sign}{times}'{name}'"
    return text


def common_name(names: Sequence[str]) -> str:
    """What names have in common, at both ends and in whole words, in quotes.

    Examples:
        >>> common_name(["agi/10k", "agi/15k"]), common_name(["men", "women"])
        ("'agi/…'", "'men' and others")
    """
    shortest = min(map(len, names))
    first = next((i for i in range(shortest) if len({name[i] for name in names}) > 1), shortest)
    head = names[0][:first]
    head = head[: max((head.rfind(mark) for mark in SEPARATORS), default=-1) + 1]
    room = shortest - len(head)
    last = next((i for i in range(room) if len({name[-1 - i] for name in names}) > 1), room)
    tail = names[0][len(names[0]) - last :]
    starts = [place for place in map(tail.find, SEPARATORS) if place >= 0]
    tail = tail[min(starts) :] if starts else ""
    return f"'{head}…{tail}'" if head or tail else f"'{names[0]}' and others"


def _factor(size: float) -> str:
    return f"{size:.4g}" if 1e-3 <= size < 1e5 else power_of_ten(size)


# --- Tables ---------------------------------------------------------------------------------------


def identity_tables(
    identities: Sequence[Identity],
    problem: Problem,
    errors: Vector,
    sensitivity: Sensitivity,
    loosening: float,
    objective: float,
    least_miss: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per identity, and one per member; see `TargetAnalysis`.

    Args:
        identities: In any order.
        problem: The problem they are of.
        errors: Errors after calibration, signed, in scales, shape `(n_targets,)`.
        sensitivity: At the optimum.
        loosening: By how many scales `loosen_objective` loosens.
        objective: Value of the objective.
        least_miss: Error from which a target counts as missed.
    """
    import pandas as pd

    names = problem.target_names
    drops = sensitivity.fall_of_objective()
    loosened = sensitivity.fall_of_objective(loosening)
    rounded = [float(f"{found.forced_loss:.6e}") for found in identities]
    rows, members = [], []
    for rank, place in enumerate(np.argsort(-np.array(rounded), kind="stable").tolist(), start=1):
        found = identities[place]
        order = np.argsort(-drops[found.members], kind="stable")
        all_members = found.members
        rows.append(
            {
                "rank": rank,
                "identity": found.in_words(names),
                "contradicted": found.is_contradicted(least_miss),
                "n_members": len(all_members),
                "n_missed": int((np.abs(errors[all_members]) >= least_miss).sum()),
                "implied": found.implied,
                "stated": found.stated,
                "discrepancy": found.discrepancy,
                "forced_error": found.forced_error,
                "share_of_loss": found.forced_loss / objective if objective > 0 else 0.0,
                "explained": found.explained,
                "rescale": found.rescale,
                "rescale_objective": _fall_by_rescaling(found, problem, sensitivity),
                "drop_first": names[all_members[order[0]]],
                "reason": found.sentence(names, least_miss),
            }
        )
        side = np.repeat(["part", "total"], [len(found.parts), len(found.totals)])
        written = np.concatenate([found.part_coefficients, found.total_coefficients])
        for within, at in enumerate(order.tolist(), start=1):
            j = int(all_members[at])
            members.append(
                {
                    "identity": rank,
                    "rank": within,
                    "name": names[j],
                    "side": str(side[at]),
                    "coefficient": float(written[at]),
                    "target": float(problem.targets[j]),
                    "error": float(errors[j]),
                    "drop_objective": float(drops[j]),
                    "loosen_objective": float(loosened[j]),
                }
            )
    # Types are said, because tables without rows have none.
    return (
        pd.DataFrame(rows, columns=list(IDENTITY_COLUMNS)).astype(IDENTITY_COLUMNS),
        pd.DataFrame(members, columns=list(MEMBER_COLUMNS)).astype(MEMBER_COLUMNS),
    )


def _fall_by_rescaling(found: Identity, problem: Problem, sensitivity: Sensitivity) -> float:
    """Fall of the objective if the targets of the parts were rescaled, to first order."""
    if not np.isfinite(found.rescale):
        return 0.0
    moved = problem.targets[found.parts] * (found.rescale - 1) / problem.scales[found.parts]
    return sensitivity.fall_by_moving(found.parts, moved)


IDENTITY_COLUMNS = {
    "rank": "int64",
    "identity": "str",
    "contradicted": "bool",
    "n_members": "int64",
    "n_missed": "int64",
    "implied": "float64",
    "stated": "float64",
    "discrepancy": "float64",
    "forced_error": "float64",
    "share_of_loss": "float64",
    "explained": "float64",
    "rescale": "float64",
    "rescale_objective": "float64",
    "drop_first": "str",
    "reason": "str",
}
MEMBER_COLUMNS = {
    "identity": "int64",
    "rank": "int64",
    "name": "str",
    "side": "str",
    "coefficient": "float64",
    "target": "float64",
    "error": "float64",
    "drop_objective": "float64",
    "loosen_objective": "float64",
}
