"""Declared targets: the columns that they stand for, checked against pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.errors import (
    InvalidExpression,
    InvalidProblem,
    InvalidTargetTable,
    InvalidWeights,
)
from microcalibrate.targets import build_targets

PEOPLE = pd.DataFrame(
    {
        "income": [20.0, 50.0, 0.0, -10.0, 30.0],
        "age": [70, 30, 68, 40, 12],
        "state": ["CA", "CA", "TX", "TX", "NY"],
        "debt": [np.nan, 5.0, 5.0, 5.0, 5.0],
        "nothing": [0.0, 0.0, 0.0, 0.0, 0.0],
    }
)
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def estimates(table: Any, weights: Any = WEIGHTS, data: Any = PEOPLE) -> Any:
    return build_targets(data, table).matrix.T @ weights


def test_each_aggregate_is_what_pandas_computes() -> None:
    table = pd.DataFrame(
        [
            ("income", None, None, None),
            ("in_texas", "income", "sum", "state == 'TX'"),
            ("old", None, "count", "age >= 65"),
            ("everyone", None, "count", None),
            ("earners", "income", "count", "age >= 18"),
            ("filter_only", None, None, "state in ['CA', 'NY']"),
        ],
        columns=["name", "variable", "aggregate", "filter"],
    ).assign(value=1.0)
    weighted = PEOPLE.assign(income=PEOPLE["income"] * WEIGHTS, weight=WEIGHTS)

    expected = [
        weighted["income"].sum(),
        weighted.groupby("state")["income"].sum()["TX"],
        weighted[weighted["age"] >= 65]["weight"].sum(),
        weighted["weight"].sum(),
        weighted[(weighted["age"] >= 18) & (weighted["income"] != 0)]["weight"].sum(),
        weighted[weighted["state"] != "TX"]["weight"].sum(),
    ]

    assert_allclose(estimates(table), expected)


@given(
    records=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 10)), min_size=1
    )
)
def test_targets_by_group_are_the_sums_by_group(records: list[tuple[str, int, float]]) -> None:
    data = pd.DataFrame(records, columns=["group", "x", "weight"])
    totals = (data["x"] * data["weight"]).groupby(data["group"]).sum()
    table = [
        {"name": group, "value": 1, "variable": "x", "filter": f"group == '{group}'"}
        for group in totals.index
    ]

    assert_allclose(estimates(table, data["weight"].to_numpy(), data), totals.to_numpy())


@given(
    records=st.lists(
        st.tuples(st.integers(-9, 9), st.booleans(), st.floats(0.1, 10)), min_size=2
    ).filter(lambda records: len({x for x, chosen, _ in records if chosen}) > 1)
)
def test_a_mean_is_met_exactly_when_the_weighted_mean_is_its_value(
    records: list[tuple[int, bool, float]],
) -> None:
    data = pd.DataFrame(records, columns=["x", "chosen", "weight"])
    chosen = data[data["chosen"]]
    mean = np.average(chosen["x"], weights=chosen["weight"])
    weights = data["weight"].to_numpy()

    def error(value: float) -> float:
        row = {"name": "m", "value": value, "variable": "x", "aggregate": "mean"}
        target = build_targets(data, [row | {"filter": "chosen"}], initial_weights=weights)
        assert target.values[0] == 0
        missed = (target.matrix.T @ weights)[0] - target.values[0]
        return float(missed / target.scales[0])

    value = mean if abs(mean) > 0.01 else 1.0
    assert error(value) == pytest.approx((mean - value) / abs(value), abs=1e-9)
    # An error of the mean of 1% is an error of 0.01, whatever the size of the group.
    assert error(5.0) == pytest.approx(mean / 5.0 - 1.0, abs=1e-9)


def test_the_scale_is_the_value_except_where_it_is_zero() -> None:
    table = [
        {"name": "a", "value": -40, "variable": "income"},
        {"name": "b", "value": 0, "variable": "income"},
        {"name": "c", "value": 20, "variable": "income", "aggregate": "mean"},
        {"name": "d", "value": 0, "variable": "income", "aggregate": "mean"},
    ]

    with_weights = build_targets(PEOPLE, table, initial_weights=WEIGHTS)
    without = build_targets(PEOPLE, table)

    assert_array_equal(with_weights.scales, [40, np.nan, 20 * 15, np.nan])
    assert_array_equal(without.scales, [40, np.nan, np.nan, np.nan])


def test_the_matrix_is_sparse_float64_and_has_no_stored_zeros() -> None:
    targets = build_targets(PEOPLE, [{"name": "income", "value": 1}])

    assert sp.issparse(targets.matrix)
    assert targets.matrix.format == "csr"
    assert targets.matrix.dtype == np.float64
    assert targets.matrix.shape == (5, 1)
    assert targets.matrix.nnz == 4


def test_blank_cells_are_defaults() -> None:
    table = pd.DataFrame(
        {
            "name": ["income", "age"],
            "value": [1, 2],
            "tolerance": [0.0, None],
            "importance": [None, 3.0],
            "family": ["money", None],
            "source": ["IRS", "Census"],
        }
    )

    targets = build_targets(PEOPLE, table)

    assert targets.names == ("income", "age")
    assert targets.families == ("money", "")
    assert_array_equal(targets.tolerances, [0.0, np.nan])
    assert_array_equal(targets.importances, [1.0, 3.0])


@pytest.mark.parametrize("data", [PEOPLE, pl.from_pandas(PEOPLE), PEOPLE.to_dict("series")])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, list])
def test_tables_of_every_library_give_the_same_targets(data: Any, library: Any) -> None:
    rows = [
        {"name": "a", "value": 3, "variable": "income", "filter": "state == 'TX'"},
        {"name": "b", "value": 4.5, "column": "age", "filter": None},
    ]

    targets = build_targets(data, library(rows))

    assert_array_equal(targets.values, [3, 4.5])
    assert_allclose(targets.matrix.T @ WEIGHTS, [-40, 70 + 60 + 204 + 160 + 60])


def test_the_order_of_records_does_not_matter() -> None:
    table = [{"name": "a", "value": 1, "variable": "income", "filter": "age > 20"}]
    order = [3, 1, 4, 0, 2]

    shuffled = estimates(table, WEIGHTS[order], PEOPLE.iloc[order])

    assert_allclose(shuffled, estimates(table))


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"value": float("nan")}, "value is missing"),
        ({"value": None}, "value is missing"),
        ({"value": float("inf")}, "finite number"),
        ({"value": "1,000"}, "finite number"),
        ({"value": True}, "finite number"),
        ({"variable": "incme"}, "'income'"),
        ({"variable": "state"}, "text"),
        ({"variable": 3}, "must be text"),
        ({"aggregate": "median"}, "'sum', 'count', 'mean', 'ratio', 'share' or 'quantile'"),
        ({"variable": "income", "column": "age"}, "mean the same"),
        ({"tolerance": -0.1}, "blank (soft)"),
        ({"tolerance": float("inf")}, "blank (soft)"),
        ({"tolerance": "exact"}, "blank (soft)"),
        ({"importance": -1}, "not negative"),
        ({"importance": float("inf")}, "not negative"),
        ({"filter": "age > 100"}, "selects no record"),
        ({"filter": 3}, "must be text"),
        ({"variable": "nothing"}, "zero in every record"),
        ({"variable": "nothing", "aggregate": "count"}, "zero in every record"),
        ({"variable": "nothing", "aggregate": "mean", "value": 0}, "holds for all weights"),
        ({"variable": "debt"}, "missing or infinite in 1 of the 5"),
        ({"variable": None}, "no column 'the target'"),
        ({"variable": None, "aggregate": "mean", "filter": "age > 1"}, "no column 'the target'"),
    ],
)
def test_a_bad_row_is_named_with_its_number(row: dict[str, Any], part: str) -> None:
    good = {"name": "good", "value": 1, "variable": "age"}
    bad = {"name": "the target", "value": 1, "variable": "age"} | row

    with pytest.raises(InvalidTargetTable, match=r'target "the target" \(row 2\)') as caught:
        build_targets(PEOPLE, [good, bad])

    assert part in str(caught.value)
    assert isinstance(caught.value, InvalidProblem)


@pytest.mark.parametrize("expression", ["agee > 1", "age >", "age + 1", "len(state) > 1"])
def test_a_bad_filter_is_named_with_its_target(expression: str) -> None:
    with pytest.raises(InvalidExpression, match=r'target "x" \(row 1\)'):
        build_targets(PEOPLE, [{"name": "x", "value": 1, "filter": expression}])


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ([], "no rows"),
        (pd.DataFrame({"name": [], "value": []}), "no rows"),
        (pd.DataFrame({"name": ["a"], "target": [1]}), "no column 'value'"),
        (pd.DataFrame({"value": [1]}), "no column 'name'"),
        ([{"name": "age", "value": 1}, {"value": 2}], "Row 2"),
        ([{"name": "age", "value": 1}, {"name": " ", "value": 2}], "Row 2"),
        ([{"name": "age", "value": 1}, {"name": "age", "value": 2}], "row 1 has the same name"),
        ([{"name": "age", "value": 1, "tolerances": 0}], "'tolerances'"),
        ([{"name": "age", "value": 1, "Filter": "age > 1"}], "'Filter'"),
        ({"name": "age", "value": 1}, "put it into a list"),
    ],
)
def test_a_table_that_is_none_is_refused(table: Any, part: str) -> None:
    with pytest.raises(InvalidTargetTable) as caught:
        build_targets(PEOPLE, table)

    assert part in str(caught.value)


def test_data_without_records_is_refused() -> None:
    with pytest.raises(InvalidTargetTable, match="no records"):
        build_targets(PEOPLE.iloc[:0], [{"name": "age", "value": 1}])


@pytest.mark.parametrize(
    "weights", [[1, 2], [1, 2, 3, 4, -5], [1, 2, 3, 4, np.nan], ["a"] * 5, [[1, 2, 3, 4, 5]]]
)
def test_bad_initial_weights_are_refused(weights: Any) -> None:
    with pytest.raises(InvalidWeights, match="initial_weights"):
        build_targets(PEOPLE, [{"name": "age", "value": 1}], initial_weights=weights)
