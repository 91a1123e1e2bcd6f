"""Methods and bounds on the command line and with tables: the same as in the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from microcalibrate import Calibration, CalibrationResult, InvalidProblem
from microcalibrate.cli import BAD_USAGE, FAILURE, app

TARGETS = pd.DataFrame(
    {
        "name": ["north adults", "south adults", "north income", "south income"],
        "value": [12_600.0, 9_300.0, 5.6e8, 5.9e8],
        "variable": [None, None, "income", "income"],
        "filter": [
            "state == 'north' and age >= 18",
            "state == 'south' and age >= 18",
            "state == 'north'",
            "state == 'south'",
        ],
    }
)


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    n, home = 300, np.sort(rng.integers(0, 120, 300))
    data = pd.DataFrame(
        {
            "w": rng.uniform(50, 150, 120)[home],
            "home": home,
            "state": np.where(home < 70, "north", "south"),
            "fixed": (home % 11 == 0).astype(int),
            "size": rng.uniform(0.5, 2, n),
            "age": rng.integers(0, 90, n),
            "income": rng.gamma(2.0, 20_000, n).round(),
        }
    )
    data.to_csv("people.csv", index=False)
    TARGETS.to_csv("targets.csv", index=False)
    return data


def run(*options: str) -> tuple[int, str]:
    words = ["calibrate", "people.csv", "--weight", "w", "--targets", "targets.csv", "--out", "out"]
    done = CliRunner().invoke(app, [*words, "--no-report", *options])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--loss", "absolute"], {"loss": "absolute"}),
        (["--loss", "huber:0.02"], {"loss": "huber:0.02"}),
        (["--loss", "capped:0.1"], {"loss": "capped:0.1"}),
        (["--max-weight", "140", "--min-weight", "55"], {"max_weight": 140, "min_weight": 55}),
        (["--frozen", "fixed"], {"frozen": "fixed"}),
        (["--heteroscedasticity", "size"], {"heteroscedasticity": "size"}),
        (["--cluster", "home", "--partition", "state"], {"cluster": "home", "partition": "state"}),
        (
            ["--distance", "logit", "--min-ratio", "0.5", "--max-ratio", "2"],
            {"distance": "logit", "min_weight_ratio": 0.5, "max_weight_ratio": 2.0},
        ),
    ],
)
def test_an_option_of_the_command_is_that_of_the_library(
    words: list[str], options: dict[str, object], people: pd.DataFrame
) -> None:
    code, output = run(*words)
    assert code == 0, output
    written = CalibrationResult.load("out")
    calibration = Calibration.from_table(people, TARGETS, weight="w", **options)
    calibration.calibrate(progress=False)

    assert_array_equal(written.weights, calibration.weights)
    assert written.settings == calibration.result.settings
    assert written.status is calibration.result.status


def test_columns_of_a_table_stand_for_their_values(people: pd.DataFrame) -> None:
    named = Calibration.from_table(people, TARGETS, weight="w", cluster="home", frozen="fixed")
    given = Calibration.from_table(
        people, TARGETS, weight="w", cluster=people.home, frozen=people.fixed.to_numpy() == 1
    )

    assert_allclose(named.calibrate(progress=False), given.calibrate(progress=False))
    ratio = named.weights / people.w
    assert ratio.groupby(people.home).nunique().max() == 1
    assert (ratio[people.fixed == 1] == 1).all()


def test_a_column_that_is_not_there_is_named(people: pd.DataFrame) -> None:
    code, output = run("--cluster", "hom")

    assert code == FAILURE
    assert "home" in output
    with pytest.raises(InvalidProblem, match="partition=stat"):
        Calibration.from_table(people, TARGETS, weight="w", partition="stat")


@pytest.mark.usefixtures("people")
def test_a_bad_loss_is_refused_in_words_of_the_command() -> None:
    code, output = run("--loss", "cubic")

    assert code == BAD_USAGE
    assert "--loss" in output
    assert "absolute" in output


@pytest.mark.usefixtures("people")
def test_a_folder_has_no_columns_to_name(tmp_path: Path) -> None:
    (tmp_path / "problem").mkdir()
    done = CliRunner().invoke(app, ["calibrate", "problem", "--out", "out", "--cluster", "home"])

    assert done.exit_code == BAD_USAGE
