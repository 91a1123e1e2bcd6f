"""Slot rows: what they hold, which of them are households, and what is carried along."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.errors import InvalidOption, InvalidSchema, InvalidSurvey
from microcalibrate.regularise import Codec, Column, Entity, Schema, SlotColumn, Survey

from ..households import FLAT, SCHEMA, TWO_LEVELS, make_survey


def decoded(codec: Codec, rows: pd.DataFrame, source: Survey) -> Survey:
    return codec.decode(rows, source=source, origins=rows.index, weights=1.0)


def test_larger_households_are_counted_and_left_out() -> None:
    """Slots cover 99.9% of the weight: a household of nine with a thousandth of it is too large."""
    survey = make_survey([2] * 20 + [9], seed=5)
    weights = np.where(survey.tables["household"]["n_persons"] == 9, 0.01, 1.0)
    survey = Survey(
        {**survey.tables, "household": survey.tables["household"].assign(base_weight=weights)},
        SCHEMA,
    )

    codec = Codec.fit(survey)

    assert codec.n_slots["person"] == 2
    assert codec.n_too_large == 1
    assert_allclose(codec.weight_too_large, 0.01 / 20.01)
    assert len(codec.encode(survey)) == 20
    assert codec.fits(survey).sum() == 20
    assert Codec.fit(survey, 1.0).n_slots["person"] == 9


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("tenure", "squatted", "a value that does not fit"),
        ("rent", -1.0, "a value that does not fit"),
        ("rent", np.nan, "a missing value"),
        ("person.0.age", 17.5, "a value that does not fit"),
        ("person.0.age", 111, "a value that does not fit"),
        ("person.0.wages", np.inf, "a value that does not fit"),
        ("person.2.wages", 5.0, "a value in an empty slot"),
        ("person.1.benefit_unit_id", 1, "a link to an empty slot"),
        ("person.1.partner_id", 2, "a link to an empty slot"),
        ("benefit_unit.1.present", True, "a benefit_unit without a person"),
    ],
)
def test_rows_that_are_no_households_are_told(column: str, value: Any, problem: str) -> None:
    survey = make_survey([2] * 12 + [3] * 3, seed=8)
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)
    in_one_unit = ~rows["benefit_unit.1.present"] & ~rows["person.2.present"]
    couple = rows.index[in_one_unit]
    assert codec.acceptable(rows).all()
    broken = rows.astype({column: object} if column != "benefit_unit.1.present" else {})
    broken.loc[couple[0], column] = value

    found = codec.problems(broken)

    assert (column, problem) in set(zip(found["column"], found["problem"], strict=True))
    assert set(found["unit"]) == {couple[0]}
    assert codec.acceptable(broken).tolist() == [label != couple[0] for label in rows.index]
    with pytest.raises(InvalidSurvey, match="are no households"):
        decoded(codec, broken, survey)


def test_a_household_without_persons_is_none() -> None:
    survey = make_survey([1, 2], seed=8, schema=TWO_LEVELS)
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)
    single = rows.index[~rows["person.1.present"]]
    rows.loc[single, "person.0.present"] = False

    assert "no person" in set(codec.problems(rows)["problem"])


def test_losses_and_missing_values_survive() -> None:
    survey = make_survey([5] * 40, seed=2)
    codec = Codec.fit(survey, 1.0)
    persons = decoded(codec, codec.encode(survey), survey).tables["person"]
    before = survey.tables["person"]

    assert (before["business"] < 0).sum() == (persons["business"] < 0).sum() > 0
    assert before["hours"].isna().sum() == persons["hours"].isna().sum() > 0
    assert persons["hours"].dtype == "Int16"


def test_carried_columns_come_from_the_origin() -> None:
    survey = make_survey([2, 3, 1], seed=4)
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)
    origins = list(reversed(survey.unit_ids))

    made = codec.decode(rows, source=survey, origins=origins, weights=[1.0, 2.0, 3.0])

    notes = survey.tables["household"].set_index("household_id")["note"]
    assert made.tables["household"]["note"].tolist() == notes.loc[origins].tolist()
    assert made.weights.tolist() == [1.0, 2.0, 3.0]
    assert_allclose(made.base_weights, survey.base_weights.loc[origins])


def test_offspring_share_the_base_weight_of_their_origin() -> None:
    survey = make_survey([2, 3], seed=4)
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)
    one = survey.unit_ids[0]

    made = codec.decode(rows, source=survey, origins=[one, one], weights=1.0)

    assert_allclose(made.base_weights, survey.base_weights.loc[one] / 2)


def test_members_carry_what_the_same_slot_of_the_origin_has() -> None:
    """A slot that the origin does not have is missing, or an error where that cannot be stored."""
    person = TWO_LEVELS.entity("person")
    schema = Schema(
        (
            TWO_LEVELS.entity("household"),
            Entity("person", (*person.columns, Column("memo", "carried")), person.order),
        ),
        "household",
        "weight",
    )
    survey = make_survey([1, 2], seed=6, schema=TWO_LEVELS)
    texts = survey.tables["person"].assign(memo=[f"memo {i}" for i in range(3)])
    survey = Survey({**survey.tables, "person": texts}, schema)
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)
    single = rows.index[~rows["person.1.present"]][0]

    made = codec.decode(rows, source=survey, origins=[single, single], weights=1.0)

    memo = texts["memo"][survey.unit_of("person") == single].item()
    assert made.tables["person"]["memo"].isna().sum() == 1
    assert set(made.tables["person"]["memo"].dropna()) == {memo}

    whole = texts.assign(memo=[1, 2, 3])
    numbered = Survey({**survey.tables, "person": whole}, schema)
    with pytest.raises(InvalidSurvey, match="knows no missing values"):
        codec.decode(rows, source=numbered, origins=[single, single], weights=1.0)


def test_the_columns_tell_what_generators_need() -> None:
    codec = Codec.fit(make_survey([2, 3], seed=4), 1.0)
    columns = {column.name: column for column in codec.columns}

    assert columns["area"].presence is None
    age = columns["person.1.age"]
    assert (age.type, age.bounds, age.presence) == ("integer", (0, 110), "person.1.present")
    assert columns["person.2.health"].levels == (1, 2, 3)
    assert columns["person.2.health"].missing
    assert columns["person.0.partner_id"].levels == (0, 1, 2)
    structure = {c.source for c in codec.columns if c.block == "structure"}
    assert structure == {"present", "benefit_unit_id", "partner_id", "role"}
    assert not {c.source for c in codec.columns} & {
        "income",
        "note",
        "region",
        "weight",
        "person_id",
    }


def test_a_codec_is_written_as_json() -> None:
    survey = make_survey([2, 3], seed=4)
    codec = Codec.fit(survey)

    again = Codec.from_json(json.loads(json.dumps(codec.to_json())))

    assert again.columns == codec.columns
    assert again.schema.hash == codec.schema.hash
    pd.testing.assert_frame_equal(again.encode(survey), codec.encode(survey))
    with pytest.raises(InvalidSchema, match="no codec"):
        Codec.from_json({"format": "other"})


def test_what_does_not_belong_together_is_refused() -> None:
    survey, other = make_survey([2, 3], seed=4), make_survey([2], seed=4, schema=TWO_LEVELS)
    codec = Codec.fit(survey, 1.0)
    rows = codec.encode(survey)

    with pytest.raises(InvalidSurvey, match="another schema"):
        codec.encode(other)
    with pytest.raises(InvalidSurvey, match="lack"):
        codec.problems(rows.drop(columns="rent"))
    with pytest.raises(InvalidSurvey, match="1 of them unknown"):
        codec.decode(rows, source=survey, origins=[survey.unit_ids[0], -5], weights=1.0)
    with pytest.raises(InvalidOption, match="coverage"):
        Codec.fit(survey, 0.0)
    with pytest.raises(InvalidSurvey, match="all weights are zero"):
        Codec.fit(make_flat(weight=0.0))


def test_a_unit_column_may_not_look_like_a_slot() -> None:
    schema = Schema(
        (
            Entity(
                "household",
                (
                    Column("household_id", "id"),
                    Column("weight", "weight"),
                    Column("person.0.age", "input", "integer"),
                ),
            ),
            Entity(
                "person",
                (
                    Column("person_id", "id"),
                    Column("household_id", "link", to="household"),
                    Column("age", "input", "integer"),
                ),
            ),
        ),
        "household",
        "weight",
    )
    tables = {
        "household": pd.DataFrame({"household_id": [1], "weight": [1.0], "person.0.age": [3]}),
        "person": pd.DataFrame({"person_id": [1], "household_id": [1], "age": [3]}),
    }

    with pytest.raises(InvalidSchema, match="name of a slot"):
        Codec.fit(Survey(tables, schema))


def make_flat(weight: float) -> Survey:
    survey = make_survey([1, 1], seed=0, schema=FLAT)
    return survey.with_weights([weight, weight])


def test_a_flat_table_has_no_slots() -> None:
    survey = make_survey([1, 3], seed=0, schema=FLAT)
    codec = Codec.fit(survey)

    assert codec.n_slots == {}
    assert all(isinstance(column, SlotColumn) and column.slot == 0 for column in codec.columns)
    assert [column.name for column in codec.columns if column.kind != "column"] == []
