"""What tables hold: entities, links, and exactly one class for each of their columns."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, TypeAlias, get_args

from microcalibrate.columns import did_you_mean
from microcalibrate.errors import InvalidSchema
from microcalibrate.regularise.constraints import Constraint, constraint_from_json
from microcalibrate.regularise.rules import Calculated, Lookup, Rule, reads, rule_from_json, step_of

Kind: TypeAlias = Literal[
    "id", "link", "structural", "input", "derived", "external", "carried", "weight"
]
Type: TypeAlias = Literal["category", "integer", "number", "boolean"]
Bounds: TypeAlias = tuple[float | None, float | None]

FORMAT = "microcalibrate.schema/1"
RESERVED = "_mc_"
"""Columns whose names start so say where a record came from; they need no declaration."""


@dataclass(frozen=True)
class Column:
    """One column of a table, of exactly one class.

    | kind | what it is | what a generated record gets |
    |---|---|---|
    | `id` | names the record | a fresh id |
    | `link` | names the record it belongs to, or one of its own entity (a partner) | the new id |
    | `structural` | who somebody is in the household: role, order | generated, as one block |
    | `input` | what was asked or measured | generated |
    | `derived` | follows from other columns by a rule | recomputed, never generated |
    | `external` | a function of one other column, such as state to region | looked up |
    | `carried` | kept on purpose | the value of the record it descends from |
    | `weight` | survey weight of a unit | what the caller says |

    Attributes:
        name: Its name in the table.
        kind: Its class.
        type: `category`, `integer`, `number` or `boolean`; needed where values are generated.
        levels: Values of a category, all text or all whole numbers; in rank order where they
            have one (the first role comes first).
        ordered: Whether the levels of a category form a scale.
        bounds: Smallest and largest value, None for no bound.
        missing: Whether a record may lack a value.
        to: For a link, the entity that it names.
        rule: For a derived or external column, how it follows from others.

    Raises:
        InvalidSchema: If the parts contradict each other.

    Examples:
        >>> Column("age", "input", "integer", bounds=(0, 120)).missing
        False
    """

    name: str
    kind: Kind
    type: Type | None = None
    levels: tuple[str | int, ...] | None = None
    ordered: bool = False
    bounds: Bounds = (None, None)
    missing: bool = False
    to: str | None = None
    rule: Rule | None = None

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        if not isinstance(self.name, str) or not self.name:
            raise InvalidSchema(f"a column is named {self.name!r}, and a name must be text.")
        if self.kind not in get_args(Kind):
            self._fail(f"is of the class {self.kind!r}: use one of {', '.join(get_args(Kind))}")
        if self.type is not None and self.type not in get_args(Type):
            self._fail(f"is of the type {self.type!r}: use one of {', '.join(get_args(Type))}")
        if self.kind in ("input", "structural") and self.type is None:
            self._fail(f"is {self.kind}, and has no type: say one of {', '.join(get_args(Type))}")
        if (self.kind == "link") != (self.to is not None):
            self._fail("needs `to` where it is a link, and only there")
        if (self.kind in ("derived", "external")) != (self.rule is not None):
            self._fail("needs a rule where it is derived or external, and only there")
        if self.kind == "external" and not isinstance(self.rule, Lookup | Calculated):
            self._fail("is external: its rule is a Lookup of one other column, or Calculated")
        self._check_values()

    def _check_values(self) -> None:
        if self.type == "category" and self.kind in ("input", "structural"):
            if not self.levels:
                self._fail("is a category without levels: list its values")
        elif self.levels is not None and self.type != "category":
            self._fail("has levels, and only a category has them")
        levels = self.levels or ()
        kinds = {type(level) for level in levels}
        if not (kinds <= {str} or kinds <= {int}) or len(set(levels)) < len(levels):
            self._fail(f"has the levels {levels}: they must differ, all text or all whole numbers")
        low, high = self.bounds
        if self.bounds != (None, None) and self.type not in ("integer", "number"):
            self._fail("has bounds, and only numbers have them")
        if not all(bound is None or math.isfinite(bound) for bound in self.bounds):
            self._fail(f"has the bounds {self.bounds}: use None where there is none")
        if low is not None and high is not None and low > high:
            self._fail(f"has the bounds {self.bounds}, the lower one above the upper")
        if self.ordered and self.type != "category":
            self._fail("is ordered, and only a category can be")

    def _fail(self, what: str) -> None:
        raise InvalidSchema(f"column {self.name!r} {what}.")

    def to_json(self, *, by_name: bool = False) -> dict[str, Any]:
        """What differs from the defaults, as a dictionary.

        Args:
            by_name: Put the name of a Python function where it would be refused.
        """
        content: dict[str, Any] = {"name": self.name, "kind": self.kind}
        for name in ("type", "to", "levels", "bounds", "ordered", "missing"):
            value = getattr(self, name)
            if value and value != (None, None):
                content[name] = list(value) if isinstance(value, tuple) else value
        if self.rule is not None:
            is_named = by_name and isinstance(self.rule, Calculated)
            content["rule"] = getattr(self.rule, "name", None) if is_named else self.rule.to_json()
        return content


@dataclass(frozen=True)
class Entity:
    """One table: what its records are, and in which order they stand in a household.

    Attributes:
        name: Such as `household`, `tax_unit` or `person`.
        columns: Every column of the table.
        order: Columns that put the records of a household in order, a minus before those that
            descend, such as `("role", "-age")`; levels of a category by their rank. Records of
            an entity without it stand in the order of their first members.

    Raises:
        InvalidSchema: If a column is there twice, or there is not exactly one id.
    """

    name: str
    columns: tuple[Column, ...]
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        names = [column.name for column in self.columns]
        if not self.name or "." in self.name:
            raise InvalidSchema(f"an entity is named {self.name!r}: use a word without a dot.")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidSchema(
                f"{self.name!r} declares its column {twice!r} more than once. Give it one class."
            )
        ids = [column.name for column in self.columns if column.kind == "id"]
        if len(ids) != 1:
            raise InvalidSchema(f"{self.name!r} has the id columns {ids}, and it needs one.")
        for name in self.order:
            if self.column(name.removeprefix("-")).kind not in ("structural", "input"):
                raise InvalidSchema(
                    f"{self.name!r} is ordered by {name!r}, which is neither structural nor input."
                )

    def column(self, name: str) -> Column:
        """One column by its name.

        Raises:
            InvalidSchema: If there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        raise InvalidSchema(f"{self.name!r} has no column {name!r}.{did_you_mean(name, names)}")

    def of_kind(self, *kinds: Kind) -> tuple[Column, ...]:
        """Columns of some classes, in the order of the table."""
        return tuple(column for column in self.columns if column.kind in kinds)

    @property
    def id_column(self) -> str:
        """Name of the column with the ids."""
        return self.of_kind("id")[0].name

    @property
    def parents(self) -> dict[str, str]:
        """Entities that its records belong to, each with the column of the link."""
        return {str(link.to): link.name for link in self.of_kind("link") if link.to != self.name}


@dataclass(frozen=True)
class Schema:
    """Entities of a survey, the one that was sampled and carries the weight, and what must hold.

    Attributes:
        entities: One for each table.
        unit: The sampled entity, to which all others belong; a flat table is the unit alone.
        weight: Column of the unit with the weight in use.
        base_weight: Column of the unit with the weight of the sampling design; None where the
            weight in use is all there is.
        constraints: What holds in every household.

    Raises:
        InvalidSchema: If links lead nowhere, rules go in a circle, or a column is unknown.

    Examples:
        >>> flat = Entity("person", (Column("id", "id"), Column("weight", "weight"),
        ...                          Column("age", "input", "integer")))
        >>> Schema((flat,), unit="person", weight="weight").to_json()["format"]
        'microcalibrate.schema/1'
    """

    entities: tuple[Entity, ...]
    unit: str
    weight: str
    base_weight: str | None = None
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other."""
        names = [entity.name for entity in self.entities]
        if len(set(names)) < len(names):
            raise InvalidSchema(f"two entities have one name: {', '.join(names)}.")
        weights = {column.name for column in self.entity(self.unit).of_kind("weight")}
        wanted = {name for name in (self.weight, self.base_weight) if name is not None}
        stray = [e.name for e in self.entities if e.name != self.unit and e.of_kind("weight")]
        if weights != wanted or stray:
            raise InvalidSchema(
                f"the unit {self.unit!r} has columns of the class 'weight' {sorted(weights)}, and "
                f"the schema names {sorted(wanted)}{f'; so has {stray[0]!r}' if stray else ''}. "
                "Weights of members are derived ({'inherit': ...}); other weights are carried."
            )
        for entity in self.entities:
            for link in entity.of_kind("link"):
                self.entity(str(link.to))
        if self.unit_entity.of_kind("link"):
            raise InvalidSchema(f"the unit {self.unit!r} has a link, and all others belong to it.")
        for entity in self.entities:
            if self.unit not in self.ancestors(entity.name) | {entity.name}:
                raise InvalidSchema(
                    f"no link leads from {entity.name!r} to the unit {self.unit!r}. Declare one."
                )
        _ = self.computed
        for constraint in self.constraints:
            constraint.check(self)

    def entity(self, name: str) -> Entity:
        """One entity by its name.

        Raises:
            InvalidSchema: If there is none.
        """
        for entity in self.entities:
            if entity.name == name:
                return entity
        names = [entity.name for entity in self.entities]
        raise InvalidSchema(f"there is no entity {name!r}.{did_you_mean(name, names)}")

    @property
    def unit_entity(self) -> Entity:
        """The entity that was sampled."""
        return self.entity(self.unit)

    @property
    def children(self) -> tuple[Entity, ...]:
        """All other entities, those before their members."""
        below = {
            e.name: {p for p in e.parents if p != self.unit}
            for e in self.entities
            if e.name != self.unit
        }
        return tuple(self.entity(name) for name in TopologicalSorter(below).static_order())

    def ancestors(self, name: str) -> set[str]:
        """Entities that the records of one belong to, directly or through others."""
        found, waiting = set(), list(self.entity(name).parents)
        while waiting:
            parent = waiting.pop()
            if parent == name:
                raise InvalidSchema(f"the links of {name!r} go in a circle.")
            if parent not in found:
                found.add(parent)
                waiting += self.entity(parent).parents
        return found

    @cached_property
    def computed(self) -> tuple[tuple[str, Column], ...]:
        """Derived and external columns with their entity, each after those that it reads."""
        rules = {
            (entity.name, column.name): (entity.name, column)
            for entity in self.entities
            for column in entity.of_kind("derived", "external")
        }
        graph: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for (entity_name, name), (_, column) in rules.items():
            assert column.rule is not None
            read = reads(column.rule, entity_name)
            for other, other_name in read:
                self.entity(other).column(other_name)
            self._check_reach(entity_name, column)
            graph[entity_name, name] = read & set(rules)
        try:
            return tuple(rules[key] for key in TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " -> ".join(".".join(key) for key in error.args[1])
            raise InvalidSchema(f"derived columns go in a circle: {circle}.") from error

    def _check_reach(self, name: str, column: Column) -> None:
        lower, upper = step_of(column.rule, name)
        if lower != upper and upper not in self.ancestors(lower):
            raise InvalidSchema(
                f"the rule of {name}.{column.name} needs a link from {lower!r} to {upper!r}, and "
                "there is none."
            )

    def to_json(self, *, by_name: bool = False) -> dict[str, Any]:
        """The schema as dictionaries and lists, for `io.write_json`.

        Args:
            by_name: Put the name of a Python function where it would be refused.

        Raises:
            InvalidSchema: If a column is calculated by a Python function.
        """
        return {
            "format": FORMAT,
            "unit": self.unit,
            "weight": self.weight,
            "base_weight": self.base_weight,
            "entities": [
                {
                    "name": entity.name,
                    "order": list(entity.order),
                    "columns": [column.to_json(by_name=by_name) for column in entity.columns],
                }
                for entity in self.entities
            ],
            "constraints": [constraint.to_json() for constraint in self.constraints],
        }

    @classmethod
    def from_json(cls, content: Any) -> Schema:
        """Schema from what `to_json` gave.

        Raises:
            InvalidSchema: If it is of another format, or contradicts itself.
        """
        found = content.get("format") if isinstance(content, Mapping) else None
        if found != FORMAT:
            raise InvalidSchema(
                f"this is no schema that is understood here: its format is {found!r}, and "
                f"{FORMAT!r} is needed. Write it again with propose_schema."
            )
        try:
            return cls(
                entities=tuple(
                    Entity(
                        entity["name"],
                        tuple(_column_from_json(column) for column in entity["columns"]),
                        tuple(entity.get("order", ())),
                    )
                    for entity in content["entities"]
                ),
                unit=content["unit"],
                weight=content["weight"],
                base_weight=content.get("base_weight"),
                constraints=tuple(map(constraint_from_json, content.get("constraints", ()))),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidSchema(
                f"the schema is not complete or has a part of another shape ({error!r}). "
                "Compare it with one that propose_schema writes."
            ) from error

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what the schema says; a Python function counts by its name."""
        text = json.dumps(self.to_json(by_name=True), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _column_from_json(content: Mapping[str, Any]) -> Column:
    parts = dict(content)
    for name in ("levels", "bounds"):
        if parts.get(name) is not None:
            parts[name] = tuple(parts[name])
    if parts.get("rule") is not None:
        parts["rule"] = rule_from_json(parts["rule"])
    return Column(**parts)
