"""Targets of households and of their members in one calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration, CalibrationError
from microcalibrate.datasets import load_cps_households

RNG = np.random.default_rng(11)
N_HOMES = 200
HOMES = pd.DataFrame(
    {
        "household_id": RNG.permutation(N_HOMES) + 1_000,
        "state": RNG.choice(["CA", "NV", "NY"], N_HOMES),
        "rooms": RNG.integers(1, 8, N_HOMES),
        "weight": RNG.uniform(50, 150, N_HOMES),
    }
)
HOMES["region"] = HOMES["state"].map({"CA": "west", "NV": "west", "NY": "east"})
FAMILIES = pd.DataFrame(
    {"family_id": np.arange(300), "household_id": RNG.choice(HOMES["household_id"], 300)}
)
FAMILIES["benefit"] = RNG.uniform(0, 100, 300)
PEOPLE = pd.DataFrame({"family_id": RNG.integers(0, 300, 700), "age": RNG.integers(0, 90, 700)})
PEOPLE["income"] = RNG.lognormal(3, 0.5, 700)
TABLES = {"household": HOMES, "family": FAMILIES, "person": PEOPLE}

# Flat: a row per person, with everything that is known of the family and the household.
FLAT = PEOPLE.merge(FAMILIES, on="family_id").merge(HOMES, on="household_id")


def start(query: str, column: str | None = None) -> float:
    rows = FLAT.query(query)
    return float((rows["weight"] * (1 if column is None else rows[column])).sum())


NESTED = [
    {"name": "homes/CA", "value": 1.1 * float(HOMES.query("state == 'CA'")["weight"].sum()),
     "filter": "state == 'CA'"},
    {"name": "homes/west", "value": 1.05 * float(HOMES.query("region == 'west'")["weight"].sum()),
     "filter": "region == 'west'"},
    {"name": "rooms", "value": float(HOMES["weight"] @ HOMES["rooms"])},
    {"name": "old/NY", "value": 1.1 * start("age > 64 and state == 'NY'"), "entity": "person",
     "filter": "age > 64 and state == 'NY'"},
    {"name": "income", "value": 1.02 * start("age >= 0", "income"), "entity": "person"},
    {"name": "benefit", "value": 0.97 * float(FAMILIES.merge(HOMES).eval("weight * benefit").sum()),
     "entity": "family", "tolerance": 0.001},
    {"name": "mean age", "value": 44.0, "entity": "person", "variable": "age",
     "aggregate": "mean"},
]  # fmt: skip
EXACT = [{"tolerance": 0} | row for row in NESTED]


def test_one_weight_per_household_meets_the_targets_of_every_level() -> None:
    """Nested areas and nested entities in one solve, counted again from the flat table."""
    calibration = Calibration.from_tables(TABLES, EXACT, distance="raking")
    new = pd.Series(calibration.calibrate(), index=HOMES["household_id"])
    person = FLAT["household_id"].map(new)
    home, family = HOMES["household_id"].map(new), FAMILIES["household_id"].map(new)
    totals = {
        "homes/CA": home[HOMES["state"] == "CA"].sum(),
        "homes/west": home[HOMES["region"] == "west"].sum(),
        "rooms": home @ HOMES["rooms"],
        "old/NY": person[(FLAT["age"] > 64) & (FLAT["state"] == "NY")].sum(),
        "income": person @ FLAT["income"],
        "mean age": person @ FLAT["age"] / person.sum(),
    }

    for row in EXACT:
        if row["tolerance"] == 0:
            assert_allclose(totals[str(row["name"])], row["value"], rtol=1e-8)
    benefit = next(row["value"] for row in EXACT if row["name"] == "benefit")
    assert_allclose(family @ FAMILIES["benefit"], benefit, rtol=0.001001)
    assert calibration.result.targets["name"].tolist() == [row["name"] for row in EXACT]
    assert_allclose(calibration.problem.scales[-1], 44 * FLAT["weight"].sum())
    assert calibration.result.record_ids.tolist() == HOMES["household_id"].tolist()


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_households_with_one_weight_are_clusters_of_persons_that_count_once(distance: str) -> None:
    """Two roads: a table of households, and a table of persons with one ratio per household."""
    rows = [row for row in EXACT if row.get("entity") == "person"]
    size = FLAT.groupby("household_id")["age"].transform("size")
    persons = FLAT.assign(size=size)
    lived_in = HOMES[HOMES["household_id"].isin(FLAT["household_id"])]
    tables = {"household": lived_in.reset_index(drop=True), "person": FLAT[
        ["household_id", "age", "income"]]}  # fmt: skip

    by_home = Calibration.from_tables(tables, rows, distance=distance)
    by_person = Calibration.from_table(
        persons, rows, distance=distance, cluster="household_id", heteroscedasticity="size"
    )
    new = pd.Series(by_home.calibrate(), index=tables["household"]["household_id"])

    assert_allclose(by_person.calibrate(), FLAT["household_id"].map(new), rtol=1e-7)


def test_order_of_rows_and_library_of_tables_change_nothing() -> None:
    shuffled = {name: table.sample(frac=1, random_state=2) for name, table in TABLES.items()}
    first = Calibration.from_tables(TABLES, EXACT)
    other = Calibration.from_tables(
        {name: pl.from_pandas(table) for name, table in shuffled.items()}, pl.DataFrame(EXACT)
    )
    first.calibrate()
    other.calibrate()
    pairs = [each.result.weights_table().sort_values("id")["weight"] for each in (first, other)]

    assert_allclose(*pairs, rtol=1e-7)


def test_options_may_name_columns_of_the_unit_and_a_survey_knows_its_links() -> None:
    survey = load_cps_households()
    children = float(
        survey.tables["person"].merge(survey.tables["household"]).query("age < 18")["weight"].sum()
    )
    rows = [{"name": "children", "value": 1.1 * children, "entity": "person",
             "filter": "age < 18", "tolerance": 0}]  # fmt: skip
    calibration = Calibration.from_tables(survey, rows, frozen=np.arange(3_000) < 5)
    same = Calibration.from_tables(dict(survey.tables), rows, frozen=np.arange(3_000) < 5)
    weights = calibration.calibrate()

    assert_allclose(weights[:5], survey.weights.iloc[:5])
    assert_allclose(same.calibrate(), weights)
    by_state = Calibration.from_tables(
        {"household": HOMES},
        [{"name": "rooms", "value": 5e4, "filter": "state == 'CA'", "variable": "rooms"}],
        partition="state",
    )
    by_state.calibrate()
    assert by_state.parts["part"].tolist() == HOMES["state"].unique().tolist()


@pytest.mark.parametrize(
    ("tables", "rows", "options", "part"),
    [
        (TABLES, [{"name": "a", "value": 1, "entity": "persn"}], {}, "Did you mean 'person'"),
        (TABLES, [EXACT[0], EXACT[0]], {}, "row 1 has the same name"),
        (TABLES, [EXACT[0], {"name": "x", "value": 1, "filter": "agee > 3", "entity": "person"}],
         {}, 'target "x" (row 2)'),
        (TABLES, [{"name": "rooms", "value": 1, "entity": "person"}], {}, "no column 'rooms'"),
        ({"person": PEOPLE}, EXACT, {}, "none of the tables 'person' has a column 'weight'"),
        ({"household": HOMES, "person": PEOPLE}, EXACT, {}, "not linked to the unit 'household'"),
        (TABLES, EXACT, {"unit": "home"}, "no table for the unit 'home'"),
        (HOMES, EXACT, {}, "tables is a DataFrame"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tables: Any, rows: Any, options: Any, part: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        Calibration.from_tables(tables, rows, **options)

    assert part in str(caught.value)
