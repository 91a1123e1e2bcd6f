"""A calibration problem: checked once at the boundary, trusted from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import (
    ROWS_A_BLOCK,
    Vector,
    checked_matrix,
    checked_weights,
    is_sparse,
)
from microcalibrate.bounds import (
    check_room,
    checked_frozen,
    checked_pair,
    per_record,
    settled_on_bounds,
)
from microcalibrate.errors import InvalidOption, InvalidProblem


@dataclass(frozen=True, eq=False)
class Problem:
    """Design weights, targets, and what each record adds to each target.

    Build one with `Problem.build`, which checks everything.

    Attributes:
        design_weights: Shape `(n_records,)`, persons (or households) per record; zeros stay zero.
        estimate_matrix: Shape `(n_records, n_targets)`: what a record adds to a target per unit
            of weight. A float64 array or a CSR array with sorted indices.
        targets: Shape `(n_targets,)`, in the targets' own units.
        target_names: One name per target.
        scales: Shape `(n_targets,)`, positive: an error of 1 is a miss of one scale.
        tolerances: Shape `(n_targets,)`, as fractions of the scale: NaN is soft, 0 is exact.
        importances: Shape `(n_targets,)`: weights of the squared errors of soft targets, sum 1.
        min_ratio: Shape `(n_records,)`: least calibrated over design weight, may be -inf.
        max_ratio: Shape `(n_records,)`: greatest calibrated over design weight, may be inf.
        min_weight: Shape `(n_records,)`: least calibrated weight, may be -inf.
        max_weight: Shape `(n_records,)`: greatest calibrated weight, may be inf.
        frozen: Shape `(n_records,)`: which records keep their design weight.
        heteroscedasticity: Shape `(n_records,)`, positive: how freely each weight may move.
    """

    design_weights: Vector
    estimate_matrix: Any
    targets: Vector
    target_names: tuple[str, ...]
    scales: Vector
    tolerances: Vector
    importances: Vector
    min_ratio: Vector
    max_ratio: Vector
    min_weight: Vector
    max_weight: Vector
    frozen: NDArray[np.bool_]
    heteroscedasticity: Vector

    @property
    def n_records(self) -> int:
        """Number of records, those of weight zero included."""
        return len(self.design_weights)

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return len(self.targets)

    @property
    def is_soft(self) -> NDArray[np.bool_]:
        """Which targets are soft, shape `(n_targets,)`."""
        return np.isnan(self.tolerances)

    @property
    def lower_ratio(self) -> Vector:
        """Least ratio of each record, by all its bounds together, shape `(n_records,)`."""
        return self._all_bounds(self.min_ratio, self.min_weight, np.maximum)

    @property
    def upper_ratio(self) -> Vector:
        """Greatest ratio of each record, by all its bounds together, shape `(n_records,)`."""
        return self._all_bounds(self.max_ratio, self.max_weight, np.minimum)

    def _all_bounds(self, ratio: Vector, weight: Vector, narrower: Any) -> Vector:
        if np.isfinite(weight).any():
            # A record without design weight has no weight to bound.
            d = self.design_weights
            allowed = np.divide(weight, d, out=np.array(ratio, copy=True), where=d > 0)
            ratio = np.asarray(narrower(ratio, allowed))
        return np.where(self.frozen, 1.0, ratio) if self.frozen.any() else ratio

    def weights_of(self, ratio: Vector) -> Vector:
        """Weights of given ratios, shape `(n_records,)`.

        Ratios within their bounds give weights that are within them to the last bit, by whichever
        of `weight / design_weight`, `bound * design_weight` and `max_weight` it is checked.
        """
        lower, upper = self.lower_ratio, self.upper_ratio
        settled = settled_on_bounds(ratio * self.design_weights, self.design_weights, lower, upper)
        near = 4 * np.finfo(np.float64).eps * np.abs(settled)
        past_low = (settled < self.min_weight) & (settled + near >= self.min_weight)
        past_high = (settled > self.max_weight) & (settled - near <= self.max_weight)
        np.copyto(settled, self.min_weight, where=past_low & (self.design_weights > 0))
        np.copyto(settled, self.max_weight, where=past_high)
        return settled

    def estimates(self, weights: Vector) -> Vector:
        """What `weights` `(n_records,)` give for each target, shape `(n_targets,)`."""
        return np.asarray(self.estimate_matrix.T @ weights, dtype=np.float64)

    def errors(self, weights: Vector) -> Vector:
        """`(estimates - targets) / scales`, shape `(n_targets,)`."""
        return (self.estimates(weights) - self.targets) / self.scales

    @classmethod
    def build(
        cls,
        weights: Any,
        targets: Any,
        estimate_matrix: Any,
        *,
        target_names: Sequence[str] | None = None,
        scales: Any = None,
        tolerances: Any = None,
        importances: Any = None,
        min_weight_ratio: Any = 0.0,
        max_weight_ratio: Any = None,
        min_weight: Any = None,
        max_weight: Any = None,
        frozen: Any = None,
        heteroscedasticity: Any = None,
    ) -> Problem:
        """Check a problem and bring it into one form.

        Args:
            weights: Design weights, shape `(n_records,)`, finite and not negative.
            targets: Shape `(n_targets,)`, or a mapping (dict, pandas Series) by target name.
            estimate_matrix: DataFrame (pandas or polars; columns name the targets), array or
                SciPy sparse matrix, shape `(n_records, n_targets)`. Never densified.
            target_names: Names of the columns, where the matrix does not carry them.
            scales: What an error of 1 means, per target; missing (or NaN) is `|target|`, and for
                a zero target the design-weighted absolute total of its column.
            tolerances: One number, a sequence, or a mapping by name, as fractions of the scale:
                0 is exact, missing or NaN is soft.
            importances: Sequence or mapping by name: how much each soft target counts, relative
                to the others. Missing is 1.
            min_weight_ratio: Least calibrated over design weight: a number, or one per record.
            max_weight_ratio: Greatest calibrated over design weight; None is no bound.
            min_weight: Least calibrated weight of a record that has a design weight: a number, or
                one per record; None is no bound.
            max_weight: Greatest calibrated weight, the same.
            frozen: Mask `(n_records,)` of records that keep their design weight exactly.
            heteroscedasticity: Factors `q`, positive, one per record (Deville and Särndal 1992):
                the distance of a record counts `1 / q`, so that weights of large factors move
                more. R's `variance` and `sigma2` are the inverse of it. Only their proportions
                count.

        Returns:
            The problem, in float64.

        Raises:
            InvalidWeights: If weights are not finite, negative, or all zero.
            InvalidProblem: If shapes disagree, a value is not finite, a name stands twice or is
                not known, or a target has no record that contributes to it.
            InvalidOption: If a tolerance, an importance or a bound is out of its range.

        Examples:
            >>> problem = Problem.build([1.0, 1.0], [3.0], [[1.0], [1.0]])
            >>> problem.estimates(problem.design_weights)
            array([2.])
        """
        design_weights = checked_weights(weights)
        matrix, column_names = checked_matrix(estimate_matrix, len(design_weights), targets)
        names = _checked_names(target_names, column_names, targets, matrix.shape[1])
        values = _per_target(targets, names, "targets", None)
        total = _absolute_totals(matrix, design_weights)
        _check_support(values, total, names)

        tolerance = _per_target(tolerances, names, "tolerances", np.nan)
        if np.any(tolerance < 0) or np.any(np.isinf(tolerance)):
            first = int(np.flatnonzero((tolerance < 0) | np.isinf(tolerance))[0])
            raise InvalidOption(
                f'tolerance of target "{names[first]}" is {tolerance[first]:g}. Give a fraction '
                "of the target that is 0 (exact) or more, or leave it out (soft)."
            )
        importance = _per_target(importances, names, "importances", 1.0)
        if not np.all(np.isfinite(importance) & (importance >= 0)):
            first = int(np.flatnonzero(~(np.isfinite(importance) & (importance >= 0)))[0])
            raise InvalidOption(
                f'importance of target "{names[first]}" is {importance[first]:g}. Importances '
                "must be finite and not negative."
            )
        soft = np.isnan(tolerance)
        if soft.any() and importance[soft].sum() == 0:
            raise InvalidOption("all importances of soft targets are zero: give one of them more.")

        scale = _per_target(scales, names, "scales", np.nan)
        natural = np.where(values != 0, np.abs(values), np.where(total > 0, total, 1.0))
        scale = np.where(np.isnan(scale), natural, scale)
        if not np.all(np.isfinite(scale) & (scale > 0)):
            first = int(np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))[0])
            raise InvalidOption(
                f'scale of target "{names[first]}" is {scale[first]:g}. Scales must be positive.'
            )
        n_records = len(design_weights)
        low, high = checked_pair(
            ("min_weight_ratio", "max_weight_ratio"),
            per_record("min_weight_ratio", min_weight_ratio, 0.0, n_records),
            per_record("max_weight_ratio", max_weight_ratio, np.inf, n_records),
        )
        least, most = checked_pair(
            ("min_weight", "max_weight"),
            per_record("min_weight", min_weight, -np.inf, n_records),
            per_record("max_weight", max_weight, np.inf, n_records),
        )
        factors = per_record("heteroscedasticity", heteroscedasticity, 1.0, n_records)
        if not np.all(np.isfinite(factors) & (factors > 0)):
            first = int(np.flatnonzero(~(np.isfinite(factors) & (factors > 0)))[0])
            raise InvalidOption(
                f"heteroscedasticity of record {first} is {factors[first]:g}; factors must be "
                "positive and finite."
            )
        problem = cls(
            design_weights=design_weights,
            estimate_matrix=matrix,
            targets=values,
            target_names=names,
            scales=scale,
            tolerances=tolerance,
            importances=np.where(soft, importance, 0) / max(importance[soft].sum(), 1e-300),
            min_ratio=low,
            max_ratio=high,
            min_weight=least,
            max_weight=most,
            frozen=np.broadcast_to(np.False_, n_records),
            heteroscedasticity=factors,
        )
        held = checked_frozen(frozen, n_records)
        check_room(design_weights, problem.lower_ratio, problem.upper_ratio, held)
        return replace(problem, frozen=held)


def _checked_names(
    given: Sequence[str] | None, columns: tuple[str, ...] | None, targets: Any, n_targets: int
) -> tuple[str, ...]:
    if given is not None:
        names = tuple(str(name) for name in given)
    elif columns is not None:
        names = columns
    elif isinstance(targets, Mapping) or (hasattr(targets, "index") and hasattr(targets, "items")):
        names = tuple(str(name) for name in targets.keys())  # noqa: SIM118  (a Series too)
    else:
        names = tuple(f"target_{column}" for column in range(n_targets))
    if len(names) != n_targets:
        raise InvalidProblem(
            f"there are {len(names)} target names for {n_targets} columns of the estimate matrix."
        )
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidProblem(f'target name "{name}" stands twice. Names must be unique.')
        seen.add(name)
    return names


def _per_target(values: Any, names: tuple[str, ...], what: str, missing: float | None) -> Vector:
    """One number per target, from a number, a sequence, a mapping by name, or nothing.

    `missing` fills gaps of a mapping; where it is None every target must be given and finite.
    """
    if values is None and missing is not None:
        return np.full(len(names), missing)
    items = _mapping_items(values)
    if items is not None:
        unknown = [name for name in items if name not in set(names)]
        if unknown:
            raise InvalidProblem(
                f'{what} name "{unknown[0]}", which is no column of the estimate matrix.'
            )
        if missing is None and (absent := [name for name in names if name not in items]):
            raise InvalidProblem(
                f'{what} have no value for "{absent[0]}" ({len(absent)} of {len(names)} missing).'
            )
        values = [items.get(name, missing) for name in names]
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidProblem(f"{what} are not numbers: {error}") from error
    if array.ndim == 0 and missing is not None:
        array = np.full(len(names), float(array))
    if array.shape != (len(names),):
        raise InvalidProblem(
            f"{what} have shape {array.shape}, but the estimate matrix has {len(names)} columns."
        )
    if missing is None and not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidProblem(
            f'target "{names[first]}" is {array[first]:g}. Drop it, or give it a finite value.'
        )
    return array


def _mapping_items(values: Any) -> dict[str, Any] | None:
    """The values by name, for a dict or a labelled Series; None for anything else."""
    if isinstance(values, Mapping):
        return {str(name): value for name, value in values.items()}
    if hasattr(values, "index") and hasattr(values, "items"):
        items = {str(name): value for name, value in values.items()}
        # A Series with its default index 0, 1, 2, … carries no names: its order counts.
        if len(items) == len(values) and set(items) != {str(i) for i in range(len(items))}:
            return items
    return None


def _absolute_totals(matrix: Any, design_weights: Vector) -> Vector:
    """Design-weighted absolute total of each column, without a copy of the matrix."""
    if is_sparse(matrix):
        return np.asarray(abs(matrix).T @ design_weights)
    total = np.zeros(matrix.shape[1])
    for start in range(0, matrix.shape[0], ROWS_A_BLOCK):
        rows = slice(start, start + ROWS_A_BLOCK)
        total += design_weights[rows] @ np.abs(matrix[rows])
    return total


def _check_support(targets: Vector, total: Vector, names: tuple[str, ...]) -> None:
    unsupported = np.flatnonzero((total == 0) & (targets != 0))
    if unsupported.size:
        first = int(unsupported[0])
        others = f" (and {unsupported.size - 1} more)" if unsupported.size > 1 else ""
        raise InvalidProblem(
            f'target "{names[first]}"{others} is {targets[first]:g}, but no record of positive '
            f"weight contributes to it (column {first} is all zero). Drop it, or mend the "
            "estimate matrix."
        )
