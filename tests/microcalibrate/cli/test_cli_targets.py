"""`microcalibrate targets`: the library's analysis, from a line of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import analyse_targets
from microcalibrate.cli import BAD_USAGE, CANCELLED, FAILURE, UNCERTIFIED
from microcalibrate.engine.dual_newton import DualNewton
from microcalibrate.engine.interior_point import InteriorPoint
from microcalibrate.io import read_table

from ..commands import assert_refused, interrupt, run, unwrapped
from ..files import content

TABLE = "targets people.csv --weight w --targets targets.csv --out run"
TABLES = {"target_analysis.csv", "target_conflicts.csv", "target_conflict_matrix.npz"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with records and targets, one out of reach at ratios up to 3, one made up."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    n = 200
    people = pd.DataFrame(
        {"name": range(n), "w": rng.uniform(50, 150, n), "age": rng.integers(0, 90, n)}
    )
    people["income"] = rng.gamma(2.0, 20_000, n).round()
    people.to_csv(tmp_path / "people.csv", index=False)
    whole = people.w.sum()
    rows = [
        ("young", 0.9 * whole * (people.age < 40).mean(), "age < 40"),
        ("old", 1.1 * whole * (people.age >= 40).mean(), "age >= 40"),
        ("all", 1.3 * whole, "age >= 0"),
        ("aged 70\u202e", 9 * people.w[people.age == 70].sum(), "age == 70"),
    ]
    declared = pd.DataFrame(rows, columns=["name", "value", "filter"])
    declared.to_csv(tmp_path / "targets.csv", index=False)
    return tmp_path


def arguments() -> dict[str, Any]:
    """The same data as the library takes them."""
    people, declared = read_table("people.csv"), read_table("targets.csv")
    age = people.age
    masks = [age < 40, age >= 40, age >= 0, age == 70]
    return {
        "weights": people.w,
        "targets": declared.value,
        "estimate_matrix": np.column_stack(masks).astype(float),
        "target_names": declared.name,
    }


@pytest.mark.usefixtures("here")
def test_the_tables_are_those_of_the_library() -> None:
    done = run(f"{TABLE} --max-ratio 3 --id name")

    expected = analyse_targets(**arguments(), max_weight_ratio=3.0)
    assert done.exit_code == 0, done.output
    assert set(content(Path("run"))) >= TABLES | {"report.html", ".microcalibrate-run"}
    found = read_table("run/target_analysis.csv")
    assert found.name.tolist() == expected.table.name.tolist()
    assert found.kind.tolist() == expected.table.kind.tolist()
    assert_allclose(found.error, expected.table.error, rtol=1e-6, atol=1e-9)
    assert not done.stderr


@pytest.mark.usefixtures("here")
def test_the_worst_targets_are_printed_first_and_with_their_figures() -> None:
    done = run(f"{TABLE} --max-ratio 3 --no-report")

    table = done.stdout[done.stdout.index("rank  target") :].splitlines()
    assert "out of reach" in unwrapped(done.stdout)
    assert table[1].split()[:2] == ["1", "aged"]
    assert "unreachable" in table[1]
    assert "−88.9%" in table[1]  # of a ninth that the design weights give
    assert len({line.index("error") for line in table if "error" in line}) == 1
    assert "\u202e" not in done.stdout


@pytest.mark.usefixtures("here")
def test_every_option_reaches_the_analysis() -> None:
    asked = {"loosening": 0.05, "least_miss": 0.5, "min_explained": 0.9, "closeness": 1e-3}
    done = run(
        f"{TABLE} --max-ratio 40 --min-ratio 0.1 --tolerance 0.5 --distance raking "
        "--closeness 1e-3 --loosening 0.05 --least-miss 0.5 --min-explained 0.9 --resolve 2 "
        "--max-iter 90 --no-report --quiet"
    )

    expected = analyse_targets(
        **arguments(),
        **asked,
        distance="raking",
        max_weight_ratio=40.0,
        min_weight_ratio=0.1,
        tolerances=0.5,
        n_resolve=2,
        max_iter=90,
    )
    assert done.exit_code == 0, done.output
    assert not done.output
    assert "report.html" not in content(Path("run"))
    found = read_table("run/target_analysis.csv")
    figures = ["loosen_objective", "explained", "exact_drop_objective", "lowest", "highest"]
    assert_allclose(found[figures], expected.table[figures], rtol=1e-6, atol=1e-12)
    assert found.exact_drop_objective.notna().sum() == 2
    assert found.kind.tolist() == expected.table.kind.tolist()


@pytest.mark.usefixtures("here")
def test_a_saved_calibration_saves_the_solve() -> None:
    same = "people.csv --weight w --targets targets.csv --closeness 1e-3 --max-ratio 3 --quiet"
    assert run(f"calibrate {same} --out saved").exit_code == 0
    assert run(f"targets {same} --out run").exit_code == 0

    done = run(f"targets {same.replace('--closeness 1e-3', '')} --out again --run saved")

    assert done.exit_code == 0, done.output
    found, expected = (read_table(f"{name}/target_analysis.csv") for name in ("again", "run"))
    assert_allclose(found.error, expected.error, rtol=1e-4, atol=1e-7)
    assert_allclose(found.price, expected.price, rtol=1e-4, atol=1e-9)


@pytest.mark.usefixtures("here")
def test_rough_figures_have_an_exit_code() -> None:
    done = run(f"{TABLE} --max-ratio 1.2 --max-iter 1 --quiet")

    assert done.exit_code == UNCERTIFIED
    assert "Raise `--max-iter`" in unwrapped(done.stderr)
    assert set(content(Path("run"))) >= TABLES


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (f"{TABLE} --loosening 0", BAD_USAGE, "--loosening 0.0 must be a positive number"),
        (f"{TABLE} --min-explained 1", BAD_USAGE, "--min-explained 1.0 must be between"),
        (f"{TABLE} --resolve -1", BAD_USAGE, "--resolve"),
        (f"{TABLE} --records 5", BAD_USAGE, "--records"),
        (f"{TABLE} --min-ratio 2 --max-ratio 2", BAD_USAGE, "--min-ratio equals --max-ratio"),
        (f"{TABLE} --run nowhere", FAILURE, "nowhere/result.json does not exist"),
        (f"{TABLE} --id age", FAILURE, "does not name every record differently"),
        (TABLE.replace("people", "nobody"), FAILURE, "nobody.csv does not exist"),
    ],
)
def test_what_cannot_be_honoured_is_told_and_writes_nothing(
    here: Path, line: str, code: int, part: str
) -> None:
    assert_refused(here, line, code, part)


def test_a_run_of_fewer_records_is_refused_in_the_words_of_the_command_line(here: Path) -> None:
    few = "calibrate people.csv --weight w --targets targets.csv --records 50 --out few --quiet"
    assert run(few).exit_code == 0

    done = run(f"{TABLE} --run few")

    assert done.exit_code == BAD_USAGE
    assert "Leave `--run` out, or calibrate with --l0-lambda 0." in unwrapped(done.stderr)
    assert not (here / "run").exists()


@pytest.mark.usefixtures("here")
def test_a_saved_calibration_is_not_replaced_by_its_analysis() -> None:
    saved = "calibrate people.csv --weight w --targets targets.csv --out run --quiet"
    assert run(saved).exit_code == 0
    before = content(Path("run"))

    done = run(f"{TABLE} --run run")

    assert done.exit_code == BAD_USAGE
    assert "which is replaced as a whole" in unwrapped(done.stderr)
    assert content(Path("run")) == before


def test_ctrl_c_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(here)
    for engine in (InteriorPoint, DualNewton):
        monkeypatch.setattr(engine, "step", interrupt)

    done = run(f"{TABLE} --max-ratio 1.2")

    assert done.exit_code == CANCELLED
    assert "nothing was written" in done.stderr
    assert content(here) == before
