"""What every saved result has: a JSON file that says its format, and a word for what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from microcalibrate.errors import UnreadableFile
from microcalibrate.io import read_json


def read_values(file: Path, expected: str, remedy: str) -> dict[str, Any]:
    """Content of a JSON file of a known format.

    Args:
        file: Where it is.
        expected: What its "format" must say.
        remedy: What to do where it says something else, a sentence.

    Raises:
        UnreadableFile: If it is missing or damaged, or of another format.
    """
    values = read_json(file)
    found = values.get("format") if isinstance(values, dict) else None
    if found != expected:
        raise UnreadableFile(f"{file} has format {found!r}, not {expected!r}. {remedy}")
    return dict(values)


@contextmanager
def complete(what: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a saved file or folder lacks into one error that says what to do.

    Raises:
        UnreadableFile: If the block finds that something is missing, or is not what it should be.
    """
    try:
        yield
    except UnreadableFile:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableFile(
            f"{what} is not complete: {str(error).strip(chr(34))}. {remedy}"
        ) from error
