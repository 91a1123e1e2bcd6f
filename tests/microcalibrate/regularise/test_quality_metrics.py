"""Measures of generated rows against scipy, and against rows that are written out by weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from scipy.spatial import cKDTree

from microcalibrate.errors import InvalidOption, InvalidSurvey, InvalidWeights
from microcalibrate.regularise import SlotColumn
from microcalibrate.regularise.quality import Sample
from microcalibrate.regularise.quality.joint import discriminate, independent_rows, weighted_auc
from microcalibrate.regularise.quality.marginal import (
    marginal_table,
    total_variation,
    weighted_ks,
)
from microcalibrate.regularise.quality.pairs import association_matrix, cramers_v
from microcalibrate.regularise.quality.privacy import (
    Space,
    distance_figures,
    exact_copies,
    nearest_distances,
    weighted_percentile,
)
from microcalibrate.regularise.quality.samples import Coded, random_split
from microcalibrate.regularise.quality.structure import srmse
from microcalibrate.regularise.quality.utility import bootstrap_standard_errors
from microcalibrate.regularise.quality.zeros import pair_shares

COLUMNS = (
    SlotColumn("sex", "person", 0, "sex", "category", ("a", "b", "c")),
    SlotColumn("works", "person", 0, "works", "boolean", missing=True),
    SlotColumn("pay", "person", 0, "pay", "number", missing=True),
    SlotColumn("age", "person", 0, "age", "integer"),
)
weights = st.lists(st.integers(0, 4), min_size=6, max_size=25).filter(lambda w: sum(w) > 2)


def make_rows(n_rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sex = rng.choice(3, n_rows)
    pay = np.round(rng.normal(sex + shift, 1), 1)
    pay[rng.random(n_rows) < 0.2] = np.nan
    works = pd.array(rng.random(n_rows) < 0.4 + 0.1 * sex, dtype="boolean")
    works[rng.random(n_rows) < 0.1] = pd.NA
    return pd.DataFrame(
        {
            "sex": pd.Categorical.from_codes(sex, ["a", "b", "c"]),
            "works": works,
            "pay": pay,
            "age": pd.array(rng.integers(0, 9, n_rows), dtype="Int64"),
        }
    )


def coded(rows: pd.DataFrame, weight=None) -> Coded:
    return Coded.of(Sample(rows, None if weight is None else np.asarray(weight, float)), COLUMNS)


def written_out(rows: pd.DataFrame, counts: list[int]) -> pd.DataFrame:
    return rows.loc[rows.index.repeat(counts)].reset_index(drop=True)


@pytest.mark.parametrize("seed", range(3))
def test_distances_between_distributions_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    left, right = rng.poisson(3, 80).astype(float), rng.poisson(4, 50).astype(float)
    shares = [np.bincount(side.astype(int), minlength=20) / len(side) for side in (left, right)]

    assert_allclose(weighted_ks(left, right), stats.ks_2samp(left, right).statistic, atol=1e-12)
    assert_allclose(total_variation(left, right), np.abs(np.subtract(*shares)).sum() / 2)


@given(weights, st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_whole_weights_are_rows_written_out(counts, seed):
    """Every measure of a weighted sample is that of the sample with each row so many times."""
    rows, others = make_rows(len(counts), seed), coded(make_rows(30, seed + 1))
    weighted, written = coded(rows, counts), coded(written_out(rows, counts))

    names = ["ks", "tv", "zero_gap", "missing_gap"]
    tables = [marginal_table(others, side)[names] for side in (weighted, written)]
    pd.testing.assert_frame_equal(*tables)
    assert_allclose(*(association_matrix(side)[0] for side in (weighted, written)), atol=1e-7)
    assert_allclose(*(pair_shares(side)[0] for side in (weighted, written)), atol=1e-12)
    cells = [side.values[:, 0].astype(int) for side in (others, weighted, written)]
    assert_allclose(
        srmse(cells[0], cells[1], others.weights, weighted.weights),
        srmse(cells[0], cells[2], others.weights, written.weights),
    )
    assert weighted_percentile(weighted.values[:, 3], weighted.weights, 0.3) == weighted_percentile(
        written.values[:, 3], written.weights, 0.3
    )


def test_associations_are_those_of_scipy():
    rows = make_rows(200, 5)
    found, _ = association_matrix(coded(rows))
    both = rows.pay.notna()
    sex, age = rows.sex.cat.codes.to_numpy(), rows.age.to_numpy(dtype=float)
    works = rows.works.notna()
    table = pd.crosstab(rows.sex[works], rows.works[works].astype(bool)).to_numpy()

    assert_allclose(found[0, 1], stats.contingency.association(table), atol=1e-12)
    assert_allclose(cramers_v(table.astype(float)), found[0, 1], atol=1e-12)
    complete = association_matrix(coded(rows[both]))[0]
    spearman = stats.spearmanr(rows.pay[both], age[both]).statistic
    assert_allclose(complete[2, 3], spearman, atol=1e-12)
    # For a correlation ratio, the F test of the ranks has the same information.
    ranks = stats.rankdata(age)
    f = stats.f_oneway(*(ranks[sex == level] for level in range(3))).statistic
    ratio = 2 * f / (2 * f + len(ranks) - 3)
    assert_allclose(found[0, 3], np.sqrt(ratio), atol=1e-12)
    assert_allclose(found, found.T, equal_nan=True)


def test_nearest_distances_are_those_of_a_tree():
    rng = np.random.default_rng(0)
    points, references = rng.random((600, 7)), rng.random((150, 7))
    points[3] = references[9]

    found = nearest_distances(points, references)
    assert_allclose(found, cKDTree(references).query(points)[0], atol=1e-12)
    assert found[3] == 0


def test_weighted_auc_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    u = stats.mannwhitneyu(scores[positive], scores[~positive]).statistic

    assert_allclose(
        weighted_auc(scores, positive, np.ones(60)), u / (positive.sum() * (~positive).sum())
    )


def test_a_row_is_a_copy_when_every_free_cell_is_equal():
    rows = make_rows(50, 2)
    changed = rows.copy()
    changed.loc[0, "age"] = 50
    copied = exact_copies(coded(changed), coded(rows))

    assert list(np.flatnonzero(~copied)) == [0]
    assert exact_copies(coded(changed), coded(rows), free=["sex", "pay"]).all()


def test_space_puts_copies_at_zero_and_categories_one_apart():
    rows = make_rows(40, 3)
    space = Space.of(coded(rows))
    other = rows.copy()
    other["sex"] = other.sex.cat.codes.map({0: "b", 1: "c", 2: "a"}).astype(rows.sex.dtype)
    here, there = space.points(coded(rows)), space.points(coded(other))

    assert_allclose(np.sqrt(((here - there) ** 2).sum(1)), 1.0)
    assert (nearest_distances(here, here) == 0).all()


def test_a_copier_is_nearer_to_training_rows_and_fresh_rows_are_not():
    train, holdout, fresh = (coded(make_rows(400, seed)) for seed in (1, 2, 3))
    honest = distance_figures(fresh, train, holdout)
    copier = distance_figures(train, train, holdout)

    assert honest["nearer_train_gap"] < 0.06
    assert copier["nearer_train_share"] > 0.6


def test_trees_tell_shifted_rows_and_are_blind_to_fresh_ones():
    real, fresh, shifted = (
        coded(make_rows(400, seed, shift)) for seed, shift in ((1, 0), (2, 0), (3, 2.0))
    )
    honest, told = (discriminate(real, side, seed=0) for side in (fresh, shifted))

    assert abs(honest.auc - 0.5) < 0.08
    assert told.auc > 0.85
    assert told.pmse > 2 * honest.pmse
    assert discriminate(real, shifted, seed=0) == told


def test_rows_of_one_group_stay_on_one_side_of_every_split():
    groups = np.repeat(np.arange(60), 3)
    sample = Coded.of(Sample(make_rows(180, 0), groups=groups), COLUMNS)
    left, right = random_split(sample, (60, 120), np.random.default_rng(0))

    assert (len(left), len(right)) == (60, 120)
    assert not set(left.groups) & set(right.groups)


def test_independent_rows_keep_columns_and_lose_what_joins_them():
    rows = make_rows(3000, 4)
    counts = np.where(rows.sex == "a", 5, 1)
    made = independent_rows(coded(rows, counts), 3000, np.random.default_rng(0))
    share = (made.values[:, 0] == 0).mean()

    assert abs(share - counts[rows.sex == "a"].sum() / counts.sum()) < 0.03
    assert association_matrix(coded(rows))[0][0, 2] > 0.5
    assert association_matrix(made)[0][0, 2] < 0.1


def test_bootstrap_errors_of_a_mean_are_the_textbook_ones():
    rng = np.random.default_rng(6)
    values = rng.normal(0, 2, (400, 1))
    found = bootstrap_standard_errors(values, np.ones(400), n_replicates=500, rng=rng)

    assert_allclose(found, values.std(0) / 20, rtol=0.12)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"weights": np.ones(2)}, InvalidOption),
        ({"weights": -np.ones(9)}, InvalidWeights),
        ({"groups": np.ones(2)}, InvalidOption),
    ],
)
def test_samples_that_do_not_fit_are_refused(changes, error):
    with pytest.raises(error):
        Sample(make_rows(9, 0), **changes)
    with pytest.raises(InvalidSurvey):
        Sample(make_rows(9, 0).head(0))
    with pytest.raises(InvalidSurvey, match="lack"):
        Coded.of(Sample(make_rows(9, 0)[["sex"]]), COLUMNS)
