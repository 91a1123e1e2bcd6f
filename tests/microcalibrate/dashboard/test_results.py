"""Results: every tab, and what a link restores."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

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
