"""`microcalibrate evaluate`: the library's figures, from a line of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from microcalibrate import Calibration, evaluate_robustness
from microcalibrate.cli import BAD_USAGE, CANCELLED, FAILURE, UNCERTIFIED
from microcalibrate.io import read_table
from microcalibrate.progress import ProgressBar
from microcalibrate.targets import build_targets

from .test_cli import content, interrupt, run, unwrapped

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


def write_people(folder: Path) -> None:
    rng = np.random.default_rng(11)
    n = 240
    people = pd.DataFrame(
        {
            "name": [f"r{i}" for i in range(n)],
            "w": rng.uniform(50, 150, n),
            "state": rng.choice(["CA", "NY", "TX", "WY"], n),
            "age": rng.integers(0, 90, n),
            "income": rng.gamma(1.0, 20_000, n).round(),
            "rent": rng.gamma(2.0, 6_000, n).round(),
            "gaps": [np.nan, *rng.uniform(size=n - 1)],
        }
    )
    people.to_csv(folder / "people.csv", index=False)
    rows = []
    for state, part in people.groupby("state"):
        where = f"state == '{state}'"
        rows.append((f"people/{state}", 1.05 * part.w.sum(), None, where, "people"))
        total = (part.w * part.income).sum()
        rows.append((f"income/{state}", 1.1 * total, "income", where, "income"))
    rows.append(("elderly", 0.3 * people.w.sum(), None, "age >= 65", None))
    columns = ["name", "value", "variable", "filter", "family"]
    declared = pd.DataFrame(rows, columns=columns)
    declared.to_csv(folder / "targets.csv", index=False)
    built = build_targets(people, declared, initial_weights=people.w)
    problem = folder / "problem"
    problem.mkdir()
    sp.save_npz(problem / "matrix.npz", built.matrix)
    np.savez(problem / "weights.npz", weights=people.w.to_numpy())
    stored = pd.DataFrame({"name": built.names, "target": built.values, "family": built.families})
    stored.to_csv(problem / "targets.csv", index=False)
    np.savez(folder / "variables.npz", matrix=people[["rent", "age"]].to_numpy())


def arguments() -> dict[str, Any]:
    """The same data as the library takes them."""
    people, declared = read_table("people.csv"), read_table("targets.csv")
    built = build_targets(people, declared, initial_weights=people.w)
    return {
        "weights": people.w,
        "targets": built.values,
        "estimate_matrix": built.matrix,
        "target_names": built.names,
        "scales": built.scales,
    }


def figures(folder: str = "run") -> dict[str, float]:
    values = json.loads(Path(folder, "robustness.json").read_text("utf-8"))["figures"]
    return {name: value for name, value in values.items() if value is not None}


# --- Done -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_figures_are_those_of_the_library() -> None:
    done = run(f"{TABLE} --id name --folds 3 --records 60 --draws 2 --untargeted rent --seed 4")

    expected = evaluate_robustness(
        **arguments(),
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
    before = content(here)

    done = run(line)

    assert part in unwrapped(done.stderr)
    assert "Traceback" not in done.output
    assert done.exit_code == code
    assert content(here) == before


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
