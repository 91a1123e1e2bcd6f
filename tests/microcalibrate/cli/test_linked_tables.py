"""Linked tables on the command line: households with one weight each, and their members."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal

from microcalibrate import Calibration, CalibrationResult, evaluate_robustness
from microcalibrate.cli import BAD_USAGE, FAILURE
from microcalibrate.datasets import load_cps_households
from microcalibrate.io import read_json, read_table
from microcalibrate.target_checks import TargetChecks, check_targets

from ..commands import run

N = 80
TABLES = "household.csv --table family=family.csv --table person=person.csv"
CALIBRATE = f"calibrate {TABLES} --targets targets.csv --out run --no-report"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with households, families and persons, once side by side and once in a folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    home = pd.DataFrame(
        {
            "household_id": rng.permutation(N) + 500,
            "weight": rng.uniform(50, 150, N),
            "state": rng.choice(["CA", "NV"], N),
            "rooms": rng.integers(1, 8, N),
        }
    )
    home["size"] = 1 + rng.integers(0, 3, N)
    ids = home["household_id"].to_numpy()
    family = pd.DataFrame(
        {"family_id": np.arange(120), "household_id": np.append(ids, rng.choice(ids, 40))}
    )
    family["benefit"] = rng.uniform(0, 100, 120)
    person = pd.DataFrame({"family_id": np.append(np.arange(120), rng.integers(0, 120, 130))})
    person["age"] = rng.integers(0, 90, 250)
    person["income"] = rng.gamma(2, 10_000, 250).round()
    (tmp_path / "survey").mkdir()
    for name, table in {"household": home, "family": family, "person": person}.items():
        table.to_csv(f"{name}.csv", index=False)
        table.to_parquet(f"survey/{name}.parquet")
    of_person = {"entity": "person"}
    rows = [
        {"name": "homes", "value": 7_000, "aggregate": "count", "tolerance": 0},
        {"name": "rooms", "value": 31_000},
        {"name": "benefit", "value": 600_000, "entity": "family"},
        of_person | {"name": "old/CA", "value": 3_000, "filter": "age > 64 and state == 'CA'"},
        of_person | {"name": "children", "value": 5_000, "filter": "age < 18", "tolerance": 0},
        of_person | {"name": "mean", "value": 22_000, "aggregate": "mean", "variable": "income"},
    ]
    pd.DataFrame(rows).to_csv("targets.csv", index=False)
    return tmp_path


def tables() -> dict[str, pd.DataFrame]:
    return {name: read_table(f"{name}.csv") for name in ("household", "family", "person")}


def expected(**options: Any) -> Calibration:
    return Calibration.from_tables(tables(), read_table("targets.csv"), **options)


# --- Done -----------------------------------------------------------------------------------------


def test_files_side_by_side_are_calibrated_as_by_the_library() -> None:
    done = run(f"{CALIBRATE} --distance raking --max-ratio 8 --heteroscedasticity size")

    calibration = expected(distance="raking", max_weight_ratio=8, heteroscedasticity="size")
    assert done.exit_code == 0, done.output
    saved = CalibrationResult.load("run")
    assert_array_equal(saved.weights, calibration.calibrate())
    assert_array_equal(saved.record_ids, tables()["household"]["household_id"])
    assert saved.targets["name"].tolist() == calibration.result.targets["name"].tolist()
    assert "has no row" not in done.output


def test_a_run_of_tables_is_reported_and_compared_as_any_other() -> None:
    assert run(CALIBRATE.replace("--no-report", "--quiet")).exit_code == 0
    fewer = f"{CALIBRATE} --tolerance 0.3".replace("--out run", "--records 60 --out fewer")
    assert run(fewer).exit_code == 0
    assert (CalibrationResult.load("fewer").weights > 0).sum() == 60

    assert "children" in Path("run/report.html").read_text("utf-8")
    assert run("report run").exit_code == 0
    compared = run("compare run fewer")
    assert compared.exit_code == 0, compared.output
    assert "60" in compared.stdout


@pytest.mark.parametrize("where", [".", "survey"])
def test_a_folder_is_the_same_tables(here: Path, where: str) -> None:
    """The targets may lie there, too."""
    targets = here / where / "wanted.csv"
    (here / "targets.csv").rename(targets)
    folder = here / "survey"
    if where == ".":
        folder = here
        (here / "survey").rename(here.parent / "elsewhere")
    done = run(f"calibrate {folder} --targets {targets} --out {here.parent / 'out'} --no-report")

    assert done.exit_code == 0, done.output
    weights = CalibrationResult.load(here.parent / "out").weights
    calibration = Calibration.from_tables(tables(), read_table(targets))
    assert_allclose(weights, calibration.calibrate(), rtol=1e-9)


@pytest.mark.parametrize(
    "links",
    [
        "--id hh --link family.home=household --link person.of=family.fam",
        "--link family.home=household.hh --link person.of=family.fam",
    ],
)
def test_columns_may_have_other_names(links: str) -> None:
    plain = expected().calibrate()
    given = tables()
    given["household"].rename(columns={"household_id": "hh"}).to_csv("household.csv", index=False)
    family = {"household_id": "home", "family_id": "fam"}
    given["family"].rename(columns=family).to_csv("family.csv", index=False)
    given["person"].rename(columns={"family_id": "of"}).to_csv("person.csv", index=False)

    done = run(f"{CALIBRATE} {links}")

    assert done.exit_code == 0, done.output
    assert_allclose(CalibrationResult.load("run").weights, plain, rtol=1e-12)


def test_another_unit_and_another_weight() -> None:
    plain = expected().calibrate()
    given = tables()
    given["household"].rename(columns={"weight": "w"}).to_csv("homes.csv", index=False)
    declared = read_table("targets.csv")
    declared["entity"] = declared["entity"].fillna("dwelling")
    declared.to_csv("targets.csv", index=False)

    line = CALIBRATE.replace("household.csv", "homes.csv --unit dwelling --weight w")
    done = run(f"{line} --id household_id")

    assert done.exit_code == 0, done.output
    assert_allclose(CalibrationResult.load("run").weights, plain, rtol=1e-12)


def test_a_survey_with_its_schema_says_it_all(here: Path) -> None:
    survey = load_cps_households()
    survey.write(here / "cps")
    rows = [{"name": "people", "value": 3.5e8, "aggregate": "count", "entity": "person"}]
    pd.DataFrame(rows).to_csv("targets.csv", index=False)

    done = run("calibrate cps --targets targets.csv --out run --no-report")

    assert done.exit_code == 0, done.output
    weights = Calibration.from_tables(survey, rows).calibrate()
    assert_allclose(CalibrationResult.load("run").weights, weights, rtol=1e-9)


def test_units_without_members_are_told() -> None:
    given = tables()
    given["family"].query("family_id >= 3").to_csv("family.csv", index=False)
    given["person"].query("family_id >= 3").to_csv("person.csv", index=False)

    done = run(CALIBRATE)

    assert done.exit_code == 0, done.output
    assert "rows of 'household' have no row in 'person'" in " ".join(done.stdout.split())


def test_tuning_evaluation_and_analysis_read_the_same() -> None:
    linked = f"{TABLES} --targets targets.csv --tolerance 0.5 --no-report"
    evaluated = run(
        f"evaluate {linked} --folds 2 --untargeted size --untargeted person.income --out evaluated"
    )
    analysed = run(f"targets {linked} --out analysed")
    tuned = run(f"tune {linked} --folds 2 --trials 1 --link family.household_id=household --out t")

    for done in (evaluated, analysed, tuned):
        assert done.exit_code == 0, done.output
    problem = expected(tolerances=0.5).problem
    persons = tables()["person"].merge(tables()["family"])
    incomes = persons.groupby("household_id")["income"].sum()
    incomes = incomes.reindex(tables()["household"]["household_id"])
    robust = evaluate_robustness(
        problem.design_weights,
        problem.targets,
        problem.estimate_matrix,
        target_names=problem.target_names,
        scales=problem.scales,
        tolerances=read_table("targets.csv")["tolerance"].fillna(0.5).to_numpy(),
        untargeted=np.column_stack([tables()["household"]["size"], incomes.fillna(0)]),
        n_folds=2,
    )
    found = read_json("evaluated/robustness.json")["figures"]
    assert_allclose(found["mean_error"], robust["mean_error"], rtol=1e-9)
    drift = read_table("evaluated/drift.csv")
    assert drift["variable"].tolist() == ["size", "person.income"]
    assert_allclose(drift["fold_drift"], robust.drift["fold_drift"], rtol=1e-6)
    assert set(read_table("analysed/target_analysis.csv")["name"]) == set(problem.target_names)
    (line,) = (text for text in tuned.stdout.splitlines() if "microcalibrate calibrate" in text)
    assert "--table person=person.csv --link family.household_id=household" in line
    again = run(line.strip().removeprefix("microcalibrate "))
    assert again.exit_code == 0, again.output
    assert CalibrationResult.load("t-best").record_ids.tolist() == (
        tables()["household"]["household_id"].tolist()
    )


def test_checks_are_those_of_the_library() -> None:
    done = run(f"check {TABLES} --targets targets.csv --max-ratio 2 --out run")

    found = check_targets(tables(), read_table("targets.csv"), max_weight_ratio=2)
    assert done.exit_code == 0, done.output
    assert_frame_equal(TargetChecks.load("run").table, found.table)
    assert run("check survey --targets targets.csv --max-ratio 2 --out again").exit_code == 0
    assert_allclose(TargetChecks.load("again").table["highest"], found.table["highest"])


@pytest.mark.parametrize("data", [TABLES, "survey"])
def test_a_template_of_members_is_filled_in_and_met(data: str) -> None:
    line = f"targets-template {data} --entity person --variable income --by state --out t.csv"
    blank = run(f"{line} --unit household")
    assert blank.exit_code == 0, blank.output
    assert read_table("t.csv")["value"].isna().all()
    filled = run(f"{line} --weight weight")
    assert filled.exit_code == 0, filled.output

    template = read_table("t.csv")
    persons = tables()["person"].merge(tables()["family"]).merge(tables()["household"])
    totals = (persons["weight"] * persons["income"]).groupby(persons["state"]).sum()
    assert_allclose(template["value"], totals.to_numpy())
    assert template["entity"].eq("person").all()
    done = run(CALIBRATE.replace("targets.csv", "t.csv"))
    assert done.exit_code == 0, done.output
    saved = CalibrationResult.load("run")
    assert_allclose(saved.weights, saved.design_weights)


# --- Refused --------------------------------------------------------------------------------------


def broken(name: str, **columns: Any) -> None:
    """Write a table with other columns; None drops one."""
    table = read_table(f"{name}.csv")
    for column, value in columns.items():
        table = table.drop(columns=column) if value is None else table.assign(**{column: value})
    table.to_csv(f"{name}.csv", index=False)


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("person", {"family_id": None}, "'person' is not linked to the unit 'household'"),
        ("family", {"household_id": 7}, "120 rows of 'family' are linked to no row of 'household'"),
        ("family", {"household_id": np.nan}, "linked to no row of 'household'"),
        ("household", {"household_id": 7}, "identifier 7 occurs more than once"),
        ("household", {"household_id": np.nan}, "80 of them have no identifier"),
        ("household", {"weight": None}, "has no column 'weight' to take weights from"),
        ("household", {"weight": -1.0}, "weights"),
        ("household", {"state": None}, "no column 'state'"),
    ],
)
@pytest.mark.parametrize("command", ["calibrate", "check"])
def test_tables_that_do_not_fit_are_told(
    command: str, name: str, columns: dict[str, Any], said: str
) -> None:
    broken(name, **columns)
    done = run(f"{command} {TABLES} --targets targets.csv --out run")

    if command == "check" and "state" in columns:
        # Of a bad row, a check says so in its place.
        assert said in done.output
        return
    assert done.exit_code == FAILURE, done.output
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{CALIBRATE} --link person=family", BAD_USAGE, "must have the form CHILD.COLUMN=PARENT"),
        (f"{CALIBRATE} --link person.family_id=tribe", BAD_USAGE, "no table of 'tribe'"),
        (f"{CALIBRATE} --table person=person.csv", BAD_USAGE, "a table of 'person' already"),
        (f"{CALIBRATE} --table cars", BAD_USAGE, "must have the form ENTITY=FILE"),
        (f"{CALIBRATE} --table car=car.csv", FAILURE, "car.csv does not exist"),
        (f"{CALIBRATE} --link person.hous=household", FAILURE, "has no column 'hous'"),
        (f"{CALIBRATE} --table targets=targets.csv", FAILURE, "Give the column that names its"),
        (f"{CALIBRATE} --frozen hold", FAILURE, "--frozen hold"),
        (
            f"evaluate {TABLES} --targets targets.csv --untargeted person.rent --out run",
            FAILURE,
            "--untargeted rent: there is no column 'rent'",
        ),
        ("calibrate survey --targets targets.csv --id rooms --out run", BAD_USAGE, "--unit"),
        ("calibrate survey --weight weight --out run", BAD_USAGE, "needs --targets"),
        (
            "calibrate survey --targets targets.csv --unit homes --out run",
            FAILURE,
            "no table of 'homes'",
        ),
        (
            "calibrate household.csv --weight weight --targets targets.csv --out run",
            BAD_USAGE,
            "several entities ('family' and 'person'",
        ),
        (
            "calibrate household.csv --weight weight --targets targets.csv --unit household "
            "--out run",
            BAD_USAGE,
            "--unit is about several tables, and household.csv is the only one",
        ),
        ("check household.csv --targets targets.csv --out run", BAD_USAGE, "needs --weight"),
        (
            "check household.csv --weight weight --targets targets.csv --out run",
            BAD_USAGE,
            "several entities",
        ),
        (
            "targets-template household.csv --by state --entity person --out t.csv",
            BAD_USAGE,
            "--entity is about several tables",
        ),
        (
            f"targets-template {TABLES} --by state --entity persons --out t.csv",
            BAD_USAGE,
            "no table of 'persons'",
        ),
    ],
)
def test_what_cannot_be_honoured_is_told(line: str, code: int, said: str) -> None:
    done = run(line)

    assert said in " ".join(done.stderr.split()), done.output
    assert done.exit_code == code
    assert "Traceback" not in done.output
    assert not Path("run").exists()
    assert not Path("t.csv").exists()


def test_a_schema_is_not_contradicted(here: Path) -> None:
    load_cps_households().write(here / "cps")
    done = run("calibrate cps --targets targets.csv --link person.household_id=household --out run")

    assert done.exit_code == BAD_USAGE
    assert "schema.json says what the tables are" in " ".join(done.stderr.split())


def test_a_link_is_named_in_the_words_of_the_command_line() -> None:
    broken("person", family_id=None)

    assert "in `--link`" in " ".join(run(CALIBRATE).stderr.split())
