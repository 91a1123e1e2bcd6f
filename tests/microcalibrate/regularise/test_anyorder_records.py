"""The any-order generator knows that slots are records of one kind, and how many go together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.regularise.generators import AnyOrder
from microcalibrate.regularise.generators.encoding import Encoding
from microcalibrate.regularise.generators.layout import slot_odds
from microcalibrate.regularise.quality.gates import Gate
from microcalibrate.regularise.slots import SlotColumn


def slot(entity, number, source, type_):
    presence = None if source == "present" else f"{entity}.{number}.present"
    kind = "present" if source == "present" else "column"
    name = f"{entity}.{number}.{source}"
    return SlotColumn(name, entity, number, source, type_, kind=kind, presence=presence)


PERSONS = tuple(
    slot("person", number, source, type_)
    for number in range(3)
    for source, type_ in (("present", "boolean"), ("age", "integer"))
)


def couples(n, seed):
    """One to three persons of nearly the same age."""
    rng = np.random.default_rng(seed)
    size, age = rng.integers(1, 4, n), rng.integers(20, 80, n)
    content = {}
    for number in range(3):
        there = size > number
        ages = pd.array(age + rng.integers(-2, 3, n), dtype="Int64")
        ages[~there] = pd.NA
        content[f"person.{number}.present"] = there
        content[f"person.{number}.age"] = ages
    return pd.DataFrame(content)


@pytest.fixture(scope="module")
def model():
    rows = couples(800, seed=0)
    return AnyOrder(max_epochs=25).fit(rows, PERSONS, np.ones(len(rows)), seed=0)


def test_ages_go_together_between_slots(model):
    drawn = model.sample(1500, seed=1)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        both = drawn[[f"person.{first}.age", f"person.{second}.age"]].dropna().astype(float)
        assert both.corr("spearman").iloc[0, 1] > 0.6


def test_free_draws_have_as_many_persons_as_the_data(model):
    size = sum(model.sample(3000, seed=2)[f"person.{k}.present"].astype(int) for k in range(3))
    real = sum(couples(800, seed=0)[f"person.{k}.present"].astype(int) for k in range(3))

    shares = [np.bincount(part, minlength=4) / len(part) for part in (size, real)]
    assert_allclose(*shares, atol=0.04)


def test_one_free_cell_has_one_chance_by_either_road(model):
    """Training and drawing compute the chances apart from each other."""
    rows = couples(60, seed=3)
    for number, of in enumerate(PERSONS):
        if of.kind == "present":
            continue
        free = np.array([column.name == of.name for column in PERSONS])
        there = rows[of.presence].to_numpy()
        by_drawing = model.log_prob(rows, free)[there]
        by_training = model.column_log_prob(rows, free)[there, number]
        assert_allclose(by_drawing, by_training, atol=1e-4)


def test_odds_of_slots_are_those_of_the_records_that_agree():
    """Two groups: whoever has one has one person, whoever has two has two or three."""
    groups = [slot("group", number, "present", "boolean") for number in range(2)]
    persons = [slot("person", number, "present", "boolean") for number in range(3)]
    columns = (*groups, *persons)
    n_groups, n_persons = np.repeat([1, 2, 2], [50, 20, 30]), np.repeat([1, 2, 3], [50, 20, 30])
    filled = [n_groups > k for k in range(2)] + [n_persons > k for k in range(3)]
    rows = pd.DataFrame(dict(zip([c.name for c in columns], filled, strict=True)))
    encoding = Encoding.fit(rows, columns, np.ones(100))
    tokens, _ = encoding.tokens(rows[50:51])

    knows_groups = np.array([[True, True, False, False, False]])
    chance = 1 / (1 + np.exp(-slot_odds(encoding, tokens, knows_groups)))
    assert_allclose(chance[0, 2:], [1, 1, 0.6], atol=0.002)
    knows_nothing = np.zeros((1, 5), dtype=bool)
    chance = 1 / (1 + np.exp(-slot_odds(encoding, tokens, knows_nothing)))
    assert_allclose(chance[0], [1, 0.5, 1, 0.5, 0.3], atol=1e-6)


def test_a_gate_widens_to_real_rows_in_splits_and_against_the_holdout():
    gate = Gate("Marginal", "ks_max", "largest distance", 0.1, times_baseline=1.5)
    assert gate.limit_given(0.02, 0.05) == 0.1
    assert gate.limit_given(0.08, 0.05) == pytest.approx(0.12)
    assert gate.limit_given(0.08, 0.20) == pytest.approx(0.3)
    assert Gate("Joint", "auc", "AUC", 0.8).limit_given(0.5, 0.9) == 0.8
