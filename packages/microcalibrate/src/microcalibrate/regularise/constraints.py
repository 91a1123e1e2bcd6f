"""What holds in every household, as values that can be written as JSON and are checked at once.

    {"count": "person", "where": "role == 'head'", "within": "household", "at_least": 1,
     "at_most": 1}
    {"gap": "person.age", "lower": "role == 'child'", "upper": "role == 'head'", "at_least": 12,
     "within": "household"}
    {"only_if": "household.rent", "when": "tenure == 'rented'"}
    {"condition": "person", "holds": "wages >= 0"}
    {"impossible": "person", "columns": ["role", "status"], "values": [["child", "widowed"]]}
    {"depends": "household.region", "on": "area", "values": [["Leeds", "north"]]}

That a household's records belong to it alone is part of every survey and needs no constraint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.errors import InvalidSchema
from microcalibrate.expressions import columns_used, evaluate
from microcalibrate.regularise.rules import checked_expression

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.regularise.schema import Schema
    from microcalibrate.regularise.survey import Survey

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Count:
    """So many members of a kind in each household or other parent.

    Attributes:
        entity: Entity of the members.
        where: Condition that tells the members that count; None for all.
        within: Entity that they belong to.
        at_least: Fewest.
        at_most: Most; None for no limit.
    """

    entity: str
    where: str | None
    within: str
    at_least: int = 0
    at_most: int | None = None

    @property
    def name(self) -> str:
        """What it says, in short."""
        limits = f"{self.at_least} to {'any' if self.at_most is None else self.at_most}"
        of = f" with {self.where}" if self.where else ""
        return f"{limits} {self.entity}{of} in each {self.within}"

    def check(self, schema: Schema) -> None:
        """Refuse what the schema does not know; the same for every constraint."""
        _check_belongs(self, schema, self.entity, self.within)
        _check_columns(schema, self.entity, self.where)

    def broken(self, survey: Survey) -> tuple[str, Mask]:
        """Entity whose records are at fault, and which of them, one truth value a record."""
        counted = _selected(survey, self.entity, self.where)
        owner = survey.positions(self.entity, self.within)[counted]
        numbers = np.bincount(owner, minlength=len(survey.tables[self.within]))
        most = np.inf if self.at_most is None else self.at_most
        return self.within, (numbers < self.at_least) | (numbers > most)

    def to_json(self) -> dict[str, Any]:
        """The constraint as a dictionary."""
        return {
            "count": self.entity,
            "where": self.where,
            "within": self.within,
            "at_least": self.at_least,
            "at_most": self.at_most,
        }


@dataclass(frozen=True)
class Gap:
    """Some members lie below others by so much (children below parents), where both have a value.

    Attributes:
        entity: Entity of the members.
        column: A number of theirs, such as the age.
        lower: Condition that tells the lower ones.
        upper: Condition that tells the upper ones.
        at_least: Smallest difference, in the unit of the column.
        within: Entity in which they are compared.
    """

    entity: str
    column: str
    lower: str
    upper: str
    at_least: float
    within: str

    @property
    def name(self) -> str:
        """What it says, in short."""
        below = f"{self.entity}.{self.column} of {self.lower} at least {self.at_least:g} below"
        return f"{below} that of {self.upper} in each {self.within}"

    def check(self, schema: Schema) -> None:
        """Refuse what the schema does not know."""
        _check_belongs(self, schema, self.entity, self.within)
        _check_columns(schema, self.entity, self.lower, self.upper)
        schema.entity(self.entity).column(self.column)

    def broken(self, survey: Survey) -> tuple[str, Mask]:
        """Lower members that are too near to the lowest upper one."""
        value = survey.columns(self.entity).numbers(self.column)
        lower = _selected(survey, self.entity, self.lower)
        upper = _selected(survey, self.entity, self.upper) & ~np.isnan(value)
        owner = survey.positions(self.entity, self.within)
        least = np.full(len(survey.tables[self.within]), np.inf)
        np.minimum.at(least, owner[upper], value[upper])
        return self.entity, lower & (least[owner] - value < self.at_least)

    def to_json(self) -> dict[str, Any]:
        """The constraint as a dictionary."""
        return {
            "gap": f"{self.entity}.{self.column}",
            "lower": self.lower,
            "upper": self.upper,
            "at_least": self.at_least,
            "within": self.within,
        }


@dataclass(frozen=True)
class OnlyIf:
    """A column has a value other than zero, False or missing only under a condition.

    Attributes:
        entity: Entity of the column.
        column: The column, such as the rent.
        when: The condition on the same record, such as `tenure == 'rented'`.
    """

    entity: str
    column: str
    when: str

    @property
    def name(self) -> str:
        """What it says, in short."""
        return f"{self.entity}.{self.column} only if {self.when}"

    def check(self, schema: Schema) -> None:
        """Refuse what the schema does not know."""
        schema.entity(self.entity).column(self.column)
        _check_columns(schema, self.entity, self.when)

    def broken(self, survey: Survey) -> tuple[str, Mask]:
        """Records with a value, but without the condition."""
        values = survey.tables[self.entity][self.column]
        filled = values.notna().to_numpy(dtype=bool)
        if survey.schema.entity(self.entity).column(self.column).type != "category":
            amounts = survey.columns(self.entity).numbers(self.column)
            filled = filled & ~(amounts == 0)
        return self.entity, filled & ~_selected(survey, self.entity, self.when)

    def to_json(self) -> dict[str, Any]:
        """The constraint as a dictionary."""
        return {"only_if": f"{self.entity}.{self.column}", "when": self.when}


@dataclass(frozen=True)
class Condition:
    """A condition on each record of an entity.

    Attributes:
        entity: The entity.
        holds: The condition, in the language of filters.
    """

    entity: str
    holds: str

    @property
    def name(self) -> str:
        """What it says, in short."""
        return f"{self.entity}: {self.holds}"

    def check(self, schema: Schema) -> None:
        """Refuse what the schema does not know."""
        _check_columns(schema, self.entity, self.holds)

    def broken(self, survey: Survey) -> tuple[str, Mask]:
        """Records for which it does not hold."""
        return self.entity, ~_selected(survey, self.entity, self.holds)

    def to_json(self) -> dict[str, Any]:
        """The constraint as a dictionary."""
        return {"condition": self.entity, "holds": self.holds}


@dataclass(frozen=True)
class Impossible:
    """Pairs of values that no record has.

    Attributes:
        entity: The entity.
        columns: Two columns of it.
        values: Pairs of their values.
    """

    entity: str
    columns: tuple[str, str]
    values: tuple[tuple[Any, Any], ...]

    @property
    def name(self) -> str:
        """What it says, in short."""
        return f"{self.entity}: no impossible pair of {' and '.join(self.columns)}"

    def check(self, schema: Schema) -> None:
        """Refuse what the schema does not know."""
        for column in self.columns:
            schema.entity(self.entity).column(column)

    def broken(self, survey: Survey) -> tuple[str, Mask]:
        """Records that have one of the pairs."""
        return self.entity, _has_pair(survey, self.entity, self.columns, self.values)

    def to_json(self) -> dict[str, Any]:
        """The constraint as a dictionary."""
        return {
            "impossible": self.entity,
            "columns": list(self.columns),
            "values": [list(pair) for pair in self.values],
        }


@dataclass(frozen=True)
class Depends:
    """One column decides another: only the listed pairs of their values occur.

    Attributes:
        entity: The entity.
        on: The column that decides.
        column: The column that is decided.
        values: Pairs of a value of `on` and the value that goes with it.
    """

    entity: str
    on: str
    column: str
    values: tuple[tuple[Any, Any], ...]

    @property
    def name(self) -> str:
        """What it says, in short."""
        return f"{self.entity}.{self.column} follows from {self.on}"

    def check(self, schema: Schema) -> None:
        """Refuse what the schema does not know."""
        for column in (self.on, self.column):
            schema.entity(self.entity).column(column)

    def broken(self, survey: Survey) -> tuple[str, Mask]:
        """Records with two values that do not go together; never those that lack one."""
        table = survey.tables[self.entity][[self.on, self.column]]
        filled = table.notna().all(axis=1).to_numpy()
        pairs = (self.on, self.column)
        return self.entity, filled & ~_has_pair(survey, self.entity, pairs, self.values)

    def to_json(self) -> dict[str, Any]:
        """The constraint as a dictionary."""
        return {
            "depends": f"{self.entity}.{self.column}",
            "on": self.on,
            "values": [list(pair) for pair in self.values],
        }


Constraint: TypeAlias = Count | Gap | OnlyIf | Condition | Impossible | Depends


def constraint_from_json(content: Any) -> Constraint:
    """Constraint that a dictionary declares.

    Raises:
        InvalidSchema: If it is of none of the known forms.

    Examples:
        >>> constraint_from_json({"condition": "person", "holds": "age >= 0"}).name
        'person: age >= 0'
    """
    parts = dict(content) if isinstance(content, Mapping) else {}
    pairs = tuple(map(tuple, parts.pop("values", ())))
    try:
        if "count" in parts:
            return Count(parts.pop("count"), **({"where": None} | parts))
        if "gap" in parts:
            entity, column = parts.pop("gap").split(".", 1)
            return Gap(entity, column, **parts)
        if "only_if" in parts:
            entity, column = parts.pop("only_if").split(".", 1)
            return OnlyIf(entity, column, **parts)
        if "condition" in parts:
            return Condition(parts.pop("condition"), **parts)
        if "impossible" in parts:
            first, second = parts.pop("columns")
            return Impossible(parts.pop("impossible"), (first, second), pairs, **parts)
        if "depends" in parts:
            entity, column = parts.pop("depends").split(".", 1)
            return Depends(entity, column=column, values=pairs, **parts)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidSchema(f"the constraint {content!r} cannot be read ({error}).") from error
    raise InvalidSchema(
        f"{content!r} is no constraint. Known forms begin with count, gap, only_if, condition, "
        "impossible or depends."
    )


def violations(survey: Survey, constraints: tuple[Constraint, ...] | None = None) -> pd.DataFrame:
    """Records that break a constraint.

    Args:
        survey: Households to check, real or generated.
        constraints: What must hold; those of the schema by default.

    Returns:
        A row per constraint and record at fault: `constraint`, `entity`, `id`, `unit` (the
        sampled unit that the record belongs to). No rows where all hold.

    Raises:
        InvalidExpression: If a condition compares text with numbers.
    """
    import pandas as pd

    found = []
    for constraint in survey.schema.constraints if constraints is None else constraints:
        entity, mask = constraint.broken(survey)
        if mask.any():
            ids = survey.tables[entity][survey.schema.entity(entity).id_column]
            found.append(
                pd.DataFrame(
                    {
                        "constraint": constraint.name,
                        "entity": entity,
                        "id": ids.to_numpy()[mask],
                        "unit": survey.unit_of(entity)[mask],
                    }
                )
            )
    if not found:
        return pd.DataFrame(columns=["constraint", "entity", "id", "unit"])
    return pd.concat(found, ignore_index=True)


def _selected(survey: Survey, entity: str, where: str | None) -> Mask:
    if where is None:
        return np.ones(len(survey.tables[entity]), dtype=np.bool_)
    return evaluate(where, survey.columns(entity))


def _has_pair(
    survey: Survey, entity: str, columns: tuple[str, str], values: tuple[tuple[Any, Any], ...]
) -> Mask:
    """Records whose two columns have one of the pairs of values."""
    import pandas as pd

    width = len(values) + 1
    have = np.zeros(len(survey.tables[entity]), dtype=np.int64)
    wanted = np.zeros(len(values), dtype=np.int64)
    for position, column in enumerate(columns):
        listed = pd.Index([pair[position] for pair in values], dtype=object)
        stored = pd.Index(survey.tables[entity][column].to_numpy(dtype=object), dtype=object)
        # A value that is not listed has the place -1, and so makes a pair that is not wanted.
        have = have * width + listed.unique().get_indexer(stored) + 1
        wanted = wanted * width + listed.unique().get_indexer(listed) + 1
    mask: Mask = np.isin(have, wanted)
    return mask


def _check_columns(schema: Schema, entity: str, *expressions: str | None) -> None:
    for text in expressions:
        if text is not None:
            checked_expression(text)
            for name in columns_used(text):
                schema.entity(entity).column(name)


def _check_belongs(constraint: Constraint, schema: Schema, entity: str, within: str) -> None:
    if within not in schema.ancestors(entity):
        raise InvalidSchema(
            f"the constraint '{constraint.name}' counts {entity!r} within {within!r}, and no link "
            "leads from one to the other."
        )
