"""What targets say about each other: the same twice, contradictions, sums of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.normal_equations import columns_of, symmetric_gram
from microcalibrate.engine.redundancy import EXACT, combinations_of
from microcalibrate.figures.plotting import amount, percent
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.identities import Identity, identity_of
from microcalibrate.target_checks.findings import ERROR, NOTE, WARNING, Finding
from microcalibrate.target_checks.reading import Row
from microcalibrate.targets import Declared
from microcalibrate.targets.describing import plain_number

MOST_TARGETS = 4_000
"""Most targets among which sums are looked for: it takes a matrix of their number squared."""
MIN_EXPLAINED = 0.9999
# Values that differ by no more than this, relative, were meant to be the same.
SAME = 1e-9
# An error of this share of a target counts as a miss.
LEAST_MISS = 0.01


def duplicates(
    rows: Sequence[Row], design_weights: NDArray[np.float64]
) -> tuple[list[Finding], list[int]]:
    """Targets that add up the same as an earlier one, in every record.

    Returns:
        A finding for each, and the places of those that are not such.
    """
    first: dict[Any, Row] = {}
    findings: list[Finding] = []
    kept: list[int] = []
    for place, row in enumerate(rows):
        target = row.target
        if target is None:
            continue
        key = _column_key(row, design_weights)
        if key not in first:
            first[key] = row
            kept.append(place)
            continue
        other = first[key]
        assert other.target is not None
        findings.append(_same(row, target, other, other.target))
    return findings, kept


def _column_key(row: Row, design_weights: NDArray[np.float64]) -> tuple[Any, ...]:
    """What two targets have in common that add up the same."""
    assert row.target is not None
    assert row.level is not None
    assert row.records is not None
    assert row.values is not None
    if row.target.is_relative:
        quotients = [row.level.quotient(one) for one in row.target.quotients]
        parts = [(one.records, one.numerator, one.denominator) for one in quotients]
        return ("quotient", *(part.tobytes() for each in parts for part in each))
    counts = design_weights[row.records] > 0
    return ("total", row.records[counts].tobytes(), row.values[counts].tobytes())


def _same(row: Row, target: Declared, other_row: Row, other: Declared) -> Finding:
    where = f'"{other_row.name}" (row {other_row.number})'
    apart = abs(target.value - other.value)
    granted = sum(_band(each) for each in (target, other))
    size = max(abs(target.value), abs(other.value))
    if apart <= max(granted, SAME * size):
        return Finding(
            row.number,
            row.name,
            WARNING,
            "duplicate",
            f"it adds up the same as {where} in every record, so it counts twice. Drop one of "
            "them.",
        )
    return Finding(
        row.number,
        row.name,
        ERROR,
        "contradictory duplicate",
        f"it adds up the same as {where} in every record, but shall be "
        f"{plain_number(target.value)} and that one {plain_number(other.value)}: both cannot hold. "
        "Keep the right one.",
    )


def _band(target: Declared) -> float:
    return 0.0 if np.isnan(target.tolerance) else target.tolerance * abs(target.value)


def sums(
    rows: Sequence[Row], kept: Sequence[int], problem: Problem, support: NDArray[np.int64]
) -> tuple[list[Finding], tuple[str, ...]]:
    """Targets that are made up of others, and whether their values agree.

    Args:
        rows: Those of the problem, in its order.
        kept: Places of those to look among; quotients such as means are passed over.
        problem: Of all rows.
        support: Records that contribute to each, shape `(n_targets,)`.

    Returns:
        A finding for each, and what could not be looked at.
    """
    places = np.array([place for place in kept if _is_total(rows[place].target)], dtype=np.int64)
    if len(places) < 2:
        return [], ()
    if len(places) > MOST_TARGETS:
        return [], (
            f"Sums of targets were not looked for: there are {len(places):,} targets, and "
            f"{MOST_TARGETS:,} is the most. Check the targets of each area by themselves.",
        )
    root = np.sqrt(problem.design_weights)
    matrix = problem.estimate_matrix[:, places]
    columns = columns_of(matrix, root, np.ones(len(places)))
    gram = symmetric_gram(columns, np.ones(problem.n_records))
    findings = []
    for found in combinations_of(gram, MIN_EXPLAINED, support[places]):
        combination = replace(
            found,
            of=int(places[found.of]),
            parts=tuple(int(places[part]) for part in found.parts),
        )
        identity = identity_of(combination, problem, problem.targets, float(np.linalg.norm(root)))
        findings.append(_sum(identity, rows, problem))
    return findings, ()


def _is_total(target: Declared | None) -> bool:
    return target is None or not target.is_relative


def _sum(found: Identity, rows: Sequence[Row], problem: Problem) -> Finding:
    """What an identity says, told at the total where there is one."""
    has_total = len(found.totals) == 1 and len(found.parts) > 1
    row = rows[int(found.totals[0]) if has_total else found.of]
    said = found.in_words(problem.target_names)
    if found.explained < 1 - EXACT:
        said = f"{said}, for {percent(found.explained)} of its column,"
    else:
        said = f"{said} in every record"
    off = abs(found.implied - found.stated)
    values = f"{amount(found.implied)} on the left and {amount(found.stated)} on the right"
    kind = "differs from the sum of its parts" if has_total else "contradicts others"
    is_hard = not problem.is_soft[found.members].any()
    if off > found.granted and (is_hard or found.is_contradicted(LEAST_MISS)):
        by = (
            ""
            if not np.isfinite(found.discrepancy)
            else f", off by {percent(abs(found.discrepancy))}"
        )
        return Finding(
            row.number,
            row.name,
            ERROR if is_hard else WARNING,
            kind,
            f"{said}, but the values are {values}{by}: they cannot all hold. Mend one, or drop it.",
        )
    if off > SAME * max(abs(found.stated), abs(found.implied)):
        return Finding(
            row.number,
            row.name,
            NOTE,
            kind,
            f"{said}, and the values agree to {percent(abs(found.discrepancy))}.",
        )
    return Finding(
        row.number,
        row.name,
        NOTE,
        "collinear",
        f"{said}, and the values agree: it says nothing that the others do not.",
    )


def by_row(findings: Sequence[Finding]) -> Mapping[int, list[Finding]]:
    """Findings of each row, the worst first."""
    rows: dict[int, list[Finding]] = {}
    order = {ERROR: 0, WARNING: 1, NOTE: 2}
    for finding in sorted(findings, key=lambda found: order[found.severity]):
        rows.setdefault(finding.row, []).append(finding)
    return rows
