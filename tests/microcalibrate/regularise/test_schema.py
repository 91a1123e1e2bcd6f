"""Schemas, surveys and constraints: what fits is kept to the bit, what does not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from microcalibrate.datasets import load_cps_households
from microcalibrate.errors import InvalidSchema, InvalidSurvey, UnreadableFile
from microcalibrate.regularise import (
    Aggregate,
    Calculated,
    Codec,
    Column,
    Condition,
    Count,
    Depends,
    Entity,
    Expression,
    Gap,
    Impossible,
    Inherited,
    Lookup,
    OnlyIf,
    Schema,
    Survey,
    concatenate,
    propose_schema,
    select_units,
    violations,
)

from ..households import CONSTRAINTS, FLAT, SCHEMA, TWO_LEVELS, make_survey


def changed(survey: Survey, entity: str, **columns: Any) -> dict[str, pd.DataFrame]:
    return {**survey.tables, entity: survey.tables[entity].assign(**columns)}


# --- Schemas --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [SCHEMA, TWO_LEVELS, FLAT])
def test_a_schema_is_written_as_json(schema: Schema) -> None:
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))

    assert again == schema
    assert again.hash == schema.hash


def test_every_change_changes_the_hash() -> None:
    assert len({SCHEMA.hash, TWO_LEVELS.hash, FLAT.hash}) == 3
    other = SCHEMA.to_json()
    other["entities"][2]["columns"][5]["bounds"] = [0, 111]
    assert Schema.from_json(other).hash != SCHEMA.hash


def total(tables: Any) -> Any:
    return tables["person"]["wages"] * 2


def test_python_functions_stay_in_python() -> None:
    columns = (*FLAT.entities[0].columns, Column("twice", "derived", rule=Calculated(total)))
    schema = Schema((Entity("person", columns),), "person", "weight")

    with pytest.raises(InvalidSchema, match=r"test_schema\.total"):
        schema.to_json()
    assert schema.hash != FLAT.hash
    table = make_survey([1, 1], 0, schema=FLAT).tables["person"]
    survey = Survey({"person": table.assign(twice=2 * table["wages"])}, schema)
    assert survey.derived_differences.empty


ID, WEIGHT = Column("id", "id"), Column("weight", "weight")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Column("x", "input"), "has no type"),
        (lambda: Column("x", "inputs", "number"), "class 'inputs'"),  # type: ignore[arg-type]
        (lambda: Column("x", "input", "category"), "without levels"),
        (lambda: Column("x", "input", "category", ("a", "a")), "must differ"),
        (lambda: Column("x", "input", "category", ("a", 1)), "all text or all"),
        (lambda: Column("x", "input", "number", bounds=(2, 1)), "above the upper"),
        (lambda: Column("x", "input", "boolean", bounds=(0, 1)), "only numbers"),
        (lambda: Column("x", "link"), "needs `to`"),
        (lambda: Column("x", "derived"), "needs a rule"),
        (lambda: Column("x", "input", "number", rule=Expression("y")), "needs a rule where"),
        (lambda: Column("x", "external", rule=Expression("y")), "Lookup of one other column"),
        (lambda: Entity("a", (ID, Column("id", "carried"))), "more than once"),
        (lambda: Entity("a", (WEIGHT,)), "needs one"),
        (lambda: Entity("a", (ID,), order=("id",)), "neither structural nor input"),
        (lambda: Schema((Entity("a", (ID, WEIGHT)),), "b", "weight"), "no entity 'b'"),
        (lambda: Schema((Entity("a", (ID,)),), "a", "weight"), "names \\['weight'\\]"),
        (
            lambda: Schema((Entity("a", (ID, WEIGHT)), Entity("b", (ID,))), "a", "weight"),
            "no link leads",
        ),
        (lambda: flat(Column("x", "derived", rule=Expression("y + 1"))), "no column 'y'"),
        (lambda: flat(Column("x", "derived", rule=Expression("y +"))), "cannot be read"),
        (
            lambda: flat(
                Column("x", "derived", rule=Expression("y + 1")),
                Column("y", "derived", rule=Expression("x + 1")),
            ),
            "circle",
        ),
        (lambda: Aggregate("sum", "person"), "a count is of records"),
        (lambda: Aggregate("product", "person", "x"), "no total"),  # type: ignore[arg-type]
        (lambda: Lookup("x", (("a", 1), ("a", 2))), "more than once"),
        (lambda: Schema.from_json({"format": "else"}), "no schema"),
        (lambda: Schema.from_json(SCHEMA.to_json() | {"constraints": [{"odd": 1}]}), "constraint"),
        (
            lambda: with_constraint(Count("household", None, "person")),
            "no link",
        ),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidSchema, match=message):
        make()


def with_constraint(constraint: Any) -> Schema:
    return Schema(SCHEMA.entities, "household", "weight", "base_weight", (constraint,))


def flat(*columns: Column) -> Schema:
    return Schema((Entity("a", (ID, WEIGHT, *columns)),), "a", "weight")


# --- Surveys --------------------------------------------------------------------------------------


def test_an_undeclared_column_is_named_with_the_way_out() -> None:
    survey = make_survey([2, 1], 0)

    without_age = survey.tables["person"].drop(columns="age")
    with pytest.raises(InvalidSurvey, match=r"'shoe_size'.*carried"):
        Survey(changed(survey, "person", shoe_size=40), SCHEMA)
    with pytest.raises(InvalidSurvey, match="no column 'age'"):
        Survey({**survey.tables, "person": without_age}, SCHEMA)
    with pytest.raises(InvalidSurvey, match="no table 'person'"):
        Survey({name: t for name, t in survey.tables.items() if name != "person"}, SCHEMA)
    assert "_mc_round" in Survey(changed(survey, "person", _mc_round=1), SCHEMA).tables["person"]


@pytest.mark.parametrize(
    ("entity", "columns", "message"),
    [
        ("person", {"person_id": 1}, "more than once"),
        ("person", {"person_id": 1.5}, "whole numbers or as text"),
        ("person", {"person_id": None}, "missing id"),
        ("person", {"household_id": -1}, "no 'household' has that id"),
        ("person", {"benefit_unit_id": None}, "no 'benefit_unit' has that id"),
        ("person", {"role": "cat"}, "one of 'head', 'partner'"),
        ("person", {"age": 111}, "a whole number from 0 to 110"),
        ("person", {"age": 1.5}, "a whole number"),
        ("person", {"age": np.nan}, "missing values"),
        ("person", {"wages": np.inf}, "a finite number"),
        ("person", {"wages": "much"}, "a finite number"),
        ("person", {"is_disabled": 2}, "a truth value"),
        ("household", {"weight": -1.0}, "weight that is missing, negative"),
        ("household", {"weight": "x"}, "weight that is missing, negative"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(entity: str, columns: Any, message: str) -> None:
    survey = make_survey([2, 3, 1], 0)
    with pytest.raises(InvalidSurvey, match=message):
        Survey(changed(survey, entity, **columns), SCHEMA)


def test_records_that_do_not_belong_together_are_refused() -> None:
    survey = make_survey([2, 3, 1], 0)
    persons, households = survey.tables["person"], survey.tables["household"]
    moved = persons["household_id"].replace(
        {households["household_id"][0]: households["household_id"][1]}
    )
    with pytest.raises(InvalidSurvey, match="belongs to two different records"):
        Survey(changed(survey, "person", household_id=moved), SCHEMA)
    left = {
        name: table[table["household_id"] != households["household_id"][0]]
        for name, table in survey.tables.items()
    }
    with pytest.raises(InvalidSurvey, match=r"'household' .* has no 'benefit_unit'|no 'person'"):
        Survey({**left, "household": households}, SCHEMA)
    others = np.roll(persons.sort_values("household_id")["person_id"].to_numpy(), 3)
    stray = persons.sort_values("household_id").assign(partner_id=pd.array(others, "Int64"))
    with pytest.raises(InvalidSurvey, match="names a record of another"):
        Survey({**survey.tables, "person": stray}, SCHEMA)


def test_wrong_totals_are_reported_and_not_hidden() -> None:
    survey = make_survey([2, 3, 1], 0)
    households = survey.tables["household"]
    wrong = Survey(changed(survey, "household", income=households["income"] + [0, 7.0, 0]), SCHEMA)

    found = wrong.derived_differences

    assert survey.derived_differences.empty
    assert found["column"].tolist() == ["income"]
    assert found["id"].tolist() == [households["household_id"][1]]
    assert found["stored"].item() - found["recomputed"].item() == pytest.approx(7)


def test_totals_are_what_pandas_says() -> None:
    """Every total and both inherited and looked up columns, against groupby and map."""
    survey = make_survey([4] * 30, 1)
    persons = survey.tables["person"]
    kinds = ("sum", "max", "min", "mean")
    rules = {f"{k}_hours": Aggregate(k, "person", "hours", where="age > 30") for k in kinds}  # type: ignore[arg-type]
    extra = tuple(Column(name, "derived", rule=rule) for name, rule in rules.items())
    household = SCHEMA.entity("household")
    schema = Schema(
        (Entity("household", (*household.columns, *extra)), *SCHEMA.entities[1:]),
        "household", "weight", "base_weight",
    )  # fmt: skip
    chosen = persons[persons["age"] > 30].groupby("household_id")["hours"]
    ids = survey.tables["household"]["household_id"]
    values = {f"{k}_hours": ids.map(chosen.agg(k)).astype("Float64") for k in kinds}
    values["sum_hours"] = values["sum_hours"].fillna(0)

    assert Survey(changed(survey, "household", **values), schema).derived_differences.empty
    assert SCHEMA.entity("person").column("region").rule == Inherited("household", "region")


@pytest.mark.parametrize("text_ids", [False, True])
def test_a_survey_is_read_as_it_was_written(tmp_path: Path, text_ids: bool) -> None:
    survey = make_survey([2, 3, 1, 6], 0, text_ids=text_ids)
    survey.write(tmp_path / "exact")
    survey.write(tmp_path / "text", format="csv")

    exact, text = Survey.read(tmp_path / "exact"), Survey.read(tmp_path / "text")

    for name, table in survey.tables.items():
        # Parquet does not tell objects that are text from text.
        pd.testing.assert_frame_equal(exact.tables[name], table, check_dtype=not text_ids)
    rows = Codec.fit(survey, 1.0).encode(survey)
    pd.testing.assert_frame_equal(Codec.fit(text, 1.0).encode(text), rows, check_index_type=False)
    assert exact.schema == survey.schema
    files = {name: tmp_path / "text" / f"{name}.csv" for name in survey.tables}
    assert Survey.read(files, tmp_path / "text" / "schema.json").derived_differences.empty
    with pytest.raises(UnreadableFile, match="without a schema"):
        Survey.read(files)
    with pytest.raises(UnreadableFile, match="has 0 files for"):
        Survey.read(tmp_path, SCHEMA)


def test_parts_make_the_whole_again() -> None:
    survey = make_survey([2, 3, 1, 6], 0)
    first, rest = survey.unit_ids[:1], survey.unit_ids[1:]

    whole = concatenate([select_units(survey, first), select_units(survey, rest)])

    assert whole.unit_ids.tolist() == survey.unit_ids.tolist()
    for name, table in survey.tables.items():
        key = survey.ids[name]
        pd.testing.assert_frame_equal(
            whole.tables[name].sort_values(key, ignore_index=True),
            table.sort_values(key, ignore_index=True),
        )
    with pytest.raises(InvalidSurvey, match="no unit"):
        select_units(survey, [-3])
    with pytest.raises(InvalidSurvey, match="more than once"):
        concatenate([survey, survey])
    with pytest.raises(InvalidSurvey, match="different schemas"):
        concatenate([survey, make_survey([1], 0, schema=TWO_LEVELS)])


# --- Constraints ----------------------------------------------------------------------------------


def test_a_sound_survey_breaks_nothing() -> None:
    assert violations(make_survey([3, 9, 1, 4], 5)).empty


@pytest.mark.parametrize(
    ("constraint", "entity", "columns"),
    [
        (CONSTRAINTS[0], "person", {"role": "head"}),
        (CONSTRAINTS[1], "person", {"role": "partner"}),
        (CONSTRAINTS[2], "household", {"tenure": "owned", "rent": 5.0}),
        (CONSTRAINTS[3], "person", {"age": 9, "wages": 1.0}),
        (Gap("person", "age", "role == 'child'", "role == 'head'", 12, "household"), "person",
         {"age": 40}),
        (Impossible("person", ("role", "health"), (("child", 1), ("head", 2))), "person",
         {"health": 1.0}),
        (Depends("household", "area", "tenure", (("leeds", "owned"), ("bath", "rented"))),
         "household", {"area": "leeds", "tenure": "rented"}),
        (OnlyIf("person", "is_disabled", "age > 109"), "person", {"is_disabled": True}),
    ],
)  # fmt: skip
def test_each_constraint_finds_who_breaks_it(constraint: Any, entity: str, columns: Any) -> None:
    """As many records as a loop over households and persons finds, written out anew."""
    survey = Survey(changed(make_survey([3, 4, 2], 5), entity, **columns), SCHEMA)
    persons, households = survey.tables["person"], survey.tables["household"]
    by_household = persons.groupby("household_id")
    expected = {
        CONSTRAINTS[0]: len(households),
        CONSTRAINTS[1]: len(households),
        CONSTRAINTS[2]: len(households),
        CONSTRAINTS[3]: len(persons),
    }.get(constraint)
    if isinstance(constraint, Gap):
        expected = sum((group["role"] == "child").sum() for _, group in by_household)
    elif isinstance(constraint, Impossible):
        expected = (persons["role"] == "child").sum()
    elif isinstance(constraint, Depends):
        expected = len(households)
    elif isinstance(constraint, OnlyIf) and constraint.entity == "person":
        expected = (persons["age"] <= 109).sum()

    found = violations(survey, (constraint,))

    assert len(found) == expected > 0
    assert set(found["constraint"]) == {constraint.name}
    assert set(found["unit"]) <= set(survey.unit_ids)
    table = survey.tables[found["entity"].iloc[0]]
    assert found["id"].isin(table[survey.ids[found["entity"].iloc[0]]]).all()
    again = Schema.from_json(
        json.loads(json.dumps(SCHEMA.to_json() | {"constraints": [constraint.to_json()]}))
    )
    assert again.constraints == (constraint,)


# --- Proposals ------------------------------------------------------------------------------------


def test_a_proposal_finds_the_structure_of_the_households() -> None:
    survey = load_cps_households()

    schema = propose_schema(survey.tables, unit="household", weight="weight")

    again = Survey(survey.tables, Schema.from_json(schema.to_json()))
    assert again.derived_differences.empty
    assert violations(again).empty
    household, person = schema.entity("household"), schema.entity("person")
    assert (
        household.column("region").rule == survey.schema.entity("household").column("region").rule
    )
    assert household.column("n_tax_units").rule == Aggregate("count", "tax_unit")
    assert household.column("income").rule == Aggregate("sum", "tax_unit", "income")
    assert person.parents == {"household": "household_id", "tax_unit": "tax_unit_id"}
    assert person.order == ("role", "-age")
    assert Count("person", "role == 'head'", "tax_unit", 1, 1) in schema.constraints
    assert Count("person", "role == 'spouse'", "tax_unit", 0, 1) in schema.constraints
    assert OnlyIf("person", "wages", "role in ['head', 'spouse']") in schema.constraints


def test_a_proposal_is_of_one_table_too() -> None:
    table = make_survey([1] * 50, 0, schema=FLAT).tables["person"]

    schema = propose_schema({"person": table}, unit="person", weight="weight")

    kinds = {column.name: (column.kind, column.type) for column in schema.entities[0].columns}
    assert kinds["person_id"] == ("id", None)
    assert kinds["age"] == ("input", "integer")
    assert kinds["wages"] == ("input", "number")
    assert kinds["is_disabled"] == ("input", "boolean")
    assert schema.entities[0].column("hours").missing
    assert Survey({"person": table}, schema).schema == schema
    with pytest.raises(InvalidSchema, match="--id person=COLUMN"):
        propose_schema({"person": table.drop(columns="person_id")}, unit="person", weight="weight")


def test_a_condition_with_a_typing_error_is_refused_at_once() -> None:
    with pytest.raises(InvalidSchema, match="no column 'agge'"):
        Schema(FLAT.entities, "person", "weight", constraints=(Condition("person", "agge > 1"),))
