"""Compare: the numbers are those that pandas finds, links restore it, and old logs are taken in."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard import log_files
from microcalibrate.errors import UnreadableFile
from microcalibrate.logs.columns import FORMAT
from microcalibrate.result import CalibrationResult

A = """,epoch,loss,target_name,target,estimate,error,abs_error,rel_abs_error
0,0,0.5,"a, quoted",4,5,1,1,0.25
1,0,0.5,zero,0,1,1,1,
2,0,0.5,below,-10,-8,2,2,0.2
3,5,0.1,"a, quoted",4,4.4,0.4,0.4,0.1
4,5,0.1,zero,0,2,2,2,
5,5,0.1,below,-10,-10,0,0,0
"""
B = """target_name,estimate,target,epoch,error,rel_error,abs_error,rel_abs_error,loss
"a, quoted",5,4,0,1,0.25,1,0.25,0.0625
zero,1,0,0,1,inf,1,inf,inf
other,3,2,0,1,0.5,1,0.5,0.25
"a, quoted",4,4,10,0,0,0,0,0
zero,0.5,0,10,0.5,inf,0.5,inf,inf
other,2,2,10,0,0,0,0,0
"""
C = """target_name,estimate,target,epoch,error,rel_error,abs_error,rel_abs_error,loss,achievable
"a, quoted",5,4,0,1,0.25,1,0.25,0.0625,True
zero,1,0,0,1,0,1,0,0,False
"""
D = """target,true_value,estimate,rel_error,abs_rel_error,achievable
"a, quoted",4,5,0.25,0.25,True
below,-10,-8,-0.2,0.2,True
"""


def taken(workspace, **logs):
    return {
        name: log_files.add(workspace, f"{name}.csv", io.BytesIO(text.encode()))
        for name, text in logs.items()
    }


# --- Two runs -------------------------------------------------------------------------------------


def test_counts_and_errors_are_those_of_pandas(opened, workspace, calibrated, reduced):
    tables = [
        CalibrationResult.load(run.result_folder).targets.set_index("name")
        for run in (calibrated, reduced)
    ]
    sizes = [table.error.abs() for table in tables]
    moved = sizes[1] - sizes[0]
    improved, worsened = int((moved < -1e-6).sum()), int((moved > 1e-6).sum())

    page = opened(workspace, "compare", a=calibrated.id, b=reduced.id, tab="Targets", sort="name")

    assert f"<strong>{improved}</strong><span>closer in the second" in page.words
    assert f"<strong>{worsened}</strong><span>farther in the second" in page.words
    assert f"<strong>{len(moved)}</strong><span>targets in both" in page.words
    shown = page.tables[-1].set_index("name")
    assert list(shown.index) == sorted(moved.index)
    for side, table in zip(("first", "second"), tables, strict=True):
        error = (table.final - table.target) / table.target
        assert shown[f"{side}_error"].to_numpy() == pytest.approx(
            error[shown.index].to_numpy(), rel=1e-9, abs=1e-12
        )
        assert shown[f"{side}_estimate"].to_numpy() == pytest.approx(
            table.final[shown.index].to_numpy(), rel=1e-9
        )


TABS = ["Side by side", "Targets", "Errors", "One target", "Course", "Weights", "Settings"]


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_is_drawn(opened, workspace, calibrated, reduced, tab):
    page = opened(workspace, "compare", a=calibrated.id, b=reduced.id, tab=tab)

    drawn = tab in ("Errors", "One target", "Course", "Weights")
    assert bool(page.tested.get("plotly_chart")) is drawn
    if tab == "Settings":
        assert "target_records" in page.words.replace("<wbr>", "")


def test_a_link_restores_both_runs_and_the_target(opened, workspace, calibrated, reduced):
    page = opened(workspace, "compare", a=reduced.id, b=calibrated.id, tab="One target", target="1")

    assert page.widget("selectbox", "choose_a").value == reduced.id
    assert page.widget("selectbox", "choose_b").value == calibrated.id
    assert page.widget("selectbox", "choose_target").value == "1"


def test_only_one_kind_of_change_is_shown_where_that_is_wanted(opened, empty):
    logs = taken(empty, A=A, B=B)
    page = opened(
        empty, "compare", a=logs["A"].id, b=logs["B"].id, tab="Targets", change="second only"
    )

    assert list(page.tables[-1].name) == ["other"]


# --- Logs -----------------------------------------------------------------------------------------


def test_logs_of_different_dialects_are_compared(opened, empty):
    """By hand: errors 0.1 and 0 of the first target, one target in each alone, one of zero."""
    logs = taken(empty, A=A, B=B)
    page = opened(empty, "compare", a=logs["A"].id, b=logs["B"].id, tab="Targets")

    shown = page.tables[-1].set_index("name")
    assert set(shown.index) == {"a, quoted", "zero", "below", "other"}
    assert shown.loc["a, quoted", "first_error"] == pytest.approx(0.1)
    assert shown.loc["a, quoted", "second_error"] == pytest.approx(0.0)
    assert np.isnan(shown.loc["zero", "first_error"])
    assert "1 in the first only, 1 in the second only" in page.words
    assert shown.change.str.contains("closer").sum() == 2


@pytest.mark.parametrize(("name", "text"), [("A", A), ("B", B), ("C", C), ("D", D)])
def test_every_dialect_is_taken_in_and_shown(opened, empty, name, text):
    log = taken(empty, **{name: text})[name]

    page = opened(empty, "results", run=log.id, tab="Targets")

    names = pd.read_csv(io.StringIO(text)).get("target_name")
    expected = {"a, quoted", "below"} if names is None else set(names)
    assert set(page.tables[-1].name) == expected


def test_an_upload_becomes_the_second_log(opened, empty):
    first = taken(empty, A=A)["A"]
    page = opened(empty, "compare", a=first.id)
    assert 'class="empty"' in page.words

    page.tested.get("file_uploader")[0].set_value(("old <b>.csv", B.encode(), "text/csv"))
    page.tested.run()

    newest, _ = log_files.files(empty)
    assert newest.name == "old <b>.csv"
    page = opened(empty, "compare", a=first.id, b=newest.id)
    assert "<b>" not in page.words
    assert "targets in both" in page.words


def test_what_is_no_log_is_refused_by_its_own_name_and_not_kept(opened, empty):
    with pytest.raises(UnreadableFile, match=r"my table\.csv") as caught:
        log_files.add(empty, "my table.csv", io.BytesIO(b"x,y\n1,2\n"))
    assert str(empty.folder) not in str(caught.value)
    page = opened(empty, "compare")

    page.tested.get("file_uploader")[0].set_value(("my table.csv", b"x,y\n1,2\n", "text/csv"))
    page.tested.run()

    assert "Unreadable file." in page.words
    assert log_files.files(empty) == []
    assert not list((empty.folder / "logs").iterdir())


def test_a_log_is_removed(opened, empty):
    logs = taken(empty, A=A, B=B)
    page = opened(empty, "compare")

    page.widget("selectbox", "gone_log").set_value(logs["A"].id)
    page.run()
    page.widget("button", "remove_log").click()
    page.tested.run()

    assert [each.name for each in log_files.files(empty)] == ["B.csv"]
    assert not logs["A"].path.exists()


HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("tab", ["Side by side", "Targets", "Errors", "One target", "Course"])
def test_hostile_names_of_logs_and_targets_are_shown_and_nothing_else(opened, empty, tab):
    text = B.replace("other", HOSTILE)
    names = (f"{HOSTILE}.csv", f"**{HOSTILE}** :smile:.csv")
    one, two = (log_files.add(empty, name, io.BytesIO(text.encode())) for name in names)

    page = opened(empty, "compare", a=one.id, b=two.id, tab=tab, target="2")

    assert "<img" not in page.words
    drawn = [each.proto.spec for each in page.tested.get("plotly_chart")]
    assert not any("<img" in spec or "\\u003cimg" in spec for spec in drawn)
    assert not [each.value for each in page.tested.markdown if "img" in each.value]


def test_a_link_that_names_the_second_only_keeps_it_second(opened, empty):
    """Even if it was the first a moment ago."""
    logs = taken(empty, A=A, B=B, D=D)
    page = opened(empty, "compare", a=logs["A"].id, b=logs["B"].id)

    page.tested.query_params.clear()
    page.tested.query_params["b"] = logs["A"].id
    page.run()

    assert page.widget("selectbox", "choose_b").value == logs["A"].id
    assert page.widget("selectbox", "choose_a").value != logs["A"].id


# --- Facts beside a log ---------------------------------------------------------------------------


def test_a_target_that_the_facts_exclude_is_marked_and_counted_apart(opened, empty, tmp_path):
    """Its estimates are constant in neither log: only the file of facts tells."""
    log = tmp_path / "first.csv"
    log.write_text(A)
    facts = {"format": FORMAT, "excluded": ["below"]}
    (tmp_path / "first.csv.meta.json").write_text(json.dumps(facts))
    other = tmp_path / "second.csv"
    other.write_text(A)
    given = ("--log", str(log), "--log", str(other))

    page = opened(empty, "results", *given, tab="Targets", sort="as in the log")
    table = page.tables[-1].set_index("name")
    assert table.excluded.to_dict() == {"a, quoted": False, "zero": False, "below": True}
    assert "1 of them not calibrated to" in page.words
    page = opened(empty, "results", *given, tab="Summary")
    assert "Not calibrated to: 1 target." in page.words

    page = opened(empty, "compare", *given)
    assert "Not calibrated to: 0 targets in both" in page.words
