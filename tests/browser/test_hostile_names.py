"""Names that would be markup, a formula or a path are shown as they are, and guarded in files."""

from __future__ import annotations

import csv
import io
import zipfile

import pytest

from microcalibrate.dashboard.screens import SCREENS

IMAGE = '<img src=x onerror="window.wasHit=1">'
FORMULA = "=cmd()|' /C calc'!A0"
PATH = "../../x"
MARKS = "**bold** :red[x] $y$ [link](http://x.example)"
NAMES = (IMAGE, FORMULA, PATH, MARKS)


@pytest.fixture(scope="module")
def hostile(jobs, make, people):
    """A run whose file, columns, records, targets and name are all hostile."""
    table = people.head(60).rename(
        columns=dict(zip(("age", "income", "state"), NAMES, strict=False))
    )
    table["person_id"] = [f"{NAMES[row % 4]}{row}" for row in range(60)]
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(["name", "value", "variable"])
    writer.writerow([f"{IMAGE}/a", 2500, IMAGE])
    writer.writerow([f"{FORMULA}/b", 1_200_000, FORMULA])
    writer.writerow([PATH, 600, "weight"])
    writer.writerow([MARKS, 610, "weight"])
    dataset = make.take_in(jobs, table, lines.getvalue(), f"{IMAGE}{FORMULA}.csv".replace("/", "-"))
    return make.calibrate(jobs, dataset, f"{IMAGE} {MARKS}", "--records", "30"), dataset


@pytest.fixture(scope="module")
def results_tabs():
    return ("Summary", "Targets", "One target", "Groups", "Estimates", "Weights", "Course")


def assert_harmless(page) -> None:
    assert page.driver.execute_script("return window.wasHit") is None
    assert not page.driver.find_elements("css selector", "img[src='x'], a[href*='x.example']")
    assert "could not be drawn" not in page.text


def test_hostile_names_stay_text_on_every_screen(page, hostile, results_tabs):
    run, dataset = hostile
    for screen in SCREENS:
        page.open(screen.url, dataset=dataset.id, run=run.id)
        assert_harmless(page)
    for tab in results_tabs:
        page.open("results", run=run.id, tab=tab)
        assert_harmless(page)
        if tab == "Targets":
            assert {row["target"] for row in page.table("Targets")} >= {PATH, MARKS}


def test_hostile_names_are_guarded_in_downloads(page, hostile):
    run, _ = hostile
    page.open("downloads", run=run.id)
    packed = page.download("download_all", f"microcalibrate-{run.id[:8]}.zip")

    with zipfile.ZipFile(packed) as archive:
        for name in archive.namelist():
            assert ".." not in name
            assert not name.startswith("/")
        for name in ("weights.csv", "targets.csv", "log.csv"):
            text = archive.read(name).decode()
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert any(FORMULA in cell for cell in cells)
            assert not any(cell.startswith("=") for cell in cells)
        assert IMAGE not in archive.read("report.html").decode()
