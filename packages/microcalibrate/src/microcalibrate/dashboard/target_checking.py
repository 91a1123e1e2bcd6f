"""Checks of targets by a job, begun anew whenever the targets change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import drafts, linking, parts, progress, target_tables, words

if TYPE_CHECKING:
    from pathlib import Path

    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Dataset, Run, Workspace
    from microcalibrate.target_checks import TargetChecks

COMMAND = "check"
KEPT = 8
MOST_SAID = 6
MARKS = {"error": "✕ error", "warning": "▲ warning", "note": "● note", "ok": "✓ ok"}
"""How a severity is shown: by its shape, too."""


def checks(context: Context, dataset: Dataset, grid: pd.DataFrame) -> None:
    """Show what was found in the targets, and look again when they have changed."""
    st.subheader("Checks", anchor=False)
    used = target_tables.included(grid)
    roles = drafts.read_roles(dataset)
    if used.empty:
        parts.note("Targets are checked as soon as there are some.")
        return
    if not roles.weight:
        parts.notice("Not checked.", "No column is chosen for the weights.")
        context.link("data", "Choose it on the Data screen", dataset=dataset.id)
        return
    if said := linking.lack(dataset, roles) or linking.foreign(roles, used):
        parts.notice("Not checked.", said)
        context.link("data", "See the tables on the Data screen", dataset=dataset.id)
        return
    wanted = drafts.fingerprint(dataset, grid, roles)
    runs = _runs(context.workspace, dataset)
    current = next((run for run in runs if run.details["fingerprint"] == wanted), None)
    by_itself = st.checkbox(
        "Check after each change", value=True, key="check_by_itself", persist_state="session"
    )
    if current is None and (by_itself or st.button("Check now", key="check_now")):
        _clear(runs)
        current = _submit(context.workspace, dataset, used, roles, wanted)
    if current is not None and not current.state.is_over:
        progress.watch(current, "Checking the targets")
    elif current is not None and not current.result_folder.is_dir():
        progress.ended(current)
    elif current is not None:
        _show(_read(current.result_folder), _abouts(used, roles))


def _runs(workspace: Workspace, dataset: Dataset) -> list[Run]:
    """Checks of a data set, newest first."""
    return [
        run
        for run in workspace.runs()
        if run.command == COMMAND and run.details.get("dataset") == dataset.id
    ]


def _clear(runs: list[Run]) -> None:
    """End checks of targets that are no more, and delete old ones."""
    for run in runs:
        run.cancel()
    for run in runs[1:]:
        if run.state.is_over:
            run.delete()


def _submit(
    workspace: Workspace, dataset: Dataset, used: pd.DataFrame, roles: drafts.Roles, wanted: str
) -> Run:
    arguments = [str(dataset.table), *linking.arguments(dataset, roles)]
    arguments += ["--targets", "{run}/targets.csv", "--weight", roles.weight]
    return workspace.submit(
        COMMAND,
        [*arguments, "--out", "{run}/result"],
        f"check of {words.count(len(used), 'target')}",
        files={"targets.csv": target_tables.as_bytes(used)},
        details={"dataset": dataset.id, "fingerprint": wanted},
    )


def _read(folder: Path) -> TargetChecks:
    return _loaded(str(folder), (folder / "checks.json").stat().st_mtime_ns)


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _loaded(folder: str, _written: int) -> TargetChecks:
    from microcalibrate.target_checks import TargetChecks

    return TargetChecks.load(folder)


def _abouts(used: pd.DataFrame, roles: drafts.Roles) -> dict[str, str]:
    """Target to the table that it is about, where there are several."""
    if not roles.tables:
        return {}
    entities = used[target_tables.ENTITY] if target_tables.ENTITY in used else [""] * len(used)
    said = (f" (rows of {entity or roles.unit})" for entity in entities)
    return dict(zip(used["name"], said, strict=True))


def _show(found: TargetChecks, abouts: Mapping[str, str]) -> None:
    counts = {severity: found.count(severity) for severity in MARKS}
    parts.tiles(
        [
            (f"{counts['error']:,}", "with errors", "no weights can meet them"),
            (f"{counts['warning']:,}", "with warnings", "to be looked at"),
            (f"{counts['note']:,}", "with notes", ""),
            (f"{counts['ok']:,}", "in order", ""),
        ]
    )
    # In a table a long finding is cut off, so the worst are said in full.
    worst = found.findings[found.findings["severity"] == "error"]
    said = [
        f"“{each.name}”{abouts.get(str(each.name), '')}: {each.message}"
        for each in worst.head(MOST_SAID).itertuples()
    ]
    if more := len(worst) - len(said):
        said.append(f"… and {words.count(more, 'further error')}, in the table below.")
    if said or found.notes:
        parts.sentences([*said, *found.notes])
    only = st.toggle("Only those with findings", value=True, key="only_findings")
    table = found.table
    shown = table[table["findings"] != ""] if only else table
    if shown.empty:
        parts.note("Nothing was found.")
        return
    order = shown["severity"].map(list(MARKS).index).to_numpy()
    shown = shown.iloc[order.argsort(kind="stable")]
    shown = shown.assign(severity=shown["severity"].map(MARKS))
    parts.table(
        shown[list(_columns())],
        key="checks",
        alt="What was found in the targets",
        column_config=_columns(),
        height=420 if len(shown) > 11 else "auto",
    )
    parts.note(f"Least and greatest: what the survey can add up to, {found.bounds}.")


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "severity": config.TextColumn("", width=90),
        "name": config.TextColumn("target", width=220),
        "ratio": config.NumberColumn("before / wanted", format="percent", width=115),
        "findings": config.TextColumn("what was found", width=420),
        "target": config.NumberColumn("wanted", format="compact", width=80),
        "initial": config.NumberColumn("before", format="compact", width=80),
        "lowest": config.NumberColumn("least", format="compact", width=80),
        "highest": config.NumberColumn("greatest", format="compact", width=80),
        "support": config.NumberColumn("records", format="localized", width=80),
    }
