"""Data and Targets: a file becomes a data set with roles, and gets targets that are checked."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

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
