"""A first schema for tables, to be read and corrected by somebody who knows them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.columns import did_you_mean
from microcalibrate.errors import InvalidSchema
from microcalibrate.regularise.constraints import (
    Constraint,
    Count,
    Gap,
    Impossible,
    OnlyIf,
)
from microcalibrate.regularise.rules import Aggregate, Inherited, Lookup, Rule
from microcalibrate.regularise.schema import RESERVED, Column, Entity, Schema, Type
from microcalibrate.regularise.survey import Survey

MAX_LEVELS = 1_000
"""Text with more different values than this is proposed to be carried, not generated."""

ROLES = ("role", "relationship", "relation", "relation_to_head")
AGES = ("age", "age_years")

MIN_EXPECTED = 30
"""A pair of values that never occurs is proposed to be impossible, and an amount to need a
condition, where so many records were to be expected if it were chance."""

MIN_GAP = 10
"""Smallest difference of ages, in years, that is proposed as a constraint."""


def propose_schema(
    tables: Mapping[str, pd.DataFrame],
    *,
    unit: str,
    weight: str,
    base_weight: str | None = None,
    ids: Mapping[str, str] | None = None,
    links: Mapping[str, Mapping[str, str]] | None = None,
) -> Schema:
    """Schema that the tables fit, with constraints that all of their records satisfy.

    What the data cannot show is a guess: whether a whole number is a code or a count, whether a
    column may be generated at all, where a bound lies. Read it before it is used.

    | found | proposed |
    |---|---|
    | a number per unit that is the count or sum of its members' | `derived` |
    | a column that repeats the one of the household | `derived` |
    | a category that follows from another one with more levels | `external` |
    | text with more than 1,000 different values | `carried` |
    | a column named role or relationship, in a table of members | `structural` |
    | everything else | `input`, with its levels, whole numbers with their range |

    Args:
        tables: Table of each entity.
        unit: Entity that was sampled.
        weight: Its weight column.
        base_weight: Its column with the weight of the sampling design, if there is another one.
        ids: Id column of each entity; by default `<entity>_id` or `id`.
        links: For each entity the entities that it belongs to, with the link column; by default
            its columns that have the name of another entity's id column.

    Raises:
        InvalidSchema: If an id column or link cannot be found.
        InvalidSurvey: If the tables do not belong together.

    Examples:
        >>> from microcalibrate.datasets import load_cps_households
        >>> tables = load_cps_households().tables
        >>> schema = propose_schema(tables, unit="household", weight="weight")
        >>> schema.entity("household").column("region").kind
        'external'
    """
    if unit not in tables:
        raise InvalidSchema(f"there is no table {unit!r}.{did_you_mean(unit, tables)}")
    known_ids = dict(ids or {})
    for name, table in tables.items():
        if name not in known_ids:
            known_ids[name] = _id_column(name, table)
    weights = {name for name in (weight, base_weight) if name is not None}
    entities = []
    for name, table in tables.items():
        of_links = (links or {}).get(name) or {
            other: column
            for other, column in known_ids.items()
            if other != name and column != known_ids[name] and column in table.columns
        }
        by_name = {column: other for other, column in of_links.items()}
        columns = []
        for column in (c for c in table.columns if not str(c).startswith(RESERVED)):
            if column == known_ids[name]:
                columns.append(Column(column, "id"))
            elif column in by_name:
                has_gaps = bool(table[column].isna().any())
                columns.append(Column(column, "link", to=by_name[column], missing=has_gaps))
            elif name == unit and column in weights:
                columns.append(Column(column, "weight"))
            else:
                columns.append(_plain_column(table[column], is_member=name != unit))
        entities.append(Entity(name, tuple(columns), _order(columns)))
    schema = Schema(tuple(entities), unit, weight, base_weight)
    survey = Survey(tables, schema)
    schema = _with_rules(survey)
    survey = Survey(tables, schema)
    return replace(schema, constraints=tuple(_proposed_constraints(survey)))


def _id_column(name: str, table: pd.DataFrame) -> str:
    for candidate in (f"{name}_id", "id", f"{name}id"):
        if candidate in table.columns:
            return candidate
    raise InvalidSchema(
        f"the id column of {name!r} cannot be guessed. Name it: ids={{{name!r}: COLUMN}}, on the "
        f"command line --id {name}=COLUMN."
    )


def _plain_column(stored: pd.Series[Any], *, is_member: bool) -> Column:
    name = str(stored.name)
    missing = bool(stored.isna().any())
    present = stored.dropna()
    kind: Any = "structural" if is_member and name.lower() in ROLES else "input"
    inferred = pd.api.types.infer_dtype(present)
    if isinstance(stored.dtype, pd.CategoricalDtype):
        levels = tuple(stored.dtype.categories.tolist())
        if {type(level) for level in levels} in ({str}, {int}):
            ordered = bool(stored.dtype.ordered)
            return Column(name, kind, "category", levels, ordered, missing=missing)
        return Column(name, "carried")
    if inferred == "boolean":
        return Column(name, kind, "boolean", missing=missing)
    if inferred == "string":
        levels = tuple(sorted(set(present)))
        if len(levels) > MAX_LEVELS:
            return Column(name, "carried")
        return Column(name, kind, "category", levels, missing=missing)
    if inferred in ("integer", "floating", "mixed-integer-float"):
        numbers = present.to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            return Column(name, "carried")
        is_whole = inferred == "integer" or (missing and bool((numbers % 1 == 0).all()))
        least, most = float(numbers.min()), float(numbers.max())
        low: float | None = 0 if least >= 0 else None
        type_: Type = "integer" if is_whole else "number"
        bounds = (int(least), int(most)) if is_whole else (low, None)
        return Column(name, kind, type_, bounds=bounds, missing=missing)
    return Column(name, "carried")


def _order(columns: list[Column]) -> tuple[str, ...]:
    roles = [column.name for column in columns if column.kind == "structural"]
    ages = [c.name for c in columns if c.name.lower() in AGES and c.type in ("integer", "number")]
    return (*roles[:1], *(f"-{name}" for name in ages[:1]))


# --- Columns that follow from others --------------------------------------------------------------


def _with_rules(survey: Survey) -> Schema:
    schema = survey.schema
    changed = {}
    for entity in schema.entities:
        columns = []
        for column in entity.columns:
            rule = _rule(survey, entity, column) if column.kind == "input" else None
            if rule is None or column.name in {name.removeprefix("-") for name in entity.order}:
                columns.append(column)
            elif isinstance(rule, Lookup):
                columns.append(Column(column.name, "external", column.type, rule=rule))
            else:
                columns.append(Column(column.name, "derived", column.type, rule=rule))
        changed[entity.name] = replace(entity, columns=tuple(columns))
    return replace(schema, entities=tuple(changed[entity.name] for entity in schema.entities))


def _rule(survey: Survey, entity: Entity, column: Column) -> Rule | None:
    """Rule that gives the column exactly, or None."""
    schema, stored = survey.schema, survey.tables[entity.name][column.name]
    for other in sorted(schema.ancestors(entity.name)):
        names = [c.name for c in schema.entity(other).columns if c.kind == "input"]
        if column.name in names:
            rows = survey.positions(entity.name, other)
            above = survey.tables[other][column.name].to_numpy(dtype=object)[rows]
            if _equal(above, stored.to_numpy(dtype=object)):
                return Inherited(other, column.name)
    if column.type in ("integer", "number") and stored.notna().all() and stored.nunique() > 1:
        numbers = stored.to_numpy(dtype=np.float64)
        for member in schema.children:
            if entity.name not in schema.ancestors(member.name):
                continue
            owner = survey.positions(member.name, entity.name)
            if np.array_equal(np.bincount(owner, minlength=len(numbers)), numbers):
                return Aggregate("count", member.name)
            for part in member.of_kind("input"):
                if part.type in ("integer", "number", "boolean"):
                    values = survey.columns(member.name).numbers(part.name)
                    sums = np.bincount(owner, np.nan_to_num(values), minlength=len(numbers))
                    if np.allclose(sums, numbers, rtol=1e-9, atol=0):
                        return Aggregate("sum", member.name, part.name)
    if column.type == "category":
        return _lookup(survey.tables[entity.name], entity, column)
    return None


def _lookup(table: pd.DataFrame, entity: Entity, column: Column) -> Lookup | None:
    """The first category with more levels that decides this one."""
    for other in entity.of_kind("input"):
        if other.type != "category" or len(other.levels or ()) <= len(column.levels or ()):
            continue
        pairs = table[[other.name, column.name]].astype(object)
        different = pairs.drop_duplicates()
        often = pairs[other.name].value_counts()
        is_function = not different[other.name].duplicated().any()
        if is_function and not different.isna().any(axis=None) and (often >= 2).mean() >= 0.8:
            given = dict(different.itertuples(index=False, name=None))
            levels = [level for level in (other.levels or ()) if level in given]
            if len(set(given.values())) > 1:
                return Lookup(other.name, tuple((level, given[level]) for level in levels))
    return None


def _equal(left: Any, right: Any) -> bool:
    gone, other_gone = pd.isna(left), pd.isna(right)
    return bool(np.array_equal(gone, other_gone) and np.all(left[~gone] == right[~gone]))


# --- What holds everywhere ------------------------------------------------------------------------


def _proposed_constraints(survey: Survey) -> Iterator[Constraint]:
    for entity in survey.schema.entities:
        candidates = itertools.chain(
            _of_roles(survey, entity), _impossible(survey, entity), _only_if(survey, entity)
        )
        for constraint in candidates:
            constraint.check(survey.schema)
            if not constraint.broken(survey)[1].any():
                yield constraint


def _of_roles(survey: Survey, entity: Entity) -> Iterator[Constraint]:
    ages = [name.removeprefix("-") for name in entity.order if name.startswith("-")]
    for role in entity.of_kind("structural"):
        if role.type != "category":
            continue
        wheres = [_is(role.name, level) for level in role.levels or ()]
        for where in wheres:
            for within in sorted(survey.schema.ancestors(entity.name)):
                once = Count(entity.name, where, within, 1, 1)
                if not once.broken(survey)[1].any():
                    yield once
                else:
                    yield Count(entity.name, where, within, 0, 1)
        for age, (upper, lower) in itertools.product(ages, itertools.combinations(wheres, 2)):
            yield from _gap(survey, Gap(entity.name, age, lower, upper, MIN_GAP, survey.unit))


def _gap(survey: Survey, least: Gap) -> Iterator[Constraint]:
    """The widest whole gap that always holds, if it is wide enough."""
    if least.broken(survey)[1].any():
        return
    for years in range(MIN_GAP + 1, 100):
        wider = replace(least, at_least=years)
        if wider.broken(survey)[1].any():
            yield replace(least, at_least=years - 1)
            return


def _impossible(survey: Survey, entity: Entity) -> Iterator[Constraint]:
    table = survey.tables[entity.name]
    categories = [c for c in entity.of_kind("structural", "input") if c.type == "category"]
    for first, second in itertools.combinations(categories, 2):
        counts = pd.crosstab(table[first.name], table[second.name])
        values = counts.to_numpy()
        expected = np.outer(values.sum(axis=1), values.sum(axis=0)) / max(values.sum(), 1)
        never = np.argwhere((values == 0) & (expected >= MIN_EXPECTED))
        if len(never):
            pairs = tuple((counts.index[i], counts.columns[j]) for i, j in never)
            yield Impossible(entity.name, (first.name, second.name), pairs)


def _only_if(survey: Survey, entity: Entity) -> Iterator[Constraint]:
    """Amounts that are zero at some levels of a category, with more records than by chance."""
    table = survey.tables[entity.name]
    categories = [c for c in entity.of_kind("structural", "input") if c.type == "category"]
    for amount in entity.of_kind("input"):
        if amount.type not in ("integer", "number", "boolean"):
            continue
        numbers = survey.columns(entity.name).numbers(amount.name)
        filled = ~np.isnan(numbers) & (numbers != 0)
        for category in categories:
            by_level = pd.DataFrame(
                {"level": table[category.name].astype(object), "filled": filled}
            )
            grouped = by_level.groupby("level")["filled"].agg(["sum", "size"])
            empty = grouped["sum"] == 0
            expected = grouped["size"] * filled.mean()
            levels = [level for level in category.levels or () if level in grouped.index]
            if empty.any() and (expected[empty] >= MIN_EXPECTED).all():
                some = [level for level in levels if not empty[level]]
                if some:
                    yield OnlyIf(entity.name, amount.name, _is(category.name, *some))


def _is(column: str, *levels: str | int) -> str:
    name = column if column.isidentifier() else f"`{column}`"
    return f"{name} == {levels[0]!r}" if len(levels) == 1 else f"{name} in {list(levels)!r}"
