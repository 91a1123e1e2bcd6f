"""What lies in a folder, and a disk that is full: for tests of what is written."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

# What a saved calibration consists of.
RUN_FILES = {
    ".microcalibrate-run",
    "config.json",
    "inclusion_probabilities.parquet",
    "log.csv",
    "log.csv.meta.json",
    "result.json",
    "steps.csv",
    "targets.csv",
    "targets.parquet",
    "weights.csv",
    "weights.parquet",
}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def full_disk(*_: Any, **__: Any) -> None:
    """In place of what writes to the disk."""
    raise OSError(errno.ENOSPC, "No space left on device")
