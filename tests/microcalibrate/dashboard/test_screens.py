"""Every screen, empty and filled, without a browser."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard.screens import SCREENS
from microcalibrate.dashboard.screens.run import SHOWN_ELSEWHERE
from microcalibrate.jobs import Workspace


@pytest.fixture
def empty(tmp_path):
    return Workspace(tmp_path / "empty")


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.url)
def test_a_screen_of_an_empty_workspace_says_what_to_do(opened, empty, screen):
    page = opened(empty, screen.url)

    assert [title.value for title in page.tested.title] == [screen.title]
    assert 'class="empty"' in page.words


def test_screens_have_addresses_and_titles_of_their_own():
    assert len({screen.url for screen in SCREENS}) == len(SCREENS)
    assert len({screen.title for screen in SCREENS}) == len(SCREENS)
    # Streamlit takes a path apart at slashes.
    assert all(screen.url.isidentifier() for screen in SCREENS)


@pytest.mark.usefixtures("calibrated")
def test_the_start_shows_what_is_there(opened, workspace):
    page = opened(workspace, "start")
    newest = next(run for run in workspace.runs() if run.command not in SHOWN_ELSEWHERE)

    assert "people.csv" in page.words
    assert newest.name in page.words


# --- Data -----------------------------------------------------------------------------------------


def test_a_data_set_is_shown_with_its_columns_and_the_guessed_roles(opened, workspace, dataset):
    page = opened(workspace, "data", dataset=dataset.id)

    assert "<strong>200</strong><span>records</span>" in page.words
    assert page.widget("selectbox", f"weight_{dataset.id}").value == "weight"
    assert page.widget("selectbox", f"id_{dataset.id}").value == "person_id"
    report = page.tables[-1].set_index("column")
    assert list(report.index) == ["person_id", "weight", "age", "income", "state"]
    assert report.loc["state", "looks like"] == "category"


def test_the_preview_has_the_first_hundred_records(opened, workspace, dataset):
    page = opened(workspace, "data", dataset=dataset.id, tab="Preview")

    shown = page.tables[-1]
    assert len(shown) == 100
    assert shown.person_id.iloc[0] == 1000


def test_roles_are_kept(opened, workspace, dataset):
    from microcalibrate.dashboard import drafts

    before = drafts.read_roles(dataset)
    page = opened(workspace, "data", dataset=dataset.id)
    try:
        page.widget("selectbox", f"id_{dataset.id}").set_value("")
        page.run()
        assert drafts.read_roles(dataset) == drafts.Roles("weight", "")
    finally:
        drafts.write_roles(dataset, before)


def test_an_upload_becomes_a_data_set(opened, empty):
    page = opened(empty, "data")

    page.tested.get("file_uploader")[0].set_value(
        ("my survey.csv", b"w,age\n1,2\n3,4\n", "text/csv")
    )
    page.tested.run()

    [dataset] = empty.datasets()
    assert dataset.name == "my survey.csv"
    assert dataset.upload.read_bytes() == b"w,age\n1,2\n3,4\n"


def test_a_file_of_another_kind_is_refused_with_a_reason_and_the_screen_stays(opened, empty):
    page = opened(empty, "data")

    page.tested.get("file_uploader")[0].set_value(("empty.csv", b"", "text/csv"))
    page.tested.run()

    assert "is empty" in page.words
    assert "No data set yet" in page.words
    assert empty.datasets() == []


def test_a_file_that_cannot_be_read_is_shown_with_its_reason(opened, empty, over):
    dataset = empty.add_upload("damaged.parquet", [b"no parquet at all"])
    over(dataset.run)

    page = opened(empty, "data", dataset=dataset.id)

    assert "Not read." in page.words
    assert "damaged.parquet is damaged" in page.words


def test_a_file_in_another_encoding_is_read_again_in_it(opened, empty, over):
    dataset = empty.add_upload("people.csv", ["w,name\n1,Zoë\n".encode("cp1252")])
    over(dataset.run)
    page = opened(empty, "data", dataset=dataset.id)
    assert "Not read." in page.words

    page.widget("button", f"read_again_{dataset.id}").click()
    page.tested.run()

    over(empty.dataset(dataset.id).run)
    page = opened(empty, "data", dataset=dataset.id, tab="Preview")
    assert list(page.tables[-1].name) == ["Zoë"]


def test_a_data_set_is_deleted_only_after_a_yes(opened, empty, over):
    dataset = empty.add_upload("people.csv", [b"w,age\n1,2\n"])
    over(dataset.run)
    page = opened(empty, "data", dataset=dataset.id, tab="Delete")

    assert page.widget("button", f"delete_{dataset.id}").disabled
    page.widget("checkbox", f"sure_{dataset.id}").check()
    page.run()
    page.widget("button", f"delete_{dataset.id}").click()
    page.tested.run()

    assert empty.datasets() == []
    assert not dataset.folder.exists()
    assert not dataset.upload.exists()


# --- Targets --------------------------------------------------------------------------------------


def test_pasted_targets_are_taken_in_and_kept(opened, empty, over):
    from microcalibrate.dashboard import drafts

    dataset = empty.add_upload("people.csv", [b"w,age\n1,2\n"])
    over(dataset.run)
    page = opened(empty, "targets", dataset=dataset.id)

    page.widget("text_area", f"paste_{dataset.id}_0").set_value("age,120\nw,7")
    page.run()
    page.widget("button", "add_pasted").click()
    page.run()

    kept = drafts.read_targets(dataset)
    assert kept[["name", "value"]].values.tolist() == [["age", 120.0], ["w", 7.0]]
    assert "2 targets of 2 in use" in page.words


def test_totals_by_level_become_targets_that_the_survey_meets(opened, empty, over):
    from microcalibrate.dashboard import drafts

    dataset = empty.add_upload("people.csv", [b"w,age,state\n1,2,CA\n3,4,TX\n5,6,CA\n"])
    over(dataset.run)
    page = opened(empty, "targets", dataset=dataset.id)
    page.widget("selectbox", f"totals_of_{dataset.id}").set_value("age")
    page.widget("multiselect", f"totals_by_{dataset.id}").set_value(["state"])
    page.run()

    page.widget("button", "add_totals").click()
    page.tested.run()
    [run] = [each for each in empty.runs() if each.command == "targets-template"]
    over(run)
    opened(empty, "targets", dataset=dataset.id)

    kept = drafts.read_targets(dataset)
    assert kept[["name", "value"]].values.tolist() == [["age/CA", 32.0], ["age/TX", 12.0]]
    assert not [each for each in empty.runs() if each.command == "targets-template"]


def test_checks_say_what_is_wrong_with_a_target(opened, empty, over):
    from microcalibrate.dashboard import drafts, target_tables

    dataset = empty.add_upload("people.csv", [b"w,age\n1,2\n3,4\n"])
    over(dataset.run)
    grid = target_tables.read_text("name,value,filter\nold,5,agee > 1\nyoung,4,age < 5")
    drafts.write_targets(dataset, grid)
    opened(empty, "targets", dataset=dataset.id)
    [check] = [run for run in empty.runs() if run.command == "check"]
    over(check)

    page = opened(empty, "targets", dataset=dataset.id)

    assert "<strong>1</strong><span>with errors</span>" in page.words
    assert "“old”: " in page.words
    assert "there is no column" in page.words
    assert page.tables[-1]["name"].iloc[0] == "old"
    # The same targets are not checked twice.
    assert len([run for run in empty.runs() if run.command == "check"]) == 1


def test_what_cannot_be_pasted_is_said_and_changes_nothing(opened, workspace, dataset):
    page = opened(workspace, "targets", dataset=dataset.id)

    page.widget("text_area", f"paste_{dataset.id}_0").set_value("age,many")
    page.run()
    page.widget("button", "add_pasted").click()
    page.run()

    assert "Invalid target table." in page.words
    assert "3 targets of 3 in use" in page.words


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


# --- Results --------------------------------------------------------------------------------------

TABS = ["Summary", "Targets", "One target", "Groups", "Estimates", "Weights", "Course"]


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_of_a_result_is_drawn(opened, workspace, reduced, tab):
    page = opened(workspace, "results", run=reduced.id, tab=tab)

    assert "200 records reduced to 50" in page.words
    assert "Converged." in page.words
    assert page.tested.get("plotly_chart")


def test_the_table_shows_the_numbers_of_the_result(opened, workspace, calibrated):
    from microcalibrate.result import CalibrationResult

    result = CalibrationResult.load(calibrated.result_folder)
    page = opened(workspace, "results", run=calibrated.id, tab="Targets", sort="as entered")

    shown = page.tables[-1].set_index("name")
    expected = result.targets.set_index("name")
    for column in ("error", "price", "initial_error"):
        assert shown[column].tolist() == expected[column].tolist()
    for column in ("target", "initial", "final"):
        # From 1,000 on in whole numbers: more digits than anybody reads.
        assert shown[column].to_numpy() == pytest.approx(expected[column].to_numpy(), abs=0.5)


def test_the_summary_says_what_became_of_the_targets(opened, workspace, calibrated):
    from microcalibrate.result import CalibrationResult

    targets = CalibrationResult.load(calibrated.result_folder).targets
    n_better = int((targets.error.abs() < targets.initial_error.abs() - 1e-9).sum())

    page = opened(workspace, "results", run=calibrated.id, tab="Summary")

    assert n_better > 0
    assert f"From the first state to the last: {n_better} improved" in page.words


def test_a_link_restores_tab_search_order_and_target(opened, workspace, calibrated):
    page = opened(
        workspace, "results", run=calibrated.id, tab="Targets", q="people old", sort="name"
    )
    shown = page.tables[-1]
    assert list(shown.name) == ["people/old"]
    assert page.widget("selectbox", "sort").value == "name"

    page = opened(workspace, "results", run=calibrated.id, tab="One target", target="2")
    assert page.widget("selectbox", "choose_target").value == "2"


def test_a_link_to_a_run_that_is_gone_says_so(opened, workspace, calibrated):
    assert calibrated
    page = opened(workspace, "results", run="9e3a7a1c-0000-4000-8000-000000000000")

    assert "is not finished, or was deleted" in page.words


@pytest.mark.parametrize("tab", ["Summary", "Targets", "One target", "Estimates", "Course"])
def test_a_log_opens_without_a_workspace_run(opened, empty, tmp_path, tab):
    log = tmp_path / "old.csv"
    log.write_text(
        "target_name,estimate,target,epoch,error,rel_error,abs_error,rel_abs_error,loss\n"
        "a/b,5,4,0,1,0.25,1,0.25,0.0625\nc,0,0,0,0,,0,,inf\n"
        "a/b,4,4,10,0,0,0,0,0\nc,1,0,10,1,,1,,inf\n"
    )

    page = opened(empty, "results", "--log", str(log), tab=tab)

    assert "<span>targets</span>" in page.words
    if tab == "Targets":
        assert page.widget("select_slider", "epoch").value == 10


# --- Hostile names --------------------------------------------------------------------------------

HOSTILE = ["<img src=x onerror=alert(1)>", "=cmd()|' /C calc'!A0", "../../x"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_files_are_shown_and_nothing_else(opened, empty, name, over):
    dataset = empty.add_upload(f"{name}.csv", [b"w,age\n1,2\n"])
    run = empty.submit("calibrate", ["/nowhere", "--out", "{run}/result"], name)
    for each in (dataset.run, run):
        over(each)

    for url in ("start", "data", "targets", "settings", "run"):
        page = opened(empty, url)
        assert "<img src" not in page.words
        # What Streamlit reads as Markdown is written by the page alone.
        assert not [each.value for each in page.tested.markdown if name in each.value]
        assert not [each.label for each in page.tested.button if name in each.label]
    assert not list(empty.folder.parent.glob("x*"))


# --- Errors ---------------------------------------------------------------------------------------


def test_a_typed_error_is_shown_in_its_words_below_the_title(monkeypatch, opened, empty):
    from dataclasses import replace

    from microcalibrate.dashboard import shell
    from microcalibrate.errors import UnreadableFile

    def broken(_):
        raise UnreadableFile("<b>log.csv</b> ends within a row. Copy it again.")

    screen = replace(SCREENS[0], url="broken", title="Broken", render=broken)
    monkeypatch.setattr(shell, "SCREENS", (screen,))

    page = opened(empty, "broken")

    assert [title.value for title in page.tested.title] == ["Broken"]
    assert "<strong>Unreadable file.</strong>" in page.words
    assert "&lt;b&gt;log.csv&lt;/b&gt; ends within a row. Copy it again." in page.words


def test_an_error_of_the_page_shows_no_traceback(monkeypatch, opened, empty, caplog):
    from dataclasses import replace

    from microcalibrate.dashboard import shell

    def broken(_):
        raise KeyError(" of the ".join(["a value", "data"]))

    screen = replace(SCREENS[0], url="broken", title="Broken", render=broken)
    monkeypatch.setattr(shell, "SCREENS", (screen,))
    with pytest.raises(AssertionError, match="could not be drawn"):
        opened(empty, "broken")

    assert "KeyError" in caplog.text
    assert "a value of the data" not in caplog.text
