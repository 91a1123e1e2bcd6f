"""Diagnoses, models of households and regularisations: what is started, and what is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard import surveys
from microcalibrate.diagnostics import Diagnosis, diagnose
from microcalibrate.errors import InvalidSchema, InvalidSurvey

TABS = [
    "Records",
    "One record",
    "Influence",
    "Thin cells",
    "Effective sample",
    "Reforms",
    "Weights",
    "Settings",
]


@pytest.fixture(scope="module")
def diagnosed(workspace, dataset, wait):
    """A diagnosis of the persons, over random schedules too."""
    words = [str(dataset.table), "--weight", "weight", "--id", "person_id"]
    words += ["--random-reforms", "income", "--n-reforms", "2", "--out", "{run}/result"]
    return wait(workspace.submit("diagnose", words, "diagnosis of persons"))


@pytest.fixture(scope="module")
def wait():
    import time

    def over(run):
        while not run.state.is_over:
            time.sleep(0.1)
        assert run.state.value == "done", run.log_tail()
        return run

    return over


@pytest.fixture
def households(empty, over):
    """Two tables of a workspace: households and their members."""
    generator = np.random.default_rng(0)
    household = pd.DataFrame(
        {
            "household_id": np.arange(30),
            "weight": generator.uniform(1, 3, 30),
            "state": generator.choice(["CA", "TX"], 30),
        }
    )
    person = pd.DataFrame(
        {
            "person_id": np.arange(60),
            "household_id": np.repeat(np.arange(30), 2),
            "income": generator.gamma(2, 1000, 60).round(),
        }
    )
    tables = {}
    for name, table in (("household", household), ("person", person)):
        tables[name] = empty.add_upload(f"{name}.csv", [table.to_csv(index=False).encode()])
        over(tables[name].run)
    return tables


# --- Diagnosis ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_of_a_diagnosis_is_drawn(opened, workspace, diagnosed, tab):
    page = opened(workspace, "diagnostics", run=diagnosed.id, tab=tab)

    assert "of 200 records carr" in page.words
    drawn = tab in ("Influence", "Effective sample", "Reforms", "Weights")
    assert bool(page.tested.get("plotly_chart")) is drawn


def test_records_are_shown_with_the_shares_of_themselves_and_of_their_origin(
    opened, workspace, diagnosed
):
    found = Diagnosis.load(diagnosed.result_folder).records.set_index("id")
    page = opened(workspace, "diagnostics", run=diagnosed.id, sort="largest share at baseline")

    shown = page.tables[-1].set_index("id")
    assert len(shown) == 200
    for name in ("share", "lineage_share", "weight"):
        assert shown[name].to_numpy() == pytest.approx(found[name][shown.index].to_numpy())
    assert shown.share.is_monotonic_decreasing


def test_a_diagnosis_is_started_with_what_the_form_says(opened, workspace, dataset, wait):
    page = opened(workspace, "diagnostics", view="New diagnosis", source=dataset.id)
    page.widget("selectbox", "diagnose_random_reforms").set_value("income")
    page.widget("text_input", "diagnose_threshold").set_value("0.2")
    page.run()
    page.widget("text_input", "diagnose_n_reforms").set_value("3")
    page.run()

    page.widget("button", "start_diagnose").click()
    page.tested.run()

    run = wait(next(each for each in workspace.runs() if each.command == "diagnose"))
    found = Diagnosis.load(run.result_folder)
    assert found.threshold == 0.2
    assert found.settings["n_reforms"] == 3
    data = pd.read_parquet(dataset.table)
    direct = diagnose(data, weights="weight", id_column="person_id", threshold=0.2)
    assert found.records.share.to_numpy() == pytest.approx(direct.records.share.to_numpy())
    run.delete()


def test_the_weights_of_a_calibration_are_diagnosed(opened, workspace, dataset, calibrated, wait):
    from microcalibrate.result import CalibrationResult

    page = opened(
        workspace, "diagnostics", view="New diagnosis", source=dataset.id, weights=calibrated.id
    )
    page.widget("button", "start_diagnose").click()
    page.tested.run()

    run = wait(next(each for each in workspace.runs() if each.command == "diagnose"))
    found = Diagnosis.load(run.result_folder).records.set_index("id").weight
    expected = CalibrationResult.load(calibrated.result_folder).weights_table().set_index("id")
    assert found.to_numpy() == pytest.approx(expected.weight[found.index].to_numpy())
    run.delete()


def test_programs_and_files_of_the_readers_choice_are_not_offered(opened, workspace, dataset):
    page = opened(workspace, "diagnostics", view="New diagnosis", source=dataset.id)

    keys = {each.key for each in page.tested.text_input}
    assert not {"diagnose_reforms", "diagnose_surface"} & keys
    assert any("command line alone" in each.value for each in page.tested.caption)


# --- Surveys --------------------------------------------------------------------------------------


def test_tables_are_put_together_and_get_a_schema(opened, empty, households, over):
    page = opened(empty, "regularise", view="Survey")
    page.widget("multiselect", "compose_tables").set_value([d.id for d in households.values()])
    page.run()
    page.widget("selectbox", "compose_unit").set_value("household")
    page.run()
    page.widget("button", "compose").click()
    page.tested.run()

    [survey] = surveys.surveys(empty)
    over(surveys.schema_run(empty, survey))
    schema = survey.schema()
    assert {entity.name for entity in schema.entities} == {"household", "person"}
    assert schema.entity("person").parents == {"household": "household_id"}
    assert survey.numbers() == ["person.income"]
    page = opened(empty, "regularise", view="Survey", survey=survey.id)
    assert "household, sampled" in page.words
    # Deleting a data set leaves no copy of its records.
    empty.delete_dataset(households["person"].id)
    assert survey.missing == ["person"]
    page = opened(empty, "regularise", view="Train a model", survey=survey.id)
    assert "The data set of person was deleted." in page.words


def test_a_survey_needs_its_unit_and_plain_names(empty, households):
    with pytest.raises(InvalidSurvey, match="is none of household, person"):
        surveys.compose(empty, "mine", households, "family", "weight")
    with pytest.raises(InvalidSurvey, match="no name for an entity"):
        surveys.compose(empty, "mine", {"../x": households["person"]}, "../x", "weight")
    assert surveys.surveys(empty) == []


def test_a_schema_that_is_none_changes_nothing(empty):
    survey = surveys.take_up_households(empty)
    before = survey.schema_file.read_bytes()

    with pytest.raises(InvalidSchema):
        survey.write_schema('{"entities": []}')
    with pytest.raises(InvalidSchema, match="is not JSON"):
        survey.write_schema("{")

    assert survey.schema_file.read_bytes() == before


def test_a_model_is_trained_on_the_survey_and_a_regularisation_wants_one(opened, empty, over):
    survey = surveys.take_up_households(empty)
    page = opened(empty, "regularise", view="Regularise", survey=survey.id)
    assert "No model was trained on this survey" in page.words
    page = opened(empty, "regularise", view="Train a model", survey=survey.id)
    page.widget("text_input", "train_epochs").set_value("3")
    page.run()

    page.widget("button", "start_train").click()
    page.tested.run()

    [run] = [each for each in empty.runs() if each.command == "train"]
    assert run.arguments[0] == str(survey.tables)
    assert run.arguments[-2:] == ("--epochs", "3")
    run.cancel()
    over(run)


def test_a_page_for_others_offers_no_backend_that_is_for_one_machine(opened, empty):
    survey = surveys.take_up_households(empty)
    for arguments, is_there in (((), True), (("--remote",), False)):
        page = opened(empty, "regularise", *arguments, view="Train a model", survey=survey.id)
        choices = page.widget("selectbox", "train_backend").options
        assert any("sdv" in each for each in choices) is is_there


# --- Sections of reports --------------------------------------------------------------------------


def test_a_long_table_is_folded_only_above_a_figure(monkeypatch):
    from microcalibrate.dashboard import saved
    from microcalibrate.figures.plotting import blank_figure
    from microcalibrate.reports.page import Figure, Paragraph, Section, Table

    seen = []
    monkeypatch.setattr(saved.parts, "show", lambda *shown: seen.extend(shown))
    monkeypatch.setattr(saved.parts, "chart", lambda name, _: seen.append(name))
    monkeypatch.setattr(saved.st, "expander", lambda label: seen.append(label) or saved.st.empty())
    long, note = Table(["Record"], [["a"]] * 20), Paragraph("so")
    figure = Figure("drawn", blank_figure("x", "y", 300))

    saved.show_section(Section("One", [note, long, figure, long, note]))

    assert seen == [note, "Record: 20 rows", long, "drawn", long, note]


def test_options_are_named_as_in_the_forms():
    from microcalibrate.dashboard.words import of_the_page

    assert of_the_page("Raise `max_iter`, or set compare_with_random=False.") == (
        "Raise “Max iter”, or set “Random” off."
    )
    assert of_the_page('"kappa=1" is the name of a target') == '"kappa=1" is the name of a target'
