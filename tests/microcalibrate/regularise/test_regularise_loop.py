"""The loop: what it keeps, what it rolls back, and every way in which it can end."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.errors import ConditionNotMet, InvalidOption, InvalidProblem
from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.loop import regularise
from microcalibrate.regularise.provenance import PROVENANCE, marked, without_provenance

from ..offenders import (
    SEEDS,
    SURFACE,
    Stubborn,
    declared_targets,
    designed,
    hot_deck,
    same_tables,
    survey_with_offenders,
    with_weights,
)

OPTIONS = {"surface": SURFACE, "progress": False, "seed": 1, "max_offspring": 10}
# Tests of how rounds are run, not of whether they help: there every round that can be is kept.
LENIENT = {
    **OPTIONS,
    "max_offspring": 5,
    "limits": Limits(target_loss=1e9, held_out_loss=1e9, lineage_share=1e9),
    "n_folds": 2,
}


@pytest.fixture(scope="module")
def done():
    """A survey of which five in 600 households stand for a quarter, under the defaults."""
    return planted(0)


def planted(seed):
    survey, targets = designed("planted", seed)
    model, codec = hot_deck(survey)
    return regularise(
        survey, model, targets, codec=codec, surface=SURFACE, progress=False, seed=seed
    )


@pytest.fixture(scope="module")
def survey():
    return survey_with_offenders()


@pytest.fixture(scope="module")
def targets(survey):
    return declared_targets(survey)


@pytest.fixture(scope="module")
def deck(survey):
    return hot_deck(survey)


@pytest.fixture(scope="module")
def kept(survey, targets, deck):
    return regularise(survey, deck[0], targets, codec=deck[1], **LENIENT)


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_flagged_records_fall_by_four_fifths_and_nothing_gets_worse(done, seed):
    """Of the seeds that were fixed beforehand; all ten are in benchmarks/regularise.py."""
    found = done if seed == 0 else planted(seed)
    alone, last = found.history.iloc[0], found.history[found.history["accepted"]].iloc[-1]
    floor = found.settings["limits"]["met"] ** 2

    assert found.n_flagged[0] == 5
    assert found.n_flagged[1] <= 1
    assert found.n_flagged_elsewhere == 0
    assert alone["n_flagged_after"] == 5  # It is not recalibration that does it.
    assert last["target_loss_after"] <= max(1.02 * alone["target_loss_after"], floor)
    assert last["held_out_loss_after"] <= max(1.05 * alone["held_out_loss_after"], floor)
    assert last["lineage_share_after"] <= 1.01 * alone["lineage_share_after"]
    mass = found.units.groupby("lineage")["prior"].sum()
    assert_allclose(mass.loc[found.original_weights["id"]], base_weights(found), rtol=1e-12)
    assert found.status == "improved"
    assert found.verdict in found.summary()


def base_weights(found):
    """Base weights of the survey as it came, from those that lineages have."""
    table = found.survey.tables["household"].groupby("_mc_lineage")["base_weight"].sum()
    return table.loc[found.original_weights["id"]]


def test_weights_that_no_target_asks_for_are_recalibrated_and_nothing_is_generated():
    survey, targets = designed("drifted", 0)
    model, codec = hot_deck(survey)
    found = regularise(survey, model, targets, codec=codec, surface=SURFACE, progress=False)

    assert (found.status, found.stopped, found.n_flagged) == (
        "recalibrated",
        "none_flagged",
        (5, 0),
    )
    assert found.changed
    assert found.lineage.empty
    assert found.rounds.empty
    assert len(found.units) == 600


def test_the_final_state_is_diagnosed_with_its_own_weights(done):
    records = done.after.records.set_index("id")
    assert_allclose(records.loc[done.weights.index, "weight"], done.weights)
    assert len(records) == len(done.units)


def test_generated_records_say_where_they_come_from(survey, kept):
    units = kept.survey.tables["household"]
    is_synthetic = units["_mc_synthetic"].to_numpy()

    assert is_synthetic.sum() == len(kept.lineage) > 0
    assert set(units.loc[is_synthetic, "_mc_lineage"]) <= set(survey.unit_ids)
    assert not set(units.loc[is_synthetic, "household_id"]) & set(survey.unit_ids)
    assert (units["_mc_backend"][is_synthetic] == "hotdeck").all()
    assert units["_mc_conditioned"][is_synthetic].str.contains("area").all()
    for name, table in kept.survey.tables.items():
        is_new = kept.survey.unit_positions(name)
        assert (table["_mc_synthetic"].to_numpy() == is_synthetic[is_new]).all()


def test_prior_weights_of_a_lineage_add_up_to_the_base_weight_of_its_origin(survey, kept):
    """Mass is handed down whole: of prior and of base weights, to the last digits."""
    base = survey.base_weights
    sums = kept.units.groupby("lineage")["prior"].sum()
    assert_allclose(sums.loc[base.index], base, rtol=1e-12)
    columns = kept.survey.tables["household"].groupby("_mc_lineage")["base_weight"].sum()
    assert_allclose(columns.loc[base.index], base, rtol=1e-12)


def test_records_that_were_not_replaced_come_back_to_the_last_bit(survey, kept):
    left = kept.restored()
    gone = ~survey.unit_ids.isin(left.unit_ids)
    assert 0 < gone.sum() == kept.lineage["lineage"].nunique()
    for name, table in survey.tables.items():
        rows = ~gone[survey.unit_positions(name)]
        expected = table[rows].reset_index(drop=True)
        pd.testing.assert_frame_equal(left.tables[name], expected, check_exact=True)


def test_dropping_generated_records_restores_the_input_where_sources_were_retained(
    survey, targets, deck
):
    found = regularise(
        survey, deck[0], targets, codec=deck[1], mode="retain", max_rounds=1, **LENIENT
    )
    assert found.changed
    assert same_tables(survey, found.restored())
    sums = found.units.groupby("lineage")["prior"].sum()
    assert_allclose(sums.loc[survey.unit_ids], survey.base_weights, rtol=1e-12)


def test_a_harmful_generator_is_rolled_back_to_the_last_byte(survey, targets, deck):
    """Offspring with incomes a thousandfold: nothing of them is left, and the reason is told."""

    def harmful(rows, achieved):
        names = [n for n in rows.columns if n.endswith(".wages")]
        held = dict(zip(rows.columns, achieved.T, strict=True))
        changed = {n: rows[n].where(held[n], rows[n] * 1e5 + 1e9) for n in names}
        ages = {n: rows[n] for n in rows.columns if n.endswith(".age")}
        for name in names:
            # Only adults may earn.
            child = (ages[name.replace("wages", "age")] < 16).fillna(False).astype(bool)
            changed[name] = changed[name].where(~child, 0.0)
        return rows.assign(**changed), achieved

    model = Stubborn(deck[0], harmful)
    found = regularise(survey, model, targets, codec=deck[1], max_rounds=1, **OPTIONS)

    assert len(found.rounds)
    assert not found.rounds["accepted"].any()
    assert found.status == "rolled_back"
    assert found.rolled_back
    assert not found.changed
    assert found.rounds["reason"].str.contains("worse|rose").all()
    assert same_tables(marked(survey), found.survey)
    assert same_tables(survey, found.restored())
    pd.testing.assert_frame_equal(found.before.records, found.after.records)


def test_nothing_flagged_changes_nothing(survey, deck):
    even = with_weights(survey, np.full(150, 20.0), np.full(150, 20.0))
    found = regularise(even, deck[0], declared_targets(even), codec=deck[1], **OPTIONS)

    assert (found.status, found.stopped) == ("nothing_flagged", "none_flagged")
    assert same_tables(even, without_provenance(found.survey))
    assert found.rounds.empty
    assert found.lineage.empty
    assert set(PROVENANCE) <= set(found.survey.tables["household"].columns)


def test_no_rounds_and_no_time_still_give_a_diagnosis(survey, targets, deck):
    for options, stopped in (
        ({"max_rounds": 0}, "max_rounds"),
        ({"time_budget": 0}, "time_budget"),
    ):
        found = regularise(survey, deck[0], targets, codec=deck[1], **OPTIONS, **options)
        assert (found.status, found.stopped) == ("no_rounds", stopped)
        assert found.after.summary_figures["n_flagged"] == found.before.summary_figures["n_flagged"]


def test_a_generator_that_gives_nothing_makes_units_irreducible(survey, targets, deck):
    def nothing(rows, _achieved):
        raise ConditionNotMet("none of it", requested=len(rows), obtained=0)

    model = Stubborn(deck[0], nothing)
    found = regularise(survey, model, targets, codec=deck[1], **OPTIONS)

    assert (found.status, found.stopped) == ("rolled_back", "nothing_accepted")
    assert set(found.irreducible["id"]) == set(found.before.flagged["id"])
    assert found.irreducible["reason"].str.startswith("nothing generated").all()


def test_ctrl_c_keeps_the_rounds_that_were_done(survey, targets, deck):
    """In the second round: the first stays, the second leaves no trace."""
    calls = []

    def interrupted(rows, achieved):
        calls.append(len(rows))
        if found_rounds:
            raise KeyboardInterrupt
        return rows, achieved

    found_rounds = []
    found = regularise(
        survey, Stubborn(deck[0], interrupted), targets, codec=deck[1], batch=1,
        on_round=found_rounds.append, **LENIENT,
    )  # fmt: skip
    assert found.stopped == "cancelled"
    assert len(found.rounds) == len(found_rounds) == 1
    assert found.after.records["weight"].sum() > 0
    assert calls[-1] > 0


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(survey, targets, deck, tmp_path):
    options = {**LENIENT, "batch": 1, "codec": deck[1], "max_rounds": 3}
    whole = regularise(survey, deck[0], targets, **options)
    first = regularise(
        survey, deck[0], targets, **{**options, "max_rounds": 1}, folder=tmp_path / "run"
    )
    assert len(first.rounds) == 1 < len(whole.rounds)
    progress = (tmp_path / "run" / "progress.json").read_text()
    unfinished = progress.replace('"finished": true', '"finished": false')
    (tmp_path / "run" / "progress.json").write_text(unfinished)
    again = regularise(survey, deck[0], targets, **options, folder=tmp_path / "run", resume=True)

    assert same_tables(whole.survey, again.survey)
    for name in ("rounds", "offenders", "units", "targets"):
        one, other = getattr(whole, name), getattr(again, name)
        if name == "rounds":
            one, other = one.drop(columns="seconds"), other.drop(columns="seconds")
        pd.testing.assert_frame_equal(one, other)
    with pytest.raises(InvalidOption, match="other data"):
        regularise(
            survey, deck[0], targets, **{**options, "seed": 9}, folder=tmp_path / "run", resume=True
        )


def test_what_is_saved_loads_as_it_was(done, tmp_path):
    done.save(tmp_path / "run")
    again = type(done).load(tmp_path / "run")
    assert same_tables(done.survey, again.survey)
    assert again.summary() == done.summary()
    for name in ("rounds", "offenders", "irreducible", "targets", "lineage", "units"):
        pd.testing.assert_frame_equal(getattr(done, name), getattr(again, name))
    assert (tmp_path / "run" / "rounds.csv").exists()
    done.save(tmp_path / "csv", format="csv")
    assert (tmp_path / "csv" / "tables" / "person.csv").exists()


def matrix_of(tables):
    """A user's own model: totals of the household, computed from persons."""
    homes, people = tables["household"], tables["person"]
    incomes = people.groupby("household_id")["income"].sum()
    adults = people[people["age"] >= 18].groupby("household_id").size()
    ids = homes["household_id"]
    return pd.DataFrame(
        {
            "homes": 1.0,
            "income": ids.map(incomes).to_numpy(float),
            "adults": ids.map(adults).fillna(0).to_numpy(float),
        }
    )


def test_a_users_model_sees_generated_units_alone_and_gives_the_rows_of_a_full_rebuild(
    survey, deck
):
    seen, judged = [], []

    def counted(tables):
        assert not any(str(c).startswith("_mc_") for t in tables.values() for c in t)
        seen.append(len(tables["household"]))
        return matrix_of(tables)

    def taxes(tables):
        judged.append(len(tables["household"]))
        return {"tax": 0.2 * tables["household"]["income"].clip(lower=0)}

    wanted = matrix_of(survey.tables).T @ survey.base_weights.to_numpy()
    surface = {**SURFACE, "metrics": ["tax", *SURFACE["metrics"]]}
    found = regularise(
        survey, deck[0], wanted * [1.01, 0.98, 1.02], codec=deck[1], build_matrix=counted,
        evaluate=taxes, **{**LENIENT, "surface": surface, "n_folds": 0},
    )  # fmt: skip
    rebuilt = matrix_of(without_provenance(found.survey).tables)

    assert found.changed
    assert_allclose(found.targets["after"], rebuilt.T @ found.weights.to_numpy(), rtol=1e-9)
    assert seen[0] == len(survey.unit_ids)
    assert seen[1] < 60
    # Once for the check, and never again.
    assert sum(n >= len(survey.unit_ids) for n in seen) == 2
    # Of a round the one sees all candidates in one call, and the other the offspring in one.
    spawned = found.rounds[found.rounds["n_spawned"] > 0]
    assert [n for n in seen if n < len(survey.unit_ids)] == spawned["n_valid"].tolist()
    assert [n for n in judged if n < len(survey.unit_ids)] == spawned["n_offspring"].tolist()
    assert "tax" in set(found.after.cells["metric"])


def test_a_model_that_looks_beyond_a_household_is_refused(survey, deck):
    def ranked(tables):
        return matrix_of(tables).assign(rank=tables["household"]["income"].rank().to_numpy())

    wanted = ranked(survey.tables).T @ survey.base_weights.to_numpy()
    with pytest.raises(InvalidProblem, match="beyond a record's own household"):
        regularise(
            survey, deck[0], wanted, codec=deck[1], build_matrix=ranked, **{**LENIENT, "n_folds": 0}
        )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "move"}, "mode"),
        ({"batch": 0}, "batch"),
        ({"n_folds": 1}, "n_folds"),
        ({"n_stability_seeds": 2}, "n_stability_seeds"),
        ({"rounds": 3}, "rounds"),
        ({"resume": True}, "folder"),
        ({"geography": ["income"]}, "geography"),
        ({"tolerances": 0.1}, "build_matrix"),
    ],
)
def test_options_that_cannot_be_honoured_are_named(survey, targets, deck, options, named):
    with pytest.raises(InvalidOption, match=named):
        regularise(survey, deck[0], targets, codec=deck[1], **{**LENIENT, **options})


def test_added_records_stay_within_their_limit(survey, targets, deck):
    found = regularise(survey, deck[0], targets, codec=deck[1], max_added=6, **LENIENT)
    assert len(found.units) - len(survey.unit_ids) <= 6
    assert found.stopped in ("max_added", "none_flagged")


def test_the_price_of_synthesis_is_told_for_every_statistic(survey, targets, deck):
    found = regularise(
        survey, deck[0], targets, codec=deck[1], n_stability_seeds=5, max_rounds=1, **LENIENT
    )
    assert (found.stability["n_seeds"] == 5).all()
    assert (found.stability["sd"] > 0).any()
    assert found.is_stable == (not found.stability["fails"].any())
    thin = found.stability["is_thin"]
    assert (found.stability["fails"] == (~thin & (found.stability["relative_sd"] > 0.02))).all()
