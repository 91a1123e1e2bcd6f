"""Files and folders that appear whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from microcalibrate.errors import CalibrationError, UnwritableFile

PathLike: TypeAlias = "str | os.PathLike[str]"

RUN_MARKER = ".microcalibrate-run"
"""File that tells a folder of an earlier run, which may be replaced, from any other folder."""


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Temporary file name that becomes `path` at once when everything has been written.

    Whoever reads `path` meanwhile sees the old file or the new one, never a part of it.

    Args:
        path: File to write. Its folder must exist. A link is followed.

    Yields:
        A name in the same folder, with the same suffixes.

    Raises:
        UnwritableFile: If the file cannot be written; then `path` is as it was.

    Examples:
        >>> from tempfile import mkdtemp
        >>> note = Path(mkdtemp()) / "note.txt"
        >>> with atomic_path(note) as unfinished:
        ...     size = unfinished.write_text("complete")
        >>> note.read_text()
        'complete'
    """
    target = _target(path)
    if target.is_dir():
        raise UnwritableFile(f"{target} is a folder, and a file is to be written. Choose a name.")
    unfinished = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        with _writing(target):
            yield unfinished
            if not unfinished.is_file():
                raise UnwritableFile(f"{target} was not written: nothing was put into it.")
            _flush(unfinished)
            os.replace(unfinished, target)
            _flush(target.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def run_folder(path: PathLike) -> Iterator[Path]:
    """Temporary folder that becomes `path` in one step when everything in it has been written.

    An earlier run at `path` is replaced as a whole: it is moved aside, the new folder takes its
    place, and then the old one is removed; if the second move fails, the first is undone.

    Args:
        path: Folder to write: new, empty, or of an earlier run (it has the file that `RUN_MARKER`
            names). The folder around it must exist.

    Yields:
        An empty folder beside `path`.

    Raises:
        UnwritableFile: If the folder cannot be written, or holds something else than an earlier
            run; then `path` is as it was.

    Examples:
        >>> from tempfile import mkdtemp
        >>> results = Path(mkdtemp()) / "results"
        >>> with run_folder(results) as unfinished:
        ...     size = (unfinished / "summary.txt").write_text("complete")
        >>> [file.name for file in results.glob("*.txt")]
        ['summary.txt']
    """
    target = _target(path)
    _refuse_foreign_folder(target)
    token = secrets.token_hex(4)
    unfinished = target.with_name(f".{token}-{target.name}")
    aside = target.with_name(f".{token}-old-{target.name}")
    try:
        with _writing(target):
            unfinished.mkdir()
            yield unfinished
            marker = unfinished / RUN_MARKER
            marker.write_text(
                "Written by microcalibrate. A new run into this folder replaces all of it.\n",
                encoding="utf-8",
            )
            for parent, _, files in os.walk(unfinished):
                for name in files:
                    _flush(Path(parent, name))
                _flush(Path(parent))
            # Someone may have put something there since.
            _refuse_foreign_folder(target)
            if target.exists():
                os.rename(target, aside)
            os.rename(unfinished, target)
            _flush(target.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        # Whatever stopped us between the two moves, Ctrl-C included: the earlier run comes back.
        if aside.exists() and not target.exists():
            os.rename(aside, target)
        shutil.rmtree(aside, ignore_errors=True)


def check_run_folder(path: PathLike) -> None:
    """Find out before long work whether `run_folder(path)` will be able to write.

    Args:
        path: Folder that is to be written later.

    Raises:
        UnwritableFile: If it cannot be written, or holds something else than an earlier run.
    """
    target = _target(path)
    _refuse_foreign_folder(target)
    probe = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    with _writing(target):
        probe.mkdir()
        probe.rmdir()


def _target(path: PathLike) -> Path:
    """Absolute path with links followed, in a folder that exists."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise UnwritableFile(
            f"{target} cannot be written: there is no folder {target.parent}. Create it first."
        )
    return target


def _refuse_foreign_folder(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UnwritableFile(f"{target} is a file, and a folder is to be written. Choose a name.")
    try:
        is_foreign = any(target.iterdir()) and not (target / RUN_MARKER).is_file()
    except OSError as error:
        raise UnwritableFile(f"{target} may not be read by you: {error.strerror}.") from error
    if is_foreign:
        raise UnwritableFile(
            f"{target} has files in it and is not of an earlier run, so it is left alone. "
            "Choose a new or empty folder."
        )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except CalibrationError:
        raise
    except OSError as error:
        raise UnwritableFile(
            f"{target} cannot be written: {error.strerror or error}. Nothing was left behind; "
            "make room or choose another folder."
        ) from error


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk: before that, a rename may outlive its content."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders, and writes their entries at once.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
