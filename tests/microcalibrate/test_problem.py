"""A problem is brought into one form, or refused with the place where it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import InvalidProblem, Problem

from .problems import feasible, survey

DATA = feasible(0)
NAMES = ["a", "b", "c", "d", "e"]


def build(matrix: Any = DATA.matrix, **options: Any) -> Problem:
    return Problem.build(DATA.weights, DATA.targets, matrix, **options)


def holed(record: int, column: int, value: float) -> np.ndarray:
    """The matrix with one value replaced."""
    matrix = DATA.matrix.copy()
    matrix[record, column] = value
    return matrix


def test_estimates_and_errors_are_what_they_say() -> None:
    problem = build()

    assert (problem.n_records, problem.n_targets) == DATA.matrix.shape
    assert_allclose(problem.estimates(DATA.weights), DATA.matrix.T @ DATA.weights)
    assert_allclose(
        problem.errors(DATA.weights), DATA.matrix.T @ DATA.weights / DATA.targets - 1, rtol=1e-9
    )


def test_defaults_are_soft_equal_and_open_above() -> None:
    problem = build()

    assert problem.is_soft.all()
    assert_allclose(problem.importances, 0.2)
    assert_array_equal(problem.scales, np.abs(DATA.targets))
    assert_array_equal(problem.min_ratio, 0)
    assert_array_equal(problem.max_ratio, np.inf)
    assert problem.target_names == tuple(f"target_{number}" for number in range(5))


@pytest.mark.parametrize(
    "given",
    [
        [0.0, np.nan, 0.1, np.nan, np.nan],
        {"a": 0.0, "c": 0.1},
        pd.Series({"c": 0.1, "a": 0.0}),
        pd.Series([0.0, np.nan, 0.1, np.nan, np.nan]),
    ],
)
def test_tolerances_come_by_place_or_by_name(given: Any) -> None:
    problem = build(target_names=NAMES, tolerances=given)

    assert_array_equal(problem.tolerances, [0.0, np.nan, 0.1, np.nan, np.nan])
    assert_array_equal(problem.is_soft, [False, True, False, True, True])
    assert_allclose(problem.importances, [0, 1 / 3, 0, 1 / 3, 1 / 3])


def test_one_tolerance_is_for_all() -> None:
    assert_array_equal(build(tolerances=0.05).tolerances, np.full(5, 0.05))


def test_importances_are_shares_of_the_soft_targets() -> None:
    problem = build(target_names=NAMES, importances={"b": 3}, tolerances={"a": 0.0})

    assert_allclose(problem.importances, [0, 3 / 6, 1 / 6, 1 / 6, 1 / 6])


def test_scales_may_be_given() -> None:
    problem = build(target_names=NAMES, scales={"a": 7.0})

    assert_array_equal(problem.scales, [7.0, *np.abs(DATA.targets[1:])])


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array])
def test_the_scale_of_a_zero_target_is_the_absolute_total_of_its_column(stored: Any) -> None:
    matrix = DATA.matrix * np.where(np.arange(60) % 2, 1, -1)[:, None]
    problem = Problem.build(DATA.weights, np.zeros(5), stored(matrix))

    assert_allclose(problem.scales, DATA.weights @ np.abs(matrix), rtol=1e-12)


def test_bounds_may_be_one_number_or_one_a_record() -> None:
    low = np.linspace(0, 0.9, 60)
    problem = build(min_weight_ratio=low, max_weight_ratio=2)

    assert_array_equal(problem.min_ratio, low)
    assert_array_equal(problem.max_ratio, np.full(60, 2.0))


def test_large_and_mostly_empty_arrays_are_worked_on_as_sparse_ones() -> None:
    """And small or full ones as arrays; the estimates do not change."""
    data = survey(0, 6_000, 40)
    empty = Problem.build(data.weights, data.targets, data.matrix)
    full = Problem.build(data.weights, data.matrix.T @ data.weights + 6_000, data.matrix + 1)

    assert sp.issparse(empty.estimate_matrix)
    assert not sp.issparse(full.estimate_matrix)
    assert not sp.issparse(build().estimate_matrix)
    assert_allclose(empty.estimates(data.weights), data.matrix.T @ data.weights, rtol=1e-12)


def test_names_of_columns_that_are_not_text_become_text() -> None:
    frame = pd.DataFrame(DATA.matrix, columns=[2021, 2022, 2023, 2024, 2025])
    targets = dict(zip(frame.columns, DATA.targets, strict=True))

    assert Problem.build(DATA.weights, targets, frame).target_names[0] == "2021"


# --- Matrices that are refused --------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, pd.DataFrame])
def test_a_matrix_the_wrong_way_round_is_recognised(kind: Any) -> None:
    with pytest.raises(InvalidProblem, match=r"\(5, 60\).*60 weights.*wrong way round.*\.T"):
        Problem.build(DATA.weights, DATA.targets, kind(DATA.matrix.T))


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (DATA.matrix[:-1], r"\(59, 5\).*60 weights.*one row per weight"),
        (DATA.matrix[:, 0], "1 dimensions"),
        (np.ones((60, 5, 1)), "3 dimensions"),
        (np.empty((60, 0)), "no columns"),
        ([["a"] * 5] * 60, "not hold numbers"),
        (holed(7, 2, np.nan), "nan at record 7, column 2"),
        (holed(2, 3, -np.inf), "-inf at record 2, column 3"),
        (sp.csr_array(holed(7, 2, np.nan)), "nan at record 7, column 2"),
        (pd.DataFrame(holed(7, 2, np.nan), columns=NAMES), 'record 7.*"c"'),
        (pl.DataFrame(holed(7, 2, np.nan), schema=NAMES), 'record 7.*"c"'),
    ],
    ids=range(10),
)
def test_a_matrix_is_of_finite_numbers_with_a_row_per_weight(matrix: Any, says: str) -> None:
    with pytest.raises(InvalidProblem, match=says):
        build(matrix)


def test_a_missing_value_far_down_a_long_sparse_matrix_is_located() -> None:
    matrix = sp.random_array((40_000, 5), density=0.1, rng=np.random.default_rng(0)).toarray()
    matrix[:, 0] = 1
    matrix[33_333, 4] = np.nan
    for stored in (matrix, sp.csr_array(matrix), sp.csc_array(matrix)):
        with pytest.raises(InvalidProblem, match="record 33333, column 4"):
            Problem.build(np.ones(40_000), np.ones(5), stored)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_text_column_is_named(frame: Any) -> None:
    table = frame({"people": [1.0, 1.0], "state": ["CA", "TX"], "wages": [1, 2]})

    with pytest.raises(InvalidProblem, match=r'"state".*not hold numbers'):
        Problem.build([1.0, 1.0], [2.0, 1.0, 3.0], table)


def test_a_null_in_a_polars_frame_is_a_missing_value() -> None:
    table = pl.DataFrame({"people": [1.0, 1.0], "wages": [1.0, None]})

    with pytest.raises(InvalidProblem, match='record 1, column "wages"'):
        Problem.build([1.0, 1.0], [2.0, 1.0], table)


def test_a_missing_value_of_a_nullable_column_is_located() -> None:
    table = pd.DataFrame({"people": [1, 1], "wages": pd.array([1, None], dtype="Int64")})

    with pytest.raises(InvalidProblem, match='record 1, column "wages"'):
        Problem.build([1.0, 1.0], [2.0, 1.0], table)


@pytest.mark.parametrize("others", [{}, {"people": [1.0, 1.0]}])
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_column_of_dates_is_named(frame: Any, others: dict[str, Any]) -> None:
    days = np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[ns]")
    table = frame({**others, "when": days})

    with pytest.raises(InvalidProblem, match=r'"when".*not hold numbers'):
        Problem.build([1.0, 1.0], np.ones(len(others) + 1), table)


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[ns]", "complex128"])
def test_arrays_of_dates_and_complex_numbers_are_no_estimates(kind: str) -> None:
    with pytest.raises(InvalidProblem, match="not hold numbers"):
        Problem.build([1.0, 1.0], [1.0], np.ones((2, 1)).astype(kind))


def test_a_sparse_matrix_of_complex_numbers_holds_no_estimates() -> None:
    with pytest.raises(InvalidProblem, match=r"not hold numbers.*complex128"):
        Problem.build([1.0, 1.0], [1.0], sp.csr_array(np.ones((2, 1), dtype=np.complex128)))


@pytest.mark.parametrize(
    "column",
    [
        [True, False],
        pd.array([True, False], dtype="boolean"),
        pd.array([1, 0], dtype="Int64"),
        pd.Categorical([1, 0]),
    ],
)
def test_columns_of_truth_values_and_whole_numbers_are_numbers(column: Any) -> None:
    table = pd.DataFrame({"old": column, "people": [1.0, 1.0]})

    problem = Problem.build([1.0, 1.0], [3.0, 5.0], table)
    assert_array_equal(problem.estimates(np.array([3.0, 2.0])), [3.0, 5.0])
