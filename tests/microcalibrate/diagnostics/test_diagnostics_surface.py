"""Surfaces and tables: every row in one cell, clear errors for everything that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from microcalibrate.columns import Text
from microcalibrate.datasets import load_cps
from microcalibrate.diagnostics import Frame, Metric, Slice, Surface, default_surface, diagnose
from microcalibrate.diagnostics.cells import band_cells, category_cells, quantile_cells
from microcalibrate.errors import (
    InvalidExpression,
    InvalidProblem,
    InvalidSurface,
    InvalidWeights,
)

from ..households import make_survey

HOMES = pd.DataFrame({"id": [1, 2, 3], "weight": [1.0, 2.0, 3.0], "income": [10.0, 20.0, 30.0]})
UNITS = pd.DataFrame({"unit": [5, 6, 7, 8], "home": [1, 2, 2, 3]})
PERSONS = pd.DataFrame({"unit": [5, 5, 6, 7, 8], "age": [30, 30, 70, 8, 44], "pay": 1.0})


def three_levels() -> Frame:
    return Frame(
        {"household": HOMES, "benefit unit": UNITS, "person": PERSONS},
        "household",
        {"household": "id", "benefit unit": "unit"},
        {"person": {"benefit unit": "unit"}, "benefit unit": {"household": "home"}},
    )


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.integers(-3, 3), st.none()), min_size=1, max_size=40),
    seed=st.integers(0, 100),
    n_quantiles=st.integers(2, 10),
)
def test_every_row_is_in_one_cell_and_ties_stay_together(
    values: list[int | None], seed: int, n_quantiles: int
) -> None:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    weights = np.random.default_rng(seed).integers(0, 4, len(values)).astype(float)

    cells = quantile_cells(numbers, weights, n_quantiles)

    assert len(cells.codes) == len(values)
    assert ((cells.codes >= 0) & (cells.codes < len(cells.labels))).all()
    is_missing = np.array([cells.labels[code] == "missing" for code in cells.codes])
    assert_array_equal(is_missing, np.isnan(numbers))
    for value in set(numbers[~np.isnan(numbers)].tolist()):
        assert len(set(cells.codes[numbers == value].tolist())) == 1
    ordered = cells.codes[np.argsort(numbers)][: int((~is_missing).sum())]
    assert (np.diff(ordered) >= 0).all()


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_deciles_of_equal_weights_without_ties_are_equal_counts(n: int) -> None:
    values = np.random.default_rng(n).permutation(n).astype(float)

    cells = quantile_cells(values, np.full(n, 0.1), 10)

    assert np.bincount(cells.codes).tolist() == [n // 10] * 10


def test_categories_and_bands_have_readable_names_and_a_place_for_missing_values() -> None:
    text = category_cells(Text(np.array([1, 0, -1]), ("own", "missing")))
    assert text.labels == ("missing", "own", "(missing)")
    assert text.codes.tolist() == [0, 1, 2]
    assert category_cells(np.array([True, False])).labels == ("False", "True")
    bands = band_cells(np.array([0.5, 1.0, np.nan, np.inf]), (1.0, 2.5))
    assert bands.labels == ("under 1", "1 to under 2.5", "2.5 or over", "missing")
    assert bands.codes.tolist() == [0, 1, 3, 2]


def test_persons_reach_their_household_through_the_benefit_unit() -> None:
    frame = three_levels()
    surface = Surface(
        (Metric("pay", "pay", "person"), Metric("income", "income")),
        (Slice("age", "age", "person", edges=(35,)), Slice("unit", "unit", "benefit unit")),
    )

    found = diagnose(frame, "weight", surface=surface, threshold=1e-6)

    pay = found.cells[found.cells.metric == "pay"].set_index("cell").net
    assert pay.to_dict() == {
        "all": 1 + 1 + 2 + 2 + 3,
        "under 35": 1 + 1 + 2,
        "35 or over": 2 + 3,
        "5": 2,
        "6": 2,
        "7": 2,
        "8": 3,
    }
    # An income of a household has no place in the age band of one of its members.
    assert found.summary_figures["left_out"] == [["income", "age"], ["income", "unit"]]
    assert "Not reported" in found.summary()
    assert found.cells[found.cells.metric == "income"].slice.tolist() == ["all"]


def test_a_survey_and_its_tables_are_diagnosed_alike() -> None:
    survey = make_survey([2, 3, 1, 4, 2], 0)

    whole = diagnose(survey)  # type: ignore[arg-type]
    frame = Frame(survey.tables, survey.unit, survey.ids, survey.links)
    parts = diagnose(
        frame,
        survey.weights.to_numpy()[::1],
        surface=default_surface(frame, survey.weights.to_numpy()),
    )

    assert whole.records.id.tolist() == list(survey.unit_ids)
    assert_array_equal(whole.records.share, parts.records.share)
    assert len(whole.cells) > 1


def test_default_surface_of_the_embedded_survey_is_the_stated_one() -> None:
    cps = load_cps().head(3000)

    surface = default_surface(Frame({"record": cps}), cps.weight.to_numpy(), frozenset(["weight"]))

    assert [part.name for part in surface.slices] == [
        "agi decile",
        "state",
        "age_head band",
        "filing_status",
    ]
    assert len(surface.metrics) == 10
    names = [metric.name for metric in surface.metrics]
    assert names[0] == "record count"
    assert {"agi", "wages", "income_tax"} <= set(names)
    assert not {"weight", "record_id", "age_head"} & set(names)


def test_surface_file_is_read_back_as_written(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "metrics": [
            "income",
            {"name": "low", "value": "income < 15", "kind": "mean"},
            {"name": "rate", "value": "tax", "kind": "ratio", "denominator": "income"},
        ],
        "slices": ["region", {"name": "third", "by": "income", "quantiles": 3}],
    }
    path = tmp_path / "surface.json"
    path.write_text(json.dumps(content))

    surface = Surface.from_file(path)

    assert surface == Surface.from_mapping(surface.as_mapping())
    assert surface.metrics[2].denominator == "income"
    assert surface.slices[1].quantiles == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"metrics": []}, "at least one metric"),
        ({"metrics": ["a"], "slice": []}, "no field 'slice'. Did you mean 'slices'?"),
        ({"metrics": [{"name": "a", "valu": "a"}]}, "Did you mean 'value'?"),
        ({"metrics": [{"name": "a"}]}, "needs a text `value`"),
        ({"metrics": ["a", "a"]}, "more than one metric 'a'"),
        ({"metrics": [{"value": "a", "kind": "meen"}]}, "Did you mean 'mean'?"),
        ({"metrics": [{"value": "a", "kind": "ratio"}]}, "needs a `denominator`"),
        ({"metrics": [{"value": "a", "denominator": "b"}]}, "takes no `denominator`"),
        ({"metrics": ["a"], "slices": ["all"]}, "'all' stands for all records"),
        ({"metrics": ["a"], "slices": [{"by": "b", "edges": [3, 1]}]}, "must be finite and ascend"),
        ({"metrics": ["a"], "slices": [{"by": "b", "quantiles": 1}]}, "whole number from 2"),
        ({"metrics": "a"}, "must be a list"),
    ],
)
def test_surface_that_says_nothing_clear_is_an_error(content: Any, message: str) -> None:
    with pytest.raises(InvalidSurface) as caught:
        Surface.from_mapping(content)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("surface", "error", "message"),
    [
        ({"metrics": ["incme"]}, InvalidExpression, "Did you mean 'income'"),
        ({"metrics": ["income"], "slices": ["regin"]}, InvalidExpression, "no column 'regin'"),
        ({"metrics": ["name"]}, InvalidExpression, "is text"),
        ({"metrics": ["gap"]}, InvalidSurface, "missing or infinite in 1 of 3 rows"),
        ({"metrics": ["income / zero"]}, InvalidSurface, "missing or infinite"),
        ({"metrics": [{"value": "income", "entity": "persn"}]}, InvalidProblem, "no table 'persn'"),
    ],
)
def test_surface_that_does_not_fit_the_table_is_an_error(
    surface: Any, error: type[Exception], message: str
) -> None:
    data = HOMES.assign(name="x", gap=[1.0, np.nan, 2.0], zero=0.0)

    with pytest.raises(error) as caught:
        diagnose(data, "weight", surface=surface)

    assert message in str(caught.value)


def test_rows_that_do_not_count_may_be_missing() -> None:
    data = HOMES.assign(gap=[1.0, np.nan, 2.0])
    surface = Surface((Metric("gap", "gap", kind="mean", where="gap == gap"),))

    found = diagnose(data, "weight", surface=surface)

    assert found.cells.estimate.iloc[0] == (1 * 1 + 3 * 2) / 4


def test_slice_below_every_metric_is_an_error() -> None:
    surface = Surface((Metric("income", "income"),), (Slice("age", "age", "person"),))

    with pytest.raises(InvalidSurface, match="no metric is of rows within it"):
        diagnose(three_levels(), "weight", surface=surface)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, np.nan, 2.0], "1 of 3 weights are not finite"),
        ([1.0, -1.0, 2.0], "1 of 3 weights are negative"),
        ([0.0, 0.0, 0.0], "all weights are zero"),
        ([1.0, 2.0], "2 weights for 3 rows"),
        ("wieght", "Did you mean 'weight'?"),
        (None, "have no weights"),
    ],
)
def test_weights_that_are_none_are_errors(weights: Any, message: str) -> None:
    with pytest.raises(InvalidWeights) as caught:
        diagnose(HOMES, weights)

    assert message in str(caught.value)


def test_weights_by_identifier_find_their_units() -> None:
    frame = Frame({"household": HOMES}, "household", {"household": "id"})
    shuffled = pd.Series([3.0, 1.0, 2.0], index=[3, 1, 2])

    found = diagnose(frame, shuffled, surface={"metrics": ["income"]})

    assert found.records.weight.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "home"}, "no table for the unit 'home'"),
        ({"ids": {"household": "idd", "benefit unit": "unit"}}, "Did you mean 'id'?"),
        ({"links": {"benefit unit": {"household": "home"}}}, "'person' is not linked"),
        ({"ids": {"household": "id"}}, "identifier column is not named"),
        ({"tables": {"household": HOMES.assign(id=1)}}, "identifier 1 occurs more than once"),
        ({"tables": {"household": HOMES.assign(id=[1, 2, 4])}}, "the first says 3"),
    ],
)
def test_tables_that_do_not_hang_together_are_errors(change: Any, message: str) -> None:
    frame = three_levels()
    parts: dict[str, Any] = {"unit": frame.unit, "ids": frame.ids, "links": frame.links} | change
    parts["tables"] = {**frame.tables, **change.get("tables", {})}

    with pytest.raises(InvalidProblem) as caught:
        Frame(**parts)

    assert message in str(caught.value)
