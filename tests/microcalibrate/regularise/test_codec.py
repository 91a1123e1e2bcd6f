"""Households to slot rows and back: what is generated is what the tables say, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate.errors import InvalidSurvey
from microcalibrate.regularise import (
    Codec,
    Identifiers,
    Schema,
    Survey,
    concatenate,
    slot_mask,
    violations,
)

from ..households import FLAT, SCHEMA, TWO_LEVELS, make_survey, surveys

SCHEMAS = [SCHEMA, TWO_LEVELS, FLAT]
NAMES = ["three levels", "two levels", "flat"]
# Without shrinking: a failure names its sizes and seed already.
EXAMPLES = settings(
    max_examples=10, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)

Decode = Callable[[Codec, pd.DataFrame, Survey], Survey]


def decoded(codec: Codec, rows: pd.DataFrame, source: Survey) -> Survey:
    return codec.decode(rows, source=source, origins=rows.index, weights=1.0)


def scrambled(codec: Codec, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Acceptable rows unlike any household: every column is shuffled over the filled slots.

    Structure is shuffled too, so that roles and links meet other persons; rows that this makes
    impossible are left out.
    """
    rng = np.random.default_rng(seed)
    mixed = rows.copy()
    for column in codec.columns:
        if column.kind == "present":
            continue
        filled = np.flatnonzero(slot_mask(rows, [column])[:, 0])
        values = rows[column.name].array.copy()
        values[filled] = rows[column.name].array[rng.permutation(filled)]
        mixed[column.name] = values
    mixed = codec.canonical(mixed)
    return mixed[codec.acceptable(mixed)]


def described(survey: Survey) -> list[Any]:
    """Each unit as a value that does not depend on ids or on the order of its records."""
    plain: dict[str, list[Any]] = {}
    for entity in survey.schema.entities:
        names = [
            c.name
            for c in entity.columns
            if c.kind in ("input", "structural", "external", "carried")
        ]
        table = survey.tables[entity.name][names].astype(object)
        plain[entity.name] = list(
            table.where(table.notna(), None).itertuples(index=False, name=None)
        )
    found = [[values, Counter()] for values in plain[survey.unit]]
    if "person" not in plain or survey.unit == "person":
        return [values for values, _ in found]
    units = survey.unit_positions("person")
    has_units = "benefit_unit" in plain
    if has_units:
        partner = survey.link("person", "partner_id")
        unit = survey.positions("person", "benefit_unit")
        company = [Counter[Any]() for _ in plain["benefit_unit"]]
        for row, person in enumerate(plain["person"]):
            company[unit[row]][person] += 1
    for row, person in enumerate(plain["person"]):
        with_whom: Any = None
        if has_units:
            shared = frozenset(company[unit[row]].items())
            partner_of = plain["person"][partner[row]] if partner[row] >= 0 else None
            with_whom = (plain["benefit_unit"][unit[row]], shared, partner_of)
        found[units[row]][1][person, with_whom] += 1
    return found


# --- The invariants, for any way of decoding ------------------------------------------------------


def realises_what_was_sampled(
    decode: Decode, codec: Codec, rows: pd.DataFrame, source: Survey
) -> None:
    """R2: reading the tables again gives the rows that they were made from."""
    again = codec.encode(decode(codec, rows, source))
    pd.testing.assert_frame_equal(again.reset_index(drop=True), rows.reset_index(drop=True))


def totals_are_those_of_the_rows(
    decode: Decode, codec: Codec, rows: pd.DataFrame, source: Survey
) -> None:
    """R3: income and children of each household are the sums over the slots that are filled."""
    households = decode(codec, rows, source).tables["household"]
    income, children = np.zeros(len(rows)), np.zeros(len(rows))
    for slot in range(codec.n_slots["person"]):
        there = rows[f"person.{slot}.present"].to_numpy()
        for name in ("wages", "business"):
            income += np.where(there, rows[f"person.{slot}.{name}"], 0)
        age = rows[f"person.{slot}.age"].to_numpy(dtype=float, na_value=np.nan)
        children += there & (age < 18)
    assert_allclose(households["income"], income, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(households["n_children"], children)
    assert_allclose(households["income_after_rent"], income - rows["rent"], rtol=1e-9, atol=1e-6)


def does_not_look_at_the_source(
    decode: Decode, codec: Codec, rows: pd.DataFrame, source: Survey
) -> None:
    """R7: other inputs in the source, ids and carried columns the same, make no difference."""
    changed = {
        "person": source.tables["person"].assign(wages=1_000.0, age=50, role="head"),
        "household": source.tables["household"].assign(tenure="rented", rent=1.0, area="bath"),
    }
    changed = {name: new.astype(source.tables[name].dtypes) for name, new in changed.items()}
    other = Survey({**source.tables, **changed}, source.schema)

    first, second = decode(codec, rows, source), decode(codec, rows, other)
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name])


# --- A wrong expansion, which each of them must refuse --------------------------------------------


def copying_persons(codec: Codec, rows: pd.DataFrame, source: Survey) -> Survey:
    """Households with the sampled household columns and the persons and units of the source."""
    copies = codec.encode(source).loc[rows.index]
    for column in codec.columns:
        if column.entity == codec.schema.unit:
            copies[column.name] = rows[column.name]
    return decoded(codec, copies, source)


def writing_totals_to_the_head(codec: Codec, rows: pd.DataFrame, source: Survey) -> Survey:
    """The sampled persons, but the first one also gets the incomes of all others."""
    written = rows.copy()
    for name in ("wages", "business"):
        slots = [f"person.{slot}.{name}" for slot in range(codec.n_slots["person"])]
        written[f"person.0.{name}"] = rows[slots].sum(axis=1)
    return decoded(codec, written, source)


def draft_expansion(codec: Codec, rows: pd.DataFrame, source: Survey) -> Survey:
    """Both at once: source persons are copied, and the sampled totals written to the head."""
    copies = codec.encode(source).loc[rows.index]
    for column in codec.columns:
        if column.entity == codec.schema.unit:
            copies[column.name] = rows[column.name]
    for name in ("wages", "business"):
        slots = [f"person.{slot}.{name}" for slot in range(codec.n_slots["person"])]
        copies[f"person.0.{name}"] = rows[slots].sum(axis=1)
    return decoded(codec, copies, source)


INVARIANTS = [
    realises_what_was_sampled,
    totals_are_those_of_the_rows,
    does_not_look_at_the_source,
]


@pytest.mark.parametrize("invariant", INVARIANTS)
@EXAMPLES
@given(survey=surveys(min_households=2), seed=st.integers(0, 2**32 - 1))
def test_decoding_keeps_the_invariants(invariant: Any, survey: Survey, seed: int) -> None:
    codec = Codec.fit(survey, 1.0)
    rows = scrambled(codec, codec.encode(survey), seed)

    invariant(decoded, codec, rows, survey)
    invariant(decoded, codec, codec.encode(survey), survey)


@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [(draft_expansion, invariant) for invariant in INVARIANTS]
    + [(copying_persons, invariant) for invariant in INVARIANTS]
    + [(writing_totals_to_the_head, invariant) for invariant in INVARIANTS[:2]],
)
def test_a_wrong_expansion_breaks_the_invariants(mutant: Decode, invariant: Any) -> None:
    """Household totals on the head, and persons copied from the source: neither may pass."""
    survey = make_survey([4, 2, 5, 3, 6, 2], seed=11)
    codec = Codec.fit(survey, 1.0)
    rows = scrambled(codec, codec.encode(survey), seed=12)
    assert len(rows)

    with pytest.raises(AssertionError):
        invariant(mutant, codec, rows, survey)


def test_a_household_earns_what_its_members_earn() -> None:
    """Two earners of 30,000 and 20,000, sampled slots that sum to 45,000: 45,000, not 65,000."""
    source = make_survey([2], seed=3)
    persons = source.tables["person"].assign(wages=[30e3, 20e3], business=0.0, age=[40, 41])
    source = Survey({**source.tables, "person": persons}, SCHEMA)
    codec = Codec.fit(source)
    rows = codec.encode(source)
    rows["person.0.wages"], rows["person.1.wages"] = 25e3, 20e3

    made = decoded(codec, rows, source).tables

    assert made["household"]["income"].tolist() == [45e3]
    assert sorted(made["person"]["wages"]) == [20e3, 25e3]


@pytest.mark.parametrize("schema", SCHEMAS, ids=NAMES)
@EXAMPLES
@given(data=st.data())
def test_real_households_come_back(schema: Schema, data: st.DataObject) -> None:
    """R1 and R10: values, types, who lives with whom, for one, two and three levels alike."""
    survey = data.draw(surveys(schema=schema))
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)
    again = codec.decode(rows, source=survey, origins=rows.index, weights=survey.weights)

    assert described(again) == described(survey)
    for name, table in survey.tables.items():
        assert again.tables[name].dtypes.equals(table.dtypes)
        assert again.tables[name].columns.equals(table.columns)
    assert len(again.derived_differences) == 0
    assert_allclose(again.weights, survey.weights)
    assert len(violations(again)) == len(violations(survey))
    assert codec.problems(rows).empty
    pd.testing.assert_frame_equal(codec.canonical(rows), rows)


@EXAMPLES
@given(survey=surveys(), seed=st.integers(0, 2**32 - 1))
def test_rows_do_not_depend_on_the_order_of_records(survey: Survey, seed: int) -> None:
    shuffled = Survey(
        {name: table.sample(frac=1, random_state=seed) for name, table in survey.tables.items()},
        survey.schema,
    )
    codec = Codec.fit(survey, 1.0)

    rows = codec.encode(shuffled).loc[survey.unit_ids]

    pd.testing.assert_frame_equal(rows, codec.encode(survey))


@EXAMPLES
@given(survey=surveys())
def test_slots_stand_in_canonical_order(survey: Survey) -> None:
    """Heads, partners, children, the older first; benefit units by their first member."""
    rows = Codec.fit(survey, 1.0).encode(survey)
    rank = {"head": 0, "partner": 1, "child": 2, "other": 3}

    for _, row in rows.iterrows():
        n_persons = sum(row[name] for name in rows if name.endswith("present") and "person" in name)
        order = [
            (rank[row[f"person.{slot}.role"]], -row[f"person.{slot}.age"])
            for slot in range(n_persons)
        ]
        assert order == sorted(order)
        units = [row[f"person.{slot}.benefit_unit_id"] for slot in range(n_persons)]
        assert list(dict.fromkeys(units)) == sorted(set(units))


@pytest.mark.parametrize("schema", SCHEMAS, ids=NAMES)
@EXAMPLES
@given(data=st.data())
def test_ids_are_new_and_belong_together(schema: Schema, data: st.DataObject) -> None:
    """R4, for two rounds from one source of ids: everything fits into one survey."""
    survey = data.draw(surveys(schema=schema))
    codec, ids = Codec.fit(survey, 1.0), Identifiers.of(survey)
    rows = codec.encode(survey)
    rounds = [
        codec.decode(
            rows, source=survey, origins=rows.index, weights=1.0, round=number, identifiers=ids
        )
        for number in (1, 2, 2)
    ]

    whole = concatenate([survey, *rounds])

    for entity in schema.entities:
        stored = whole.tables[entity.name][entity.id_column]
        assert stored.is_unique
        assert stored.dtype == survey.tables[entity.name][entity.id_column].dtype
        assert len(stored) == 4 * len(survey.tables[entity.name])


def test_ids_never_overflow_their_type() -> None:
    survey = make_survey([1, 1], seed=0, schema=FLAT)
    table = survey.tables["person"]
    high = Survey({"person": table.assign(person_id=np.array([127, 5], dtype=np.int8))}, FLAT)

    fresh = Identifiers.of(high).fresh("person", 3)

    assert fresh.tolist() == [1, 2, 3]
    assert fresh.dtype == np.int8
    with pytest.raises(InvalidSurvey, match="wider type"):
        Identifiers.of(high).fresh("person", 126)


def test_ids_fit_into_the_links_to_them() -> None:
    """A link column of a narrower type bounds the ids that it can name."""
    survey = make_survey([2, 1], seed=0, schema=TWO_LEVELS)
    tables = dict(survey.tables)
    numbers = pd.factorize(tables["person"]["household_id"])[0]
    names = pd.unique(tables["person"]["household_id"])
    tables["household"] = tables["household"].set_index("household_id").loc[names].reset_index()
    tables["household"]["household_id"] = np.array([126, 127])
    tables["person"] = tables["person"].assign(household_id=(numbers + 126).astype(np.int8))
    narrow = Survey(
        {k: v[[c.name for c in TWO_LEVELS.entity(k).columns]] for k, v in tables.items()},
        TWO_LEVELS,
    )

    assert Identifiers.of(narrow).fresh("household", 2).tolist() == [1, 2]


def test_text_ids_avoid_those_that_are_there() -> None:
    survey = make_survey([1, 1, 1], seed=0, schema=FLAT, text_ids=True)
    taken = survey.tables["person"].assign(person_id=["mc1-000000001", "mc1-000000003", "x"])
    ids = Identifiers.of(Survey({"person": taken}, FLAT))

    fresh = [*ids.fresh("person", 2), *ids.fresh("person", 4), *ids.fresh("person", 1, round=2)]

    assert len(set(fresh)) == 7
    assert not set(fresh) & set(taken["person_id"])


@pytest.mark.parametrize("text_ids", [False, True])
def test_persons_of_one_rank_stand_by_their_ids(text_ids: bool) -> None:
    """Twins: with role and age alike, the order of the table must not matter."""
    survey = make_survey([6, 5], seed=9, text_ids=text_ids)
    persons = survey.tables["person"].assign(role="other", age=30)
    persons = persons.astype(survey.tables["person"].dtypes)
    forwards = Survey({**survey.tables, "person": persons}, SCHEMA)
    backwards = Survey({**survey.tables, "person": persons[::-1]}, SCHEMA)
    codec = Codec.fit(forwards, 1.0)

    rows = codec.encode(forwards)

    pd.testing.assert_frame_equal(codec.encode(backwards), rows)
    again = decoded(codec, rows, forwards)
    pd.testing.assert_frame_equal(
        codec.encode(again).reset_index(drop=True), rows.reset_index(drop=True)
    )
