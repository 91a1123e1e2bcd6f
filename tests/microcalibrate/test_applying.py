"""Prices of a calibration, applied to records: those that were fitted get their weights again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import (
    Calibration,
    CalibrationResult,
    Distance,
    InvalidOption,
    InvalidProblem,
    apply_prices,
)
from microcalibrate.engine.distances import DISTANCES
from microcalibrate.result import Status

RNG = np.random.default_rng(21)
N = 300
STATE = RNG.integers(0, 3, N)
DESIGN = RNG.uniform(1, 9, N)
COLUMNS = np.column_stack(
    [np.ones(N), RNG.lognormal(0, 0.6, N), RNG.integers(0, 2, N), RNG.normal(3, 1, N)]
)
TARGETS = (COLUMNS.T @ DESIGN) * [1.05, 0.93, 1.1, 1.0]
NAMES = ["people", "income", "women", "rooms"]


def fitted(**options: Any) -> Calibration:
    calibration = Calibration(DESIGN, TARGETS, COLUMNS, target_names=NAMES, **options)
    calibration.calibrate()
    return calibration


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(
    "options",
    [
        {"tolerances": 0},
        {},
        {"tolerances": [0, np.nan, np.nan, np.nan], "closeness": 0.01},
    ],
)
def test_fitted_records_get_their_weights_again(
    tmp_path: Path, distance: str, options: dict[str, Any]
) -> None:
    result = fitted(distance=distance, min_weight_ratio=0.6, max_weight_ratio=1.6, **options).result
    loaded = CalibrationResult.load(result.save(tmp_path / "run"))

    again = apply_prices(loaded, COLUMNS, DESIGN)

    assert_allclose(again, result.weights, rtol=1e-8)
    assert_allclose(apply_prices(loaded, COLUMNS[7:30], DESIGN[7:30]), again[7:30], rtol=1e-14)


def test_records_of_weight_zero_and_weights_at_their_bounds_come_again() -> None:
    design = np.where(np.arange(N) % 10 == 0, 0.0, DESIGN)
    calibration = Calibration(
        design, TARGETS, COLUMNS, min_weight=2.0, max_weight=12.0, distance="raking",
        min_weight_ratio=0.1,
    )  # fmt: skip
    weights = calibration.calibrate()

    assert (weights == 2.0).any()
    assert_allclose(apply_prices(calibration.result, COLUMNS, design), weights, rtol=1e-7)


def test_bands_and_absolute_losses_come_again_to_the_precision_of_their_certificate() -> None:
    banded = fitted(tolerances=0.01)
    assert_allclose(apply_prices(banded.result, COLUMNS, DESIGN), banded.weights, rtol=1e-3)
    absolute = fitted(loss="absolute")
    assert_allclose(apply_prices(absolute.result, COLUMNS, DESIGN), absolute.weights, rtol=1e-3)


@pytest.mark.parametrize("distance", ["chi2", "raking", "logit"])
def test_targets_beyond_a_cap_have_no_price_and_the_weights_come_again(
    distance: str, tmp_path: Path
) -> None:
    """Beyond the cap a target costs what it costs: the weights are those of the other targets."""
    options: dict[str, Any] = {
        "distance": distance, "closeness": 0.01, "min_weight_ratio": 0.6, "max_weight_ratio": 1.6
    }  # fmt: skip
    far = TARGETS * [1, 1, 4, 1]
    capped = Calibration(
        DESIGN, far, COLUMNS, target_names=NAMES, loss="capped:0.5", scales=far, **options
    )
    weights = capped.calibrate()
    others = [0, 1, 3]
    # Of three targets each counts 4 / 3 of what it does among four: so must the distance.
    without = Calibration(
        DESIGN, far[others], COLUMNS[:, others], loss="absolute", scales=far[others],
        **options | {"closeness": 0.01 * 4 / 3},
    )  # fmt: skip
    direct = without.calibrate()
    loaded = CalibrationResult.load(capped.result.save(tmp_path / "run"))
    again = apply_prices(loaded, COLUMNS, DESIGN)

    assert loaded.status is Status.STATIONARY
    assert abs(loaded.targets["error"][2]) > 0.5
    assert_allclose(loaded.targets["price"][2], 0, atol=1e-8)
    assert_allclose(again, weights, rtol=1e-4)
    assert_allclose(again, direct, rtol=1e-3)
    half = np.arange(N) % 2 == 0
    assert_allclose(apply_prices(loaded, COLUMNS[half], DESIGN[half]), again[half], rtol=1e-14)


def test_clusters_and_parts_come_again() -> None:
    homes = np.arange(N) // 2
    together = fitted(cluster=homes, distance="raking")
    assert_allclose(
        apply_prices(together.result, COLUMNS, DESIGN, cluster=homes), together.weights, rtol=1e-8
    )
    with pytest.raises(InvalidOption, match="name the clusters"):
        apply_prices(together.result, COLUMNS, DESIGN)

    columns = np.hstack([COLUMNS * (state == STATE)[:, None] for state in range(3)])
    apart = Calibration(DESIGN, 1.1 * columns.T @ DESIGN, columns, partition=STATE)
    assert_allclose(apart.calibrate(), apply_prices(apart.result, columns, DESIGN), rtol=1e-8)


def test_a_half_sample_lends_its_prices_to_the_other_half() -> None:
    """Two halves that are copies: the weights of the whole, and its totals, come out."""
    half = Calibration(DESIGN, TARGETS, COLUMNS, tolerances=0, distance="raking")
    weights = half.calibrate()

    both = apply_prices(half.result, np.vstack([COLUMNS, COLUMNS]), np.tile(DESIGN / 2, 2))

    assert_allclose(both, np.tile(weights / 2, 2), rtol=1e-8)
    assert_allclose(np.vstack([COLUMNS, COLUMNS]).T @ both, TARGETS, rtol=1e-8)


def test_columns_of_a_table_are_found_by_name() -> None:
    result = fitted().result
    table = pd.DataFrame(COLUMNS, columns=NAMES)[NAMES[::-1]].assign(note=0.0)

    assert_allclose(
        apply_prices(result, table, DESIGN), apply_prices(result, COLUMNS, DESIGN), rtol=1e-15
    )
    with pytest.raises(InvalidProblem, match="no column 'rooms'"):
        apply_prices(result, table.drop(columns="rooms"), DESIGN)


def test_a_distance_of_your_own_is_asked_for() -> None:
    own = Distance("own", lambda r: (r - 1) ** 2, lambda r: 2 * (r - 1), lambda r: 2 + 0 * r)
    calibration = fitted(distance=own)

    with pytest.raises(InvalidOption, match="distance of your own, 'own'"):
        apply_prices(calibration.result, COLUMNS, DESIGN)
    again = apply_prices(calibration.result, COLUMNS, DESIGN, distance=own)
    assert_allclose(again, calibration.weights, rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"target_records": 100}, "records were chosen"),
        ({"max_weight_ratio": np.linspace(2, 3, N)}, "max_weight_ratio per record"),
        ({"heteroscedasticity": np.linspace(1, 2, N)}, "heteroscedasticity per record"),
        ({"frozen": np.arange(N) < 3}, "froze some records"),
    ],
)
def test_what_a_result_does_not_keep_is_an_error(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidOption, match="cannot be applied") as caught:
        apply_prices(fitted(**options).result, COLUMNS, DESIGN)

    assert part in str(caught.value)
