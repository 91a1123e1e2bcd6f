"""What an import refuses for its size, before it is read."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from microcalibrate.errors import UnreadableFile, UnwritableFile

MEMORY_FILE = Path("/proc/meminfo")


@dataclass(frozen=True)
class Limits:
    """Sizes that no honest table of records has.

    Attributes:
        field_bytes: Longest value of one cell, in bytes.
        expansion: Most bytes that one byte of a compressed file may become.
        expanded_bytes: Size in bytes below which any expansion is allowed.
        memory_bytes: Most memory that a table may need; None is what is free on this machine.
        levels: Different values of a column that are counted; above, only that there are more.
    """

    field_bytes: int = 1_000_000
    expansion: int = 1_000
    expanded_bytes: int = 2_000_000_000
    memory_bytes: int | None = None
    levels: int = 1_000

    def check_expansion(self, file: Path, expanded: int, what: str) -> None:
        """Refuse a small file that claims to be, or turns out, huge.

        Raises:
            UnreadableFile: If it does.
        """
        size = file.stat().st_size
        if expanded > self.expanded_bytes and expanded > self.expansion * size:
            raise UnreadableFile(
                f"{file} has {in_bytes(size)} and {what} {in_bytes(expanded)}, more than "
                f"{self.expansion:,} times as much: no table of records is like that, so it was "
                "not read. If you trust it, write it again without compression."
            )

    def check_memory(self, file: Path, needed: int) -> None:
        """Refuse a table that would not fit into memory when a calibration reads it.

        Raises:
            UnreadableFile: If it needs more than there is.
        """
        free = self.memory_bytes if self.memory_bytes is not None else free_memory()
        if free is not None and needed > free:
            raise UnreadableFile(
                f"{file} needs {in_bytes(needed)} of memory, and {in_bytes(free)} are free. "
                "Leave out columns that you do not need, or use a machine with more memory."
            )


def check_room(file: Path, folder: Path) -> None:
    """Refuse before the work what the disk cannot take.

    Args:
        file: What will be read; what is written is about as large at most.
        folder: Where it will be written, in a folder that exists.

    Raises:
        UnwritableFile: If less is free than the file is long.
    """
    size = file.stat().st_size
    place = folder.absolute().parent
    if not place.is_dir():
        return  # The writing says so better.
    free = shutil.disk_usage(place).free
    if size > free:
        raise UnwritableFile(
            f"{folder} cannot be written: {file} has {in_bytes(size)}, and {in_bytes(free)} are "
            "free on that disk. Make room, or choose a folder on another disk."
        )


def free_memory() -> int | None:
    """Bytes of memory that are free, or all there are, or None where the system does not say."""
    if MEMORY_FILE.is_file():
        for line in MEMORY_FILE.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def in_bytes(size: float) -> str:
    """A size as people say it.

    Examples:
        >>> in_bytes(940), in_bytes(1_500_000), in_bytes(12e9)
        ('940 bytes', '1.5 MB', '12 GB')
    """
    for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {word}"
    return f"{size:.0f} bytes"
