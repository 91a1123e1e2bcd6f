"""The report: the numbers of the result, on one page that asks no network for anything."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from microcalibrate import Calibration, CalibrationResult
from microcalibrate.errors import UnwritableFile
from microcalibrate.figures.calibration import by_error
from microcalibrate.figures.plotting import amount, percent, power_of_ten
from microcalibrate.reports.calibration import WORST_TARGETS, headline, render, write_report
from microcalibrate.result import STATISTICS, Status

from ..files import full_disk
from ..pages import Reader, assert_self_contained

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>$title&amp;"


@pytest.fixture(scope="module")
def result() -> CalibrationResult:
    rng = np.random.default_rng(3)
    matrix = rng.gamma(2.0, size=(500, 30))
    weights = rng.uniform(10, 1000, size=500)
    targets = (matrix.T @ weights) * rng.uniform(0.7, 1.4, size=30)
    names = [f"family_{i % 3}/target {i}" for i in range(30)]
    names[0] = f"{HOSTILE}/{HOSTILE}"
    calibration = Calibration(weights, targets, matrix, target_names=names, target_records=40)
    calibration.calibrate(progress=False)
    return calibration.result


@pytest.fixture(scope="module")
def page(result: CalibrationResult) -> str:
    return render(result)


def test_the_summary_has_the_numbers_of_the_result(page: str, result: CalibrationResult) -> None:
    rows = {row[0].lower(): row[1:] for row in Reader(page).rows if len(row) == 3}

    for key, label, pattern in STATISTICS:
        expected = [pattern.format(result.statistics[when][key]) for when in ("before", "after")]
        assert rows[label.lower()] == expected


def test_the_worst_targets_stand_in_order_with_their_prices(
    page: str, result: CalibrationResult
) -> None:
    rows = [row for row in Reader(page).rows if len(row) == 7][-WORST_TARGETS:]

    worst = by_error(result.targets).head(WORST_TARGETS)
    assert [row[0] for row in rows] == list(worst.name)
    assert [row[2] for row in rows] == [amount(value) for value in worst.final]
    assert [row[4] for row in rows] == [percent(miss, signed=True) for miss in worst.error]
    assert [row[6] for row in rows] == [power_of_ten(price) for price in worst.price]


def test_every_family_is_in_the_table(page: str, result: CalibrationResult) -> None:
    rows = {row[0]: row[1:] for row in Reader(page).rows if len(row) == 7}

    for name, part in result.targets.groupby("family"):
        assert rows[str(name)][0] == f"{len(part):,}"
        assert rows[str(name)][2] == percent(part.error.abs().median())
        assert rows[str(name)][3] == percent(part.error.abs().max())


def test_settings_versions_and_seconds_are_there(page: str, result: CalibrationResult) -> None:
    for name, value in {**result.settings, **result.versions}.items():
        shown = "–" if value is None else html.escape(str(value))
        assert f"<dt>{name}</dt><dd>{shown}</dd>" in page
    assert f"<dt>total</dt><dd>{result.seconds['total']:.2f} s</dd>" in page
    assert html.escape(result.status.value) in page
    assert power_of_ten(result.gap) in page
    assert headline(result) == "500 records reduced to 40 and calibrated to 30 targets"


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    assert_self_contained(page)


def test_plotly_is_there_once(page: str) -> None:
    scripts = Reader(page).scripts

    assert len(scripts) == 2
    assert len(re.findall(r"plotly\.js v\d", page)) == 1


def test_hostile_names_are_text(page: str) -> None:
    reader = Reader(page)

    assert f"{HOSTILE}/{HOSTILE}" in [row[0] for row in reader.rows if row]
    assert "img" not in [tag for tag, _ in reader.tags]
    own = reader.scripts[1]
    assert "alert" in own
    # Nothing in the figures, not even our own tags, can end the script element.
    assert "<" not in next(line for line in own.split("\n") if "const figures" in line)


def test_figures_are_those_of_the_result(page: str, result: CalibrationResult) -> None:
    drawn = Reader(page).figures()

    assert list(drawn) == ["fit", "estimates", "worst", "weights", "course", "history"]
    assert drawn["history"] == json.loads(result.plot_history().to_json())


def test_equal_results_give_equal_pages(page: str, result: CalibrationResult) -> None:
    assert render(result) == page


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_explained(result: CalibrationResult, status: Status) -> None:
    page = render(dataclasses.replace(result, status=status, gap=math.inf))

    assert html.escape(status.value) in page
    assert ("status good" in page) == status.is_certified
    assert "No duality gap could be computed" in page


def test_a_full_disk_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: CalibrationResult
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(UnwritableFile, match="No space left"):
        write_report(result, path)

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_the_report_is_written_where_it_is_asked_for(
    tmp_path: Path, page: str, result: CalibrationResult
) -> None:
    assert result.report(tmp_path / "é.html") == tmp_path / "é.html"
    assert (tmp_path / "é.html").read_text(encoding="utf-8") == page
