"""Slot rows as tokens that a network can learn, and tokens as slot rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.errors import InvalidOption, InvalidSurvey
from microcalibrate.regularise.generators.binning import N_KNOTS, knots_of
from microcalibrate.regularise.slots import Mask, SlotColumn, slot_mask
from microcalibrate.regularise.values import Cells, read_cells, row_values

Tokens: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

WEIGHT_QUANTILE = 0.99


@dataclass(frozen=True, eq=False)
class ColumnEncoding:
    """Tokens of one column.

    A category or truth value has a token for each level. A number has one for each point mass (a
    value with more than 1% of the weight, and zero) and one for each bin: a range of one sign
    between weighted quantiles, within which a position in `[0, 1]` says where the value lies. The
    last token is that of a missing value, where the column has any.

    Attributes:
        column: The column.
        share: Weighted share of each token among the cells that exist, smoothed except for
            `present` by one record that is spread as in all slots, shape `(n_tokens,)`.
        has_missing: Whether the last token stands for a missing value.
        knots: For numbers, values at evenly spaced positions of each bin or point mass, shape
            `(n_bins, N_KNOTS)`, in the order of their values; otherwise None.
        decimals: Decimals that every value was rounded to (negative: to tens, hundreds), or None.
    """

    column: SlotColumn
    share: Floats
    has_missing: bool
    knots: Floats | None = None
    decimals: int | None = None

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self.share)

    @cached_property
    def _is_mass(self) -> Mask:
        assert self.knots is not None
        return np.asarray(self.knots[:, 0] == self.knots[:, -1])

    @cached_property
    def _edges(self) -> Floats:
        """Where one bin ends and the next begins: between them, at zero where the sign changes."""
        assert self.knots is not None
        low, high = self._bins[1:, 0], self._bins[:-1, -1]
        return np.where((high < 0) & (low > 0), 0.0, (low + high) / 2)

    @cached_property
    def _bins(self) -> Floats:
        assert self.knots is not None
        return self.knots[~self._is_mass] if not self._is_mass.all() else self.knots

    def tokens(self, cells: Cells) -> Tokens:
        """Token of each cell; -1 for a missing value where the column has no token for it.

        A value that was never seen gets the nearest bin, or the nearest point mass where there is
        no bin.
        """
        gone = self.n_tokens - 1 if self.has_missing else -1
        if self.knots is None:
            found = cells.values.astype(np.int64)
        elif not len(self.knots):
            found = np.full(len(cells.values), gone)
        else:
            values = np.where(cells.missing, 0, cells.values).astype(np.float64)
            positions = np.flatnonzero(~self._is_mass)
            if not len(positions):
                positions = np.arange(len(self.knots))
            found = positions[np.searchsorted(self._edges, values, side="right")]
            masses = np.flatnonzero(self._is_mass)
            if len(masses):
                at = np.searchsorted(self.knots[masses, 0], values).clip(max=len(masses) - 1)
                found = np.where(self.knots[masses[at], 0] == values, masses[at], found)
        return np.where(cells.missing, gone, found).astype(np.int64)

    def positions(self, cells: Cells, tokens: Tokens) -> Floats:
        """Where in its bin each value lies, in `[0, 1]`; 0 for levels and missing values."""
        found = np.zeros(len(tokens))
        if self.knots is None:
            return found
        grid = np.linspace(0, 1, N_KNOTS)
        for token in np.unique(tokens[~cells.missing]):
            here = (tokens == token) & ~cells.missing
            found[here] = np.interp(cells.values[here].astype(np.float64), self.knots[token], grid)
        return found

    def cells(self, tokens: Tokens, positions: Floats) -> Cells:
        """Values of tokens, a number at its position in the bin, rounded as all values were."""
        missing = np.asarray(tokens == self.n_tokens - 1) & self.has_missing
        column = self.column
        if self.knots is None:
            codes = np.where(missing, 0, tokens)
            return Cells(codes == 1 if column.type == "boolean" else codes, missing)
        if not len(self.knots):
            none = np.zeros(len(tokens), np.int64 if column.type == "integer" else np.float64)
            return Cells(none, missing)
        knots = self.knots[np.where(missing, 0, tokens)]
        place = positions * (N_KNOTS - 1)
        left = np.minimum(place.astype(np.int64), N_KNOTS - 2)
        rows = np.arange(len(tokens))
        low, high = knots[rows, left], knots[rows, left + 1]
        values = low + (place - left) * (high - low)
        if self.decimals is not None:
            values = np.round(values, self.decimals)
        # A point mass is the very value, and rounding of the last bit leaves no bin.
        values = np.clip(values, knots[:, 0], knots[:, -1])
        return Cells(values.astype(np.int64) if column.type == "integer" else values, missing)


@dataclass(frozen=True, eq=False)
class Encoding:
    """Tokens of all columns of slot rows, and which cells depend on which slots.

    Attributes:
        of: Encoding of each column, in the order of the columns.
        slot_counts: Each number of filled slots of the entities of `slots` that occurs, a row each.
        slot_share: Weighted share of each of these rows; none where slots are not drawn.

    Examples:
        >>> column = SlotColumn("income", "household", 0, "income", "number")
        >>> rows = pd.DataFrame({"income": [0.0, 0.0, 12.0, 34.0, 56.0] * 20})
        >>> encoding = Encoding.fit(rows, (column,), np.ones(100))
        >>> tokens, exists = encoding.tokens(rows)
        >>> encoding.rows(tokens, encoding.positions(rows, tokens), exists, rows.index).equals(rows)
        True
    """

    of: tuple[ColumnEncoding, ...]
    slot_counts: Tokens = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    slot_share: Floats = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Sequence[SlotColumn], weights: Floats) -> Encoding:
        """Tokens for the values that occur.

        Args:
            rows: Slot rows.
            columns: Their columns.
            weights: Weight of each row, already clipped.
        """
        exists = slot_mask(rows, columns)
        kept = [
            (Cells(cells.values[here], cells.missing[here]), weights[here])
            for cells, here in zip(read_rows(rows, columns), exists.T, strict=True)
        ]
        alike: dict[tuple[object, ...], list[int]] = {}
        for number, column in enumerate(columns):
            slot = column.slot if column.kind == "present" else None
            alike.setdefault((column.entity, column.source, slot), []).append(number)
        found: dict[int, ColumnEncoding] = {}
        for numbers in alike.values():
            of_all = _fit_columns(
                [columns[number] for number in numbers], [kept[number] for number in numbers]
            )
            found |= dict(zip(numbers, of_all, strict=True))
        filled: dict[str, Tokens] = {}
        for column in columns:
            if column.kind == "present":
                here = rows[column.name].to_numpy(dtype=np.int64)
                filled[column.entity] = filled.get(column.entity, np.zeros_like(here)) + here
        n_filled = np.column_stack([*filled.values(), np.zeros(len(rows), dtype=np.int64)])
        counts, which = np.unique(n_filled, axis=0, return_inverse=True)
        held = np.bincount(which.ravel(), weights)
        of = tuple(found[number] for number in range(len(columns)))
        return cls(of, counts[:, : len(filled)], held / held.sum())

    @property
    def columns(self) -> tuple[SlotColumn, ...]:
        """Columns of the rows."""
        return tuple(encoding.column for encoding in self.of)

    @cached_property
    def n_tokens(self) -> Tokens:
        """Tokens of each column, shape `(n_columns,)`."""
        return np.array([encoding.n_tokens for encoding in self.of], dtype=np.int64)

    @cached_property
    def slots(self) -> dict[str, tuple[int, ...]]:
        """Positions of the `present` columns of each entity, in the order of its slots."""
        found: dict[str, dict[int, int]] = {}
        for position, column in enumerate(self.columns):
            if column.kind == "present":
                found.setdefault(column.entity, {})[column.slot] = position
        return {entity: tuple(at[slot] for slot in sorted(at)) for entity, at in found.items()}

    @cached_property
    def presence(self) -> Tokens:
        """Position of the `present` column that each column depends on, -1 for none."""
        at = {column.name: position for position, column in enumerate(self.columns)}
        return np.array(
            [-1 if c.presence is None else at[c.presence] for c in self.columns], dtype=np.int64
        )

    @cached_property
    def is_present(self) -> Mask:
        """Which columns are `present` columns."""
        return np.array([column.kind == "present" for column in self.columns], dtype=np.bool_)

    @cached_property
    def is_link(self) -> Mask:
        """Which columns name a slot."""
        return np.array([column.kind == "link" for column in self.columns], dtype=np.bool_)

    @cached_property
    def is_structure(self) -> Mask:
        """Which columns say who is there and how they belong together."""
        return np.array([column.block == "structure" for column in self.columns], dtype=np.bool_)

    def tokens(self, rows: pd.DataFrame) -> tuple[Tokens, Mask]:
        """Token of each cell, and which cells exist, both `(n_rows, n_columns)`."""
        cells = read_rows(rows, self.columns)
        exists = slot_mask(rows, self.columns)
        tokens = np.column_stack([e.tokens(c) for e, c in zip(self.of, cells, strict=True)])
        return np.where(exists, tokens, -1), exists

    def positions(self, rows: pd.DataFrame, tokens: Tokens) -> Floats:
        """Position of each number in its bin, shape `(n_rows, n_columns)`."""
        cells = read_rows(rows, self.columns)
        return np.column_stack(
            [
                e.positions(c, tokens[:, i])
                for i, (e, c) in enumerate(zip(self.of, cells, strict=True))
            ]
        )

    def cells(self, tokens: Tokens, positions: Floats) -> list[Cells]:
        """Values of each column."""
        return [e.cells(tokens[:, i], positions[:, i]) for i, e in enumerate(self.of)]

    def rows(
        self, tokens: Tokens, positions: Floats, exists: Mask, index: pd.Index[Any]
    ) -> pd.DataFrame:
        """Slot rows of tokens."""
        return write_rows(self.cells(tokens, positions), exists, self.columns, index)

    def exists(self, tokens: Tokens) -> Mask:
        """Cells that exist, by the tokens of the `present` columns."""
        exists = np.ones(tokens.shape, dtype=np.bool_)
        depends = np.flatnonzero(self.presence >= 0)
        exists[:, depends] = tokens[:, self.presence[depends]] == 1
        return exists


def read_rows(rows: pd.DataFrame, columns: Sequence[SlotColumn]) -> list[Cells]:
    """Columns of slot rows in plain numbers.

    Raises:
        InvalidSurvey: If a column is absent, or has a value that does not fit its declaration.
    """
    absent = [column.name for column in columns if column.name not in rows.columns]
    if absent:
        raise InvalidSurvey(f"the rows have no column {absent[0]!r}. Give all of the codec's.")
    found = []
    for column in columns:
        cells, wrong = read_cells(rows[column.name], column)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise InvalidSurvey(
                f"row {rows.index.tolist()[at]!r} has {rows[column.name].tolist()[at]!r} in "
                f"{column.name!r}, which does not fit its declaration. Mend it, or the schema."
            )
        found.append(cells)
    return found


def write_rows(
    cells: Sequence[Cells], exists: Mask, columns: Sequence[SlotColumn], index: pd.Index[Any]
) -> pd.DataFrame:
    """Slot rows of plain numbers; cells of empty slots are missing."""
    content: dict[str, Any] = {}
    for number, (column, of) in enumerate(zip(columns, cells, strict=True)):
        if column.kind == "present":
            content[column.name] = of.values.astype(np.bool_)
        else:
            there = exists[:, number]
            content[column.name] = row_values(Cells(of.values, of.missing | ~there), column)
    return pd.DataFrame(content, index=index)


def checked_weights(weights: npt.ArrayLike, n_rows: int) -> Floats:
    """Weights clipped at their 99th percentile and divided by their mean.

    So a record that stands for very many is learnt as one that stands for many: its share of the
    likelihood is bounded.

    Raises:
        InvalidOption: If the weights do not fit the rows, are negative or not finite, or all zero.
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n_rows,) or not np.isfinite(values).all() or (values < 0).any():
        raise InvalidOption(
            f"weights has shape {values.shape} for {n_rows} rows, or values that are negative or "
            "not finite. Give a weight for each row."
        )
    if not (values > 0).any():
        raise InvalidOption("weights are all zero, so there is nothing to learn from.")
    clipped = np.minimum(values, np.quantile(values[values > 0], WEIGHT_QUANTILE))
    return np.asarray(clipped / clipped.mean())


def checked_mask(free_mask: npt.ArrayLike, n_rows: int, n_columns: int) -> Mask:
    """Mask of free cells, one row for each record.

    Raises:
        InvalidOption: If it is no truth values of shape `(n_rows, n_columns)` or `(n_columns,)`.
    """
    mask = np.asarray(free_mask)
    if mask.dtype != np.bool_ or mask.shape not in ((n_rows, n_columns), (n_columns,)):
        raise InvalidOption(
            f"free_mask has shape {mask.shape} and type {mask.dtype}. Give truth values of shape "
            f"({n_rows}, {n_columns}) or ({n_columns},)."
        )
    return np.array(np.broadcast_to(mask, (n_rows, n_columns)))


def _fit_columns(
    columns: Sequence[SlotColumn], kept: Sequence[tuple[Cells, Floats]]
) -> list[ColumnEncoding]:
    """Encodings of what one column of a table is in each slot: the same tokens, other shares.

    Args:
        columns: One for each slot.
        kept: Cells of each that exist, and their weights.
    """
    column = columns[0]
    values = np.concatenate([cells.values for cells, _ in kept])
    missing = np.concatenate([cells.missing for cells, _ in kept])
    weights = np.concatenate([part for _, part in kept])
    has_missing = column.kind != "present" and (column.missing or bool(missing.any()))
    knots, decimals = None, None
    if column.type in ("integer", "number"):
        numbers = values[~missing].astype(np.float64)
        knots, decimals = knots_of(column, numbers, weights[~missing], weights.sum())
        n_levels = len(knots)
    else:
        n_levels = 2 if column.type == "boolean" else len(column.levels or ())
    # A column of slots that are never filled still needs a token, so that there is one to draw.
    has_missing |= n_levels == 0
    n_tokens = n_levels + has_missing
    blank = ColumnEncoding(column, np.ones(n_tokens), has_missing, knots, decimals)
    held = [
        np.bincount(blank.tokens(cells), part, minlength=n_tokens).astype(np.float64)
        for cells, part in kept
    ]
    # A slot that was filled in every record is always filled, and nothing is added to its shares.
    extra = 0.0 if column.kind == "present" else 1.0
    total = np.sum(held, axis=0)
    everywhere = (total + extra / n_tokens) / (total.sum() + extra)
    return [
        ColumnEncoding(
            of, (part + extra * everywhere) / (part.sum() + extra), has_missing, knots, decimals
        )
        for of, part in zip(columns, held, strict=True)
    ]
