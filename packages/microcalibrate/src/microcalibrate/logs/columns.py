"""The four dialects in which logs of calibrations are written, told apart by their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microcalibrate.io import FORMULA_STARTS

HEADER = (
    "epoch",
    "loss",
    "target_name",
    "target",
    "estimate",
    "error",
    "abs_error",
    "rel_abs_error",
)
"""Columns of dialect A, after the row numbers that have no name."""
KNOWN = frozenset({*HEADER, "true_value", "rel_error", "abs_rel_error", "achievable"})
"""Columns of all dialects."""
FORMAT = "microcalibrate.log/1"
META_SUFFIX = ".meta.json"


@dataclass(frozen=True)
class Dialect:
    """One way of writing a log.

    Attributes:
        name: A letter.
        needs: Columns without which it is not this dialect.
        target_name: Column with the target's name.
        target: Column with its value.
        stated_error: Column with an error that can be checked against target and estimate.
        stated_is_relative: Whether it is relative to the target's size.
    """

    name: str
    needs: frozenset[str]
    target_name: str
    target: str
    stated_error: str
    stated_is_relative: bool = False


_LONG = frozenset({"epoch", "target", "estimate"})
# The first whose columns are all there is taken: the more particular ones come first.
DIALECTS = (
    Dialect(
        "D", frozenset({"target", "true_value", "estimate"}), "target", "true_value", "rel_error",
        stated_is_relative=True,
    ),
    Dialect("C", _LONG | {"target_name", "achievable"}, "target_name", "target", "error"),
    Dialect("B", _LONG | {"target_name", "rel_error"}, "target_name", "target", "error"),
    Dialect("A", _LONG, "target_name", "target", "error"),
)  # fmt: skip


def dialect_of(header: Sequence[str]) -> Dialect | None:
    """The dialect of a log with these columns, None where it is no log.

    Examples:
        >>> dialect_of(["", "epoch", "loss", "target_name", "target", "estimate"]).name
        'A'
        >>> dialect_of(["target", "true_value", "estimate", "rel_error"]).name
        'D'
    """
    return next((dialect for dialect in DIALECTS if dialect.needs <= set(header)), None)


def guarded(name: str) -> str:
    """A name that no spreadsheet takes for a formula; `unguarded` gives it back.

    Examples:
        >>> guarded("=1+1"), guarded("people"), unguarded(guarded("'=x"))
        ("'=1+1", 'people', "'=x")
    """
    return f"'{name}" if name.lstrip("'").startswith(FORMULA_STARTS) else name


def unguarded(name: str) -> str:
    """The name that `guarded` was given."""
    is_guarded = name.startswith("'") and name.lstrip("'").startswith(FORMULA_STARTS)
    return name[1:] if is_guarded else name
