"""Downloads: weights, log, targets, configuration, figures and report, alone or all together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import outcomes, parts, words
from microcalibrate.dashboard.outcomes import Outcome
from microcalibrate.dashboard.packing import (
    MANIFEST,
    File,
    archive,
    files_of,
    table_bytes,
    weights_table,
)
from microcalibrate.dashboard.screen import Screen
from microcalibrate.figures import calibration as figures
from microcalibrate.reports.page import Figure, render_page

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.result import CalibrationResult

MEANINGS = {
    "log.csv": "every target at every step, in the form that other viewers of logs read",
    "log.csv.meta.json": "what the log does not say: settings, seed, versions",
    "targets.csv": "targets with their estimates, errors and prices",
    "targets.parquet": "the same in another format",
    "steps.csv": "each step of the solver",
    "config.json": "every option of the run",
    "result.json": "how it ended, and all numbers that are in no table",
    "inclusion_probabilities.parquet": "chance of each record to be kept",
    "record_options.parquet": "options that differ by record, one row each",
    "report.html": "one page with everything, which needs no network",
}
REPLACED = ("weights.csv", "weights.parquet")


def render(context: Context) -> None:
    """Draw the screen."""
    outcome = context.outcome()
    if outcome is None:
        parts.empty("Nothing to download yet", "A run leaves its files here when it is done.")
        context.link("settings", "Go to the settings")
        return
    files = files_to_download(outcome)
    st.download_button(
        "Everything in one ZIP archive",
        data=lambda: archive(files),
        file_name=f"microcalibrate-{outcome.id[:8]}.zip",
        mime="application/zip",
        key="download_all",
        type="primary",
        icon=":material/folder_zip:",
        on_click="ignore",
    )
    parts.note(f"With the checksum of each file in {MANIFEST}, for sha256sum --check.")
    for file in files:
        _row(file)
    parts.note(
        "In CSV files a text that a spreadsheet would take for a formula has an apostrophe before "
        "it. Each chart of the page, too, is saved as SVG by the camera at its corner."
    )


def _row(file: File) -> None:
    button, meaning = st.columns([3, 5], vertical_alignment="center")
    with button:
        st.download_button(
            words.label(file.name),
            data=file.content,
            file_name=file.name.replace("/", "-"),
            mime=file.media_type,
            key=f"download_{file.name}",
            on_click="ignore",
            icon=":material/download:",
            width="stretch",
            wrap=True,
        )
    with meaning:
        parts.note(file.meaning)


def files_to_download(outcome: Outcome) -> list[File]:
    """What there is of a result."""
    if outcome.kind == "log":
        return [File(outcome.path.name, "the log", outcome.path.read_bytes)]
    found = files_of(outcome.path, MEANINGS)
    if outcome.kind == "calibration":
        result = outcomes.calibration_of(outcome)
        found = [*_weights(result), *(file for file in found if file.name not in REPLACED)]
        found.append(
            File("figures.html", "the figures alone, each to be saved as SVG", _page(result))
        )
    declared = outcome.run.folder / "targets.csv" if outcome.run else None
    if declared is not None and declared.is_file():
        found.append(
            File("declared-targets.csv", "targets as they were entered", declared.read_bytes)
        )
    return found


def _weights(result: CalibrationResult) -> list[File]:
    def written(name: str) -> Callable[[], bytes]:
        return lambda: table_bytes(weights_table(result), name)

    meaning = "id, initial weight and weight of every record, zeros included"
    return [File(name, meaning, written(name)) for name in REPLACED]


def _page(result: CalibrationResult) -> Callable[[], bytes]:
    def draw() -> bytes:
        drawn = {
            "fit": figures.fit(result),
            "estimates": figures.estimates(result),
            "worst": figures.worst_targets(result),
            "weights": figures.weights(result),
            "history": figures.history(result),
        }
        shown = [Figure(name, figure) for name, figure in drawn.items()]
        return render_page("Figures of the calibration", shown, []).encode()

    return draw


SCREEN = Screen(
    title="Downloads",
    icon=":material/download:",
    url="downloads",
    lead="Files for whoever goes on with the weights, and for whoever checks them.",
    render=render,
    group="Look",
)
