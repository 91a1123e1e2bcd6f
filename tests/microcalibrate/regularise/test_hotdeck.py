"""The hot deck completes records with whole blocks of real ones, and says what it gave up."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcalibrate.errors import (
    ConditionNotMet,
    InvalidOption,
    InvalidSurvey,
    ModelMismatch,
    UnreadableFile,
)
from microcalibrate.regularise import Codec
from microcalibrate.regularise.generators import HotDeck, load_generator, sample_valid
from microcalibrate.regularise.slots import SlotColumn

from ..households import FLAT, SCHEMA, TWO_LEVELS, make_survey

FRACTIONS = (0.2, 0.4, 0.5, 0.6, 0.8)


def column(name, type_, levels=None, **declared):
    return SlotColumn(name, "unit", 0, name, type_, levels, **declared)


COLUMNS = (
    column("region", "category", ("north", "south")),
    column("tenure", "category", ("owned", "rented")),
    column("age", "integer"),
    column("income", "number", missing=True),
)


def table(*rows):
    found = pd.DataFrame(rows, columns=[c.name for c in COLUMNS])
    return found.astype({"age": "Int64", "income": "float64"})


def free_columns(*names):
    return np.array([c.name in names for c in COLUMNS])


def fitted(rows, weights=None, **options):
    used = np.ones(len(rows)) if weights is None else weights
    return HotDeck(**options).fit(rows, COLUMNS, used, seed=0)


def households(seed, schema=SCHEMA):
    survey = make_survey([1, 2, 2, 3, 4, 1, 2, 5, 3, 2], seed, schema=schema)
    codec = Codec.fit(survey, coverage=1.0)
    return codec, codec.encode(survey)


DONORS = table(
    ("north", "owned", 30, 100.0),
    ("north", "rented", 40, 200.0),
    ("north", "rented", 60, 300.0),
    ("south", "rented", 41, 400.0),
    ("north", "rented", 42, np.nan),
)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    schema=st.sampled_from([SCHEMA, TWO_LEVELS, FLAT]),
    fraction=st.sampled_from(FRACTIONS),
)
def test_completed_households_are_valid_and_held_cells_exact(seed, schema, fraction):
    codec, rows = households(seed, schema)
    deck = HotDeck().fit(rows, codec.columns, np.ones(len(rows)), seed=0)
    rng = np.random.default_rng(seed)
    structure = np.array([c.block == "structure" for c in codec.columns])
    order = rng.random((len(rows), len(codec.columns))).argsort(axis=1)
    free = (order >= round(fraction * len(codec.columns))) | structure
    drawn, achieved = deck.sample_conditional(rows, free, seed=1, n=2)

    assert len(drawn) == 2 * len(rows)
    assert not achieved[np.repeat(free, 2, axis=0)].any()
    assert codec.acceptable(codec.canonical(drawn.reset_index(drop=True))).all()
    again = rows.loc[drawn.index]
    for number, col in enumerate(codec.columns):
        held = achieved[:, number]
        pd.testing.assert_series_equal(drawn[col.name][held], again[col.name][held])


def test_all_free_cells_come_from_one_donor_that_agrees():
    donors = pd.concat([DONORS] * 3, ignore_index=True)
    donors["age"] += donors.index // 5
    donors["income"] += donors.index
    given = table(("north", "rented", 0, 0.0)).set_axis(["new"])
    drawn, achieved = fitted(donors).sample_conditional(
        given, free_columns("age", "income"), seed=0, n=50
    )

    pairs = set(zip(donors["age"], donors["income"].fillna(-1), strict=True))
    agree = donors[(donors["region"] == "north") & (donors["tenure"] == "rented")]
    found = set(zip(drawn["age"], drawn["income"].fillna(-1), strict=True))
    assert found <= pairs
    assert len(found) == len(agree)
    assert set(drawn["region"]) == {"north"}
    assert (achieved == ~free_columns("age", "income")).all()


def test_the_nearest_in_held_numbers_are_the_donors():
    donors = table(*[("north", "owned", age, 10.0 * age) for age in range(1, 101)])
    given = table(("north", "owned", 50, np.nan)).set_axis(["new"])
    drawn, _ = fitted(donors, n_nearest=3).sample_conditional(
        given, free_columns("income"), seed=0, n=200
    )

    assert set(drawn["income"]) == {490.0, 500.0, 510.0}
    assert (drawn["age"] == 50).all()


def test_donors_are_drawn_by_clipped_weight():
    """Ten donors of weight 3 among forty; and the heaviest counts no more than they do."""
    donors = table(*[("north", "owned", age, float(age)) for age in range(1, 41)])
    weights = np.r_[1e6, np.full(9, 3.0), np.full(30, 1.0)]
    weights[0] = 3.0
    given = table(("north", "owned", 1, 0.0)).set_axis(["new"])
    free = free_columns("age", "income")
    drawn, _ = fitted(donors, weights, n_nearest=40).sample_conditional(given, free, 0, n=6000)
    assert abs((drawn["age"] <= 10).mean() - 0.5) < 0.03
    assert abs((fitted(donors, weights).sample(6000, 0)["age"] <= 10).mean() - 0.5) < 0.03

    many = table(*[("north", "owned", age % 90, 1.0) for age in range(1000)])
    many.loc[0, "income"] = 7.0
    heavy = fitted(many, np.r_[1e9, np.ones(999)]).sample(4000, seed=0)
    assert (heavy["income"] == 7.0).mean() < 0.01


def test_a_unit_is_never_its_own_donor():
    deck = fitted(DONORS)
    drawn, _ = deck.sample_conditional(
        DONORS.iloc[[1]], free_columns("age", "income"), seed=0, n=50
    )
    assert set(drawn["age"]) == {60, 42}


def test_conditions_without_a_donor_are_given_up_in_the_stated_order():
    """South and owned has no donor: the region comes first, so the tenure is given up."""
    given = table(("south", "owned", 41, 400.0)).set_axis(["new"])
    drawn, achieved = fitted(DONORS).sample_conditional(given, free_columns("income"), seed=0)

    assert drawn["region"].iloc[0] == "south"
    assert drawn["tenure"].iloc[0] == "rented"
    assert achieved.tolist() == [[True, False, True, False]]


def test_missing_values_and_signs_are_conditions_of_their_own():
    given = table(("north", "rented", 1, np.nan), ("north", "rented", 1, -5.0))
    drawn, achieved = fitted(DONORS.set_axis(list("abcde"))).sample_conditional(
        given, free_columns("age"), seed=0
    )

    assert drawn["income"].isna().tolist()[0]
    assert drawn["age"].iloc[0] == 42
    assert achieved[:, 3].tolist() == [True, False]
    assert drawn["income"].iloc[1] != -5.0


def test_structure_without_a_donor_is_an_error_with_the_counts():
    codec, rows = households(seed=3)
    deck = HotDeck().fit(rows.iloc[:2], codec.columns, np.ones(2), seed=0)
    free = np.array([c.block != "structure" for c in codec.columns])
    with pytest.raises(ConditionNotMet, match="structure") as error:
        deck.sample_conditional(rows, free, seed=0, n=3)
    assert error.value.requested == 3 * len(rows)
    assert error.value.obtained < 3 * len(rows)

    with pytest.raises(ConditionNotMet):
        fitted(DONORS.iloc[:1]).sample_conditional(DONORS.iloc[:1], free_columns("age"), seed=0)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_what_is_free_has_no_influence(fraction):
    codec, rows = households(seed=1)
    deck = HotDeck().fit(rows, codec.columns, np.ones(len(rows)), seed=0)
    values = np.array([c.block == "values" for c in codec.columns])
    free = values & (np.random.default_rng(0).random(len(values)) >= fraction)
    changed = rows.copy()
    for number in np.flatnonzero(free):
        name = codec.columns[number].name
        if codec.columns[number].type == "number":
            changed[name] = changed[name] * 1.5

    structure_free = free | ~values
    one, _ = deck.sample_conditional(rows, structure_free, seed=2)
    other, _ = deck.sample_conditional(changed, structure_free, seed=2)
    pd.testing.assert_frame_equal(one, other)


def test_valid_draws_are_counted():
    codec, rows = households(seed=2)
    deck = HotDeck().fit(rows, codec.columns, np.ones(len(rows)), seed=0)
    drawn = sample_valid(deck, codec, rows, np.ones(len(codec.columns), bool), seed=0, n=3)

    assert len(drawn.rows) == drawn.n_drawn == drawn.n_accepted == 3 * len(rows)
    assert drawn.rows.index.tolist() == rows.index.repeat(3).tolist()


def test_the_same_seed_gives_the_same_rows_and_another_others(tmp_path):
    deck = fitted(DONORS)
    deck.save(tmp_path / "deck")
    again = load_generator(tmp_path / "deck", COLUMNS)
    again.save(tmp_path / "again")

    for name in ("model.json", "arrays.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deck" / name).read_bytes()
    assert deck.sample(50, 1).equals(again.sample(50, 1))
    assert not deck.sample(50, 1).equals(deck.sample(50, 2))
    free = free_columns("age", "income")
    given = DONORS.set_axis(list("abcde"))
    one, other = (of.sample_conditional(given, free, 5, n=9)[0] for of in (deck, again))
    assert one.equals(other)


def test_files_of_other_columns_and_pickles_are_refused(tmp_path):
    fitted(DONORS).save(tmp_path / "deck")
    with pytest.raises(ModelMismatch, match="order differs"):
        load_generator(tmp_path / "deck", COLUMNS[::-1])
    (tmp_path / "deck" / "arrays.safetensors").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UnreadableFile, match="pickle"):
        load_generator(tmp_path / "deck")


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InvalidOption, match="n_nearest"):
        HotDeck(n_nearest=0)
    with pytest.raises(InvalidOption, match="fit"):
        HotDeck().sample(1, 0)
    with pytest.raises(InvalidOption, match="labels"):
        fitted(DONORS.set_axis([0.5, 1.5, 2.5, 3.5, 4.5]))
    with pytest.raises(InvalidSurvey, match="'region'"):
        fitted(DONORS.assign(region="east"))
    with pytest.raises(InvalidOption, match="n=0"):
        fitted(DONORS).sample_conditional(DONORS, free_columns("age"), 0, n=0)
