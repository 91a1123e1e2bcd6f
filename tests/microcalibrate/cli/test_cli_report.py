"""`microcalibrate report`: the page of any saved run, written anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..commands import run
from .people import write_people


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with records of four states and nine targets."""
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "line",
    [
        "evaluate people.csv --folds 2",
        "targets people.csv",
        "calibrate people.csv --records 100",
        "tune people.csv --folds 2 --trials 1 --closeness 1e-3",
    ],
)
def test_every_kind_of_run_has_a_report(line: str) -> None:
    done = run(f"{line} --weight w --targets targets.csv --out run --quiet")
    assert done.exit_code == 0, done.output

    assert run("report run --out other.html").exit_code == 0

    first, second = (
        Path(name).read_text(encoding="utf-8") for name in ("run/report.html", "other.html")
    )
    title = re.search("<title>.*</title>", first)
    assert title
    assert title[0] in second
    assert abs(len(second) / len(first) - 1) < 0.001
