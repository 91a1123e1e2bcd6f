"""Settings and Run: what is filled in is what is started, and how each run is shown."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

# --- Settings -------------------------------------------------------------------------------------


def test_a_preset_fills_the_fields_and_the_command_line(opened, workspace, dataset):
    page = opened(workspace, "settings", dataset=dataset.id)

    page.widget("button", "preset_exact").click()
    page.run()

    assert page.widget("text_input", "calibrate_tolerance").value == "0"
    assert page.widget("selectbox", "calibrate_distance").value == "raking"
    command, python = (each.value for each in page.tested.code[:2])
    assert "--tolerance 0" in command
    assert "--distance raking" in command
    assert "distance='raking'" in python


def test_an_option_that_names_a_column_offers_those_of_the_data(opened, workspace, dataset):
    page = opened(workspace, "settings", dataset=dataset.id)

    page.widget("selectbox", "calibrate_cluster").set_value("state")
    page.run()

    command, python = (each.value for each in page.tested.code[:2])
    assert "--cluster state" in command
    assert "cluster=data['state']" in python


def test_a_field_that_cannot_be_read_keeps_the_run_from_starting(opened, workspace, dataset):
    page = opened(workspace, "settings", dataset=dataset.id)

    page.widget("text_input", "calibrate_records").set_value("a few")
    page.run()

    assert "is not a whole number" in page.words
    assert not [each for each in page.tested.button if each.key == "start_calibration"]


def test_a_run_that_is_started_has_the_words_that_are_shown(opened, empty, over):
    from microcalibrate.dashboard import drafts, target_tables

    dataset = empty.add_upload("people.csv", [b"w,age\n1,2\n3,4\n"])
    over(dataset.run)
    drafts.write_targets(dataset, target_tables.read_text("age,15"))
    page = opened(empty, "settings", dataset=dataset.id)
    page.widget("text_input", "calibrate_seed").set_value("7")
    page.widget("text_input", "run_name").set_value("my run")
    page.run()

    page.widget("button", "start_calibration").click()
    page.tested.run()

    [run] = [each for each in empty.runs() if each.command == "calibrate"]
    assert run.name == "my run"
    assert run.arguments[-2:] == ("--seed", "7")
    assert (run.folder / "targets.csv").read_text() == "name,value\nage,15.0\n"
    over(run)


# --- Run ------------------------------------------------------------------------------------------


def test_a_run_is_shown_with_its_end_and_its_command(opened, workspace, calibrated):
    page = opened(workspace, "run", run=calibrated.id)

    assert "Done." in page.words
    assert calibrated.command_line() in [each.value for each in page.tested.code]
    states = page.tables[-1]
    assert set(states.state) == {"done"}


def test_a_waiting_run_says_how_many_are_before_it_and_can_be_cancelled(opened, empty, over):
    from microcalibrate.jobs import RunState

    data = empty.folder / "people.csv"
    data.write_text("w,age\n" + "1,2\n" * 20)
    first = empty.submit("demo", ["--out", "{run}/result"], "slow")
    second = empty.submit("profile", [str(data), "--out", "{run}/result"], "waits")
    run = empty.submit("demo", ["--out", "{run}/result"], "third")
    page = opened(empty, "run", run=run.id)

    assert "Waiting." in page.words
    assert "Number 2 in the queue" in page.words
    page.widget("button", "cancel_run").click()
    page.run()
    assert over(run).state is RunState.CANCELLED
    assert "Cancelled." in opened(empty, "run", run=run.id).words
    for each in (first, second):
        each.cancel()
        over(each)


def test_a_running_run_is_watched_and_cancelled(opened, empty, over):
    import time

    run = empty.submit("demo", ["--out", "{run}/result"], "slow")
    while not run.state.is_over and len(run.progress()) < 2:
        time.sleep(0.05)
    page = opened(empty, "run", run=run.id)
    assert "<span>loss</span>" in page.words
    assert "<span>gap</span>" in page.words
    assert page.tested.get("plotly_chart")

    page.widget("button", "cancel_run").click()
    page.tested.run()

    assert over(run).state.value == "cancelled"
    page = opened(empty, "run", run=run.id)
    assert "Cancelled." in page.words
    assert not [each for each in page.tested.button if each.key == "cancel_run"]


def test_a_failed_run_shows_its_last_lines(opened, empty, over):
    run = empty.submit("calibrate", ["/nowhere.csv", "--out", "{run}/result"], "lost")
    over(run)

    page = opened(empty, "run", run=run.id)

    assert "Failed." in page.words
    assert any("nowhere.csv" in each.value for each in page.tested.code)
