"""Offspring: what they share with their source, what they must not know of it, what they weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.regularise import Codec, Survey, concatenate, planning, slot_mask, violations
from microcalibrate.regularise.conditions import FRACTIONS, Offender
from microcalibrate.regularise.generators import HotDeck
from microcalibrate.regularise.litters import Litter
from microcalibrate.regularise.planning import CANDIDATES_EACH
from microcalibrate.regularise.slots import records_of, slots_of
from microcalibrate.regularise.spawn import Spawner

from ..households import AREAS, FLAT, SCHEMA, TENURES, TWO_LEVELS, make_survey
from ..offenders import even_hot_deck

SCHEMAS = [SCHEMA, TWO_LEVELS, FLAT]
NAMES = ["three levels", "two levels", "flat"]
STRUCTURES = ["donor", "sampled"]
# Without shrinking: a failure names its sizes and seed already.
EXAMPLES = settings(
    max_examples=4, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)
SIZES = st.lists(st.integers(1, 3), min_size=15, max_size=20)
each_schema = pytest.mark.parametrize("schema", SCHEMAS, ids=NAMES)
each_structure = pytest.mark.parametrize("structure", STRUCTURES)


class Asked(Exception):
    """A generator was asked, and that was enough."""


class Recorder:
    """A generator that remembers what it was asked for, and gives what another one does."""

    name = "recorder"

    def __init__(self, inner: Any, *, answers: bool = True) -> None:
        self.inner, self.columns, self.answers = inner, inner.columns, answers
        self.asked: list[tuple[pd.DataFrame, Any]] = []

    def sample_conditional(self, given: Any, free_mask: Any, seed: int, n: int = 1) -> Any:
        """Rows, or only `Asked`."""
        self.asked.append((given.copy(), np.array(free_mask)))
        if not self.answers:
            raise Asked
        return self.inner.sample_conditional(given, free_mask, seed, n)


class Patchwork:
    """A generator that keeps every condition: cells of a donor with those given put over them."""

    name = "patchwork"

    def __init__(self, inner: HotDeck) -> None:
        self.inner, self.columns = inner, inner.columns
        self.is_structure = np.array([column.block == "structure" for column in inner.columns])

    def sample_conditional(self, given: Any, free_mask: Any, seed: int, n: int = 1) -> Any:
        """Rows of a donor that has the structure that is held."""
        free = np.asarray(free_mask)
        rows, _ = self.inner.sample_conditional(given, free | ~self.is_structure, seed, n)
        rows, source = rows.reset_index(drop=True), np.repeat(np.arange(len(given)), n)
        own = given.iloc[source].reset_index(drop=True)
        patched = slot_mask(rows, self.columns) & self.patched(free)[source] & ~self.is_structure
        for place, name in enumerate(rows.columns):
            rows[name] = rows[name].where(~patched[:, place], own[name])
        return rows.set_axis(given.index[source], axis=0), ~free[source]

    def patched(self, free: Any) -> Any:
        """Which cells are taken from the given row."""
        return ~free


class Leaking(Patchwork):
    """A wrong one, which also copies amounts that it should draw."""

    def patched(self, free: Any) -> Any:
        """The free amounts among them."""
        amounts = [c.source in ("wages", "business", "rent", "hours") for c in self.columns]
        return ~free | np.array(amounts)


def offender(survey: Survey, position: int, k: int, held: set[str] | None = None) -> Offender:
    """A unit that is to be spread."""
    first = "area" if survey.unit == "household" else "age"
    return Offender(
        unit=survey.unit_ids.tolist()[position],
        position=position,
        weight=10.0,
        prior=10.0,
        share=0.5,
        statistic="any",
        held=frozenset({first} if held is None else held),
        holds_structure=False,
        k=k,
    )


def values_of(rows: pd.DataFrame) -> Any:
    """Cells as they are, None where there is no value."""
    plain = rows.astype(object)
    return plain.where(plain.notna(), None).to_numpy()


def value_cells(codec: Codec, rows: pd.DataFrame) -> Any:
    """True for the cells that exist and are no structure."""
    values = np.array([column.block == "values" for column in codec.columns])
    return slot_mask(rows, codec.columns) & values


# --- What is shared -------------------------------------------------------------------------------


@each_structure
@each_schema
@EXAMPLES
@given(sizes=SIZES, seed=st.integers(0, 99), text_ids=st.booleans())
def test_a_generator_is_asked_for_each_fraction_equally_often(
    schema: Any, structure: Any, sizes: list[int], seed: int, text_ids: bool
) -> None:
    """To within one column of the fraction, or all that must be shared where that is more.

    What is held is the source's, in its place; and a structure that is given comes whole from a
    real household.
    """
    survey = make_survey(sizes, seed, text_ids=text_ids, schema=schema)
    deck, codec, rows = even_hot_deck(survey)
    model = Recorder(deck, answers=False)
    offenders = [offender(survey, 0, 4), offender(survey, 3, 7)]
    with pytest.raises(Asked):
        Spawner(model, codec, survey, structure, seed).litters(survey, offenders, 1)

    asked, free = model.asked[0]
    names = [column.name for column in codec.columns]
    is_structure = np.array([column.block == "structure" for column in codec.columns])
    real = {tuple(row[is_structure]) for row in values_of(rows)}
    start = 0
    for of in offenders:
        each = -(-CANDIDATES_EACH * of.k // len(FRACTIONS))
        assert each * len(FRACTIONS) >= CANDIDATES_EACH * of.k
        own = values_of(rows.loc[[of.unit]])[0]
        for number in range(each * len(FRACTIONS)):
            place = start + number
            row, fixed = asked.iloc[[place]], ~free[place]
            cells = value_cells(codec, row)[0]
            held = cells & fixed
            must = np.isin(names, list(of.held)) & cells
            wanted = FRACTIONS[number // each] * cells.sum()
            assert row.index[0] == of.unit
            assert held[must].all()
            assert abs(held.sum() - wanted) <= 1 or held.sum() == must.sum() > wanted
            assert_array_equal(values_of(row)[0][held], own[held])
            if fixed[is_structure].all():
                assert tuple(values_of(row)[0][is_structure]) in real
            else:
                assert structure == "sampled"
        start += each * len(FRACTIONS)
    assert start == len(asked)


@each_structure
@each_schema
@pytest.mark.parametrize("kind", [HotDeck, Patchwork])
def test_offspring_share_what_they_say_and_are_households(
    kind: Any, schema: Any, structure: Any
) -> None:
    """By cells: each named one is the source's, and the share is that of the named ones."""
    survey = make_survey([1, 2, 3, 3, 1, 3] * 25, 7, schema=schema)
    deck, codec, rows = even_hot_deck(survey)
    model = deck if kind is HotDeck else Patchwork(deck)
    offenders = [offender(survey, position, k) for position, k in ((0, 3), (9, 6), (5, 10))]
    litters = Spawner(model, codec, survey, structure, 0).litters(survey, offenders, 1)

    names = np.array([column.name for column in codec.columns])
    is_structure = np.array([column.block == "structure" for column in codec.columns])
    kinds = set()
    for litter in litters:
        of = litter.offender
        own = values_of(rows.loc[[of.unit]])[0]
        made, cells = values_of(litter.rows), value_cells(codec, litter.rows)
        assert not litter.reason
        assert 2 <= len(made) <= of.k
        for row, texts in enumerate(litter.held):
            shared = texts.split(";")
            kinds.add("structure" in shared)
            if "structure" in shared:
                assert_array_equal(made[row][is_structure], own[is_structure])
            held = np.isin(names, shared)
            assert_array_equal(made[row][held], own[held])
            assert of.held <= set(shared)
            n_values = (held & cells[row]).sum()
            assert_allclose(litter.achieved[row], n_values / cells[row].sum())
            if kind is Patchwork and (structure == "donor" or "structure" in shared):
                wanted = litter.fractions[row] * cells[row].sum()
                assert abs(n_values - wanted) <= 1 or n_values == len(of.held) > wanted
        assert codec.acceptable(litter.rows).all()
        assert len({tuple(row) for row in [own, *made]}) == len(made) + 1
        if of.k >= len(FRACTIONS) and kind is Patchwork:
            assert set(litter.fractions) == set(FRACTIONS)
        decoded = codec.decode(
            litter.rows, source=survey, origins=[of.unit] * len(made), weights=1.0
        )
        assert violations(decoded).empty
        assert litter.n_valid <= litter.n_candidates
    # Both kinds of offspring occur: those with the structure of their source, and others.
    assert kinds == {True, False} or schema is FLAT


def test_no_two_offspring_are_alike_nor_like_their_source() -> None:
    """Where a hot deck has but one donor to offer, there are fewer of them."""
    survey = make_survey([1] * 30, 4, schema=FLAT)
    _, codec, rows = even_hot_deck(survey)
    deck = HotDeck(n_nearest=1).fit(rows, codec.columns, np.ones(30), seed=0)
    litter = Spawner(deck, codec, survey, "donor", 0).litters(survey, [offender(survey, 0, 50)], 1)
    made = {tuple(row) for row in values_of(litter[0].rows)}

    assert 2 <= len(made) == len(litter[0].rows) < 50
    assert tuple(values_of(rows.iloc[[0]])[0]) not in made
    assert len(made) == litter[0].n_valid


def test_a_condition_that_must_hold_and_cannot_gives_no_offspring() -> None:
    """A hot deck gives up what no donor has; a record that lost such a cell is none to keep."""
    survey = make_survey([2, 1] * 20, 3, schema=SCHEMA)
    unit = survey.unit_ids[0]
    homes = survey.tables["household"]
    alone = homes["household_id"] == unit
    area = homes["area"].astype(object).where(~alone, "bath").where(alone, "leeds")
    tables = {**survey.tables, "household": homes.assign(area=area.astype(homes["area"].dtype))}
    lonely = Survey(tables, survey.schema)
    deck, codec, _ = even_hot_deck(lonely)
    litter = Spawner(deck, codec, lonely, "donor", 0).litters(lonely, [offender(lonely, 0, 4)], 1)

    assert litter[0].rows.empty
    assert litter[0].reason.startswith("nothing generated: 0 of")
    # Where it need not hold, there are some.
    free = [offender(lonely, 0, 4, held=set())]
    assert len(Spawner(deck, codec, lonely, "donor", 0).litters(lonely, free, 1)[0].rows) == 4


# --- What must not be known -----------------------------------------------------------------------


def with_other_cells(survey: Survey, codec: Codec, position: int, names: set[str]) -> Survey:
    """The survey with other values in some slots of one unit; roles and ages stay."""

    def other(source: str, value: Any) -> Any:
        missing = pd.isna(value)
        if source == "tenure":
            return TENURES[(TENURES.index(value) + 1) % 3]
        if source == "area":
            return list(AREAS)[(list(AREAS).index(value) + 1) % 4]
        if source in ("claims", "is_disabled"):
            return True if missing else not value
        if source == "health":
            return 2 if missing else int(value) % 3 + 1
        if source == "hours":
            return 40 if missing else (int(value) + 41) % 99
        return value + 777.0 if source != "business" else value - 7_777.0

    slots = slots_of(records_of(survey)[1], survey.schema)
    tables = {name: table.copy() for name, table in survey.tables.items()}
    for column in codec.columns:
        if column.name not in names or column.source == "age":
            continue
        rows = np.flatnonzero(survey.unit_positions(column.entity) == position)
        if column.entity != survey.unit:
            rows = rows[slots[column.entity][rows] == column.slot]
        stored = tables[column.entity][column.source].astype(object)
        for row in rows:
            stored.iloc[row] = other(column.source, stored.iloc[row])
        dtype = survey.tables[column.entity][column.source].dtype
        tables[column.entity][column.source] = stored.astype(dtype)
    return Survey(tables, survey.schema)


def leaks_nothing(kind: Any, survey: Survey, structure: Any, seed: int) -> int:
    """Other values in all cells that no candidate shares; how many those were."""
    deck, codec, rows = even_hot_deck(survey)
    model = Recorder(kind(deck))
    sizes = np.bincount(survey.unit_positions(survey.schema.entities[-1].name))
    position = int(np.argmax(sizes))
    spread = [offender(survey, position, 2, held=set())]
    spawner = Spawner(model, codec, survey, structure, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "FRACTIONS", (0.2,))
        first = spawner.litters(survey, spread, 1)[0]
        asked, free = model.asked[0]
        own = value_cells(codec, rows.loc[[spread[0].unit]])[0]
        untouched = own & ~(~free & value_cells(codec, asked)).any(axis=0)
        names = {column.name for column, on in zip(codec.columns, untouched, strict=True) if on}
        changed = with_other_cells(survey, codec, position, names)
        differs = values_of(codec.encode(changed)) != values_of(rows)
        # Where another order of the slots follows, other cells were changed too.
        if not differs.any() or differs[:, ~untouched].any():
            return 0
        second = spawner.litters(changed, spread, 1)[0]
    for name in ("rows", "fractions", "held", "achieved", "n_valid"):
        one, other = getattr(first, name), getattr(second, name)
        if name == "rows":
            assert_array_equal(values_of(one), values_of(other))
        else:
            assert_array_equal(one, other)
    return int(differs.sum()) * len(first.rows)


@each_structure
@each_schema
@EXAMPLES
@given(sizes=SIZES, seed=st.integers(0, 99), text_ids=st.booleans())
def test_cells_that_are_not_shared_have_no_influence(
    schema: Any, structure: Any, sizes: list[int], seed: int, text_ids: bool
) -> None:
    """Neither on what is drawn nor on what is chosen."""
    survey = make_survey(sizes, seed, text_ids=text_ids, schema=schema)
    leaks_nothing(Patchwork, survey, structure, seed)


def test_a_generator_that_looks_at_free_cells_is_noticed() -> None:
    survey = make_survey([3, 2, 1, 2] * 10, 1, schema=SCHEMA)
    assert leaks_nothing(Patchwork, survey, "donor", 0) > 0
    with pytest.raises(AssertionError):
        leaks_nothing(Leaking, survey, "donor", 0)


# --- Alone as in company --------------------------------------------------------------------------


def taxed(survey: Survey) -> dict[str, Any]:
    """A user's calculator, which follows links by their ids; a result for each table."""
    people, homes = survey.tables["person"], survey.tables["household"]
    found = {}
    income = people["income"].clip(lower=0)
    if "benefit_unit" in survey.tables:
        units = survey.tables["benefit_unit"]
        means = income.groupby(people["benefit_unit_id"]).sum()
        found["benefit_unit"] = units["benefit_unit_id"].map(means).to_numpy(float) * 0.1
        partner = pd.Series(income.to_numpy(), index=people["person_id"].to_numpy())
        of_partner = people["partner_id"].map(partner).fillna(0).to_numpy(float)
        found["person"] = np.maximum(income.to_numpy() - of_partner, 0)
    total = income.groupby(people["household_id"]).sum()
    found["household"] = homes["household_id"].map(total).to_numpy(float) - homes["rent"]
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


@pytest.mark.parametrize("schema", [SCHEMA, TWO_LEVELS], ids=NAMES[:2])
@EXAMPLES
@given(sizes=SIZES, seed=st.integers(0, 99), text_ids=st.booleans())
def test_a_calculator_gives_offspring_alone_what_it_gives_them_among_all(
    schema: Any, sizes: list[int], seed: int, text_ids: bool
) -> None:
    """No household bleeds into another, nor one generation into the next."""
    survey = make_survey(sizes, seed, text_ids=text_ids, schema=schema)
    deck, codec, _ = even_hot_deck(survey)
    whole, parts = survey, []
    for number in (1, 2):
        rows, origins = deck.sample(6, seed + number), survey.unit_ids.tolist()[:6]
        parts.append(codec.decode(rows, source=whole, origins=origins, weights=1.0, round=number))
        whole = concatenate([whole, parts[-1]])
    together = taxed(whole)
    alone = [taxed(part) for part in [survey, *parts]]
    for name, values in together.items():
        assert_allclose(values, np.concatenate([of[name] for of in alone]), rtol=1e-12, atol=1e-9)


# --- Seeds ----------------------------------------------------------------------------------------


def test_seed_and_round_decide_what_is_drawn_and_nothing_else_does() -> None:
    survey = make_survey([2, 1, 3] * 20, 2, schema=TWO_LEVELS)
    deck, codec, _ = even_hot_deck(survey)
    of = [offender(survey, 1, 3)]

    def drawn(seed: int, number: int) -> Litter:
        return Spawner(deck, codec, survey, "donor", seed).litters(survey, of, number)[0]

    first = values_of(drawn(1, 1).rows)
    assert_array_equal(first, values_of(drawn(1, 1).rows))
    again = Spawner(deck, codec, survey, "donor", 8).with_seed(1).litters(survey, of, 1)[0]
    assert_array_equal(first, values_of(again.rows))
    for other in (drawn(2, 1), drawn(1, 2)):
        assert other.rows.shape != first.shape or (values_of(other.rows) != first).any()
