"""Exactly k under wishes: the best of all sets that obey them, nested paths, shares, refusals."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from l0.errors import (
    InvalidCount,
    InvalidProbabilities,
    InvalidSetting,
    ShapeMismatch,
    UnreachableCount,
)
from l0.selection import top_k
from l0.selection.quotas import apportion, constrained_top_k, path

SCORES = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=9)


def sets_that_obey(n_items, k, keep=(), groups=None, strata=None, quotas=None, count="items"):
    """All sets of k, by going through every subset."""
    groups = np.arange(n_items) if groups is None else np.asarray(groups)
    for size in range(n_items + 1):
        for chosen in combinations(range(n_items), size):
            inside = np.isin(np.arange(n_items), chosen)
            whole = all(inside[groups == label].all() for label in groups[inside])
            taken = len(set(groups[inside])) if count == "groups" else size
            within = True
            for label, (low, high) in (quotas or {}).items():
                within &= low <= sum(inside & (np.asarray(strata) == label)) <= high
            if whole and taken == k and within and inside[list(keep)].all():
                yield list(chosen)


@st.composite
def wishes(draw):
    """Scores, a count, and any wishes; a group always lies within one stratum."""
    scores = draw(SCORES)
    n_items = len(scores)
    k = draw(st.integers(0, n_items))
    keep = draw(st.lists(st.integers(0, n_items - 1), unique=True, max_size=2))
    groups = draw(st.none() | st.lists(st.integers(0, 4), min_size=n_items, max_size=n_items))
    kinds = [draw(st.sampled_from("ab")) for _ in range(n_items)]
    if groups is not None:
        kinds = ["ab"[label % 2] for label in groups]
    quotas = {
        label: draw(st.tuples(st.integers(0, kinds.count(label)), st.integers(0, 4)).map(sorted))
        for label in sorted(set(kinds))
    }
    quotas = {label: tuple(pair) for label, pair in quotas.items() if pair[0] <= kinds.count(label)}
    return scores, k, {"keep": keep, "groups": groups, "strata": kinds, "quotas": quotas}


@given(wishes())
def test_the_selection_is_the_best_of_all_sets_that_obey_the_wishes(case):
    scores, k, asked = case
    possible = list(sets_that_obey(len(scores), k, **asked))
    if not possible:
        with pytest.raises(InvalidCount):
            constrained_top_k(scores, k, **asked)
        return
    chosen = constrained_top_k(scores, k, **asked).tolist()
    assert chosen in possible
    assert sum(scores[i] for i in chosen) == max(sum(scores[i] for i in s) for s in possible)


@given(SCORES, st.data())
def test_groups_can_be_counted_as_one(scores, data):
    groups = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(scores), max_size=len(scores)))
    k = data.draw(st.integers(0, len(set(groups))))
    chosen = constrained_top_k(scores, k, groups=groups, count="groups").tolist()
    possible = list(sets_that_obey(len(scores), k, groups=groups, count="groups"))
    assert chosen in possible
    assert sum(scores[i] for i in chosen) == max(sum(scores[i] for i in s) for s in possible)


@given(SCORES, st.data())
def test_without_wishes_it_is_the_k_highest_scores_ties_included(scores, data):
    k = data.draw(st.integers(0, len(scores)))
    seed = data.draw(st.integers(0, 9))
    assert constrained_top_k(scores, k, rng=seed).tolist() == top_k(scores, k, seed).tolist()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_a_count_between_group_sizes_is_refused_with_the_nearest_that_can_be_had(sizes, data):
    k = data.draw(st.integers(0, sum(sizes)))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    scores = data.draw(st.lists(st.floats(-1, 1), min_size=groups.size, max_size=groups.size))
    sums = {sum(part) for n in range(len(sizes) + 1) for part in combinations(sizes, n)}
    if k in sums:
        assert constrained_top_k(scores, k, groups=groups).size == k
        return
    with pytest.raises(UnreachableCount) as refusal:
        constrained_top_k(scores, k, groups=groups)
    assert refusal.value.below == max(total for total in sums if total < k)
    assert refusal.value.above == min((total for total in sums if total > k), default=None)
    assert constrained_top_k(scores, refusal.value.below, groups=groups).size < k


def test_at_most_or_exactly_one_of_each_group():
    scores = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert constrained_top_k(scores, 2, strata=list("aabbcc"), quotas=(0, 1)).tolist() == [0, 2]
    assert constrained_top_k(scores, 3, strata=list("aaabcc"), quotas=1).tolist() == [0, 3, 4]
    with pytest.raises(UnreachableCount) as refusal:
        constrained_top_k(scores, 4, strata=list("aabbcc"), quotas=(0, 1))
    assert refusal.value.below == 3


def test_proportional_quotas_give_every_stratum_its_share():
    strata = np.repeat(["n", "e", "s"], [50, 30, 20])
    chosen = constrained_top_k(np.arange(100.0), 10, strata=strata, quotas="proportional")
    assert [int((strata[chosen] == label).sum()) for label in "nes"] == [5, 3, 2]
    assert chosen[-2:].tolist() == [98, 99]


def test_ties_within_strata_are_broken_evenly_over_the_data():
    strata = np.repeat([0, 1], 500)
    chosen = constrained_top_k(np.zeros(1000), 100, strata=strata, quotas={0: 80})
    assert np.bincount(chosen // 100).tolist() == [16] * 5 + [4] * 5


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.data())
def test_shares_sum_exactly_never_exceed_their_size_and_never_fall(sizes, data):
    k = data.draw(st.integers(0, sum(sizes)))
    seats = apportion(sizes, k)
    assert seats.sum() == k
    assert (seats <= sizes).all()
    if k < sum(sizes):
        assert (apportion(sizes, k + 1) >= seats).all()
    # The optimality condition of the method: no seat is worth more elsewhere.
    sizes = np.array(sizes)
    taken = seats > 0
    if taken.any():
        last = (sizes[taken] / (2 * seats[taken] - 1)).min()
        assert last >= (sizes / (2 * seats + 1)).max() * (1 - 1e-12)


def test_shares_by_hand():
    """Quotients by 1, 3, 5, …: the seven largest are 340, 280, 160, 113.3, 93.3, 68 and 60."""
    assert apportion([340, 280, 160, 60], 7).tolist() == [3, 2, 1, 1]


@given(SCORES, st.data())
def test_a_path_is_nested_and_each_of_its_sets_is_that_of_its_count_alone(scores, data):
    distinct = [score + i / 100 for i, score in enumerate(scores)]
    ks = data.draw(st.lists(st.integers(0, len(scores)), min_size=1, max_size=4))
    strata = [i % 2 for i in range(len(scores))]
    found = path(distinct, ks, strata=strata, quotas="proportional")
    assert list(found) == list(dict.fromkeys(ks))
    for k in found:
        alone = constrained_top_k(distinct, k, strata=strata, quotas="proportional")
        assert found[k].tolist() == alone.tolist()
    for small, large in zip(sorted(found), sorted(found)[1:], strict=False):
        assert set(found[small]) <= set(found[large])


def test_ties_on_a_path_are_nested_too():
    found = path(np.zeros(100), [1, 3, 10, 50])
    assert set(found[1]) < set(found[3]) < set(found[10]) < set(found[50])


def test_paths_of_groups_are_nested():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 40, 100))
    found = path(rng.normal(size=100), [90, 60, 30], groups=groups)
    assert set(found[30]) < set(found[60]) < set(found[90])
    assert [chosen.size for chosen in found.values()] == [90, 60, 30]


def test_many_groups_under_many_quotas_are_quick_enough_to_use():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(2000), rng.integers(1, 6, 2000))
    strata = groups % 20
    scores = rng.normal(size=groups.size)
    chosen = constrained_top_k(scores, 1000, groups=groups, strata=strata, quotas=(40, 60))
    assert chosen.size == 1000
    assert np.bincount(strata[chosen]).min() >= 40
    # No two groups of one size and stratum could be exchanged for more.
    size, worth = np.bincount(groups), np.bincount(groups, scores)
    inside = np.isin(np.arange(2000), groups[chosen])
    for kind in {(s, g % 20) for g, s in enumerate(size)}:
        alike = (size == kind[0]) & (np.arange(2000) % 20 == kind[1])
        if (alike & inside).any() and (alike & ~inside).any():
            assert worth[alike & inside].min() >= worth[alike & ~inside].max()
    assert_allclose(worth[inside].sum(), scores[chosen].sum())


TEN = np.arange(10.0)
HALVES = list("aaaaabbbbb")


@pytest.mark.parametrize(
    ("asked", "k", "error", "way_out"),
    [
        ({"keep": [1, 2, 3]}, 2, InvalidCount, "Keep fewer"),
        ({"keep": [1, 1]}, 5, InvalidSetting, "position 1 twice"),
        ({"keep": [10]}, 5, InvalidSetting, "from 0 to 9"),
        ({"keep": [-1]}, 5, InvalidSetting, "position -1"),
        ({"keep": [True] * 10}, 5, InvalidSetting, "flatnonzero"),
        ({"keep": [0, 1], "strata": HALVES, "quotas": {"a": 1}}, 5, InvalidCount, "stratum 'a'"),
        ({"strata": HALVES, "quotas": {"a": 6}}, 8, InvalidCount, "it has 5"),
        ({"strata": HALVES, "quotas": {"a": (3, 2)}}, 8, InvalidCount, "fewest before the most"),
        ({"strata": HALVES, "quotas": {"c": 1}}, 5, InvalidSetting, "stratum 'c'"),
        ({"strata": HALVES, "quotas": "equal"}, 5, InvalidSetting, "proportional"),
        ({"strata": HALVES, "quotas": {"a": 2, "b": 2}}, 5, UnreachableCount, "Ask for 4"),
        ({"strata": HALVES, "quotas": (3, 5)}, 5, UnreachableCount, "Ask for 6"),
        ({"strata": HALVES}, 5, InvalidSetting, "Give both"),
        ({"quotas": 1}, 5, InvalidSetting, "Give both"),
        ({"strata": HALVES[1:], "quotas": 1}, 5, ShapeMismatch, "each of 10 items"),
        ({"groups": [1, 2]}, 5, ShapeMismatch, "each of 10 items"),
        ({"groups": [0] * 10, "strata": HALVES, "quotas": 1}, 5, InvalidSetting, "split the group"),
        ({"count": "groups"}, 5, InvalidSetting, "together with `groups`"),
        ({}, 11, InvalidCount, "0 to 10"),
        ({}, -1, InvalidCount, "0 to 10"),
        ({"groups": list("aaabbbcccd")}, 5, UnreachableCount, "Ask for 4 or 6"),
    ],
)
def test_contradictory_wishes_are_refused(asked, k, error, way_out):
    with pytest.raises(error, match=way_out):
        constrained_top_k(TEN, k, **asked)


def test_scores_must_be_finite_and_shares_possible():
    with pytest.raises(InvalidProbabilities, match="position 0"):
        constrained_top_k([np.nan, 1.0], 1)
    with pytest.raises(InvalidCount, match="0 to 3"):
        apportion([1, 2], 4)
