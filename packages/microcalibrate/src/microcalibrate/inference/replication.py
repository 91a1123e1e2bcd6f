"""How a design is replicated: factors of design weights that stand for other samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.errors import InvalidOption, InvalidReplicates
from microcalibrate.inference.design import BoundDesign, Stage, SurveyDesign
from microcalibrate.inference.replicate_weights import ReplicateWeights

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A jackknife has a replicate per unit: beyond this many numbers it should be one per group.
MOST_NUMBERS = 2e9


@dataclass(frozen=True, eq=False)
class Replication:
    """Factors of design weights, one per sampling unit and replicate.

    A variance is `scale * sum(rscales * (replicate - centre)**2)`.

    Attributes:
        factors: Shape `(n_units, n_replicates)`, mean 1 over replicates.
        unit: Unit of each record, shape `(n_records,)`.
        scale: Factor of the sum of squares.
        rscales: Factor of each square, shape `(n_replicates,)`.
        type: "JK1", "JKn", "bootstrap", "BRR", "Fay" or "other".
        freedom: Degrees of freedom of a variance.
        centre: What squares are taken about: "replicates" or "estimate".
    """

    factors: Matrix
    unit: npt.NDArray[np.intp]
    scale: float
    rscales: Vector
    type: str
    freedom: int
    centre: str = "replicates"

    @property
    def n_replicates(self) -> int:
        """How many replicates there are."""
        return int(self.factors.shape[1])

    def of(self, replicate: int) -> Vector:
        """Factors of the records' design weights in one replicate, shape `(n_records,)`."""
        return np.asarray(self.factors[self.unit, replicate])

    def weights(self, design_weights: Any) -> ReplicateWeights:
        """Replicate weights without any calibration.

        Args:
            design_weights: Shape `(n_records,)`.

        Returns:
            Design weights times factors.
        """
        full = np.asarray(design_weights, dtype=np.float64)
        return ReplicateWeights(
            full,
            full[:, None] * self.factors[self.unit],
            self.scale,
            self.rscales,
            self.type,
            self.freedom,
            self.centre,
        )

    @classmethod
    def jackknife(
        cls,
        design: SurveyDesign,
        data: Any = None,
        *,
        n_records: int | None = None,
        n_groups: int | None = None,
        seed: int = 0,
    ) -> Replication:
        """Each replicate leaves one primary sampling unit out.

        JK1 for a design without strata: the others count `n / (n - 1)` times. JKn with strata: so
        do the others of its stratum. Finite population corrections of the first stage count.

        Args:
            design: How records were drawn.
            data: Table with its columns.
            n_records: How many records there are, where no data are given.
            n_groups: Leave out one of so many random groups of units instead (without strata
                only): the way for designs of thousands of units.
            seed: Of the groups.

        Raises:
            InvalidReplicates: If a stratum has one unit, or replicates would be too many.
            InvalidDesign: If the design does not fit the records.
        """
        bound = _bound(design, data, n_records)
        stage = _first(bound, "the jackknife")
        n_strata = len(stage.n_sampled)
        unit = stage.unit
        correction = stage.correction
        if n_groups is not None:
            if n_strata > 1:
                raise InvalidOption(
                    "n_groups= groups units across strata, which would break them up. Leave it "
                    "out, or use the bootstrap."
                )
            n_units = len(stage.stratum)
            if not 2 <= n_groups <= n_units:
                raise InvalidOption(f"n_groups={n_groups!r} must lie between 2 and {n_units}.")
            group = np.random.default_rng(seed).permutation(n_units) % n_groups
            unit = group[unit]
            stage = Stage(
                unit,
                np.zeros(n_groups, dtype=np.intp),
                np.array([float(n_groups)]),
                stage.population,
                stage.labels,
            )
        n_units = len(stage.stratum)
        left_out = np.flatnonzero((stage.n_sampled > 1)[stage.stratum])
        if float(len(left_out)) * max(len(unit), n_units) > MOST_NUMBERS:
            raise InvalidReplicates(
                f"the jackknife would have {len(left_out):,} replicates of {len(unit):,} records. "
                "Leave out groups of units instead (n_groups=100), or use the bootstrap."
            )
        factors = np.ones((n_units, len(left_out)))
        inflation = stage.n_sampled / np.maximum(stage.n_sampled - 1, 1)
        for column, one in enumerate(left_out):
            stratum = stage.stratum[one]
            factors[stage.stratum == stratum, column] = inflation[stratum]
            factors[one, column] = 0.0
        rscales = (correction / inflation)[stage.stratum[left_out]]
        freedom = bound.degrees_of_freedom(np.ones(len(unit)))
        if n_strata == 1:
            return cls(
                factors,
                unit,
                float(rscales[0]),
                np.ones(len(left_out)),
                "JK1",
                min(freedom, len(left_out) - 1),
            )
        return cls(factors, unit, 1.0, rscales, "JKn", freedom)

    @classmethod
    def bootstrap(
        cls,
        design: SurveyDesign,
        data: Any = None,
        *,
        n_replicates: int = 200,
        seed: int = 0,
        n_records: int | None = None,
    ) -> Replication:
        """Each replicate draws `n - 1` of the `n` units of a stratum, with replacement.

        The rescaled bootstrap (Rao and Wu 1988; Rao, Wu and Yue 1992). With finite population
        corrections, factors are drawn towards 1 by the root of one minus the sampling fraction.

        Args:
            design: How records were drawn.
            data: Table with its columns.
            n_replicates: How many replicates; some hundreds are usual.
            seed: Of the draws.
            n_records: How many records there are, where no data are given.

        Raises:
            InvalidReplicates: If a stratum has one unit.
            InvalidDesign: If the design does not fit the records.

        Examples:
            >>> drawn = Replication.bootstrap(SurveyDesign(), n_records=100, n_replicates=50)
            >>> drawn.factors.shape
            (100, 50)
        """
        bound = _bound(design, data, n_records)
        stage = _first(bound, "the bootstrap")
        if n_replicates < 2:
            raise InvalidOption(f"n_replicates={n_replicates!r} must be at least 2.")
        rng = np.random.default_rng(seed)
        factors = np.ones((len(stage.stratum), n_replicates))
        order = np.argsort(stage.stratum, kind="stable")
        starts = np.searchsorted(stage.stratum[order], np.arange(len(stage.n_sampled) + 1))
        for stratum, n_sampled in enumerate(stage.n_sampled.astype(int)):
            if n_sampled == 1:
                continue
            members = order[starts[stratum] : starts[stratum + 1]]
            drawn = rng.integers(n_sampled, size=(n_replicates, n_sampled - 1))
            counts = np.empty((n_replicates, n_sampled))
            for replicate, units in enumerate(drawn):
                counts[replicate] = np.bincount(units, minlength=n_sampled)
            pull = np.sqrt(stage.correction[stratum])
            factors[members] = 1 - pull + pull * counts.T * n_sampled / (n_sampled - 1)
        freedom = min(bound.degrees_of_freedom(np.ones(len(stage.unit))), n_replicates - 1)
        return cls(
            factors,
            stage.unit,
            1 / (n_replicates - 1),
            np.ones(n_replicates),
            "bootstrap",
            freedom,
        )

    @classmethod
    def balanced(
        cls,
        design: SurveyDesign,
        data: Any = None,
        *,
        rho: float = 0.0,
        n_records: int | None = None,
    ) -> Replication:
        """Balanced half-samples of a design with two units in each stratum (McCarthy 1969).

        Each replicate takes one unit of each stratum, by a column of a Hadamard matrix, so that
        the variance of a total is that of all half-samples. With Fay's method the unit taken
        counts `2 - rho` times and the other `rho` times, and no domain loses all its records.

        Args:
            design: How records were drawn, two units per stratum.
            data: Table with its columns.
            rho: Fay's factor, in [0, 1); 0 is plain balanced repeated replication.
            n_records: How many records there are, where no data are given.

        Raises:
            InvalidReplicates: If a stratum has other than two units, or there are finite
                population corrections, which half-samples do not know.
            InvalidDesign: If the design does not fit the records.
        """
        from scipy.linalg import hadamard

        bound = _bound(design, data, n_records)
        stage = _first(bound, "balanced replication")
        if not 0 <= rho < 1:
            raise InvalidOption(f"rho={rho!r} must lie in [0, 1).")
        other = np.flatnonzero((stage.n_sampled != 2) & (stage.correction > 0))
        if len(other):
            raise InvalidReplicates(
                f'stratum "{stage.labels[other[0]]}" has {stage.n_sampled[other[0]]:g} sampled '
                f"units ({len(other)} strata have other than two), and half-samples need two in "
                "each. Pair units into strata of two, or use the jackknife or the bootstrap."
            )
        if (stage.correction < 1).any() and (stage.correction > 0).any():
            raise InvalidReplicates(
                "balanced replication has no finite population correction. Leave fpc out, which "
                "is on the safe side, or use the jackknife or the bootstrap."
            )
        n_strata = len(stage.n_sampled)
        signs = hadamard(1 << int(n_strata).bit_length())
        n_replicates = len(signs)
        order = np.argsort(stage.stratum, kind="stable")
        is_second = np.zeros(len(order), dtype=np.bool_)
        is_second[order[1::2]] = True
        # The first row is constant, and would leave the units of a stratum unbalanced.
        taken = (signs[1 + stage.stratum] > 0) ^ is_second[:, None]
        return cls(
            np.where(taken, 2 - rho, rho),
            stage.unit,
            1 / (n_replicates * (1 - rho) ** 2),
            np.ones(n_replicates),
            "Fay" if rho > 0 else "BRR",
            bound.degrees_of_freedom(np.ones(len(stage.unit))),
        )

    @classmethod
    def of_weights(cls, replicates: ReplicateWeights) -> Replication:
        """The factors in replicate weights that others made, before any calibration.

        Args:
            replicates: Weights of the sample and its replicates, as `ReplicateWeights.load` reads
                them. A record of weight zero must have none in any replicate.

        Raises:
            InvalidReplicates: If a record has weight in a replicate only, or a weight is negative.
        """
        if (replicates.weights < 0).any() or (replicates.full < 0).any():
            raise InvalidReplicates(
                "some replicate weights are negative, so they are no design weights. Take those "
                "from before the calibration."
            )
        empty = replicates.full == 0
        if replicates.weights[empty].any():
            raise InvalidReplicates(
                "a record has weight zero in the sample and not in a replicate: there is no factor "
                "that says so. Drop it, or give it a weight."
            )
        full = np.where(empty, 1.0, replicates.full)
        return cls(
            replicates.weights / full[:, None],
            np.arange(len(full)),
            replicates.scale,
            replicates.rscales,
            replicates.type,
            replicates.freedom,
            replicates.centre,
        )


def _bound(design: SurveyDesign, data: Any, n_records: int | None) -> BoundDesign:
    if data is None and n_records is None:
        raise InvalidOption("give data=, or n_records= where the design has arrays only.")
    return design.bind(data, len(data) if n_records is None else n_records)


def _first(design: BoundDesign, what: str) -> Stage:
    """The first stage, with strata of one unit refused unless they are taken whole."""
    stage = design.stages[0]
    lonely = stage.lonely
    if len(lonely) and design.lonely_psu != "certainty":
        raise InvalidReplicates(
            f'stratum "{stage.labels[lonely[0]]}" has one sampled unit ({len(lonely)} strata do), '
            f"and {what} needs two. Join it with a stratum that is alike, or set lonely_psu to "
            '"certainty" if it was taken whole.'
        )
    return stage
