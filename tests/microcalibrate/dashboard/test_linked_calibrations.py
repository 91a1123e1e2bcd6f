"""Several linked tables: targets of each, and the same weights on the page and on a terminal."""

from __future__ import annotations

import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard import drafts, linking, target_tables
from microcalibrate.dashboard.drafts import LinkedTable, Roles
from microcalibrate.result import CalibrationResult

from .linked_homes import TARGETS, homes, last, people, said, units

# --- Targets --------------------------------------------------------------------------------------


def test_targets_are_checked_in_their_tables(opened, home_workspace, linked):
    text = (
        TARGETS + "odd,5,person,,count,agee > 3\nrooms,90,person,rooms,sum,\nwho,1,horse,,count,\n"
    )
    drafts.write_targets(linked, target_tables.read_text(text))
    opened(home_workspace, "targets", dataset=linked.id)
    last(home_workspace, "check")

    page = opened(home_workspace, "targets", dataset=linked.id)

    assert "<strong>3</strong><span>with errors</span>" in said(page)
    assert "“odd” (rows of person): filter 'agee > 3': there is no column" in said(page)
    assert "“rooms” (rows of person): there is no column" in said(page)
    assert "“who” (rows of horse): there is no table 'horse'" in said(page)
    table = page.tables[-1].set_index("name")
    found = pd.read_csv(last(home_workspace, "check").result_folder / "checks.csv").set_index(
        "name"
    )
    age = people()
    weights = homes().set_index("number")["weight"]
    own = age["unit_of"].map(units()["number"]).map(weights)
    assert found.loc["old", "initial"] == pytest.approx(own[age["age"] >= 65].sum())
    assert {"odd", "rooms", "who"} <= set(table.index)


def test_a_change_of_links_has_the_targets_checked_again(linked):
    grid, roles = drafts.read_targets(linked), drafts.read_roles(linked)
    fewer = Roles(roles.weight, roles.id, roles.unit, roles.tables[:1])

    assert drafts.fingerprint(linked, grid, roles) != drafts.fingerprint(linked, grid, fewer)


def test_targets_of_other_tables_need_these(opened, home_workspace, tables):
    home = tables["homes"]
    drafts.write_targets(home, target_tables.read_text(TARGETS))

    for url in ("targets", "settings"):
        page = opened(home_workspace, url, dataset=home.id)
        assert "Targets are of the entity benefit_unit, person" in said(page)
        assert "Add the tables that belong to it" in said(page)
    assert not [each for each in page.tested.button if each.key == "start_calibration"]


def test_totals_by_level_are_of_members_too(opened, home_workspace, linked):
    drafts.write_targets(linked, target_tables.empty_table())
    page = opened(home_workspace, "targets", dataset=linked.id)
    page.widget("selectbox", f"totals_in_{linked.id}").set_value("person")
    page.run()
    key = f"{linked.id}_person"
    page.widget("selectbox", f"totals_of_{key}").set_value("wages")
    page.widget("multiselect", f"totals_by_{key}").set_value(["region"])
    page.run()
    page.widget("button", "add_totals").click()
    page.run()
    last(home_workspace, "targets-template")
    opened(home_workspace, "targets", dataset=linked.id)

    kept = drafts.read_targets(linked)
    of_homes = homes().set_index("number").loc[units()["number"]]
    own = of_homes.iloc[people()["unit_of"]]
    totals = (own["weight"].to_numpy() * people()["wages"]).groupby(own["region"].to_numpy()).sum()
    assert list(kept["entity"]) == ["person", "person"]
    assert list(kept["name"]) == ["wages/north", "wages/south"]
    np.testing.assert_allclose(kept["value"], totals)


# --- The same weights -----------------------------------------------------------------------------


def test_page_command_line_and_programme_give_the_same_weights(
    opened, home_workspace, linked, tmp_path
):
    page = opened(home_workspace, "settings", dataset=linked.id)
    page.widget("text_input", "calibrate_max_ratio").set_value("8")
    page.run()
    command, programme = (each.value for each in page.tested.code[:2])
    page.widget("button", "start_calibration").click()
    page.tested.run()
    run = last(home_workspace, "calibrate")
    shown = CalibrationResult.load(run.result_folder)
    assert shown.record_ids.tolist() == homes()["number"].tolist()
    np.testing.assert_allclose(shown.targets["final"], shown.targets["target"], rtol=1e-2)
    program, *words = shlex.split(command.replace("\\\n", ""))
    assert program == "microcalibrate"
    commands = {
        "terminal": [sys.executable, "-m", "microcalibrate", *words],
        "python": [sys.executable, "-c", programme],
    }
    for name, told in commands.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "targets.csv").write_bytes((run.folder / "targets.csv").read_bytes())

        subprocess.run(told, cwd=folder, check=True, capture_output=True)

        again = CalibrationResult.load(folder / "result")
        np.testing.assert_array_equal(again.weights, shown.weights)
        assert again.record_ids.tolist() == shown.record_ids.tolist()


def test_columns_called_like_an_identifier_link_too(tables):
    """As for the command line: persons with a benefit_unit_id belong to benefit units."""
    home, unit, person = (tables[name] for name in ("homes", "units", "persons"))
    both = (
        LinkedTable(unit.id, unit.name, "benefit_unit", "number"),
        LinkedTable(person.id, person.name, "person", "unit_of"),
    )

    ids, links = linking.ids_and_links(home, Roles("weight", "number", "household", both))

    assert ids == {"household": "number", "benefit_unit": "benefit_unit_id", "person": "person_id"}
    assert links == {
        "benefit_unit": {"household": "number"},
        "person": {"household": "unit_of"},
    }


@pytest.mark.parametrize(
    ("url", "command"),
    [("tune", "tune"), ("robustness", "evaluate"), ("target_analysis", "targets")],
)
def test_other_commands_are_told_of_the_tables(opened, home_workspace, linked, url, command):
    page = opened(home_workspace, url, dataset=linked.id)

    words = shlex.split(page.tested.code[0].value.replace("\\\n", ""))

    for word in ("--unit household", "--link person.unit_of=benefit_unit.benefit_unit_id"):
        assert word in " ".join(words)
    assert words.count("--table") == 2
    if command == "targets":
        page.widget("button", "start_targets").click()
        page.tested.run()
        assert last(home_workspace, "targets").result_folder.is_dir()


def test_an_evaluation_follows_columns_of_members(opened, home_workspace, linked):
    page = opened(home_workspace, "robustness", dataset=linked.id)

    page.widget("multiselect", "evaluate_untargeted").set_value(["rooms", "person.age"])
    page.run()

    assert "--untargeted rooms" in page.tested.code[0].value
    assert "--untargeted person.age" in page.tested.code[0].value


def test_a_diagnosis_says_that_it_looks_at_one_table(opened, home_workspace, linked):
    page = opened(home_workspace, "diagnostics", dataset=linked.id)

    assert "looks at its own table, of household, and not at those that belong to it" in said(page)
    assert not [each for each in page.tested.checkbox if each.key == "diagnose_again"]
