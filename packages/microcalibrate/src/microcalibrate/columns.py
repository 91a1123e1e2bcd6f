"""Columns of a table, each read once: numbers, truth values, or text stored by its labels."""

from __future__ import annotations

import difflib
import math
import operator
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.errors import InvalidExpression, UnknownColumn

MAX_CACHED_MASKS = 256
"""Masks of single conditions that `Columns` keeps, one byte a record each."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Table: TypeAlias = Any
"""A pandas or polars DataFrame, or a mapping from names to arrays of one length."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Half a sentence that proposes known names near an unknown one.

    Args:
        name: The unknown name.
        known: Names that exist.

    Returns:
        `" Did you mean 'wages'?"`, or the first known names where none is near.

    Examples:
        >>> did_you_mean("wage", ["age", "wages", "state"])
        " Did you mean 'wages' or 'age'?"
    """
    names = list(known)
    lowered = {other.lower(): other for other in reversed(names)}
    near = difflib.get_close_matches(name.lower(), lowered, n=3)
    if near:
        return f" Did you mean {' or '.join(repr(lowered[other]) for other in near)}?"
    shown = ", ".join(repr(other) for other in names[:8])
    return f" Known columns: {shown}{', …' if len(names) > 8 else ''}." if names else ""


@dataclass(frozen=True, eq=False)
class Text:
    """A column of text, each different label stored once.

    Attributes:
        codes: Position of each record's label, -1 where it is missing, shape `(n_records,)`.
        labels: The different labels.
    """

    codes: npt.NDArray[np.intp]
    labels: tuple[str, ...]

    def where(self, holds: Callable[[str], bool]) -> Mask:
        """Records whose label has a property; never those whose label is missing."""
        answers = [bool(holds(label)) for label in self.labels]
        return np.array([*answers, False])[self.codes]

    def decoded(self) -> npt.NDArray[np.object_]:
        """Label of each record, None where it is missing."""
        return np.array([*self.labels, None], dtype=object)[self.codes]


Value: TypeAlias = npt.NDArray[Any] | Text | bool | int | float | str
"""A column, or one value that stands for all records."""

_MIRRORED: dict[Callable[[Any, Any], Any], Callable[[Any, Any], Any]] = {
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.gt: operator.lt,
    operator.ge: operator.le,
}


def compare(left: Value, sign: Callable[[Any, Any], Any], right: Value) -> Mask:
    """Records for which a comparison holds; never one with a missing value.

    Args:
        left: A column or one value.
        sign: One of `operator.lt`, `le`, `gt`, `ge`, `eq` and `ne`.
        right: A column or one value; text exactly where `left` is text.

    Returns:
        True where it holds, shape `(n_records,)`, or `()` for two values.

    Examples:
        >>> compare(np.array([70.0, np.nan, 30.0]), operator.ne, 30.0)
        array([ True, False, False])
    """
    if isinstance(left, Text) and isinstance(right, str):
        return left.where(lambda label: sign(label, right))
    if isinstance(left, str) and isinstance(right, Text):
        mirrored = _MIRRORED.get(sign, sign)
        return right.where(lambda label: mirrored(label, left))
    if isinstance(left, Text) and isinstance(right, Text):
        present = (left.codes >= 0) & (right.codes >= 0)
        mask = np.zeros(present.shape, dtype=np.bool_)
        mask[present] = sign(left.decoded()[present], right.decoded()[present])
        return mask
    with np.errstate(all="ignore"):
        held = np.asarray(sign(left, right), dtype=np.bool_)
        if sign is operator.ne:
            # NaN differs from everything, and still a comparison with it shall be False.
            held = held & np.asarray(left == left) & np.asarray(right == right)
    return held


class Columns:
    """Columns of a table, each read once however many filters follow.

    Args:
        table: A pandas or polars DataFrame, or a mapping from names to arrays of one length.

    Raises:
        InvalidExpression: If what is given is not a table.

    Examples:
        >>> people = Columns({"age": np.array([70, 30]), "state": np.array(["CA", "TX"])})
        >>> people.numbers("age")
        array([70., 30.])
        >>> people["state"].labels
        ('CA', 'TX')
    """

    def __init__(self, table: Table) -> None:
        """Look at the names only; a column is read when a filter first asks for it."""
        if not (isinstance(table, Mapping) or hasattr(table, "columns")):
            raise InvalidExpression(
                f"A {type(table).__name__} has no named columns: "
                "pass a DataFrame, or a mapping from names to arrays."
            )
        names = table if isinstance(table, Mapping) else table.columns
        self.names: tuple[str, ...] = tuple(name for name in names if isinstance(name, str))
        self._table = table
        self._read: dict[str, npt.NDArray[Any] | Text] = {}
        self.masks: dict[str, Mask] = {}
        if isinstance(table, Mapping):
            self.n_records = len(table[self.names[0]]) if self.names else 0
        else:
            self.n_records = len(table)

    def __getitem__(self, name: str) -> npt.NDArray[Any] | Text:
        """One column: numbers, truth values or text.

        Raises:
            UnknownColumn: If there is no such column.
            InvalidExpression: If it holds something else.
        """
        if name not in self._read:
            column = self._spelled(name)
            self._read[name] = _read_column(column, self._table[column], self.n_records)
        return self._read[name]

    def _spelled(self, name: str) -> str:
        """The column of a name, also where Unicode has several spellings of what looks alike.

        Filters know names in one of them (NFKC), as Python does: `nº` is `no` to them.
        """
        if name in self.names:
            return name
        plain = unicodedata.normalize("NFKC", name)
        alike = [one for one in self.names if unicodedata.normalize("NFKC", one) == plain]
        if len(alike) != 1:
            raise UnknownColumn(f"there is no column {name!r}.{did_you_mean(name, self.names)}")
        return alike[0]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """One column in float64, missing values as NaN.

        Raises:
            UnknownColumn: If there is no such column.
            InvalidExpression: If it holds no numbers.
        """
        values = self[name]
        if isinstance(values, Text):
            example = repr(values.labels[0]) if values.labels else "no value at all"
            raise InvalidExpression(f"column {name!r} has text in it ({example}), not numbers.")
        return values.astype(np.float64, copy=False)

    def remember(self, key: str, compute: Callable[[], Mask]) -> Mask:
        """Mask of a condition that may come again; the oldest are forgotten."""
        if key not in self.masks:
            mask = compute()
            while len(self.masks) >= MAX_CACHED_MASKS:
                del self.masks[next(iter(self.masks))]
            self.masks[key] = mask
        return self.masks[key]


def _read_column(name: str, column: Any, n_records: int) -> npt.NDArray[Any] | Text:
    """Column of any library as numbers, truth values or text."""
    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if values.shape != (n_records,):
        what = "occurs more than once" if values.ndim == 2 else f"has shape {values.shape}"
        raise InvalidExpression(
            f"column {name!r} {what}, and every column needs {n_records} values, one a record."
        )
    if values.dtype.kind in "biuf":
        return values
    if values.dtype.kind in "OUT":
        return _read_objects(name, values.tolist())
    raise InvalidExpression(
        f"column {name!r} has values of type {values.dtype}, and filters know numbers, text and "
        "truth values. Turn it into one of these first, for example a date into its year."
    )


def _read_objects(name: str, values: list[Any]) -> npt.NDArray[Any] | Text:
    """Column of Python objects as numbers, truth values or text."""
    types = {kind for kind in map(type, values) if kind is not type(None)}
    types -= {kind for kind in types if kind.__name__ in ("NAType", "NaTType")}
    if not types or any(issubclass(kind, str) for kind in types):
        others = [value for value in values if not (isinstance(value, str) or _is_missing(value))]
        if others:
            raise InvalidExpression(
                f"column {name!r} mixes text with other values (such as {others[0]!r}). "
                "Store it as text or as numbers throughout."
            )
        positions: dict[str, int] = {}
        codes = (
            positions.setdefault(value, len(positions)) if isinstance(value, str) else -1
            for value in values
        )
        read = np.fromiter(codes, dtype=np.intp, count=len(values))
        if positions or not values:
            return Text(read, tuple(positions))
        return np.full(len(values), np.nan)
    if types <= {bool, np.bool_, float} and {bool, np.bool_} & types:
        present = [value for value in values if not _is_missing(value)]
        if all(isinstance(value, bool | np.bool_) for value in present):
            return np.array([not _is_missing(value) and bool(value) for value in values])
    try:
        return np.array([np.nan if _is_missing(value) else float(value) for value in values])
    except (TypeError, ValueError, OverflowError) as error:
        kinds = ", ".join(sorted(kind.__name__ for kind in types))
        raise InvalidExpression(
            f"column {name!r} has values of type {kinds}, and filters know numbers, text and "
            "truth values."
        ) from error


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)
