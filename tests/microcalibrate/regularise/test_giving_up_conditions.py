"""What is given up where no record has all that a unit's offspring are to share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from microcalibrate.diagnostics import Surface
from microcalibrate.diagnostics.frame import Frame
from microcalibrate.regularise import Codec, Survey, slot_mask
from microcalibrate.regularise.conditions import FRACTIONS, CellConditions, Offender
from microcalibrate.regularise.distances import LeastDistance, ratio_of
from microcalibrate.regularise.planning import CANDIDATES_EACH, Planner
from microcalibrate.regularise.quality import Sample
from microcalibrate.regularise.quality.samples import Coded
from microcalibrate.regularise.spawn import Spawner

from ..households import SCHEMA, make_survey
from ..offenders import even_hot_deck


def lonely(n: int = 60, seed: int = 3) -> Survey:
    """Households of two and one; the first is the only one in its area."""
    survey = make_survey([2, 1] * (n // 2), seed, schema=SCHEMA)
    homes = survey.tables["household"]
    first = np.arange(len(homes)) == 0
    area = homes["area"].astype(object).where(~first, "bath").where(first, "leeds")
    region = area.map({"bath": "south", "leeds": "north"})
    homes = homes.assign(
        area=area.astype(homes["area"].dtype), region=region.astype(homes["region"].dtype)
    )
    people = survey.tables["person"]
    of_home = dict(zip(homes["household_id"], region, strict=True))
    people = people.assign(
        region=people["household_id"].map(of_home).astype(people["region"].dtype)
    )
    return Survey({**survey.tables, "household": homes, "person": people}, SCHEMA)


def offender(survey: Survey, held: set[str], place: set[str], k: int = 4) -> Offender:
    return Offender(
        unit=survey.unit_ids.tolist()[0],
        position=0,
        weight=10.0,
        prior=10.0,
        share=0.5,
        statistic="any",
        held=frozenset(held),
        holds_structure=False,
        k=k,
        only_place=frozenset(place),
    )


# --- The place ------------------------------------------------------------------------------------


def test_where_nobody_lives_there_a_record_is_drawn_elsewhere_and_put_there() -> None:
    """All of its cells but the place are those of a household of another area."""
    survey = lonely()
    deck, codec, rows = even_hot_deck(survey)
    of = offender(survey, {"area"}, {"area"})
    litter = Spawner(deck, codec, survey, "donor", 0).litters(survey, [of], 1)[0]

    assert len(litter.rows) == 4
    assert (litter.rows["area"] == rows["area"].iloc[0]).all()
    assert litter.moved.all()
    assert all("area" in text.split(";") for text in litter.held)
    made = codec.decode(litter.rows, source=survey, origins=[of.unit] * 4, weights=1.0)
    assert (made.tables["household"]["region"] == "south").all()


@pytest.mark.parametrize("borrow", [False, True])
def test_a_place_that_makes_the_worst_cell_is_never_put_over_a_record(borrow: bool) -> None:
    survey = lonely()
    deck, codec, _ = even_hot_deck(survey)
    place = set() if borrow else {"area"}
    spawner = Spawner(deck, codec, survey, "donor", 0, borrow=borrow)
    litter = spawner.litters(survey, [offender(survey, {"area"}, place)], 1)[0]

    assert litter.rows.empty
    assert litter.reason.startswith("nothing generated: 0 of")


# --- Other cells ----------------------------------------------------------------------------------


def test_other_cells_are_given_up_before_those_that_must_be_shared() -> None:
    """Step by step, and none that must be shared; the numbers per fraction stay what they were."""
    survey = make_survey([3, 2] * 20, 1, schema=SCHEMA)
    _, codec, rows = even_hot_deck(survey)
    planner = Planner(codec, rows, np.ones(len(rows)), "donor")
    of = offender(survey, {"tenure", "area"}, {"area"}, k=10)
    rng = np.random.default_rng(0)
    plans = planner.plans(0, rows.iloc[[0]], of, rng)
    each = -(-CANDIDATES_EACH * of.k // len(FRACTIONS))
    names = planner.names
    must = np.isin(names, ["tenure", "area"])

    assert [plan.fraction for plan in plans] == list(np.repeat(FRACTIONS, each))
    for first in plans:
        plan, sizes = first, []
        for _ in range(12):
            assert plan.held[must].all()
            assert plan.fraction == first.fraction
            assert not (plan.moved & (names != "area")).any()
            assert (plan.given[planner.is_structure] == first.given[planner.is_structure]).all()
            sizes.append((bool(plan.moved.any()), int(plan.held.sum())))
            plan = planner.loosened(plan, first, of, rng)
        kept = [size for moved, size in sizes if not moved]
        again = [size for moved, size in sizes if moved]
        assert kept == sorted(kept, reverse=True)
        assert kept[-1] == 2
        assert again[0] == int(first.held.sum())
        assert again[-1] == 2


def test_a_condition_that_must_hold_is_met_where_chance_put_others_before_it() -> None:
    """A hot deck meets conditions in the order of the columns, and gives up the last ones."""
    survey = make_survey([1] * 80, 6, schema=SCHEMA)
    deck, codec, rows = even_hot_deck(survey)
    last = [c.name for c in codec.columns if c.type in ("category", "boolean") and c.slot == 0][-1]
    kinds = rows[last].astype(object)
    rare = kinds.value_counts().index[-1]
    place = int(np.flatnonzero((kinds == rare).to_numpy(bool, na_value=False))[0])
    of = offender(survey, {last}, set(), k=6)
    of = Offender(**{**vars(of), "unit": rows.index[place], "position": place})
    spawner = Spawner(deck, codec, survey, "donor", 0)
    litter = spawner.candidates(survey, [of], 1)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spawner.planner, "loosened", lambda plan, *_: plan)
        without = spawner.candidates(survey, [of], 1)[0]

    assert len(litter.rows) > len(without.rows)
    assert (litter.rows[last].astype(object) == rare).all()


# --- Which cells those are ------------------------------------------------------------------------


def test_only_members_in_the_cell_are_held() -> None:
    """The ages and wages of those of the age band, and not those of the others."""
    survey = make_survey([4] * 40, 2, schema=SCHEMA)
    codec = Codec.fit(survey, coverage=1.0)
    surface = Surface.from_mapping(
        {
            "metrics": [{"name": "wages", "value": "wages", "entity": "person"}],
            "slices": [{"name": "age band", "by": "age", "entity": "person", "edges": [30, 60]}],
        }
    )
    frame = Frame(survey.tables, survey.unit, survey.ids, survey.links)
    weights = survey.weights.to_numpy()
    people = survey.tables["person"]
    home = next(
        unit
        for unit, of in people.groupby("household_id")
        if of["age"].between(30, 59).sum() == 1 and (of.query("30 <= age < 60")["wages"] > 0).any()
    )
    cells = CellConditions(survey, frame, weights, surface, codec, ("area",), [home])
    found = cells.of(home, "age band", "30–59", "wages")
    row = codec.encode(survey).loc[[home]]
    mask = slot_mask(row, codec.columns)[0]
    ages = {
        c.name: int(row[c.name].iloc[0])
        for c, on in zip(codec.columns, mask, strict=True)
        if on and c.source == "age"
    }
    slots = {name.removesuffix("age") for name, age in ages.items() if 30 <= age < 60}

    assert len(slots) == 1
    slot = slots.pop()
    assert found.held == {"area", f"{slot}age", f"{slot}wages"}
    assert found.only_place == {"area"}


# --- Distance from real records -------------------------------------------------------------------


def test_candidates_keep_their_distance_from_all_real_records_but_their_origin() -> None:
    """By brute force in the same space; without the filter some are nearer."""
    survey = make_survey([1, 2] * 40, 5, schema=SCHEMA)

    def origins(rows: pd.DataFrame) -> pd.Index[Any]:
        return pd.Index([survey.unit_ids[0]] * len(rows))

    deck, codec, rows = even_hot_deck(survey)
    distance = LeastDistance.of(rows, codec.columns, np.ones(len(rows)), 1.0)
    apart = np.sqrt(((distance.points[:, None] - distance.points[None]) ** 2).sum(2))
    np.fill_diagonal(apart, np.inf)
    assert np.isclose(distance.least, np.sort(apart.min(1))[int(0.05 * len(rows)) - 1])

    of = offender(survey, {"area"}, set(), k=12)
    free = Spawner(deck, codec, survey, "donor", 0).candidates(survey, [of], 1)[0]
    made = distance.space.points(Coded.of(Sample(free.rows), codec.columns))
    nearest = np.sqrt(((made[:, None] - distance.points[None, 1:]) ** 2).sum(2)).min(1)
    # What half of them keep, so that something is left out.
    wide = replace(distance, least=float(np.median(nearest)) + 1e-9)
    assert_array_equal(wide.is_kept(free.rows, origins(free.rows)), nearest >= wide.least)

    spawner = Spawner(deck, codec, survey, "donor", 0, distance=wide)
    kept = spawner.candidates(survey, [of], 1)[0]
    assert len(kept.rows) >= 2
    assert wide.is_kept(kept.rows, origins(kept.rows)).all()
    # A copy of its own origin is none of another; of another record it is one.
    assert not wide.is_kept(rows.iloc[[1]], origins(rows.iloc[[1]]))[0]
    assert wide.is_kept(rows.iloc[[0]], origins(rows.iloc[[0]]))[0] == (
        apart[0, 1:].min() >= wide.least
    )


def test_the_limit_is_that_of_the_report_and_none_for_what_copies_by_design() -> None:
    class Model:
        class quality:  # noqa: N801 -- stands for a report
            gates = pd.DataFrame({"metric": ["auc", "dcr_ratio"], "limit": [0.8, 0.7]})

    plain: Any = object()
    assert ratio_of(Model, "anyorder") == 0.7
    assert ratio_of(plain, "anyorder") == 0.9
    assert ratio_of(Model, "hotdeck") is None
