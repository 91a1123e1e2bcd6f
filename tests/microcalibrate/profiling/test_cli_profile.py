"""`microcalibrate profile`: the library's import, from a line of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from microcalibrate.cli import BAD_USAGE, FAILURE, app
from microcalibrate.profiling import DataProfile, import_data


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["profile", *arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"w": np.ones(30), "age\x1b[2J": range(30), "<b>": ["café"] * 30})
    table.to_csv("people.csv", index=False, encoding="cp1252")
    return tmp_path


def test_the_command_writes_and_prints_what_the_library_finds(here: Path) -> None:
    done = run("people.csv", "--out", "run", "--name", "People", "--encoding", "cp1252")

    assert done.exit_code == 0, done.output
    expected = import_data("people.csv", here / "other", name="People", encoding="cp1252")
    assert DataProfile.load(here / "run") == expected
    assert "People: 30 records, 3 columns" in done.output
    assert "0 … 29" in done.output
    assert "café" in done.output
    assert "\x1b" not in done.output
    assert run("people.csv", "--out", "run", "--encoding", "cp1252", "--quiet").output == ""


def test_failures_leave_nothing_and_say_what_to_do(here: Path) -> None:
    wrong = run("people.csv", "--out", "run")
    unknown = run("people.csv", "--out", "run", "--encoding", "klingon")
    within = run("people.csv", "--out", ".", "--encoding", "cp1252")

    assert (wrong.exit_code, unknown.exit_code, within.exit_code) == (FAILURE, BAD_USAGE, FAILURE)
    assert "--encoding cp1252" in wrong.output
    assert "--encoding 'klingon' is not known" in unknown.output
    assert [file.name for file in here.iterdir()] == ["people.csv"]
