"""Effective sample sizes and cut-offs: the published formulas, and what must not matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate.diagnostics import Frame, Slice, Surface, diagnose
from microcalibrate.diagnostics.comparisons import compare_cutoffs, potter_curve
from microcalibrate.diagnostics.kish import kish_by_group, weight_figures
from microcalibrate.diagnostics.surface import Metric
from microcalibrate.result import effective_sample_size

COUNT = (Metric("records", "1"),)


def n_eff(weights: list[float]) -> tuple[float, float]:
    w = np.array(weights, dtype=float)
    n, effective = kish_by_group(w, np.zeros(len(w), dtype=np.intp), 1)
    return float(n[0]), float(effective[0])


@pytest.mark.parametrize(
    ("weights", "effective"),
    [
        # The examples of balance's `design_effect`: 1.5555555555555556 and 2.9880418803112336.
        ([0.0, 1.0, 2.0, 3.0], 4 / 1.5555555555555556),
        ([1.0, 1.0, 1000.0], 3 / 2.9880418803112336),
        ([7.0] * 12, 12.0),
        ([3.5], 1.0),
        ([0.0, 0.0], 0.0),
        ([], 0.0),
    ],
)
def test_kish_is_the_published_formula(weights: list[float], effective: float) -> None:
    assert_allclose(n_eff(weights)[1], effective, rtol=1e-14)
    assert n_eff(weights)[0] == sum(weight > 0 for weight in weights)


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=60), st.sampled_from([1e-200, 3.0]))
def test_kish_has_no_unit_and_design_effect_is_one_plus_squared_variation(
    weights: list[float], scale: float
) -> None:
    w = np.array(weights)
    n, effective = n_eff(weights)

    assert_allclose(effective, effective_sample_size(w), rtol=1e-10)
    assert_allclose(n_eff((w * scale).tolist())[1], effective, rtol=1e-10)
    assert_allclose(n / effective, 1 + (w.std() / w.mean()) ** 2, rtol=1e-8)
    assert 1 - 1e-9 <= effective <= n + 1e-9


def test_person_slices_have_rows_households_and_origins() -> None:
    households = pd.DataFrame({"id": [1, 2, 3], "weight": [10.0, 30.0, 20.0], "source": [1, 2, 2]})
    persons = pd.DataFrame({"home": [1, 1, 2, 3, 3], "sex": ["f", "f", "f", "m", "f"]})
    frame = Frame(
        {"household": households, "person": persons},
        "household",
        {"household": "id"},
        {"person": {"household": "home"}},
    )
    surface = Surface((Metric("persons", "1", "person"),), (Slice("sex", "sex", "person"),))

    found = diagnose(frame, "weight", surface=surface, lineage="source")

    women = found.kish.set_index("cell").loc["f"]
    assert (women.entity, women.n, women.n_units, women.n_lineages) == ("person", 4, 3, 2)
    # Rows 10, 10, 30, 20; households 20, 30, 20; origins 20 and 50.
    assert_allclose(women.n_eff, 70**2 / 1500)
    assert_allclose(women.cluster_n_eff, 70**2 / 1700)
    assert_allclose(women.lineage_n_eff, 70**2 / 2900)
    assert_allclose(women.design_effect * women.n_eff, women.n)


def test_weights_in_figures_of_survey_practice() -> None:
    equal = weight_figures(np.full(7, 0.1))
    assert equal["skewness"] == 0.0
    assert equal["above_2_means"] == 0.0
    # The examples of balance's `weighted_median_breakdown_point`.
    for weights, share in (([1, 1, 1, 1], 0.5), ([1, 1, 1, 10], 0.25), ([1, 1, 1, 1, 10], 0.2)):
        assert weight_figures(np.array(weights, dtype=float))["median_breakdown"] == share
    drawn = np.random.default_rng(0).lognormal(0, 1, 4000)
    assert_allclose(weight_figures(drawn)["skewness"], pd.Series(drawn).skew(), rtol=0.01)


def test_cut_offs_are_those_of_their_rules() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 40.0, 10.0, 10.0, 10.0, 36.0])
    groups = np.array(["a"] * 6 + ["b"] * 4)

    table, _, above = compare_cutoffs(weights, groups, [np.ones(10)])

    cut = table.set_index(["rule", "group"])
    assert cut.cutoff["NAEP: 3.5 × median", "a"] == 3.5 * 3.5
    assert cut.cutoff["NAEP: 4.5 × median", "b"] == 45.0
    assert above["above_naep_3_5"].nonzero()[0].tolist() == [5, 9]
    assert above["above_naep_4_5"].nonzero()[0].tolist() == [5]
    low, high = np.quantile(weights[:6], [0.25, 0.75])
    assert cut.cutoff["Tukey: far out (Q3 + 3 IQR)", "a"] == high + 3 * (high - low)
    assert cut.weight_above["NAEP: 4.5 × median", "a"] == 40 / weights.sum()


def test_equal_weights_are_extreme_by_no_rule() -> None:
    data = pd.DataFrame({"weight": np.full(200, 0.1)})

    found = diagnose(data, "weight", surface=Surface(COUNT))

    assert (found.comparisons.n_above == 0).all()
    assert found.potter.relative_mse.tolist() == [1.0]


def test_potter_curve_is_what_capping_record_by_record_gives() -> None:
    rng = np.random.default_rng(5)
    weights, amount = rng.lognormal(2, 1.2, 300), rng.gamma(2.0, 1.0, 300)

    curve = potter_curve(weights, [amount])

    def total_and_variance(w: np.ndarray) -> tuple[float, float]:
        parts = w * amount
        return float(parts.sum()), float(300 * parts.var(ddof=1))

    plain, variance = total_and_variance(weights)
    for row in curve.itertuples():
        capped, fixed = weights.copy(), np.zeros(300, dtype=bool)
        for _ in range(300):
            fixed |= capped > row.cap * (1 + 1e-12)
            rest = weights.sum() - row.cap * fixed.sum()
            capped = np.where(fixed, row.cap, weights * rest / weights[~fixed].sum())
        total, spread = total_and_variance(capped)
        bias = max((total - plain) ** 2 - (np.sqrt(variance) - np.sqrt(spread)) ** 2, 0.0)
        assert row.n_capped == fixed.sum()
        assert_allclose(capped.sum(), weights.sum())
        assert_allclose(row.relative_mse, (bias + spread) / variance, rtol=1e-9)
    assert curve.relative_mse.iloc[-1] == 1.0
