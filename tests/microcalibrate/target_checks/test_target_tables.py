"""What a target table may say: other words, rows left out, sentences, and cells of a cross."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.errors import (
    InvalidOption,
    InvalidProblem,
    InvalidTargetTable,
    NoSupport,
    UnknownColumn,
)
from microcalibrate.targets import build_targets, describe_targets, totals_by_level

PEOPLE = pd.DataFrame(
    {
        "income": [20.0, 50.0, 0.0, -10.0, 30.0],
        "age": [70, 30, 68, 40, 12],
        "weight": [1.0, 2.0, 3.0, 4.0, 5.0],
        "the region": ["it's", "a/b", "a/b", None, "=cmd()"],
        "employed": [True, False, True, True, False],
    }
)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, list])
def test_other_words_say_the_same(frame: Any) -> None:
    first = [
        {"name": "a", "value": 1.0, "variable": "income", "aggregate": "mean", "importance": 2.0,
         "family": "money"},
        {"name": "b", "value": 2.0, "variable": "age", "aggregate": "count", "importance": None,
         "family": None},
    ]  # fmt: skip
    words = {"aggregate": "agg", "importance": "weight", "family": "group"}
    second = [{words.get(key, key): cell for key, cell in row.items()} for row in first]

    expected, got = (build_targets(PEOPLE, frame(rows)) for rows in (first, second))

    assert_array_equal(got.matrix.toarray(), expected.matrix.toarray())
    assert_array_equal(got.importances, [2.0, 1.0])
    assert_array_equal(got.importances, expected.importances)
    assert got.families == expected.families == ("money", "")


def test_a_column_called_weight_is_the_importance_and_never_one_of_the_data() -> None:
    built = build_targets(PEOPLE, [{"name": "income", "value": 1.0, "weight": 3.0}])
    of_weight = build_targets(PEOPLE, [{"name": "weight", "value": 9.0, "weight": 3.0}])

    assert built.importances[0] == of_weight.importances[0] == 3.0
    assert_array_equal(of_weight.matrix.toarray()[:, 0], PEOPLE["weight"])


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ([True, False, True], ["a", "c"]),
        ([1, 0.0, None], ["a", "c"]),
        (["yes", " No", ""], ["a", "c"]),
        ([np.nan, "FALSE", "True"], ["a", "c"]),
    ],
)
def test_rows_that_are_not_included_are_left_out_whatever_they_say(
    include: list[Any], expected: list[str]
) -> None:
    rows = [
        {"name": "a", "value": 1, "variable": "age"},
        {"name": "b", "value": None, "variable": "no such column"},
        {"name": "c", "value": 1, "variable": "income"},
    ]
    rows = [row | {"include": cell} for row, cell in zip(rows, include, strict=True)]

    assert list(build_targets(PEOPLE, rows).names) == expected
    assert len(describe_targets(rows)) == 2


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"weight": -1}, "its weight is -1, and it must be"),
        ({"weight": 1, "importance": 2}, "the importance 2 and the weight 1, which mean the same"),
        ({"agg": "median"}, "its agg is 'median', and it must be 'sum'"),
        ({"include": "perhaps"}, "its include is 'perhaps', and it must be true, false"),
        ({"include": 2}, "its include is 2"),
    ],
)
def test_slips_are_told_in_the_words_that_were_used(row: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidTargetTable, match=part) as refused:
        build_targets(PEOPLE, [{"name": "age", "value": 1, **row}])

    assert 'target "age" (row 1)' in str(refused.value)


def test_a_table_with_every_row_left_out_is_refused() -> None:
    with pytest.raises(InvalidTargetTable, match="No row of the target table is included"):
        build_targets(PEOPLE, [{"name": "age", "value": 1, "include": False}])


def test_what_is_not_there_has_errors_of_its_own() -> None:
    with pytest.raises(UnknownColumn, match="Did you mean 'age'"):
        build_targets(PEOPLE, [{"name": "agee", "value": 1}])
    with pytest.raises(NoSupport, match="selects no record"):
        build_targets(PEOPLE, [{"name": "x", "value": 1, "filter": "age > 99"}])


# --- Sentences ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "the total of x over all records shall be 1,234.5 (soft)"),
        ({"weight": 2}, "the total of x over all records shall be 1,234.5 (soft, importance 2)"),
        ({"variable": "y", "filter": "a >=  1\nand b < 2", "tolerance": 0},
         "the total of y over records where a >= 1 and b < 2 shall be exactly 1,234.5"),
        ({"filter": "a > 1", "tolerance": 0.005},
         "the number of records where a > 1 shall be 1,234.5, within 0.5%"),
        ({"variable": "y", "filter": "a > 1", "agg": "count"},
         "the number of records where a > 1 and y is not zero shall be 1,234.5 (soft)"),
        ({"agg": "mean"}, "the mean of x over all records shall be 1,234.5 (soft)"),
    ],
)  # fmt: skip
def test_a_target_is_told_in_a_sentence(row: dict[str, Any], sentence: str) -> None:
    assert describe_targets([{"name": "x", "value": 1234.5, **row}]) == [sentence]


# --- Cells of a cross -----------------------------------------------------------------------------


@pytest.mark.parametrize("variable", [None, "income", "age"])
def test_the_totals_of_all_cells_are_those_of_pandas_and_the_targets_hold_already(
    variable: str | None,
) -> None:
    by = ["the region", "employed"]
    table = totals_by_level(PEOPLE, by, variable, weight="weight")

    amounts = PEOPLE["weight"] * (1 if variable is None else PEOPLE[variable])
    expected = amounts[amounts != 0].groupby([PEOPLE[name] for name in by]).sum()
    assert_allclose(table["value"], expected)
    built = build_targets(PEOPLE, table)
    assert_allclose(built.matrix.T @ PEOPLE["weight"], table["value"])
    assert set(built.families) == {variable or "count"}


@given(
    records=st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(max_size=5)),
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
            st.integers(-(2**60), 2**60),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_record_without_a_gap_is_in_exactly_one_cell(records: list[Any]) -> None:
    data = pd.DataFrame(records, columns=["class", "x y", "n", "b"])
    data["x y"] = data["x y"].astype(float)
    by = ["class", "x y", "n", "b"]
    whole = data.notna().all(axis=1)
    if not whole.any():
        with pytest.raises(InvalidOption, match="no cell"):
            totals_by_level(data, by)
        return

    table = totals_by_level(data, by)

    assert table["value"].isna().all()
    matrix = build_targets(data, table.assign(value=1.0)).matrix.toarray()
    assert_array_equal(matrix.sum(axis=1), whole)


def test_names_that_would_run_together_are_told_apart() -> None:
    data = pd.DataFrame({"a": ["x/y", "x"], "b": ["z", "y/z"]})

    names = totals_by_level(data, ["a", "b"], prefix="people")["name"]

    assert names.tolist() == ["people/a='x'/b='y/z'", "people/a='x/y'/b='z'"]


@pytest.mark.parametrize(
    ("arguments", "error", "part"),
    [
        ({"by": []}, InvalidOption, "one column at least"),
        ({"by": ["age", "age"]}, InvalidOption, "none of them twice"),
        ({"by": ["agee"]}, InvalidOption, "Did you mean 'age'"),
        ({"by": ["age"], "variable": "incom"}, InvalidProblem, "Did you mean 'income'"),
        ({"by": ["age"], "weight": "the region"}, InvalidProblem, "has text in it"),
        ({"by": ["age"], "variable": "gap"}, InvalidProblem, "missing or infinite in 1 records"),
        ({"by": ["a`b"]}, InvalidOption, "backtick"),
    ],
)
def test_a_cross_that_cannot_be_made_says_why(
    arguments: dict[str, Any], error: type[Exception], part: str
) -> None:
    data = PEOPLE.assign(gap=[1.0, np.nan, 1.0, 1.0, 1.0], **{"a`b": 1})

    with pytest.raises(error, match=part):
        totals_by_level(data, **arguments)


def test_too_many_cells_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microcalibrate.targets.levels.MOST_CELLS", 4)

    with pytest.raises(InvalidOption, match="makes 5 cells, and 4 is the most"):
        totals_by_level(PEOPLE, ["age"])
