"""Which unit each row of a metric is added up to, in which cell of a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microcalibrate.diagnostics.cells import Cells, sums_by
from microcalibrate.diagnostics.frame import Frame, Index, Vector
from microcalibrate.errors import InvalidOption


@dataclass(frozen=True, eq=False)
class Groups:
    """Pairs (unit, cell) gathered into pairs (group of units, cell).

    Attributes:
        place: Gathered pair of each pair, shape `(n_pairs,)`; None where each is its own.
        member: Group of each gathered pair.
        cell: Its cell.
    """

    place: Index | None
    member: Index
    cell: Index

    def sums(self, values: Vector) -> Vector:
        """Values of the pairs added up to gathered pairs."""
        if self.place is None:
            return values
        return sums_by(self.place, values, len(self.cell))


@dataclass(frozen=True, eq=False)
class Design:
    """How the units were sampled, for standard errors with replacement.

    Attributes:
        psu: Primary sampling unit of each unit; None where each is its own.
        stratum: Stratum of each primary sampling unit.
        n_psu: Primary sampling units by stratum.
    """

    psu: Index | None
    stratum: Index
    n_psu: Vector

    @classmethod
    def build(cls, weights: Vector, strata: Index | None, psu: Index | None) -> Design:
        """From numbered strata and sampling units; units of weight zero were not sampled.

        Raises:
            InvalidOption: If a stratum has one sampling unit only, or one lies in two strata.
        """
        sampled = weights > 0
        member = np.arange(len(weights)) if psu is None else psu
        n_members = int(member.max()) + 1
        stratum_of_unit = np.zeros(len(weights), dtype=np.intp) if strata is None else strata
        stratum = np.zeros(n_members, dtype=np.intp)
        stratum[member] = stratum_of_unit
        if (stratum[member] != stratum_of_unit).any():
            raise InvalidOption(
                "a primary sampling unit lies in more than one stratum. Number them within "
                "strata, for example by joining both labels."
            )
        present = np.zeros(n_members, dtype=np.bool_)
        present[member[sampled]] = True
        n_psu = np.bincount(stratum[present], minlength=int(stratum.max()) + 1)
        if strata is not None and (n_psu == 1).any():
            raise InvalidOption(
                f"{int((n_psu == 1).sum())} strata have a single sampling unit, which has no "
                "variance. Join them with their neighbours."
            )
        return cls(psu, stratum, n_psu.astype(np.float64))

    def standard_errors(
        self, influence: Vector, squares_by_cell: Vector, groups: Groups, n_cells: int
    ) -> Vector:
        """Standard error of the statistic of each cell, NaN with one sampling unit in all.

        `sum over strata of n / (n - 1) * (sum(t**2) - sum(t)**2 / n)`, where `t` are the weighted
        linearised variables of the sampling units, 0 for those outside of the cell.

        Args:
            influence: Weighted linearised variable of each pair.
            squares_by_cell: Sum of their squares in each cell.
            groups: Pairs gathered by sampling unit.
            n_cells: Number of cells.

        Returns:
            Shape `(n_cells,)`.
        """
        totals = groups.sums(influence)
        n_strata = len(self.n_psu)
        key = groups.cell if n_strata == 1 else self.stratum[groups.member] * n_cells + groups.cell
        size = n_strata * n_cells
        sums = sums_by(key, totals, size).reshape(n_strata, n_cells)
        # Without strata and clusters these squares are known already.
        is_simple = n_strata == 1 and groups.place is None
        flat = squares_by_cell if is_simple else sums_by(key, totals**2, size)
        squares = flat.reshape(n_strata, n_cells)
        n = self.n_psu[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.maximum(squares - sums**2 / n, 0.0)
            parts = np.where(n > 0, n / (n - 1) * spread, 0.0)
        variance = parts.sum(axis=0)
        return np.sqrt(np.where(np.isfinite(variance), variance, np.nan))


@dataclass(frozen=True, eq=False)
class Incidence:
    """How the rows of an entity are added up to units within the cells of a slice.

    Attributes:
        slice_name: The slice.
        entity: Entity of the metrics.
        labels: Cells.
        unit: Unit of each pair; None where pair `i` is unit `i`.
        cell: Cell of each pair.
        row_place: Pair of each row; None where row `i` is pair `i`.
        lineages: Pairs gathered by origin.
        sampling: Pairs gathered by primary sampling unit.
    """

    slice_name: str
    entity: str
    labels: tuple[str, ...]
    unit: Index | None
    cell: Index
    row_place: Index | None
    lineages: Groups
    sampling: Groups

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.labels)

    def of_pairs(self, unit_values: Vector) -> Vector:
        """A value of the units for each pair."""
        return unit_values if self.unit is None else unit_values[self.unit]

    def added_up(self, row_values: Vector) -> Vector:
        """Values of the rows added up to pairs."""
        if self.row_place is None:
            return row_values
        return sums_by(self.row_place, row_values, len(self.cell))


def build_incidence(
    frame: Frame,
    metric_entity: str,
    slice_name: str,
    slice_entity: str,
    cells: Cells,
    lineage: Index | None,
    psu: Index | None,
) -> Incidence:
    """How a metric's rows meet a slice's cells.

    Args:
        frame: The tables.
        metric_entity: Entity of the metric, within that of the slice.
        slice_name: The slice.
        slice_entity: Its entity.
        cells: Its cells, one per row of that entity.
        lineage: Number of each unit's origin; None where each is its own.
        psu: Number of each unit's primary sampling unit; None where each is its own.

    Returns:
        The incidence.
    """
    n_cells = len(cells.labels)
    unit: Index | None = None
    row_place: Index | None = None
    if slice_entity == frame.unit:
        cell = cells.codes
        if metric_entity != frame.unit:
            row_place = frame.rows_of(metric_entity, frame.unit)
    else:
        unit_of_row = frame.rows_of(metric_entity, frame.unit)
        cell_of_row = cells.codes[frame.rows_of(metric_entity, slice_entity)]
        keys, row_place = np.unique(unit_of_row * n_cells + cell_of_row, return_inverse=True)
        unit, cell = keys // n_cells, keys % n_cells
    return Incidence(
        slice_name=slice_name,
        entity=metric_entity,
        labels=cells.labels,
        unit=unit,
        cell=cell,
        row_place=row_place,
        lineages=_gathered(lineage, unit, cell, n_cells),
        sampling=_gathered(psu, unit, cell, n_cells),
    )


def _gathered(group: Index | None, unit: Index | None, cell: Index, n_cells: int) -> Groups:
    if group is None:
        member = np.arange(len(cell)) if unit is None else unit
        return Groups(None, member, cell)
    member = group if unit is None else group[unit]
    keys, place = np.unique(member * n_cells + cell, return_inverse=True)
    return Groups(place, keys // n_cells, keys % n_cells)
