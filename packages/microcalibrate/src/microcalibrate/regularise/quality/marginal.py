"""Does each column look like the real one: distances between distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.regularise.quality.samples import NUMERIC, Coded, Vector, effective_number

LEAST_EFFECTIVE = 50.0
"""Kish number of records with a value below which a column is not judged."""


def weighted_ks(
    left: Vector,
    right: Vector,
    left_weights: Vector | None = None,
    right_weights: Vector | None = None,
) -> float:
    """Largest distance between two weighted distribution functions (Kolmogorov–Smirnov).

    Args:
        left: Values of one sample.
        right: Values of the other.
        left_weights: Their weights; equal by default.
        right_weights: The same of the other.

    Returns:
        A value in `[0, 1]`; that of `scipy.stats.ks_2samp` for equal weights.

    Examples:
        >>> weighted_ks(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        0.5
        >>> weighted_ks(np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.array([1.0, 3.0]))
        0.5
    """
    left_share = _shares(left, left_weights)
    right_share = _shares(right, right_weights)
    values = np.concatenate([left, right])
    order = np.argsort(values, kind="stable")
    values = values[order]
    gap = np.cumsum(np.concatenate([left_share, -right_share])[order])
    is_last_of_tie = np.r_[values[1:] != values[:-1], True]
    return float(min(np.abs(gap[is_last_of_tie]).max(), 1.0))


def total_variation(
    left: npt.NDArray[Any],
    right: npt.NDArray[Any],
    left_weights: Vector | None = None,
    right_weights: Vector | None = None,
) -> float:
    """Share of the weight that would have to change its category for two samples to agree.

    `sum(abs(p - q)) / 2` over the categories.

    Args:
        left: Categories of one sample, as whole numbers.
        right: Those of the other.
        left_weights: Their weights; equal by default.
        right_weights: The same of the other.

    Returns:
        A value in `[0, 1]`.

    Examples:
        >>> total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
        0.25
    """
    codes = np.unique(np.concatenate([left, right]), return_inverse=True)[1]
    n_codes = int(codes.max()) + 1
    p = np.bincount(codes[: len(left)], _shares(left, left_weights), n_codes)
    q = np.bincount(codes[len(left) :], _shares(right, right_weights), n_codes)
    return float(np.abs(p - q).sum() / 2)


def weighted_share(mask: npt.NDArray[np.bool_], weights: Vector) -> float:
    """Share of the weight where a mask is True; NaN without weight."""
    total = weights.sum()
    return float(weights[mask].sum() / total) if total > 0 else float("nan")


def marginal_table(real: Coded, synthetic: Coded) -> pd.DataFrame:
    """Distance of each column from the real one, among the cells that exist.

    Args:
        real: Real rows that the generator has not seen.
        synthetic: Generated rows.

    Returns:
        A row per column: `column`, `type`, `ks` (numbers), `tv` (categories, truth values),
        `zero_real`, `zero_synthetic`, `zero_gap` (shares of zeros among numbers),
        `missing_real`, `missing_synthetic`, `missing_gap`, `effective` (Kish number of real
        values, or of generated ones if fewer) and `is_thin`, True where that is under 50.
    """
    found = []
    for place, column in enumerate(real.columns):
        row: dict[str, Any] = {"column": column.name, "type": column.type}
        parts = []
        for side, sample in (("real", real), ("synthetic", synthetic)):
            exists = sample.exists[:, place]
            values, weights = sample.values[exists, place], sample.weights[exists]
            has_value = ~np.isnan(values)
            row[f"missing_{side}"] = weighted_share(~has_value, weights)
            values, weights = values[has_value], weights[has_value]
            if column.type in NUMERIC:
                row[f"zero_{side}"] = weighted_share(values == 0, weights)
            parts.append((values, weights))
        row["effective"] = min(effective_number(weights) for _, weights in parts)
        row["is_thin"] = row["effective"] < LEAST_EFFECTIVE
        if row["effective"] > 0:
            (left, left_weights), (right, right_weights) = parts
            name, distance = (
                ("ks", weighted_ks) if column.type in NUMERIC else ("tv", total_variation)
            )
            row[name] = distance(left, right, left_weights, right_weights)
        found.append(row)
    names = ("ks", "tv", "zero_real", "zero_synthetic", "missing_real", "missing_synthetic")
    table = pd.DataFrame(found)
    for name in names:
        table[name] = table[name].astype(np.float64) if name in table else np.nan
    table["zero_gap"] = (table.zero_synthetic - table.zero_real).abs()
    table["missing_gap"] = (table.missing_synthetic - table.missing_real).abs()
    return table


def marginal_figures(table: pd.DataFrame) -> dict[str, float]:
    """Largest and median distances over the columns that are not thin."""
    judged = table[~table.is_thin]
    figures = {
        "ks_median": judged.ks.median(),
        "ks_max": judged.ks.max(),
        "tv_max": judged.tv.max(),
        "zero_gap_max": judged.zero_gap.max(),
        "missing_gap_max": judged.missing_gap.max(),
    }
    return {name: float(value) for name, value in figures.items() if not np.isnan(value)}


def _shares(values: npt.NDArray[Any], weights: Vector | None) -> Vector:
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares: Vector = weights / weights.sum()
    return shares
