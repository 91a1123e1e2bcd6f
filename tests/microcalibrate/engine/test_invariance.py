"""What must not change the answer: units, order, splitting of records, storage, threads."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import Calibration
from microcalibrate.engine.normal_equations import columns_of, factor

from ..problems import Data, calibrated, conflicting, feasible, ratio_of, survey

SEEDS = st.integers(0, 10_000)
# Options of both roads of the engine: plain Newton steps, and bounds that many records reach.
KINDS = st.sampled_from(
    [
        {"tolerances": 0.0, "min_weight_ratio": 0.6, "max_weight_ratio": 1.4},
        {"tolerances": 0.0, "distance": "raking"},
        {"max_weight_ratio": 1.2},
        {"max_weight_ratio": 3.0, "distance": "raking", "closeness": 1e-2},
        {"tolerances": [0.0, np.nan, 0.03, 0.0, np.nan, 0.03], "max_weight_ratio": 1.5},
    ]
)
few = settings(max_examples=25, deadline=None, derandomize=True)


def data_for(seed: int, options: dict[str, Any]) -> Data:
    """Targets that can be met, or that cannot where all are soft."""
    return (feasible if "tolerances" in options else conflicting)(seed, 40, 6)


def assert_same_weights(found: np.ndarray, wanted: np.ndarray) -> None:
    """A relative gap of 1e-8 leaves ratios uncertain to about its root, 1e-4."""
    assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * wanted.mean())


@few
@given(seed=SEEDS, options=KINDS, power=st.floats(-6, 6), target=st.integers(0, 5))
def test_the_unit_of_a_target(
    seed: int, options: dict[str, Any], power: float, target: int
) -> None:
    data = data_for(seed, options)
    unit = np.ones(6)
    unit[target] = 10**power

    found = calibrated(Data(data.weights, data.targets * unit, data.matrix * unit), **options)

    assert_same_weights(found.weights, calibrated(data, **options).weights)


@few
@given(seed=SEEDS, options=KINDS, power=st.floats(-6, 6))
def test_the_unit_of_the_weights(seed: int, options: dict[str, Any], power: float) -> None:
    """Weights in persons or in millions of them, their targets alike."""
    data = data_for(seed, options)
    unit = 10**power

    found = calibrated(Data(data.weights * unit, data.targets * unit, data.matrix), **options)
    turned = calibrated(Data(data.weights * unit, data.targets, data.matrix / unit), **options)

    wanted = ratio_of(calibrated(data, **options))
    assert_same_weights(ratio_of(found), wanted)
    assert_same_weights(ratio_of(turned), wanted)


@few
@given(seed=SEEDS, options=KINDS)
def test_the_order_of_records(seed: int, options: dict[str, Any]) -> None:
    data = data_for(seed, options)
    order = np.random.default_rng(seed).permutation(40)

    found = calibrated(Data(data.weights[order], data.targets, data.matrix[order]), **options)

    assert_same_weights(found.weights, calibrated(data, **options).weights[order])


@few
@given(seed=SEEDS, options=KINDS)
def test_the_order_of_targets(seed: int, options: dict[str, Any]) -> None:
    data = data_for(seed, options)
    order = np.random.default_rng(seed).permutation(6)
    turned = dict(options)
    if isinstance(options.get("tolerances"), list):
        turned["tolerances"] = np.array(options["tolerances"])[order]

    found = calibrated(Data(data.weights, data.targets[order], data.matrix[:, order]), **turned)

    wanted = calibrated(data, **options)
    assert_same_weights(found.weights, wanted.weights)
    prices = wanted.result.targets["price"].to_numpy()[order]
    assert_allclose(found.result.targets["price"], prices, atol=1e-3 * np.abs(prices).max())


@few
@given(seed=SEEDS, options=KINDS, part=st.floats(0.01, 0.99))
def test_a_record_split_in_two(seed: int, options: dict[str, Any], part: float) -> None:
    """Two records of the same kind share the weight that one would have, as their design says."""
    data = data_for(seed, options)
    weights = np.append(data.weights, data.weights[0] * (1 - part))
    weights[0] *= part
    split = Data(weights, data.targets, np.vstack([data.matrix, data.matrix[:1]]))

    found = calibrated(split, **options).weights

    wanted = calibrated(data, **options).weights
    assert_same_weights(np.append(found[0] + found[-1], found[1:-1]), wanted)
    assert_allclose(found[0] / weights[0], found[-1] / weights[-1], rtol=1e-3, atol=1e-4)


@few
@given(seed=SEEDS, options=KINDS, factor=st.sampled_from([-1.0, 1.0, 37.0, 1e-5]))
def test_a_target_said_twice(seed: int, options: dict[str, Any], factor: float) -> None:
    """An exact or banded target may be repeated; a soft one with half the importance each."""
    data = data_for(seed, options)
    twice = Data(
        data.weights,
        np.append(data.targets, factor * data.targets[0]),
        np.column_stack([data.matrix, factor * data.matrix[:, 0]]),
    )
    repeated = dict(options)
    if isinstance(options.get("tolerances"), list):
        repeated["tolerances"] = [*options["tolerances"], 0.0]
    if "tolerances" not in options:
        repeated["importances"] = [0.5, 1, 1, 1, 1, 1, 0.5]

    found = calibrated(twice, **repeated)

    assert_same_weights(found.weights, calibrated(data, **options).weights)


@few
@given(seed=SEEDS, options=KINDS)
def test_a_bound_that_no_record_reaches(seed: int, options: dict[str, Any]) -> None:
    data = data_for(seed, options)
    open_above = {name: value for name, value in options.items() if name != "max_weight_ratio"}
    wanted = calibrated(data, **open_above, max_weight_ratio=None)

    for far in (1e30, 1e4 * ratio_of(wanted).max()):
        found = calibrated(data, **open_above, max_weight_ratio=far)
        assert_same_weights(found.weights, wanted.weights)


@few
@given(seed=SEEDS, options=KINDS, n_zero=st.integers(1, 5))
def test_records_of_weight_zero(seed: int, options: dict[str, Any], n_zero: int) -> None:
    """They stay at zero, and the others do not notice them."""
    data = data_for(seed, options)
    rows = np.random.default_rng(seed).lognormal(2, 2, (n_zero, 6))
    more = Data(
        np.append(data.weights, np.zeros(n_zero)), data.targets, np.vstack([data.matrix, rows])
    )

    found = calibrated(more, **options).weights

    assert_array_equal(found[40:], 0)
    assert_same_weights(found[:40], calibrated(data, **options).weights)


@few
@given(seed=SEEDS, options=KINDS)
def test_records_that_touch_no_target_keep_their_weight(seed: int, options: dict[str, Any]) -> None:
    data = data_for(seed, options)
    more = Data(np.append(data.weights, 3.0), data.targets, np.vstack([data.matrix, np.zeros(6)]))

    assert_allclose(calibrated(more, **options).weights[-1], 3.0, rtol=1e-3)


# --- How the matrix is stored ---------------------------------------------------------------------


@few
@given(seed=SEEDS, options=KINDS)
def test_dense_and_sparse_matrices(seed: int, options: dict[str, Any]) -> None:
    data = data_for(seed, options)
    wanted = calibrated(data, **options).weights

    for kind in (sp.csr_array, sp.csc_matrix, sp.coo_array, sp.lil_array):
        found = calibrated(Data(data.weights, data.targets, kind(data.matrix)), **options)
        assert_same_weights(found.weights, wanted)


def test_a_sparse_matrix_of_single_precision_or_whole_numbers() -> None:
    data = survey(0, 400, 20)
    counts = np.round(data.matrix)
    for matrix, same in ((data.matrix, np.float32), (counts, np.int64), (counts > 0, np.bool_)):
        exact = matrix.astype(np.float64)
        targets = exact.T @ data.weights * 1.01
        wanted = calibrated(Data(data.weights, targets, exact)).weights
        for kind in (np.asarray, sp.csr_array):
            stored = kind(matrix.astype(same))
            found = calibrated(Data(data.weights, targets, stored)).weights
            assert_allclose(found, wanted, rtol=1e-5)


def test_a_sparse_matrix_with_repeated_and_unsorted_entries_is_summed_and_left_alone() -> None:
    values, columns = np.array([1.0, 2.0, 4.0, 3.0, 5.0]), np.array([1, 0, 1, 0, 1])
    stored = sp.csr_array((values, columns, [0, 3, 4, 5]), shape=(3, 2))
    dense = stored.toarray()
    before = stored.indices.copy(), stored.data.copy()
    targets = dense.T @ np.array([1.0, 2.0, 1.5])

    found = calibrated(Data(np.ones(3), targets, stored), tolerances=0).weights

    assert_allclose(found, calibrated(Data(np.ones(3), targets, dense), tolerances=0).weights)
    assert_array_equal(stored.indices, before[0])
    assert_array_equal(stored.data, before[1])


def test_frames_of_pandas_and_polars_and_plain_arrays() -> None:
    data = feasible(3, 40, 6)
    names = [f"kind/{letter}" for letter in "abcdef"]
    wanted = calibrated(data, tolerances=0)
    by_name = dict(zip(names, data.targets, strict=True))
    columns = dict(zip(names, data.matrix.T, strict=True))
    backwards = dict(reversed(by_name.items()))

    for matrix in (pd.DataFrame(columns), pl.DataFrame(columns)):
        for weights in (data.weights, pd.Series(data.weights), list(data.weights)):
            for targets in (data.targets, by_name, backwards, pd.Series(backwards)):
                calibration = Calibration(weights, targets, matrix, tolerances=0)
                # Columns lie in another order in memory, and so do the sums over them.
                found = calibration.calibrate(progress=False)
                assert_allclose(found, wanted.weights, rtol=1e-12)
                assert list(calibration.result.targets["name"]) == names
                assert_array_equal(calibration.result.targets["target"], data.targets)


def test_a_series_of_targets_without_names_counts_by_its_order() -> None:
    data = feasible(3, 40, 6)
    matrix = pd.DataFrame(data.matrix, columns=list("abcdef"))
    targets = pd.Series(data.targets)

    found = Calibration(data.weights, targets, matrix, tolerances=0).calibrate(progress=False)

    assert_allclose(found, calibrated(data, tolerances=0).weights, rtol=1e-12)


def test_arguments_are_not_changed() -> None:
    data = survey(1, 200, 10)
    for matrix in (data.matrix, sp.csr_array(data.matrix), pd.DataFrame(data.matrix)):
        before = pickle.dumps((data.weights, data.targets, matrix))
        calibration = Calibration(data.weights, data.targets, matrix, target_records=50)
        calibration.calibrate(progress=False)[:] = -1

        assert pickle.dumps((data.weights, data.targets, matrix)) == before
        assert calibration.weights.min() >= 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=SEEDS,
    n_records=st.integers(1, 80),
    n_patterns=st.integers(1, 30),
    n_targets=st.integers(1, 12),
)
def test_products_of_sparse_and_dense_columns(
    seed: int, n_records: int, n_patterns: int, n_targets: int
) -> None:
    """Records that share a pattern, are alone with theirs, or add to nothing at all."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((n_patterns, n_targets)) < 0.4
    matrix = patterns[rng.integers(n_patterns, size=n_records)] * rng.normal(
        size=(n_records, n_targets)
    )
    scales = rng.lognormal(size=n_records), rng.lognormal(size=n_targets)
    dense, sparse = (columns_of(form, *scales) for form in (matrix, sp.csr_array(matrix)))
    prices, ratio = rng.normal(size=n_targets), rng.normal(size=n_records)
    weight = rng.lognormal(size=n_records)
    diagonal = rng.lognormal(size=n_targets)

    assert_allclose(sparse.product(prices), dense.product(prices), rtol=1e-12, atol=1e-12)
    assert_allclose(
        sparse.transposed_product(ratio), dense.transposed_product(ratio), rtol=1e-12, atol=1e-12
    )
    assert_allclose(
        np.triu(sparse.unscaled_gram(weight)),
        np.triu(dense.unscaled_gram(weight)),
        rtol=1e-11,
        atol=1e-11,
    )
    scaled = scales[0][:, None] * matrix * scales[1]
    normal = scaled.T @ (weight[:, None] * scaled) + np.diag(diagonal)
    for columns in (sparse, dense):
        step = factor(columns, weight, diagonal)(prices)
        assert_allclose(normal @ step, prices, rtol=1e-7, atol=1e-9)


# --- Threads --------------------------------------------------------------------------------------

IN_THREADS = """
import sys
import numba, numpy as np, scipy.sparse as sp
from microcalibrate import Calibration

numba.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
matrix = sp.random_array((3000, 60), density=0.1, rng=rng, format="csr")
weights = rng.uniform(1, 9, 3000)
targets = matrix.T @ weights * rng.lognormal(0, 0.1, 60)
found = Calibration(weights, targets, matrix, max_weight_ratio=1.5).calibrate(progress=False)
np.save(sys.argv[2], found)
"""


def test_the_number_of_threads(tmp_path: Any) -> None:
    numba = pytest.importorskip("numba")
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("numba was started with a single thread")
    found = []
    for n_threads in (1, 2):
        path = tmp_path / f"{n_threads}.npy"
        subprocess.run([sys.executable, "-c", IN_THREADS, str(n_threads), str(path)], check=True)
        found.append(np.load(path))

    assert_allclose(found[0], found[1], rtol=1e-12, atol=0)


def test_the_same_run_twice_is_the_same_to_the_last_bit() -> None:
    data = survey(2, 500, 20)
    for matrix in (data.matrix, sp.csr_array(data.matrix)):
        same = Data(data.weights, data.targets, matrix)
        first, second = (calibrated(same, max_weight_ratio=2.0).weights for _ in range(2))
        assert_array_equal(first, second)


@pytest.mark.parametrize("unit", [1e-60, 1.0, 1e60])
def test_numbers_beyond_single_precision_change_nothing(unit: float) -> None:
    """The loops keep entries in single precision only where it holds them exactly."""
    data = survey(7)
    matrix = np.where(np.random.default_rng(0).random(data.matrix.shape) < 0.1, data.matrix, 0.0)
    matrix[0] = data.matrix[0]
    targets = 1.1 * matrix.T @ data.weights
    plain = calibrated(Data(data.weights, targets, sp.csr_array(matrix)))
    scaled = calibrated(Data(data.weights, unit * targets, sp.csr_array(unit * matrix)))

    assert_allclose(scaled.weights, plain.weights, rtol=1e-8)
