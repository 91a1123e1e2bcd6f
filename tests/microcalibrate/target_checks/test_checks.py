"""Checks of targets: what is found is there, what is there is found, and nothing ends them."""

from __future__ import annotations

import itertools
import json
from importlib.resources import files
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

from microcalibrate import Calibration, InfeasibleTargets, InvalidOption, InvalidProblem
from microcalibrate.errors import CalibrationError, InvalidTargetTable, UnreadableFile
from microcalibrate.io import read_table
from microcalibrate.target_checks import TargetChecks, check_targets
from microcalibrate.target_checks import relations as relations_module
from microcalibrate.target_checks.reach import mean_range
from microcalibrate.targets import build_targets


def survey(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "w": rng.gamma(3, 100, n),
            "age": rng.integers(0, 90, n),
            "sex": rng.choice(["f", "m"], n),
            "region": rng.choice(list("abc"), n),
            "income": rng.lognormal(9, 1, n),
            "gap": np.where(rng.random(n) < 0.1, np.nan, 1.0),
            "none": 0.0,
        }
    )


PEOPLE = survey()
TOTAL = float(PEOPLE["w"].sum())
INCOME = float(PEOPLE["w"] @ PEOPLE["income"])
WOMEN = float(PEOPLE["w"][PEOPLE["sex"] == "f"].sum())


def kinds(rows: list[dict[str, Any]], **options: Any) -> dict[str, set[tuple[str, str]]]:
    """Severity and kind of what is found about each target."""
    found = check_targets(PEOPLE, rows, weight="w", **options).findings
    return {
        name: set(zip(part["severity"], part["kind"], strict=True))
        for name, part in found.groupby("name")
    }


GOOD = {"name": "good", "value": TOTAL, "agg": "count"}


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


# --- Targets beside each other --------------------------------------------------------------------


def test_the_same_target_twice_is_found_however_it_is_written() -> None:
    rows = [
        {"name": "women", "value": WOMEN, "filter": "sex == 'f'"},
        {"name": "again", "value": WOMEN, "filter": "sex != 'm'"},
        {"name": "otherwise", "value": 1.2 * WOMEN, "filter": "sex in ['f']"},
        {"name": "granted", "value": 1.01 * WOMEN, "filter": "not sex == 'm'", "tolerance": 0.02},
        {"name": "mean", "value": 40, "variable": "age", "agg": "mean"},
        {"name": "mean2", "value": 41, "variable": "age", "agg": "mean"},
    ]

    assert kinds(rows) == {
        "again": {("warning", "duplicate")},
        "otherwise": {("error", "contradictory duplicate")},
        "granted": {("warning", "duplicate")},
        "mean2": {("error", "contradictory duplicate")},
    }


@pytest.mark.parametrize(
    ("off", "tolerance", "expected"),
    [
        (1.0, None, ("note", "collinear")),
        (1.001, None, ("note", "differs from the sum of its parts")),
        (1.1, None, ("warning", "differs from the sum of its parts")),
        (1.1, 0.0, ("error", "differs from the sum of its parts")),
        (1.1, 0.2, ("note", "differs from the sum of its parts")),
    ],
)
def test_a_total_is_compared_with_the_sum_of_its_parts(
    off: float, tolerance: float | None, expected: tuple[str, str]
) -> None:
    rows = [
        {"name": f"people/{region}", "value": PEOPLE["w"][PEOPLE["region"] == region].sum(),
         "filter": f"region == '{region}'", "tolerance": tolerance}
        for region in "abc"
    ]  # fmt: skip
    rows.append({"name": "people", "value": off * TOTAL, "agg": "count", "tolerance": tolerance})

    found = check_targets(PEOPLE, rows, weight="w")

    assert kinds(rows) == {"people": {expected}}
    message = found.findings["message"][0]
    assert "= 'people'" in message
    assert all(f"'people/{region}'" in message for region in "abc")


def test_a_multiple_of_another_target_is_named() -> None:
    data = PEOPLE.assign(hands=2.0)
    rows = [{"name": "persons", "value": TOTAL, "agg": "count"}, {"name": "hands", "value": TOTAL}]

    found = check_targets(data, rows, weight="w").findings

    assert found["kind"].tolist() == ["contradicts others"]
    assert "2 × 'persons'" in found["message"][0]


def test_where_sums_are_not_looked_for_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations_module, "MOST_TARGETS", 1)
    rows = [GOOD, {"name": "income", "value": INCOME}]

    checks = check_targets(PEOPLE, rows, weight="w")

    assert "there are 2 targets, and 1 is the most" in checks.notes[0]
    assert checks.notes[0] in checks.summary()


# --- Reach ----------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    value=st.floats(0.2, 3.0),
    low=st.floats(0.0, 0.95),
    high=st.floats(1.05, 3.0),
    what=st.sampled_from([("income", None), ("age", "sex == 'f'"), (None, "age > 60")]),
)
def test_out_of_reach_is_what_an_exact_calibration_cannot_meet(
    value: float, low: float, high: float, what: tuple[str | None, str | None]
) -> None:
    data = PEOPLE.head(60)
    row = {"name": "t", "value": 1.0, "variable": what[0], "filter": what[1], "tolerance": 0.0}
    initial = check_targets(data, [row], weight="w").table["initial"][0]
    rows = [row | {"value": value * initial}]
    if min(abs(value - low), abs(value - high)) < 1e-3:
        return

    checks = check_targets(data, rows, weight="w", min_weight_ratio=low, max_weight_ratio=high)
    assert_allclose(
        checks.table[["lowest", "highest"]].to_numpy()[0], [low * initial, high * initial]
    )
    assert checks.table["reachable"][0] == (low <= value <= high)
    bounds: dict[str, Any] = {"min_weight_ratio": low, "max_weight_ratio": high}
    calibration = Calibration.from_table(data, rows, "w", **bounds)
    if checks.table["reachable"][0]:
        calibration.calibrate(progress=False)
    else:
        with pytest.raises(InfeasibleTargets):
            calibration.calibrate(progress=False)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.floats(-5, 5),
            st.floats(0.1, 5),
            st.floats(0, 1),
            st.sampled_from([1.0, 2.5, np.inf]),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_the_range_of_a_mean_is_that_of_all_corners(
    records: list[tuple[float, float, float, float]],
) -> None:
    x, d, low, high = (np.array(part) for part in zip(*records, strict=True))
    corners = []
    for chosen in itertools.product([False, True], repeat=len(x)):
        weights = d * np.where(chosen, np.where(np.isinf(high), 1e12, high), low)
        if weights.sum() > 0:
            corners.append(weights @ x / weights.sum())

    assert_allclose(mean_range(x, d, low, high), [min(corners), max(corners)], atol=1e-9)


def test_a_mean_out_of_reach_is_found() -> None:
    row = {"name": "age", "value": 60, "agg": "mean"}
    low, high = mean_range(
        PEOPLE["age"].to_numpy(float), PEOPLE["w"].to_numpy(), np.full(400, 0.8), np.full(400, 1.2)
    )

    checks = check_targets(PEOPLE, [row], weight="w", min_weight_ratio=0.8, max_weight_ratio=1.2)

    assert_allclose(checks.table[["lowest", "highest"]].to_numpy()[0], [low, high])
    assert checks.findings["kind"].tolist() == ["out of reach"]
    assert f"at most {high:.6g} at ratios from 0.8 to 1.2" in checks.findings["message"][0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (INCOME / 1_000, ("warning", "far from the data")),
        (INCOME / 3, ("note", "far from the data")),
        (1_000 * INCOME, ("warning", "far from the data")),
    ],
)
def test_another_unit_is_suspected(value: float, expected: tuple[str, str]) -> None:
    assert kinds([{"name": "income", "value": value}]) == {"income": {expected}}


def test_few_records_are_told() -> None:
    data = PEOPLE.assign(few=(np.arange(400) < 2) * 1.0, some=(np.arange(400) < 12) * 1.0)
    rows = [
        {"name": name, "value": float(data["w"] @ data[name]), "variable": name}
        for name in ("few", "some")
    ]

    found = check_targets(data, rows, weight="w").findings

    assert list(zip(found["name"], found["severity"], strict=True)) == [
        ("few", "warning"),
        ("some", "note"),
    ]
    assert "rests on 2 records" in found["message"][0]


def test_records_of_weight_zero_support_nothing() -> None:
    data = PEOPLE.assign(w=np.where(PEOPLE["sex"] == "f", 0.0, PEOPLE["w"]))

    found = check_targets(data, [{"name": "f", "value": 1, "filter": "sex == 'f'"}], weight="w")

    assert found.findings["kind"].tolist() == ["no supporting record"]
    assert "design weight is zero" in found.findings["message"][0]


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
    jsonschema.validate(json.loads(json.dumps(checks.to_json(), allow_nan=False)), published())


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


def published() -> Any:
    schema = json.loads(
        (files("microcalibrate.reports") / "json_schemas" / "checks.json").read_text("utf-8")
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


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
    jsonschema.validate(json.loads((tmp_path / "run" / "checks.json").read_text()), published())
    written = read_table(tmp_path / "run" / "checks.csv")
    assert written["name"][1] == "'=cmd()|<img onerror>"
    (tmp_path / "run" / "checks.json").write_text('{"format": "other"}')
    with pytest.raises(UnreadableFile, match="format 'other'"):
        TargetChecks.load(tmp_path / "run")


# --- Differences of quotients ---------------------------------------------------------------------


def mean_gap(weights: Any, data: pd.DataFrame = PEOPLE) -> float:
    women = (data["sex"] == "f").to_numpy()
    means = [np.average(data["age"][one], weights=weights[one]) for one in (~women, women)]
    return float(means[0] - means[1])


GAP = {"name": "gap", "value": 2.0, "agg": "mean", "variable": "age", "filter": "sex == 'm'",
       "minus": "sex == 'f'"}  # fmt: skip


def test_a_difference_of_means_is_looked_at_in_its_own_unit() -> None:
    bounds = {"min_weight_ratio": 0.8, "max_weight_ratio": 1.3}
    wanted = {**GAP, "value": 1.2 * mean_gap(PEOPLE["w"].to_numpy())}
    line = check_targets(PEOPLE, [wanted, GOOD], weight="w", **bounds).table.iloc[0]
    drawn = np.random.default_rng(0).choice([0.8, 1.3], (300, len(PEOPLE)))
    possible = [mean_gap(one * PEOPLE["w"].to_numpy()) for one in drawn]
    women, age = (PEOPLE["sex"] == "f").to_numpy(), PEOPLE["age"].to_numpy()
    low_men = np.where((age < 40) ^ women, 1.3, 0.8)

    assert_allclose(line["initial"], mean_gap(PEOPLE["w"].to_numpy()))
    assert line["lowest"] < min(possible)
    assert max(possible) < line["highest"]
    assert line["lowest"] <= mean_gap(low_men * PEOPLE["w"].to_numpy()) < line["lowest"] + 0.6
    assert line["reachable"]
    assert line["severity"] == "ok"


@pytest.mark.parametrize(
    ("rows", "severity", "kind"),
    [
        ([{**GAP, "value": 60.0}], "error", "out of reach"),
        ([GAP, {**GAP, "name": "again", "minus": "'f' == sex"}], "warning", "duplicate"),
        ([{**GAP, "minus": "'m' == sex"}], "error", "no supporting record"),
        ([{**GAP, "minus": "age > 99"}], "error", "no supporting record"),
    ],
)
def test_what_is_wrong_with_a_difference_is_found(
    rows: list[dict[str, Any]], severity: str, kind: str
) -> None:
    found = kinds(rows, min_weight_ratio=0.5, max_weight_ratio=2.0)

    assert (severity, kind) in found[rows[-1]["name"]]


def test_a_difference_of_persons_is_looked_at_with_the_weights_of_households() -> None:
    homes = pd.DataFrame({"household_id": np.arange(200), "weight": PEOPLE["w"][:200]})
    persons = PEOPLE.drop(columns="w").assign(household_id=np.arange(400) // 2)
    tables = {"household": homes, "person": persons}
    row = {**GAP, "entity": "person", "value": 0.0}
    line = check_targets(tables, [row], weight="weight").table.iloc[0]
    of_persons = homes["weight"].to_numpy()[persons["household_id"]]

    assert_allclose(line["initial"], mean_gap(of_persons, persons))
    assert line["reachable"]
