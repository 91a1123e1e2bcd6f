"""What an any-order draw is given is kept to the last bit, and what is free tells it nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from microcalibrate.errors import ConditionNotMet
from microcalibrate.regularise import Codec
from microcalibrate.regularise.generators import AnyOrder, sample_valid
from microcalibrate.regularise.slots import slot_mask

from ..households import SCHEMA, make_survey
from .planted import FRACTIONS, free_columns, planted


@pytest.fixture(scope="module")
def households():
    """Random households, their codec and slot rows, and a model of them."""
    sizes = np.random.default_rng(0).integers(1, 4, 150).tolist()
    survey = make_survey(sizes, seed=0, schema=SCHEMA)
    codec = Codec.fit(survey, coverage=1.0)
    rows = codec.encode(survey)
    weights = survey.base_weights.loc[rows.index].to_numpy()
    return codec, rows, AnyOrder(max_epochs=15).fit(rows, codec.columns, weights, seed=1)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_held_cells_are_kept_exactly_at_every_fraction(households, fraction):
    """Also missing values, empty slots, and amounts to the last bit; counts are exact."""
    codec, rows, model = households
    n_columns = len(codec.columns)
    order = np.random.default_rng(1).random((len(rows), n_columns)).argsort(axis=1)
    free = order >= round(fraction * n_columns)
    drawn, achieved = model.sample_conditional(rows, free, seed=2, n=3)

    assert len(drawn) == 3 * len(rows)
    assert list(drawn.index) == list(np.repeat(rows.index, 3))
    assert np.array_equal(achieved, ~np.repeat(free, 3, axis=0))
    again = rows.loc[drawn.index]
    for number, col in enumerate(codec.columns):
        assert drawn[col.name].dtype == rows[col.name].dtype
        held = achieved[:, number]
        pd.testing.assert_series_equal(
            drawn[col.name][held], again[col.name][held], check_exact=True
        )


def test_draws_are_households_with_slots_in_order(households):
    codec, rows, model = households
    free = np.random.default_rng(1).random((len(rows), len(codec.columns))) < 0.6
    for drawn in (model.sample(400, seed=0), model.sample_conditional(rows, free, seed=1)[0]):
        problems = set(codec.problems(drawn)["problem"])
        assert problems <= {"a benefit_unit without a person"}
        for entity, n_slots in codec.n_slots.items():
            filled = np.column_stack([drawn[f"{entity}.{k}.present"] for k in range(n_slots)])
            assert (filled[:, 1:] <= filled[:, :-1]).all()


def test_whoever_holds_a_cell_of_a_slot_holds_the_slot(households):
    """Only the age of the second person is given: so it is known whether there are two."""
    codec, rows, model = households
    free = np.array([c.name != "person.1.age" for c in codec.columns])
    drawn, _ = model.sample_conditional(rows, free, seed=0)

    assert drawn["person.1.present"].equals(rows["person.1.present"])
    assert drawn["person.0.present"][rows["person.1.present"]].all()
    assert drawn["person.1.age"].equals(rows["person.1.age"])


def test_what_is_free_has_no_influence(households):
    """Other values in the free cells of the given rows change no draw."""
    codec, rows, model = households
    rng = np.random.default_rng(3)
    structure = np.array([c.block == "structure" for c in codec.columns])
    free = ~structure & (rng.random(len(codec.columns)) < 0.7)
    order = rng.permutation(len(rows))
    changed = rows.copy()
    exists = slot_mask(rows, codec.columns)
    for number in np.flatnonzero(free):
        name = codec.columns[number].name
        there = np.flatnonzero(exists[:, number])
        values = rows[name].iloc[there[np.argsort(order[there])]]
        changed.iloc[there, changed.columns.get_loc(name)] = values.to_numpy()
    assert not changed.equals(rows)

    one, _ = model.sample_conditional(rows, free, seed=4)
    other, _ = model.sample_conditional(changed, free, seed=4)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_missing_value_that_cannot_be_is_held_and_tells_nothing(planted_model):
    given = planted(50, seed=8)
    given.loc[:, "income"] = np.nan
    drawn, _ = planted_model.sample_conditional(given, free_columns("letter", "group"), seed=0)

    assert drawn["income"].isna().all()
    assert drawn["letter"].notna().all()
    assert (planted_model.log_prob(given, free_columns("income")) == -np.inf).all()


def test_valid_draws_hold_their_cells_in_canonical_order(households):
    """Wages are held and ages are drawn: where the order of two persons turns, it is no draw."""
    codec, rows, model = households
    free = np.array([c.block != "structure" and c.source != "wages" for c in codec.columns])
    drawn = sample_valid(model, codec, rows.head(20), free, seed=0, n=4)

    assert len(drawn.rows) == 80
    assert codec.acceptable(drawn.rows).all()
    assert codec.canonical(drawn.rows).equals(drawn.rows)
    again = rows.loc[drawn.rows.index]
    for number, col in enumerate(codec.columns):
        held = drawn.achieved_mask[:, number]
        assert drawn.rows[col.name][held].equals(again[col.name][held])
    assert drawn.n_drawn >= drawn.n_accepted >= 80


def test_draws_that_are_refused_are_counted_and_never_replaced(households):
    codec, rows, model = households
    free = np.array([c.block != "structure" for c in codec.columns])
    first = rows.index[0]

    def accept(drawn):
        """All draws of the first round are refused."""
        accept.calls += 1
        return np.full(len(drawn), accept.calls > 1)

    accept.calls = 0
    with pytest.raises(ConditionNotMet, match=r"of 12 records could be drawn") as error:
        sample_valid(
            model, codec, rows.head(3), free, 0, n=4, max_rounds=2,
            accept=lambda drawn: np.zeros(len(drawn), dtype=bool),
        )  # fmt: skip
    assert (error.value.requested, error.value.obtained) == (12, 0)
    assert f"row {first} has 0 of 4" in str(error.value)

    drawn = sample_valid(model, codec, rows.head(3), free, 0, n=4, accept=accept)
    assert len(drawn.rows) == 12
    assert drawn.n_drawn >= 24
    assert accept.calls > 1
