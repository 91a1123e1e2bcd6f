"""`microcalibrate evaluate`: the library's figures, from a line of text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration, evaluate_robustness
from microcalibrate.cli import BAD_USAGE, CANCELLED, FAILURE, UNCERTIFIED
from microcalibrate.io import read_table
from microcalibrate.progress import ProgressBar

from ..commands import assert_refused, interrupt, run, unwrapped
from ..files import content
from .people import problem, write_people

FILES = {
    ".microcalibrate-run",
    "bootstrap.csv",
    "draws.csv",
    "drift.csv",
    "folds.csv",
    "report.html",
    "robustness.json",
    "targets.csv",
}
TABLE = "evaluate people.csv --weight w --targets targets.csv --out run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with records of four states and nine targets, and the same as a problem."""
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path)
    return tmp_path


def figures(folder: str = "run") -> dict[str, float]:
    values = json.loads(Path(folder, "robustness.json").read_text("utf-8"))["figures"]
    return {name: value for name, value in values.items() if value is not None}


# --- Done -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_figures_are_those_of_the_library() -> None:
    done = run(f"{TABLE} --id name --folds 3 --records 60 --draws 2 --untargeted rent --seed 4")

    expected = evaluate_robustness(
        **problem(),
        n_folds=3,
        target_records=60,
        n_draws=2,
        untargeted=read_table("people.csv")[["rent"]],
        seed=4,
    )
    assert done.exit_code == 0, done.output
    assert set(content(Path("run"))) >= FILES
    found = figures()
    assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-12)
    drift = read_table("run/drift.csv")
    assert drift.variable.tolist() == ["rent"]
    assert_allclose(drift.draw_drift, expected.drift.draw_drift, rtol=1e-12)
    assert unwrapped(expected.summary()) in unwrapped(done.stdout)
    assert "written to run" in done.stdout
    assert not done.stderr


@pytest.mark.usefixtures("here")
def test_every_option_reaches_the_evaluation() -> None:
    done = run(
        f"{TABLE} --folds 2 --groups family --l0-lambda 0.05 --draws 2 --bootstrap 2 --no-random "
        "--max-ratio 40 --min-ratio 0.1 --tolerance 0.5 --distance raking --closeness 1e-3 "
        "--kappa 2 --selection random --seed 7 --max-iter 90 --no-report --quiet"
    )

    assert done.exit_code == 0, done.output
    assert not done.output
    assert set(content(Path("run"))) & {*FILES, "report.html"} == FILES - {"report.html"}
    stored = json.loads(Path("run/robustness.json").read_text("utf-8"))
    asked = {
        "l0_lambda": 0.05,
        "max_weight_ratio": 40.0,
        "min_weight_ratio": 0.1,
        "distance": "raking",
        "closeness": 1e-3,
        "kappa": 2.0,
        "selection": "random",
        "seed": 7,
        "max_iter": 90,
        "n_folds": 2,
        "groups": "family",
        "n_draws": 2,
        "n_bootstrap": 2,
    }
    assert asked.items() <= stored["settings"].items()
    assert stored["random"] is None
    groups = read_table("run/targets.csv").set_index("name").group
    assert groups["people/CA"] == groups["people/WY"] != groups["income/CA"]
    assert len(read_table("run/bootstrap.csv")) == 2


@pytest.mark.usefixtures("here")
def test_a_folder_gives_the_same_as_its_table() -> None:
    table = run(f"{TABLE} --folds 3 --groups none --untargeted rent --untargeted age --quiet")
    folder = run(
        "evaluate problem --out again --folds 3 --groups none --untargeted variables.npz --quiet"
    )

    assert table.exit_code == folder.exit_code == 0, table.output + folder.output
    again = figures("again")
    assert_allclose(list(again.values()), list(figures().values()), rtol=1e-9)
    drift = read_table("run/drift.csv").fold_drift
    assert_allclose(read_table("again/drift.csv").fold_drift, drift, rtol=1e-9)


@pytest.mark.usefixtures("here")
def test_solves_without_certificate_have_an_exit_code() -> None:
    done = run(f"{TABLE} --folds 2 --max-ratio 1.1 --max-iter 1 --quiet")

    assert done.exit_code == UNCERTIFIED
    assert "Without certificate" in done.stderr
    assert "written to run" in unwrapped(done.stderr)
    assert set(content(Path("run"))) >= FILES


# --- Not done -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (f"{TABLE} --no-random", BAD_USAGE, "--no-random acts only when records are chosen"),
        (f"{TABLE} --kappa 2", BAD_USAGE, "--kappa acts only when records are chosen"),
        (f"{TABLE} --draws 2", BAD_USAGE, "--draws 2 needs records to be drawn"),
        (f"{TABLE} --records 5 --l0-lambda 1", BAD_USAGE, "not both"),
        (f"{TABLE} --groups hair", BAD_USAGE, "correlation, family, names or none"),
        (f"{TABLE} --folds 50 --groups none", BAD_USAGE, "too few for --folds 50"),
        (f"{TABLE} --folds 1", BAD_USAGE, "--folds"),
        (f"{TABLE} --untargeted hair", FAILURE, "there is no column 'hair'"),
        (f"{TABLE} --untargeted state", FAILURE, "has text in it"),
        (f"{TABLE} --untargeted gaps", FAILURE, "missing or infinite in 1 records"),
        (f"{TABLE} --id state", FAILURE, "does not name every record differently"),
        (TABLE.replace("run", "problem"), FAILURE, "not of an earlier run"),
        ("evaluate problem --out run --untargeted rent", FAILURE, "rent does not exist"),
        (
            "evaluate problem --out run --untargeted a.npz --untargeted b.npz",
            BAD_USAGE,
            "--untargeted is given 2 times",
        ),
        ("evaluate problem --out . --untargeted variables.npz", FAILURE, "not of an earlier run"),
    ],
)
def test_what_cannot_be_honoured_is_told_and_writes_nothing(
    here: Path, line: str, code: int, part: str
) -> None:
    assert_refused(here, line, code, part)


def test_variables_inside_the_run_are_not_deleted(here: Path) -> None:
    assert run(f"{TABLE} --folds 2 --no-report").exit_code == 0
    (here / "variables.npz").rename(here / "run" / "variables.npz")

    done = run("evaluate problem --out run --untargeted run/variables.npz")

    assert done.exit_code == BAD_USAGE
    assert "which is replaced as a whole" in unwrapped(done.stderr)
    assert (here / "run" / "variables.npz").exists()


def test_ctrl_c_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(here)
    monkeypatch.setattr(ProgressBar, "show", interrupt)

    done = run(f"{TABLE} --folds 2 --max-ratio 1.2 --tolerance 0.3")

    assert done.exit_code == CANCELLED
    assert "nothing was written" in done.stderr
    assert content(here) == before


def test_a_missing_plotly_is_told_before_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(Calibration, "__init__", None)

    done = run(TABLE)

    assert done.exit_code == FAILURE
    assert "pip install 'microcalibrate[viz]'" in unwrapped(done.stderr)
    assert not (here / "run").exists()
