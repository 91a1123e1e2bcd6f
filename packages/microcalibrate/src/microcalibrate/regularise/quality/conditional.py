"""Does a generator know more of a cell, given others, than the column's own distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.regularise.quality.privacy import weighted_percentile
from microcalibrate.regularise.quality.samples import (
    NUMERIC,
    Coded,
    Mask,
    Sample,
    Vector,
    effective_number,
)

if TYPE_CHECKING:
    from microcalibrate.regularise.generators.protocol import Generator
    from microcalibrate.regularise.slots import SlotColumn

N_BINS = 8
LEAST_EFFECTIVE = 30.0
LEAST_SCORE = -30.0
"""Log score of what a generator calls impossible: finite, so that one cell can be averaged."""
PRIOR = 2.0
"""Draws that the column's own distribution counts for, where chances come from draws."""

Codes: TypeAlias = npt.NDArray[np.intp]
Scores: TypeAlias = Callable[[pd.DataFrame, Mask], tuple[Vector, Vector]]


@dataclass(frozen=True, eq=False)
class Bins:
    """Cells as a few states each: levels, or missing, negative, zero and ranges above zero.

    Attributes:
        edges: Upper edges of the ranges of each numeric column.
        shares: Weighted share of each state among cells that exist, half a record added to each.
    """

    edges: tuple[Vector, ...]
    shares: tuple[Vector, ...]

    @classmethod
    def of(cls, train: Coded) -> Bins:
        """Ranges that hold equal weight of the training cells, and the share of each state."""
        edges, shares = [], []
        for place, column in enumerate(train.columns):
            exists = train.exists[:, place]
            values, weights = train.values[exists, place], train.weights[exists]
            positive = values > 0
            steps = np.arange(1, N_BINS) / N_BINS
            cuts = [
                weighted_percentile(values[positive], weights[positive], share)
                for share in steps
                if column.type in NUMERIC and weights[positive].sum() > 0
            ]
            edges.append(np.unique(cuts))
            n_states = _n_states(column, len(edges[-1]))
            codes = _states(values, column, edges[-1])
            number = effective_number(weights)
            counted = np.bincount(codes, weights, n_states) / max(weights.sum(), 1e-300) * number
            shares.append((counted + 0.5) / (counted.sum() + 0.5 * n_states))
        return cls(tuple(edges), tuple(shares))

    def codes(self, sample: Coded) -> Codes:
        """State of each cell, shape `(n_rows, n_columns)`; arbitrary where there is none."""
        return np.column_stack(
            [
                _states(sample.values[:, place], column, self.edges[place])
                for place, column in enumerate(sample.columns)
            ]
        )


def _n_states(column: SlotColumn, n_edges: int) -> int:
    if column.type in NUMERIC:
        return n_edges + 4
    return 1 + (len(column.levels) if column.levels is not None else 2)


def _states(values: Vector, column: SlotColumn, edges: Vector) -> Codes:
    """0 for no value; then levels, or negative, zero, and ranges above zero."""
    missing = np.isnan(values)
    if column.type in NUMERIC:
        above = 3 + np.searchsorted(edges, values)
        states = np.where(values > 0, above, np.where(values < 0, 1, 2))
    else:
        states = np.where(missing, 0, values) + 1
    return np.where(missing, 0, states).astype(np.intp)


def given_masks(n_rows: int, n_columns: int, fraction: float, rng: np.random.Generator) -> Mask:
    """For each row, a random choice of exactly that fraction of the columns, rounded to one."""
    n_given = round(fraction * n_columns)
    ranks = np.argsort(np.argsort(rng.random((n_rows, n_columns)), axis=1), axis=1)
    return ranks < n_given


def conditional_table(
    generator: Generator,
    train: Coded,
    holdout: Sample,
    *,
    fractions: tuple[float, ...],
    n_draws: int,
    seed: int,
) -> tuple[pd.DataFrame, str]:
    """Log score of unseen cells given others, against that of the column's own distribution.

    A generator that can tell the chance of a cell is asked for it (`column_log_prob` and
    `marginal_log_prob`). Of any other, cells are drawn given the same conditions, and the chance
    of a state is its share among the draws, with the column's own distribution as two more draws.

    Args:
        generator: A fitted generator.
        train: Rows that it learned from.
        holdout: Real rows that it has not seen.
        fractions: Shares of the columns that are given, in `(0, 1)`.
        n_draws: Draws for each row, where chances come from draws.
        seed: Of conditions and draws.

    Returns:
        A row per fraction and column: `column`, `fraction`, `gain` (mean log score over that of
        the marginal, in nats), `effective` (Kish number of cells), `is_judged` (at least 30 of
        them, and more than one state); and the road that was taken, in words.
    """
    columns = train.columns
    coded = Coded.of(holdout, columns)
    # The seed of the splits of a report is another stream.
    rng = np.random.default_rng([seed, 1])
    scores, road = _scores(generator, train, coded, n_draws, seed)
    bins = Bins.of(train)
    varies = np.array([share.max() < 0.995 for share in bins.shares])
    found = []
    for fraction in fractions:
        free = ~given_masks(len(coded), len(columns), fraction, rng)
        conditional, marginal = scores(holdout.rows, free)
        counted = free & coded.exists & ~(np.isnan(conditional) | np.isnan(marginal))
        weights = np.where(counted, coded.weights[:, None], 0.0)
        total = weights.sum(0)
        gain_of_cell = np.maximum(conditional, LEAST_SCORE) - np.maximum(marginal, LEAST_SCORE)
        gains = np.where(counted, gain_of_cell, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = (weights * gains).sum(0) / total
            effective = np.nan_to_num(total**2 / (weights**2).sum(0))
        found.append(
            pd.DataFrame(
                {
                    "column": [column.name for column in columns],
                    "fraction": fraction,
                    "gain": gain,
                    "effective": effective,
                    "is_judged": (effective >= LEAST_EFFECTIVE) & varies,
                }
            )
        )
    return pd.concat(found, ignore_index=True), road


def conditional_figures(table: pd.DataFrame) -> dict[str, float]:
    """Share of the judged columns whose log score beats the marginal, by fraction; the least."""
    judged = table[table.is_judged]
    figures = {
        f"better_share_{fraction:g}": float((part.gain > 0).mean())
        for fraction, part in judged.groupby("fraction")
    }
    return {**figures, "better_share": min(figures.values())} if figures else {}


def _scores(
    generator: Generator, train: Coded, holdout: Coded, n_draws: int, seed: int
) -> tuple[Scores, str]:
    by_cell: Any = getattr(generator, "column_log_prob", None)
    by_marginal: Any = getattr(generator, "marginal_log_prob", None)
    if by_cell is not None and by_marginal is not None:
        return (
            lambda rows, free: (by_cell(rows, free), by_marginal(rows)),
            "the generator's own chances of cells",
        )
    bins = Bins.of(train)
    codes = bins.codes(holdout)
    marginal = np.column_stack(
        [np.log(share)[codes[:, place]] for place, share in enumerate(bins.shares)]
    )

    def drawn(rows: pd.DataFrame, free: Mask) -> tuple[Vector, Vector]:
        made, _ = generator.sample_conditional(rows, free, seed, n=n_draws)
        sampled = bins.codes(Coded.of(Sample(made), train.columns))
        is_same = sampled.reshape(len(rows), n_draws, -1) == codes[:, None, :]
        chance = (is_same.sum(1) + PRIOR * np.exp(marginal)) / (n_draws + PRIOR)
        return np.log(chance), marginal

    return drawn, f"{n_draws} draws for each row and fraction"
