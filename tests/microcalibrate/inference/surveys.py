"""Surveys that several tests of inference share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from microcalibrate import Calibration


def people(seed: int = 0, n_clusters: int = 40) -> pd.DataFrame:
    """Persons in clusters of four, in four strata, with a design weight."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), 4)
    common = rng.normal(0, 0.5, n_clusters)[cluster]
    income = np.exp(3 + common + rng.normal(0, 0.7, len(cluster)))
    return pd.DataFrame(
        {
            "cluster": cluster,
            "stratum": cluster % 4,
            "weight": rng.uniform(20, 60, len(cluster)),
            "income": income,
            "tax": np.maximum(0.3 * income - 4, 0) + rng.exponential(1, len(cluster)),
            "age": rng.integers(18, 90, len(cluster)),
            "sex": np.where(rng.random(len(cluster)) < 0.5, "f", "m"),
            "size": np.full(len(cluster), n_clusters),
        }
    )


def columns_of(data: pd.DataFrame) -> np.ndarray:
    """Persons, women, and age: what is calibrated to."""
    women = (data["sex"] == "f").to_numpy(dtype=float)
    return np.column_stack([np.ones(len(data)), women, data["age"]])


def calibrated(data: pd.DataFrame, **options: Any) -> Calibration:
    """A calibration to totals that are off by a few percent, exact where not said otherwise."""
    columns = columns_of(data)
    totals = columns.T @ data["weight"].to_numpy() * [1.05, 1.02, 1.08]
    options = {"tolerances": 0.0, "scales": np.abs(totals), **options}
    made = Calibration(
        data["weight"], totals, columns, target_names=["persons", "women", "age"], **options
    )
    made.calibrate(progress=False)
    return made
