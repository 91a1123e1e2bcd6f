"""`microcalibrate check` and `targets-template`: the library's checks, from a line of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from microcalibrate.cli import BAD_USAGE, FAILURE, FLAGGED
from microcalibrate.io import read_table
from microcalibrate.target_checks import TargetChecks, check_targets
from microcalibrate.targets import totals_by_level

from ..commands import run

CHECK = "check people.csv --targets targets.csv --weight w --out run"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    people = pd.DataFrame({"w": rng.uniform(1, 3, 90), "region": np.repeat(list("abc"), 30)})
    people["income"] = rng.gamma(2, 1_000, 90)
    people.loc[0, "region"] = None
    people.to_csv("people.csv", index=False)
    rows = [("all\x1b[2J", people["w"].sum(), "w > 0"), ("far", 1e9, "region == 'a'")]
    pd.DataFrame(rows, columns=["name", "value", "filter"]).to_csv("targets.csv", index=False)
    return tmp_path


def test_the_command_writes_and_prints_what_the_library_finds(here: Path) -> None:
    done = run(CHECK + " --max-ratio 2 --min-ratio 0.5")

    expected = check_targets(
        read_table("people.csv"), read_table("targets.csv"), weight="w",
        min_weight_ratio=0.5, max_weight_ratio=2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert_frame_equal(TargetChecks.load(here / "run").table, expected.table)
    assert "is out of reach" in done.output
    assert "at ratios from 0.5 to 2" in done.output
    assert "\x1b" not in done.output
    assert run(CHECK + " --quiet").output == ""


def test_errors_are_an_exit_code_where_that_is_wanted(here: Path) -> None:
    flagged = run(CHECK + " --max-ratio 2 --fail-on-errors")
    assert flagged.exit_code == FLAGGED
    assert (here / "run" / "checks.json").is_file()
    assert run(CHECK + " --fail-on-errors").exit_code == 0
    assert run(CHECK.replace("--weight w", "--weight v")).exit_code == FAILURE
    crossed = run(CHECK + " --max-ratio 1 --min-ratio 2")
    assert crossed.exit_code == BAD_USAGE
    assert "--min-ratio" in crossed.output


def test_a_template_is_written_filled_in_and_passes_the_check() -> None:
    done = run("targets-template people.csv --by region --variable income --weight w --out t.csv")

    assert done.exit_code == 0, done.output
    assert "1 of 90 records are in no cell" in done.output
    expected = totals_by_level(read_table("people.csv"), ["region"], "income", weight="w")
    assert_frame_equal(read_table("t.csv"), expected, check_dtype=False)
    assert run(CHECK.replace("targets.csv", "t.csv") + " --fail-on-errors").exit_code == 0


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("--by regio --out t.csv", "--by 'regio': there is no column 'regio'. Did you mean"),
        ("--by region --out t.txt", "must end in .csv"),
        ("--by region --out people.csv", "is the data themselves"),
        ("--out t.csv", "--by"),
    ],
)
def test_a_template_that_cannot_be_made_says_why(here: Path, rest: str, said: str) -> None:
    before = (here / "people.csv").read_bytes()

    done = run(f"targets-template people.csv {rest}")

    assert done.exit_code == BAD_USAGE
    assert said in " ".join(done.output.split())
    assert (here / "people.csv").read_bytes() == before
    assert not (here / "t.csv").exists()
