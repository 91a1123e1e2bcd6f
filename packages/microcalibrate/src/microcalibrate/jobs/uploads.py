"""Files that come in: copied in pieces, never larger than allowed, never until the disk is full."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeAlias

from microcalibrate.errors import DiskFull, UnwritableFile, UploadRefused

Source: TypeAlias = "Iterable[bytes] | IO[bytes] | Path"

MEGABYTE = 1024 * 1024
UPLOAD_LIMIT = 2048 * MEGABYTE
"""Most bytes of a file that is taken."""

# What has to stay free on the disk: others work on it, too.
ROOM_LEFT = 512 * MEGABYTE
PIECE = 8 * MEGABYTE
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather")
MOST_CHARACTERS = 200


def as_name(text: str) -> str:
    r"""A text that people gave, as a name: of one line, not long, with nothing but what is shown.

    It is never used as a path.

    Examples:
        >>> as_name("../x\n<b>")
        '../x <b>'
    """
    shown = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(shown.split())[:MOST_CHARACTERS] or "unnamed"


def file_name(text: str) -> str:
    """The last part of a path of any system, as a name to show."""
    return as_name(text.replace("\\", "/").rpartition("/")[2])


def suffix_of(name: str) -> str:
    """The end of a file name that says what it holds.

    Raises:
        UploadRefused: If it is of no kind that is read.
    """
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return suffix
    raise UploadRefused(
        f'"{file_name(name)}" is no file that is read here: its name must end in '
        f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}. Save the table as one of these."
    )


def store(source: Source, target: Path, *, limit: int, name: str) -> int:
    """Copy what comes in to a file, whole or not at all.

    Args:
        source: A path, an open binary file, or pieces of bytes.
        target: Where it goes.
        limit: Most bytes.
        name: What people call it, for messages.

    Returns:
        How many bytes it has.

    Raises:
        UploadRefused: If it is larger than allowed, or empty.
        DiskFull: If it would fill the disk.
        UnwritableFile: If it cannot be written.
    """
    known = _size(source)
    if known is not None:
        _check_size(known, limit, name)
        _check_room(target.parent, known, name)
    unfinished = target.with_name(f".{target.name}.part")
    size = 0
    try:
        with unfinished.open("wb") as file:
            for piece in _pieces(source):
                size += len(piece)
                _check_size(size, limit, name)
                _check_room(target.parent, len(piece), name)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if size == 0:
            raise UploadRefused(f'"{name}" is empty. Choose another file.')
        os.replace(unfinished, target)
    except OSError as error:
        if isinstance(error, UploadRefused):
            raise
        raise UnwritableFile(f'"{name}" cannot be stored: {error.strerror or error}.') from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return size


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise UploadRefused(
            f'"{name}" is larger than the {limit / MEGABYTE:,.0f} MB that are taken here. Save it '
            "as Parquet, which is several times smaller than CSV, leave out columns that no target "
            "needs, or use the command line, which has no limit."
        )


def _check_room(folder: Path, size: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free - size < ROOM_LEFT:
        raise DiskFull(
            f'"{name}" does not fit: {max(0, free - ROOM_LEFT) / MEGABYTE:,.0f} MB may still be '
            f"used of the disk of {folder}, and {ROOM_LEFT / MEGABYTE:,.0f} MB are left free. "
            "Delete data sets or runs that are no longer needed, or make room."
        )


def _size(source: Source) -> int | None:
    """How many bytes will come, where that can be known."""
    if isinstance(source, Path):
        return source.stat().st_size if source.is_file() else None
    size = getattr(source, "size", None)
    return int(size) if isinstance(size, int) else None


def _pieces(source: Source) -> Iterator[bytes]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield from iter(lambda: file.read(PIECE), b"")
    elif hasattr(source, "read"):
        yield from iter(lambda: source.read(PIECE), b"")
    else:
        yield from source
