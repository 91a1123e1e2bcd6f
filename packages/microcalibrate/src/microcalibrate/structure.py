"""What records have to do with each other: members of clusters, and independent parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.clusters import cluster_index, clustered
from microcalibrate.columns import did_you_mean
from microcalibrate.engine.loop import Progress
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.errors import InvalidOption, InvalidProblem
from microcalibrate.partition import Part, parts_of, solve_parts
from microcalibrate.problem import Problem
from microcalibrate.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.targets import Targets

Index = NDArray[np.int64]
Vector = NDArray[np.float64]

# Options of a calibration that a column of a table may stand for.
PER_RECORD = ("frozen", "heteroscedasticity", "cluster", "partition")


@dataclass(frozen=True, eq=False)
class Structure:
    """How the records of a problem hang together, checked.

    Attributes:
        problem: What is solved: the problem itself, or that of its clusters.
        cluster: Position of each record's cluster, or None where each stands alone.
        parts: Independent parts of `problem`, none where it is solved as a whole.
        labels: Those of clusters and parts as they were given, one per record, or None.
    """

    problem: Problem
    cluster: Index | None
    parts: tuple[Part, ...]
    labels: Mapping[str, Any]

    @classmethod
    def checked(
        cls, problem: Problem, settings: Settings, cluster: Any, partition: Any
    ) -> Structure:
        """Check labels against the problem, and against each other.

        Args:
            problem: The problem of the records.
            settings: Options of the calibration.
            cluster: A label per record; those with the same one get one ratio.
            partition: A label per record, of its independent part.

        Raises:
            InvalidProblem: If there is not one label per record.
            InvalidOption: If labels cannot be honoured with the targets, or with other options.
        """
        n_records, index, solved = problem.n_records, None, problem
        labels = {"cluster": cluster, "partition": partition}
        if cluster is not None:
            index, _ = cluster_index(cluster, n_records)
            solved = clustered(problem, index)
            lower, upper = solved.lower_ratio, solved.upper_ratio
            free = (solved.design_weights > 0) & (lower < upper)
            settings.distance.between(lower[free], upper[free])
            _check_count(solved, settings)
        if partition is None:
            return cls(solved, index, (), labels)
        place, names = cluster_index(partition, n_records, "partition")
        if index is not None:
            of_cluster = np.zeros(solved.n_records, dtype=np.int64)
            of_cluster[index] = place
            torn = np.flatnonzero(of_cluster[index] != place)
            if torn.size:
                raise InvalidOption(
                    f"record {torn[0]} is in another part than a record of its cluster. Parts "
                    "must hold clusters as a whole."
                )
            place = of_cluster
        return cls(solved, index, parts_of(solved, place, names, settings.closeness), labels)

    def of(self, problem: Problem, settings: Settings) -> Structure:
        """The same clusters and parts, of a problem with other columns or scales."""
        return Structure.checked(problem, settings, **self.labels)

    def as_plain(self) -> dict[str, int | None]:
        """How many clusters and parts there are, in plain types; None where there are none."""
        return {
            "n_clusters": None if self.cluster is None else self.problem.n_records,
            "n_parts": len(self.parts) or None,
        }

    def solve(
        self,
        settings: Settings,
        *,
        max_iter: int,
        progress: Progress | None = None,
        start_prices: Any = None,
    ) -> tuple[Solution, tuple[Part, ...]]:
        """Solve what is to be solved.

        Args:
            settings: Options of the calibration.
            max_iter: Most Newton steps of each solve.
            progress: Called with each step.
            start_prices: Prices of all targets to start from.

        Returns:
            The solution of `problem`, with a ratio for each cluster where there are clusters, and
            the parts with theirs.

        Raises:
            InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
        """
        parts: tuple[Part, ...] = ()
        if self.parts:
            solution, parts = solve_parts(
                self.problem,
                self.parts,
                settings.distance,
                loss=settings.loss,
                max_iter=max_iter,
                progress=progress,
                start_prices=start_prices,
            )
        else:
            solution = solve(
                self.problem,
                settings.distance,
                loss=settings.loss,
                closeness=settings.closeness,
                max_iter=max_iter,
                progress=progress,
                start_prices=start_prices,
            )
        return solution, parts

    def weights_of_records(self, problem: Problem, weights: Vector) -> Vector:
        """Weights of all records, from those of what was solved: each gets its cluster's ratio.

        Args:
            problem: The problem of the records.
            weights: Of the records, or of the clusters.
        """
        if self.cluster is None:
            return weights
        total = self.problem.design_weights
        ratio = np.divide(weights, total, out=np.zeros_like(total), where=total > 0)
        shared_out = problem.design_weights * ratio[self.cluster]
        # A cluster within its bounds has all members within theirs, but for rounding.
        bounded = np.clip(shared_out, problem.min_weight, problem.max_weight)
        return np.where(shared_out > 0, bounded, shared_out)

    def of_records(self, values: NDArray[Any]) -> NDArray[Any]:
        """What belongs to each record, such as its ratio, from what belongs to what was solved."""
        return values if self.cluster is None else values[self.cluster]


def _check_count(clusters: Problem, settings: Settings) -> None:
    """Refuse to keep more clusters than there are; of records, the settings know."""
    budget, available = settings.budget, int((clusters.design_weights > 0).sum())
    if budget is not None and budget.records is not None and budget.records > available:
        raise InvalidOption(
            f"target_records={budget.records} counts clusters where there are any, and must be a "
            f"whole number from 1 to {available}, the clusters with positive design weight."
        )


def columns_for(data: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that take a value per record, with the column of that name where one is named.

    Args:
        data: DataFrame (pandas or polars), one row per record.
        options: By name; those that are no text stay as they are.

    Raises:
        InvalidProblem: If there is no such column.

    Examples:
        >>> import pandas as pd
        >>> columns_for(pd.DataFrame({"home": [7, 7, 8]}), {"cluster": "home"})["cluster"].tolist()
        [7, 7, 8]
    """
    found = {}
    for option, value in options.items():
        if isinstance(value, str) and value not in data.columns:
            raise InvalidProblem(
                f"{option}={value}: the data have no such column."
                f"{did_you_mean(value, list(map(str, data.columns)))}"
            )
        found[option] = data[value].to_numpy() if isinstance(value, str) else value
    return found


def options_for(data: Any, built: Targets, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a calibration to declared targets: what users say, else what the table says.

    Args:
        data: DataFrame (pandas or polars) whose columns options may name.
        built: The targets.
        options: Keywords of a calibration.

    Raises:
        InvalidProblem: If a column that is named is not there.
    """
    named = {name: options[name] for name in PER_RECORD if name in options}
    declared = {
        "target_names": built.names,
        "tolerances": built.tolerances,
        "importances": built.importances,
        "scales": built.scales,
        "families": [family or None for family in built.families],
        "differences": built.differences,
        "quotients": built.quotients,
    }
    return declared | dict(options) | columns_for(data, named)


def labelled(given: Any, default: Sequence[Any], what: str) -> list[Any]:
    """One label per item, the default where none is given."""
    if given is None:
        return list(default)
    labels = list(given)
    if len(labels) != len(default):
        raise InvalidProblem(f"{what} has {len(labels)} entries for {len(default)} items.")
    return [
        fallback if label is None else label
        for label, fallback in zip(labels, default, strict=True)
    ]


def parts_table(parts: tuple[Part, ...]) -> pd.DataFrame:
    """One row per independent part: how it was solved, and its own certificate."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "part": part.name,
                "records": len(part.records),
                "targets": len(part.targets),
                "status": part.solution.status.name if part.solution else "NO_TARGETS",
                "gap": part.solution.gap if part.solution else 0.0,
                "residual": part.solution.residual if part.solution else 0.0,
                "steps": len(part.solution.history) if part.solution else 0,
            }
            for part in parts
        ],
        columns=["part", "records", "targets", "status", "gap", "residual", "steps"],
    )
