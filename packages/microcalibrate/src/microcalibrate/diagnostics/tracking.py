"""The largest share of every unit and origin over many statistics, as they pass by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microcalibrate.diagnostics.flags import Mask
from microcalibrate.diagnostics.frame import Index, Vector
from microcalibrate.diagnostics.incidence import Incidence
from microcalibrate.diagnostics.influence import Measured


class Tracker:
    """Running figures of the units over the statistics of one scenario.

    Thin cells do not count here: they are reported as cells.

    Args:
        n_units: Number of units.
        n_lineages: Number of different origins.

    Attributes:
        share: Largest gross share of each unit.
        worst: Number of the statistic it is of, -1 for none.
        n_influential: In how many statistics each unit is above the limit.
        lineage_share: Largest gross share of each origin.
        is_lineage_influential: Whether each origin is above the limit of a statistic.
    """

    def __init__(self, n_units: int, n_lineages: int) -> None:
        """Nothing has been seen yet."""
        self.share: Vector = np.zeros(n_units)
        self.worst: Index = np.full(n_units, -1, dtype=np.intp)
        self.n_influential: NDArray[np.int64] = np.zeros(n_units, dtype=np.int64)
        self.lineage_share: Vector = np.zeros(n_lineages)
        self.is_lineage_influential: Mask = np.zeros(n_lineages, dtype=np.bool_)

    def update(self, measured: Measured, incidence: Incidence, first_statistic: int) -> None:
        """Take in the shares of one metric and slice, whose cells are statistics in a row."""
        share = np.where(measured.counts, measured.share, 0.0)
        number = first_statistic + incidence.cell
        if incidence.unit is None:
            better = np.flatnonzero(share > self.share)
            self.share[better] = share[better]
            self.worst[better] = number[better]
            self.n_influential += measured.is_influential
        else:
            before = self.share.copy()
            np.maximum.at(self.share, incidence.unit, share)
            best = self.share[incidence.unit]
            better = np.flatnonzero((share == best) & (best > before[incidence.unit]))[::-1]
            self.worst[incidence.unit[better]] = number[better]
            self.n_influential += np.bincount(
                incidence.unit[measured.is_influential], minlength=len(self.share)
            )
        groups = incidence.lineages
        if groups.place is None and incidence.unit is None:
            np.maximum(self.lineage_share, share, out=self.lineage_share)
            self.is_lineage_influential |= measured.is_influential
            return
        limits = measured.lineage_limits[groups.cell]
        of_lineages = np.where(np.isfinite(limits), measured.lineage_share, 0.0)
        np.maximum.at(self.lineage_share, groups.member, of_lineages)
        above = of_lineages > limits
        self.is_lineage_influential[groups.member[above]] = True
