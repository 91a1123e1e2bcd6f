"""From probabilities to exactly k items: counts, frequencies, ties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from l0 import InvalidCount, InvalidProbabilities, ShapeMismatch, selection

SIZES = st.lists(
    st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-9, 1e9)), min_size=1, max_size=40
)


@st.composite
def sizes_and_count(draw):
    sizes = np.array(draw(SIZES))
    return sizes, draw(st.integers(0, int(np.count_nonzero(sizes))))


@given(sizes_and_count())
def test_inclusion_probabilities_sum_to_k_and_are_proportional(case):
    sizes, k = case
    prob = selection.inclusion_probabilities(sizes, k)
    assert_allclose(prob.sum(), k, rtol=1e-12)
    assert (prob >= 0).all()
    assert (prob <= 1).all()
    assert (prob[sizes == 0] == 0).all()
    inside = (prob < 1) & (sizes > 0)
    if inside.any() and k:
        rate = prob[inside] / sizes[inside]
        assert_allclose(rate, rate[0], rtol=1e-9)
        # Certain items are those that the common rate would push to 1 or above.
        assert (sizes[prob == 1] * rate[0] >= 1 - 1e-9).all()


@given(sizes_and_count(), st.floats(1e-6, 1e6), st.randoms(use_true_random=False))
def test_inclusion_probabilities_ignore_unit_and_order(case, unit, shuffler):
    sizes, k = case
    order = np.array(shuffler.sample(range(sizes.size), sizes.size))
    prob = selection.inclusion_probabilities(sizes, k)
    assert_allclose(
        selection.inclusion_probabilities(sizes[order] * unit, k), prob[order], atol=1e-9
    )


def test_sizes_of_any_magnitude_are_shared_out():
    huge, tiny = 1.5e308, 1e-300
    assert selection.inclusion_probabilities([huge, huge, huge], 1).tolist() == [1 / 3] * 3
    assert selection.inclusion_probabilities([1.0, tiny, tiny], 2).tolist() == [1.0, 0.5, 0.5]


@given(sizes_and_count(), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_systematic_draws_have_exactly_k_items(case, seed, shuffler):
    sizes, k = case
    prob = selection.inclusion_probabilities(sizes, k)
    order = np.array(shuffler.sample(range(sizes.size), sizes.size))
    drawn = selection.systematic(prob, seed, order=order)
    assert drawn.size == np.unique(drawn).size == k
    assert (prob[drawn] > 0).all()
    assert np.isin(np.flatnonzero(prob == 1), drawn).all()
    assert (np.diff(drawn) > 0).all()


@pytest.mark.parametrize("n_draws", [20_000])
@pytest.mark.parametrize("with_order", [False, True])
def test_systematic_draws_have_the_stated_frequencies(n_draws, with_order):
    rng = np.random.default_rng(0)
    prob = selection.inclusion_probabilities(rng.lognormal(size=30), 8)
    order = rng.permutation(30) if with_order else None
    counts = np.zeros(30)
    for _ in range(n_draws):
        counts[selection.systematic(prob, rng, order=order)] += 1
    sigma = np.sqrt(prob * (1 - prob) / n_draws)
    assert (np.abs(counts / n_draws - prob) <= 5 * sigma + 1e-12).all()


def test_systematic_draws_are_spread_along_the_order():
    """Of each ten neighbours in the order, with chance 1/10 each, exactly one is taken."""
    order = np.random.default_rng(1).permutation(1000)
    drawn = selection.systematic(np.full(1000, 0.1), 3, order=order)
    place = np.empty(1000, dtype=int)
    place[order] = np.arange(1000)
    assert np.bincount(place[drawn] // 10).tolist() == [1] * 100


@given(st.lists(st.floats(0, 1), max_size=50), st.integers(0, 100))
def test_a_sum_that_is_not_whole_is_rounded_down_or_up(prob, seed):
    drawn = selection.systematic(prob, seed)
    assert np.floor(sum(prob) - 1e-6) <= drawn.size <= np.ceil(sum(prob) + 1e-6)
    assert np.unique(drawn).size == drawn.size


@pytest.mark.parametrize("start", ["first", "last"])
def test_rounding_at_the_ends_of_the_comb_neither_loses_nor_repeats_an_item(start):
    class Extreme(np.random.Generator):
        def integers(self, high):
            return 0 if start == "first" else high - 1

    extreme = Extreme(np.random.PCG64(0))
    for prob in ([1 / 3] * 3, [0.1] * 10, [1.0] * 4, [0.7, 0.2, 0.1, 1.0]):
        drawn = selection.systematic(prob, extreme)
        assert np.unique(drawn).size == drawn.size == round(sum(prob))


def test_large_draws_are_exact():
    """Rounding would otherwise lose or repeat an item among 300,000."""
    sizes = np.random.default_rng(0).lognormal(sigma=2, size=300_000)
    for k in (1, 20_000, 280_000, 299_999, 300_000):
        prob = selection.inclusion_probabilities(sizes, k)
        assert_allclose(prob.sum(), k, rtol=1e-12)
        for seed in range(5):
            assert np.unique(selection.systematic(prob, seed)).size == k


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -3.0]), min_size=1, max_size=60), st.data())
def test_top_k_are_k_of_the_highest(scores, data):
    k = data.draw(st.integers(0, len(scores)))
    chosen = selection.top_k(scores, k, data.draw(st.integers(0, 99)))
    assert chosen.size == np.unique(chosen).size == k
    assert sorted(np.array(scores)[chosen]) == sorted(scores)[len(scores) - k :]


def test_ties_are_broken_evenly_and_with_equal_chance():
    chosen = selection.top_k(np.zeros(1000), 100)
    assert np.bincount(chosen // 100).tolist() == [10] * 10
    rng = np.random.default_rng(0)
    counts = np.zeros(7)
    for _ in range(7000):
        counts[selection.top_k(np.zeros(7), 3, rng)] += 1
    assert_allclose(counts / 7000, 3 / 7, atol=0.03)


@given(st.integers(1, 10**6), st.data())
def test_spread_positions_are_distinct_and_one_step_apart(n_items, data):
    k = data.draw(st.integers(1, min(n_items, 1000)))
    chosen = selection.spread(n_items, k, data.draw(st.integers(0, 99)))
    gaps = np.diff(chosen)
    assert chosen.size == k
    assert chosen[0] >= 0
    assert chosen[-1] < n_items
    assert ((gaps == n_items // k) | (gaps == -(-n_items // k))).all()


def test_simple_random_samples_include_all_alike():
    rng = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(10_000):
        counts[selection.simple_random(10, 4, rng)] += 1
    assert_allclose(counts / 10_000, 0.4, atol=0.025)


@pytest.mark.parametrize(
    ("draw", "error", "way_out"),
    [
        (lambda: selection.top_k([1.0, np.nan], 1), InvalidProbabilities, "position 1"),
        (lambda: selection.top_k([1.0], 2), InvalidCount, "0 to 1"),
        (lambda: selection.top_k([1.0], -1), InvalidCount, "0 to 1"),
        (lambda: selection.top_k([[1.0]], 1), InvalidProbabilities, "ravel"),
        (lambda: selection.spread(2, 3), InvalidCount, "0 to 2"),
        (lambda: selection.simple_random(2, 3), InvalidCount, "0 to 2"),
        (lambda: selection.systematic([0.5, 1.5]), InvalidProbabilities, "position 1"),
        (lambda: selection.systematic([-0.1, 0.5]), InvalidProbabilities, "position 0"),
        (lambda: selection.systematic([np.inf]), InvalidProbabilities, "not finite"),
        (lambda: selection.systematic([0.5] * 2, order=[0, 0]), ShapeMismatch, "permutation"),
        (lambda: selection.systematic([0.5] * 2, order=[0]), ShapeMismatch, "permutation"),
        (lambda: selection.inclusion_probabilities([1.0, 0.0], 2), InvalidCount, "1 of the 2"),
        (lambda: selection.inclusion_probabilities([-1.0], 1), InvalidProbabilities, "negative"),
        (lambda: selection.inclusion_probabilities([], 1), InvalidCount, "0 of the 0"),
    ],
)
def test_impossible_draws_are_refused(draw, error, way_out):
    with pytest.raises(error, match=way_out):
        draw()
