"""Several linked tables on the Data screen: added, taken off, and told where they do not fit."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard import drafts, embedded, target_tables
from microcalibrate.dashboard.drafts import LinkedTable, Roles
from microcalibrate.dashboard.linking_form import row_of

from .linked_homes import N_HOMES, N_PEOPLE, last, people, said, units, waited

# --- Data -----------------------------------------------------------------------------------------


def test_without_further_tables_the_data_screen_says_what_they_are_for(
    opened, home_workspace, tables
):
    page = opened(home_workspace, "data", dataset=tables["homes"].id)

    assert "another table has their members, add it" in said(page)


def test_tables_are_linked_with_what_is_guessed_also_one_below_another(
    opened, home_workspace, tables
):
    home, unit, person = (tables[name] for name in ("homes", "units", "persons"))
    drafts.write_roles(home, Roles("weight", "number"))
    page = opened(home_workspace, "data", dataset=home.id)

    page.widget("selectbox", f"link_{home.id}_0").set_value(unit.id)
    page.run()
    page.widget("button", f"add_link_{home.id}").click()
    page.run()
    page.widget("selectbox", f"link_{home.id}_1").set_value(person.id)
    page.run()
    assert page.widget("button", f"add_link_{home.id}").disabled  # No column is called so.
    key = f"{home.id}_{person.id}"
    page.widget("selectbox", f"parent_{key}").set_value("benefit_unit")
    page.run()
    page.widget("selectbox", f"column_{key}_benefit_unit").set_value("unit_of")
    page.run()
    page.widget("button", f"add_link_{home.id}").click()
    page.run()

    assert drafts.read_roles(home).tables == (
        LinkedTable(unit.id, "units.csv", "benefit_unit", "number"),
        LinkedTable(
            person.id, "persons.csv", "person", "unit_of", "benefit_unit", "benefit_unit_id"
        ),
    )
    without = set(units()["number"]) - set(
        people().merge(units(), left_on="unit_of", right_on="benefit_unit_id")["number"]
    )
    assert f"{len(without)} of {N_HOMES} rows of 'household'" in said(page)
    assert "Not linked." not in said(page)


def test_a_link_that_leads_nowhere_is_told_in_words(opened, home_workspace, tables):
    home, person = tables["homes"], tables["persons"]
    wrong = LinkedTable(person.id, person.name, "person", "age")
    drafts.write_roles(home, Roles("weight", "number", "household", (wrong,)))

    page = opened(home_workspace, "data", dataset=home.id)

    assert "Not linked." in said(page)
    assert f"{N_PEOPLE} rows of 'person' are linked to no row of 'household'" in said(page)
    assert "in column 'age'" in said(page)


def test_a_link_column_that_is_gone_is_told_with_its_table(opened, home_workspace, tables):
    home, person = tables["homes"], tables["persons"]
    gone = LinkedTable(person.id, person.name, "person", "unit_off")
    drafts.write_roles(home, Roles("weight", "number", "household", (gone,)))

    page = opened(home_workspace, "data", dataset=home.id)

    assert "the table 'person' has no column 'unit_off'. Did you mean 'unit_of'" in said(page)


def test_a_table_is_taken_off_but_not_below_another(opened, home_workspace, linked):
    page = opened(home_workspace, "data", dataset=linked.id)
    assert page.widget("button", f"unlink_{linked.id}_benefit_unit").disabled

    page.widget("button", f"unlink_{linked.id}_person").click()
    page.run()
    page.widget("button", f"unlink_{linked.id}_benefit_unit").click()
    page.run()

    assert drafts.read_roles(linked) == Roles("weight", "number")


@pytest.mark.parametrize("word", ["a person", "household", "per.son", ""])
def test_what_a_row_is_must_be_a_word_of_its_own(opened, home_workspace, tables, word):
    home, unit = tables["homes"], tables["units"]
    drafts.write_roles(home, Roles("weight", "number"))
    page = opened(home_workspace, "data", dataset=home.id)
    page.widget("selectbox", f"link_{home.id}_0").set_value(unit.id)
    page.run()

    page.widget("text_input", f"entity_{home.id}_{unit.id}").set_value(word)
    page.run()

    assert "Not yet." in said(page)
    assert page.widget("button", f"add_link_{home.id}").disabled


def test_the_first_table_says_what_a_record_is(opened, home_workspace, tables):
    home, unit = tables["homes"], tables["units"]
    drafts.write_roles(home, Roles("weight", "number"))
    page = opened(home_workspace, "data", dataset=home.id)
    page.widget("selectbox", f"link_{home.id}_0").set_value(unit.id)
    page.run()

    page.widget("text_input", f"unit_of_{home.id}_{unit.id}").set_value("dwelling")
    page.run()
    page.widget("button", f"add_link_{home.id}").click()
    page.run()

    assert drafts.read_roles(home).entities == ("dwelling", "benefit_unit")


def test_a_record_gets_another_name_and_keeps_its_tables(opened, home_workspace, linked):
    before = drafts.read_roles(linked)
    page = opened(home_workspace, "data", dataset=linked.id)

    page.widget("text_input", f"unit_{linked.id}").set_value("dwelling")
    page.run()
    assert drafts.read_roles(linked) == Roles("weight", "number", "dwelling", before.tables)

    page.widget("text_input", f"unit_{linked.id}").set_value("person")
    page.run()
    assert "There is a table of person already" in said(page)
    assert drafts.read_roles(linked).unit == "dwelling"


def test_a_table_of_members_says_what_it_belongs_to(opened, home_workspace, tables, linked):
    page = opened(home_workspace, "data", dataset=tables["persons"].id)
    assert "the rows of person that belong to homes.csv" in said(page)

    page = opened(home_workspace, "data", dataset=linked.id)
    assert "belong to homes.csv" not in said(page)


def test_roles_that_an_earlier_page_has_kept_are_read(tables):
    home = tables["homes"]
    (home.folder / drafts.ROLES).write_text(json.dumps({"weight": "rooms", "id": "number"}))

    assert drafts.read_roles(home) == Roles("rooms", "number", "household", ())


@pytest.mark.parametrize(
    ("name", "identifier", "row"),
    [
        ("cps.csv", "person_id", "person"),
        ("Persons 2023.csv", "", "person"),
        ("people.parquet", "", "person"),
        ("tax-units.csv.gz", "number", "tax_unit"),
        ("2023.csv", "", "person"),
    ],
)
def test_what_a_row_is_is_guessed(name, identifier, row):
    assert row_of(name, identifier) == row


# --- A data set that was deleted ------------------------------------------------------------------


@pytest.mark.parametrize("url", ["data", "targets", "settings", "tune", "target_analysis"])
def test_a_table_that_was_deleted_is_told_in_words(opened, home_workspace, tables, linked, url):
    home_workspace.delete_dataset(tables["persons"].id)

    page = opened(home_workspace, url, dataset=linked.id)

    assert "persons.csv, the table of person, was deleted" in said(page)
    assert not [each for each in page.tested.button if (each.key or "").startswith("start_")]


def test_a_table_that_was_deleted_is_taken_off(opened, home_workspace, tables, linked):
    home_workspace.delete_dataset(tables["persons"].id)
    page = opened(home_workspace, "data", dataset=linked.id)

    page.widget("button", f"unlink_{linked.id}_person").click()
    page.run()

    assert "was deleted" not in said(page)
    assert [each.entity for each in drafts.read_roles(linked).tables] == ["benefit_unit"]


# --- The embedded households ----------------------------------------------------------------------


def test_the_embedded_households_come_linked_with_their_targets(opened, empty):
    page = opened(empty, "data")
    page.widget("button", "take_embedded_households").click()
    page.tested.run()

    dataset = empty.datasets()[0]
    assert dataset.name == embedded.HOUSEHOLD_NAMES.format("household")
    assert drafts.read_roles(dataset).entities == ("household", "tax_unit", "person")
    assert len(target_tables.included(drafts.read_targets(dataset))) == 13
    for each in empty.datasets():
        waited(each.run)
    page = opened(empty, "data", dataset=dataset.id)
    assert "Not linked." not in said(page)
    opened(empty, "targets", dataset=dataset.id)
    last(empty, "check")
    page = opened(empty, "targets", dataset=dataset.id)
    assert "<strong>0</strong><span>with errors</span>" in said(page)
