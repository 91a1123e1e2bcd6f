"""Where the cells of slot rows belong: records, kinds of columns, and links between records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from microcalibrate.regularise.generators.encoding import Encoding, Floats, Tokens
from microcalibrate.regularise.slots import Mask

APART = 1e-3
"""Share by which numbers of slots go apart: none is ruled out for not occurring with others."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The columns of slot rows by record and by kind.

    The unit is record 0, with its own columns and with which slots are filled; each slot is a
    further record. The wages of all persons are columns of one *kind*: what is learnt of them in
    one slot holds in all. Whether a slot is filled is a kind of its own for each slot.

    Attributes:
        encoding: Tokens of the columns.
    """

    encoding: Encoding

    @cached_property
    def kind(self) -> Tokens:
        """Kind of each column, numbered from 0, shape `(n_columns,)`."""
        numbers: dict[tuple[object, ...], int] = {}
        found = []
        for column in self.encoding.columns:
            slot = column.slot if column.kind == "present" else None
            key = (column.entity, column.source, column.kind, slot)
            found.append(numbers.setdefault(key, len(numbers)))
        return np.array(found, dtype=np.int64)

    @cached_property
    def examples(self) -> Tokens:
        """A column of each kind, shape `(n_kinds,)`."""
        return np.asarray(np.unique(self.kind, return_index=True)[1], dtype=np.int64)

    @cached_property
    def n_tokens(self) -> Tokens:
        """Tokens of each kind, shape `(n_kinds,)`."""
        return np.asarray(self.encoding.n_tokens[self.examples])

    @cached_property
    def presence(self) -> Tokens:
        """Column that says whether each record is filled, shape `(n_records,)`; -1 for record 0."""
        return np.asarray(np.r_[-1, np.flatnonzero(self.encoding.is_present)], dtype=np.int64)

    @cached_property
    def record(self) -> Tokens:
        """Record of each column, shape `(n_columns,)`."""
        number = {column: record for record, column in enumerate(self.presence.tolist())}
        return np.array([number[at] for at in self.encoding.presence.tolist()], dtype=np.int64)

    @cached_property
    def n_records(self) -> int:
        """The unit and all slots."""
        return len(self.presence)

    @cached_property
    def columns(self) -> Tokens:
        """Columns of each record, padded with `n_columns`, shape `(n_records, most)`."""
        return _padded(
            [np.flatnonzero(self.record == number) for number in range(self.n_records)],
            len(self.record),
        )

    @cached_property
    def alike(self) -> Tokens:
        """Column of the same kind in each record, -1 for none, `(n_columns, n_records)`."""
        found = np.full((len(self.kind), self.n_records), -1, dtype=np.int64)
        for position, kind in enumerate(self.kind):
            others = np.flatnonzero(self.kind == kind)
            found[position, self.record[others]] = others
        return found

    @cached_property
    def blocks(self) -> tuple[Tokens, ...]:
        """Records that have the same kinds of columns in the same order."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, columns in enumerate(self.columns):
            kinds = tuple(self.kind[columns[columns < len(self.kind)]].tolist())
            groups.setdefault(kinds, []).append(number)
        return tuple(np.array(numbers, dtype=np.int64) for numbers in groups.values())

    @cached_property
    def links(self) -> tuple[tuple[int, Tokens], ...]:
        """Each column that is a link, with the record that each of its tokens names."""
        record_of = {
            column: number for number, column in enumerate(self.presence.tolist()) if column >= 0
        }
        found = []
        for position, column in enumerate(self.encoding.columns):
            if column.kind == "link":
                slots = self.encoding.slots[str(column.to)][: len(column.levels or ())]
                named = [record_of.get(slot, -1) for slot in slots]
                found.append((position, np.array([*named, -1], dtype=np.int64)))
        return tuple(found)

    def linked(self, tokens: Tokens, known: Mask) -> Tokens:
        """Record that each record is known to link to, -1 for none.

        Returns:
            Shape `(n_rows, n_kinds_of_links, n_records)`.
        """
        kinds = {
            kind: i for i, kind in enumerate(dict.fromkeys(self.kind[p] for p, _ in self.links))
        }
        found = np.full((len(tokens), len(kinds), self.n_records), -1, dtype=np.int64)
        for position, named in self.links:
            token = tokens[:, position]
            here = known[:, position] & (token >= 0)
            found[here, kinds[self.kind[position]], self.record[position]] = named[token[here]]
        return found

    @cached_property
    def n_kinds_of_links(self) -> int:
        """Kinds of links."""
        return len({self.kind[position] for position, _ in self.links})


def slot_odds(encoding: Encoding, tokens: Tokens, known: Mask) -> Floats:
    """Log odds that each slot is filled, given only which slots are known to be filled or empty.

    Slots are filled from the first, so what is known bounds the number of filled slots of each
    entity. The chances are shares of the records within these bounds, those of other entities
    too, and a thousandth more of those within the entity's own bounds alone.

    Returns:
        Shape `(n_rows, n_columns)`; 0 for other columns.
    """
    found = np.zeros(tokens.shape)
    counts, share = encoding.slot_counts, encoding.slot_share
    low, high = [], []
    for slots in encoding.slots.values():
        at = list(slots)
        place = np.arange(1, len(at) + 1)
        is_filled = known[:, at] & (tokens[:, at] == 1)
        is_empty = known[:, at] & (tokens[:, at] == 0)
        low.append((is_filled * place).max(axis=1))
        high.append(np.where(is_empty, place - 1, len(at)).min(axis=1))
    inside = [
        (counts[:, i] >= low[i][:, None]) & (counts[:, i] <= high[i][:, None])
        for i in range(len(low))
    ]
    together = np.logical_and.reduce(inside) if inside else None
    for number, slots in enumerate(encoding.slots.values()):
        chances = share * (together + APART * inside[number])
        above = chances @ (counts[:, number, None] > np.arange(len(slots)))
        below = chances.sum(axis=1, keepdims=True) - above
        least = 1e-9
        found[:, list(slots)] = np.log(np.maximum(above, least)) - np.log(np.maximum(below, least))
    return found


def follow(layout: Layout, tokens: Tokens, known: Mask) -> Mask:
    """Mark as known which slots are filled or empty, as far as it follows from what is known.

    A unit's slots are filled from the first, those that were filled in every record always are,
    and a link names a slot that is filled.

    Args:
        layout: Of the columns.
        tokens: Read where known; changed in place where something follows.
        known: Changed in place.

    Returns:
        Cells that were not known before.
    """
    before = known.copy()
    encoding = layout.encoding
    for column, named in layout.links:
        for token, record in enumerate(named[:-1].tolist()):
            if record >= 0:
                position = layout.presence[record]
                new = known[:, column] & (tokens[:, column] == token) & ~known[:, position]
                tokens[new, position], known[new, position] = 1, True
    for slots in encoding.slots.values():
        at = list(slots)
        for position in at:
            share = encoding.of[position].share[1]
            if share in (0, 1):
                new = ~known[:, position]
                tokens[new, position], known[new, position] = int(share), True
        filled = known[:, at] & (tokens[:, at] == 1)
        empty = known[:, at] & (tokens[:, at] == 0)
        before_filled = np.logical_or.accumulate(filled[:, ::-1], axis=1)[:, ::-1]
        after_empty = np.logical_or.accumulate(empty, axis=1)
        values = np.where(before_filled, 1, np.where(after_empty, 0, tokens[:, at]))
        tokens[:, at] = np.where(known[:, at], tokens[:, at], values)
        known[:, at] |= before_filled | after_empty
    return np.asarray(known & ~before)


def know_slots_of_known(encoding: Encoding, known: Mask) -> None:
    """Whoever knows a cell of a slot knows whether the slot is filled: mark it in place."""
    for position in np.unique(encoding.presence[encoding.presence >= 0]):
        known[:, position] |= known[:, encoding.presence == position].any(axis=1)


def _padded(parts: Sequence[npt.NDArray[np.intp]], pad: int) -> Tokens:
    found = np.full((len(parts), max(map(len, parts))), pad, dtype=np.int64)
    for row, part in enumerate(parts):
        found[row, : len(part)] = part
    return found
