"""Covariance of estimates: from linearised residuals, and from what the targets are unsure of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from microcalibrate.errors import InvalidOption
from microcalibrate.inference.design import BoundDesign
from microcalibrate.inference.members import Members
from microcalibrate.inference.sensitivity import Sensitivity
from microcalibrate.inference.statistics import Differentiable
from microcalibrate.inference.variance import variance_of_totals
from microcalibrate.problem import Problem
from microcalibrate.targets import Quotients

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class SamplingError(Protocol):
    """How estimates would differ from sample to sample."""

    def covariance(self, statistics: Sequence[Differentiable]) -> Matrix:
        """Of the estimates, shape `(n_statistics, n_statistics)`."""

    def degrees_of_freedom(self, weights: Vector) -> int:
        """Of a variance among the records that have a weight."""


@dataclass(frozen=True, eq=False)
class LinearisedError:
    """Sampling error by linearisation: each statistic as a total of residuals.

    Attributes:
        weights: Final weights of all records, shape `(n_records,)`.
        design: How they were drawn.
        sensitivity: Of the calibration that made the weights; None where they are taken as given.
        members: The records of that calibration; None with `sensitivity`.
    """

    weights: Vector
    design: BoundDesign
    sensitivity: Sensitivity | None
    members: Members | None = None

    def contributions(self, statistics: Sequence[Differentiable]) -> Matrix:
        """Weight times residual of each record, shape `(n_records, n_statistics)`."""
        influence = influences(statistics, self.weights)
        if self.sensitivity is None or self.members is None:
            return np.asarray(self.weights[:, None] * influence)
        solved = self.sensitivity.contributions(self.members.gathered(influence))
        return self.members.contributions(solved, influence)

    def covariance(self, statistics: Sequence[Differentiable]) -> Matrix:
        """See `SamplingError.covariance`."""
        return variance_of_totals(self.contributions(statistics), self.design)

    def degrees_of_freedom(self, weights: Vector) -> int:
        """See `SamplingError.degrees_of_freedom`."""
        return self.design.degrees_of_freedom(weights)


@dataclass(frozen=True, eq=False)
class TargetError:
    """What the targets' own errors add: with `G` the derivatives by the targets, `G V G.T`.

    Attributes:
        weights: Final weights of all records, shape `(n_records,)`.
        covariance_of_targets: `V`, shape `(n_targets, n_targets)`, in the units that the targets
            were declared in.
        sensitivity: Of the calibration, at its optimum.
        members: The records of the calibration.
        quotients: Targets that are means, ratios, shares or quantiles, if any.
    """

    weights: Vector
    covariance_of_targets: Matrix
    sensitivity: Sensitivity
    members: Members
    quotients: Quotients | None = None

    def covariance(self, statistics: Sequence[Differentiable]) -> Matrix:
        """Of the estimates, shape `(n_statistics, n_statistics)`."""
        influence = influences(statistics, self.weights)
        by_target = self.sensitivity.by_target(
            self.members.gathered(influence), self._denominators()
        )
        return np.asarray(by_target.T @ self.covariance_of_targets @ by_target)

    def _denominators(self) -> Iterator[tuple[int, Vector]]:
        """Of quotients, by what was solved; one at a time, since all may be a large table."""
        if self.quotients is None:
            return
        for target, place in zip(
            self.quotients.columns, self.quotients.denominator_index, strict=True
        ):
            of_records = self.quotients.denominators[:, [place]].toarray()
            yield int(target), self.members.gathered(of_records)[:, 0]


def influences(statistics: Sequence[Differentiable], weights: Vector) -> Matrix:
    """Derivatives of statistics by the weights, shape `(n_records, n_statistics)`."""
    return np.column_stack([one.influence(weights) for one in statistics])


def covariance_of_targets(given: Any, problem: Problem) -> Matrix:
    """Covariance of the targets from what users have of it.

    Args:
        given: Standard errors in the targets' own units, shape `(n_targets,)`, or a mapping by
            name in which absent targets are known exactly; or a covariance matrix, shape
            `(n_targets, n_targets)`.
        problem: Whose targets they are.

    Returns:
        Shape `(n_targets, n_targets)`.

    Raises:
        InvalidOption: If names are not known, shapes differ, or it is no covariance.
    """
    names = problem.target_names
    if isinstance(given, Mapping) or (hasattr(given, "index") and hasattr(given, "items")):
        named = {str(name): value for name, value in given.items()}
        unknown = [name for name in named if name not in set(names)]
        if unknown and not all(name.isdigit() for name in named):
            raise InvalidOption(f'target_errors names "{unknown[0]}", which is no target.')
        given = [named.get(name, 0.0) for name in names] if not unknown else list(named.values())
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidOption(f"target_errors are not numbers: {error}") from error
    n_targets = len(names)
    if array.shape not in ((n_targets,), (n_targets, n_targets)):
        raise InvalidOption(
            f"target_errors has shape {array.shape} for {n_targets} targets: give standard errors, "
            f"shape ({n_targets},), or a covariance, shape ({n_targets}, {n_targets})."
        )
    if not np.isfinite(array).all():
        raise InvalidOption("target_errors are not all finite: 0 is a target that is known.")
    if array.ndim == 1:
        if (array < 0).any():
            raise InvalidOption("target_errors has a standard error below zero.")
        return np.diag(array**2)
    largest = float(np.abs(array).max(initial=0.0))
    if not np.allclose(array, array.T, rtol=1e-8, atol=1e-12 * largest):
        raise InvalidOption("target_errors is a matrix that is not symmetric: no covariance.")
    if np.linalg.eigvalsh(array).min(initial=0.0) < -1e-8 * max(largest, 1e-300):
        raise InvalidOption(
            "target_errors is a matrix with a negative eigenvalue: some sum of targets would have "
            "a negative variance. Mend it, or give standard errors."
        )
    return array
