"""The shipped households of the Current Population Survey: what their documentation says."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate.datasets import load_cps_households
from microcalibrate.regularise import Codec, Survey, violations


@pytest.fixture(scope="module")
def survey() -> Survey:
    return load_cps_households()


def test_the_sample_stands_for_the_whole_file(survey: Survey) -> None:
    """Totals of the 200,576 households of the file, computed from it before the draw."""
    households = survey.tables["household"]
    weight = households["weight"]

    assert_allclose(weight.sum(), 154_090_888, rtol=0.01)
    assert_allclose(weight @ households["n_persons"], 385_414_667, rtol=0.01)
    assert_allclose(weight @ households["income"], 14_973_949_695_801, rtol=0.015)


def test_rules_and_constraints_hold_in_every_record(survey: Survey) -> None:
    assert survey.derived_differences.empty
    assert len(survey.schema.constraints) == 6
    assert violations(survey).empty


def test_only_dependents_have_imputed_ages(survey: Survey) -> None:
    persons = survey.tables["person"]

    assert (persons["is_age_imputed"] == (persons["role"] == "dependent")).all()
    # Ages of heads and spouses heap at the highest code, 85, as in the survey itself.
    real = persons.loc[~persons["is_age_imputed"], "age"]
    assert (real == 85).sum() > 2 * (real == 84).sum()
    old = persons.loc[persons["is_age_imputed"] & (persons["age"] > 20), "age"]
    assert (old.between(21, 23) | (old >= 65)).all()


def test_children_are_counted_as_in_the_file(survey: Survey) -> None:
    """No age was drawn out of its band: shares of children by band are those of the whole file."""
    persons = survey.tables["person"]
    weight = survey.weights.loc[survey.unit_of("person")].to_numpy()
    dependent = (persons["role"] == "dependent").to_numpy()
    share = [
        (weight * (dependent & persons["age"].between(low, high).to_numpy())).sum() / weight.sum()
        for low, high in ((0, 5), (6, 12), (13, 17))
    ]

    assert_allclose(share, [0.085, 0.11, 0.085], atol=0.03)


def test_real_households_go_through_the_codec(survey: Survey) -> None:
    codec = Codec.fit(survey)
    rows = codec.encode(survey)
    kept = codec.fits(survey)
    again = codec.decode(rows, source=survey, origins=rows.index, weights=survey.weights[kept])

    assert codec.n_too_large == (~kept).sum() < 10
    assert codec.weight_too_large < 0.002
    assert codec.acceptable(rows).all()
    assert violations(again).empty
    for name in ("income", "snap", "n_children", "pays_home_costs"):
        before = survey.tables["household"].loc[kept.to_numpy(), name]
        np.testing.assert_array_equal(again.tables["household"][name], before)


def test_the_tables_are_small_and_carry_their_source(survey: Survey) -> None:
    folder = files("microcalibrate.datasets")
    tables: Any = [f for f in (folder / "cps_households_2023").iterdir() if f.name[-3:] == "uet"]

    assert len(tables) == len(survey.tables)
    assert sum(len(table.read_bytes()) for table in tables) < 1e6
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    assert "cps_households_2023" in source
    assert "**Imputed**" in source
