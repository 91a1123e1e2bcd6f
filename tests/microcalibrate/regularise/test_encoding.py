"""Numbers and categories become tokens and come back as they were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate.errors import InvalidOption, InvalidSurvey
from microcalibrate.regularise import Codec
from microcalibrate.regularise.generators.binning import MAX_BINS
from microcalibrate.regularise.generators.encoding import (
    Encoding,
    checked_mask,
    checked_weights,
)
from microcalibrate.regularise.slots import SlotColumn

from ..households import SCHEMA, make_survey


def encoded(values, type_="number", weights=None, **declared):
    """Encoding of a table of one column, and the table."""
    column = SlotColumn("x", "unit", 0, "x", type_, **declared)
    dtype = {"number": "float64", "integer": "Int64"}.get(type_)
    rows = pd.DataFrame({"x": pd.array(values, dtype=dtype) if dtype else values})
    used = np.ones(len(rows)) if weights is None else weights
    return Encoding.fit(rows, (column,), used), rows


def round_trip(encoding, rows):
    tokens, exists = encoding.tokens(rows)
    return encoding.rows(tokens, encoding.positions(rows, tokens), exists, rows.index)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 400))
def test_numbers_come_back_with_their_position_in_the_bin(seed, n):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10.0 ** rng.integers(-3, 7), n) * (rng.random(n) < 0.7)
    values[rng.random(n) < 0.1] = np.nan
    encoding, rows = encoded(values, weights=rng.lognormal(0, 2, n))

    back = round_trip(encoding, rows)

    assert_allclose(back["x"], values, rtol=1e-12)
    assert (np.sign(back["x"].dropna()) == np.sign(rows["x"].dropna())).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_households_come_back_cell_for_cell(seed):
    survey = make_survey([1, 2, 5, 9, 3], seed, schema=SCHEMA)
    codec = Codec.fit(survey, coverage=1.0)
    rows = codec.encode(survey)
    encoding = Encoding.fit(rows, codec.columns, np.ones(len(rows)))

    back = round_trip(encoding, rows)

    pd.testing.assert_frame_equal(back, rows, rtol=1e-12)
    assert codec.acceptable(back).all()


def test_any_position_in_any_bin_is_an_allowed_value():
    """Whole numbers stay whole, amounts of whole hundreds stay so, and bounds and signs hold."""
    rng = np.random.default_rng(0)
    whole = rng.integers(-500, 500, 3000)
    hundreds = np.round(rng.lognormal(9, 1, 3000), -2)
    for values, type_ in ((whole, "integer"), (hundreds, "number")):
        encoding, _ = encoded(values, type_)
        of = encoding.of[0]
        tokens = rng.integers(0, of.n_tokens, 20_000)
        drawn = of.cells(tokens, rng.random(20_000)).values

        assert drawn.min() >= values.min()
        assert drawn.max() <= values.max()
        signs = np.sign(of.knots[tokens][:, [0, -1]])
        assert (np.sign(drawn)[:, None] == signs).all()
        if type_ == "integer":
            assert drawn.dtype == np.int64
        else:
            assert np.array_equal(np.round(drawn, -2), drawn)


def test_point_masses_have_a_token_of_their_own():
    """Zero, and the cap that 2% of the weight has; a value with 0.9% has none."""
    rng = np.random.default_rng(0)
    values = np.r_[np.zeros(100), np.full(20, 99_999.0), np.full(9, 70_000.0),
                   rng.lognormal(9, 1, 871)]  # fmt: skip
    encoding, rows = encoded(values)
    of = encoding.of[0]
    tokens, _ = encoding.tokens(rows)

    masses = of.knots[of.knots[:, 0] == of.knots[:, -1], 0]
    assert set(masses) == {0.0, 99_999.0}
    assert len(of.knots) <= MAX_BINS + 2
    assert (of.cells(tokens[:120, 0], rng.random(120)).values == values[:120]).all()


def test_a_weighted_point_mass_is_one_by_its_weight():
    """Ten of a thousand records hold 0.1%, or 1.9%, of the weight."""
    values = np.r_[np.full(10, 15.003), np.linspace(10, 20, 990)]
    for weight, is_mass in ((0.1, False), (1.9, True)):
        encoding, _ = encoded(values, weights=np.r_[np.full(10, weight), np.ones(990)])
        knots = encoding.of[0].knots
        assert (knots == 15.003).all(axis=1).any() == is_mass


def test_bins_hold_equal_weight_and_at_most_64_of_them():
    rng = np.random.default_rng(0)
    values, weights = rng.lognormal(0, 2, 20_000), rng.lognormal(0, 1, 20_000)
    encoding, rows = encoded(values, weights=weights)
    tokens, _ = encoding.tokens(rows)
    held = np.bincount(tokens[:, 0], weights) / weights.sum()

    assert len(held) == MAX_BINS
    assert_allclose(held, 1 / MAX_BINS, atol=0.002)
    assert_allclose(held, encoding.of[0].share, atol=1e-4)


def test_uniform_positions_give_the_distribution_within_bins():
    """The mean of a heavy tail is kept, which positions between the ends alone would not."""
    values = np.random.default_rng(0).pareto(2.5, 20_000) + 1
    encoding, rows = encoded(values)
    tokens, exists = encoding.tokens(rows)
    positions = np.random.default_rng(1).random(tokens.shape)
    again = encoding.rows(tokens, positions, exists, rows.index)["x"]

    assert_allclose(again.mean(), values.mean(), rtol=0.02)


def test_missing_values_have_a_token_where_the_column_has_any():
    encoding, rows = encoded([1.0, 2.0, np.nan, 0.0])
    tokens, _ = encoding.tokens(rows)
    assert tokens[2, 0] == encoding.of[0].n_tokens - 1

    complete, _ = encoded([1.0, 2.0, 0.0])
    tokens, _ = complete.tokens(rows)
    assert tokens[2, 0] == -1
    assert (tokens[[0, 1, 3], 0] >= 0).all()


def test_values_never_seen_take_the_nearest_bin_of_their_sign():
    encoding, _ = encoded(np.r_[np.linspace(-50, -40, 40), np.linspace(10, 20, 40)])
    new = pd.DataFrame({"x": [-1.0, 2.0, 1e9, -1e9]})
    tokens, _ = encoding.tokens(new)
    knots = encoding.of[0].knots[tokens[:, 0]]

    assert (np.sign(knots[:, 0]) == [-1, 1, 1, -1]).all()


def test_values_outside_their_declaration_are_refused():
    column = SlotColumn("x", "unit", 0, "x", "number", bounds=(0, None))
    with pytest.raises(InvalidSurvey, match="'x'"):
        Encoding.fit(pd.DataFrame({"x": [-1.0]}), (column,), np.ones(1))
    with pytest.raises(InvalidSurvey, match="no column 'x'"):
        Encoding.fit(pd.DataFrame({"y": [1.0]}), (column,), np.ones(1))


def test_weights_are_clipped_at_their_99th_percentile():
    """The heaviest of a thousand records has no more than the tenth heaviest or so."""
    weights = np.ones(1000)
    weights[0] = 372_747
    used = checked_weights(weights, 1000)
    assert used[0] == used[1]
    assert_allclose(used.mean(), 1)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan], [0.0, 0.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InvalidOption, match="weights"):
        checked_weights(weights, 2)


@pytest.mark.parametrize("mask", [np.ones(3), np.ones(3, bool), np.ones((1, 2), bool)])
def test_masks_of_another_shape_are_refused(mask):
    with pytest.raises(InvalidOption, match="free_mask"):
        checked_mask(mask, 5, 2)
