"""Random households for tests: 1 to 9 persons in 1 to 4 benefit units, losses, missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from microcalibrate.regularise import (
    Aggregate,
    Column,
    Condition,
    Count,
    Entity,
    Expression,
    Inherited,
    Lookup,
    OnlyIf,
    Schema,
    Survey,
)

ROLES = ("head", "partner", "child", "other")
AREAS = {"leeds": "north", "york": "north", "bath": "south", "dover": "south"}
TENURES = ("owned", "rented", "other")

HOUSEHOLD = Entity(
    "household",
    (
        Column("household_id", "id"),
        Column("weight", "weight"),
        Column("base_weight", "weight"),
        Column("area", "input", "category", tuple(AREAS)),
        Column("region", "external", rule=Lookup("area", tuple(AREAS.items()))),
        Column("tenure", "input", "category", TENURES),
        Column("rent", "input", "number", bounds=(0, None)),
        Column("note", "carried"),
        Column("n_persons", "derived", rule=Aggregate("count", "person")),
        Column("n_children", "derived", rule=Aggregate("count", "person", where="age < 18")),
        Column("income", "derived", rule=Aggregate("sum", "person", "income")),
        Column("income_after_rent", "derived", rule=Expression("income - rent")),
    ),
)
UNIT = Entity(
    "benefit_unit",
    (
        Column("benefit_unit_id", "id"),
        Column("household_id", "link", to="household"),
        Column("claims", "input", "boolean"),
        Column("top_age", "derived", rule=Aggregate("max", "person", "age")),
    ),
)
PERSON = Entity(
    "person",
    (
        Column("person_id", "id"),
        Column("household_id", "link", to="household"),
        Column("benefit_unit_id", "link", to="benefit_unit"),
        Column("partner_id", "link", to="person", missing=True),
        Column("role", "structural", "category", ROLES),
        Column("age", "input", "integer", bounds=(0, 110)),
        Column("wages", "input", "number", bounds=(0, None)),
        Column("business", "input", "number"),
        Column("hours", "input", "integer", bounds=(0, 99), missing=True),
        Column("health", "input", "category", (1, 2, 3), ordered=True, missing=True),
        Column("is_disabled", "input", "boolean", missing=True),
        Column("income", "derived", rule=Expression("wages + business")),
        Column("region", "derived", rule=Inherited("household", "region")),
    ),
    order=("role", "-age"),
)
CONSTRAINTS = (
    Count("person", "role == 'head'", "household", 1, 1),
    Count("person", "role == 'partner'", "household", 0, 1),
    OnlyIf("household", "rent", "tenure == 'rented'"),
    Condition("person", "wages == 0 or age >= 16"),
)
SCHEMA = Schema(
    (HOUSEHOLD, UNIT, PERSON), "household", "weight", base_weight="base_weight",
    constraints=CONSTRAINTS,
)  # fmt: skip

TWO_LEVELS = Schema(
    (
        Entity("household", tuple(c for c in HOUSEHOLD.columns if c.name != "base_weight")),
        Entity(
            "person",
            tuple(c for c in PERSON.columns if c.name not in ("benefit_unit_id", "partner_id")),
            order=("role", "-age"),
        ),
    ),
    "household",
    "weight",
    constraints=CONSTRAINTS,
)

FLAT = Schema(
    (
        Entity(
            "person",
            (
                Column("person_id", "id"),
                Column("weight", "weight"),
                *(
                    c
                    for c in PERSON.columns
                    if c.kind in ("structural", "input") or c.name == "income"
                ),
            ),
        ),
    ),
    "person",
    "weight",
)


@st.composite
def surveys(
    draw: st.DrawFn, *, schema: Schema = SCHEMA, min_households: int = 1, max_households: int = 6
) -> Survey:
    """A survey of random households, its records in random order."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=min_households, max_size=max_households))
    seed = draw(st.integers(0, 2**32 - 1))
    text_ids = draw(st.booleans())
    return make_survey(sizes, seed, text_ids=text_ids, schema=schema)


def make_survey(
    sizes: list[int], seed: int, *, text_ids: bool = False, schema: Schema = SCHEMA
) -> Survey:
    """Households of given sizes; everything else is random.

    All three tables are made, and those that the schema does not have are left out.
    """
    rng = np.random.default_rng(seed)
    n_households, n_persons = len(sizes), int(np.sum(sizes))
    household = np.repeat(np.arange(n_households), sizes)
    first = np.r_[True, household[1:] != household[:-1]]

    role = rng.choice(["child", "other"], n_persons).astype(object)
    role[first] = "head"
    second = np.r_[False, first[:-1]] & ~first & (rng.random(n_persons) < 0.6)
    role[second] = "partner"
    age = np.where(np.isin(role, ("head", "partner")), rng.integers(18, 111, n_persons),
                   rng.integers(0, 90, n_persons))  # fmt: skip
    wages = np.where(
        (age >= 16) & (rng.random(n_persons) < 0.7), rng.lognormal(10, 1, n_persons), 0
    )
    business = np.where(rng.random(n_persons) < 0.4, rng.normal(0, 2e4, n_persons), 0)

    # Each household has up to four benefit units; the head's is the first, none is empty.
    n_units = np.minimum(rng.integers(1, 5, n_households), sizes)
    number = np.arange(n_persons) - np.flatnonzero(first)[household]
    chosen = np.where(number < n_units[household], number, rng.integers(0, n_units[household]))
    start = np.r_[0, np.cumsum(n_units)[:-1]]
    unit = start[household] + chosen
    unit_household = np.repeat(np.arange(n_households), n_units)

    def ids(n: int, stem: str) -> Any:
        numbers = rng.permutation(10 * n + 5)[:n]
        return np.array([f"{stem}{i}" for i in numbers], dtype=object) if text_ids else numbers + 1

    household_ids = ids(n_households, "h")
    unit_ids, person_ids = ids(len(unit_household), "u"), ids(n_persons, "p")
    partner = pd.Series([None] * n_persons, dtype=object)
    has_partner = np.flatnonzero(second)
    partner[has_partner] = person_ids[has_partner - 1]
    partner[has_partner - 1] = person_ids[has_partner]

    area = rng.choice(list(AREAS), n_households).astype(object)
    tenure = rng.choice(list(TENURES), n_households)
    rent = np.where(tenure == "rented", rng.lognormal(8, 1, n_households), 0.0)
    base = rng.lognormal(3, 1, n_households)
    income = wages + business
    region = np.array([AREAS[name] for name in area], dtype=object)
    total = np.bincount(household, income, n_households)
    households = pd.DataFrame(
        {
            "household_id": household_ids,
            "weight": base * rng.lognormal(0, 0.5, n_households),
            "base_weight": base,
            "area": pd.Categorical(area, categories=list(AREAS)),
            "region": region,
            "tenure": tenure,
            "rent": rent,
            "note": [f"note {i}" for i in range(n_households)],
            "n_persons": np.array(sizes, dtype=np.int8),
            "n_children": np.bincount(household, age < 18, n_households).astype(np.int64),
            "income": total,
            "income_after_rent": total - rent,
        }
    )
    top_age = np.zeros(len(unit_ids), dtype=np.int64)
    np.maximum.at(top_age, unit, age)
    units = pd.DataFrame(
        {
            "benefit_unit_id": unit_ids,
            "household_id": household_ids[unit_household],
            "claims": rng.random(len(unit_ids)) < 0.3,
            "top_age": top_age,
        }
    )
    persons = pd.DataFrame(
        {
            "person_id": person_ids,
            "household_id": household_ids[household],
            "benefit_unit_id": unit_ids[unit],
            "partner_id": partner.astype("str" if text_ids else "Int64"),
            "role": pd.array(role, dtype="str"),
            "age": age.astype(np.int16),
            "wages": wages,
            "business": business,
            "hours": _with_missing(rng, rng.integers(0, 100, n_persons), "Int16"),
            "health": _with_missing(rng, rng.integers(1, 4, n_persons), "float64"),
            "is_disabled": _with_missing(rng, rng.random(n_persons) < 0.2, "boolean"),
            "income": income,
            "region": region[household],
        }
    )
    persons["weight"] = rng.lognormal(3, 1, n_persons)
    made = {"household": households, "benefit_unit": units, "person": persons}
    tables = {
        entity.name: made[entity.name][[column.name for column in entity.columns]].sample(
            frac=1, random_state=int(rng.integers(2**31))
        )
        for entity in schema.entities
    }
    return Survey(tables, schema)


def _with_missing(rng: np.random.Generator, values: Any, dtype: str) -> Any:
    series = pd.Series(values).astype("boolean" if dtype == "boolean" else dtype)
    return series.mask(rng.random(len(values)) < 0.2)
