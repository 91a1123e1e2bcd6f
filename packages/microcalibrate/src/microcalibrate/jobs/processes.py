"""Processes that outlive the one that started them, and are known again by pid and start time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# Start times are told to a hundredth, but the clock that they count from may be set anew.
SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class ProcessMark:
    """Which process: a pid alone may belong to another one later.

    Attributes:
        pid: Its number.
        created: When it started, seconds since the epoch.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """The mark of a process that is there.

        Raises:
            psutil.NoSuchProcess: If it is not.
        """
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def read(cls, plain: Mapping[str, Any] | None) -> ProcessMark | None:
        """From the values of a JSON file."""
        return None if plain is None else cls(int(plain["pid"]), float(plain["created"]))

    def found(self) -> psutil.Process | None:
        """The process, if it is alive and still the same."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) > SAME_START_SECONDS:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None  # Those of other users are none of ours, whatever their pid.

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.found() is not None


def kill_tree(mark: ProcessMark) -> None:
    """End a process and all that it has started, at once.

    It does not wait for their ends: how a child ended is for its parent to find out.
    """
    process = mark.found()
    if process is None:
        return
    family = [process]
    with suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    end_group(mark.pid)


def end_group(pid: int) -> None:
    """End what is left of the group of processes that a worker led, such as its own workers."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def apart() -> dict[str, Any]:
    """Options of `Popen` for a process with a session, and thereby a group, of its own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def start_detached(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Start a process that goes on when this one ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=log.parent,
            **apart(),
        )
    # As long as we live its end must be waited for, or it would stay in the system's table.
    threading.Thread(target=process.wait, daemon=True).start()
