"""`microcalibrate schema` and `diagnose`: the library's findings, from a line of text."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.cli import BAD_USAGE, FAILURE, FLAGGED
from microcalibrate.diagnostics import Diagnosis, RandomScheduleReforms, diagnose
from microcalibrate.io import read_table
from microcalibrate.regularise import Schema, Survey

from ..commands import assert_refused, run, unwrapped
from ..files import content
from ..households import make_survey
from ..pages import HOSTILE, Reader, assert_no_tags, assert_self_contained
from ..published import validate

FLAT = "diagnose people.csv --weight w --id name --surface surface.json --out run"
DEEP = "diagnose homes --out run"
SURFACE = {
    "metrics": ["income", {"name": "aged", "value": "age >= 65"}],
    "slices": [{"name": "age band", "by": "age", "edges": [30, 60]}, "sex"],
}
REFORMS = """
def doubled(tables):
    return {"income": 2 * tables["record"]["income"]}

def nothing(tables):
    return {"income": tables["record"]["income"]}

def broken(tables):
    raise RuntimeError("no such parameter")

LISTED = {"doubled": doubled, "nothing": nothing}
WITH_BROKEN = {"doubled": doubled, "broken": broken}
SURFACE = {"metrics": ["income"]}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a flat table in which one record carries too much, and with households."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    rng = np.random.default_rng(3)
    n = 600
    people = pd.DataFrame(
        {
            "name": [f"r{i}" for i in range(n)],
            "w": rng.uniform(50, 150, n),
            "age": rng.integers(0, 90, n),
            "sex": rng.choice(["f", HOSTILE], n),
            "income": rng.gamma(2.0, 20_000, n).round(),
        }
    )
    people.loc[17, ["w", "income", "age"]] = [6_000, 90_000, 45]
    people.to_csv("people.csv", index=False)
    Path("surface.json").write_text(json.dumps(SURFACE), encoding="utf-8")
    Path("my_policy.py").write_text(REFORMS, encoding="utf-8")
    survey = make_survey([1, 2, 3, 4] * 40, 1)
    survey.write(tmp_path / "homes", format="csv")
    return tmp_path


# --- schema ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_proposed_schema_reads_the_tables() -> None:
    done = run(
        "schema homes --unit household --weight weight --base-weight base_weight "
        "--link person.partner_id=person --out proposed.json"
    )

    assert done.exit_code == 0, done.output
    validate("schema", "proposed.json")
    survey = Survey.read("homes", "proposed.json")
    person = survey.schema.entity("person")
    # One link was named, and those that follow from the names of the columns are there too.
    assert person.column("partner_id").to == "person"
    assert person.parents == {"household": "household_id", "benefit_unit": "benefit_unit_id"}
    assert survey.schema.entity("household").column("region").kind == "external"
    assert "household: 160 rows" in done.stdout
    assert "constraints that hold in all records" in done.stdout


@pytest.mark.usefixtures("here")
def test_a_flat_table_has_a_schema_too() -> None:
    line = "schema people.csv --unit person --weight w --id person=name --out flat.json --quiet"
    done = run(line)

    assert done.exit_code == 0, done.output
    assert not done.output
    assert Schema.from_json(validate("schema", "flat.json")).unit == "person"


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        ("schema homes --out s.txt", BAD_USAGE, "must end in .json"),
        ("schema homes --out s.json --id person", BAD_USAGE, "the form ENTITY=COLUMN"),
        ("schema homes --out s.json --link person=household", BAD_USAGE, "CHILD.COLUMN=PARENT"),
        ("schema homes --out s.json --id pet=pet_id", BAD_USAGE, "there is no table of 'pet'"),
        ("schema homes --out s.json --unit home", FAILURE, "no table of 'home'"),
        ("schema homes --out s.json --entity pet", FAILURE, "no table of 'pet'"),
        ("schema homes --out s.json --weight pounds", FAILURE, "pounds"),
        ("schema nobody.csv --out s.json", FAILURE, "nobody.csv does not exist"),
    ],
)
def test_what_no_schema_can_be_made_of_is_told(here: Path, line: str, code: int, part: str) -> None:
    assert_refused(here, line, code, part)


# --- diagnose -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_files_are_those_of_the_library() -> None:
    done = run(FLAT)

    assert done.exit_code == 0, done.output
    expected = diagnose(read_table("people.csv"), "w", surface=SURFACE, id_column="name")
    names = {"summary.json", "flagged.parquet", "influence.parquet", "ess.csv", "reforms.csv"}
    assert set(content(Path("run"))) >= names | {"report.html", ".microcalibrate-run"}
    found = Diagnosis.load("run")
    assert found.flagged.id.tolist() == expected.flagged.id.tolist() == ["r17"]
    assert_allclose(found.influence.share, expected.influence.share)
    assert validate("diagnosis", "run/summary.json")["figures"]["n_flagged"] == 1
    assert "1 of 600 records are flagged" in done.stdout
    assert not done.stderr


@pytest.mark.usefixtures("here")
def test_flagged_records_have_an_exit_code_where_it_is_asked_for() -> None:
    flagged = run(f"{FLAT} --fail-on-flagged --no-report")
    clean = run(f"{FLAT} --fail-on-flagged --no-report --threshold 0.9 --quiet")

    assert flagged.exit_code == FLAGGED
    assert "1 record is flagged: see flagged.csv in run (exit code 3)" in unwrapped(flagged.stderr)
    assert clean.exit_code == 0
    assert not clean.output


@pytest.mark.usefixtures("here")
def test_households_are_diagnosed_with_the_schema_beside_them() -> None:
    done = run(f"{DEEP} --random-reforms person.wages --n-reforms 3 --seed 5 --reform-fraction 0.5")

    assert done.exit_code == 0, done.output
    found, survey = Diagnosis.load("run"), Survey.read("homes")
    wages = survey.tables["person"].wages
    low, high = np.quantile(wages[wages > 0], [0.2, 0.99])
    space = RandomScheduleReforms("wages", low=low, high=high, entity="person")
    expected = diagnose(survey, reforms=space, n_reforms=3, seed=5, reform_fraction=0.5)
    assert found.flagged.id.tolist() == expected.flagged.id.tolist()
    assert found.reforms.description.tolist() == expected.reforms.description.tolist()
    validate("diagnosis", "run/summary.json")


@pytest.mark.usefixtures("here")
def test_reforms_of_a_users_own_module_are_looked_at() -> None:
    done = run(f"{FLAT} --reforms my_policy:LISTED --no-report --quiet")
    one = run(
        f"{FLAT.replace('surface.json', 'my_policy:SURFACE').replace('run', 'one')} --quiet "
        "--reforms my_policy:doubled --no-report"
    )

    assert (done.exit_code, one.exit_code) == (0, 0), done.output + one.output
    found = read_table("run/reforms.csv").set_index("reform")
    assert found.status.to_dict() == {"doubled": "ok", "nothing": "inert"}
    assert read_table("one/reforms.csv").status.tolist() == ["ok"]
    assert Diagnosis.load("one").settings["surface"]["slices"] == []


@pytest.mark.usefixtures("here")
def test_a_reform_that_fails_stops_everything_or_is_listed() -> None:
    stopped = run(f"{FLAT} --reforms my_policy:WITH_BROKEN --no-report")
    assert stopped.exit_code == FAILURE
    assert "no such parameter" in unwrapped(stopped.stderr)
    assert not Path("run").exists()

    listed = run(f"{FLAT} --reforms my_policy:WITH_BROKEN --no-report --on-error record --quiet")
    assert listed.exit_code == 0, listed.output
    found = read_table("run/reforms.csv").set_index("reform")
    assert found.status["broken"] == "failed"
    assert "no such parameter" in found.message["broken"]


@pytest.mark.usefixtures("here")
def test_records_are_left_out_and_weights_fitted_to_targets_again() -> None:
    people = read_table("people.csv")
    rows = [
        ("all", people.w.sum(), "age >= 0"),
        ("aged", people.w[people.age >= 65].sum(), "age >= 65"),
    ]
    pd.DataFrame(rows, columns=["name", "value", "filter"]).to_csv("targets.csv", index=False)

    done = run(f"{FLAT} --targets targets.csv --left-out 2 --no-report")

    assert done.exit_code == 0, done.output
    assert "weights fitted again: 2 records" in unwrapped(done.output)
    validate("diagnosis", "run/summary.json")
    found = Diagnosis.load("run")
    assert found.left_out["id"].tolist()[0] == "r17"
    assert found.settings["n_left_out"] == 2


@pytest.mark.usefixtures("here")
def test_the_origin_of_records_can_be_a_column() -> None:
    people = read_table("people.csv")
    clones = pd.concat([people, people.loc[[17] * 9]], ignore_index=True)
    clones.loc[clones.name == "r17", "w"] /= 10
    clones["origin"] = clones.name
    clones["name"] = range(len(clones))
    clones.to_csv("people.csv", index=False)

    assert run(f"{FLAT} --lineage origin --no-report --quiet").exit_code == 0

    found = Diagnosis.load("run").summary_figures
    assert found["largest_share"] < 0.1
    assert found["n_lineages"] == 600
    assert found["largest_lineage_share"] > 0.1


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (f"{FLAT} --n-reforms 3", BAD_USAGE, "--n-reforms acts only on reforms"),
        (f"{FLAT} --seed 3", BAD_USAGE, "--seed acts only on reforms"),
        (f"{FLAT} --reforms my_policy", BAD_USAGE, "is no module:object"),
        (f"{FLAT} --reforms my_policy:NONE", BAD_USAGE, "the module my_policy has no NONE"),
        (f"{FLAT} --reforms no_policy:X", BAD_USAGE, "importing no_policy failed"),
        (f"{FLAT} --reforms my_policy:LISTED --n-reforms 3", BAD_USAGE, "--n-reforms is for"),
        (f"{FLAT} --random-reforms wealth", FAILURE, 'no column "wealth"'),
        (f"{FLAT} --random-reforms income --reforms my_policy:LISTED", BAD_USAGE, "not both"),
        (f"{FLAT} --threshold 2", BAD_USAGE, "--threshold 2.0"),
        (f"{FLAT} --left-out 3", BAD_USAGE, "--left-out needs --targets"),
        (f"{FLAT} --on-error ignore --reforms my_policy:LISTED", BAD_USAGE, "--on-error"),
        (FLAT.replace("surface.json", "people.csv"), FAILURE, ".json"),
        (FLAT.replace("--weight w ", ""), BAD_USAGE, "needs --weight"),
        (FLAT.replace("--weight w", "--weight v"), FAILURE, "no column 'v'"),
        (f"{DEEP} --weight w", BAD_USAGE, "--weight is for a table without a schema"),
        (f"{DEEP} --random-reforms wages", BAD_USAGE, "must be entity.column"),
        ("diagnose homes --schema people.csv --out run", FAILURE, ".json"),
        ("diagnose . --out run", BAD_USAGE, "needs --schema"),
        ("diagnose old.h5 --weight w --out run", FAILURE, "HDF5"),
    ],
)
def test_what_cannot_be_honoured_is_told_and_writes_nothing(
    here: Path, line: str, code: int, part: str
) -> None:
    before = content(here)

    done = run(line)

    assert part in unwrapped(done.stderr)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    left = {name: text for name, text in content(here).items() if "__pycache__" not in name}
    assert left == before


# --- The page -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_page_is_rendered_from_what_was_saved() -> None:
    assert run(f"{FLAT} --reforms my_policy:LISTED --quiet").exit_code == 0
    written = Path("run/report.html").read_bytes()

    done = run("report run --out again.html")

    assert done.exit_code == 0, done.output
    assert Path("again.html").read_bytes() == written


@pytest.mark.usefixtures("here")
def test_nothing_on_the_page_is_loaded_and_no_text_is_a_tag() -> None:
    assert run(f"{FLAT} --reforms my_policy:LISTED --quiet").exit_code == 0
    page = Path("run/report.html").read_text(encoding="utf-8")

    assert_self_contained(page)
    assert "\u202e" not in page
    reader = Reader(page)
    figures = reader.figures()
    assert set(figures) == {"influence", "heat-map", "kish", "reforms", "weights", "potter"}
    for figure in figures.values():
        assert_no_tags(figure)
    # Names of statistics are whole, with metric, slice and cell.
    cells = {row[0] for row in reader.table("Cell")}
    assert any(cell.startswith(f"sex = {HOSTILE[:20]}") for cell in cells)
    flagged = reader.table("Record")
    assert flagged[0][0] == "r17"
    assert "income" in flagged[0][1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("named", ["", "--id name"])
def test_the_weights_of_a_calibration_are_diagnosed(named: str) -> None:
    """The same as the library finds with these weights, zeros of dropped records included."""
    from microcalibrate.result import CalibrationResult

    people = pd.read_csv("people.csv")
    total = float((people.w * people.age).sum())
    pd.DataFrame({"name": ["age"], "value": [1.1 * total]}).to_csv("goals.csv", index=False)
    calibrate = f"calibrate people.csv --weight w {named} --targets goals.csv --records 300"
    assert run(f"{calibrate} --out fit --quiet").exit_code == 0

    words = f"diagnose people.csv --run fit {named} --surface surface.json --out run --quiet"
    assert run(words).exit_code == 0

    fitted = CalibrationResult.load("fit").weights
    found = Diagnosis.load("run").records.set_index("id")
    expected = diagnose(
        people, weights=fitted, id_column=named[5:] or None, surface=SURFACE
    ).records.set_index("id")
    assert (fitted == 0).sum() == 300
    assert_allclose(found.weight, expected.weight.reindex(found.index))
    assert_allclose(found.share, expected.share.reindex(found.index))


@pytest.mark.usefixtures("here")
def test_weights_come_from_one_place() -> None:
    found = run("diagnose people.csv --weight w --run fit --surface surface.json --out run")

    assert found.exit_code == BAD_USAGE
    assert "both say which weights" in unwrapped(found.output)
