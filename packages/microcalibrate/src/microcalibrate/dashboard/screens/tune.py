"""Tune: how sparse is safe, found on targets that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import drafts, linking, links, option_widgets, parts, target_tables
from microcalibrate.dashboard.launching import Form, offered, targets_form
from microcalibrate.dashboard.saved import result_and_form, saved, show
from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.trial_options import calibration_values, evaluation_values, named
from microcalibrate.errors import UnknownRun

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome
    from microcalibrate.hyperparameter_tuning.result import TuningResult
    from microcalibrate.jobs import Dataset

FORM = Form(
    command="tune",
    shown=(
        "lambda_min",
        "lambda_max",
        "trials",
        "folds",
        "timeout",
        "seed",
        "objective",
        "one_standard_error",
        "score_weights",
    ),
    label="Tune",
    what="tuning",
    # Where trials are stored would be a file or a server of the reader's choice.
    left_out=("storage", "study_name"),
)


def render(context: Context) -> None:
    """Draw the screen."""
    result_and_form(
        context,
        ("tuning",),
        lambda outcome: _result(context, outcome),
        lambda: targets_form(context, FORM),
        "New tuning",
        "A tuning calibrates again and again, each time to a part of the targets, and looks how "
        "well the others are met. It tells how few records are safe.",
    )


def _result(context: Context, outcome: Outcome) -> None:
    found = saved(outcome)
    show(found, {"Trials": lambda: _trials(context, outcome, found.result)})


def _trials(context: Context, outcome: Outcome, result: TuningResult) -> None:
    done = result.trials[result.trials.state == "COMPLETE"]
    ranked = done.sort_values(["best", "score"], ascending=[False, True], kind="stable")
    names = {str(row["number"]): named(row) for row in ranked.to_dict("records")}
    number = int(links.choose("Trial", names, "trial", help="The chosen one first, then by score."))
    _use(context, outcome, result, number)
    parts.table(_table(ranked), key="trials", alt="All trials", column_config=_columns(ranked))
    parts.note(
        "A click on a head sorts. Errors are of targets that were held out, relative to their "
        "size and capped at 100% each; the score adds prices for records and far misses."
    )


def _use(context: Context, outcome: Outcome, result: TuningResult, number: int) -> None:
    dataset = _dataset(context, outcome)
    if dataset is None:
        parts.note(
            "The data set of this tuning is not in this workspace, so its trials can be looked at "
            "but not calibrated with here."
        )
        return
    entered = outcome.run.details.get("values", {}) if outcome.run else {}
    use, check = st.columns(2)
    with use:
        if st.button(
            "Use this trial",
            key="use_trial",
            type="primary",
            icon=":material/tune:",
            on_click=option_widgets.fill,
            args=("calibrate", offered("calibrate"), calibration_values(result, number, entered)),
            width="stretch",
        ):
            context.go("settings", dataset=dataset.id)
        st.caption("Fills the settings of a calibration with its options and its seed.")
    with check:
        if st.button(
            "Evaluate this trial",
            key="evaluate_trial",
            icon=":material/verified:",
            on_click=option_widgets.fill,
            args=("evaluate", offered("evaluate"), evaluation_values(result, number, entered)),
            width="stretch",
        ):
            context.go("robustness", dataset=dataset.id, view="New evaluation")
        st.caption("Fills the form of Robustness: the same folds, with every target in view.")
    if outcome.run and not linking.are_told(
        outcome.run.arguments, dataset, drafts.read_roles(dataset)
    ):
        parts.notice(
            "The tables have changed.",
            "Those that belong to the data set are no longer those of this tuning, so the same "
            "options will give another loss.",
        )
    if not _has_same_targets(dataset, outcome):
        parts.notice(
            "The targets have changed.",
            "Those on the Targets screen are no longer those of this tuning, so the same options "
            "will give another loss.",
        )


def _dataset(context: Context, outcome: Outcome) -> Dataset | None:
    wanted = outcome.run.details.get("dataset") if outcome.run else None
    try:
        return context.workspace.dataset(wanted) if wanted else None
    except UnknownRun:
        return None


def _has_same_targets(dataset: Dataset, outcome: Outcome) -> bool:
    file = outcome.run.folder / "targets.csv" if outcome.run else None
    now = target_tables.as_bytes(target_tables.included(drafts.read_targets(dataset)))
    return file is not None and file.is_file() and file.read_bytes() == now


# --- The table of trials --------------------------------------------------------------------------

FIGURES = (
    "score",
    "held_out_error",
    "standard_error",
    "train_error",
    "within_10_percent",
    "records",
    "kish",
    "seconds",
)


def _table(trials: pd.DataFrame) -> pd.DataFrame:
    columns = list(trials.columns)
    searched = columns[columns.index("state") + 1 : columns.index("score")]
    # Records are a mean over folds.
    shown = trials.assign(records=trials.records.round())
    return shown[["number", "best", "on_front", *searched, *FIGURES]]


def _columns(trials: pd.DataFrame) -> dict[str, Any]:
    config = st.column_config
    columns = list(trials.columns)
    searched = columns[columns.index("state") + 1 : columns.index("score")]
    return {
        "number": config.NumberColumn("trial", width=60),
        "best": config.CheckboxColumn("chosen", width=70),
        "on_front": config.CheckboxColumn("on front", width=75),
        **{name: config.Column(name.replace("_", " "), width=110) for name in searched},
        "score": config.NumberColumn(format="%.4f", width=80),
        "held_out_error": config.NumberColumn("held out", format="percent", width=90),
        "standard_error": config.NumberColumn("± one s.e.", format="percent", width=90),
        "train_error": config.NumberColumn("calibrated to", format="percent", width=105),
        "within_10_percent": config.NumberColumn("within 10%", format="percent", width=95),
        "records": config.NumberColumn(format="localized", width=85),
        "kish": config.NumberColumn("effective", format="%.0f", width=85),
        "seconds": config.NumberColumn(format="%.1f", width=75),
    }


SCREEN = Screen(
    title="Tune",
    icon=":material/query_stats:",
    url="tune",
    lead="How few records are safe, found on targets that were held out.",
    render=render,
    group="Go further",
)
