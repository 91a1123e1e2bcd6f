"""From tables to spread records by the command line alone: train, regularise, compare, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import CalibrationResult
from microcalibrate.cli import BAD_USAGE, FAILURE, POOR_MODEL, ROLLED_BACK
from microcalibrate.io import read_table, write_json
from microcalibrate.regularise import Schema, Survey
from microcalibrate.regularise.result import RegulariseResult
from microcalibrate.regularise.trained import TrainedModel
from microcalibrate.reports.comparison import compare_runs

from ..commands import assert_refused, run, unwrapped
from ..files import content
from ..households import FLAT, SCHEMA, TWO_LEVELS, make_survey
from ..pages import Reader, assert_no_tags, assert_self_contained
from ..published import validate

KINDS = {"flat": FLAT, "two": TWO_LEVELS, "three": SCHEMA}
HEAVY = 25
TRAIN = "train homes --backend hotdeck --out model --no-report --quiet"
SPREAD = (
    "regularise homes --model model --targets targets.csv --surface surface.json --out run "
    "--allow-poor-model --max-rounds 2 --batch 3"
)


def prepare(schema: Schema, format: str = "parquet") -> Survey:
    """Households of which one is far too heavy, its targets and what is reported, in files."""
    survey = make_survey([1, 2, 3, 2] * 100, 4, schema=schema)
    units = survey.tables[survey.unit]
    weights = np.full(len(units), 100.0)
    weights[HEAVY] = 6_000.0
    columns = {name: weights for name in (schema.weight, schema.base_weight) if name}
    survey = Survey({**survey.tables, survey.unit: units.assign(**columns)}, schema)
    survey.write(Path("homes"), format=format)  # type: ignore[arg-type]
    people, place = survey.tables["person"], survey.unit_positions("person")
    of_rows = weights[place]
    rows = [
        ("persons", of_rows.sum() * 0.98, None, "age >= 0"),
        ("wages", (of_rows * people.wages).sum() * 0.95, "wages", None),
        ("elderly", (of_rows * (people.age >= 65)).sum() * 1.05, None, "age >= 65"),
    ]
    targets = pd.DataFrame(rows, columns=["name", "value", "variable", "filter"])
    targets.assign(entity="person").to_csv("targets.csv", index=False)
    metrics = [{"name": "persons", "value": "1", "entity": "person"}]
    metrics += [{"name": name, "value": name, "entity": "person"} for name in ("wages", "age")]
    write_json({"metrics": metrics, "slices": []}, "surface.json")
    return survey


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a flat table and a model that was trained on it, with its page."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(FLAT)
        assert run(TRAIN.replace(" --no-report", "")).exit_code == POOR_MODEL
    return folder


@pytest.fixture
def trained(once: Path, here: Path) -> Path:
    """A copy of that folder to work in."""
    shutil.copytree(once, here, dirs_exist_ok=True)
    return here


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_whole_way_by_the_command_line_alone(kind: str) -> None:
    """Flat, two levels and three levels: diagnose, train, regularise."""
    format = "csv" if kind == "two" else "parquet"
    before = prepare(KINDS[kind], format)

    found = run("diagnose homes --surface surface.json --out found --fail-on-flagged --no-report")
    assert found.exit_code == 3, found.output
    trained = run(TRAIN)
    # A hot deck copies real records by design, so it fails the gates on copies.
    assert trained.exit_code == POOR_MODEL, trained.output
    assert "regularise` takes it only with --allow-poor-model" in unwrapped(trained.stderr)
    spread = run(f"{SPREAD} --no-report")

    assert spread.exit_code in (0, ROLLED_BACK), spread.output
    assert spread.exception is None or isinstance(spread.exception, SystemExit)
    result = RegulariseResult.load("run")
    assert spread.exit_code == (ROLLED_BACK if result.rolled_back else 0)
    validate("model", "model/trained.json")
    validate("quality", "model/quality/quality.json")
    validate("regularise", "run/regularise.json")
    validate("diagnosis", "run/before/summary.json")
    tables = {f"{entity.name}.{format}" for entity in KINDS[kind].entities}
    assert set(content(Path("run/tables"))) == tables | {"schema.json"}
    assert len(result.survey.unit_ids) == len(before.unit_ids) + sum(result.rounds.added)
    marks = result.survey.tables[before.unit]["_mc_synthetic"]
    assert int(marks.sum()) == len(result.lineage)
    # What comes out goes in again.
    line = "diagnose run/tables --surface surface.json --flag-dominating --out again --no-report"
    again = run(line)
    assert again.exit_code == 0, again.output
    assert_allclose(
        json.loads(Path("again/summary.json").read_text())["figures"]["largest_lineage_share"],
        json.loads(Path("run/after/summary.json").read_text())["figures"]["largest_lineage_share"],
    )


@pytest.mark.usefixtures("trained")
def test_what_is_trained_is_what_is_loaded() -> None:
    again = run(TRAIN.replace("--out model", "--out again").replace(" --no-report", ""))

    assert again.exit_code == POOR_MODEL
    assert content(Path("again")) == content(Path("model"))
    model = TrainedModel.load("model")
    assert not model.passed
    assert any("copies" in sentence for sentence in model.quality.failures)
    assert model.settings["n_held_out"] == 160
    assert model.summary().startswith("Failed:")


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (SPREAD.replace("--allow-poor-model ", ""), BAD_USAGE, "add --allow-poor-model"),
        (f"{SPREAD} --n-reforms 2", BAD_USAGE, "--n-reforms"),
        (f"{SPREAD} --mode keep", BAD_USAGE, "--mode"),
        (f"{SPREAD} --cap -1", BAD_USAGE, "--cap"),
        (f"{SPREAD} --stability-seeds 3", BAD_USAGE, "--stability-seeds"),
        (SPREAD.replace("targets.csv", "nothing.csv"), FAILURE, "nothing.csv does not exist"),
        (SPREAD.replace("--model model", "--model homes"), FAILURE, "trained.json"),
        (f"{SPREAD} --schema other.json", FAILURE, "another schema"),
        ("train homes --backend tvae --out m", BAD_USAGE, "--backend"),
        ("train homes --backend hotdeck --epochs 3 --out m", BAD_USAGE, "--epochs"),
        ("train homes --backend hotdeck --held-out 0.9 --out m", BAD_USAGE, "--held-out"),
        ("train homes --backend hotdeck --held-out 0.01 --out m", BAD_USAGE, "--held-out"),
    ],
)
def test_what_cannot_be_honoured_is_told_and_writes_nothing(
    trained: Path, line: str, code: int, part: str
) -> None:
    schema = FLAT.to_json()
    schema["constraints"] = [{"condition": "person", "holds": "age >= 0"}]
    write_json(schema, "other.json")
    assert_refused(trained, line, code, part)


@pytest.mark.usefixtures("trained")
def test_a_run_without_rounds_gives_the_tables_back() -> None:
    before = Survey.read("homes")

    done = run(f"{SPREAD.replace('--max-rounds 2', '--max-rounds 0')} --no-report --quiet")

    assert done.exit_code == 0, done.output
    assert not done.output
    after = Survey.read("run/tables")
    for name, table in before.tables.items():
        pd.testing.assert_frame_equal(after.tables[name][list(table.columns)], table)


@pytest.mark.usefixtures("trained")
def test_the_american_spelling_is_the_same_command() -> None:
    zero = SPREAD.replace("--max-rounds 2", "--max-rounds 0") + " --no-report --quiet"

    assert run(zero).exit_code == 0
    assert (
        run(zero.replace("regularise", "regularize").replace("--out run", "--out two")).exit_code
        == 0
    )

    assert "regularize" not in run("--help").stdout
    one, two = content(Path("run")), content(Path("two"))
    assert {name for name in one if one[name] != two[name]} <= {"timing.json"}


# --- The page -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trained")
def test_pages_are_rendered_from_what_was_saved_and_load_nothing() -> None:
    assert run(f"{SPREAD} --quiet").exit_code in (0, ROLLED_BACK)

    for folder in ("model", "run"):
        written = Path(folder, "report.html").read_text(encoding="utf-8")
        assert run(f"report {folder} --out again.html").exit_code == 0
        assert Path("again.html").read_text(encoding="utf-8") == written
        assert_self_contained(written)
        for figure in Reader(written).figures().values():
            assert_no_tags(figure)
    result = RegulariseResult.load("run")
    head = written[: written.index('<ul class="tiles">')]
    if result.changed:
        assert "nobody was interviewed for them" in head
    else:
        assert "the tables hold respondents alone" in head
    # By record and by origin, before and after, side by side.
    rows = {row[0]: row[1:] for row in Reader(written).table("")}
    then, now = result.before.summary_figures, result.after.summary_figures
    assert rows["Number"] == [
        f"{figures[key]:,}" for key in ("n_units", "n_lineages") for figures in (then, now)
    ]


# --- compare --------------------------------------------------------------------------------------


@pytest.fixture
def calibrations(here: Path) -> Path:
    """Two calibrations of the same records; the second has one target more, and bounds."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"w": np.full(300, 100.0), "age": rng.integers(0, 90, 300)})
    people.to_csv("people.csv", index=False)
    rows = [("young", 9_000, "age < 30"), ("old", 9_000, "age >= 60"), ("=all", 31_000, "age >= 0")]
    for name, chosen in (("two", rows[:2]), ("three", rows)):
        table = pd.DataFrame(chosen, columns=["name", "value", "filter"])
        table.to_csv(f"{name}.csv", index=False)
    line = "calibrate people.csv --weight w --no-report --quiet"
    assert run(f"{line} --targets two.csv --out A").exit_code == 0
    assert run(f"{line} --targets three.csv --out B --max-ratio 1.02").exit_code == 0
    return here


@pytest.mark.usefixtures("calibrations")
def test_two_calibrations_are_compared() -> None:
    done = run("compare A B --out both")

    assert done.exit_code == 0, done.output
    one, other = (CalibrationResult.load(name) for name in ("A", "B"))
    found = compare_runs("A", "B")
    table = found.targets.set_index("name")
    errors = other.targets.set_index("name").error
    assert table.change.to_dict() == {"young": "worsened", "old": "worsened", "=all": "second only"}
    assert_allclose(table.second_error["young"], errors["young"])
    assert_allclose(found.weights["first"], one.weights)
    kish = found.statistics.set_index("statistic").loc["Kish effective sample size"]
    assert_allclose(
        [kish["first"], kish["second"]], [r.statistics["after"]["kish"] for r in (one, other)]
    )
    assert found.settings.setting.tolist().count("max_weight_ratio") == 1
    assert "0 targets are closer in B, 2 are farther" in done.stdout
    validate("comparison", "both/comparison.json")
    # A spreadsheet would take the name for a formula.
    assert "'=all" in set(read_table("both/targets.csv").name)
    assert_self_contained(Path("both/report.html").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("calibrations")
def test_a_run_compared_with_itself_is_alike() -> None:
    found = compare_runs("A", "A")

    assert found.counts() == {"alike": 2}
    assert found.settings.empty
    assert "0% of the weight lies on other records" in found.about_weights()


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        ("compare A nowhere", FAILURE, "nowhere is not a folder"),
        ("compare A diagnosis", FAILURE, "Compare two runs of one kind"),
        ("compare A B --out B", BAD_USAGE, "which is replaced as a whole"),
        ("compare A B --quiet", BAD_USAGE, "would do nothing"),
    ],
)
def test_what_cannot_be_compared_is_told(
    calibrations: Path, line: str, code: int, part: str
) -> None:
    assert run("diagnose people.csv --weight w --out diagnosis --no-report").exit_code == 0
    assert_refused(calibrations, line, code, part)


@pytest.mark.usefixtures("calibrations")
def test_two_diagnoses_are_compared() -> None:
    line = "diagnose people.csv --weight w --no-report --quiet"
    assert run(f"{line} --out one").exit_code == 0
    assert run(f"{line} --out two --threshold 0.2").exit_code == 0

    done = run("compare one two")

    assert done.exit_code == 0, done.output
    assert "largest share of an origin" in done.stdout
    assert "threshold: 0.05 → 0.2" in done.stdout
