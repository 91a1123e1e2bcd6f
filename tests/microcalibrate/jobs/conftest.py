"""A workspace whose processes all end with the test, and small problems to work on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microcalibrate.jobs import Run, Workspace
from microcalibrate.jobs import workspace as room
from microcalibrate.jobs.processes import kill_tree

PATIENCE = 120.0
"""A test that waits longer for a process has failed."""


def until(what: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@dataclass(frozen=True)
class Problem:
    """Files of a survey and its targets."""

    data: Path
    targets: Path

    def words(self, *more: str) -> list[str]:
        """Arguments of a command that reads them and writes into the run's folder."""
        given = [str(self.data), "--weight", "w", "--targets", str(self.targets)]
        return [*given, "--out", "{run}/result", "--no-report", *more]

    def reformed(self, function: str) -> list[str]:
        """Arguments of `diagnose`, with a function of an uploaded `policy.py` as the reform."""
        given = [str(self.data), "--weight", "w", "--reforms", f"policy:{function}"]
        return [*given, "--out", "{run}/result", "--no-report"]


def written(folder: Path, n_records: int, n_targets: int) -> Problem:
    rng = np.random.default_rng(3)
    columns = {f"x{j}": rng.lognormal(size=n_records) for j in range(n_targets)}
    data = pd.DataFrame({"w": rng.uniform(1, 3, n_records), **columns})
    goals = [
        {"name": name, "variable": name, "agg": "sum", "value": (data.w * data[name]).sum() * off}
        for name, off in zip(columns, rng.uniform(0.8, 1.2, n_targets), strict=True)
    ]
    problem = Problem(folder / "people.parquet", folder / "targets.csv")
    data.to_parquet(problem.data, index=False)
    pd.DataFrame(goals).to_csv(problem.targets, index=False)
    return problem


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return written(tmp_path_factory.mktemp("small"), 200, 6)


def end_all(workspace: Workspace) -> None:
    """End every process of a workspace, queued ones first so that none begins."""
    for run in workspace.runs():
        run.cancel()
    for run in workspace.runs():
        facts = run.facts
        for mark in (facts.supervisor, facts.worker):
            if mark is not None:
                kill_tree(mark)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "workspace")
    yield made
    end_all(made)


# A command that never ends by itself, and cannot be asked to: only SIGKILL is left.
DEAF = b"""
import signal, sys, time
def never_ends(data):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf from here on", flush=True)
    while True:
        time.sleep(1)
"""


@pytest.fixture
def submit_deaf(workspace: Workspace, small: Problem) -> Callable[[str], Run]:
    def submitted(name: str) -> Run:
        words = small.reformed("never_ends")
        return workspace.submit("diagnose", words, name, files={"policy.py": DEAF})

    return submitted


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs stay queued: nothing in such a test is about what they do."""
    monkeypatch.setattr(room, "launch", lambda *_: None)
    monkeypatch.setattr(room, "mend", lambda *_: None)


@pytest.fixture
def wait() -> Callable[..., None]:
    return until


@pytest.fixture
def make_problem() -> Callable[[Path, int, int], Problem]:
    return written
