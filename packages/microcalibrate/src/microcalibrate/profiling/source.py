"""A table in a file, as batches that can be read more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Batches:
    """A table that was opened and checked, but not read.

    Attributes:
        names: Of the columns, all different.
        schema: Arrow schema of the batches.
        n_records: Number of records, or None where that is known only after reading.
        problems: What was found wrong on the way, in sentences.
        read: Gives the Arrow record batches, from the first on.
    """

    names: tuple[str, ...]
    schema: Any
    n_records: int | None
    problems: tuple[str, ...]
    read: Callable[[], Iterator[Any]]


def named_apart(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that differ, and a sentence for each name that was changed.

    Args:
        header: Names as they stand in the file.

    Examples:
        >>> named_apart(["age", "", "age"])[0]
        ['age', 'Unnamed: 1', 'age (2)']
    """
    given = set(header)
    names: list[str] = []
    problems = []
    for position, name in enumerate(header):
        if not name.strip():
            new = f"Unnamed: {position}"
            problems.append(f"Column {position + 1} has no name; it is called {new!r}.")
        elif name in names:
            count = 2
            while (new := f"{name} ({count})") in given or new in names:
                count += 1
            problems.append(
                f"The name {name!r} stands more than once in the header; column {position + 1} is "
                f"called {new!r}."
            )
        else:
            new = name
        names.append(new)
    return names, problems
