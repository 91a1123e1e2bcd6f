"""How the records of a calibration hang on what was solved: each alone, or as members of clusters.

Records of a cluster share one ratio, so that the cluster is what was calibrated: its row of the
estimate matrix is the weighted mean of its members' rows, and so is the derivative of a statistic
by its weight. A member's part in the error of the sample is its weight times `z - x B`, with its
own `z`, the row `x` of its cluster, and the coefficients `B` of the regression of the clusters
(Lemaître and Dufour 1987; R `survey` with `aggregate.stage`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.calibration import Calibration
from microcalibrate.engine.optimum import Optimum
from microcalibrate.errors import InvalidDesign, InvalidReplicates
from microcalibrate.inference.design import BoundDesign
from microcalibrate.inference.replication import Replication

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Members:
    """The records of a calibration, and what was solved in their place.

    Attributes:
        optimum: What was solved: records, or clusters of them.
        weights: Calibrated weights of all records, shape `(n_records,)`.
        design_weights: Of the records, shape `(n_records,)`.
        cluster: Position of each record's cluster among all, those not chosen included, shape
            `(n_records,)`; None where records were solved themselves.
    """

    optimum: Optimum
    weights: Vector
    design_weights: Vector
    cluster: Index | None

    @classmethod
    def of(cls, calibration: Calibration) -> Members:
        """Those of a calibration after `calibrate()`."""
        optimum, cluster = calibration.optimum, calibration.cluster_index
        weights = optimum.weights if cluster is None else calibration.weights
        return cls(optimum, weights, calibration.problem.design_weights, cluster)

    @property
    def n_records(self) -> int:
        """How many records there are, those that were not chosen included."""
        return len(self.design_weights)

    @property
    def share(self) -> Vector:
        """Of each record in the design weight of its cluster, shape `(n_records,)`."""
        assert self.cluster is not None
        total = np.bincount(self.cluster, self.design_weights)[self.cluster]
        return np.divide(self.design_weights, total, out=np.zeros(self.n_records), where=total > 0)

    def shared_out(self, values: Matrix) -> Matrix:
        """What belongs to what was solved, `(n_solved, …)`, among zeros for what was not chosen.

        That of clusters is shared out to their members by design weight.
        """
        among_all = self.optimum.spread(values)
        if self.cluster is None:
            return among_all
        share = self.share.reshape(-1, *(1,) * (np.ndim(values) - 1))
        return np.asarray(among_all[self.cluster] * share)

    def gathered(self, influence: Matrix) -> Matrix:
        """Derivatives by the weight of what was solved, from those by the records' weights.

        Args:
            influence: Shape `(n_records, n_statistics)`.

        Returns:
            Shape `(n_solved, n_statistics)`.
        """
        if self.cluster is not None:
            influence = self._means(influence)
        return np.asarray(influence[self.optimum.record_index])

    def contributions(self, solved: Matrix, influence: Matrix) -> Matrix:
        """What each record adds to the error of the sample, from what clusters add.

        Args:
            solved: Of what was solved, shape `(n_solved, n_statistics)`.
            influence: Derivatives by the records' weights, shape `(n_records, n_statistics)`.

        Returns:
            Shape `(n_records, n_statistics)`; over the members of a cluster they add up to it.
        """
        shared = self.shared_out(solved)
        if self.cluster is None:
            return shared
        own = influence - self._means(influence)[self.cluster]
        return np.asarray(shared + self.weights[:, None] * own)

    def check_design(self, design: BoundDesign) -> None:
        """Refuse sampling units that tear clusters apart.

        Raises:
            InvalidDesign: If members of a cluster are in two primary sampling units.
        """
        torn = self._torn(design.stages[0].unit)
        if torn is not None:
            raise InvalidDesign(
                f"records {torn[0]} and {torn[1]} are of one cluster of the calibration and in "
                "different sampling units. One weight for both means that they were drawn "
                "together: name the column of the clusters, or of what they were drawn in, in psu=."
            )

    def units(self, replication: Replication) -> npt.NDArray[np.intp]:
        """Row of the replication's factors for what was solved, shape `(n_solved,)`.

        Raises:
            InvalidReplicates: If members of a cluster have different factors.
        """
        if self.cluster is None:
            return replication.unit[self.optimum.record_index]
        weighted = np.flatnonzero(self.design_weights > 0)
        unit = np.zeros(self.optimum.n_records, dtype=np.intp)
        # In reverse, so that the first member of each cluster is the last to be written.
        unit[self.cluster[weighted[::-1]]] = replication.unit[weighted[::-1]]
        mine, of_first = replication.unit[weighted], unit[self.cluster[weighted]]
        for start in np.flatnonzero(mine != of_first):
            one, other = replication.factors[mine[start]], replication.factors[of_first[start]]
            if not np.allclose(one, other, rtol=1e-9, atol=0):
                raise InvalidReplicates(
                    f"record {weighted[start]} has other factors in the replicates than a record "
                    "of its cluster, and both have one ratio. Replicates must take clusters as a "
                    "whole: make them of a design with the clusters, or what these were drawn in, "
                    "as psu=."
                )
        return unit[self.optimum.record_index]

    def _means(self, influence: Matrix) -> Matrix:
        """Means over the members of each cluster, shape `(n_clusters, n_statistics)`."""
        assert self.cluster is not None
        place = (self.cluster, np.arange(self.n_records))
        shape = (self.optimum.n_records, self.n_records)
        return np.asarray(sp.csr_array((self.share, place), shape) @ influence)

    def _torn(self, unit: npt.NDArray[np.intp]) -> tuple[int, int] | None:
        """Two members of a cluster in different units, if there are any."""
        if self.cluster is None:
            return None
        first = np.unique(self.cluster, return_index=True)[1]
        apart = np.flatnonzero(unit != unit[first[self.cluster]])
        return (int(first[self.cluster[apart[0]]]), int(apart[0])) if len(apart) else None
