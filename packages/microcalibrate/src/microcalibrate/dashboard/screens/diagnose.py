"""Diagnostics: which records carry too much of what is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import (
    drafts,
    links,
    option_widgets,
    parts,
    reforms_field,
    surveys,
    target_tables,
)
from microcalibrate.dashboard.browsing import Order, browse, ordered_by
from microcalibrate.dashboard.launching import Job, columns_of, offered, start
from microcalibrate.dashboard.option_schema import arguments
from microcalibrate.dashboard.saved import result_and_form, saved, show
from microcalibrate.dashboard.screen import Screen
from microcalibrate.figures.plotting import amount, percent
from microcalibrate.reports.page import Table

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome
    from microcalibrate.dashboard.surveys import SurveyFolder
    from microcalibrate.diagnostics import Diagnosis
    from microcalibrate.jobs import Dataset

SHOWN = ("threshold", "reform_fraction", "n_reforms", "seed", "flag_dominating", "lineage")
MOST_RECORDS = 2_000
MOST_STATISTICS = 40


def render(context: Context) -> None:
    """Draw the screen."""
    result_and_form(
        context,
        ("diagnosis",),
        _result,
        lambda: _form(context),
        "New diagnosis",
        "A diagnosis looks at every total that is reported, in every cell, and tells which records "
        "carry more of it than one respondent should; also over tax reforms.",
    )


# --- Result ---------------------------------------------------------------------------------------


def _result(outcome: Outcome) -> None:
    found = saved(outcome)
    show(
        found,
        {
            "Records": lambda: _records(found.result),
            "One record": lambda: _one_record(found.result),
        },
    )


def _ranked(diagnosis: Diagnosis) -> pd.DataFrame:
    """The records that carry most, flagged ones first."""
    table = diagnosis.records
    table = table.assign(largest=table[["share", "reform_max_share"]].max(axis=1))
    order = ["is_flagged", "largest"]
    return table.sort_values(order, ascending=False, kind="stable").head(MOST_RECORDS)


def _records(diagnosis: Diagnosis) -> None:
    table = _ranked(diagnosis)
    median = float(diagnosis.records.weight.median())
    table = table.assign(over_median=table.weight / median if median else float("nan"))
    only = st.toggle("Only flagged ones", key="only_flagged", value=False)
    if only:
        table = table[table.is_flagged]
    if len(table) < len(diagnosis.records):
        parts.note(f"Those that carry most, of {len(diagnosis.records):,}.")
    browse(table, ORDERS, _columns(), "records", searched=("id", "worst_statistic"), noun="record")


def _one_record(diagnosis: Diagnosis) -> None:
    table = _ranked(diagnosis)
    names = {
        str(place): f"{row['id']}: {percent(row['largest'])} at most"
        for place, row in zip(table.index, table.to_dict("records"), strict=True)
    }
    place = int(links.choose("Record", names, "record", help="Type to search."))
    row: Any = table.loc[place]
    parts.tiles(
        [
            (percent(row.share), "largest share at baseline", "of the record alone"),
            (percent(row.lineage_share), "of its origin", "with all that comes from it"),
            (f"{row.n_influential:,}", "statistics above the limit", "at baseline"),
            (amount(row.weight), "weight", "flagged" if row.is_flagged else "not flagged"),
        ]
    )
    own = diagnosis.influence[diagnosis.influence.id == row.id]
    own = own.sort_values("share", ascending=False, kind="stable").head(MOST_STATISTICS)
    rows = [
        [
            each["statistic"],
            "baseline" if each["reform"] == "baseline" else f"{each['reform']}",
            percent(each["share"]),
            percent(each["lineage_share"]),
            amount(each["amount"]),
            "thin" if each["is_thin"] else "▲ above" if each["is_influential"] else "",
        ]
        for each in own.to_dict("records")
    ]
    heads = ["Statistic", "Of", "Share", "Of its origin", "Amount", ""]
    parts.show(Table(heads, rows, words=frozenset({1, 5})))


ORDERS: dict[str, Order] = {
    "largest share": ordered_by("largest"),
    "largest share at baseline": ordered_by("share"),
    "largest share of the origin": ordered_by("lineage_share"),
    "most statistics above": ordered_by("n_influential"),
    "most reforms above": ordered_by("n_reforms_above"),
    "largest weight": ordered_by("weight"),
}


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "id": config.Column("record", width=110),
        "is_flagged": config.CheckboxColumn("flagged", width=70),
        "share": config.NumberColumn("share", format="percent", width=80),
        "lineage_share": config.NumberColumn("of its origin", format="percent", width=100),
        "reform_max_share": config.NumberColumn("over reforms", format="percent", width=105),
        "worst_statistic": config.TextColumn("statistic it carries most of", width=260),
        "n_influential": config.NumberColumn("statistics above", width=120),
        "n_reforms_above": config.NumberColumn("reforms above", width=110),
        "weight": config.NumberColumn("weight", format="localized", width=95),
        "over_median": config.NumberColumn("over the median", format="%.1f", width=120),
    }


# --- Form -----------------------------------------------------------------------------------------


def _form(context: Context) -> None:
    datasets = {each.id: each for each in context.workspace.datasets() if each.profile}
    found = {each.id: each for each in surveys.surveys(context.workspace)}
    if not datasets and not found:
        parts.empty(
            "Nothing to diagnose yet",
            "Upload a survey on the Data screen, or put several tables together on the Regularise "
            "screen.",
        )
        context.link("data", "Go to Data")
        return
    names = {key: each.name for key, each in datasets.items()}
    names |= {key: f"{each.name} (several tables)" for key, each in found.items()}
    # The data set that the other screens look at comes first.
    looked_at = st.query_params.get("dataset") or st.session_state.get("last_dataset", "")
    names = {key: names[key] for key in sorted(names, key=lambda key: key != looked_at)}
    chosen = links.choose("Data set or survey", names, "source")
    if chosen in found:
        _of_survey(context, found[chosen])
    else:
        _of_dataset(context, datasets[chosen])


def _of_dataset(context: Context, dataset: Dataset) -> None:
    roles = drafts.read_roles(dataset)
    if not roles.weight:
        parts.notice("Not yet.", "No column is chosen for the weights.")
        context.link("data", "Choose it on the Data screen", dataset=dataset.id)
        return
    profile = dataset.profile or {}
    numbers = [e["name"] for e in profile["columns"] if e["type"] in ("integer", "number")]
    words = [str(dataset.table), *_weights(context, dataset, roles.weight)]
    words += ["--id", roles.id] if roles.id else []
    grid = target_tables.included(drafts.read_targets(dataset))
    if roles.tables:
        parts.notice(
            "One table.",
            f"A diagnosis of a data set looks at its own table, of {roles.unit}, and not at those "
            "that belong to it. Put them together on the Regularise screen to look at all of them.",
        )
        context.link("regularise", "Put tables together", view="Survey")
    targets = _targets(grid, roles)
    _fill_in(context, words, dataset.name, numbers, columns_of(dataset), targets, dataset.id)


def _targets(grid: pd.DataFrame, roles: drafts.Roles) -> bytes | None:
    """The targets as a table of the records alone; None where they need others, or there are none.

    Args:
        grid: Those in use.
        roles: Of the data set.
    """
    if grid.empty:
        return None
    if others := [each for each in target_tables.entities(grid) if each not in roles.entities[:1]]:
        parts.note(f"Targets are about {', '.join(others)}, so nothing is fitted to them again.")
        return None
    return target_tables.as_bytes(grid.drop(columns=target_tables.ENTITY, errors="ignore"))


def _weights(context: Context, dataset: Dataset, column: str) -> list[str]:
    """Which weights are looked at: those of the design, or of a calibration of the data set."""
    design = "design"
    found = {
        each.id: each
        for each in context.outcomes("calibration")
        if each.run is not None and each.run.details.get("dataset") == dataset.id
    }
    names = {design: f"of the design: {column}", **{key: each.name for key, each in found.items()}}
    chosen = links.choose("Weights", names, "weights")
    return ["--weight", column] if chosen == design else ["--run", str(found[chosen].path)]


def _of_survey(context: Context, survey: SurveyFolder) -> None:
    with parts.told():
        schema = survey.schema()
        if schema is None:
            parts.notice("Not yet.", "This survey has no schema.")
            context.link("regularise", "See how it comes to one", survey=survey.id)
            return
        file = survey.targets_file
        targets = file.read_bytes() if file.is_file() else None
        columns = [column.name for column in schema.unit_entity.columns]
        words = [str(survey.tables)]
        _fill_in(context, words, survey.name, survey.numbers(), columns, targets, "")


def _fill_in(
    context: Context,
    words: list[str],
    name: str,
    numbers: list[str],
    columns: list[str],
    targets: bytes | None,
    dataset: str,
) -> None:
    options = offered("diagnose", reforms_field.NOT_OFFERED)
    files: dict[str, bytes] = {}
    again = targets is not None and st.checkbox(
        "Leave out the most influential one by one, and fit the others to the targets again",
        key="diagnose_again",
        persist_state="session",
    )
    if not again:
        options.pop("left_out")
    values, acting, further, given = reforms_field.fields(
        "diagnose", options, SHOWN, numbers, columns, seeded=("seed",)
    )
    if not option_widgets.is_complete(acting, values):
        parts.notice("Not yet.", "A field above cannot be read.")
        return
    if again and targets is not None:
        further = [*further, "--targets", "{run}/targets.csv"]
        files["targets.csv"] = targets
    job = Job(
        "diagnose",
        [*words, "--out", "{run}/result", *further, *arguments(acting, values)],
        f"diagnosis of {name}",
        files | given,
        {"dataset": dataset, "values": values},
    )
    start(context, job, "Diagnose")


SCREEN = Screen(
    title="Diagnostics",
    icon=":material/troubleshoot:",
    url="diagnostics",
    lead="Which records carry too much of what is reported, at baseline and over reforms.",
    render=render,
    group="Go further",
)
