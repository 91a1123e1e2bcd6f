"""Finished runs, and their files read once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard.context import Outcome
from microcalibrate.errors import UnreadableFile

if TYPE_CHECKING:
    from microcalibrate.jobs import Workspace
    from microcalibrate.logs import CalibrationLog
    from microcalibrate.result import CalibrationResult

RESULTS_KEPT = 8
LOG_NAME = "log.csv"


def finished(workspace: Workspace) -> list[Outcome]:
    """Runs of a workspace that have left a result, newest first."""
    from microcalibrate.reports.saved import kind_of

    found = []
    for run in workspace.runs():
        if run.result_folder.is_dir():
            try:
                kind = kind_of(run.result_folder).name
            except UnreadableFile:
                continue  # The folder of a command that leaves no run of these kinds.
            found.append(Outcome(run.id, run.name, kind, run.result_folder, run))
    return found


def calibration_of(outcome: Outcome) -> CalibrationResult:
    """The result of a calibration, read once as long as its files stay.

    Raises:
        UnreadableFile: If a file is missing or damaged.
    """
    written = (outcome.path / "result.json").stat().st_mtime_ns
    return _calibration(str(outcome.path), written)


@st.cache_resource(max_entries=RESULTS_KEPT, show_spinner="Reading the result …")
def _calibration(folder: str, _written: int) -> CalibrationResult:
    from microcalibrate.result import CalibrationResult

    return CalibrationResult.load(Path(folder))


def log_of(outcome: Outcome) -> CalibrationLog:
    """The log of a calibration, or of a log file, read once as long as it stays.

    Raises:
        UnreadableFile: If it is missing, damaged, or no log.
    """
    file = outcome.path / LOG_NAME if outcome.path.is_dir() else outcome.path
    written = file.stat().st_mtime_ns if file.is_file() else 0
    return _log(str(file), written)


@st.cache_resource(max_entries=RESULTS_KEPT, show_spinner="Reading the log …")
def _log(file: str, _written: int) -> CalibrationLog:
    from microcalibrate.logs import read_log

    return read_log(file)
