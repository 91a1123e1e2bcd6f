"""Designs: what they say of records, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate.errors import InvalidDesign, InvalidOption
from microcalibrate.inference import SurveyDesign
from microcalibrate.inference.variance import variance_of_totals

from .surveys import people


def variance(values: np.ndarray, **parts: Any) -> float:
    bound = SurveyDesign(**parts).bind(None, len(values))
    return float(variance_of_totals(values[:, None], bound)[0, 0])


def test_a_simple_random_sample_has_the_textbook_variance() -> None:
    values = np.random.default_rng(0).normal(size=20)
    n, size = 20, 100
    expected = size**2 * (1 - n / size) * values.var(ddof=1) / n

    assert_allclose(variance(values * size / n, fpc=np.full(20, 100.0)), expected)
    assert_allclose(variance(values * size / n, fpc=np.full(20, 0.2)), expected)
    assert_allclose(variance(values * size / n), expected / (1 - n / size))


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n_strata=st.integers(1, 5))
def test_strata_add_up_and_a_stratum_taken_whole_adds_nothing(seed: int, n_strata: int) -> None:
    rng = np.random.default_rng(seed)
    strata = np.concatenate([np.repeat(np.arange(n_strata), 2), rng.integers(n_strata, size=10)])
    values = rng.normal(size=len(strata))
    alone = [variance(values[strata == one]) for one in range(n_strata)]
    counts = np.bincount(strata)

    assert_allclose(variance(values, strata=strata), sum(alone))
    # With as many in the population as in the sample, in the first stratum only.
    sizes = np.where(strata == 0, counts[strata], 1e12)
    assert_allclose(variance(values, strata=strata, fpc=sizes), sum(alone[1:]), rtol=1e-8)


def test_columns_are_found_in_tables_of_either_library() -> None:
    data = people()
    design = SurveyDesign(strata="stratum", psu="cluster", fpc=np.int64(10_000))
    contributions = (data["weight"] * data["income"]).to_numpy()[:, None]
    by_table = [
        variance_of_totals(contributions, design.bind(table, len(data)))
        for table in (data, pl.from_pandas(data), {name: data[name] for name in data})
    ]

    assert_allclose(by_table[1:], [by_table[0]] * 2)


def test_order_of_records_and_labels_do_not_matter() -> None:
    data = people()
    contributions = (data["weight"] * data["income"]).to_numpy()
    names = data["cluster"].map(lambda one: f"c{-one}").to_numpy()
    order = np.random.default_rng(0).permutation(len(data))
    expected = variance(contributions, psu=data["cluster"], strata=data["stratum"])

    assert_allclose(
        variance(contributions[order], psu=names[order], strata=data["stratum"].to_numpy()[order]),
        expected,
    )


def test_a_later_stage_counts_by_the_sampling_fraction_before_it() -> None:
    rng = np.random.default_rng(1)
    first = np.repeat(np.arange(4), 5)
    values = rng.normal(size=20)
    by_unit = values.reshape(4, 5)
    between = (1 - 4 / 10) * 4 / 3 * ((by_unit.sum(1) - by_unit.sum() / 4) ** 2).sum()
    within = 4 / 10 * ((1 - 5 / 20) * 5 * by_unit.var(axis=1, ddof=1)).sum()

    found = variance(values, psu=(first, np.arange(20)), fpc=(np.full(20, 10.0), np.full(20, 20.0)))
    assert_allclose(found, between + within)


def test_units_with_one_label_in_two_strata_are_told_apart_only_if_nested() -> None:
    strata, psu = ["a", "a", "b", "b"], [1, 2, 1, 2]
    values = np.array([1.0, 2, 3, 5])
    assert_allclose(variance(values, strata=strata, psu=psu, nest=True), 1 + 4)
    with pytest.raises(InvalidDesign, match=r'psu "1" occurs in stratum "a" and in "b".*nest=True'):
        variance(values, strata=strata, psu=psu)


def test_a_lonely_unit_is_named_and_never_passed_over_silently() -> None:
    strata = np.array(["a", "a", "b"])
    values = np.array([1.0, 3.0, 5.0])
    with pytest.raises(InvalidDesign, match=r'stratum "b" has one sampled unit.*lonely_psu'):
        variance(values, strata=strata)
    assert variance(values, strata=strata, lonely_psu="certainty") == 4
    assert variance(values, strata=strata, lonely_psu="adjust") == 4 + 25
    assert variance(values, strata=strata, lonely_psu="average") == 8
    # It was taken whole, and that is said by its sampling fraction.
    assert_allclose(variance(values, strata=strata, fpc=np.array([1e9, 1e9, 1])), 4)


@pytest.mark.parametrize(
    ("parts", "error", "what"),
    [
        ({"strata": "place"}, InvalidDesign, "no column of the data"),
        ({"strata": ["a", None, "b", "b"]}, InvalidDesign, "missing in 1 records"),
        ({"psu": [1, 2, 3]}, InvalidDesign, r"shape \(3,\)"),
        ({"fpc": [4.0, 4, 4, 3]}, InvalidDesign, "3 and 4 within stratum"),
        ({"fpc": [3.0, 3, 3, 3]}, InvalidDesign, "3 units, and 4 were sampled"),
        ({"fpc": [0.0, 4, 4, 4]}, InvalidDesign, "must be a positive number"),
        ({"fpc": ["a", "b", "c", "d"]}, InvalidDesign, "does not hold numbers"),
        ({"lonely_psu": "ignore"}, InvalidOption, "lonely_psu='ignore'"),
        ({"fpc": (np.ones(4), np.ones(4))}, InvalidOption, "fpc has 2 stages, and psu has 1"),
    ],
)
def test_designs_that_do_not_fit_are_refused(
    parts: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        SurveyDesign(**parts).bind({"x": np.ones(4)}, 4)


def test_degrees_of_freedom_are_units_minus_strata_of_records_with_weight() -> None:
    data = people()
    bound = SurveyDesign(psu="cluster", strata="stratum").bind(data, len(data))
    assert bound.degrees_of_freedom(np.ones(len(data))) == 36
    assert bound.degrees_of_freedom((data["stratum"] == 0).to_numpy(dtype=float)) == 9
