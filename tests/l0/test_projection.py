"""The search for counts of open gates: certified by trying all of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l0.errors import InvalidCount
from l0.projection import nearest_below

settings.register_profile("here", deadline=None, derandomize=True)
settings.load_profile("here")


def chain(coefficients):
    """Sizes of a chain of layers: products of neighbouring counts, and each count by itself."""

    def sizes(counts):
        total = counts @ coefficients
        for left, right in itertools.pairwise(range(counts.shape[1])):
            total = total + coefficients[left] * counts[:, left] * counts[:, right]
        return total

    return sizes


def descending(rng, n):
    return np.sort(rng.normal(size=n))[::-1].copy()


@settings(max_examples=100)
@given(
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_no_other_counts_come_nearer_from_below(widths, share, seed):
    """The certificate: all counts are tried, and none is between the choice and the budget."""
    rng = np.random.default_rng(seed)
    upper = np.array(widths)
    lower = np.minimum(rng.integers(0, 3, upper.size), upper)
    sizes_of = chain(rng.integers(0, 9, upper.size))
    grid = np.array(
        list(itertools.product(*(range(a, b + 1) for a, b in zip(lower, upper, strict=True))))
    )
    sizes = sizes_of(grid)
    budget = int(sizes.min() + share * (sizes.max() - sizes.min()))

    choice = nearest_below(sizes_of, budget, [descending(rng, n) for n in widths], lower, upper)

    assert choice.size == sizes[sizes <= budget].max()
    assert choice.size == sizes_of(choice.counts[None])[0]
    assert ((lower <= choice.counts) & (choice.counts <= upper)).all()
    assert choice.proven


def test_a_sum_of_counts_is_met_by_the_highest_scores():
    """Where every gate counts one, the choice is the top k over all sets."""
    rng = np.random.default_rng(1)
    scores = [descending(rng, n) for n in (30, 5, 12)]
    highest = np.sort(np.concatenate(scores))[-20:]

    choice = nearest_below(
        lambda counts: counts.sum(1), 20, scores, np.zeros(3, int), np.array([30, 5, 12])
    )

    assert choice.counts.tolist() == [(score >= highest[0]).sum() for score in scores]


def test_of_several_exact_counts_one_that_changes_little_is_taken():
    """30 and 20 gates have scores above zero; the next one counts 2, where 1 is missing."""
    scores = [np.linspace(9, -9.1, 60), np.linspace(9, -9, 40)]
    scores[1][20] = -0.001

    choice = nearest_below(
        lambda counts: counts @ [1, 2], 71, scores, np.ones(2, int), np.array([60, 40])
    )

    assert choice.counts.tolist() == [31, 20]


def test_the_search_ends_at_its_limit_and_says_that_nothing_is_proven():
    """Sizes are all even, so an odd budget is never met, and there are 41**8 counts to try."""
    rng = np.random.default_rng(0)
    coefficients = 2 * rng.integers(50, 90, 8)
    sizes_of = chain(coefficients)
    upper = np.full(8, 40)
    budget = int(sizes_of(upper[None])[0]) // 2 | 1

    choice = nearest_below(
        sizes_of,
        budget,
        [descending(rng, 40) for _ in range(8)],
        np.ones(8, int),
        upper,
        max_evaluations=3000,
    )

    assert not choice.proven
    assert choice.size <= budget
    assert budget - choice.size < 10
    assert 3000 <= choice.n_evaluations < 3000 + 1024 * 7


def test_without_a_search_the_gates_above_one_threshold_stay():
    scores = [np.array([3.0, 2.0, 1.0]), np.array([2.5, 1.5, 0.5])]

    choice = nearest_below(
        chain(np.array([5, 3])), 40, scores, np.ones(2, int), np.array([3, 3]), max_evaluations=0
    )

    # 2 and 2 gates have size 36, and with the next one, of score 1, it would be 51.
    assert choice.counts.tolist() == [2, 2]
    assert choice.size == 36
    assert not choice.proven


def test_gates_without_any_preference_shrink_evenly():
    scores = [np.zeros(100), np.zeros(10)]

    choice = nearest_below(
        lambda counts: counts.sum(1), 55, scores, np.ones(2, int), np.array([100, 10])
    )

    assert choice.counts.tolist() == [50, 5]


def test_a_budget_below_the_smallest_size_is_an_error():
    with pytest.raises(InvalidCount, match="smallest size that can be reached, 13"):
        nearest_below(
            chain(np.array([5, 3])), 12, [np.zeros(3)] * 2, np.ones(2, int), np.array([3, 3])
        )
