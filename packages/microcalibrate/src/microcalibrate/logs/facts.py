"""The file of facts beside a log: what its columns have no room for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microcalibrate.errors import TruncatedFile, UnreadableFile
from microcalibrate.io import read_json
from microcalibrate.logs.columns import FORMAT, META_SUFFIX


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
    facts = read_json(beside)
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise UnreadableFile(
            f"{beside} has format {found!r}, not {FORMAT!r}. Open the log with the version that "
            "wrote it, or remove this file to read the log without it."
        )
    return dict(facts)


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
