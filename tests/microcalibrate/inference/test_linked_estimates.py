"""Estimates of persons whose households were calibrated: linked tables, one weight a household."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.errors import InvalidEstimand, InvalidProblem
from microcalibrate.inference import (
    Replication,
    SurveyDesign,
    count,
    difference,
    estimate,
    mean,
    quantile,
    ratio,
    replicate_weights,
    smooth,
    total,
    weighted_residuals,
)
from microcalibrate.inference.linked_data import Tables
from microcalibrate.inference.statistics import OfMembers
from microcalibrate.inference.variance import variance_of_totals

from ..commands import run

RNG = np.random.default_rng(6)
N_HOMES = 150
HOME = RNG.permutation(np.repeat(np.arange(N_HOMES), RNG.integers(1, 5, N_HOMES)))
N = len(HOME)
HOMES = pd.DataFrame(
    {
        "household_id": np.arange(N_HOMES) + 500,
        "weight": RNG.uniform(20, 60, N_HOMES),
        "region": RNG.choice(["n", "s"], N_HOMES),
        "area": np.arange(N_HOMES) // 5,
        "rent": RNG.lognormal(6, 0.4, N_HOMES),
    }
)
PERSONS = pd.DataFrame(
    {
        "household_id": HOME + 500,
        "wages": RNG.lognormal(3, 0.8, N),
        "tax": RNG.uniform(0, 9, N),
        "age": RNG.integers(0, 90, N),
        "sex": RNG.choice(["f", "m"], N),
        "old": RNG.random(N) < 0.4,
    }
)
TABLES = {"household": HOMES, "person": PERSONS}
OF_PERSONS = HOMES["weight"].to_numpy()[HOME]
TARGETS = [
    {"name": "persons", "value": 1.05 * OF_PERSONS.sum(), "aggregate": "count", "tolerance": 0},
    {"name": "women", "value": 1.02 * OF_PERSONS[PERSONS["sex"] == "f"].sum(),
     "filter": "sex == 'f'", "tolerance": 0},
    {"name": "age", "value": 1.04 * OF_PERSONS @ PERSONS["age"], "variable": "age",
     "tolerance": 0},
]  # fmt: skip
DESIGN = SurveyDesign(psu="area", strata="region", nest=True)


def of_homes(**options: Any) -> Calibration:
    rows = [{**row, "entity": "person"} for row in TARGETS]
    made = Calibration.from_tables(TABLES, rows, distance="raking", **options)
    made.calibrate(progress=False)
    return made


def of_persons() -> tuple[Calibration, pd.DataFrame]:
    """The same weights, of a table of persons with one ratio a household."""
    table = PERSONS.merge(HOMES, on="household_id")
    table["size"] = table.groupby("household_id")["age"].transform("size")
    made = Calibration.from_table(
        table, TARGETS, distance="raking", cluster="household_id", heteroscedasticity="size"
    )
    made.calibrate(progress=False)
    return made, table


def asked(entity: str | None) -> list[Any]:
    men, women = (mean("wages", where=f"sex == '{one}'", entity=entity) for one in "mf")
    return [
        total("wages", entity=entity),
        mean("wages", entity=entity, where="age >= 18 and rent > 300"),
        ratio("tax", "wages", entity=entity),
        quantile("wages", 0.4, entity=entity),
        count(entity=entity, where="age < 18"),
        smooth(lambda t: np.log(t[0] / t[1]), ["wages", 1], entity=entity),
        difference(men, women),
    ]


SAME = ["estimate", "standard_error", "lower", "upper"]


@pytest.mark.parametrize("by", [None, "region", ["region", "old"]])
def test_persons_of_linked_tables_are_those_of_a_table_of_persons(by: Any) -> None:
    made, table = of_persons()
    expected = estimate(made, asked(None), table, design=DESIGN, by=by).table
    found = estimate(of_homes(), asked("person"), TABLES, design=DESIGN, by=by).table

    assert_allclose(found[SAME], expected[SAME], rtol=1e-6)
    assert list(found["statistic"]) == list(expected["statistic"])
    assert found["records"].max() <= N_HOMES


def test_replicates_are_of_persons_too() -> None:
    made, table = of_persons()
    homes = of_homes()
    one, other = (
        replicate_weights(each, Replication.jackknife(DESIGN, data), progress=False)
        for each, data in ((made, table), (homes, HOMES))
    )
    expected = estimate(made, asked(None), table, replicates=one, by="region").table
    found = estimate(homes, asked("person"), TABLES, replicates=other, by="region").table

    assert_allclose(found[SAME], expected[SAME], rtol=1e-6)


def test_statistics_of_persons_and_households_stand_together() -> None:
    made = of_homes()
    mixed = [total("rent"), total("wages", entity="person"), count(entity="household"), count()]
    found = estimate(made, mixed, TABLES, design=DESIGN)
    alone = estimate(made, total("rent"), HOMES, design=DESIGN).table.iloc[0]
    summed = HOMES.assign(wages=np.bincount(HOME, PERSONS["wages"]))
    expected = estimate(made, [total("rent"), total("wages")], summed, design=DESIGN)

    assert_allclose(found.table[SAME].iloc[0].astype(float), alone[SAME].astype(float))
    assert_allclose(found.covariance[:2, :2], expected.covariance, rtol=1e-9)
    assert_allclose(found.covariance[2], found.covariance[3])
    residuals = weighted_residuals(made, mixed[:2], TABLES).to_numpy()
    assert_allclose(variance_of_totals(residuals, DESIGN.bind(HOMES, N_HOMES)), expected.covariance)


def test_households_without_persons_have_their_part_in_the_error() -> None:
    vacant = pd.DataFrame({"household_id": [900, 901], "weight": [40.0, 50.0], "region": ["n", "s"],
                           "area": [70, 71], "rent": [0.0, 0.0]})  # fmt: skip
    homes = pd.concat([HOMES, vacant], ignore_index=True)
    tables = {"household": homes, "person": PERSONS}
    made = Calibration.from_tables(
        tables, [{"name": "homes", "value": 1.1 * homes["weight"].sum(), "aggregate": "count",
                  "tolerance": 0}]
    )  # fmt: skip
    made.calibrate(progress=False)
    found = estimate(made, total("wages", entity="person"), tables, design=DESIGN).table
    summed = homes.assign(wages=np.bincount(HOME, PERSONS["wages"], N_HOMES + 2))
    expected = estimate(made, total("wages"), summed, design=DESIGN).table

    assert_allclose(found[SAME[:2]], expected[SAME[:2]])


def test_a_survey_says_its_own_links() -> None:
    survey = SimpleNamespace(
        tables={"home": HOMES, "person": PERSONS.rename(columns={"household_id": "lives_in"})},
        unit="home",
        ids={"home": "household_id"},
        links={"person": {"home": "lives_in"}},
        weights=HOMES["weight"].to_numpy(),
    )
    made = of_homes()
    asked_for = mean("wages", entity="person")
    one, other = (estimate(made, asked_for, data, design=DESIGN).table for data in (survey, TABLES))

    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("data", "what", "error", "part"),
    [
        (TABLES, total("wages", entity="persn"), InvalidEstimand, "household, person"),
        (HOMES, total("wages", entity="person"), InvalidEstimand, "the data are one table"),
        ({"household": HOMES[:99], "person": PERSONS[HOME < 99]}, total("rent"), InvalidEstimand,
         "99 rows, and there are 150"),
        ({"home": HOMES, "person": PERSONS}, total("rent"), InvalidProblem, "2 belong to no other"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(data: Any, what: Any, error: Any, part: str) -> None:
    with pytest.raises(error, match=part):
        estimate(of_homes(), what, data, design=DESIGN)


@pytest.mark.parametrize("place", ["homes.csv --table person=people.csv", "survey"])
def test_the_command_line_makes_a_run_of_linked_tables_again(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "survey").mkdir()
    for file, table in {
        "homes.csv": HOMES, "people.csv": PERSONS, "survey/household.csv": HOMES,
        "survey/person.csv": PERSONS,
    }.items():  # fmt: skip
        table.to_csv(file, index=False)
    pd.DataFrame(TARGETS).assign(entity="person").to_csv("targets.csv", index=False)
    common = f"{place} --targets targets.csv --quiet"
    asked_for = (
        "--entity person --total wages --mean age --by sex --psu area --strata region --nest"
    )
    lines = [
        f"calibrate {common} --weight weight --distance raking --no-report --out run",
        f"estimate run {common} {asked_for} --out found.csv --residuals residuals.csv",
        f"estimate run {common} --mean rent --psu area --strata region --nest --out rent.csv "
        "--replicates jackknife",
    ]
    for line in lines:
        done = run(line)
        assert done.exit_code == 0, done.output
    made = of_homes()
    wanted = [total("wages", entity="person"), mean("age", entity="person")]
    expected = estimate(made, wanted, TABLES, design=DESIGN, by="sex").table
    replicates = replicate_weights(made, Replication.jackknife(DESIGN, HOMES), progress=False)
    rent = estimate(made, mean("rent"), HOMES, replicates=replicates).table

    assert_allclose(pd.read_csv("found.csv")[SAME], expected[SAME])
    assert_allclose(pd.read_csv("rent.csv")[SAME], rent[SAME])
    assert len(pd.read_csv("residuals.csv")) == N_HOMES


def test_a_difference_is_of_one_entity() -> None:
    with pytest.raises(InvalidEstimand, match="a difference is of one"):
        difference(mean("rent"), mean("wages", entity="person"))


def test_a_domain_of_records_is_that_of_their_members() -> None:
    weights = HOMES["weight"].to_numpy()
    rows = Tables.of(TABLES, N_HOMES).level("person")
    inner = total("wages").bind(rows.columns, rows.n_rows)
    assert rows.record is not None
    north = (HOMES["region"] == "n").to_numpy()
    found = OfMembers(inner, rows.record, N_HOMES).within(north)

    assert_allclose(found.value(weights), (OF_PERSONS * PERSONS["wages"])[north[HOME]].sum())
    assert_allclose(found.mask, np.bincount(HOME[north[HOME]], minlength=N_HOMES) > 0)
