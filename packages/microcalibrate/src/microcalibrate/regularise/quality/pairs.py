"""Do columns go together as they really do: one matrix of associations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.regularise.quality.samples import NUMERIC, Coded, Mask, Vector

LEAST_EFFECTIVE = 100.0
"""Kish number of rows with both values below which a pair is not judged."""
LEAST_VARIED = 30.0
"""The same of rows in which one of them is not at its most common value."""


def association_matrix(sample: Coded) -> tuple[Vector, Mask]:
    """Strength of association of each pair of columns, over the rows that have both values.

    | pair | measure |
    |---|---|
    | numbers | Spearman's rank correlation, signed |
    | number and category | correlation ratio of the ranks (Fisher 1925), in `[0, 1]` |
    | categories | Cramér's V (Cramér 1946), in `[0, 1]` |

    All are weighted. Ranks are those among all who have the value of a column, ties at their
    middle, so that one ranking serves all pairs.

    Args:
        sample: Rows; NaN and empty slots are left out pair by pair.

    Returns:
        Associations, NaN where a column does not vary, and whether there are too few rows to
        judge a pair: fewer than 100 with both values, or than 30 in which a side is not at its
        most common value (Kish numbers). Both of shape `(n_columns, n_columns)`.
    """
    weights = sample.weights / sample.weights.mean()
    has = ~np.isnan(sample.values)
    n_columns = len(sample.columns)
    present = has.astype(np.float64)
    joint = present.T @ (present * weights[:, None])
    varied = np.column_stack([_off_mode(column) for column in sample.values.T]).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = joint**2 / (present.T @ (present * weights[:, None] ** 2))
        moving = ((varied * weights[:, None]).T @ present) ** 2
        moving = moving / ((varied * weights[:, None] ** 2).T @ present)
    is_enough = (effective >= LEAST_EFFECTIVE) & (np.fmin(moving, moving.T) >= LEAST_VARIED)
    found = np.full((n_columns, n_columns), np.nan)

    is_number = np.array([column.type in NUMERIC for column in sample.columns])
    numbers, categories = np.flatnonzero(is_number), np.flatnonzero(~is_number)
    ranks = np.zeros((len(sample), len(numbers)))
    for place, column in enumerate(numbers):
        kept = has[:, column]
        ranks[kept, place] = middle_ranks(sample.values[kept, column], weights[kept])
    mask = present[:, numbers]
    found[np.ix_(numbers, numbers)] = _correlations(ranks, mask, weights)
    if len(categories):
        one_hot, owner = indicators(sample.values[:, categories])
        found[np.ix_(categories, categories)] = _cramers(one_hot, owner, weights, len(categories))
        ratios = _correlation_ratios(one_hot, owner, ranks, mask, weights, len(categories))
        found[np.ix_(categories, numbers)] = ratios
        found[np.ix_(numbers, categories)] = ratios.T
    return found, ~is_enough


def _off_mode(values: Vector) -> Mask:
    """Cells that have a value other than the most common one."""
    levels, code, counts = np.unique(values, return_inverse=True, return_counts=True)
    counts = np.where(np.isnan(levels), -1, counts)
    off: Mask = ~np.isnan(values) & (code != np.argmax(counts))
    return off


def middle_ranks(values: Vector, weights: Vector) -> Vector:
    """Share of the weight below each value, plus half of that at it.

    Examples:
        >>> middle_ranks(np.array([5.0, 1.0, 5.0]), np.ones(3))
        array([0.6667, 0.1667, 0.6667])
    """
    _, code = np.unique(values, return_inverse=True)
    at = np.bincount(code, weights)
    below = np.cumsum(at) - at
    ranks: Vector = ((below + at / 2) / max(weights.sum(), 1e-300))[code]
    return ranks


def indicators(values: Vector) -> tuple[Vector, npt.NDArray[np.intp]]:
    """A column of 0 and 1 for each value of each column, and the column that it belongs to."""
    parts, owner = [], []
    for place in range(values.shape[1]):
        levels = np.unique(values[:, place])
        levels = levels[~np.isnan(levels)]
        parts.append((values[:, place, None] == levels).astype(np.float64))
        owner += [place] * len(levels)
    return np.hstack(parts), np.array(owner, dtype=np.intp)


def pair_table(real: Coded, synthetic: Coded) -> pd.DataFrame:
    """Associations of all pairs of columns on both sides.

    Args:
        real: Real rows that the generator has not seen.
        synthetic: Generated rows; give as many, since measures of association between categories
            are larger in smaller samples.

    Returns:
        A row per pair with both associations: `first`, `second`, `real`, `synthetic`, `gap`, and
        `is_thin`, True where a side has too few rows to judge, see `association_matrix`.
    """
    left, left_thin = association_matrix(real)
    right, right_thin = association_matrix(synthetic)
    first, second = np.triu_indices(len(real.columns), 1)
    names = np.array([column.name for column in real.columns], dtype=object)
    table = pd.DataFrame(
        {
            "first": names[first],
            "second": names[second],
            "real": left[first, second],
            "synthetic": right[first, second],
            "is_thin": (left_thin | right_thin)[first, second],
        }
    )
    # A column that never varies in one of the samples goes with nothing there.
    one_sided = table.real.isna() != table.synthetic.isna()
    table.loc[one_sided, ["real", "synthetic"]] = table.loc[
        one_sided, ["real", "synthetic"]
    ].fillna(0.0)
    table["gap"] = (table.real - table.synthetic).abs()
    return table.dropna(subset=["gap"]).reset_index(drop=True)


def pair_figures(table: pd.DataFrame) -> dict[str, float]:
    """Mean and largest difference over the pairs that are not thin."""
    gaps = table.gap[~table.is_thin]
    return {"gap_mean": float(gaps.mean()), "gap_max": float(gaps.max())} if len(gaps) else {}


def _correlations(ranks: Vector, mask: Vector, weights: Vector) -> Vector:
    weighted = ranks * weights[:, None]
    total = mask.T @ (mask * weights[:, None])
    sums = weighted.T @ mask
    squares = (weighted * ranks).T @ mask
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / total
        spread = np.maximum(squares / total - mean**2, 0)
        spread[spread < 1e-12] = np.nan
        product = weighted.T @ ranks / total - mean * mean.T
        found: Vector = np.clip(product / np.sqrt(spread * spread.T), -1, 1)
    return found


def _correlation_ratios(
    one_hot: Vector,
    owner: npt.NDArray[np.intp],
    ranks: Vector,
    mask: Vector,
    weights: Vector,
    n_categories: int,
) -> Vector:
    """Square root of the share of the variance of ranks that lies between categories."""
    weighted = one_hot * weights[:, None]
    by_level = [weighted.T @ part for part in (mask, ranks, ranks**2)]
    belongs = np.zeros((n_categories, len(owner)))
    belongs[owner, np.arange(len(owner))] = 1
    total, sums, squares = (belongs @ part for part in by_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = belongs @ np.nan_to_num(by_level[1] ** 2 / by_level[0]) - sums**2 / total
        whole = squares - sums**2 / total
        whole[whole < 1e-12 * total] = np.nan
        n_levels = belongs @ (by_level[0] > 0)
        whole[n_levels < 2] = np.nan
        found: Vector = np.sqrt(np.clip(between / whole, 0, 1))
    return found


def _cramers(
    one_hot: Vector, owner: npt.NDArray[np.intp], weights: Vector, n_categories: int
) -> Vector:
    counts = (one_hot * weights[:, None]).T @ one_hot
    found = np.full((n_categories, n_categories), np.nan)
    ends = np.searchsorted(owner, np.arange(n_categories + 1))
    for i in range(n_categories):
        for j in range(i + 1, n_categories):
            table = counts[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
            found[i, j] = found[j, i] = cramers_v(table)
    return found


def cramers_v(counts: Vector) -> float:
    """Cramér's V of a table of counts or weights; NaN where a side has a single category.

    `sqrt(chi2 / n / (min(rows, columns) - 1))`, without a correction for small samples.

    Examples:
        >>> cramers_v(np.array([[10.0, 0.0], [0.0, 10.0]]))
        1.0
    """
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    least = min(counts.shape)
    if least < 2:
        return float("nan")
    shares = counts / counts.sum()
    expected = shares.sum(1)[:, None] * shares.sum(0)
    phi2 = (shares**2 / expected).sum() - 1
    return float(np.sqrt(np.clip(phi2 / (least - 1), 0, 1)))
