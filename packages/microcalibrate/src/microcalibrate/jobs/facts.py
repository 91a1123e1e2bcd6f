"""What is known of a run, and the state that follows from it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from microcalibrate.atomic import atomic_path
from microcalibrate.jobs.processes import ProcessMark

STATE_NAME = "state.json"
CANCEL_NAME = "cancel"
"""File in the folder of a run whose existence means that it is to end."""


class RunState(Enum):
    """What a run is doing; the value is the word that is stored and shown."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (RunState.CANCELLED, RunState.FAILED, RunState.DONE)


@dataclass(frozen=True)
class Facts:
    """What the supervisor of a run has written down.

    Attributes:
        state: As of then: QUEUED, RUNNING or one of the three ends.
        supervisor: The process that waits and watches, once it has begun.
        worker: The process that does the work.
        started: When the worker began, seconds since the epoch.
        ended: When it ended.
        exit_code: How it ended; negative for the signal that ended it.
        reason: What there is to say about the end, one or two sentences.
    """

    state: RunState = RunState.QUEUED
    supervisor: ProcessMark | None = None
    worker: ProcessMark | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Those of the run in a folder; without any, it is queued."""
        for wait in (0.01, 0.05, None):
            try:
                plain = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
                break
            except FileNotFoundError:
                return cls()
            except PermissionError:
                # Windows, in the moment in which the file is replaced.
                if wait is None:
                    raise
                time.sleep(wait)
        for name in ("supervisor", "worker"):
            plain[name] = ProcessMark.read(plain[name])
        return cls(**plain | {"state": RunState(plain["state"])})

    def write(self, folder: Path) -> None:
        """Write them down, whole or not at all."""
        plain = asdict(self) | {"state": self.state.value}
        with atomic_path(folder / STATE_NAME) as unfinished:
            unfinished.write_text(json.dumps(plain, indent=1), encoding="utf-8")


def present(folder: Path) -> Facts:
    """What is true of a run now, whatever its supervisor could still write down."""
    facts = Facts.read(folder)
    if facts.state.is_over:
        return facts
    is_cancelled = (folder / CANCEL_NAME).exists()
    if facts.supervisor is not None and facts.supervisor.is_alive:
        return _with(facts, RunState.CANCELLING) if is_cancelled else facts
    # Between these two looks it may have written down the end and left.
    facts = Facts.read(folder)
    if facts.state.is_over:
        return facts
    if is_cancelled:
        return _with(facts, RunState.CANCELLED, "Cancelled.")
    if facts.state is RunState.QUEUED:
        return facts
    return _with(
        facts,
        RunState.FAILED,
        "The process that watched it is gone: it was killed, or the machine was switched off.",
    )


def _with(facts: Facts, state: RunState, reason: str = "") -> Facts:
    return replace(facts, state=state, reason=reason)


NOTES = {
    3: "Everything was written, but a solve ended without its certificate, or records are flagged.",
    4: "Everything was written, but the model failed a gate of its quality report.",
    5: "Everything was written, but nothing could be improved.",
}
"""Exit codes of commands that did all their work, and what they mean."""


def outcome(exit_code: int, is_cancelled: bool) -> tuple[RunState, str]:
    """State and reason of a run whose worker has ended.

    Examples:
        >>> outcome(0, False)
        (<RunState.DONE: 'done'>, '')
        >>> outcome(130, True)
        (<RunState.CANCELLED: 'cancelled'>, 'Cancelled.')
    """
    if exit_code == 0 or exit_code in NOTES:
        return RunState.DONE, NOTES.get(exit_code, "")
    if is_cancelled or exit_code == 130:
        return RunState.CANCELLED, "Cancelled."
    if exit_code < 0:
        return RunState.FAILED, (
            f"The process was ended by signal {-exit_code}"
            + (", as a system does that runs out of memory." if exit_code == -9 else ".")
        )
    return RunState.FAILED, f"The command ended with exit code {exit_code}; its log says why."
