"""The file of facts beside a log: what its columns have no room for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microcalibrate.errors import TruncatedFile
from microcalibrate.logs.columns import FORMAT, META_SUFFIX
from microcalibrate.saved_values import read_values


def facts_file(log: Path) -> Path:
    """Where the facts of a log are."""
    return log.with_name(log.name + META_SUFFIX)


def read_facts(log: Path) -> Mapping[str, Any]:
    """What the file beside a log says; nothing where there is no such file.

    Raises:
        UnreadableFile: If the file is damaged, of another version, or about something else.
    """
    beside = facts_file(log)
    if not beside.is_file():
        return {}
    return read_values(
        beside,
        FORMAT,
        "Open the log with the version that wrote it, or remove this file to read the log without "
        "it.",
    )


def check_rows(log: Path, facts: Mapping[str, Any], n_rows: int) -> None:
    """Compare the rows of a log with those that were written.

    Raises:
        TruncatedFile: If they differ.
    """
    written = facts.get("rows", n_rows)
    if written != n_rows:
        raise TruncatedFile(
            f"{log} has {n_rows:,} rows, and {written:,} were written. Copy the whole file again."
        )
