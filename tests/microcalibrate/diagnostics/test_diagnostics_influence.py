"""Influence: shares are shares, closed forms are brute force, copies of a record gain nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.diagnostics import Diagnosis, Frame, Metric, Slice, Surface, diagnose
from microcalibrate.diagnostics.flags import FlagRules
from microcalibrate.errors import InvalidOption

# So low that every share is kept, the smallest too.
EVERYTHING = 1e-9
SURFACE = Surface(
    (
        Metric("income", "income"),
        Metric("mean income", "income", kind="mean"),
        Metric("rate", "tax", kind="ratio", denominator="income"),
    ),
    (Slice("region", "region"), Slice("age band", "age", edges=(30, 60))),
)


def people(n: int, seed: int = 0) -> pd.DataFrame:
    """Whole numbers throughout, so that sums are exact in whatever order they are made."""
    rng = np.random.default_rng(seed)
    income = rng.integers(-200, 2000, n) * (rng.random(n) < 0.8)
    return pd.DataFrame(
        {
            "income": income.astype(float),
            "tax": np.floor(0.2 * np.abs(income)),
            "region": rng.choice(["north", "south", "west"], n),
            "age": rng.integers(0, 90, n),
            "weight": rng.integers(1, 500, n).astype(float),
        }
    )


def shares_of(found: Diagnosis, statistic: str) -> pd.Series[Any]:
    table = found.influence
    return table[table.statistic.astype(str) == statistic].set_index("id")


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 120), threshold=st.floats(0.02, 0.5))
def test_shares_are_within_0_and_1_and_sum_to_1(seed: int, n: int, threshold: float) -> None:
    data = people(n, seed)

    found = diagnose(data, "weight", surface=SURFACE, threshold=EVERYTHING)

    table = found.influence
    assert table.share.between(0, 1).all()
    assert table.lineage_share.between(0, 1).all()
    sums = table.groupby("statistic", observed=True).share.sum()
    assert_allclose(sums, 1.0, rtol=1e-12)
    above = table[table.share > threshold].groupby("statistic", observed=True).size()
    assert (above <= np.floor(1 / threshold)).all()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-6, 0.3, 7.0, 1e9]))
def test_unit_of_the_weights_and_order_of_the_records_do_not_matter(
    seed: int, scale: float
) -> None:
    data = people(150, seed).assign(id=np.arange(150))
    order = np.random.default_rng(seed).permutation(150)
    shuffled = data.iloc[order].assign(weight=lambda table: table.weight * scale)
    options: dict[str, Any] = {
        "surface": SURFACE,
        "threshold": 0.02,
        "id_column": "id",
        "progress": False,
    }

    first = diagnose(data, "weight", **options)
    second = diagnose(shuffled.reset_index(drop=True), "weight", **options)

    ours = first.records.set_index("id").sort_index()
    theirs = second.records.set_index("id").sort_index()
    assert_allclose(ours.share, theirs.share, rtol=1e-10)
    assert set(first.flagged.id) == set(second.flagged.id)
    keys = ["statistic", "id"]
    one = first.influence.astype({"statistic": "str"}).sort_values(keys)
    other = second.influence.astype({"statistic": "str"}).sort_values(keys)
    assert_array_equal(one[keys], other[keys])
    for column in ("share", "lineage_share", "net_share", "standardised", "variance_share"):
        assert_allclose(one[column], other[column], rtol=1e-8)


def test_streamed_shares_are_those_of_the_dense_matrix() -> None:
    """On 2,000 records of whole numbers, whose sums have no rounding, to the last bit."""
    data = people(2000, 3)
    surface = Surface((Metric("income", "income"), Metric("tax", "tax")), SURFACE.slices)

    found = diagnose(data, "weight", surface=surface, threshold=EVERYTHING)

    bands = pd.cut(data.age, [-1, 29, 59, 200], labels=["under 30", "30–59", "60 or over"])
    for metric in ("income", "tax"):
        amounts = data.weight * data[metric]
        for name, labels in (("region", data.region), ("age band", bands)):
            dense = pd.get_dummies(labels).to_numpy() * amounts.to_numpy()[:, None]
            dense = np.abs(dense) / np.abs(dense).sum(axis=0)
            for place, label in enumerate(pd.get_dummies(labels).columns):
                stored = shares_of(found, f"{metric}, {name} = {label}").share
                column = pd.Series(dense[:, place])
                expected = column[column > EVERYTHING / 5]
                assert_array_equal(stored.index, expected.index)
                assert_array_equal(stored, expected)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 25))
def test_leave_one_out_is_brute_force(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "income": rng.normal(100, 300, n),
            "tax": rng.gamma(2.0, 50, n),
            "base": rng.gamma(2.0, 50, n),
            "weight": rng.lognormal(3, 1, n),
        }
    )
    surface = Surface(
        (
            Metric("total", "income"),
            Metric("mean", "income", kind="mean"),
            Metric("ratio", "tax", kind="ratio", denominator="base"),
        )
    )
    formulas = {
        "total": lambda t: (t.weight * t.income).sum(),
        "mean": lambda t: np.average(t.income, weights=t.weight),
        "ratio": lambda t: (t.weight * t.tax).sum() / (t.weight * t.base).sum(),
    }

    found = diagnose(data, "weight", surface=surface, threshold=EVERYTHING)

    for metric, formula in formulas.items():
        table = found.influence[found.influence.metric.astype(str) == metric].set_index("id")
        size = abs(formula(data)) + np.abs(table.leave_one_out).max()
        for record in table.index:
            brute = formula(data.drop(index=record)) - formula(data)
            assert_allclose(table.leave_one_out[record], brute, rtol=1e-10, atol=1e-10 * size)


def test_leave_one_out_of_the_only_record_is_undefined() -> None:
    data = pd.DataFrame({"income": [5.0], "weight": [2.0]})
    surface = Surface((Metric("mean", "income", kind="mean"),))

    found = diagnose(data, "weight", surface=surface)

    assert np.isnan(found.influence.leave_one_out).all()
    assert found.cells.estimate.iloc[0] == 5.0


def test_mean_over_persons_leaves_out_whole_households() -> None:
    households = pd.DataFrame({"id": [1, 2, 3], "weight": [2.0, 1.0, 4.0]})
    persons = pd.DataFrame({"home": [1, 1, 2, 3, 3, 3], "age": [4.0, 30, 70, 8, 40, 44]})
    frame = Frame(
        {"household": households, "person": persons},
        "household",
        {"household": "id"},
        {"person": {"household": "home"}},
    )
    surface = Surface((Metric("age", "age", "person", kind="mean"),))

    found = diagnose(frame, "weight", surface=surface, threshold=EVERYTHING)

    weight = persons.home.map(households.set_index("id").weight)
    whole = np.average(persons.age, weights=weight)
    for record, change in found.influence.set_index("id").leave_one_out.items():
        rest = persons.home != record
        without = np.average(persons.age[rest], weights=weight[rest])
        assert_allclose(change, without - whole, rtol=1e-12)


def test_two_adults_of_30_are_in_the_band_of_30_year_olds() -> None:
    """Not in that of 60-year-olds, where the sum of their ages would put their household."""
    households = pd.DataFrame({"id": ["a", "b"], "weight": [10.0, 10.0]})
    persons = pd.DataFrame({"home": ["a", "a", "b"], "age": [30, 30, 60], "wages": [5.0, 7, 9]})
    frame = Frame(
        {"household": households, "person": persons},
        "household",
        {"household": "id"},
        {"person": {"household": "home"}},
    )
    band = Slice("age band", "age", "person", edges=(16, 25, 35, 55, 65))
    surface = Surface((Metric("wages", "wages", "person"),), (band,))

    found = diagnose(frame, "weight", surface=surface, threshold=EVERYTHING)

    young = shares_of(found, "wages, age band = 25–34")
    old = shares_of(found, "wages, age band = 55–64")
    assert young.amount.to_dict() == {"a": 120.0}
    assert old.amount.to_dict() == {"b": 90.0}


def test_cancelling_metric_has_shares_and_no_net_share() -> None:
    data = pd.DataFrame({"change": np.tile([1e6, -1e6], 500), "weight": 1.0})
    data.loc[0, "change"] += 1e3

    found = diagnose(data, "weight", surface={"metrics": ["change"]}, threshold=EVERYTHING)

    assert found.cells.net_over_gross.iloc[0] < 2e-6
    assert found.influence.share.max() < 0.0011
    assert found.influence.net_share.isna().all()
    assert found.influence.net_reason.astype(str).str.startswith("undefined").all()


def test_net_share_is_signed_where_the_net_total_is_no_rest() -> None:
    data = pd.DataFrame({"income": [30.0, -10.0], "weight": [1.0, 1.0]})

    found = diagnose(data, "weight", surface={"metrics": ["income"]})

    assert_allclose(found.influence.net_share, [1.5, -0.5])
    assert_allclose(found.influence.share, [0.75, 0.25])
    assert (found.influence.net_reason.astype(str) == "").all()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), n_copies=st.integers(2, 50))
def test_copies_of_a_record_change_no_figure_of_its_origin(seed: int, n_copies: int) -> None:
    data = people(200, seed).assign(origin=np.arange(200))
    chosen = int(data.income.abs().to_numpy().argmax())
    data.loc[chosen, "weight"] = 20_000.0
    copies = data.loc[[chosen] * n_copies].assign(weight=20_000.0 / n_copies)
    split = pd.concat([data.drop(index=chosen), copies], ignore_index=True)

    before = diagnose(data, "weight", surface=SURFACE, threshold=1e-6, lineage="origin")
    after = diagnose(split, "weight", surface=SURFACE, threshold=1e-6, lineage="origin")

    then = before.records[before.records.lineage == chosen]
    now = after.records[after.records.lineage == chosen]
    assert_allclose(now.lineage_share, then.lineage_share.iloc[0], rtol=1e-12)
    assert before.summary_figures["n_lineages_above"] == after.summary_figures["n_lineages_above"]
    one = before.influence[before.influence.lineage == chosen].set_index("statistic")
    for entry in after.influence[after.influence.lineage == chosen].itertuples():
        assert_allclose(entry.share, one.share[entry.statistic] / n_copies, rtol=1e-12)
        assert_allclose(entry.lineage_share, one.lineage_share[entry.statistic], rtol=1e-12)
    assert_allclose(after.kish.lineage_n_eff, before.kish.lineage_n_eff, rtol=1e-12)
    assert_allclose(after.cells.lineage_effective, before.cells.lineage_effective, rtol=1e-12)
    assert after.kish.n_eff.iloc[0] > before.kish.n_eff.iloc[0]


def test_planted_offender_comes_first_and_equal_weights_have_none() -> None:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"income": rng.uniform(50, 150, 5000), "weight": 1.0})
    data["region"] = rng.integers(0, 4, 5000)
    surface = {"metrics": ["income", {"name": "persons", "value": "1"}], "slices": ["region"]}

    assert diagnose(data, "weight", surface=surface).flagged.empty
    data.loc[1234, "weight"] = 1000.0
    found = diagnose(data, "weight", surface=surface)

    assert found.flagged.id.tolist() == [1234]
    assert found.flagged.share.iloc[0] > 0.15


def test_cell_of_five_records_is_thin_and_nobody_in_it_is_flagged() -> None:
    data = pd.DataFrame({"income": 1.0, "weight": 1.0, "region": ["big"] * 500 + ["tiny"] * 5})

    found = diagnose(
        data, "weight", surface={"metrics": ["income"], "slices": ["region"]}, threshold=0.04
    )

    assert found.thin_cells.statistic.astype(str).tolist() == ["income, region = tiny"]
    assert found.thin_cells.thin_reason.iloc[0] == "few contributors"
    assert found.flagged.empty
    tiny = shares_of(found, "income, region = tiny")
    assert_allclose(tiny.share, 0.2)
    assert tiny.is_thin.all()
    assert not tiny.is_influential.any()


def test_record_that_dominates_a_full_cell_makes_it_thin_or_is_flagged_as_asked() -> None:
    data = pd.DataFrame({"income": 1.0, "weight": 1.0}, index=range(300))
    data.loc[7, "weight"] = 600.0
    surface = {"metrics": ["income"]}

    reported = diagnose(data, "weight", surface=surface)
    flagged = diagnose(data, "weight", surface=surface, flag_dominating=True)

    assert reported.thin_cells.thin_reason.tolist() == ["one record carries most of it"]
    assert reported.thin_cells.largest_id.tolist() == [7]
    assert reported.flagged.empty
    assert "one record carries most" in reported.summary()
    assert flagged.thin_cells.empty
    assert flagged.flagged.id.tolist() == [7]


def test_limit_and_thinness_are_those_of_the_rules() -> None:
    rules = FlagRules()

    assert_allclose(rules.limits(np.array([30.0, 59.0, 61.0])), [0.1, 3 / 59, 0.05])
    reasons = rules.thin_reasons(
        np.array([0.0, 29.0, 30.0, 30.0]),
        np.array([0.0, 29.0, 10.0, 9.99]),
        np.array([0.0, 1 / 29, 0.1, 0.12]),
    )
    assert reasons.tolist() == [1, 2, 0, 3]
    with pytest.raises(InvalidOption, match="threshold=5"):
        FlagRules(threshold=5)


def test_standard_error_is_that_of_sampling_with_replacement() -> None:
    """A total of n sampled units is n times a mean: SE = sqrt(n) times the standard deviation."""
    data = people(80, 8)
    weighted = data.weight * data.income

    found = diagnose(data, "weight", surface={"metrics": ["income"]}, threshold=EVERYTHING)

    expected = np.sqrt(80) * weighted.std(ddof=1)
    assert_allclose(found.cells.standard_error.iloc[0], expected, rtol=1e-12)
    table = found.influence.set_index("id")
    assert_allclose(table.standardised, np.abs(weighted[table.index]) / expected, rtol=1e-12)
    assert_allclose(
        table.variance_share, weighted[table.index] ** 2 / (weighted**2).sum(), rtol=1e-12
    )
    assert_allclose(found.cells.effective.iloc[0], 1 / (table.share**2).sum(), rtol=1e-12)


def test_standard_error_follows_strata_and_sampling_units() -> None:
    rng = np.random.default_rng(9)
    data = people(120, 9).assign(psu=np.repeat(np.arange(24), 5))
    data["stratum"] = data.psu // 8
    data = data.iloc[rng.permutation(120)].reset_index(drop=True)

    found = diagnose(data, "weight", surface={"metrics": ["income"]}, strata="stratum", psu="psu")

    totals = (data.weight * data.income).groupby([data.stratum, data.psu]).sum()
    variance = sum(8 * part.var(ddof=1) for _, part in totals.groupby(level=0))
    assert_allclose(found.cells.standard_error.iloc[0], np.sqrt(variance), rtol=1e-12)
    with pytest.raises(InvalidOption, match="single sampling unit"):
        diagnose(data, "weight", surface={"metrics": ["income"]}, strata="psu", psu="psu")
