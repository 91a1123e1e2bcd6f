"""Would the same statistics be published from generated rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd

from microcalibrate.regularise.quality.samples import NUMERIC, Coded, Vector

Statistics: TypeAlias = Callable[[pd.DataFrame], pd.DataFrame]
"""What each unit adds to each statistic: slot rows in, a column per statistic out."""

LEAST_SHARE = 0.01


def default_statistics(sample: Coded, real: Coded) -> pd.DataFrame:
    """What each unit adds to totals, numbers with an amount, and numbers by category.

    Args:
        sample: Rows to add up.
        real: Real rows; levels and amounts that fewer than 1% of the units have are left out.

    Returns:
        A row per unit and a column per statistic.
    """
    found: dict[str, Vector] = {}
    grouped: dict[tuple[str, str], list[int]] = {}
    for place, column in enumerate(sample.columns):
        if column.kind != "link":
            grouped.setdefault((column.entity, column.source), []).append(place)
    for (entity, source), places in grouped.items():
        column = sample.columns[places[0]]
        name = f"{entity}.{source}"
        values = sample.values[:, places]
        real_values = real.values[:, places]
        if column.type in NUMERIC:
            if _share((np.nan_to_num(real_values) != 0).any(1), real) >= LEAST_SHARE:
                found[name] = np.nan_to_num(values).sum(1)
                found[f"{name} ≠ 0"] = (np.nan_to_num(values) != 0).sum(1).astype(np.float64)
            continue
        levels = column.levels if column.levels is not None else (False, True)
        for code, level in enumerate(levels):
            if len(levels) == 2 and code == 0:
                continue
            if _share((real_values == code).any(1), real) >= LEAST_SHARE:
                found[f"{name} = {level}"] = (values == code).sum(1).astype(np.float64)
    return pd.DataFrame(found)


def bootstrap_standard_errors(
    contributions: Vector, weights: Vector, *, n_replicates: int, rng: np.random.Generator
) -> Vector:
    """Standard error of weighted means over units, by drawing units again with replacement.

    Args:
        contributions: What each unit adds, shape `(n_units, n_statistics)`.
        weights: Of the units.
        n_replicates: Samples to draw (Efron 1979).
        rng: Source of chance.

    Returns:
        Shape `(n_statistics,)`.
    """
    n_units = len(weights)
    means = np.empty((n_replicates, contributions.shape[1]))
    for start in range(0, n_replicates, 50):
        some = min(50, n_replicates - start)
        drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=some) * weights
        means[start : start + some] = drawn @ contributions / drawn.sum(1, keepdims=True)
    errors: Vector = means.std(0, ddof=1)
    return errors


def statistics_table(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    real_weights: Vector,
    synthetic_weights: Vector,
    *,
    n_replicates: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Each statistic per unit on both sides, and whether they differ by more than chance.

    Args:
        real: What each real unit adds to each statistic.
        synthetic: The same of generated units.
        real_weights: Weights of the real units.
        synthetic_weights: Weights of the generated ones.
        n_replicates: Bootstrap samples for the standard errors.
        rng: Source of chance.

    Returns:
        A row per statistic: `statistic`, `real`, `synthetic`, `standard_error` (of their
        difference: both are samples), `z` (difference over it), `is_within`, True where that is
        at most 2 in size.
    """
    sides, errors = [], []
    for table, weights in ((real, real_weights), (synthetic, synthetic_weights)):
        values = table.to_numpy(dtype=np.float64)
        sides.append(weights @ values / weights.sum())
        errors.append(
            bootstrap_standard_errors(values, weights, n_replicates=n_replicates, rng=rng)
        )
    error = np.hypot(*errors)
    gap = sides[1] - sides[0]
    # What is the same for every unit, such as one head each, differs by rounding only.
    gap = np.where(np.isclose(sides[0], sides[1], rtol=1e-9, atol=0), 0.0, gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(gap == 0, 0.0, gap / error)
    z = np.clip(z, -1e6, 1e6)
    return pd.DataFrame(
        {
            "statistic": list(map(str, real.columns)),
            "real": sides[0],
            "synthetic": sides[1],
            "standard_error": error,
            "z": z,
            "is_within": np.abs(z) <= 2,
        }
    )


def _share(mask: Vector, sample: Coded) -> float:
    return float(np.average(mask, weights=sample.weights))
