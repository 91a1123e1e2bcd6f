"""Calibration logs that were uploaded: checked, and kept in the workspace under a name to show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from microcalibrate.errors import UnreadableFile
from microcalibrate.io import read_json, write_json

if TYPE_CHECKING:
    from microcalibrate.jobs import Workspace

LOGS = "logs"
LIMIT = 500_000_000
"""Most bytes of a log."""


@dataclass(frozen=True)
class LogFile:
    """An uploaded log.

    Attributes:
        id: As the address of the page has it.
        name: Of the file that was uploaded; only shown.
        path: Where it is now.
    """

    id: str
    name: str
    path: Path


def add(workspace: Workspace, name: str, source: IO[bytes]) -> LogFile:
    """Take in a log, in any of the dialects that are read.

    Args:
        workspace: Where to.
        name: Of the file.
        source: Its bytes.

    Raises:
        UnreadableFile: If it is no log; nothing is kept then.
        UploadRefused: If it is empty or too large.
        DiskFull: If it would fill the disk.
    """
    from microcalibrate.jobs.uploads import file_name, store
    from microcalibrate.logs import read_log

    shown = file_name(name)
    folder = workspace.folder / LOGS
    folder.mkdir(exist_ok=True)
    log_id = str(uuid4())
    log = LogFile(log_id, shown, folder / f"{log_id}.csv")
    store(source, log.path, limit=LIMIT, name=shown)
    try:
        read_log(log.path)
    except UnreadableFile as error:
        log.path.unlink()
        # The reader knows the file by its own name.
        raise UnreadableFile(str(error).replace(str(log.path), f'"{shown}"')) from error
    write_json({"name": shown}, log.path.with_suffix(".json"))
    return log


def files(workspace: Workspace) -> list[LogFile]:
    """Uploaded logs, newest first."""
    folder = workspace.folder / LOGS
    if not folder.is_dir():
        return []
    about = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    return [
        LogFile(file.stem, str(read_json(file)["name"]), file.with_suffix(".csv"))
        for file in about
        if file.with_suffix(".csv").is_file()
    ]


def delete(log: LogFile) -> None:
    """Remove an uploaded log."""
    log.path.with_suffix(".json").unlink(missing_ok=True)
    log.path.unlink(missing_ok=True)
