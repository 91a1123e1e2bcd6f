"""The queue of a workspace: first come, first served, and so many at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from microcalibrate.jobs.facts import Facts, RunState
from microcalibrate.jobs.locks import FileLock

QUEUE, SLOTS, RUNS = "queue", "slots", "runs"
LAUNCHED_NAME = "launched"
# A supervisor that was started so lately may not have had the time to say that it is there.
SECONDS_TO_BEGIN = 15.0
SECONDS_BETWEEN_LOOKS = 0.1


def ticket_name(run_id: str, created_ns: int) -> str:
    """Name of the file that stands for a queued run; names sort by time of submission."""
    return f"{created_ns:020d}-{run_id}"


def place_of(workspace: Path, ticket: str) -> int:
    """How many queued runs will be served before this one."""
    return sum(1 for _ in _before(workspace, ticket))


def _before(workspace: Path, ticket: str) -> Iterator[str]:
    """Tickets that are served first."""
    for other in sorted(path.name for path in (workspace / QUEUE).iterdir()):
        if other >= ticket:
            return
        if _is_waiting(workspace, other):
            yield other


def wait_for_slot(
    workspace: Path, ticket: str, n_slots: int, is_cancelled: Callable[[], bool]
) -> FileLock | None:
    """Wait for one's turn and a free slot; None if it is cancelled before.

    The slot is free again when the lock is released, or its holder dies.
    """
    while not is_cancelled():
        if next(_before(workspace, ticket), None) is None:
            for number in range(n_slots):
                slot = FileLock(workspace / SLOTS / f"{number}.lock")
                if slot.take():
                    return slot
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return None


def has_just_been_launched(folder: Path) -> bool:
    """Whether a supervisor may be on its way that has not written anything down yet."""
    try:
        launched = (folder / LAUNCHED_NAME).stat().st_mtime
        written = (folder / "state.json").stat().st_mtime
    except FileNotFoundError:
        return False
    return launched >= written and time.time() - launched < SECONDS_TO_BEGIN


def _is_waiting(workspace: Path, ticket: str) -> bool:
    """Whether someone stands behind a ticket; those of runs that are gone are thrown away."""
    folder = workspace / RUNS / ticket.partition("-")[2]
    facts = Facts.read(folder)
    if not folder.is_dir() or facts.state is not RunState.QUEUED:
        with suppress(FileNotFoundError):
            (workspace / QUEUE / ticket).unlink()
        return False
    if facts.supervisor is not None and facts.supervisor.is_alive:
        return True
    return has_just_been_launched(folder)
