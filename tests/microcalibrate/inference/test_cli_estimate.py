"""`microcalibrate estimate`: the library's figures, from a line of text."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.cli import BAD_USAGE, CANCELLED, FAILURE
from microcalibrate.inference import (
    DesignVarianceWarning,
    ReplicateWeights,
    Replication,
    SurveyDesign,
    count,
    difference,
    estimate,
    mean,
    quantile,
    ratio,
    replicate_weights,
    total,
)
from microcalibrate.inference.variance import variance_of_totals
from microcalibrate.io import read_table

from ..commands import interrupt, run
from .surveys import columns_of, people

DESIGN = SurveyDesign(psu="cluster", strata="stratum")
BASE = "estimate run people.csv --targets targets.csv --quiet --out found.csv"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a survey, its targets, and a run of them."""
    monkeypatch.chdir(tmp_path)
    data = people()
    data.to_csv("people.csv", index=False)
    values = columns_of(data).T @ data["weight"].to_numpy() * [1.05, 1.02, 1.08]
    rows = [
        {"name": "persons", "aggregate": "count", "tolerance": 0.0, "standard_error": 50.0},
        {"name": "women", "filter": "sex == 'f'", "tolerance": 0.0},
        {"name": "age", "standard_error": 900.0},
    ]
    table = pd.DataFrame(rows).assign(value=values)
    table.to_csv("targets.csv", index=False)
    calibrate = "calibrate people.csv --weight weight --targets targets.csv --quiet --no-report"
    assert run(f"{calibrate} --distance raking --max-ratio 3 --out run").exit_code == 0
    assert run(f"{calibrate} --records 90 --out chosen").exit_code == 0
    return tmp_path


def library(**options: Any) -> Calibration:
    made = Calibration.from_table(read_table("people.csv"), read_table("targets.csv"), **options)
    made.calibrate(progress=False)
    return made


def test_estimates_are_those_of_the_library(here: Path) -> None:
    line = (
        f"{BASE} --count --total income --mean age --mean tax --ratio tax/income "
        "--quantile income:0.5 --by sex --strata stratum --psu cluster --level 0.9"
    )
    assert run(line).exit_code == 0
    data = read_table("people.csv")
    asked = [
        count(),
        total("income"),
        mean("age"),
        mean("tax"),
        ratio("tax", "income"),
        quantile("income", 0.5),
    ]
    made = library(distance="raking", max_weight_ratio=3.0)
    expected = estimate(made, asked, data, design=DESIGN, by="sex", level=0.9)

    pd.testing.assert_frame_equal(read_table("found.csv"), expected.table, check_dtype=False)
    assert sorted(path.name for path in here.iterdir()) == [
        "chosen", "found.csv", "people.csv", "run", "targets.csv"
    ]  # fmt: skip


def test_replicates_and_errors_of_targets_are_those_of_the_library(here: Path) -> None:
    line = (
        f"{BASE} --total income --strata stratum --psu cluster --target-errors "
        "--replicates bootstrap --n-replicates 30 --seed 4 --replicates-out wide.parquet"
    )
    assert run(f"{line} --parts parts").exit_code == 0
    data = read_table("people.csv")
    made = library(distance="raking", max_weight_ratio=3.0)
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=30, seed=4)
    replicates = replicate_weights(made, drawn, progress=False)
    errors = {"persons": 50.0, "age": 900.0}
    expected = estimate(made, total("income"), data, replicates=replicates, target_errors=errors)

    assert_allclose(
        read_table("found.csv").drop(columns="statistic").astype(float),
        expected.table.drop(columns="statistic").astype(float),
        rtol=1e-6,
    )
    assert_allclose(ReplicateWeights.load(here / "wide.parquet").weights, replicates.weights)
    assert (here / "parts" / "replication.json").exists()


def test_residuals_make_the_standard_errors(here: Path) -> None:
    line = f"{BASE} --total income --mean age --by sex --strata stratum --psu cluster"
    assert run(f"{line} --residuals residuals.parquet").exit_code == 0
    residuals, found = read_table(here / "residuals.parquet"), read_table(here / "found.csv")
    bound = DESIGN.bind(read_table("people.csv"), len(residuals))
    variance = variance_of_totals(residuals.to_numpy(), bound)

    assert list(residuals)[:2] == ["total(income), sex=f", "total(income), sex=m"]
    assert_allclose(np.sqrt(np.diag(variance)), found["standard_error"], rtol=1e-9)


@pytest.mark.usefixtures("here")
def test_one_group_less_another() -> None:
    line = f"{BASE} --mean income --ratio tax/income --strata stratum --psu cluster"
    done = run(f"""{line} --where "sex == 'm'" --minus "sex == 'f'" """)
    assert done.exit_code == 0, done.output
    both = [
        (mean("income", where=f"sex == '{one}'"), ratio("tax", "income", where=f"sex == '{one}'"))
        for one in "mf"
    ]
    asked = [difference(*pair) for pair in zip(*both, strict=True)]
    made = library(distance="raking", max_weight_ratio=3.0)
    expected = estimate(made, asked, read_table("people.csv"), design=DESIGN)

    pd.testing.assert_frame_equal(read_table("found.csv"), expected.table, check_dtype=False)


@pytest.mark.usefixtures("here")
def test_a_run_of_households_is_made_again() -> None:
    line = "calibrate people.csv --weight weight --targets targets.csv --quiet --no-report"
    assert run(f"{line} --cluster cluster --out run").exit_code == 0
    assert run(f"{BASE} --total income --strata stratum --psu cluster").exit_code == 0
    data = read_table("people.csv")
    made = library(cluster="cluster")
    expected = estimate(made, total("income"), data, design=DESIGN)

    pd.testing.assert_frame_equal(read_table("found.csv"), expected.table, check_dtype=False)


@pytest.mark.parametrize("method", ["jackknife", "brr", "fay --rho 0.3"])
def test_every_kind_of_replicates_can_be_asked_for(here: Path, method: str) -> None:
    data = read_table("people.csv").assign(stratum=lambda d: d["cluster"] // 2)
    data.to_csv("people.csv", index=False)
    line = f"{BASE} --total income --strata stratum --psu cluster --replicates {method}"
    assert run(line).exit_code == 0
    assert here.joinpath("found.csv").exists()


def test_replicate_columns_of_the_data_are_calibrated_anew(here: Path) -> None:
    data = read_table(here / "people.csv")
    made = Replication.jackknife(DESIGN, data)
    wide = made.weights(data["weight"]).weights
    for number, weights in enumerate(wide.T):
        data[f"rw{number + 1}"] = weights
    data.to_csv("people.csv", index=False)
    line = f'{BASE} --total income --replicates "rw*" --replicate-type JK1'
    assert run(line).exit_code == 0
    assert read_table("found.csv")["standard_error"].iloc[0] > 0


def test_chosen_records_are_made_again(here: Path) -> None:
    line = "estimate chosen people.csv --targets targets.csv --total tax --psu cluster --out e.csv"
    result = run(line)
    assert result.exit_code == 0, result.output
    assert read_table(here / "e.csv")["records"].iloc[0] == 90


def test_weights_alone_are_taken_as_given_and_that_is_said(here: Path) -> None:
    result = run("estimate run people.csv --total income --psu cluster")
    assert result.exit_code == 0
    assert "come from elsewhere" in " ".join(result.output.split())
    assert "Give --targets, or --replicates." in " ".join(result.output.split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DesignVarianceWarning)
        weights = library(distance="raking", max_weight_ratio=3.0).weights
        found = estimate(weights, total("income"), read_table(here / "people.csv"))
    assert f"{found.table['estimate'].iloc[0]:,.0f}" in result.output


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("quiet", ["", "--quiet"])
def test_notes_name_options_of_the_command_line(quiet: str) -> None:
    said = run(f"estimate run people.csv --targets targets.csv --mean age {quiet}").output

    assert "give --strata, --psu, --fpc or --replicates." in " ".join(said.split())


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{BASE}", BAD_USAGE, "say what to estimate"),
        (f"{BASE} --ratio tax", BAD_USAGE, "two columns, as tax/income"),
        (f"{BASE} --quantile income", BAD_USAGE, "income:0.5"),
        (f"{BASE} --total income --replicates some", BAD_USAGE, "is not known"),
        (f"{BASE} --total income --n-replicates 20", BAD_USAGE, "--n-replicates does nothing"),
        (f"{BASE} --total income --replicates jackknife --seed 1", BAD_USAGE, "--seed does"),
        (f"{BASE} --total income --replicates-out w.csv", BAD_USAGE, "--replicates-out does"),
        (f"{BASE} --total tax --replicates jackknife --residuals r.csv", BAD_USAGE, "linearised"),
        (f"{BASE} --quantile tax:0.5 --minus 'age > 50'", BAD_USAGE, "has no derivative"),
        (f"{BASE} --total incme", FAILURE, "Did you mean 'income'"),
        (f"{BASE} --total income --psu house", FAILURE, "no column of the data"),
        (f"{BASE} --total income --level 95", BAD_USAGE, "--level"),
        ("estimate run people.csv --total income --target-errors", BAD_USAGE, "add --targets"),
        ("estimate none people.csv --total income", FAILURE, "none"),
    ],
)
def test_what_makes_no_sense_is_refused(here: Path, line: str, code: int, said: str) -> None:
    result = run(line)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.replace("│", " ").split())
    assert not (here / "found.csv").exists()


def test_other_data_than_those_of_the_run_are_refused(here: Path) -> None:
    data = read_table("people.csv")
    data["age"] = np.roll(data["age"], 1)
    data.to_csv("people.csv", index=False)
    result = run(f"{BASE} --total income")
    assert result.exit_code == FAILURE
    assert "do not give the weights" in " ".join(result.output.split())
    data.iloc[1:].to_csv("people.csv", index=False)
    assert "159 rows" in " ".join(run(f"{BASE} --total income").output.split())
    table = read_table(here / "targets.csv")
    table.iloc[:2].to_csv("targets.csv", index=False)
    assert run(f"{BASE} --total income").exit_code == FAILURE


def test_ctrl_c_writes_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microcalibrate.inference.replicate_weights", interrupt)
    result = run(f"{BASE} --total income --psu cluster --replicates jackknife")
    assert result.exit_code == CANCELLED
    assert not (here / "found.csv").exists()
