"""An order in which neighbours are alike."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from microcalibrate.selection.ordering import neighbour_order


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n_records=st.integers(1, 200),
    n_features=st.integers(1, 6),
    depth=st.integers(1, 12),
    seed=st.integers(0, 1_000),
    sparse=st.booleans(),
)
def test_every_record_stands_once(
    n_records: int, n_features: int, depth: int, seed: int, sparse: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_records, n_features)) * (rng.random((n_records, n_features)) < 0.5)

    order = neighbour_order(sp.csr_array(rows) if sparse else rows, depth, rng)

    assert_array_equal(np.sort(order), np.arange(n_records))


@pytest.mark.parametrize("sparse", [False, True])
def test_records_of_a_group_stand_together(sparse: bool) -> None:
    """Four areas in random order: nearly every neighbour is of the same area."""
    rng = np.random.default_rng(0)
    area = rng.permutation(np.repeat(np.arange(4), 64))
    rows = np.eye(4)[area] * rng.uniform(0.5, 2, 256)[:, None]

    order = neighbour_order(sp.csr_array(rows) if sparse else rows, 6, rng)

    assert (area[order][1:] == area[order][:-1]).mean() > 0.9


def test_neighbours_are_closer_than_by_chance() -> None:
    rng = np.random.default_rng(1)
    rows = np.column_stack([np.ones(1_000), rng.uniform(0, 1, 1_000)])

    along = rows[neighbour_order(rows, 6, rng), 1]

    assert np.abs(np.diff(along)).mean() < 0.1 * np.abs(np.diff(rows[:, 1])).mean()


def test_length_does_not_count() -> None:
    rng = np.random.default_rng(2)
    rows = rng.uniform(0.1, 1, (300, 4))
    longer = rows * 2.0 ** rng.integers(-8, 8, 300)[:, None]

    orders = [neighbour_order(same, 5, np.random.default_rng(3)) for same in (rows, longer)]

    assert_array_equal(orders[0], orders[1])


def test_records_that_are_all_alike_or_empty_are_ordered_too() -> None:
    rng = np.random.default_rng(4)
    for rows in (np.zeros((50, 3)), np.ones((50, 3)), sp.csr_array((50, 3))):
        assert_array_equal(np.sort(neighbour_order(rows, 4, rng)), np.arange(50))
