"""Finished runs, and their files read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import log_files
from microcalibrate.errors import UnreadableFile

if TYPE_CHECKING:
    from microcalibrate.jobs import Run, Workspace
    from microcalibrate.logs import CalibrationLog
    from microcalibrate.result import CalibrationResult

RESULTS_KEPT = 8
LOG_NAME = "log.csv"


@dataclass(frozen=True)
class Outcome:
    """A finished run that can be looked at, or a log file.

    Attributes:
        id: As the address of the page has it.
        name: As people know it.
        kind: That of `reports.saved.KINDS`, such as "calibration"; or "log".
        path: The folder of the result, or the log file.
        run: The job that made it, or None where it was opened from elsewhere.
    """

    id: str
    name: str
    kind: str
    path: Path
    run: Run | None = field(default=None, compare=False)


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


def uploaded_logs(workspace: Workspace) -> list[Outcome]:
    """Logs that were uploaded into a workspace, newest first."""
    return [Outcome(each.id, each.name, "log", each.path) for each in log_files.files(workspace)]


def opened(folders: Sequence[Path], logs: Sequence[Path]) -> tuple[Outcome, ...]:
    """Results and logs outside of the workspace.

    Args:
        folders: Of saved runs.
        logs: CSV files.
    """
    from microcalibrate.reports.saved import kind_of

    found = [Outcome(_key(path), path.name, kind_of(path).name, path) for path in folders]
    return (*found, *(Outcome(_key(path), path.name, "log", path) for path in logs))


def _key(path: Path) -> str:
    """An identifier that stays the same, and does not tell where the file lies."""
    return sha256(str(path.resolve()).encode()).hexdigest()[:16]


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
