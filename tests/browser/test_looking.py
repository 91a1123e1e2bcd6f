"""Addresses bring back what was looked at; logs of every dialect open; two runs are compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from microcalibrate.result import CalibrationResult


def test_a_copied_address_shows_the_same_in_another_browser(opened, served, runs):
    page = opened(served)
    page.open("results", run=runs[0].id)
    page.tab("Targets")
    page.fill("q", "people")
    page.choose("sort", "name")
    page.until(lambda: {"q", "sort", "tab"} <= set(page.query), "an address with all of it")
    seen = page.table("Targets")
    assert [row["target"] for row in seen] == ["people/old", "people/young"]

    other = opened(served)
    other.driver.get(page.driver.current_url)
    other.shows("2 targets of 3.")

    assert other.value("choose_run") == "all records"
    assert (other.value("q"), other.value("sort")) == ("people", "name")
    assert other.table("Targets") == seen


def test_two_runs_are_compared_as_pandas_does(page, runs):
    first, second = (
        CalibrationResult.load(run.result_folder).targets.set_index("name").error.abs()
        for run in runs
    )
    moved = (second - first)[lambda change: change.abs() > 1e-6]

    page.open("compare", a=runs[0].id, b=runs[1].id)
    page.shows("targets in both")

    shown = tiles(page)
    assert shown["closer in the second"] == (moved < 0).sum()
    assert shown["farther in the second"] == (moved > 0).sum()
    assert shown["targets in both"] == len(first) == 3


def tiles(page) -> dict[str, int]:
    """Numbers on the tiles, by what they are."""
    found = page.driver.execute_script(
        "return [...document.querySelectorAll('.tiles > *')].map(tile => tile.innerText)"
    )
    cells = [text.split("\n") for text in found]
    return {words[1]: int(words[0].replace(",", "")) for words in cells}


# --- Logs -----------------------------------------------------------------------------------------

NAMES = ["people, old", "births", "net income", "left out"]
GOALS = np.array([1000.0, 0.0, -500.0, 80.0])


def history(n_epochs: int) -> pd.DataFrame:
    """A row per epoch and target, with the columns that all dialects share."""
    rows = []
    for epoch in range(n_epochs):
        estimates = [900.0 + epoch, 5.0, -400.0 - epoch, 60.0]
        for name, goal, estimate in zip(NAMES, GOALS, estimates, strict=True):
            rows.append((epoch, name, goal, estimate, estimate - goal, abs(estimate - goal)))
    columns = ["epoch", "target_name", "target", "estimate", "error", "abs_error"]
    return pd.DataFrame(rows, columns=columns)


def microcalibrate(folder):
    log = history(25)
    log.insert(1, "loss", 1 / (1 + log.epoch))
    log["rel_abs_error"] = (log.abs_error / log.target.abs()).where(log.target != 0)
    log.to_csv(folder / "a.csv")
    return folder / "a.csv"


def enhanced_cps(folder):
    log = history(25)
    with np.errstate(divide="ignore"):
        log["rel_error"] = np.divide(log.error, log.target)
    log["rel_abs_error"] = log.rel_error.abs()
    log["loss"] = log.rel_error**2
    log[_ENHANCED].to_csv(folder / "b.csv", index=False)
    return folder / "b.csv"


_ENHANCED = [
    *("target_name", "estimate", "target", "epoch", "error", "rel_error", "abs_error"),
    *("rel_abs_error", "loss"),
]


def unified_calibration(folder):
    log = history(25)
    log["rel_error"] = (log.error / log.target).where(log.target != 0, 0.0)
    log["rel_abs_error"] = log.rel_error.abs()
    log["loss"] = log.rel_error**2
    log["achievable"] = log.target_name != "left out"
    log[[*_ENHANCED, "achievable"]].to_csv(folder / "c.csv", index=False, quoting=2)
    return folder / "c.csv"


def unified_diagnostics(folder):
    log = history(25).query("epoch == 24")
    relative = (log.error / log.target).where(log.target != 0, 0.0)
    table = pd.DataFrame(
        {
            "target": log.target_name,
            "true_value": log.target,
            "estimate": log.estimate,
            "rel_error": relative,
            "abs_rel_error": relative.abs(),
            "achievable": True,
        }
    )
    table.to_csv(folder / "d.csv", index=False)
    return folder / "d.csv"


@pytest.mark.parametrize(
    ("dialect", "n_epochs"),
    [
        (microcalibrate, 25),
        (enhanced_cps, 25),
        (unified_calibration, 25),
        (unified_diagnostics, 1),
    ],
)
def test_a_log_of_each_dialect_opens_with_every_epoch(page, tmp_path, dialect, n_epochs):
    page.open("compare")
    page.find("take_in_log", "summary").click()
    page.upload("log_", dialect(tmp_path))
    page.until(lambda: "b" in page.query, "the log")
    log = page.query["b"]

    page.open("results", run=log, tab="Targets", sort="as in the log")
    page.shows("4 targets of 4.")
    last = page.table("Targets")
    assert [row["target"] for row in last] == NAMES
    assert [float(row["wanted"]) for row in last] == list(GOALS)
    assert [float(row["estimate"]) for row in last] == [924.0, 5.0, -424.0, 60.0]
    # A target of zero has no relative error, whatever a log says.
    assert last[1]["relative error"] in ("", "None")
    assert float(last[2]["relative error"]) == pytest.approx(0.152)
    if n_epochs > 1:
        page.open("results", run=log, tab="Targets", sort="as in the log", epoch="7")
        page.shows("4 targets of 4.")
        assert float(page.table("Targets")[0]["estimate"]) == 907.0
        assert page.find("epoch", "input").get_attribute("max") == "24"
