"""Filters: a per-record evaluation in plain Python is the yardstick."""

from __future__ import annotations

import operator
import unicodedata
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcalibrate.columns import Columns
from microcalibrate.errors import InvalidExpression, InvalidTargetTable
from microcalibrate.expressions import MAX_LENGTH, columns_used, evaluate

PEOPLE = {
    "age": np.array([70, 30, 68, 12]),
    "income": np.array([20.0, np.nan, 30.5, 0.0]),
    "state": np.array(["CA", "CA", "TX", "NY"]),
    "is_filer": np.array([True, True, False, False]),
    "household size": np.array([1, 2, 3, 4], dtype=np.int8),
}

# --- The language ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("age >= 65", [1, 0, 1, 0]),
        ("65 <= age", [1, 0, 1, 0]),
        ("20 < age <= 68", [0, 1, 1, 0]),
        ("age >= 65 and state == 'CA'", [1, 0, 0, 0]),
        ("age >= 65 or is_filer", [1, 1, 1, 0]),
        ("not is_filer and not age < 18", [0, 0, 1, 0]),
        ('state in ["CA", "NY"]', [1, 1, 0, 1]),
        ("state not in ['CA', 'NY']", [0, 0, 1, 0]),
        ("'CA' < state", [0, 0, 1, 1]),
        ("age in [12, -1, 70]", [1, 0, 0, 1]),
        ("age in []", [0, 0, 0, 0]),
        ("is_filer == True", [1, 1, 0, 0]),
        ("-age + 2 * (age - 1) / 2 == -1.0", [1, 1, 1, 1]),
        ("`household size` > 2", [0, 0, 1, 1]),
        ("state == '`'", [0, 0, 0, 0]),
        ("True", [1, 1, 1, 1]),
        ("(age > 60) == is_filer", [1, 0, 0, 1]),
        ("age > 60\n  and state == 'TX'", [0, 0, 1, 0]),
        ("age < 1e300 and age < " + "9" * 30, [1, 1, 1, 1]),
        ("1 / (age - 70) > 0", [1, 0, 0, 0]),
        ("1 / (age - 12) > 0", [1, 1, 1, 1]),
    ],
)
def test_a_filter_selects_what_it_says(expression: str, expected: list[int]) -> None:
    mask = evaluate(expression, PEOPLE)

    assert mask.dtype == np.bool_
    assert mask.tolist() == [bool(value) for value in expected]


@pytest.mark.parametrize(
    "expression",
    ["income > 0", "income <= 0", "income != 5", "income == income", "income not in [5]"],
)
def test_a_comparison_with_a_missing_value_is_false(expression: str) -> None:
    assert not evaluate(expression, PEOPLE)[1]


def test_not_selects_missing_values_of_a_comparison() -> None:
    assert evaluate("not income > 0", PEOPLE).tolist() == [False, True, False, True]


@pytest.mark.parametrize("text", [["CA", None, "TX"], ["CA", np.nan, "TX"]])
@pytest.mark.parametrize("expression", ["x == 'CA'", "x != 'TX'", "x not in ['TX']", "x < 'D'"])
def test_missing_text_is_in_no_comparison(text: list[Any], expression: str) -> None:
    column = np.array(text, dtype=object)

    assert evaluate(expression, {"x": column}).tolist() == [True, False, False]


@pytest.mark.parametrize("limit", [127, 128, 40_000, -1])
def test_small_integers_do_not_overflow(limit: int) -> None:
    values = np.array([100, 127, -128], dtype=np.int8)

    mask = evaluate(f"x * x > {limit}", {"x": values})

    assert mask.tolist() == [int(x) ** 2 > limit for x in values]


def test_large_identifiers_are_compared_exactly() -> None:
    identifiers = np.array([2**53, 2**53 + 1])

    assert evaluate(f"x == {2**53 + 1}", {"x": identifiers}).tolist() == [False, True]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, dict])
def test_tables_of_every_library_give_the_same_mask(library: Any) -> None:
    table = library({"age": [70, 30, 68], "state": np.array(["CA", "CA", "TX"], dtype=object)})
    table = {name: np.array(table[name]) for name in table} if library is dict else table

    assert evaluate("age > 40 and state == 'CA'", table).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["CA", None, "TX"], dtype="category"),
        pd.Series(["CA", None, "TX"], dtype="str"),
        pd.Series(["CA", None, "TX"], dtype="string"),
        pl.Series(["CA", None, "TX"]),
        pl.Series(["CA", None, "TX"], dtype=pl.Categorical),
    ],
)
def test_every_kind_of_text_column_is_text(column: Any) -> None:
    assert evaluate("x != 'TX'", {"x": column}).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, None, 3], dtype="object"),
        pd.Series([1, 0, 3], dtype="category"),
        pl.Series([1, None, 3]),
        np.array([1, 0, 3], dtype=np.uint8),
    ],
)
def test_every_kind_of_number_column_is_numbers(column: Any) -> None:
    assert evaluate("x > 0", {"x": column}).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "column", [pd.Series([True, None, False], dtype="boolean"), pl.Series([True, None, False])]
)
def test_a_missing_truth_value_counts_as_false(column: Any) -> None:
    assert evaluate("x", {"x": column}).tolist() == [True, False, False]


def test_columns_used_are_those_that_are_named() -> None:
    used = columns_used("`household size` > 2 and state in ['CA'] and not (age + age > 3)")

    assert used == {"household size", "state", "age"}


@pytest.mark.parametrize("column", ["a\u0302ge", "\u00e2ge", "n\u00ba", "\u00b5_tax", "\ufb01x"])
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC"])
@pytest.mark.parametrize("quoted", ["{}", "`{}`"])
def test_a_column_is_found_in_every_spelling_of_unicode(
    column: str, form: Any, quoted: str
) -> None:
    name = quoted.format(unicodedata.normalize(form, column))

    assert evaluate(f"{name} > 1", {column: np.array([1, 2])}).tolist() == [False, True]


def test_a_spelling_that_two_columns_have_is_not_guessed() -> None:
    two = {"\u00b5_tax": np.array([1]), "\u03bc_tax": np.array([2])}

    assert evaluate("\u03bc_tax == 2", two).tolist() == [True]
    assert evaluate("`\u00b5_tax` == 1", two).tolist() == [True]
    with pytest.raises(InvalidExpression, match="there is no column"):
        evaluate("no > 1", {"n\u00ba": np.array([1]), "\uff4e\uff4f": np.array([1])})


def test_many_filters_on_one_table_do_not_disturb_each_other() -> None:
    people = Columns(PEOPLE)
    filters = ["age > 20 and is_filer", "age > 20", "age > 21", "`age` > 20", "age > 20"]

    for expression in filters * 2:
        mask = evaluate(expression, people)
        assert mask.tolist() == evaluate(expression, PEOPLE).tolist()
        mask[:] = False  # A mask belongs to who asked for it.


# --- Against plain Python, record by record -------------------------------------------------------

_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_INTEGERS = st.integers(-5, 5)
_NUMBERS = st.recursive(
    st.one_of(st.sampled_from(["x", "y"]), _INTEGERS.map(lambda value: f"({value})")),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda parts: f"({' '.join(parts)})"
    ),
    max_leaves=4,
)
_LISTS = st.lists(_INTEGERS, max_size=3)
_CONDITIONS = st.recursive(
    st.one_of(
        st.tuples(_NUMBERS, st.sampled_from(sorted(_OPERATORS)), _NUMBERS).map(" ".join),
        st.tuples(_NUMBERS, _NUMBERS, _NUMBERS).map(lambda parts: " < ".join(parts)),
        st.tuples(_NUMBERS, st.sampled_from(["in", "not in"]), _LISTS).map(
            lambda parts: f"{parts[0]} {parts[1]} {parts[2]}"
        ),
        st.sampled_from(["text == 'a'", "text != 'b'", "text in ['a', 'c']", "'b' > text", "flag"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda condition: f"(not {condition})"),
    ),
    max_leaves=6,
)
_RECORDS = st.lists(
    st.tuples(_INTEGERS, _INTEGERS.map(float), st.sampled_from("abc"), st.booleans()),
    min_size=1,
    max_size=6,
)


@given(expression=_CONDITIONS, records=_RECORDS)
def test_a_filter_is_python_on_each_record(
    expression: str, records: list[tuple[int, float, str, bool]]
) -> None:
    """The language is a part of Python, so each record can be checked by Python itself."""
    names = ("x", "y", "text", "flag")
    table = {name: np.array(column) for name, *column in zip(names, *records, strict=True)}

    expected = [
        bool(eval(expression, {}, dict(zip(names, record, strict=True)))) for record in records
    ]

    assert evaluate(expression, table).tolist() == expected


@given(text=st.text(max_size=60))
def test_any_text_is_a_filter_or_the_typed_error(text: str) -> None:
    with suppress(InvalidExpression):
        assert evaluate(text, PEOPLE).shape == (4,)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("agee > 3", "'age'"),
        ("Age > 3", "Did you mean 'age'"),
        ("`no such` == 1", "'no such'"),
        ("len(state) > 1", "functions cannot be called"),
        ("state.str == 'x'", "backticks"),
        ("age[0] > 1", "square brackets"),
        ("(lambda: 1) == 1", "Lambda"),
        ("[x for x in age] == 1", "ListComp"),
        ("(age if is_filer else 1) > 2", "if … else"),
        ("age ** 9 > 1", "powers"),
        ("age % 2 == 1", "remainder"),
        ("(age > 1) & is_filer", "write `and`"),
        ("(age > 1) | is_filer", "write `or`"),
        ("~is_filer", "write `not`"),
        ("(y := age) > 1", "`:=`"),
        ("f'{age}' == 'x'", "plain quotes"),
        ("age is 3", "write `==`"),
        ("income == None", "x == x"),
        ("age == 1j", "neither a number"),
        ("state == b'CA'", "neither a number"),
        ("state = 'CA'", "Write `==`"),
        ("age >", "cannot be read"),
        ("age > 3)", "cannot be read"),
        ("age > 3 # or is_filer", "comments"),
        ("state in ['CA' 'NY']", "comma"),
        ("state in 'CA'", "list in square brackets"),
        ("age > [1, 2]", "list in square brackets"),
        ("state in [age]", "a list holds"),
        ("['CA']", "behind `in`"),
        ("age, state", "behind `in`"),
        ("state > 3", "text with a number"),
        ("'CA' == age", "text with a number"),
        ("state in [1, 2]", "text with a number"),
        ("age in ['1']", "text with a number"),
        ("state + 1 > 2", "calculated"),
        ("age", "`age` is a number"),
        ("state", "`state` is text"),
        ("age + 1", "a condition is needed"),
        ("age and is_filer", "`age` is a number"),
        ("not age", "`age` is a number"),
        ("", "empty"),
        ("   ", "empty"),
        ("age > " + "9" * 400, "larger than any"),
        ("age > 1 or " * MAX_LENGTH, str(MAX_LENGTH)),
        ("+".join(["age"] * 200) + " > 0", "deep"),
        ("-" * 5000 + "age > 0", "deep"),
        ("(" * 190 + "age > 0" + ")" * 190 + "\0", "cannot be read"),
        ("__import__('os').system('true') == 0", "functions cannot be called"),
        ("().__class__ == 1", "a dot between names"),
    ],
)
def test_what_is_not_of_the_language_is_refused_with_a_way_out(expression: str, part: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        evaluate(expression, PEOPLE)

    assert part in str(caught.value)
    assert isinstance(caught.value, InvalidTargetTable | ValueError)


@pytest.mark.parametrize(
    ("column", "part"),
    [
        (np.array(["2024-01-01"], dtype="datetime64[D]"), "datetime64"),
        (np.array([1j]), "complex"),
        (np.array([1, "a"], dtype=object), "mixes text"),
        (np.array([[1, 2]]), "occurs more than once"),
        (np.array([[], {}], dtype=object), "values of type"),
    ],
)
def test_columns_that_no_filter_can_read_are_named(column: Any, part: str) -> None:
    with pytest.raises(InvalidExpression, match="'x'") as caught:
        evaluate("x > 1", {"x": column})

    assert part in str(caught.value)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidExpression, match="'y'"):
        evaluate("x > y", {"x": np.zeros(3), "y": np.zeros(2)})


@pytest.mark.parametrize("table", [np.zeros((3, 2)), [1, 2], None])
def test_something_without_named_columns_is_no_table(table: Any) -> None:
    with pytest.raises(InvalidExpression, match="no named columns"):
        Columns(table)


@pytest.mark.parametrize("expression", [None, 3, ["age > 1"]])
def test_a_filter_that_is_no_text_is_refused(expression: Any) -> None:
    with pytest.raises(InvalidExpression, match="is text"):
        evaluate(expression, PEOPLE)
