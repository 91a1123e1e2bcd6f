"""What every generator of records can do, which there are, and how to ask for valid records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.atomic import PathLike
from microcalibrate.errors import ConditionNotMet, InvalidOption
from microcalibrate.regularise.generators.encoding import Floats, checked_mask
from microcalibrate.regularise.generators.model_files import read_model
from microcalibrate.regularise.slots import Mask, SlotColumn

Progress: TypeAlias = Callable[[int, float], None]
"""Called with the number of the epoch and the loss on held-out records."""

BACKENDS: dict[str, str] = {
    "anyorder": "microcalibrate.regularise.generators.anyorder:AnyOrder",
    "hotdeck": "microcalibrate.regularise.generators.hotdeck:HotDeck",
    "sdv-tvae": "microcalibrate.regularise.generators.sdv_tvae:SdvTvae",
}
"""Where each generator is; its module is imported when it is first asked for."""


class Generator(Protocol):
    """Learns slot rows, and draws new ones, also such that have given cells.

    A generator knows nothing of households beyond its slot columns. It never tops up with records
    that do not meet their conditions: what it cannot honour it says, cell by cell or by an error.

    Attributes:
        name: Name of the backend.
    """

    name: ClassVar[str]

    @property
    def columns(self) -> tuple[SlotColumn, ...]:
        """Slot columns that it was fitted to."""
        ...

    def fit(
        self,
        rows: pd.DataFrame,
        columns: Sequence[SlotColumn],
        weights: npt.ArrayLike,
        seed: int,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from slot rows.

        Args:
            rows: Slot rows, labelled by their unit.
            columns: Their columns.
            weights: Base weight of each row. They are clipped at their 99th percentile.
            seed: The same seed gives the same generator to the last bit.
            progress: Called after each pass where there are any.

        Returns:
            Itself.
        """
        ...

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """`n` new slot rows, labelled from 0."""
        ...

    def sample_conditional(
        self, given: pd.DataFrame, free_mask: npt.ArrayLike, seed: int, n: int = 1
    ) -> tuple[pd.DataFrame, Mask]:
        """New slot rows that share cells with given ones.

        Args:
            given: Slot rows. What is missing in them is conditioned on as missing.
            free_mask: True for the cells to draw, shape `(n_rows, n_columns)` or `(n_columns,)`.
            seed: The same seed gives the same rows.
            n: Draws for each given row.

        Returns:
            The rows, those of one given row together and labelled as it is; and True where a cell
            was held as given, shape `(n_rows * n, n_columns)`.

        Raises:
            ConditionNotMet: If a condition cannot be honoured; nothing is drawn in its stead.
        """
        ...

    def save(self, folder: PathLike) -> None:
        """Save without pickle: `model.json` and `arrays.safetensors`."""
        ...

    @classmethod
    def load(
        cls,
        folder: PathLike,
        columns: Sequence[SlotColumn] | None = None,
        *,
        other_versions: bool = False,
    ) -> Self:
        """Generator that was saved; see `model_files.read_model` for what is refused."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """What a generator has beside, if it can tell how likely records are."""

    def log_prob(self, rows: pd.DataFrame, free_mask: npt.ArrayLike, seed: int = 0) -> Floats:
        """Log chance of the free cells of each row given its others, shape `(n_rows,)`."""
        ...

    def column_log_prob(self, rows: pd.DataFrame, free_mask: npt.ArrayLike) -> Floats:
        """Log chance of each free cell by itself given those that are not free, NaN elsewhere."""
        ...

    def marginal_log_prob(self, rows: pd.DataFrame) -> Floats:
        """Log chance of each cell if the columns were independent, NaN where there is none."""
        ...


def make_generator(name: str, **options: Any) -> Generator:
    """A generator that has learnt nothing yet.

    Args:
        name: One of `BACKENDS`.
        options: Of the generator.

    Raises:
        InvalidOption: If there is none of this name, or it has no such option.

    Examples:
        >>> make_generator("hotdeck", n_nearest=5).name
        'hotdeck'
    """
    found = _backend(name)
    try:
        generator: Generator = found(**options)
    except TypeError as error:
        raise InvalidOption(
            f"the generator {name!r} does not take these options: {error}."
        ) from error
    return generator


def load_generator(
    folder: PathLike,
    columns: Sequence[SlotColumn] | None = None,
    *,
    other_versions: bool = False,
) -> Generator:
    """Generator of any kind that was saved.

    Args:
        folder: Where it was saved.
        columns: Slot columns that it must have been fitted to; None for any.
        other_versions: Accept one that other releases of NumPy, torch or this package wrote.

    Raises:
        UnreadableFile: If a file is missing, damaged or a pickle.
        ModelMismatch: If it is of another format, other columns or other releases.
    """
    stored = read_model(folder, columns=columns, other_versions=other_versions)
    found = _backend(stored.backend)
    generator: Generator = found.load(folder, columns, other_versions=other_versions)
    return generator


def _backend(name: str) -> Any:
    if name not in BACKENDS:
        raise InvalidOption(f"backend is {name!r}. Choose one of {', '.join(sorted(BACKENDS))}.")
    module, _, kind = BACKENDS[name].partition(":")
    return getattr(import_module(module), kind)


class RowCodec(Protocol):
    """What is asked of a codec: canonical order, and which rows are households."""

    def canonical(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The same households with their records in canonical order."""
        ...

    def acceptable(self, rows: pd.DataFrame) -> Mask:
        """Rows without a problem."""
        ...


@dataclass(frozen=True, eq=False)
class Draws:
    """Valid records, and what it took to get them.

    Attributes:
        rows: Slot rows in canonical order, those of one given row together.
        achieved_mask: True where a cell was held as given.
        n_drawn: How many records were drawn in all.
        n_accepted: How many of these were valid, those beyond what was needed among them.
    """

    rows: pd.DataFrame
    achieved_mask: Mask
    n_drawn: int
    n_accepted: int


def sample_valid(
    generator: Generator,
    codec: RowCodec,
    given: pd.DataFrame,
    free_mask: npt.ArrayLike,
    seed: int,
    n: int = 1,
    *,
    accept: Callable[[pd.DataFrame], Mask] | None = None,
    max_rounds: int = 20,
) -> Draws:
    """Draw until each given row has `n` valid descendants; what is not valid is drawn again.

    A draw counts if, with its records in canonical order, the codec accepts it, every cell that
    was held is still where it was, and `accept` agrees. Nothing is mended or clamped.

    Args:
        generator: One that was fitted.
        codec: Of the rows.
        given: Slot rows to descend from, their labels unique.
        free_mask: True for the cells to draw, shape `(n_rows, n_columns)` or `(n_columns,)`.
        seed: The same seed gives the same rows.
        n: Valid draws for each given row.
        accept: Further condition: rows to truth values.
        max_rounds: How often rows that lack some are drawn again; each round draws twice what
            is lacking.

    Raises:
        ConditionNotMet: If some row still lacks draws after the last round; with the counts.
        InvalidOption: If an option is out of its range.
    """
    columns = generator.columns
    mask = checked_mask(free_mask, len(given), len(columns))
    if n < 1 or max_rounds < 1:
        raise InvalidOption(f"n={n} and max_rounds={max_rounds}, and both must be at least 1.")
    seeds = np.random.SeedSequence(seed).generate_state(max_rounds, np.uint64)
    plain = given.reset_index(drop=True)
    kept: list[list[tuple[pd.DataFrame, Mask]]] = [[] for _ in range(len(given))]
    counts = np.zeros(len(given), dtype=np.int64)
    n_drawn = n_accepted = 0
    for number in range(max_rounds):
        lacking = np.flatnonzero(counts < n)
        if not len(lacking):
            break
        each = int((n - counts[lacking]).max()) * (2 if number else 1)
        # Labels tell a generator which unit must not be its own donor.
        drawn, achieved = generator.sample_conditional(
            given.iloc[lacking], mask[lacking], int(seeds[number]), each
        )
        parent = np.repeat(lacking, each)
        drawn = codec.canonical(drawn.reset_index(drop=True))
        good = codec.acceptable(drawn) & _held(drawn, plain.iloc[parent], achieved, columns)
        if accept is not None and good.any():
            chosen = np.flatnonzero(good)
            good[chosen] = np.asarray(accept(drawn.iloc[chosen]), dtype=np.bool_)
        n_drawn += len(drawn)
        n_accepted += int(good.sum())
        for origin in lacking:
            at = np.flatnonzero(good & (parent == origin))[: n - counts[origin]]
            if len(at):
                kept[origin].append((drawn.iloc[at], achieved[at]))
                counts[origin] += len(at)
    if (counts < n).any():
        worst = given.index.tolist()[int(np.argmin(counts))]
        raise ConditionNotMet(
            f"{int(counts.sum())} of {n * len(given)} records could be drawn ({n_accepted} of "
            f"{n_drawn} draws were valid); row {worst!r} has {int(counts.min())} of {n}. Condition "
            "on fewer cells, or on the structure as a whole, or raise max_rounds.",
            requested=n * len(given),
            obtained=int(counts.sum()),
        )
    parts = [part for of in kept for part in of]
    if not parts:
        return Draws(plain.iloc[:0], mask[:0], n_drawn, n_accepted)
    rows = pd.concat([part for part, _ in parts])
    rows.index = given.index.repeat(n)
    return Draws(rows, np.concatenate([part for _, part in parts]), n_drawn, n_accepted)


def _held(
    drawn: pd.DataFrame, given: pd.DataFrame, achieved: Mask, columns: Sequence[SlotColumn]
) -> Mask:
    """Rows in which every held cell is as given, also after records were put in order."""
    same = np.ones(len(drawn), dtype=np.bool_)
    for number, column in enumerate(columns):
        mine = drawn[column.name].reset_index(drop=True)
        theirs = given[column.name].reset_index(drop=True)
        gone = mine.isna().to_numpy() & theirs.isna().to_numpy()
        equal = np.asarray((mine == theirs).fillna(False), dtype=np.bool_)
        same &= ~achieved[:, number] | gone | equal
    return same
