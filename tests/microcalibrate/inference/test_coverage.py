"""Intervals hold the truth as often as they say; `benchmarks/interval_coverage.py` has more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from microcalibrate import Calibration
from microcalibrate.datasets import load_cps
from microcalibrate.inference import (
    Replication,
    SurveyDesign,
    estimate,
    mean,
    ratio,
    replicate_weights,
    total,
)

DESIGN = SurveyDesign(strata="stratum", psu="psu")
ASKED = [total("agi"), mean("agi"), ratio("tax", "agi"), mean("agi", where="old == 1")]
N_STRATA, N_DRAWN = 4, 100


@pytest.fixture(scope="module")
def population() -> pd.DataFrame:
    """The embedded tax units, pairs of which are clusters; amounts of a few are capped."""
    cps = load_cps()
    people = pd.DataFrame(
        {
            "agi": cps["agi"].clip(-50_000, 300_000) / 1_000,
            "tax": cps["payroll_tax"].clip(0, 30_000) / 1_000,
            "wages": cps["wages"].clip(0, 250_000) / 1_000,
            "persons": cps["n_persons"].astype(float),
            "old": (cps["age_head"] >= 65).astype(float),
        }
    )
    people["stratum"] = np.arange(len(people)) * N_STRATA // len(people)
    return people


def columns_of(people: pd.DataFrame) -> np.ndarray:
    return np.column_stack([np.ones(len(people)), people[["persons", "old", "wages"]]])


def sample_of(people: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Pairs of neighbours, drawn with replacement in each stratum."""
    size = len(people) // N_STRATA
    first = [one * size + 2 * rng.integers(size // 2, size=N_DRAWN) for one in range(N_STRATA)]
    records = (np.concatenate(first)[:, None] + [0, 1]).ravel()
    sample = people.iloc[records].reset_index(drop=True)
    sample["psu"] = np.arange(len(sample)) // 2
    return sample, np.full(len(sample), size / 2 / N_DRAWN)


def truth(people: pd.DataFrame) -> np.ndarray:
    old = people["old"] == 1
    agi = people["agi"]
    return np.array([agi.sum(), agi.mean(), people["tax"].sum() / agi.sum(), agi[old].mean()])


def assert_nominal(hits: list[np.ndarray]) -> None:
    """Between 93% and 97%, with room for the chance in as many samples: one in 10,000."""
    n = len(hits)
    low = stats.binom.ppf(1e-4, n, 0.93) / n
    high = stats.binom.ppf(1 - 1e-4, n, 0.97) / n
    share = np.mean(hits, axis=0)
    assert np.all((share >= low) & (share <= high)), share


@pytest.mark.parametrize("is_soft", [False, True], ids=["exact", "soft"])
def test_intervals_cover_also_when_targets_are_noisy(
    population: pd.DataFrame, is_soft: bool
) -> None:
    totals = columns_of(population).sum(axis=0)
    noise = np.diag([0.005, 0.01, 0.02, 0.02] * totals)
    true, options = truth(population), {"closeness": 1e-3} if is_soft else {"tolerances": 0.0}
    plain, propagated, ignored = [], [], []
    for seed in range(150):
        rng = np.random.default_rng([5, seed])
        sample, weights = sample_of(population, rng)
        columns = columns_of(sample)
        for noisy in (False, True):
            targets = totals + noisy * (noise @ rng.normal(size=4))
            made = Calibration(weights, targets, columns, scales=totals, **options)
            made.calibrate(progress=False)
            for errors, hits in (
                (None, ignored if noisy else plain),
                *([(noise @ noise.T, propagated)] if noisy else []),
            ):
                found = estimate(made, ASKED, sample, design=DESIGN, target_errors=errors).table
                hits.append(((found["lower"] <= true) & (true <= found["upper"])).to_numpy())
    assert_nominal(plain)
    assert_nominal(propagated)
    # The test can tell: intervals that do not know of the noise are too short.
    assert np.mean(ignored, axis=0)[0] < 0.9


def test_intervals_of_replicates_cover(population: pd.DataFrame) -> None:
    totals, true = columns_of(population).sum(axis=0), truth(population)
    hits = []
    for seed in range(60):
        sample, weights = sample_of(population, np.random.default_rng([6, seed]))
        made = Calibration(weights, totals, columns_of(sample), tolerances=0.0)
        made.calibrate(progress=False)
        drawn = Replication.bootstrap(DESIGN, sample, n_replicates=60, seed=seed)
        found = estimate(
            made, ASKED, sample, replicates=replicate_weights(made, drawn, progress=False)
        ).table
        hits.append(((found["lower"] <= true) & (true <= found["upper"])).to_numpy())
    assert_nominal(hits)
