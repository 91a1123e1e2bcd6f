"""Influence of every unit on every statistic, one metric and slice at a time.

Nothing of the size records x statistics is ever held: per metric and slice there is one number per
unit and cell it is in, and what stays are figures per cell, the largest share per unit, and the
entries above a floor, of which a statistic has at most `1 / floor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microcalibrate.diagnostics.cells import sums_by
from microcalibrate.diagnostics.flags import (
    FlagRules,
    Mask,
    standardised_limit,
    variance_limit,
)
from microcalibrate.diagnostics.frame import Index, Vector
from microcalibrate.diagnostics.incidence import Design, Incidence
from microcalibrate.diagnostics.leave_one_out import linearised, ratio_without, total_without

# Below this share of the gross amount a net total is the rest of a subtraction.
LEAST_NET = 1e-3


@dataclass(frozen=True, eq=False)
class Measured:
    """What one metric has in the cells of one slice.

    Attributes:
        cells: Figures by name, each of shape `(n_cells,)`.
        entries: Figures by name of the units above the floor, each of shape `(n_entries,)`;
            `unit` and `cell` say whose they are.
        share: Gross share of each pair of unit and cell, shape `(n_pairs,)`.
        lineage_share: Gross share of each pair of origin and cell.
        lineage_limits: Share above which an origin carries too much of each cell; infinite where
            the cell is thin by its origins, which copies of records cannot change.
        counts: Whether the cell of each pair is not thin.
        is_influential: Whether each pair is above the limit of its cell, and that not thin.
    """

    cells: dict[str, NDArray[np.generic]]
    entries: dict[str, NDArray[np.generic]]
    share: Vector
    lineage_share: Vector
    lineage_limits: Vector
    counts: Mask
    is_influential: Mask


def gross_shares(amounts: Vector, cell: Index, n_cells: int) -> tuple[Vector, Vector]:
    """Share of each amount in the absolute amounts of its cell: `|a| / sum(|a|)`.

    Args:
        amounts: Weighted amounts, shape `(n,)`.
        cell: Cell of each, shape `(n,)`.
        n_cells: Number of cells.

    Returns:
        Shares in `[0, 1]`, 0 in a cell without amounts, shape `(n,)`; and the absolute total of
        each cell, shape `(n_cells,)`.

    Examples:
        >>> gross_shares(np.array([3.0, -1.0, 5.0]), np.array([0, 0, 1]), 2)[0].tolist()
        [0.75, 0.25, 1.0]
    """
    size = np.abs(amounts)
    gross = sums_by(cell, size, n_cells)
    divisor = np.where(gross > 0, gross, 1.0)
    size /= divisor[cell]
    # A sum that was rounded down must not make a share exceed the whole.
    np.minimum(size, 1.0, out=size)
    return size, gross


def measure(
    values: Vector,
    denominators: Vector | None,
    incidence: Incidence,
    weights: Vector,
    design: Design,
    rules: FlagRules,
) -> Measured:
    """Influence of every unit on one metric in the cells of one slice.

    Args:
        values: Value of each row of the metric.
        denominators: What each row adds to the denominator; None for a total.
        incidence: How rows add up to units within cells.
        weights: Weight of each unit.
        design: How the units were sampled.
        rules: The limits.

    Returns:
        The figures.
    """
    cell, n_cells = incidence.cell, incidence.n_cells
    weight = incidence.of_pairs(weights)
    amount = incidence.added_up(values)
    weighted = weight * amount
    share, gross = gross_shares(weighted, cell, n_cells)
    net = sums_by(cell, weighted, n_cells)
    n = _count(weighted != 0, cell, n_cells).astype(np.float64)
    effective = _effective(share, cell, n_cells)
    by_lineage = incidence.lineages
    if by_lineage.place is None:
        lineage_share, n_lineages, lineage_effective = share, n, effective
    else:
        sums = by_lineage.sums(weighted)
        lineage_share, _ = gross_shares(sums, by_lineage.cell, n_cells)
        n_lineages = sums_by(by_lineage.cell, sums != 0, n_cells)
        lineage_effective = _effective(lineage_share, by_lineage.cell, n_cells)
    largest, largest_pair = _largest(share, cell, n_cells)
    largest_lineage = largest
    if by_lineage.place is not None:
        largest_lineage = _largest(lineage_share, by_lineage.cell, n_cells)[0]

    base = None if denominators is None else incidence.added_up(denominators)
    denominator = np.full(n_cells, np.nan)
    estimate = net
    if base is not None:
        denominator = sums_by(cell, weight * base, n_cells)
        estimate = np.divide(net, denominator, out=np.full(n_cells, np.nan), where=denominator != 0)
    ratio = np.nan_to_num(estimate)
    influence = (
        weighted
        if base is None
        else linearised(weight, amount, base, ratio[cell], denominator[cell])
    )
    squares = influence * influence
    variance = sums_by(cell, squares, n_cells)
    errors = design.standard_errors(influence, variance, incidence.sampling, n_cells)

    reasons = rules.thin_reasons(n, effective, largest)
    lineage_thin = rules.thin_reasons(n_lineages, lineage_effective, largest_lineage)
    limits = rules.limits(n)
    counts = (reasons == 0)[cell]
    is_influential = (share > limits[cell]) & counts
    # Entries are few: what follows is done for them only.
    kept = np.flatnonzero(share > rules.floor)
    at = cell[kept]
    has_net = np.abs(net) >= LEAST_NET * gross
    with np.errstate(divide="ignore", invalid="ignore"):
        net_share = np.where(has_net[at], weighted[kept] / net[at], np.nan)
        standardised = np.abs(influence[kept]) / errors[at]
        variance_share = squares[kept] / variance[at]
        cancels = np.where(gross > 0, np.abs(net) / gross, np.nan)
    without = (
        total_without(weight[kept], amount[kept])
        if base is None
        else ratio_without(weight[kept], amount[kept], base[kept], ratio[at], denominator[at])
    )
    unit = kept if incidence.unit is None else incidence.unit[kept]
    return Measured(
        cells={
            "n": n.astype(np.int64),
            "effective": effective,
            "n_lineages": n_lineages.astype(np.int64),
            "lineage_effective": lineage_effective,
            "estimate": estimate,
            "standard_error": errors,
            "gross": gross,
            "net": net,
            "net_over_gross": cancels,
            "has_net_share": has_net & (gross > 0),
            "limit": limits,
            "thin": reasons,
            "largest_share": largest,
            "largest_unit": _unit_of(largest_pair, incidence.unit),
            "largest_lineage_share": largest_lineage,
            "n_influential": _count(is_influential, cell, n_cells),
            "n_high_variance": _count(
                squares > (variance_limit(n) * variance)[cell], cell, n_cells
            ),
            "n_standardised": _count(
                squares > ((standardised_limit(n) * np.nan_to_num(errors)) ** 2)[cell],
                cell,
                n_cells,
            ),
        },
        entries={
            "unit": unit,
            "cell": at,
            "amount": weighted[kept],
            "share": share[kept],
            "lineage_share": lineage_share[
                kept if by_lineage.place is None else by_lineage.place[kept]
            ],
            "net_share": net_share,
            "leave_one_out": without,
            "standardised": standardised,
            "variance_share": variance_share,
            "is_influential": is_influential[kept],
        },
        share=share,
        lineage_share=lineage_share,
        lineage_limits=np.where(lineage_thin == 0, rules.limits(n_lineages), np.inf),
        counts=counts,
        is_influential=is_influential,
    )


def _effective(share: Vector, cell: Index, n_cells: int) -> Vector:
    """Effective contributors of each cell, `1 / sum(share**2)`; 0 without any."""
    squares = sums_by(cell, share * share, n_cells)
    return np.divide(1.0, squares, out=np.zeros(n_cells), where=squares > 0)


def _largest(values: Vector, cell: Index, n_cells: int) -> tuple[Vector, Index]:
    """Largest value in each cell and where it is (the first of equals); -1 for none above 0."""
    largest = np.zeros(n_cells)
    np.maximum.at(largest, cell, values)
    where = np.full(n_cells, -1, dtype=np.intp)
    found = np.flatnonzero((values == largest[cell]) & (values > 0))
    where[cell[found][::-1]] = found[::-1]
    return largest, where


def _unit_of(pair: Index, unit: Index | None) -> Index:
    return pair if unit is None else np.where(pair >= 0, unit[pair], -1)


def _count(mask: Mask, cell: Index, n_cells: int) -> NDArray[np.int64]:
    if not mask.any():
        return np.zeros(n_cells, dtype=np.int64)
    return np.bincount(cell[mask], minlength=n_cells).astype(np.int64)
