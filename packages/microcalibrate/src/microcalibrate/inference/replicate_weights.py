"""Replicate weights: the same sample weighted as if other samples had been drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from microcalibrate.errors import InvalidOption, InvalidReplicates
from microcalibrate.inference.estimands import Estimand
from microcalibrate.inference.statistics import OwnStatistic, Statistic

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

CENTRES = ("replicates", "estimate")
# Weights of the whole sample may differ from those of a calibration by this share.
SAME_WEIGHTS = 1e-6


@dataclass(frozen=True, eq=False)
class ReplicateWeights:
    """Weights of a sample and of its replicates, with what a variance needs to know of them.

    A variance is `scale * sum(rscales * (replicate - centre)**2)`.

    Attributes:
        full: Weights of the whole sample, shape `(n_records,)`.
        weights: Of the replicates, shape `(n_records, n_replicates)`.
        scale: Factor of the sum of squares.
        rscales: Factor of each square, shape `(n_replicates,)`.
        type: How they were made: "JK1", "JKn", "bootstrap", "BRR", "Fay", "SDR" or "other".
        freedom: Degrees of freedom of a variance.
        centre: What squares are taken about: the mean of the "replicates", or the "estimate" of
            the whole sample.
        failed: Replicates that could not be calibrated and were left out, from 0.
    """

    full: Vector
    weights: Matrix
    scale: float
    rscales: Vector
    type: str
    freedom: int
    centre: str = "replicates"
    failed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            InvalidReplicates: If shapes differ, or numbers are not finite.
            InvalidOption: If the centre is not known.
        """
        n_records = len(self.full)
        if self.weights.ndim != 2 or len(self.weights) != n_records:
            raise InvalidReplicates(
                f"replicate weights have shape {self.weights.shape}; they must have a row for each "
                f"of the {n_records} records and a column per replicate."
            )
        if self.rscales.shape != (self.n_replicates,):
            raise InvalidReplicates(
                f"rscales has shape {self.rscales.shape} for {self.n_replicates} replicates."
            )
        if self.n_replicates < 2:
            raise InvalidReplicates("a variance needs at least two replicates.")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.full).all()):
            raise InvalidReplicates("replicate weights are not all finite: fill in or drop them.")
        if self.centre not in CENTRES:
            raise InvalidOption(f"centre={self.centre!r} is not known. Use {list(CENTRES)}.")

    @property
    def n_replicates(self) -> int:
        """How many replicates there are."""
        return int(self.weights.shape[1])

    def covariance(self, statistics: Sequence[Statistic]) -> Matrix:
        """Of statistics bound to the records, shape `(n_statistics, n_statistics)`.

        Raises:
            InvalidReplicates: If a statistic is not a number in some replicate.
        """
        found = np.column_stack([one.values(self.weights) for one in statistics])
        missing = ~np.isfinite(found)
        if missing.any():
            replicate, _ = np.argwhere(missing)[0]
            raise InvalidReplicates(
                f"a statistic is not a number in replicate {replicate}: its domain may have no "
                "record there. Join domains, or use linearised standard errors."
            )
        if self.centre == "estimate":
            centre = np.array([one.value(self.full) for one in statistics])
        else:
            centre = found[self.rscales > 0].mean(axis=0)
        deviation = found - centre
        return np.asarray((deviation * (self.scale * self.rscales)[:, None]).T @ deviation)

    def standard_error(
        self, statistic: Estimand | Callable[[Vector], float], data: Any = None
    ) -> float:
        """Standard error of a statistic.

        Args:
            statistic: A function from weights, shape `(n_records,)`, to a number; or what
                `estimate` takes. For a quantile it is the spread of the quantile itself.
            data: Table that its columns are of.

        Returns:
            In units of the statistic.

        Examples:
            >>> both = np.array([[0.0, 2.0], [2.0, 0.0]])
            >>> jackknife = ReplicateWeights(np.ones(2), both, 0.5, np.ones(2), "JK1", 1)
            >>> jackknife.standard_error(lambda w: w @ [1.0, 3.0])
            2.0
        """
        return float(np.sqrt(self.covariance([self._bound(statistic, data)])[0, 0]))

    def confidence_interval(
        self,
        statistic: Estimand | Callable[[Vector], float],
        data: Any = None,
        *,
        level: float = 0.95,
    ) -> tuple[float, float]:
        """Student's t interval about the estimate; see `standard_error`."""
        if not 0 < level < 1:
            raise InvalidOption(f"level={level!r} must lie between 0 and 1, such as 0.95.")
        bound = self._bound(statistic, data)
        reach = float(stats.t.ppf(0.5 + level / 2, self.freedom))
        error = float(np.sqrt(self.covariance([bound])[0, 0]))
        estimate = bound.value(self.full)
        return estimate - reach * error, estimate + reach * error

    def degrees_of_freedom(self, weights: Vector) -> int:  # noqa: ARG002  (those of all domains)
        """Of a variance, among whichever records have a weight."""
        return self.freedom

    def check_full(self, weights: Vector) -> None:
        """Make sure that these are the replicates of given weights.

        Raises:
            InvalidReplicates: If they are of other records or of another calibration.
        """
        if len(weights) != len(self.full):
            raise InvalidReplicates(
                f"the replicates have {len(self.full)} records, and there are {len(weights)} "
                "weights."
            )
        apart = float(np.abs(weights - self.full).max())
        if apart > SAME_WEIGHTS * float(np.abs(self.full).max()):
            raise InvalidReplicates(
                f"the replicates are not of these weights: they differ by up to {apart:.3g}. Make "
                "replicates of this calibration with replicate_weights."
            )

    def _bound(self, statistic: Estimand | Callable[[Vector], float], data: Any) -> Statistic:
        if isinstance(statistic, Estimand):
            return statistic.bind(data, len(self.full))
        everyone = np.ones(len(self.full), dtype=np.bool_)
        return OwnStatistic(statistic, np.ones_like, everyone)

    def save(
        self,
        path: str | Path,
        *,
        record_ids: Any = None,
        weight: str = "weight",
        prefix: str = "replicate_",
    ) -> Path:
        """Write a wide table: a column per replicate, as other software writes and reads them.

        Args:
            path: Ends in .parquet, .csv, .csv.gz or .feather. Scales and type go into a file
                beside it, `<path>.meta.json`.
            record_ids: A first column `id`, one label per record.
            weight: Name of the column with the weights of the whole sample.
            prefix: Names of replicates, followed by their number from 1.

        Returns:
            The path.

        Raises:
            UnwritableFile: If it cannot be written.
        """
        from microcalibrate.inference.replicate_files import write_replicates

        about = {
            "type": self.type,
            "scale": self.scale,
            "rscales": self.rscales.tolist(),
            "freedom": self.freedom,
            "centre": self.centre,
            "failed": list(self.failed),
        }
        return write_replicates(
            Path(path),
            self.full,
            self.weights,
            about,
            record_ids=record_ids,
            weight=weight,
            prefix=prefix,
        )

    @classmethod
    def load(
        cls,
        table: Any,
        *,
        weight: str = "weight",
        replicates: str | Sequence[str] = "replicate_*",
        type: str | None = None,
        scale: float | None = None,
        rscales: Any = None,
        rho: float = 0.0,
        centre: str | None = None,
        freedom: int | None = None,
    ) -> ReplicateWeights:
        """Read a wide table of replicate weights, of ours or of other software.

        Args:
            table: File, or a table. Where `save` wrote it, the rest need not be given.
            weight: Column with the weights of the whole sample.
            replicates: Columns of the replicates: their names, or one with a `*` for the number:
                `"PWGTP*"` are PWGTP1, PWGTP2, … in the order of their numbers.
            type: What they are: "JK1", "JKn", "bootstrap", "BRR", "Fay", "SDR" (successive
                differences, as the American Community Survey has) or "other". It says the scale
                where none is given.
            scale: Factor of the sum of squares.
            rscales: Factor of each square, shape `(n_replicates,)`, which "JKn" needs; else 1.
            rho: Fay's factor, for "Fay".
            centre: What squares are taken about, "replicates" or "estimate"; "estimate" for
                "SDR", and otherwise "replicates".
            freedom: Degrees of freedom; the rank of the replicates less 1 if None.

        Returns:
            The replicate weights.

        Raises:
            UnreadableFile: If the file cannot be read.
            InvalidReplicates: If a column is missing or has gaps, or the scale is not known.
        """
        from microcalibrate.inference.replicate_files import read_replicates

        return cls(
            **read_replicates(table, weight, replicates, type, scale, rscales, rho, centre, freedom)
        )
