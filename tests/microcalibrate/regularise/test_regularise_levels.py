"""The loop over flat tables, two and three levels, over reforms, and with a user's own model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.diagnostics import RandomScheduleReforms, diagnose
from microcalibrate.errors import InvalidProblem, ReformFailed
from microcalibrate.regularise import Codec, Survey, concatenate, violations
from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.loop import regularise
from microcalibrate.regularise.provenance import marked, without_provenance
from microcalibrate.regularise.trained import train_model

from ..households import FLAT, SCHEMA, TWO_LEVELS, make_survey
from ..offenders import (
    SURFACE,
    declared_targets,
    hot_deck,
    survey_with_offenders,
    with_weights,
)

SCHEMAS = [SCHEMA, TWO_LEVELS, FLAT]
NAMES = ["three levels", "two levels", "flat"]
# How rounds are run is looked at here, not whether they help: every round is kept.
LENIENT = {
    "limits": Limits(target_loss=1e9, held_out_loss=1e9, lineage_share=1e9),
    "n_folds": 2,
    "max_offspring": 5,
    "seed": 1,
    "progress": False,
}
HEAVY = 25


def prepared(schema: Any) -> tuple[Survey, pd.DataFrame, dict[str, Any]]:
    """Households of which one is far too heavy; totals of persons; what is reported."""
    survey = make_survey([1, 2, 3, 2] * 40, 4, schema=schema)
    units = survey.tables[survey.unit]
    weights = np.full(len(units), 100.0)
    weights[HEAVY] = 6_000.0
    columns = {name: weights for name in (schema.weight, schema.base_weight) if name}
    survey = Survey({**survey.tables, survey.unit: units.assign(**columns)}, schema)
    people, of_rows = survey.tables["person"], weights[survey.unit_positions("person")]
    rows = [
        ("persons", of_rows.sum() * 0.98, None, "age >= 0"),
        ("wages", (of_rows * people.wages).sum() * 0.95, "wages", None),
        ("elderly", (of_rows * (people.age >= 65)).sum() * 1.05, None, "age >= 65"),
    ]
    targets = pd.DataFrame(rows, columns=["name", "value", "variable", "filter"])
    metrics = [{"name": "persons", "value": "1", "entity": "person"}]
    metrics += [{"name": "age", "value": "age", "entity": "person"}]
    return survey, targets.assign(entity="person"), {"metrics": metrics, "slices": []}


# --- Levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "mode"), [("donor", "replace"), ("sampled", "replace"), ("donor", "retain")]
)
@pytest.mark.parametrize("schema", SCHEMAS, ids=NAMES)
def test_tables_of_every_kind_come_out_whole(schema: Any, structure: Any, mode: Any) -> None:
    """Totals follow from members, links lead somewhere, conditions hold, ids are fresh."""
    survey, targets, surface = prepared(schema)
    model, codec = hot_deck(survey)
    found = regularise(
        survey, model, targets, codec=codec, surface=surface, structure=structure, mode=mode,
        max_rounds=2, **LENIENT,
    )  # fmt: skip
    out = without_provenance(found.survey)

    assert found.changed
    heavy = survey.unit_ids.tolist()[HEAVY]
    assert set(found.before.flagged["id"]) == {heavy}
    assert (heavy in set(out.unit_ids)) == (mode == "retain")
    assert out.derived_differences.empty
    assert violations(out).empty
    assert codec.problems(codec.encode(out)).empty
    assert out.unit_ids.is_unique
    for name, table in out.tables.items():
        assert list(table.columns) == list(survey.tables[name].columns)
        assert (table.dtypes == survey.tables[name].dtypes).all()
        ids = table[out.ids[name]]
        fresh = ids[found.survey.tables[name]["_mc_synthetic"].to_numpy()]
        assert len(fresh)
        assert not set(fresh) & set(survey.tables[name][out.ids[name]])
    assert found.after.records["share"].max() < found.before.records["share"].max()
    assert len(out.unit_ids) == len(survey.unit_ids) + found.rounds["added"].sum()


def test_a_model_trained_on_persons_alone_goes_through() -> None:
    """Diagnose, train, regularise on one flat table, and diagnose what came out."""
    survey, targets, surface = prepared(FLAT)
    assert diagnose(survey, surface=surface, flag_dominating=True).flagged["id"].tolist() == [
        survey.unit_ids.tolist()[HEAVY]
    ]
    model = train_model(survey, "hotdeck", seed=3)
    found = regularise(
        survey, model, targets, surface=surface, allow_poor_model=True, max_rounds=2, **LENIENT
    )
    assert found.changed
    again = diagnose(found.survey, surface=surface, flag_dominating=True)
    for name in ("n_flagged", "largest_share", "largest_lineage_share"):
        assert_allclose(again.summary_figures[name], found.after.summary_figures[name])


# --- Copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_copies", [2, 7])
def test_copies_of_a_record_divide_its_share_and_leave_its_origins(n_copies: int) -> None:
    """To 1e-12: what origins carry, and how much information there is by origin."""
    survey = survey_with_offenders(100)
    heaviest = int(np.argmax(survey.weights.to_numpy()))
    unit = survey.unit_ids.tolist()[heaviest]
    codec = Codec.fit(survey, coverage=1.0)
    row = codec.encode(survey).loc[[unit] * (n_copies - 1)]
    copies = codec.decode(row, source=survey, origins=row.index, weights=1.0)
    divided = survey.tables["household"].copy()
    for name in ("weight", "base_weight"):
        divided[name] = divided[name] / np.where(np.arange(100) == heaviest, n_copies, 1)
        part = divided[name].iloc[heaviest]
        copies.tables["household"][name] = part
    first = marked(Survey({**survey.tables, "household": divided}, survey.schema))
    lineage = [unit] * (n_copies - 1)
    cloned = concatenate([first, marked(copies, lineage=lineage, round=1, backend="copies")])

    model, _ = hot_deck(survey)
    options = {**LENIENT, "surface": SURFACE, "codec": codec, "max_rounds": 0}
    one = regularise(survey, model, declared_targets(survey), **options).before
    many = regularise(cloned, model, declared_targets(survey), **options).before

    assert_allclose(
        one.records.groupby("lineage")["lineage_share"].max(),
        many.records.groupby("lineage")["lineage_share"].max(),
        rtol=1e-12,
    )
    figures = one.summary_figures["kish"], many.summary_figures["kish"]
    assert_allclose(figures[1]["lineage_n_eff"], figures[0]["lineage_n_eff"], rtol=1e-12)
    assert figures[1]["n_eff"] > figures[0]["n_eff"]
    share = many.influence[many.influence["lineage"] == unit].groupby("statistic")["share"]
    alone = one.influence[one.influence["id"] == unit].set_index("statistic")["share"]
    found = share.max()
    assert len(found)
    assert_allclose(found, alone.loc[found.index] / n_copies, rtol=1e-12)


# --- Reforms --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def even() -> Survey:
    """Households with even weights, but for one that is noticed only where few take part."""
    survey = make_survey([1, 2, 3] * 80, 6, schema=SCHEMA)
    weights = np.full(240, 20.0)
    in_bath = np.flatnonzero((survey.tables["household"]["area"] == "bath").to_numpy())
    weights[in_bath[0]] = 150.0
    return with_weights(survey, weights, weights)


def to_bath(tables: dict[str, Any]) -> dict[str, Any]:
    """A reform that gives each household of one town something."""
    homes = tables["household"]
    return {"credit": np.where(homes["area"] == "bath", 100.0, 0.0)}


CREDIT = {
    "metrics": [{"name": "credit", "value": "0"}, {"name": "persons", "value": "n_persons"}],
    "slices": [],
}


def test_a_unit_that_carries_too_much_of_a_reform_alone_is_spread(even: Survey) -> None:
    model, codec = hot_deck(even)
    found = regularise(
        even, model, declared_targets(even), codec=codec, surface=CREDIT,
        reforms={"bath": to_bath}, max_rounds=3, **LENIENT,
    )  # fmt: skip
    flagged = found.before.flagged
    assert found.before.summary_figures["n_influential"] == 0
    assert flagged["is_reform_robust"].all()
    assert len(flagged) == 1
    assert found.changed
    assert found.after.flagged.empty
    assert found.after.records["reform_max_share"].max() < flagged["reform_max_share"].max()
    first = found.offenders[found.offenders["round"] == 1]
    assert first["id"].tolist() == flagged["id"].tolist()
    assert found.offenders["statistic"].str.contains("bath").all()
    # Without the reform there is nothing to do.
    plain = regularise(even, model, declared_targets(even), codec=codec, surface=CREDIT, **LENIENT)
    assert plain.status == "nothing_flagged"


def test_reforms_that_are_drawn_are_the_same_in_every_round(even: Survey) -> None:
    """As brackets and rates say; the figures of all of them are in the diagnoses."""
    drawn: list[str] = []

    class Space:
        """Random schedules, written down as they are drawn."""

        inner = RandomScheduleReforms("income", low=2e4, high=2e5, entity="household")
        metrics = inner.metrics

        def draw(self, rng: np.random.Generator) -> Any:
            reform = self.inner.draw(rng)
            drawn.append(reform.name)
            return reform

    model, codec = hot_deck(even)
    found = regularise(
        even, model, declared_targets(even), codec=codec, surface=CREDIT, reforms=Space(),
        n_reforms=4, threshold=0.03, max_rounds=2, **LENIENT,
    )  # fmt: skip
    assert found.changed
    assert len(set(drawn[:4])) == 4
    assert drawn == drawn[:4] * (len(drawn) // 4)
    assert len(drawn) >= 4 * (1 + len(found.rounds))
    assert (found.before.reforms["status"] == "ok").all()
    assert found.before.reforms["reform"].tolist() == found.after.reforms["reform"].tolist()
    flagged = found.offenders["statistic"]
    assert flagged.str.contains("gain").any()
    assert found.settings["n_reforms"] == 4
    assert found.settings["has_reforms"]


def test_a_reform_that_fails_stops_the_run_or_is_told(even: Survey) -> None:
    """Also where it fails only once there are generated households."""

    def broken(_tables: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("no such household")

    def choosy(tables: dict[str, Any]) -> dict[str, Any]:
        if len(tables["household"]) > 240:
            raise ZeroDivisionError("too many households")
        return to_bath(tables)

    model, codec = hot_deck(even)
    options = {**LENIENT, "codec": codec, "surface": CREDIT, "max_rounds": 1}
    targets = declared_targets(even)
    for reform, message in ((broken, "no such household"), (choosy, "too many households")):
        reforms = {"bath": to_bath, "bad": reform}
        with pytest.raises(ReformFailed, match=message):
            regularise(even, model, targets, reforms=reforms, **options)
        found = regularise(even, model, targets, reforms=reforms, on_error="record", **options)
        assert found.changed
        bad = found.after.reforms.set_index("reform").loc["bad"]
        assert bad["status"] == "failed"
        assert message in bad["message"]
        assert found.after.reforms.set_index("reform").loc["bath", "status"] == "ok"


# --- A user's own model ---------------------------------------------------------------------------


def test_a_model_whose_results_depend_on_other_households_is_refused() -> None:
    """In columns for the surface too, of the unit as of members."""
    survey, targets, surface = prepared(TWO_LEVELS)
    model, codec = hot_deck(survey)

    def alone(tables: dict[str, Any]) -> dict[str, Any]:
        return {f"{name}.tax": table["income"] * 0.3 for name, table in tables.items()}

    def ranked(tables: dict[str, Any]) -> dict[str, Any]:
        return {**alone(tables), "rank": tables["household"]["income"].rank()}

    def compared(tables: dict[str, Any]) -> dict[str, Any]:
        income = tables["person"]["income"]
        return {**alone(tables), "person.gap": income - income.mean()}

    options = {**LENIENT, "codec": codec, "surface": surface, "max_rounds": 1}
    assert regularise(survey, model, targets, evaluate=alone, **options).changed
    for evaluate, name in ((ranked, "rank"), (compared, "gap")):
        with pytest.raises(InvalidProblem, match=rf"'{name}'.*beyond a record's own household"):
            regularise(survey, model, targets, evaluate=evaluate, **options)
