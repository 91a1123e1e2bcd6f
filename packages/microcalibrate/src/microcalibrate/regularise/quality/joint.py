"""Can a classifier tell generated rows from real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from microcalibrate.errors import InvalidOption, MissingExtra
from microcalibrate.regularise.quality.samples import Coded, Index, Mask, Vector, joined

MOST_LEVELS = 63
"""Categories that the trees take as such; longer lists are taken as numbers."""


@dataclass(frozen=True)
class Discriminator:
    """How well generated rows are told from real ones, by trees that have not seen them.

    Attributes:
        auc: Chance that a generated row looks more generated than a real one; 0.5 is blind.
        pmse: Weighted mean of `(p - 1/2)**2` over both sides, `p` the estimated chance that a row
            is generated (propensity score mean squared error, Woo et al. 2009).
    """

    auc: float
    pmse: float


def load_sklearn() -> Any:
    """The scikit-learn package: the only place that imports it.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import sklearn
        import sklearn.ensemble
        import sklearn.model_selection
    except ImportError as error:
        raise MissingExtra(
            "the quality of generated rows is judged with scikit-learn. Install it with: "
            "pip install 'microcalibrate[synthetic]'"
        ) from error
    return sklearn


def discriminate(
    real: Coded, synthetic: Coded, *, seed: int, n_folds: int = 5, n_trees: int = 40
) -> Discriminator:
    """Train gradient boosted trees to tell two samples apart, and score rows left out.

    Both sides weigh the same. Rows of one group are never on both sides of a fold.

    Args:
        real: Real rows.
        synthetic: Generated rows.
        seed: Of folds and trees.
        n_folds: Parts, each scored by trees of the others; from 2.
        n_trees: Rounds of boosting.

    Raises:
        MissingExtra: If scikit-learn is not installed.
        InvalidOption: If a side has fewer groups than there are folds.
    """
    sklearn = load_sklearn()
    both = joined(real, synthetic)
    is_synthetic = np.arange(len(both)) >= len(real)
    n_groups = min(len(np.unique(side.groups)) for side in (real, synthetic))
    if n_groups < n_folds:
        raise InvalidOption(
            f"{n_groups} units cannot be split into {n_folds} folds. Give more rows."
        )
    weights = np.concatenate(
        [side.weights / side.weights.sum() * len(both) / 2 for side in (real, synthetic)]
    )
    levels = np.array([len(column.levels or ()) for column in both.columns])
    chance = np.full(len(both), np.nan)
    folds = sklearn.model_selection.StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for train, test in folds.split(both.values, is_synthetic, both.groups):
        seen, kept = _varying(both.values[train])
        trees = sklearn.ensemble.HistGradientBoostingClassifier(
            max_iter=n_trees,
            learning_rate=0.2,
            max_leaf_nodes=15,
            max_bins=63,
            early_stopping=False,
            categorical_features=((levels > 0) & (levels <= MOST_LEVELS))[kept],
            random_state=seed,
        )
        trees.fit(seen, is_synthetic[train], sample_weight=weights[train])
        chance[test] = trees.predict_proba(both.values[np.ix_(test, kept)])[:, 1]
    pmse = float((weights * (chance - 0.5) ** 2).sum() / weights.sum())
    return Discriminator(weighted_auc(chance, is_synthetic, weights), pmse)


def _varying(values: Vector) -> tuple[Vector, Index]:
    """Columns with two values or more, which the trees need, and their places."""
    spread = np.nan_to_num(np.fmax.reduce(values) - np.fmin.reduce(values))
    kept = np.flatnonzero(spread > 0)
    return values[:, kept], kept


def weighted_auc(scores: Vector, is_positive: Mask, weights: Vector) -> float:
    """Chance that a positive scores above a negative, drawn by weight; ties count half.

    Examples:
        >>> weighted_auc(np.array([0.1, 0.6, 0.6]), np.array([False, False, True]), np.ones(3))
        0.75
    """
    _, code = np.unique(scores, return_inverse=True)
    positive = np.bincount(code, weights * is_positive)
    negative = np.bincount(code, weights * ~is_positive)
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def independent_rows(sample: Coded, n_rows: int, rng: np.random.Generator) -> Coded:
    """The baseline that knows each column and nothing of how they go together.

    Which slots are filled comes from a real row, for each entity by itself; every cell in them is
    drawn from its column alone.

    Args:
        sample: Real rows; drawn by weight.
        n_rows: Rows to draw.
        rng: Source of chance.
    """
    share = sample.weights / sample.weights.sum()
    values = np.full((n_rows, len(sample.columns)), np.nan)
    exists = np.ones(values.shape, dtype=np.bool_)
    donors: dict[str, Any] = {}
    for place, column in enumerate(sample.columns):
        if column.kind == "present":
            if column.entity not in donors:
                donors[column.entity] = rng.choice(len(sample), n_rows, p=share)
            values[:, place] = sample.values[donors[column.entity], place]
    for place, column in enumerate(sample.columns):
        if column.kind == "present":
            continue
        if column.presence is not None:
            exists[:, place] = values[:, sample.position[column.presence]] == 1
        real = sample.exists[:, place] & (share > 0)
        wanted = int(exists[:, place].sum())
        if wanted:
            cells = sample.values[real, place]
            values[exists[:, place], place] = rng.choice(
                cells, wanted, p=share[real] / share[real].sum()
            )
    return Coded(sample.columns, values, exists, np.ones(n_rows), np.arange(n_rows, dtype=np.intp))
