"""What each unit adds to each target: declared in a table, or computed by a user's function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from microcalibrate.arrays import Vector
from microcalibrate.errors import InvalidProblem
from microcalibrate.problem import Problem
from microcalibrate.regularise.provenance import without_provenance
from microcalibrate.regularise.survey import Survey
from microcalibrate.targets import targets_of_units

Tables: TypeAlias = dict[str, pd.DataFrame]
BuildMatrix: TypeAlias = Callable[[Tables], Any]
Evaluate: TypeAlias = Callable[[Tables], Mapping[str, Any]]

# Two computations of one row may differ by this much of the size of its column.
SAME = 1e-9


@dataclass(frozen=True, eq=False)
class TargetSet:
    """Targets, with everything that is fixed for a whole run.

    Attributes:
        names: One per target.
        families: Group of each target.
        values: Totals, shape `(n_targets,)`.
        scales: What an error of 1 means, shape `(n_targets,)`.
        tolerances: As fractions of the scales, NaN for a soft target.
        importances: Raw importances, not scaled to any sum.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    values: Vector
    scales: Vector
    tolerances: Vector
    importances: Vector

    def loss(self, errors: Vector, index: Any = slice(None)) -> float:
        """Mean squared relative error, by importance; of some of the targets.

        Args:
            errors: `(estimate - target) / scale`, shape `(n_targets,)`.
            index: Which targets count.
        """
        weights = self.importances[index]
        total = float(weights.sum())
        return float((weights * errors[index] ** 2).sum() / total) if total > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Grown:
    """A survey to which offspring were added at the end.

    Attributes:
        survey: The whole.
        offspring: What was added.
        kept_rows: Rows of the estimate matrix of the units before them.
        weights: Weight of each unit of the whole.
        check: Whether to compare the user's function on offspring alone with the whole.
        new_rows: Rows of the offspring where a user's function gave them already, else None.
    """

    survey: Survey
    offspring: Survey
    kept_rows: Any
    weights: Vector
    check: bool
    new_rows: Any = None


@dataclass(frozen=True, eq=False)
class DeclaredRows:
    """Rows of the estimate matrix from a table of declared targets.

    Each target is of the table that its column `entity` names, the unit's where that is blank,
    and what members add is summed up to their unit.
    """

    table: pd.DataFrame

    def build(self, survey: Survey, weights: Vector) -> tuple[sp.csr_array, TargetSet]:
        """Matrix of shape `(n_units, n_targets)`, and the targets.

        Raises:
            InvalidTargetTable: If a target cannot be built from the tables.
        """
        found = targets_of_units(
            survey.tables, survey.unit, survey.unit_positions, self.table, weights
        )
        targets = _target_set(
            found.matrix,
            weights,
            found.names,
            found.families,
            found.values,
            found.scales,
            found.tolerances,
            found.importances,
        )
        return found.matrix, targets

    def extended(self, grown: Grown) -> sp.csr_array:
        """Matrix of a survey to which offspring were added at the end: built anew."""
        return self.build(grown.survey, grown.weights)[0]

    def in_own_units(self, survey: Survey, weights: Vector) -> tuple[Vector, Vector] | None:
        """What means, ratios, shares and quantiles shall be, and are; NaN for totals.

        Args:
            survey: The whole.
            weights: Of its units.

        Returns:
            Each of shape `(n_targets,)`; None where all targets are totals.
        """
        found = targets_of_units(
            survey.tables, survey.unit, survey.unit_positions, self.table, weights
        )
        if found.quotients is None:
            return None
        wanted, present = np.full((2, len(found.names)), np.nan)
        wanted[found.quotients.columns] = found.quotients.levels
        present[found.quotients.columns] = found.quotients.at(found.matrix.T @ weights, weights)
        return wanted, present


@dataclass(frozen=True, eq=False)
class CalculatedRows:
    """Rows of the estimate matrix from a user's function of the tables.

    It is called with all tables once, and from then on with generated units alone.
    """

    build_matrix: BuildMatrix
    values: Any
    tolerances: Any = None
    importances: Any = None
    scales: Any = None

    def build(self, survey: Survey, weights: Vector) -> tuple[Any, TargetSet]:
        """Matrix of shape `(n_units, n_targets)`, and the targets.

        Raises:
            InvalidProblem: If matrix and targets do not fit together.
        """
        problem = Problem.build(
            weights,
            self.values,
            self._rows(survey),
            tolerances=self.tolerances,
            importances=self.importances,
            scales=self.scales,
        )
        names = problem.target_names
        importances = np.ones(len(names))
        if self.importances is not None:
            soft = problem.is_soft
            # Problem scales them to a sum of 1 over soft targets; hard ones count as the mean.
            mean = 1 / max(int(soft.sum()), 1)
            importances = np.where(soft, problem.importances / mean, 1.0)
        families = tuple(name.rpartition("/")[0] for name in names)
        targets = TargetSet(
            names,
            families,
            problem.targets,
            problem.scales,
            problem.tolerances,
            importances,
        )
        return problem.estimate_matrix, targets

    def extended(self, grown: Grown) -> Any:
        """Rows that were kept, and those of the offspring, from one call for these alone.

        Raises:
            InvalidProblem: If, where it is to be checked, the whole gives other rows.
        """
        new = self._rows(grown.offspring) if grown.new_rows is None else grown.new_rows
        both: Any
        if sp.issparse(grown.kept_rows):
            parts: Any = [grown.kept_rows, sp.csr_array(new)]
            both = sp.csr_array(sp.vstack(parts, format="csr"))
            both.sort_indices()
        else:
            both = np.vstack([grown.kept_rows, _dense(new)])
        if grown.check and grown.new_rows is None:
            check_no_bleed(both, self._rows(grown.survey), "build_matrix")
        return both

    def in_own_units(self, survey: Survey, weights: Vector) -> None:
        """Of calculated targets only the totals are known."""

    def _rows(self, survey: Survey) -> Any:
        tables = {n: t.copy(deep=False) for n, t in without_provenance(survey).tables.items()}
        matrix = self.build_matrix(tables)
        shape = getattr(matrix, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != len(survey.unit_ids):
            raise InvalidProblem(
                f"build_matrix gave {'no matrix' if shape is None else f'the shape {shape}'} for "
                f"{len(survey.unit_ids)} units. It must give a row for each row of the table "
                f"{survey.unit!r}, in its order."
            )
        return matrix


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Columns that a user's model adds to the tables, computed once for each unit.

    Attributes:
        evaluate: Function of the tables: `name` (of the unit) or `entity.name` to one value per
            row.
        columns: What it gave, by entity and name, in the order of the tables.
    """

    evaluate: Evaluate
    columns: dict[tuple[str, str], Any]

    @classmethod
    def of(cls, evaluate: Evaluate, survey: Survey) -> Evaluated:
        """Call it with all tables.

        Raises:
            InvalidProblem: If it does not give one value per row.
        """
        return cls(evaluate, _evaluated(evaluate, survey))

    def extended(
        self, survey: Survey, offspring: Survey, kept: Mapping[str, Any], check: bool
    ) -> Evaluated:
        """Values of the rows that were kept, and those of the offspring from one call for these.

        Args:
            survey: The whole.
            offspring: What stands at its end.
            kept: For each entity, the mask of the former rows that are in the whole.
            check: Whether to call it with the whole too, and compare.

        Raises:
            InvalidProblem: If the whole gives other values, or other names.
        """
        new = _evaluated(self.evaluate, offspring)
        if set(new) != set(self.columns):
            raise InvalidProblem(
                f"evaluate gave {sorted(name for _, name in new)} for generated units, and "
                f"{sorted(name for _, name in self.columns)} before. It must always give the same."
            )
        joined = {
            key: np.concatenate([values[kept[key[0]]], new[key]])
            for key, values in self.columns.items()
        }
        if check:
            for key, whole in _evaluated(self.evaluate, survey).items():
                check_no_bleed(joined[key][:, None], whole[:, None], f"evaluate ({key[1]!r})")
        return Evaluated(self.evaluate, joined)

    def attached(self, tables: Mapping[str, pd.DataFrame]) -> Tables:
        """The tables with these columns."""
        found = dict(tables)
        for (entity, name), values in self.columns.items():
            found[entity] = found[entity].assign(**{name: values})
        return found


def as_vector(series: pd.Series[Any]) -> Vector:
    """Values of a column as float64."""
    return np.asarray(series.to_numpy(), dtype=np.float64)


def check_no_bleed(alone: Any, whole: Any, what: str) -> None:
    """Refuse a function that looks at other households than a record's own.

    Raises:
        InvalidProblem: If rows computed for generated units alone differ from those computed for
            all tables.
    """
    first, second = _dense(alone), _dense(whole)
    size = np.maximum(np.abs(second).max(axis=0), 1e-300) if second.size else 1.0
    differs = first.shape != second.shape or bool((np.abs(first - second) > SAME * size).any())
    if differs:
        raise InvalidProblem(
            f"{what} gives other values for generated units alone than for all tables together, so "
            "it looks beyond a record's own household (a rank, a mean, a position). Base such "
            "figures on fixed numbers."
        )


def _dense(matrix: Any) -> Vector:
    """A matrix of any kind as an array."""
    if hasattr(matrix, "toarray"):
        matrix = matrix.toarray()
    return np.asarray(matrix, dtype=np.float64)


def _evaluated(evaluate: Evaluate, survey: Survey) -> dict[tuple[str, str], Any]:
    tables = {n: t.copy(deep=False) for n, t in without_provenance(survey).tables.items()}
    returned = evaluate(tables)
    if not isinstance(returned, Mapping):
        raise InvalidProblem(
            f"evaluate returned a {type(returned).__name__}: it must return a mapping from names "
            "(`net_income`, or `person.tax`) to one value per row."
        )
    found = {}
    for name, values in returned.items():
        entity, dot, column = str(name).partition(".")
        if not dot:
            entity, column = survey.unit, str(name)
        if entity not in survey.tables or column in survey.tables[entity].columns:
            raise InvalidProblem(
                f"evaluate returned {name!r}: it must name a new column of one of the tables "
                f"{', '.join(survey.tables)}."
            )
        array = np.asarray(values)
        if array.shape != (len(survey.tables[entity]),):
            raise InvalidProblem(
                f"evaluate returned {name!r} of shape {array.shape}, and {entity!r} has "
                f"{len(survey.tables[entity])} rows. It must give one value per row."
            )
        found[entity, column] = array
    return found


def _target_set(
    matrix: Any,
    weights: Vector,
    names: tuple[str, ...],
    families: tuple[str, ...],
    values: Vector,
    scales: Vector,
    tolerances: Vector,
    importances: Vector,
) -> TargetSet:
    """Targets with their scales as a problem has them."""
    problem = Problem.build(
        weights,
        values,
        matrix,
        target_names=names,
        scales=scales,
        tolerances=tolerances,
        importances=importances,
    )
    return TargetSet(names, families, values, problem.scales, tolerances, importances)
