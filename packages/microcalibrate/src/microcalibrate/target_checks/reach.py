"""What the weights can give for each target within their bounds, and what they give now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from microcalibrate.engine.difficulty import difficulty_of
from microcalibrate.figures.plotting import percent
from microcalibrate.problem import Problem
from microcalibrate.target_checks.findings import ERROR, NOTE, WARNING, Finding
from microcalibrate.target_checks.levels import Level
from microcalibrate.target_checks.reading import Row
from microcalibrate.targets import Declared
from microcalibrate.targets.describing import plain_number

Vector = NDArray[np.float64]

# A target that rests on fewer records of equal weight than these is doubtful, or worth a word.
FEW_RECORDS, SOME_RECORDS = 5, 30
# A share of one record that is worth a word.
LARGE_SHARE = 0.5
# The data may be off a target by these factors before it is worth a word, or doubtful.
FAR, VERY_FAR = 2.0, 10.0


@dataclass(frozen=True, eq=False)
class Reach:
    """Facts about targets that can be built, arrays of shape `(n,)` in their order.

    Attributes:
        initial: Estimate at the design weights, in the unit of the value.
        lowest: Least estimate within the bounds; -inf for no limit.
        highest: Greatest; inf for no limit.
        reachable: Whether the value, its tolerance granted, lies between.
        support: Number of records of positive weight that contribute.
        effective_support: Number of equal contributions that would be as concentrated.
        largest_share: Of one record, in `[0, 1]`.
    """

    initial: Vector
    lowest: Vector
    highest: Vector
    reachable: NDArray[np.bool_]
    support: NDArray[np.int64]
    effective_support: Vector
    largest_share: Vector


def problem_of(
    rows: Sequence[Row],
    weights: Vector,
    min_weight_ratio: float | Vector,
    max_weight_ratio: float | Vector | None,
) -> Problem:
    """The calibration problem of rows that can be built; a quotient is a total that shall be 0."""
    parts = [(row.target, row.records, row.values) for row in rows]
    targets = [target for target, _, _ in parts if target is not None]
    levels = [row.level for row in rows if row.level is not None]
    records = [found for _, found, _ in parts if found is not None]
    values = [found for _, _, found in parts if found is not None]
    offsets = np.cumsum([0, *map(len, records)])
    matrix = sp.csc_array(
        (np.concatenate(values), np.concatenate(records), offsets), (len(weights), len(targets))
    ).tocsr()
    importances = np.array([target.importance for target in targets])
    is_soft = np.array([np.isnan(target.tolerance) for target in targets])
    return Problem.build(
        weights,
        [0.0 if target.is_relative else target.value for target in targets],
        matrix,
        target_names=[target.name for target in targets],
        scales=[
            level.scale(target, weights) for level, target in zip(levels, targets, strict=True)
        ],
        tolerances=[target.tolerance for target in targets],
        importances=importances if importances[is_soft].any() else None,
        min_weight_ratio=min_weight_ratio,
        max_weight_ratio=max_weight_ratio,
    )


def reach_of(rows: Sequence[Row], problem: Problem) -> Reach:
    """What each target can come to, and comes to now.

    Args:
        rows: Those of the problem, in its order.
        problem: Of `problem_of`.
    """
    found = difficulty_of(problem, problem.lower_ratio, problem.upper_ratio)
    initial = problem.estimates(problem.design_weights)
    lowest, highest = found.lowest.copy(), found.highest.copy()
    reachable = ~found.is_unreachable
    for place, row in enumerate(rows):
        target, level = row.target, row.level
        if target is None or level is None or not target.is_relative:
            continue
        parts = [_of_quotient(one, level, problem) for one in target.quotients]
        initial[place], lowest[place], highest[place] = parts[0]
        if target.is_difference:
            # Each at its own end: what both can come to together lies within.
            (now, low, high), (other, other_low, other_high) = parts
            initial[place], lowest[place] = now - other, low - other_high
            highest[place] = high - other_low
            granted = 0.0 if np.isnan(target.tolerance) else target.tolerance * abs(target.value)
            reachable[place] = lowest[place] - granted <= target.value <= highest[place] + granted
    return Reach(
        initial=initial,
        lowest=lowest,
        highest=highest,
        reachable=reachable,
        support=found.support,
        effective_support=found.effective_support,
        largest_share=found.largest_share,
    )


def _of_quotient(target: Declared, level: Level, problem: Problem) -> tuple[float, float, float]:
    """Initial estimate of a relative target, and the least and greatest within the bounds."""
    lower, upper = problem.lower_ratio, problem.upper_ratio
    if target.aggregate == "quantile":
        records, values = level.amounts(target)
        if level.unit_rows is not None:
            return shared_quantile_range(
                values, target.level, records, problem.design_weights, lower, upper
            )
        bounds = (problem.design_weights, lower, upper)
        return quantile_range(values, target.level, *(each[records] for each in bounds))
    found = level.quotient(target)
    design = problem.design_weights[found.records]
    total = design @ found.denominator
    initial = float(design @ found.numerator / total) if total != 0 else float("nan")
    counts = found.denominator != 0
    if np.any(found.denominator < 0) or np.any(found.numerator[~counts] != 0):
        # A total of the denominator that can come near zero sets no limit.
        return initial, -np.inf, np.inf
    least, greatest = mean_range(
        found.numerator[counts] / found.denominator[counts],
        design[counts] * found.denominator[counts],
        *(bound[found.records][counts] for bound in (lower, upper)),
    )
    return initial, least, greatest


def quantile_range(
    values: Vector, share: float, design: Vector, lower: Vector, upper: Vector
) -> tuple[float, float, float]:
    """A weighted quantile at the design weights, and the least and greatest at ratios in bounds.

    It is the first value up to which the weight is at least a share of all. It is least where
    weights up to it are as great as can be, and those beyond it as small.

    Args:
        values: Shape `(n,)`.
        share: In `(0, 1)`.
        design: Design weights, shape `(n,)`, one at least positive.
        lower: Least ratios, shape `(n,)`; those below 0 are taken as 0.
        upper: Greatest ratios, shape `(n,)`; may be inf.

    Examples:
        >>> ones = np.ones(4)
        >>> quantile_range(np.array([1.0, 2, 3, 4]), 0.5, ones, 0.5 * ones, 2 * ones)
        (2.0, 1.0, 4.0)
    """
    used = (design > 0) & (upper > 0)
    if not used.any():
        return float("nan"), float("nan"), float("nan")
    order = np.argsort(values[used], kind="stable")
    x, d = values[used][order], design[used][order]
    low = d * np.maximum(lower[used][order], 0.0)
    # A weight without a limit outweighs all others.
    high = d * np.minimum(upper[used][order], 1e12)

    def first(below: Vector, above: Vector) -> float:
        """Where the weights up to a value are `below`, and those beyond it `above`."""
        ends = np.append(np.flatnonzero(np.diff(x)), len(x) - 1)
        inside = np.cumsum(below)[ends]
        total = inside + above.sum() - np.cumsum(above)[ends]
        enough = (inside >= share * total * (1 - 1e-12)) & (total > 0)
        return float(x[ends[np.argmax(enough)]]) if enough.any() else float(x[-1])

    return first(d, d), first(high, low), first(low, high)


def shared_quantile_range(
    values: Vector,
    share: float,
    records: NDArray[np.intp],
    design: Vector,
    lower: Vector,
    upper: Vector,
) -> tuple[float, float, float]:
    """The same for values of which several belong to one record, and have its weight.

    The share of the weight up to a value is a mean over the records, whose least and greatest are
    known. Both grow with the value, so that the first one at which either is enough can be halved
    in on.

    Args:
        values: Shape `(n_rows,)`.
        share: In `(0, 1)`.
        records: Record of each value, shape `(n_rows,)`.
        design: Design weights of the records, shape `(n_records,)`.
        lower: Least ratios, shape `(n_records,)`.
        upper: Greatest ratios, shape `(n_records,)`; may be inf.

    Examples:
        >>> ones = np.ones(4)
        >>> values = np.array([1.0, 2, 3, 4])
        >>> shared_quantile_range(values, 0.5, np.arange(4), ones, 0.5 * ones, 2 * ones)
        (2.0, 1.0, 4.0)
        >>> shared_quantile_range(values, 0.5, np.array([0, 1, 1, 0]), ones, 0.5 * ones, 2 * ones)
        (2.0, 2.0, 2.0)
    """
    used = (design[records] > 0) & (upper[records] > 0)
    if not used.any():
        return float("nan"), float("nan"), float("nan")
    values, (units, place) = values[used], np.unique(records[used], return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    weights = design[units] * rows
    bounds = lower[units], upper[units]
    ends = np.unique(values)

    def shares(end: float) -> tuple[float, float, float]:
        """Share of the weight up to a value: at the design weights, least, and greatest."""
        fraction = np.bincount(place, values <= end) / rows
        return float(weights @ fraction / weights.sum()), *mean_range(fraction, weights, *bounds)

    def first(which: int) -> float:
        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            enough = shares(ends[middle])[which] >= share * (1 - 1e-12)
            low, high = (low, middle) if enough else (middle + 1, high)
        return float(ends[low])

    return first(0), first(2), first(1)


def mean_range(values: Vector, design: Vector, lower: Vector, upper: Vector) -> tuple[float, float]:
    """Least and greatest weighted mean at ratios within their bounds.

    At the least mean, records below some value have their greatest ratio and those above it their
    least: a threshold, which is looked for among all values.

    Args:
        values: Shape `(n,)`.
        design: Design weights, shape `(n,)`, one at least positive.
        lower: Least ratios, shape `(n,)`; not negative ones are taken as 0.
        upper: Greatest ratios, shape `(n,)`; may be inf.

    Examples:
        >>> mean_range(np.array([1.0, 3.0]), np.ones(2), np.full(2, 0.5), np.full(2, 1.5))
        (1.5, 2.5)
    """
    used = (design > 0) & (upper > 0)
    if not used.any():
        return float("nan"), float("nan")
    order = np.argsort(values[used], kind="stable")
    x, d = values[used][order], design[used][order]
    low, high = d * np.maximum(lower[used][order], 0.0), d * upper[used][order]
    unlimited = np.isinf(high)
    if unlimited.any():
        # One record without a limit can outweigh all others.
        least, greatest = x[unlimited].min(), x[unlimited].max()
        high = np.where(unlimited, low, high)
    else:
        least, greatest = np.inf, -np.inf
    if (low + high).sum() > 0:
        least = min(least, _least_mean(x, low, high))
        greatest = max(greatest, -_least_mean(-x[::-1], low[::-1], high[::-1]))
    return float(least), float(greatest)


def _least_mean(x: Vector, low: Vector, high: Vector) -> float:
    """Of ascending values: the first ones at their greatest weight, the others at their least."""
    total = np.cumsum(high) + low.sum() - np.cumsum(low)
    amount = np.cumsum(high * x) + (low * x).sum() - np.cumsum(low * x)
    kept = total > 0
    return float((amount[kept] / total[kept]).min())


# --- In words -------------------------------------------------------------------------------------


def reach_findings(rows: Sequence[Row], reach: Reach, bounds: str) -> list[Finding]:
    """What the figures say about each target.

    Args:
        rows: In the order of `reach`.
        reach: Their figures.
        bounds: The bounds on the weights in words.
    """
    findings: list[Finding] = []
    for place, row in enumerate(rows):
        if row.target is None:
            continue
        said = [
            _out_of_reach(row.target.value, reach, place, bounds),
            _far(row.target.value, reach.initial[place]),
            _thin(reach, place),
        ]
        findings += [Finding(row.number, row.name, *found) for found in said if found is not None]
    return findings


Said = tuple[str, str, str] | None


def _out_of_reach(value: float, reach: Reach, place: int, bounds: str) -> Said:
    if reach.reachable[place]:
        return None
    low, high = reach.lowest[place], reach.highest[place]
    side = f"at most {_shown(high)}" if value > high else f"at least {_shown(low)}"
    return (
        ERROR,
        "out of reach",
        f"{plain_number(value)} is out of reach: the records come to {side} {bounds}. Mend the "
        "value, widen the bounds, or drop the target.",
    )


def _far(value: float, initial: float) -> Said:
    if value == 0:
        return None
    now = f"at the design weights it comes to {_shown(initial)}"
    if initial * value <= 0 and initial != 0:
        return (
            WARNING,
            "far from the data",
            f"{now}, of the other sign than {plain_number(value)}. Check the value and its sign.",
        )
    if initial == 0:
        return WARNING, "far from the data", f"{now}. Check the value, or the variable."
    ratio = initial / value
    if 1 / FAR <= ratio <= FAR:
        return None
    times = f"{ratio:,.4g} times the value" if ratio > 1 else f"{percent(ratio)} of the value"
    if 1 / VERY_FAR < ratio < VERY_FAR:
        return NOTE, "far from the data", f"{now}, {times}."
    return (
        WARNING,
        "far from the data",
        f"{now}, {times}. Are both in the same unit (thousands, persons or households)?",
    )


def _thin(reach: Reach, place: int) -> Said:
    n, effective = int(reach.support[place]), reach.effective_support[place]
    share = reach.largest_share[place]
    rests = f"it rests on {n:,} {'record' if n == 1 else 'records'}"
    if effective < n - 0.5:
        rests += f", as unequal as {effective:,.1f} equal ones"
    if share >= LARGE_SHARE and n > 1:
        rests += f"; one of them makes up {percent(share)}"
    if effective < FEW_RECORDS:
        return WARNING, "few records", f"{rests}: their weights will change much for it."
    if effective < SOME_RECORDS:
        return NOTE, "few records", f"{rests}."
    return None


def _shown(value: float) -> str:
    return plain_number(float(f"{value:.6g}"))
