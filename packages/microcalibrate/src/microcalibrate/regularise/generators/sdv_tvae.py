"""Adapter for the variational autoencoder (TVAE) of sdv, a library with a licence of its own.

sdv is under the Business Source License 1.1, which forbids some commercial use; nothing here needs
it unless this generator is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.atomic import PathLike
from microcalibrate.errors import (
    ConditionNotMet,
    InvalidOption,
    ModelMismatch,
    UnreadableFile,
)
from microcalibrate.regularise.generators.encoding import (
    ColumnEncoding,
    Encoding,
    Tokens,
    checked_mask,
    checked_weights,
    read_rows,
)
from microcalibrate.regularise.generators.model_files import read_model, write_model
from microcalibrate.regularise.generators.protocol import Progress
from microcalibrate.regularise.generators.sdv_library import (
    TABLE,
    as_table,
    column_name,
    load_sdv,
    network_levels,
    new_synthesizer,
    seeded,
    untrained,
)
from microcalibrate.regularise.slots import Mask, SlotColumn

MOST_CONDITIONS, MOST_LEVELS = 4, 20
BATCH = 5_000
ABSENT = -1


class SdvTvae:
    """Slot rows drawn by the TVAE of sdv, conditioned by rejection.

    Every cell becomes a token as in `AnyOrder` (a level, a point mass, or a range of numbers), so
    that the network sees categories only and can be saved without pickle. A drawn row whose
    filled slots lack a cell is dropped and drawn again.

    The network cannot be conditioned. So rows are drawn in large batches, and those that happen
    to meet a condition are kept: on at most 4 columns, each a category or truth value of at most
    20 levels, or a number with declared `bands`. More is refused, and nothing is made up when
    `max_draws` is spent.

    Weights enter by resampling, as sdv knows none: rows are drawn with replacement in proportion
    to weights clipped at their 99th percentile.

    Args:
        epochs: Passes over the resampled rows, from 1.
        batch_size: Rows of a step of training, from 2.
        max_draws: Rows that one call may draw from the network.
        bands: Edges of the ranges that a number column can be conditioned on, by its name; a
            draw then lies in the range of the given value, and `achieved_mask` is False there.

    Raises:
        InvalidOption: If an option is out of its range.
        MissingExtra: If sdv is not installed.
    """

    name: ClassVar[str] = "sdv-tvae"

    def __init__(
        self,
        epochs: int = 300,
        batch_size: int = 500,
        max_draws: int = 500_000,
        bands: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        for option, value, least in (
            ("epochs", epochs, 1), ("batch_size", batch_size, 2), ("max_draws", max_draws, 1),
        ):  # fmt: skip
            if not isinstance(value, int) or value < least:
                raise InvalidOption(f"{option}={value!r}, and it must be at least {least}.")
        self.bands: dict[str, list[float]] = {}
        for name, edges in (bands or {}).items():
            self.bands[name] = [float(edge) for edge in edges]
            is_rising = bool((np.diff(self.bands[name]) > 0).all())
            if not 1 <= len(edges) < MOST_LEVELS or not is_rising:
                raise InvalidOption(
                    f"bands={{{name!r}: …}}: give 1 to {MOST_LEVELS - 1} edges, each larger than "
                    "the one before."
                )
        load_sdv()
        self.epochs, self.batch_size, self.max_draws = epochs, batch_size, max_draws
        self._encoding: Encoding | None = None
        self._synthesizer: Any = None
        self._n_drawn = self._n_accepted = 0

    @property
    def columns(self) -> tuple[SlotColumn, ...]:
        """Slot columns that it was fitted to."""
        return self._fitted().columns

    @property
    def acceptance_rate(self) -> float:
        """Share of the rows drawn by the last call that were whole and met a condition; or NaN."""
        return self._n_accepted / self._n_drawn if self._n_drawn else float("nan")

    def fit(
        self,
        rows: pd.DataFrame,
        columns: Sequence[SlotColumn],
        weights: npt.ArrayLike,
        seed: int,
        progress: Progress | None = None,
    ) -> Self:
        """Train on rows resampled by weight; see `Generator.fit`.

        `progress` is called once, with the last pass and its loss: sdv tells no more.
        """
        importance = checked_weights(weights, len(rows))
        encoding = Encoding.fit(rows, tuple(columns), importance)
        rng = np.random.default_rng(seed)
        drawn = rng.choice(len(rows), size=len(rows), p=importance / importance.sum())
        tokens, _ = encoding.tokens(rows)
        synthesizer = new_synthesizer(len(columns), self.epochs, self.batch_size)
        with seeded(int(rng.integers(2**31))):
            synthesizer.fit({TABLE: as_table(tokens[drawn])})
        self._encoding, self._synthesizer = encoding, synthesizer
        if progress is not None:
            losses = synthesizer.get_loss_values()
            progress(self.epochs, float(losses["Loss"].iloc[-1]))
        return self

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """`n` new slot rows, labelled from 0.

        Raises:
            ConditionNotMet: If `max_draws` is spent before there are as many whole rows.
        """
        if n < 0:
            raise InvalidOption(f"n={n}, and it must not be negative.")
        nothing = np.zeros((1, 0), dtype=np.int64)
        return self._drawn(nothing, [], np.array([n]), seed, pd.RangeIndex(n))

    def sample_conditional(
        self, given: pd.DataFrame, free_mask: npt.ArrayLike, seed: int, n: int = 1
    ) -> tuple[pd.DataFrame, Mask]:
        """Rows that happen to have the held cells; see `Generator.sample_conditional`.

        Raises:
            ConditionNotMet: If more, or other, cells are held than rejection can serve, or if
                `max_draws` is spent; with the number obtained.
        """
        if n < 1:
            raise InvalidOption(f"n={n}, and it must be at least 1.")
        columns = self.columns
        free = checked_mask(free_mask, len(given), len(columns))
        if not len(given):
            return given.copy(), ~free
        patterns, pattern_of = np.unique(~free, axis=0, return_inverse=True)
        for held in patterns:
            self._check_conditions(np.flatnonzero(held), len(given) * n)
        codes = self._codes(given)
        parts, places = [], []
        seeds = np.random.SeedSequence(seed).generate_state(len(patterns), np.uint64)
        spent = obtained = 0
        for number, held in enumerate(patterns):
            mine = np.flatnonzero(pattern_of.ravel() == number)
            on = list(np.flatnonzero(held))
            labels = pd.RangeIndex(len(mine) * n)
            drawn = self._drawn(
                codes[np.ix_(mine, on)], on, np.full(len(mine), n), int(seeds[number]), labels,
                spent=spent, requested=len(given) * n, obtained=obtained,
            )  # fmt: skip
            spent, obtained = self._n_drawn, obtained + len(drawn)
            parts.append(drawn)
            places.append((mine[:, None] * n + np.arange(n)).ravel())
        order = np.argsort(np.concatenate(places), kind="stable")
        found = pd.concat(parts, ignore_index=True).iloc[order]
        found.index = given.index.repeat(n)
        is_banded = np.array([column.name in self.bands for column in columns])
        achieved = np.repeat(~free & ~is_banded, n, axis=0)
        return found, achieved

    # --- Files ------------------------------------------------------------------------------------

    def save(self, folder: PathLike) -> None:
        """Save as `model.json` and `arrays.safetensors`: the decoder, without pickle.

        Raises:
            UnwritableFile: If the folder cannot be written.
        """
        encoding = self._fitted()
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, tensor in self._synthesizer._model.decoder.state_dict().items():
            arrays[f"decoder.{name}"] = tensor.detach().cpu().numpy()
        described = []
        for number, of in enumerate(encoding.of):
            arrays[f"share.{number}"] = of.share
            if of.knots is not None:
                arrays[f"knots.{number}"] = of.knots
            described.append({"has_missing": of.has_missing, "decimals": of.decimals})
        settings = {
            "options": {
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "max_draws": self.max_draws,
                "bands": self.bands,
            },
            "encoding": described,
            "levels": network_levels(self._synthesizer),
            "sdv": version("sdv"),
        }
        write_model(folder, self.name, encoding.columns, settings, arrays)

    @classmethod
    def load(
        cls,
        folder: PathLike,
        columns: Sequence[SlotColumn] | None = None,
        *,
        other_versions: bool = False,
    ) -> Self:
        """Generator that was saved; see `model_files.read_model` for what is refused."""
        load_sdv()
        import torch

        stored = read_model(
            folder, backend=cls.name, columns=columns, other_versions=other_versions
        )
        arrays = stored.arrays
        try:
            written = str(stored.settings["sdv"])
            if not other_versions and written.split(".")[:2] != version("sdv").split(".")[:2]:
                raise ModelMismatch(
                    f"{folder} was written with sdv {written}, and {version('sdv')} is installed. "
                    "Install that release, train anew, or load it with other_versions=True."
                )
            model = cls(**stored.settings["options"])
            described = stored.settings["encoding"]
            model._encoding = Encoding(
                tuple(
                    ColumnEncoding(
                        column=column,
                        share=arrays[f"share.{number}"],
                        has_missing=bool(described[number]["has_missing"]),
                        knots=arrays.get(f"knots.{number}"),
                        decimals=described[number]["decimals"],
                    )
                    for number, column in enumerate(stored.columns)
                )
            )
            model._synthesizer = untrained(stored.settings["levels"], model.batch_size)
            state = {
                name.removeprefix("decoder."): torch.from_numpy(np.array(array))
                for name, array in arrays.items()
                if name.startswith("decoder.")
            }
            model._synthesizer._model.decoder.load_state_dict(state)
        except (KeyError, TypeError, IndexError, RuntimeError) as error:
            raise UnreadableFile(f"{folder} is damaged ({error!r}). Save it again.") from error
        return model

    # --- Drawing ----------------------------------------------------------------------------------

    def _fitted(self) -> Encoding:
        if self._encoding is None:
            raise InvalidOption("the generator has learnt nothing yet. Call `fit` first.")
        return self._encoding

    def _check_conditions(self, held: npt.NDArray[np.intp], requested: int) -> None:
        columns = self.columns
        problems = [
            columns[place].name
            for place in held
            if columns[place].name not in self.bands
            and (
                columns[place].type in ("number", "integer")
                or len(columns[place].levels or ()) > MOST_LEVELS
            )
        ]
        if len(held) <= MOST_CONDITIONS and not problems:
            return
        what = f"{len(held)} cells are held"
        if problems:
            what = f"{problems[0]!r} is a number without bands, or has over {MOST_LEVELS} levels"
        raise ConditionNotMet(
            f"sdv-tvae serves conditions by rejection, on at most {MOST_CONDITIONS} categories of "
            f"at most {MOST_LEVELS} levels, and {what}. Hold less, declare `bands`, or use the "
            "generator 'anyorder'.",
            requested=requested,
            obtained=0,
        )

    def _codes(self, rows: pd.DataFrame) -> Tokens:
        """What conditions compare: tokens, or the band of a number; -1 in empty slots."""
        encoding = self._fitted()
        tokens, exists = encoding.tokens(rows)
        for place, (column, cells) in enumerate(
            zip(encoding.columns, read_rows(rows, encoding.columns), strict=True)
        ):
            if column.name in self.bands:
                edges = np.array(self.bands[column.name])
                band = np.searchsorted(edges, cells.values, side="right")
                band = np.where(cells.missing, len(edges) + 1, band)
                tokens[:, place] = np.where(exists[:, place], band, ABSENT)
        return tokens

    def _drawn(
        self,
        wanted: Tokens,
        on: list[Any],
        counts: npt.NDArray[np.int64],
        seed: int,
        labels: pd.Index[Any],
        *,
        spent: int = 0,
        requested: int | None = None,
        obtained: int = 0,
    ) -> pd.DataFrame:
        """Rows that meet each of some conditions so often, those of one condition together."""
        encoding = self._fitted()
        rng = np.random.default_rng(seed)
        self._seed(int(rng.integers(2**31)))
        kinds, kind_of = np.unique(wanted, axis=0, return_inverse=True)
        kind_of = kind_of.ravel()
        lacking = np.bincount(kind_of, counts, len(kinds)).astype(np.int64)
        total = int(lacking.sum())
        kept: list[pd.DataFrame] = []
        kept_kinds: list[npt.NDArray[np.intp]] = []
        n_drawn, n_accepted, n_fitting = spent, obtained, self._n_accepted if spent else 0
        while lacking.any():
            size = min(BATCH, self.max_draws - n_drawn)
            if size <= 0:
                raise ConditionNotMet(
                    f"{n_accepted} of {requested or total} rows could be drawn in {n_drawn:,} "
                    "draws. Hold fewer or more common cells, train longer, or raise max_draws.",
                    requested=requested or total,
                    obtained=n_accepted,
                )
            tokens = self._tokens(size)
            n_drawn += size
            exists = encoding.exists(tokens)
            whole = ((tokens >= 0) | ~exists).all(1)
            tokens, exists = np.where(exists, tokens, ABSENT)[whole], exists[whole]
            rows = encoding.rows(
                tokens, rng.random(tokens.shape), exists, pd.RangeIndex(len(tokens))
            )
            codes = self._codes(rows)[:, on]
            for kind in range(len(kinds)):
                fitting = np.flatnonzero((codes == kinds[kind]).all(1))
                n_fitting += len(fitting)
                fitting = fitting[: lacking[kind]]
                kept.append(rows.iloc[fitting])
                kept_kinds.append(np.full(len(fitting), kind))
                lacking[kind] -= len(fitting)
                n_accepted += len(fitting)
        self._n_drawn, self._n_accepted = n_drawn, n_fitting
        if not kept:
            none = np.zeros((0, len(encoding.of)), dtype=np.int64)
            return encoding.rows(none, none.astype(float), none == 0, labels)
        found = pd.concat(kept, ignore_index=True)
        # Rows of one kind go to the conditions of that kind, in their order.
        by_kind = np.argsort(np.concatenate(kept_kinds), kind="stable")
        asked = np.repeat(np.arange(len(counts)), counts)
        places = np.empty(len(asked), dtype=np.intp)
        places[np.argsort(kind_of[asked], kind="stable")] = by_kind
        found = found.iloc[places]
        found.index = labels
        return found

    def _seed(self, seed: int) -> None:
        # sdv starts each sampling from one fixed seed, and its only way to another is this.
        self._synthesizer._set_random_state(seed)

    def _tokens(self, n_rows: int) -> Tokens:
        """Tokens of rows as they come from the network, -1 for no cell."""
        sampled = self._synthesizer.sample(num_rows=n_rows)
        # sdv 2 gives a table in a dictionary, sdv 1 gave the table.
        table = sampled[TABLE] if isinstance(sampled, dict) else sampled
        names = [column_name(place) for place in range(len(self.columns))]
        return np.asarray(table[names].astype(np.int64))
