"""Supervisors are started, and what dead ones have left behind is put in order."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from microcalibrate.errors import UnknownRun
from microcalibrate.jobs.facts import Facts, RunState, present
from microcalibrate.jobs.locks import FileLock
from microcalibrate.jobs.processes import ProcessMark, kill_tree, start_detached
from microcalibrate.jobs.run import DELETED, Run, is_id
from microcalibrate.jobs.waiting import LAUNCHED_NAME, RUNS, has_just_been_launched

UPLOADS, DATASETS = "uploads", "datasets"
# What is unfinished for longer will never be finished.
SECONDS_OF_DOUBT = 6 * 3600.0
SLOTS_VARIABLE = "MICROCALIBRATE_JOBS"
SECONDS_FOR_AN_END = 2.0
LOCK_NAME, SUPERVISOR_LOG = "supervisor.lock", "supervisor.log"


def launch(folder: Path, n_slots: int) -> None:
    """Start the supervisor of a run. If it has one already, the new one leaves again."""
    (folder / LAUNCHED_NAME).touch()
    # -P: files in the run folder, which users name, must not be taken for modules.
    start_detached(
        [sys.executable, "-P", "-m", "microcalibrate.jobs.supervisor", str(folder)],
        folder / SUPERVISOR_LOG,
        {**os.environ, SLOTS_VARIABLE: str(n_slots)},
    )


def run_folders(workspace: Path) -> Iterator[Path]:
    """Folders of runs, in no order."""
    for folder in (workspace / RUNS).iterdir():
        if is_id(folder.name):
            yield folder


def mend(workspace: Path, n_slots: int) -> None:
    """Put in order what processes left behind that were killed.

    Runs whose supervisor died are ended, and so are their workers; queued ones get a new
    supervisor, and keep their place.
    """
    for folder in run_folders(workspace):
        facts = Facts.read(folder)
        if facts.state.is_over or (facts.supervisor is not None and facts.supervisor.is_alive):
            continue
        try:
            run = Run.read(folder)
        except UnknownRun:
            continue  # It is being deleted.
        if facts.state is RunState.RUNNING or run.is_cancelled:
            _end_orphan(run)
        elif not has_just_been_launched(folder):
            launch(folder, n_slots)


def _end_orphan(run: Run) -> None:
    """Write down the end of a run that nobody watches, and end what is left of it."""
    with FileLock(run.folder / LOCK_NAME) as lock:
        if not lock.take():
            return  # Its supervisor lives after all, or someone else is at it.
        facts = Facts.read(run.folder)
        if facts.state.is_over:
            return
        if facts.worker is not None:
            kill_tree(facts.worker)
            _wait_for_end(facts.worker)
        dataclasses.replace(present(run.folder), ended=time.time()).write(run.folder)


def _wait_for_end(mark: ProcessMark) -> None:
    """What works must be gone before the end is written down, and the next run begins."""
    deadline = time.monotonic() + SECONDS_FOR_AN_END
    while mark.is_alive and time.monotonic() < deadline:
        time.sleep(0.02)


def sweep(workspace: Path) -> None:
    """Remove what interrupted deletions, submissions and uploads have left."""
    deadline = time.time() - SECONDS_OF_DOUBT
    for part in (UPLOADS, DATASETS, RUNS):
        for path in (workspace / part).iterdir():
            is_deleted = path.name.startswith(DELETED)
            is_unfinished = path.name.startswith(".") or _is_upload_of_nothing(path)
            with suppress(FileNotFoundError):  # Another process may be at the same.
                if is_deleted or (is_unfinished and path.stat().st_mtime < deadline):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()


def _is_upload_of_nothing(path: Path) -> bool:
    """Whether it is a file that came in, and of which no data set was made."""
    dataset = path.parent.parent / DATASETS / path.name.partition(".")[0]
    return path.parent.name == UPLOADS and not dataset.is_dir()
