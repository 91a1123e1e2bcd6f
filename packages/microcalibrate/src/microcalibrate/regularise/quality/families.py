"""Figures of one family each, with what real rows show against real rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from microcalibrate.errors import ConditionNotMet
from microcalibrate.regularise.quality.conditional import (
    Bins,
    conditional_figures,
    conditional_table,
)
from microcalibrate.regularise.quality.gates import Figure, Gate, with_baselines
from microcalibrate.regularise.quality.joint import discriminate, independent_rows
from microcalibrate.regularise.quality.marginal import weighted_share
from microcalibrate.regularise.quality.privacy import distance_figures, exact_copies
from microcalibrate.regularise.quality.samples import Coded, Sample, random_split
from microcalibrate.regularise.quality.settings import QualitySettings
from microcalibrate.regularise.quality.utility import statistics_table
from microcalibrate.regularise.quality.zeros import zero_figures

if TYPE_CHECKING:
    from microcalibrate.regularise.generators.protocol import Generator
    from microcalibrate.regularise.slots import SlotColumn


def joint_family(
    pool: Coded,
    learned: Coded,
    made: Coded,
    settings: QualitySettings,
    rng: np.random.Generator,
    seed: int,
) -> dict[tuple[str, str], Figure]:
    """Trees on generated, independent, and other real rows, each against as many real ones."""
    n_rows = min(settings.max_rows_joint, len(pool), len(made))
    real = pool.at_most(n_rows, rng)
    found = discriminate(real, made.at_most(n_rows, rng), seed=seed)
    independent = discriminate(real, independent_rows(learned, n_rows, rng), seed=seed)
    n_half = min(n_rows, len(pool) // 2)
    left, right = random_split(pool, (n_half, n_half), rng)
    truth = discriminate(left, right, seed=seed)
    note = f"{n_rows:,} rows of each side"
    if not np.isclose(n_half, n_rows):
        note += f", real rows {n_half:,}"
    return {
        ("Joint", "auc"): Figure(found.auc, truth.auc, note=note),
        ("Joint", "auc_gain"): Figure(
            independent.auc - found.auc,
            independent.auc - truth.auc,
            note=f"independent columns: AUC {independent.auc:.3f}",
        ),
        ("Joint", "pmse_ratio"): Figure(found.pmse / max(truth.pmse, 1e-12), 1.0),
    }


def unseen_baseline(
    figures: dict[tuple[str, str], Figure], splits: list[list[Coded]]
) -> dict[tuple[str, str], Figure]:
    """Share of pairs of states that other real rows have and training rows lack."""
    key = ("Zeros", "unseen_share")
    of_splits = [
        {"unseen_share": zero_figures(right, left, left)["unseen_share"]}
        for left, right in splits[:3]
    ]
    return with_baselines({"unseen_share": figures[key].value}, of_splits, (), "Zeros")


def conditional_family(
    generator: Generator,
    learned: Coded,
    holdout: Sample,
    settings: QualitySettings,
    rng: np.random.Generator,
    seed: int,
) -> tuple[pd.DataFrame, dict[tuple[str, str], Figure]]:
    """Scores of cells given others; a generator that refuses the conditions fails the gate."""
    n_rows = min(settings.max_rows_conditional, len(holdout.rows))
    rows = np.sort(rng.choice(len(holdout.rows), n_rows, replace=False))
    weights = None if holdout.weights is None else np.asarray(holdout.weights, float)[rows]
    some = Sample(holdout.rows.iloc[rows], weights)
    try:
        table, road = conditional_table(
            generator, learned, some,
            fractions=settings.fractions, n_draws=settings.n_draws, seed=seed,
        )  # fmt: skip
    except ConditionNotMet as error:
        empty = pd.DataFrame(columns=["column", "fraction", "gain", "effective", "is_judged"])
        why = str(error).rstrip(".")
        refused = Figure(0.0, note=f"the generator cannot honour such conditions: {why}")
        return (
            empty.astype({"column": str, "is_judged": bool}),
            {("Conditional", "better_share"): refused},
        )
    note = f"{n_rows:,} holdout rows, {road}"
    return table, {
        ("Conditional", name): Figure(value, note=note)
        for name, value in conditional_figures(table).items()
    }


def privacy_family(
    pool: Coded,
    learned: Coded,
    held: Coded,
    made: Coded,
    splits: list[list[Coded]],
    free: Sequence[str] | None,
    gates: Sequence[Gate],
    settings: QualitySettings,
    rng: np.random.Generator,
) -> dict[tuple[str, str], Figure]:
    """Copies among all rows, and distances among some of them."""

    def copies(rows: Coded, of: Coded) -> dict[str, float]:
        return {"copy_share": weighted_share(exact_copies(rows, of, free), rows.weights)}

    found = with_baselines(
        copies(made, learned), [copies(left, right) for left, right in splits[:10]],
        gates, "Privacy",
    )  # fmt: skip
    most = settings.max_rows_distance
    values = distance_figures(
        made.at_most(most, rng), _shuffled(learned, rng), _shuffled(held.at_most(most, rng), rng)
    )
    n_third = min(most, len(held), len(pool) // 3)
    n_train = min(len(learned), len(pool) - 2 * n_third)
    of_splits = []
    for _ in range(8):
        train, query, other = random_split(pool, (n_train, n_third, n_third), rng)
        if min(len(train), len(query), len(other)):
            of_splits.append(distance_figures(query, train, other))
    found.update(with_baselines(values, of_splits, gates, "Privacy"))
    return found


def _shuffled(sample: Coded, rng: np.random.Generator) -> Coded:
    return sample.take(rng.permutation(len(sample)))


def split_statistics(
    real: pd.DataFrame,
    pool: Coded,
    n_left: int,
    settings: QualitySettings,
    rng: np.random.Generator,
) -> float:
    """Share of statistics that agree between two random parts of the real rows."""
    order = rng.permutation(len(pool))
    left, right = order[:n_left], order[n_left:]
    table = statistics_table(
        real.iloc[left], real.iloc[right], pool.weights[left], pool.weights[right],
        n_replicates=min(settings.n_replicates, 100), rng=rng,
    )  # fmt: skip
    return float(table.is_within.mean())


def shapes(learned: Coded, held: Coded, made: Coded) -> pd.DataFrame:
    """Share of the states of each column, real and generated, among cells that exist."""
    bins = Bins.of(learned)
    sides = [(sample, bins.codes(sample)) for sample in (held, made)]
    found = []
    for place, column in enumerate(learned.columns):
        edges = bins.edges[place]
        names = _state_names(column, edges)
        shares = []
        for sample, codes in sides:
            exists = sample.exists[:, place]
            counted = np.bincount(
                codes[exists, place], sample.weights[exists], minlength=len(names)
            )
            shares.append(counted / max(counted.sum(), 1e-300))
        found.append(
            pd.DataFrame(
                {
                    "column": column.name,
                    "state": names,
                    "order": range(len(names)),
                    "real": shares[0],
                    "synthetic": shares[1],
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def _state_names(column: SlotColumn, edges: Any) -> list[str]:
    if column.type not in ("number", "integer"):
        levels = column.levels if column.levels is not None else (False, True)
        return ["missing", *(str(level) for level in levels)]
    if not len(edges):
        return ["missing", "below 0", "0", "above 0"]
    upper = [f"{low:,.6g} to {high:,.6g}" for low, high in zip([0, *edges], edges, strict=False)]
    return ["missing", "below 0", "0", *upper, f"above {edges[-1]:,.6g}"]
