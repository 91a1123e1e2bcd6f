"""Checks of targets: what is found is there, what is there is found, and nothing ends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from microcalibrate import Calibration, InvalidOption, InvalidProblem
from microcalibrate.errors import CalibrationError, InvalidTargetTable, UnreadableFile
from microcalibrate.io import read_table
from microcalibrate.target_checks import TargetChecks, check_targets
from microcalibrate.targets import build_targets

from ..published import published, validate
from .people import GOOD, INCOME, PEOPLE, TOTAL


@pytest.mark.parametrize(
    ("row", "kind", "part"),
    [
        ({"value": 1, "variable": "incom"}, "unknown column", "Did you mean 'income'"),
        ({"name": "incom", "value": 1}, "unknown column", "Did you mean 'income'"),
        ({"value": 1, "filter": "agee > 3"}, "unknown column", "Did you mean 'age'"),
        ({"value": 1, "filter": "age = 3"}, "unreadable filter", "Write `==`"),
        ({"value": 1, "filter": "sex == 3"}, "unreadable filter", "compares text with a number"),
        ({"value": 1, "filter": "age > 200"}, "no supporting record", "selects no record"),
        ({"value": 1, "variable": "none"}, "no supporting record", "zero in every record"),
        ({"value": 1, "variable": "gap"}, "bad values", "missing or infinite"),
        ({"value": 1, "variable": "sex"}, "bad values", "has text in it"),
        ({"value": None, "variable": "age"}, "incomplete row", "value is missing"),
        ({"value": 1, "variable": "age", "agg": "median"}, "incomplete row", "'median'"),
        ({"value": 1, "variable": "age", "tolerance": -1}, "incomplete row", "tolerance is -1"),
        ({"value": 1, "variable": "age", "include": "maybe"}, "incomplete row", "'maybe'"),
        ({"name": None, "value": 1, "variable": "age"}, "incomplete row", "no name"),
        (
            {"name": "good", "value": 1, "variable": "age"},
            "name stands twice",
            "row 1 has the same",
        ),
    ],
)
def test_a_bad_row_is_a_finding_and_the_others_are_checked_all_the_same(
    row: dict[str, Any], kind: str, part: str
) -> None:
    checks = check_targets(PEOPLE, [GOOD, {"name": "bad", **row}], weight="w")

    assert checks.findings["row"].tolist() == [2]
    assert checks.findings["severity"].tolist() == ["error"]
    assert checks.findings["kind"].tolist() == [kind]
    assert part in checks.findings["message"][0]
    assert not checks.ok
    assert checks.table["severity"].tolist() == ["ok", "error"]
    assert_allclose(checks.table["initial"][0], TOTAL)


def test_targets_that_are_in_order_have_no_findings() -> None:
    rows = [
        GOOD,
        {"name": "income", "value": 1.1 * INCOME},
        {"name": "age", "value": 44, "agg": "mean"},
    ]

    checks = check_targets(PEOPLE, rows, weight="w", min_weight_ratio=0.2, max_weight_ratio=5)

    assert checks.ok
    assert checks.findings.empty
    assert checks.table["severity"].tolist() == ["ok"] * 3
    mean = np.average(PEOPLE["age"], weights=PEOPLE["w"])
    assert_allclose(checks.table["initial"], [TOTAL, INCOME, mean])
    assert_allclose(checks.table["ratio"], [1, 1 / 1.1, mean / 44])
    assert checks.table["support"].tolist()[:2] == [400, 400]
    amounts = PEOPLE["w"] * PEOPLE["income"]
    assert_allclose(checks.table["effective_support"][1], amounts.sum() ** 2 / (amounts**2).sum())


# --- Nothing ends a check -------------------------------------------------------------------------


CELLS = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-3, 3),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from(["income", "age", "sex == 'f'", "age > 30", "mean", "count", "sum", "true"]),
)
NAMES = ("name", "value", "variable", "agg", "filter", "tolerance", "weight", "group", "include")


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, CELLS)), min_size=1, max_size=4))
def test_any_cells_at_all_are_checked_and_the_verdict_is_that_of_the_builder(
    rows: list[dict[str, Any]],
) -> None:
    """Errors about single rows are exactly where the table cannot be built."""
    data = PEOPLE.head(30)

    checks = check_targets(data, rows, weight="w")

    about_many = {"out of reach", "contradictory duplicate", "contradicts others"}
    about_many.add("differs from the sum of its parts")
    errors = checks.findings[checks.findings["severity"] == "error"]
    is_bad = bool((~errors["kind"].isin(about_many)).any())
    left_out = bool((checks.table["severity"] == "left out").all())
    if is_bad or left_out:
        with pytest.raises(CalibrationError):
            Calibration.from_table(data, rows, "w")
    else:
        build_targets(data, rows, initial_weights=data["w"])
    assert len(checks.table) == len(rows)
    assert checks.ok == errors.empty
    jsonschema.validate(
        json.loads(json.dumps(checks.to_json(), allow_nan=False)), published("checks")
    )


@pytest.mark.parametrize(
    "table", [[], {"name": "x"}, [{"name": "x"}], pd.DataFrame({"value": [1]})]
)
def test_what_is_no_target_table_is_refused(table: Any) -> None:
    with pytest.raises(InvalidTargetTable):
        check_targets(PEOPLE, table, weight="w")


def test_wrong_weights_and_bounds_are_refused() -> None:
    with pytest.raises(InvalidProblem, match="Did you mean 'w'"):
        check_targets(PEOPLE, [GOOD], weight="ww")
    with pytest.raises(InvalidProblem, match="3 weights for 400"):
        check_targets(PEOPLE, [GOOD], weight=np.ones(3))
    with pytest.raises(InvalidOption, match="bounds cross"):
        check_targets(PEOPLE, [{"name": "?", "value": 1}], min_weight_ratio=2, max_weight_ratio=1)


def test_tables_of_every_library_and_weights_in_every_form_give_the_same() -> None:
    rows = [GOOD, {"name": "income", "value": INCOME / 3}]
    expected = check_targets(PEOPLE, rows, weight="w").table

    of_polars = check_targets(pl.from_pandas(PEOPLE), pl.DataFrame(rows), weight="w").table
    of_array = check_targets(PEOPLE, pd.DataFrame(rows), weight=PEOPLE["w"].to_numpy()).table

    assert_frame_equal(of_polars, expected)
    assert_frame_equal(of_array, expected)
    assert_allclose(check_targets(PEOPLE, [GOOD]).table["initial"], 400)


# --- Saved ----------------------------------------------------------------------------------------


def test_saved_checks_are_loaded_and_of_the_published_form(tmp_path: Path) -> None:
    rows = [
        GOOD,
        {"name": "=cmd()|<img onerror>", "value": -1, "variable": "income"},
        {"name": "x", "value": 1, "variable": "nothing"},
        {"name": "y", "value": 1, "include": False},
    ]
    checks = check_targets(PEOPLE, rows, weight="w")

    checks.save(tmp_path / "run")
    again = TargetChecks.load(tmp_path / "run")

    assert_frame_equal(again.table, checks.table)
    assert_frame_equal(again.findings, checks.findings)
    assert (again.notes, again.bounds, again.ok) == (checks.notes, checks.bounds, checks.ok)
    assert again.summary() == checks.summary()
    validate("checks", tmp_path / "run" / "checks.json")
    written = read_table(tmp_path / "run" / "checks.csv")
    assert written["name"][1] == "'=cmd()|<img onerror>"
    (tmp_path / "run" / "checks.json").write_text('{"format": "other"}')
    with pytest.raises(UnreadableFile, match="format 'other'"):
        TargetChecks.load(tmp_path / "run")
