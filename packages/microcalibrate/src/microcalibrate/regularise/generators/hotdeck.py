"""Generator that completes records with cells of real ones; it learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.atomic import PathLike
from microcalibrate.errors import ConditionNotMet, InvalidOption, UnreadableFile
from microcalibrate.regularise.generators.encoding import (
    Floats,
    checked_mask,
    checked_weights,
    read_rows,
    write_rows,
)
from microcalibrate.regularise.generators.model_files import read_model, write_model
from microcalibrate.regularise.generators.protocol import Progress
from microcalibrate.regularise.slots import Mask, SlotColumn, slot_mask
from microcalibrate.regularise.values import Cells

ABSENT, MISSING = -2, -1
"""Classes of cells in empty slots and of missing values; others are levels, or signs of numbers."""


class HotDeck:
    """Completes a record with all free cells of one donor that is like it in the held cells.

    The donors of a record agree with it exactly in held categories, in which held cells are
    missing or exist, and in the sign of held numbers. Among them the `n_nearest` in the held
    numbers (sum of the differences in weighted rank) are drawn from by base weight, clipped at
    its 99th percentile, with replacement. A unit is never its own donor.

    Where no donor agrees in everything, conditions are given up one by one: they are put to the
    donors in the order structure (slots, links, structural columns), columns of the unit, columns
    of the slots as they are declared, and one that would leave no donor is not imposed. Its cell
    then comes from the donor, and `achieved_mask` is False there. Structure is never given up.

    Records are always made of real cells, so this generator copies by design.

    Args:
        n_nearest: Donors to draw from, at least 1.

    Raises:
        InvalidOption: If `n_nearest` is out of its range.

    Examples:
        >>> columns = (
        ...     SlotColumn("region", "unit", 0, "region", "category", ("north", "south")),
        ...     SlotColumn("income", "unit", 0, "income", "number"),
        ... )
        >>> rows = pd.DataFrame(
        ...     {"region": ["north", "south", "north"], "income": [10.0, 20.0, 30.0]}
        ... )
        >>> deck = HotDeck().fit(rows, columns, np.ones(3), seed=0)
        >>> drawn, held = deck.sample_conditional(rows.head(1), np.array([False, True]), seed=0)
        >>> float(drawn["income"].iloc[0])
        30.0
    """

    name: ClassVar[str] = "hotdeck"

    def __init__(self, n_nearest: int = 10) -> None:
        if not isinstance(n_nearest, int) or n_nearest < 1:
            raise InvalidOption(f"n_nearest={n_nearest!r}, and it must be at least 1.")
        self.n_nearest = n_nearest
        self._columns: tuple[SlotColumn, ...] | None = None

    @property
    def columns(self) -> tuple[SlotColumn, ...]:
        """Slot columns that it was fitted to."""
        if self._columns is None:
            raise InvalidOption("the generator has no donors yet. Call `fit` first.")
        return self._columns

    def fit(
        self,
        rows: pd.DataFrame,
        columns: Sequence[SlotColumn],
        weights: npt.ArrayLike,
        seed: int,  # noqa: ARG002 -- of the protocol; nothing is drawn here
        progress: Progress | None = None,  # noqa: ARG002 -- there are no passes to report
    ) -> Self:
        """Keep the donors: rows with a positive weight; see `Generator.fit`.

        Raises:
            InvalidOption: If the weights are invalid.
            InvalidSurvey: If a value does not fit its column.
        """
        importance = checked_weights(weights, len(rows))
        rows, importance = rows[importance > 0], importance[importance > 0]
        labels = rows.index.tolist()
        if not all(isinstance(label, int | str) for label in labels):
            raise InvalidOption("the labels of the rows must be whole numbers or texts.")
        cells, exists = read_rows(rows, columns), slot_mask(rows, columns)
        self._take(tuple(columns), cells, exists, importance, labels)
        return self

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """`n` whole donors, drawn by weight with replacement, labelled from 0."""
        if n < 0:
            raise InvalidOption(f"n={n}, and it must not be negative.")
        columns = self.columns
        chance = self._weights / self._weights.sum()
        donors = np.random.default_rng(seed).choice(len(chance), size=n, p=chance)
        cells = [of.at(donors) for of in self._cells]
        return write_rows(cells, self._exists[donors], columns, pd.RangeIndex(n))

    def sample_conditional(
        self, given: pd.DataFrame, free_mask: npt.ArrayLike, seed: int, n: int = 1
    ) -> tuple[pd.DataFrame, Mask]:
        """Given rows with their free cells from donors; see `Generator.sample_conditional`.

        Raises:
            ConditionNotMet: If a row has no donor with the structure that it holds.
        """
        if n < 1:
            raise InvalidOption(f"n={n}, and it must be at least 1.")
        columns = self.columns
        free = checked_mask(free_mask, len(given), len(columns))
        cells, exists = read_rows(given, columns), slot_mask(given, columns)
        kinds = _kinds(columns, cells, exists)
        ranks = np.column_stack([self._rank(i, of) for i, of in enumerate(cells)])
        donors = np.zeros((len(given), n), dtype=np.intp)
        achieved = np.zeros(free.shape, dtype=np.bool_)
        without: list[Any] = []
        seeds = np.random.SeedSequence(seed).spawn(len(given))
        for row, label in enumerate(given.index.tolist()):
            found = self._donors(label, kinds[row], ranks[row], ~free[row])
            if found is None:
                without.append(label)
                continue
            pool, achieved[row] = found
            chance = self._weights[pool] / self._weights[pool].sum()
            donors[row] = np.random.default_rng(seeds[row]).choice(pool, size=n, p=chance)
        if without:
            obtained = (len(given) - len(without)) * n
            raise ConditionNotMet(
                f"{len(without)} of {len(given)} rows have no donor with the structure that they "
                f"hold, first row {without[0]!r}; {obtained} of {len(given) * n} records could be "
                "had. Leave the structure free, or use the generator 'anyorder'.",
                requested=len(given) * n,
                obtained=obtained,
            )
        source, chosen = np.repeat(np.arange(len(given)), n), donors.ravel()
        held = achieved[source]
        content = []
        for number, (mine, theirs) in enumerate(zip(cells, self._cells, strict=True)):
            old, new = mine.at(source), theirs.at(chosen)
            here = held[:, number]
            content.append(
                Cells(
                    np.where(here, old.values, new.values), np.where(here, old.missing, new.missing)
                )
            )
        # Held cells agree with the donor in which slots are filled, so the donor's slots are right.
        rows = write_rows(content, self._exists[chosen], columns, given.index.repeat(n))
        return rows, held

    def save(self, folder: PathLike) -> None:
        """Save the donors as `model.json` and `arrays.safetensors`: the records themselves.

        Raises:
            UnwritableFile: If the folder cannot be written, or has something else in it.
        """
        columns = self.columns
        arrays: dict[str, npt.NDArray[Any]] = {"weights": self._weights, "exists": self._exists}
        for number, of in enumerate(self._cells):
            arrays[f"values.{number}"], arrays[f"missing.{number}"] = of.values, of.missing
        settings = {"options": {"n_nearest": self.n_nearest}, "labels": self._labels}
        write_model(folder, self.name, columns, settings, arrays)

    @classmethod
    def load(
        cls,
        folder: PathLike,
        columns: Sequence[SlotColumn] | None = None,
        *,
        other_versions: bool = False,
    ) -> Self:
        """Generator that was saved; see `model_files.read_model` for what is refused."""
        stored = read_model(
            folder, backend=cls.name, columns=columns, other_versions=other_versions
        )
        arrays = stored.arrays
        try:
            deck = cls(**stored.settings["options"])
            cells = [
                Cells(arrays[f"values.{number}"], arrays[f"missing.{number}"])
                for number in range(len(stored.columns))
            ]
            labels, exists = list(stored.settings["labels"]), arrays["exists"]
            n_donors = len(labels)
            if exists.shape != (n_donors, len(cells)) or any(
                of.values.shape != (n_donors,) or of.missing.shape != (n_donors,) for of in cells
            ):
                raise ValueError("its arrays are of different lengths")
            deck._take(stored.columns, cells, exists, arrays["weights"], labels)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableFile(
                f"{folder} is damaged ({error}). Save the generator again."
            ) from error
        return deck

    # --- Behind the scenes ------------------------------------------------------------------------

    def _take(
        self,
        columns: tuple[SlotColumn, ...],
        cells: list[Cells],
        exists: Mask,
        weights: Floats,
        labels: list[Any],
    ) -> None:
        self._columns, self._cells, self._exists = columns, cells, exists
        self._weights, self._labels = weights, labels
        self._label_array = np.array([*labels, None], dtype=object)[:-1]
        self._kinds = _kinds(columns, cells, exists)
        self._scales = [
            _scale(of, exists[:, i], weights) if columns[i].type in ("integer", "number") else None
            for i, of in enumerate(cells)
        ]
        self._ranks = np.column_stack([self._rank(i, of) for i, of in enumerate(cells)])
        # See the docstring of the class for this order.
        first = [
            i
            for kind in ("present", "link", "column")
            for i, column in enumerate(columns)
            if column.kind == kind and column.block == "structure"
        ]
        unit = [i for i, c in enumerate(columns) if c.block == "values" and c.presence is None]
        slots = [i for i, c in enumerate(columns) if c.block == "values" and c.presence is not None]
        self._order = [*first, *unit, *slots]
        self._n_structure = len(first)
        at = {column.name: i for i, column in enumerate(columns)}
        self._presence = [None if c.presence is None else at[c.presence] for c in columns]

    def _rank(self, number: int, cells: Cells) -> Floats:
        """Weighted rank of each number among the donors', in `[0, 1]`; 0 for what is none."""
        scale = self._scales[number]
        if scale is None or not len(scale[0]):
            return np.zeros(len(cells.values))
        values = np.where(cells.missing, 0, cells.values).astype(np.float64)
        return np.where(cells.missing, 0.0, np.interp(values, *scale))

    def _donors(
        self, label: Any, kinds: npt.NDArray[np.int64], ranks: Floats, held: Mask
    ) -> tuple[npt.NDArray[np.intp], Mask] | None:
        """Donors to draw from and the conditions that they meet; None if structure has none."""
        pool = np.flatnonzero(self._label_array != label)
        achieved = np.zeros(len(held), dtype=np.bool_)
        for place, column in enumerate(self._order):
            if not held[column]:
                continue
            agree = pool[self._kinds[pool, column] == kinds[column]]
            if len(agree):
                pool, achieved[column] = agree, True
            elif place < self._n_structure:
                return None
        if not len(pool):
            return None
        distance = np.abs(self._ranks[np.ix_(pool, achieved)] - ranks[achieved]).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[: self.n_nearest]
        return pool[nearest], achieved


def _kinds(
    columns: Sequence[SlotColumn], cells: Sequence[Cells], exists: Mask
) -> npt.NDArray[np.int64]:
    """Class of each cell that a donor must share: absent, missing, its level, or its sign."""
    found = []
    for number, (column, of) in enumerate(zip(columns, cells, strict=True)):
        if column.type in ("integer", "number"):
            sign = np.sign(np.where(of.missing, 0, of.values))
            kind = sign.astype(np.int64) + 1
        else:
            kind = of.values.astype(np.int64)
        kind = np.where(of.missing, MISSING, kind)
        found.append(np.where(exists[:, number], kind, ABSENT))
    return np.column_stack(found)


def _scale(cells: Cells, exists: Mask, weights: Floats) -> tuple[Floats, Floats]:
    """Distinct values and the middle of each one's weight, as a share of all weight."""
    here = exists & ~cells.missing
    values, inverse = np.unique(cells.values[here].astype(np.float64), return_inverse=True)
    held = np.bincount(inverse, weights[here], minlength=len(values))
    return values, (np.cumsum(held) - held / 2) / max(held.sum(), np.finfo(float).tiny)
