"""A run and the page go their own ways: cancelled, reloaded, looked at twice, served anew."""

from __future__ import annotations

import os
import signal

import chromium
import pytest

from microcalibrate.jobs import RunState

# Longer than any journey: it is there to be interrupted.
ENDLESS = ("--trials", "100000", "--groups", "none")


@pytest.fixture
def tuning(jobs, make, people, tmp_path):
    """A run that goes on until it is cancelled."""
    run = jobs.submit("tune", _arguments(people, tmp_path), "a long search")
    yield run
    run.cancel()
    make.finished(run)


def _arguments(people, folder) -> list[str]:
    survey, targets = folder / "people.csv", folder / "targets.csv"
    people.to_csv(survey, index=False)
    targets.write_text("name,value,variable\nincome,8400000,income\nage,18000,age\n")
    given = ("--weight", "weight", "--targets", targets, "--out", "{run}/result")
    return [str(survey), *map(str, given), *ENDLESS]


def test_a_cancelled_run_ends_and_the_next_one_begins(page, jobs, tuning, make, people, tmp_path):
    waiting = jobs.submit("tune", _arguments(people, tmp_path), "the next search")
    try:
        page.open("run", rests=False, run=tuning.id)
        page.shows("a long search.", rests=False)
        page.until(lambda: tuning.state is RunState.RUNNING, "the run to begin")
        page.until(tuning.progress, "progress")
        assert waiting.state is RunState.QUEUED
        worker = tuning.facts.worker

        page.click("cancel_run")

        page.shows("Cancelled.")
        assert tuning.state is RunState.CANCELLED
        # The supervisor makes an end after ten seconds; it looks every now and then.
        asked = (tuning.folder / "cancel").stat().st_mtime
        assert tuning.facts.ended - asked <= 11
        assert not worker.is_alive
        page.until(lambda: waiting.state is RunState.RUNNING, "the next run")
        page.find(f"log_{tuning.id}", "summary").click()
        page.until(lambda: page.find(f"log_{tuning.id}", "code").text.strip(), "its log")
    finally:
        waiting.cancel()
        make.finished(waiting)


def test_a_run_whose_process_was_killed_has_failed_and_shows_its_last_lines(page, tuning):
    page.open("run", rests=False, run=tuning.id)
    page.shows("a long search.", rests=False)
    page.until(lambda: tuning.state is RunState.RUNNING, "the run to begin")
    page.until(tuning.progress, "progress")
    with (tuning.folder / "output.log").open("a") as log:
        log.write("what it printed last\n")

    os.kill(tuning.facts.worker.pid, signal.SIGKILL)

    page.shows("Failed. The process was ended by signal 9")
    assert tuning.state is RunState.FAILED
    assert "It came as far as: " in page.text
    assert "what it printed last" in page.text


def test_reload_second_tab_and_restart_find_the_same_run(opened, workspace, tuning):
    with chromium.dashboard(workspace) as served:
        page = opened(served)
        page.open("run", rests=False, run=tuning.id)
        page.shows("a long search.", rests=False)
        page.driver.refresh()
        page.shows("a long search.", rests=False)
        assert page.query["run"] == tuning.id
        page.driver.switch_to.new_window("tab")
        page.open("run", rests=False)
        page.shows("a long search.", rests=False)
        page.until(tuning.progress, "progress")
        page.assert_quiet()
        page.leave()
        # What the tabs said in leaving was to this server; the next one has another address.
        assert chromium.complaints(page.driver) == []
        assert chromium.requests_elsewhere(page.driver, served.url) == []
    seen = len(tuning.progress())
    with chromium.dashboard(workspace) as page.served:
        page.open("run", rests=False, run=tuning.id)
        page.shows("a long search.", rests=False)
        page.until(lambda: len(tuning.progress()) > seen, "further progress")
        assert tuning.state is RunState.RUNNING
        page.assert_quiet()
        page.leave()
