"""What one column holds, counted batch after batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Level = str | int | float | bool


@dataclass(eq=False)
class Counter:
    """Counts of one column.

    Attributes:
        kind: "integer", "number", "text", "truth value", "date" or "other".
        max_levels: Up to how many different values are counted.
        named_id: Whether its different values are counted to the end, whatever they are.
    """

    kind: str
    max_levels: int
    named_id: bool
    n_records: int = 0
    n_missing: int = 0
    n_negative: int = 0
    n_zero: int = 0
    n_infinite: int = 0
    n_bytes: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    total: float = 0.0
    levels: dict[Level, int] | None = field(default_factory=dict)
    _keys: list[npt.NDArray[np.uint64]] | None = field(default_factory=list)

    def see(self, column: Any) -> None:
        """Take in the next records of the column, an Arrow array."""
        self.n_records += len(column)
        self.n_bytes += column.nbytes
        if self.kind in ("integer", "number", "truth value"):
            self._see_numbers(column)
        else:
            self.n_missing += column.null_count
        if self.kind in ("date", "other"):
            self.levels = self._keys = None
            return
        self._see_levels(column)
        self._see_keys(column)

    def _see_numbers(self, column: Any) -> None:
        present = column.drop_null()
        values = present.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        values = values[~np.isnan(values)]
        self.n_missing += len(column) - len(values)
        if not len(values):
            return
        self.n_negative += int(np.count_nonzero(values < 0))
        self.n_zero += int(np.count_nonzero(values == 0))
        is_finite = np.isfinite(values)
        self.n_infinite += len(values) - int(np.count_nonzero(is_finite))
        finite = values if is_finite.all() else values[is_finite]
        if len(finite):
            self.lowest = min(self.lowest, float(finite.min()))
            self.highest = max(self.highest, float(finite.max()))
            with np.errstate(over="ignore"):
                self.total += float(finite.sum())

    def _see_levels(self, column: Any) -> None:
        if self.levels is None:
            return
        counted = pc.value_counts(column.drop_null())
        values, counts = counted.field(0), counted.field(1)
        if len(values) > self.max_levels:
            self.levels = None
            return
        for value, count in zip(values.to_pylist(), counts.to_pylist(), strict=True):
            if value == value:  # NaN is missing, and no level
                self.levels[value] = self.levels.get(value, 0) + count
        if len(self.levels) > self.max_levels:
            self.levels = None

    def _see_keys(self, column: Any) -> None:
        """Keep what tells records apart, for as long as it does or the name says that it should."""
        if self._keys is None:
            return
        if self.kind in ("number", "truth value") and not self.named_id:
            self._keys = None
            return
        keys = _keys_of(column.drop_null(), self.kind)
        if not self.named_id and _n_unique(keys) < len(column):
            self._keys = None
            return
        self._keys.append(keys)

    @cached_property
    def n_different(self) -> int | None:
        """How many values differ, or None where that was not followed to the end.

        Ask when all records were seen.
        """
        if self.levels is not None:
            return len(self.levels)
        if self._keys is None:
            return None
        return _n_unique(np.concatenate(self._keys)) if self._keys else 0


def _n_unique(keys: npt.NDArray[np.uint64]) -> int:
    # Much quicker than `np.unique`, whose hash table is larger than the caches.
    ordered = np.sort(keys)
    return min(len(ordered), 1) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def _keys_of(values: Any, kind: str) -> npt.NDArray[np.uint64]:
    """64 bits for each value: itself, or a hash of its text."""
    if kind == "text":
        import pandas as pd

        # Of ten million texts, two share a hash with a chance of 3 in a million.
        texts = values.to_numpy(zero_copy_only=False)
        return pd.util.hash_array(np.asarray(texts, dtype=object), categorize=False)
    if kind == "number":
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64).view(np.uint64)
    wide = values.cast(pa.uint64() if pa.types.is_uint64(values.type) else pa.int64())
    return np.asarray(wide.to_numpy(zero_copy_only=False)).view(np.uint64)


def kind_of(arrow_type: Any) -> str:
    """The type of a column in a word."""
    types = pa.types
    if types.is_boolean(arrow_type):
        return "truth value"
    if types.is_integer(arrow_type):
        return "integer"
    if types.is_floating(arrow_type):
        return "number"
    if types.is_string(arrow_type):
        return "text"
    return "date" if types.is_temporal(arrow_type) else "other"
