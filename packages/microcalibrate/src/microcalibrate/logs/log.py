"""A log of a calibration: every target at every epoch, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.columns import did_you_mean
from microcalibrate.errors import InvalidOption
from microcalibrate.logs.quality import Quality, quality_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CalibrationLog:
    """What each target was at each epoch of a calibration.

    Errors are those of `target` and `estimate`, whatever the file says: `error` is estimate minus
    target, and `rel_abs_error` is its size over that of the target, NaN where the target is 0.

    Attributes:
        name: What to call it.
        dialect: "A" to "D": which columns the file had.
        table: One row per epoch and target, in the file's order: `epoch`, `target_name`
            (categorical), `target`, `estimate`, `error`, `abs_error`, `rel_abs_error`, `loss`;
            `achievable` where the file says it.
        loss_kind: "run" where a loss is that of all targets, the same in each row of an epoch;
            "per target"; or "none".
        excluded: Names of targets that were not calibrated to, where the file's facts say so.
        notes: What is odd about the file, one sentence each.
        facts: What the file of facts beside it says; empty where there is none.
    """

    name: str
    dialect: str
    table: pd.DataFrame = field(repr=False)
    loss_kind: str
    excluded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def epochs(self) -> NDArray[np.int64]:
        """The epochs that are in the log, rising, shape `(n_epochs,)`."""
        return self._places[0]

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets, in the order in which the log first has them."""
        return tuple(map(str, self.table.target_name.cat.categories))

    @property
    def n_targets(self) -> int:
        """Number of different targets."""
        return len(self.table.target_name.cat.categories)

    @cached_property
    def final(self) -> pd.DataFrame:
        """The last state of each target; see `at`."""
        return self._state(self._last_rows(self._places[1]))

    @cached_property
    def first(self) -> pd.DataFrame:
        """The earliest state of each target; see `at`."""
        return self._state(self._last_rows(-self._places[1]))

    def at(self, epoch: int) -> pd.DataFrame:
        """The targets at one epoch.

        Args:
            epoch: One of `epochs`.

        Returns:
            One row per target: `name`, `target`, `estimate`, `error` (in the target's units),
            `abs_error`, `relative_error` (signed, NaN where the target is 0), `rel_abs_error`,
            `loss`, `epoch`, `excluded`, and `achievable` where it is known.

        Raises:
            InvalidOption: If the log does not have the epoch.
        """
        position = int(np.searchsorted(self.epochs, epoch))
        if position >= len(self.epochs) or self.epochs[position] != epoch:
            raise InvalidOption(
                f"epoch={epoch!r} is not in this log. It has {len(self.epochs)} epochs from "
                f"{self.epochs[0]} to {self.epochs[-1]}; see `log.epochs`."
            )
        return self._state(np.flatnonzero(self._places[1] == position))

    def matrix(self, column: str) -> Vector:
        """One column as a matrix of epochs by targets.

        Args:
            column: A column of numbers of `table`.

        Returns:
            Shape `(n_epochs, n_targets)`, in the order of `epochs` and `target_names`; NaN where
            an epoch has no row of a target.
        """
        codes = self.table.target_name.cat.codes.to_numpy()
        values = np.full((len(self.epochs), self.n_targets), np.nan)
        values[self._places[1], codes] = self.table[column].to_numpy()
        return values

    @cached_property
    def curve(self) -> pd.DataFrame:
        """The course of the run, one row per epoch.

        Returns:
            `epoch`; `loss`: the run's, or the mean of those of the targets that are finite;
            `mean_error` and `median_error` of the absolute relative errors, each capped at 1,
            over the targets that are calibrated to and not 0; `within_5`, `within_20`: shares of
            these; `phase` where the facts say it, "" otherwise.
        """
        import pandas as pd

        included = ~np.isin(self.target_names, self.excluded)
        error = self.matrix("rel_abs_error")[:, included]
        known = ~np.isnan(error)
        n_known = np.maximum(known.sum(axis=1), 1)
        any_known = known.any(axis=1)
        capped = np.where(known, np.minimum(error, 1.0), 0.0).sum(axis=1) / n_known
        median = np.full(len(error), np.nan)
        median[any_known] = np.nanmedian(np.minimum(error[any_known], 1.0), axis=1)

        def share(limit: float) -> Vector:
            with np.errstate(invalid="ignore"):
                return np.where(any_known, (error <= limit).sum(axis=1) / n_known, np.nan)

        return pd.DataFrame(
            {
                "epoch": self.epochs,
                "loss": self._losses(),
                "mean_error": np.where(any_known, capped, np.nan),
                "median_error": median,
                "within_5": share(0.05),
                "within_20": share(0.20),
                "phase": self._phases(),
            }
        )

    def history(self, names: Sequence[str]) -> pd.DataFrame:
        """The course of some targets.

        Args:
            names: Which, each a name of the log.

        Returns:
            The rows of `table` that are about them, by target and epoch.

        Raises:
            InvalidOption: If the log does not have a name.
        """
        known = {name: code for code, name in enumerate(self.target_names)}
        for name in names:
            if name not in known:
                raise InvalidOption(f"the log has no target {name!r}.{did_you_mean(name, known)}")
        codes = self.table.target_name.cat.codes.to_numpy()
        wanted = np.array([known[name] for name in names], dtype=codes.dtype)
        rows = self.table[np.isin(codes, wanted)]
        order = rows.target_name.cat.codes.map({code: i for i, code in enumerate(wanted)})
        return rows.iloc[np.lexsort((rows.epoch.to_numpy(), order.to_numpy()))]

    def quality(self) -> Quality:
        """How well the final state meets the targets, in numbers."""
        return quality_of(self.final)

    # --- Parts ------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """The different epochs, and the position among them of each row of the table."""
        import pandas as pd

        place, epochs = pd.factorize(self.table.epoch.to_numpy(), sort=True)
        return epochs, place

    def _last_rows(self, place: NDArray[np.intp]) -> NDArray[np.intp]:
        """The row of each target with the greatest place."""
        codes = self.table.target_name.cat.codes.to_numpy()
        order = np.lexsort((place, codes))
        is_last = np.append(codes[order][1:] != codes[order][:-1], True)
        return np.asarray(order[is_last])

    def _state(self, rows: NDArray[np.intp]) -> pd.DataFrame:
        found = self.table.iloc[rows]
        order = np.argsort(found.target_name.cat.codes.to_numpy(), kind="stable")
        found = found.iloc[order].reset_index(drop=True)
        names = found.target_name.astype("object")
        found = found.drop(columns="target_name")
        found.insert(0, "name", names)
        relative = np.copysign(found.rel_abs_error, found.error)
        found.insert(list(found.columns).index("rel_abs_error"), "relative_error", relative)
        found["excluded"] = np.isin(names.to_numpy(dtype=str), self.excluded)
        return found

    def _losses(self) -> Vector:
        """The loss of each epoch."""
        loss = self.matrix("loss")
        if self.loss_kind == "run":
            known = ~np.isnan(loss)
            return np.asarray(loss[np.arange(len(loss)), known.argmax(axis=1)])
        finite = np.isfinite(loss)
        some = finite.any(axis=1)
        total = np.where(finite, loss, 0.0).sum(axis=1)
        return np.where(some, total / np.maximum(finite.sum(axis=1), 1), np.nan)

    def _phases(self) -> list[str]:
        """The phase of each epoch."""
        spans = self.facts.get("phases", [])
        return [
            next(
                (
                    str(span["phase"])
                    for span in spans
                    if span["first_epoch"] <= epoch <= span["last_epoch"]
                ),
                "",
            )
            for epoch in self.epochs
        ]


def with_errors(table: pd.DataFrame) -> pd.DataFrame:
    """A table of targets and estimates with their errors.

    Args:
        table: With `target` and `estimate`.

    Returns:
        It with `error` (estimate minus target), `abs_error`, and `rel_abs_error`, NaN where the
        target is 0.
    """
    target = table.target.to_numpy()
    error = table.estimate.to_numpy() - target
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(target != 0, np.abs(error) / np.abs(target), np.nan)
    return table.assign(error=error, abs_error=np.abs(error), rel_abs_error=relative)
