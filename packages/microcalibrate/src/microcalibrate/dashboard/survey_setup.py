"""Surveys on the Regularise screen: take one up, put tables together, see and mend the schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import links, parts, progress, surveys, words
from microcalibrate.dashboard.launching import columns_of
from microcalibrate.io import read_json
from microcalibrate.reports.page import Table

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.surveys import SurveyFolder
    from microcalibrate.jobs import Dataset

SCHEMA_HEIGHT = 320


def chosen(context: Context) -> SurveyFolder | None:
    """The survey that the reader works on, to be chosen from a list; None without any."""
    found = {each.id: each for each in surveys.surveys(context.workspace)}
    if not found:
        return None
    names = {key: each.name for key, each in found.items()}
    if links.is_stale("survey", names):
        parts.notice("Not here.", "The survey of this link is not in this workspace.")
    return found[links.choose("Survey", names, "survey")]


def ready(context: Context) -> SurveyFolder | None:
    """A survey that commands can work on; what it lacks is said where there is none."""
    survey = chosen(context)
    if survey is None:
        parts.empty(
            "No survey yet",
            "A model of households needs their tables, and a schema that says what each column "
            "is: the tab Survey puts them together.",
        )
        return None
    if survey.missing:
        gone = ", ".join(survey.missing)
        parts.notice("Not complete.", f"The data set of {gone} was deleted.")
        return None
    if survey.schema() is None:
        parts.notice("Not yet.", "This survey has no schema: see the tab Survey.")
        return None
    return survey


def draw(context: Context) -> None:
    """Show the survey, and the ways to another one."""
    survey = chosen(context)
    if survey is None:
        parts.empty(
            "No survey yet",
            "Put the tables of your data sets together, or take the embedded households: 3,000 of "
            "them, with their tax units and persons.",
        )
    else:
        with parts.told():
            _one(context, survey)
    st.subheader("Another survey", anchor=False)
    if st.button("Take the embedded households", key="take_households"):
        made = surveys.take_up_households(context.workspace)
        context.go("regularise", view="Survey", survey=made.id)
    _compose(context)


def _one(context: Context, survey: SurveyFolder) -> None:
    if survey.missing:
        parts.notice("Not complete.", f"The data set of {', '.join(survey.missing)} was deleted.")
    run = surveys.schema_run(context.workspace, survey)
    if survey.schema_file.is_file():
        _schema(survey)
        _targets(survey)
    elif run is None:
        parts.notice("No schema.", "The run that proposes it was deleted. Remove this survey.")
    else:
        progress.watch(run, "Proposing a schema")
        if run.state.is_over and survey.schema_file.is_file():
            st.rerun()
    with st.expander("Remove this survey", key="remove_survey_fold"):
        parts.note("Its data sets and runs stay.")
        if st.button("Remove it", key=f"remove_{survey.id}"):
            surveys.delete(survey)
            context.go("regularise", view="Survey")


def _schema(survey: SurveyFolder) -> None:
    schema = survey.schema()
    if schema is None:
        return
    rows = []
    for entity in schema.entities:
        kinds: dict[str, list[str]] = {}
        for column in entity.columns:
            kinds.setdefault(column.kind, []).append(column.name)
        what = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())
        mark = ", sampled" if entity.name == schema.unit else ""
        rows.append([f"{entity.name}{mark}", what, f"{len(entity.columns):,}"])
    parts.show(Table(["Table", "What its columns are", "Columns"], rows, words=frozenset({1})))
    parts.note(
        f"Weight: {schema.weight}. {words.count(len(schema.constraints), 'constraint')} that hold "
        "in all records. A proposed schema is a first one: read it, and correct what the data "
        "could not show."
    )
    with st.expander("Schema, to be read and corrected", key="schema_fold"):
        kept = json.dumps(read_json(survey.schema_file), indent=1, ensure_ascii=False)
        text = st.text_area(
            "Schema as JSON", value=kept, key=f"schema_{survey.id}", height=SCHEMA_HEIGHT
        )
        if st.button("Keep the changes", key="keep_schema", disabled=text == kept):
            with parts.told():
                survey.write_schema(text)
                st.rerun()


def _targets(survey: SurveyFolder) -> None:
    there = survey.targets_file.is_file()
    if there:
        from microcalibrate.io import read_table

        table = read_table(survey.targets_file)
        parts.note(f"{words.count(len(table), 'target')}:")
        parts.table(
            table,
            key="survey_targets",
            alt="Targets of the survey",
            height=240,
            column_config={"value": st.column_config.NumberColumn(format="localized")},
        )
    uploaded = st.file_uploader(
        "Other targets, as CSV"
        if there
        else "Targets, as CSV: a name, a value, a variable, and an entity where it is not the unit",
        type=["csv"],
        key=f"survey_targets_{survey.id}",
        max_upload_size=50,
    )
    if uploaded is not None and (
        not there or uploaded.getvalue() != survey.targets_file.read_bytes()
    ):
        survey.write_targets(uploaded.getvalue())
        st.rerun()


def _compose(context: Context) -> None:
    datasets = {each.id: each for each in context.workspace.datasets() if each.profile}
    if not datasets:
        parts.note("To put a survey together, upload its tables on the Data screen.")
        context.link("data", "Go to Data")
        return
    shown = links.distinct({key: each.name for key, each in datasets.items()})
    with st.expander("Put data sets together", key="compose_fold"):
        picked = st.multiselect(
            "Tables",
            list(datasets),
            format_func=lambda key: shown[key],
            key="compose_tables",
        )
        if picked:
            _name_tables(context, [datasets[key] for key in picked])


def _name_tables(context: Context, picked: list[Dataset]) -> None:
    parts.note(
        "One row of a table is one entity, such as household, tax_unit or person. Tables hang "
        "together by columns that have the name of another's identifier, such as household_id."
    )
    tables = {}
    for dataset in picked:
        stem = dataset.name.partition(".")[0].lower().replace(" ", "_").replace("-", "_")
        entity = st.text_input(
            f"Entity of {words.label(dataset.name)}", value=stem, key=f"entity_{dataset.id}"
        )
        tables[entity.strip()] = dataset
    if len(tables) < len(picked):
        parts.notice("Not yet.", "Two tables have the same entity.")
        return
    unit = st.selectbox(
        "Entity that was sampled and carries the weight", list(tables), key="compose_unit"
    )
    columns = columns_of(tables[unit])
    weight = st.selectbox(
        "Its column with the weight",
        columns,
        index=columns.index("weight") if "weight" in columns else 0,
        key="compose_weight",
    )
    name = st.text_input("Name of the survey", key="compose_name", placeholder=", ".join(tables))
    if st.button("Put them together", key="compose", type="primary"):
        with parts.told():
            made = surveys.compose(
                context.workspace, name.strip() or ", ".join(tables), tables, unit, weight
            )
            context.go("regularise", view="Survey", survey=made.id)
