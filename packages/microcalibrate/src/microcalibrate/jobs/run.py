"""One run of a command, as its folder tells of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from microcalibrate.errors import StillRunning, UnknownRun, UnwritableFile
from microcalibrate.jobs.facts import CANCEL_NAME, Facts, RunState, present
from microcalibrate.jobs.time_left import seconds_left
from microcalibrate.jobs.waiting import QUEUE, place_of, ticket_name

CONFIG_NAME, PROGRESS_NAME, LOG_NAME, RESULT_NAME = (
    "config.json",
    "progress.jsonl",
    "output.log",
    "result",
)
RUN_PLACEHOLDER = "{run}"
"""Stands for the run's own folder in its arguments."""

LOG_BYTES = 256 * 1024
DELETED = ".deleted-"


@dataclass(frozen=True)
class Run:
    """A run of a command of `microcalibrate`, finished or not.

    What does not change is an attribute; the rest is read from the folder whenever it is asked
    for, so every process sees the same.

    Attributes:
        folder: All that there is of the run.
        name: What people call it.
        command: Such as "calibrate".
        arguments: What follows the command, with `{run}` for the folder.
        details: What whoever submitted it wanted to remember.
        created: When it was submitted.
    """

    folder: Path
    name: str
    command: str
    arguments: tuple[str, ...]
    details: Mapping[str, Any] = field(repr=False, compare=False)
    created: datetime
    _created_ns: int = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in a folder.

        Raises:
            UnknownRun: If there is none.
        """
        try:
            plain = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
            created_ns = int(plain["created_ns"])
            return cls(
                folder,
                plain["name"],
                plain["command"],
                tuple(plain["arguments"]),
                plain["details"],
                datetime.fromtimestamp(created_ns / 1e9, UTC),
                created_ns,
            )
        except (OSError, ValueError, KeyError) as error:
            raise UnknownRun(
                f"there is no run {folder.name} in this workspace: it was deleted, or never made. "
                "`microcalibrate runs list` shows those that are there."
            ) from error

    @property
    def id(self) -> str:
        """A UUID, and the name of the folder."""
        return self.folder.name

    # --- How it goes ------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """State, processes, times and end in one look, true of one moment."""
        return present(self.folder)

    @property
    def state(self) -> RunState:
        """What it is doing."""
        return self.facts.state

    @property
    def exit_code(self) -> int | None:
        """Of the command, once it has ended by itself; negative for the signal that ended it."""
        return self.facts.exit_code

    @property
    def reason(self) -> str:
        """Why it ended as it did, where there is something to say."""
        return self.facts.reason

    @property
    def started(self) -> datetime | None:
        """When the command began."""
        return _moment(self.facts.started)

    @property
    def ended(self) -> datetime | None:
        """When it was over."""
        return _moment(self.facts.ended)

    @property
    def queue_position(self) -> int | None:
        """1 if it is the next to begin, 2 for the one after; None if it does not wait."""
        if self.state is not RunState.QUEUED:
            return None
        return place_of(self.workspace_folder, self.ticket) + 1

    @property
    def result_folder(self) -> Path:
        """Where the command writes, if its arguments say `--out {run}/result`."""
        return self.folder / RESULT_NAME

    def progress(self, after: int = 0) -> list[dict[str, Any]]:
        """Lines of progress, oldest first.

        Args:
            after: How many lines to leave out at the start: those already known.
        """
        try:
            text = (self.folder / PROGRESS_NAME).read_bytes()
        except FileNotFoundError:
            return []
        # The last line may be in the middle of being written.
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        return [json.loads(line) for line in whole[after:]]

    def log_tail(self, n: int = 40) -> str:
        """The last `n` lines of what the command printed, errors included."""
        try:
            with (self.folder / LOG_NAME).open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - LOG_BYTES))
                text = log.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        # A bar rewrites its line; only what it said last counts.
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip().split("\n")]
        return "\n".join(lines[-n:]) if n > 0 else ""

    def seconds_left(self) -> float | None:
        """How long it will still take, or None while nobody can tell."""
        if self.state is not RunState.RUNNING:
            return None
        lines = self.progress()
        if not lines:
            return None
        silence = time.time() - (self.folder / PROGRESS_NAME).stat().st_mtime
        return seconds_left(lines, lines[-1]["seconds"] + max(0.0, silence))

    # --- What it is -------------------------------------------------------------------------------

    @property
    def words(self) -> list[str]:
        """Command and arguments, with real paths."""
        own = str(self.folder)
        return [self.command, *(word.replace(RUN_PLACEHOLDER, own) for word in self.arguments)]

    def command_line(self) -> str:
        """The words that do the same by hand, quoted for a shell."""
        return shlex.join(["microcalibrate", *self.words])

    @property
    def workspace_folder(self) -> Path:
        """The workspace that the run belongs to."""
        return self.folder.parent.parent

    @property
    def ticket(self) -> str:
        """Name of the file that keeps its place in the queue."""
        return ticket_name(self.id, self._created_ns)

    @property
    def is_cancelled(self) -> bool:
        """Whether someone asked for its end."""
        return (self.folder / CANCEL_NAME).exists()

    # --- What can be done with it -----------------------------------------------------------------

    def cancel(self) -> None:
        """Ask for its end: it has seconds to write what it has, then it is made to end.

        A run that is over stays as it is.
        """
        if not self.state.is_over:
            (self.folder / CANCEL_NAME).touch()

    def delete(self) -> None:
        """Remove the run and all of its files.

        Raises:
            StillRunning: If it is not over.
            UnwritableFile: If files cannot be removed.
        """
        state = self.state
        if not state.is_over:
            raise StillRunning(
                f'run "{self.name}" is {state.value}. Cancel it first, then delete it.'
            )
        delete_folder(self.folder)
        (self.workspace_folder / QUEUE / self.ticket).unlink(missing_ok=True)


def delete_folder(folder: Path) -> None:
    """Remove a folder: gone from view at once, then from the disk.

    Raises:
        UnwritableFile: If that is not possible.
    """
    doomed = folder.with_name(f"{DELETED}{uuid4()}")
    try:
        for wait in (0.2, 1.0, None):
            try:
                os.rename(folder, doomed)
                break
            except PermissionError:
                # Windows, as long as a process of the run has its log open.
                if wait is None:
                    raise
                time.sleep(wait)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnwritableFile(
            f"{folder} cannot be removed completely: {error.strerror or error}."
        ) from error


def is_id(text: str) -> bool:
    """Whether a text is an id as we give them, and thereby safe as the name of a folder.

    Examples:
        >>> is_id("4f0e4c4e-5f2b-4a53-8a5c-0b0c9d5c3c11"), is_id("../x")
        (True, False)
    """
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
