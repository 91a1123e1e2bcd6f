"""Generator that knows the chances of any cell given any others, and so can condition exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.atomic import PathLike
from microcalibrate.errors import InvalidOption, UnreadableFile
from microcalibrate.regularise.generators.encoding import (
    ColumnEncoding,
    Encoding,
    Floats,
    Tokens,
    checked_mask,
    checked_weights,
    read_rows,
    write_rows,
)
from microcalibrate.regularise.generators.model_files import read_model, write_model
from microcalibrate.regularise.generators.protocol import Progress
from microcalibrate.regularise.slots import Mask, SlotColumn
from microcalibrate.regularise.values import Cells

if TYPE_CHECKING:
    from microcalibrate.regularise.generators.drawing import Drawing
    from microcalibrate.regularise.generators.network import Network

MIN_ROWS = 20


@dataclass(frozen=True)
class Options:
    """Options of `AnyOrder`; see there."""

    max_epochs: int = 40
    max_steps: int = 1400
    patience: int = 12
    batch_size: int = 128
    learning_rate: float = 4e-3
    holdout: float = 0.1
    dropout: float = 0.1
    max_parameters: int = 1_000_000
    n_threads: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        limits = ("max_epochs", "max_steps", "max_parameters")
        for name in (*limits, "patience", "batch_size", "n_threads"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InvalidOption(f"{name}={getattr(self, name)!r}, and it must be at least 1.")
        for name, low in (("holdout", 0.0), ("learning_rate", 0.0), ("dropout", -1.0)):
            if not low < getattr(self, name) < 1 or getattr(self, name) < 0:
                raise InvalidOption(
                    f"{name}={getattr(self, name)!r} is out of its range in (0, 1)."
                )


class AnyOrder:
    """Network that predicts every cell from any set of others, and draws cell after cell.

    It is trained on random sets of hidden cells, weighted by clipped base weights. So no condition
    needs rejection: what is given stays, the rest is drawn one cell at a time: slots, links, other
    structure, then values, each in random order (Uria et al. 2014, "A deep
    and tractable density estimator"; Hoogeboom et al. 2022, "Autoregressive diffusion models").

    Everything runs on `n_threads` threads of the processor, and uses random numbers of its own
    only: the same seed, options and releases of the packages give the same file and the same rows
    to the last bit, in any process on machines of one kind. Sums are rounded otherwise on another
    kind of processor or with another number of threads.

    Args:
        max_epochs: Passes over the records, at most.
        max_steps: Steps at most, in whole passes: many records need fewer of these.
        patience: Passes without a gain on held-out records after which training ends.
        batch_size: Records per step.
        learning_rate: Largest step size, in `(0, 1)`. It falls to zero at the last step.
        holdout: Share of the units that are only judged by, in `(0, 1)`.
        dropout: Chance that a hidden number is left out in training, in `[0, 1)`.
        max_parameters: Most parameters of the network. It is the largest that fits.
        n_threads: Threads of torch while it trains and draws.

    Raises:
        InvalidOption: If an option is out of its range.

    Examples:
        >>> from microcalibrate.regularise.slots import SlotColumn
        >>> columns = tuple(SlotColumn(c, "unit", 0, c, "boolean") for c in ("rents", "moved"))
        >>> truth = np.arange(400) % 3 == 0
        >>> rows = pd.DataFrame({"rents": truth, "moved": truth}, dtype="boolean")
        >>> model = AnyOrder(max_epochs=30).fit(rows, columns, np.ones(400), seed=1)
        >>> given = rows.head(3)
        >>> drawn, held = model.sample_conditional(given, np.array([False, True]), seed=2)
        >>> drawn["rents"].equals(given["rents"])
        True
    """

    name: ClassVar[str] = "anyorder"

    def __init__(self, **options: Any) -> None:
        try:
            self.options = Options(**options)
        except TypeError as error:
            raise InvalidOption(f"{error}. Options are {', '.join(asdict(Options()))}.") from error
        self._encoding: Encoding | None = None
        self._network: Network | None = None
        self._drawing: Drawing | None = None
        self._losses: list[float] = []

    @property
    def columns(self) -> tuple[SlotColumn, ...]:
        """Slot columns that it was fitted to."""
        return self.encoding.columns

    @property
    def encoding(self) -> Encoding:
        """Tokens of the columns."""
        if self._encoding is None:
            raise InvalidOption("the generator has learnt nothing yet. Call `fit` first.")
        return self._encoding

    @property
    def n_parameters(self) -> int:
        """Parameters of the network."""
        return sum(p.numel() for p in self._fitted().parameters())

    @property
    def history(self) -> pd.DataFrame:
        """Loss on held-out records by epoch, in nats per hidden cell: `epoch` and `holdout_loss`.

        Epoch 0 is before training, when the columns are independent of each other.
        """
        return pd.DataFrame({"epoch": range(len(self._losses)), "holdout_loss": self._losses})

    def fit(
        self,
        rows: pd.DataFrame,
        columns: Sequence[SlotColumn],
        weights: npt.ArrayLike,
        seed: int,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from slot rows; see `Generator.fit`.

        Args:
            rows: Slot rows, at least 20 with a positive weight. Rows with one label are of one
                unit: all of them are learnt from, or none.
            columns: Their columns.
            weights: Base weight of each row, in the likelihood. They are clipped at their 99th
                percentile; records are never repeated for their weight.
            seed: The same seed gives the same generator.
            progress: Called with the epoch and the loss on held-out records after each pass.

        Raises:
            InvalidOption: If there are too few rows, the weights are invalid, or no network of at
                most `max_parameters` has room for the columns.
            InvalidSurvey: If a value does not fit its column.
        """
        from microcalibrate.regularise.generators import network as nets
        from microcalibrate.regularise.generators import training as trainer

        options = self.options
        importance = checked_weights(weights, len(rows))
        used = importance > 0
        if used.sum() < MIN_ROWS:
            raise InvalidOption(
                f"there are {int(used.sum())} rows of positive weight, and at least {MIN_ROWS} "
                "are needed to learn from. Use the generator 'hotdeck'."
            )
        rows, importance = rows[used], importance[used] / importance[used].mean()
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        encoding = Encoding.fit(rows, tuple(columns), importance)
        tokens, exists = encoding.tokens(rows)
        units = pd.factorize(rows.index)[0]
        n_units = int(units.max()) + 1
        n_held_out = min(max(1, round(options.holdout * n_units)), n_units - 1)
        held_out = np.isin(units, rng.permutation(n_units)[:n_held_out])
        with nets.reproducible(int(rng.integers(2**62)), options.n_threads):
            network = nets.make_network(encoding, options.max_parameters, options.dropout)
            if network is None:
                raise InvalidOption(
                    f"max_parameters={options.max_parameters} is too few for {len(encoding.of)} "
                    f"columns with {int(encoding.n_tokens.sum())} levels and bins. Raise it, or "
                    "leave columns out."
                )
            training = trainer.Training(
                options.max_epochs,
                options.max_steps,
                options.patience,
                options.batch_size,
                options.learning_rate,
            )
            losses = trainer.train(
                network, encoding, tokens, exists, importance, held_out, training, rng, progress
            )
        self._losses = [float(np.float32(loss)) for loss in losses]
        self._take(encoding, network)
        return self

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """`n` new slot rows, labelled from 0; see `Generator.sample`."""
        if n < 0:
            raise InvalidOption(f"n={n}, and it must not be negative.")
        tokens = np.full((n, len(self.columns)), -1, dtype=np.int64)
        drawn, positions, exists = self._draw(tokens, np.zeros(tokens.shape, np.bool_), seed)
        return self.encoding.rows(drawn, positions, exists, pd.RangeIndex(n))

    def sample_conditional(
        self, given: pd.DataFrame, free_mask: npt.ArrayLike, seed: int, n: int = 1
    ) -> tuple[pd.DataFrame, Mask]:
        """New slot rows that share cells with given ones; see `Generator.sample_conditional`.

        Given cells are copied, never decoded, and every condition is met. Whoever holds a cell of
        a slot also holds whether the slot is filled.
        """
        if n < 1:
            raise InvalidOption(f"n={n}, and it must be at least 1.")
        free = checked_mask(free_mask, len(given), len(self.columns))
        tokens, _ = self.encoding.tokens(given)
        source = np.repeat(np.arange(len(given)), n)
        known = ~free[source]
        wanted = tokens[source]
        drawn, positions, exists = self._draw(np.where(known, wanted, -1), known, seed, wanted)
        cells = []
        for number, (new, old) in enumerate(
            zip(self.encoding.cells(drawn, positions), read_rows(given, self.columns), strict=True)
        ):
            held, old = known[:, number], old.at(source)
            cells.append(
                Cells(
                    np.where(held, old.values, new.values),
                    np.where(held, old.missing, new.missing),
                )
            )
        index = given.index.repeat(n)
        return write_rows(cells, exists, self.columns, index), known

    def log_prob(self, rows: pd.DataFrame, free_mask: npt.ArrayLike, seed: int = 0) -> Floats:
        """Log chance of the free cells of each row, given its others.

        The chances of one cell after the other multiply up, in an order that the seed draws. A
        number counts by its point mass or bin. So over all values the chances sum to 1.

        Args:
            rows: Slot rows.
            free_mask: True for the cells to judge, shape `(n_rows, n_columns)` or `(n_columns,)`.
            seed: Of the order.

        Returns:
            Natural logarithms, shape `(n_rows,)`; minus infinity for what cannot be.
        """
        free = checked_mask(free_mask, len(rows), len(self.columns))
        tokens, _ = self.encoding.tokens(rows)
        order = np.random.default_rng(seed).random(len(self.columns))
        with self._reproducible():
            return self._drawer().score(tokens, ~free, order)

    def column_log_prob(self, rows: pd.DataFrame, free_mask: npt.ArrayLike) -> Floats:
        """Log chance of each free cell by itself, given the cells that are not free.

        Returns:
            Shape `(n_rows, n_columns)`; NaN for cells that are given or do not exist.
        """
        free = checked_mask(free_mask, len(rows), len(self.columns))
        tokens, exists = self.encoding.tokens(rows)
        with self._reproducible():
            found = self._drawer().column_scores(tokens, ~free)
        return np.where(free & exists, found, np.nan)

    def marginal_log_prob(self, rows: pd.DataFrame) -> Floats:
        """Log chance of each cell if the columns were independent: the yardstick to beat.

        Returns:
            Shape `(n_rows, n_columns)`; NaN for cells that do not exist.
        """
        tokens, exists = self.encoding.tokens(rows)
        found = np.full(tokens.shape, -np.inf)
        for number, of in enumerate(self.encoding.of):
            seen = tokens[:, number] >= 0
            with np.errstate(divide="ignore"):
                found[seen, number] = np.log(of.share)[tokens[seen, number]]
        return np.where(exists, found, np.nan)

    def save(self, folder: PathLike) -> None:
        """Save as `model.json` and `arrays.safetensors`; the same model, the same bytes.

        No record is in the files, but values are: the ends of the bins of each number, so its
        smallest and largest value, and its point masses.

        Raises:
            UnwritableFile: If the folder cannot be written, or has something else in it.
        """
        arrays: dict[str, npt.NDArray[Any]] = {
            f"network.{name}": tensor.detach().numpy()
            for name, tensor in self._fitted().state_dict().items()
        }
        arrays["slots.counts"] = self.encoding.slot_counts
        arrays["slots.share"] = self.encoding.slot_share
        described = []
        for number, of in enumerate(self.encoding.of):
            arrays[f"share.{number}"] = of.share
            if of.knots is not None:
                arrays[f"knots.{number}"] = of.knots
            described.append({"has_missing": of.has_missing, "decimals": of.decimals})
        settings = {
            "options": asdict(self.options),
            "encoding": described,
            "holdout_loss": self._losses,
        }
        write_model(folder, self.name, self.columns, settings, arrays)

    @classmethod
    def load(
        cls,
        folder: PathLike,
        columns: Sequence[SlotColumn] | None = None,
        *,
        other_versions: bool = False,
    ) -> Self:
        """Generator that was saved; see `model_files.read_model` for what is refused."""
        from microcalibrate.regularise.generators import network as nets

        stored = read_model(
            folder, backend=cls.name, columns=columns, other_versions=other_versions
        )
        arrays = stored.arrays
        try:
            model = cls(**stored.settings["options"])
            described = stored.settings["encoding"]
            encoding = Encoding(
                tuple(
                    ColumnEncoding(
                        column=column,
                        share=arrays[f"share.{number}"],
                        has_missing=bool(entry["has_missing"]),
                        knots=arrays.get(f"knots.{number}"),
                        decimals=entry["decimals"],
                    )
                    for number, (column, entry) in enumerate(
                        zip(stored.columns, described, strict=True)
                    )
                ),
                arrays["slots.counts"],
                arrays["slots.share"],
            )
            options = model.options
            with nets.reproducible(0, options.n_threads):
                network = nets.make_network(encoding, options.max_parameters, options.dropout)
            if network is None:
                raise ValueError("no network fits its options")
            network.load_numpy(
                {
                    name.removeprefix("network."): array
                    for name, array in arrays.items()
                    if name.startswith("network.")
                }
            )
            model._losses = [float(loss) for loss in stored.settings["holdout_loss"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UnreadableFile(
                f"{folder} is damaged ({error}). Save the generator again."
            ) from error
        model._take(encoding, network)
        return model

    # --- Behind the scenes ------------------------------------------------------------------------

    def _take(self, encoding: Encoding, network: Network) -> None:
        network.eval()
        self._encoding, self._network, self._drawing = encoding, network, None

    def _fitted(self) -> Network:
        if self._network is None:
            raise InvalidOption("the generator has learnt nothing yet. Call `fit` first.")
        return self._network

    def _reproducible(self) -> Any:
        from microcalibrate.regularise.generators.network import reproducible

        return reproducible(0, self.options.n_threads)

    def _drawer(self) -> Drawing:
        if self._drawing is None:
            from microcalibrate.regularise.generators.drawing import Drawing

            self._drawing = Drawing(self.encoding, self._fitted())
        return self._drawing

    def _draw(
        self, tokens: Tokens, known: Mask, seed: int, given: Tokens | None = None
    ) -> tuple[Tokens, Floats, Mask]:
        """Tokens, positions in their bins, and which cells exist."""
        with self._reproducible():
            return self._drawer().draw(tokens, known, np.random.SeedSequence(seed), given)
