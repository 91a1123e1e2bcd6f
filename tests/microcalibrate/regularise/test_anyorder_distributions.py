"""The any-order generator draws from the right conditional distributions, whatever is given."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp

from microcalibrate.regularise.generators import AnyOrder
from microcalibrate.regularise.slots import SlotColumn

from .planted import FRACTIONS, GROUP, LETTERS, SHARES, column, free_columns, planted


def test_a_planted_function_holds_in_both_directions(planted_model):
    """Given the letter, the group is certain; given the group, the letters have their shares."""
    given = planted(1500, seed=5)

    drawn, _ = planted_model.sample_conditional(given, free_columns("group"), seed=2)
    assert (drawn["group"] == given["letter"].map(GROUP)).mean() > 0.99

    drawn, _ = planted_model.sample_conditional(given, free_columns("letter"), seed=3)
    assert (drawn["letter"].map(GROUP) == given["group"]).mean() > 0.99
    held = drawn["letter"].value_counts(normalize=True, sort=False).loc[list(LETTERS)]
    expected = given["letter"].value_counts(normalize=True, sort=False).loc[list(LETTERS)]
    assert_allclose(held, expected, atol=0.04)


def test_free_draws_have_the_marginals_and_pairs_of_the_data(planted_model):
    drawn, truth = planted_model.sample(3000, seed=4), planted(1500, seed=0)
    assert_allclose(drawn["letter"].value_counts(normalize=True, sort=False), SHARES, atol=0.035)
    assert (drawn["letter"].map(GROUP) == drawn["group"]).mean() > 0.98
    assert abs(drawn["high"].isna().mean() - 0.1) < 0.02
    assert abs((drawn["income"] == 0).mean() - 0.3) < 0.04
    assert ks_2samp(drawn["income"], truth["income"]).statistic < 0.05
    known = drawn["high"].notna()
    agree = (drawn["income"] > 20_000)[known] == drawn["high"][known].astype(bool)
    assert agree.mean() > 0.95


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_held_out_cells_are_likelier_than_under_independence(planted_model, fraction):
    rows = planted(1500, seed=7)
    free = np.random.default_rng(0).random((len(rows), 4)) >= fraction
    conditional, marginal = (
        planted_model.column_log_prob(rows, free),
        planted_model.marginal_log_prob(rows),
    )
    gain = np.where(free, conditional - marginal, np.nan)

    assert np.nanmean(gain) > 0.05
    assert (np.nanmean(gain, axis=0) > 0).all()


def test_chances_sum_to_one_whatever_is_given():
    """Over every value of every set of free columns, with a missing value as one of them."""
    columns = (
        column("a", "category", (1, 2, 3)),
        column("b", "boolean", missing=True),
        column("c", "category", ("x", "y")),
    )
    space = pd.DataFrame(
        list(itertools.product((1, 2, 3), (True, False, None), "xy")), columns=list("abc")
    )
    rng = np.random.default_rng(0)
    rows = space.iloc[rng.choice(18, 300, p=rng.dirichlet(np.ones(18)))].reset_index(drop=True)
    model = AnyOrder(max_epochs=8).fit(rows, columns, np.ones(300), seed=0)

    for free in itertools.product((False, True), repeat=3):
        chance = np.exp(model.log_prob(space, np.array(free), seed=3))
        held = [
            space[name].astype(str)
            for name, is_free in zip("abc", free, strict=True)
            if not is_free
        ]
        sums = pd.Series(chance).groupby(held).sum() if held else chance.sum()
        assert_allclose(sums, 1, rtol=1e-6)


def test_chances_of_households_sum_to_one_over_those_that_can_be():
    """Slots without gaps, nothing in empty slots, and links to slots that are filled."""
    columns = []
    for entity, n_slots in (("unit", 2), ("person", 2)):
        for slot in range(n_slots):
            present = f"{entity}.{slot}.present"
            columns.append(SlotColumn(present, entity, slot, "present", "boolean", kind="present",
                                      block="structure"))  # fmt: skip
            if entity == "person":
                columns.append(SlotColumn(f"person.{slot}.unit_id", "person", slot, "unit_id",
                                          "category", (0, 1), kind="link", block="structure",
                                          presence=present, to="unit"))  # fmt: skip
    space = []
    for units, persons in itertools.product(range(3), range(3)):
        for links in itertools.product(range(units), repeat=persons):
            row = {f"unit.{slot}.present": slot < units for slot in range(2)}
            for slot in range(2):
                row[f"person.{slot}.present"] = slot < persons
                row[f"person.{slot}.unit_id"] = links[slot] if slot < persons else None
            space.append(row)
    table = pd.DataFrame(space)
    rng = np.random.default_rng(0)
    filled = table[table["unit.0.present"]]
    rows = filled.iloc[rng.choice(len(filled), 300)].reset_index(drop=True)
    model = AnyOrder(max_epochs=6).fit(rows, columns, np.ones(300), seed=0)

    everything = np.ones(len(columns), dtype=bool)
    chance = np.exp(model.log_prob(filled, everything))
    assert_allclose(chance.sum(), 1, rtol=1e-6)
    # The first unit was there in every household, so there is none without.
    none = table[~table["unit.0.present"] & ~table["person.0.present"]]
    assert (model.log_prob(none, everything) == -np.inf).all()

    for name in ("person.0.unit_id", "person.1.unit_id"):
        free = np.array([c.name == name for c in columns])
        slot = name.split(".")[1]
        there = filled[filled[f"person.{slot}.present"]]
        chance = pd.Series(np.exp(model.log_prob(there, free)), index=there.index)
        groups = [there[c.name].astype(str) for c in columns if c.name != name]
        assert_allclose(chance.groupby(groups).sum(), 1, rtol=1e-6)
