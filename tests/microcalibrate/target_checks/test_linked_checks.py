"""Checks of targets for households and for their members."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from microcalibrate import Calibration
from microcalibrate.datasets import load_cps_households
from microcalibrate.errors import InfeasibleTargets, InvalidOption, InvalidProblem
from microcalibrate.target_checks import TargetChecks, check_targets
from microcalibrate.target_checks.reach import shared_quantile_range

RNG = np.random.default_rng(5)
N = 60
HOMES = pd.DataFrame(
    {
        "household_id": RNG.permutation(N) + 100,
        "weight": RNG.uniform(50, 150, N),
        "state": RNG.choice(["CA", "NV"], N),
    }
)
# The first lives in every household: none is without persons.
PEOPLE = pd.DataFrame(
    {
        "household_id": np.append(
            HOMES["household_id"], RNG.choice(HOMES["household_id"], 2 * N)
        ),
        "head": np.append(np.ones(N), np.zeros(2 * N)),
        "age": RNG.integers(0, 90, 3 * N),
        "income": RNG.gamma(2, 10_000, 3 * N),
    }
)  # fmt: skip
TABLES = {"household": HOMES, "person": PEOPLE}
BOUNDS: dict[str, Any] = {"min_weight_ratio": 0.4, "max_weight_ratio": 3.0}


def of_home(values: Any) -> Any:
    """Sums over the members of each household, in the order of the households."""
    sums = pd.Series(np.asarray(values, float)).groupby(PEOPLE["household_id"]).sum()
    return HOMES["household_id"].map(sums).to_numpy()


def test_members_count_as_what_their_household_adds() -> None:
    """Two roads: linked tables, and one table of households with the sums over their members."""
    old, income = PEOPLE["age"] > 64, PEOPLE["income"]
    of_state = PEOPLE["household_id"].map(HOMES.set_index("household_id")["state"]) == "CA"
    flat = HOMES.assign(
        old=of_home(old),
        income=of_home(income),
        poor=of_home(income * of_state),
        n=of_home(old >= 0),
    )
    person = {"entity": "person"}
    rows = [
        {"name": "homes", "value": 4_000, "filter": "state == 'CA'"},
        person | {"name": "old", "value": 1e6, "filter": "age > 64"},
        person | {"name": "income", "value": 3e8, "tolerance": 0.1},
        person | {"name": "poor", "value": 2e8, "variable": "income", "filter": "state == 'CA'"},
        person | {"name": "mean", "value": 2e4, "aggregate": "mean", "variable": "income"},
    ]
    same = [
        rows[0],
        *({"name": name, "value": row["value"], "variable": name}
          for name, row in zip(("old", "income", "poor"), rows[1:4], strict=True)),
        {"name": "mean", "value": 2e4, "aggregate": "ratio", "variable": "income",
         "denominator": "n"},
    ]  # fmt: skip
    same[2]["tolerance"] = 0.1

    found = check_targets(TABLES, rows, **BOUNDS)

    expected = check_targets(flat, same, weight="weight", **BOUNDS)
    figures = ["row", "name", "severity", "target", "initial", "ratio", "lowest", "highest"]
    figures += ["reachable", "support", "effective_support", "largest_share", "tolerance"]
    assert_frame_equal(found.table[figures], expected.table[figures])
    assert found.table.set_index("name").loc["old", "severity"] == "error"
    assert not found.notes


def test_the_ends_of_the_range_can_be_calibrated_to() -> None:
    """What a check says can be reached is reached, and no more."""
    mean = {"name": "mean", "aggregate": "mean", "variable": "age", "entity": "person"}
    found = check_targets(TABLES, [mean | {"value": 45}], **BOUNDS).table.iloc[0]
    options = BOUNDS | {"tolerances": 0, "max_weight_ratio": 3.0}

    inside = mean | {"value": found["highest"] - 0.01}
    assert Calibration.from_tables(TABLES, [inside], **options).calibrate().min() > 0
    beyond = Calibration.from_tables(TABLES, [mean | {"value": found["highest"] + 0.01}], **options)
    with pytest.raises(InfeasibleTargets):
        beyond.calibrate()
    past = mean | {"value": 1.01 * found["highest"]}
    wide, narrow = (
        check_targets(TABLES, [past | {"tolerance": tolerance}], **BOUNDS).table
        for tolerance in (0.05, 0.002)
    )
    assert wide["reachable"].all()
    assert not narrow["reachable"].any()


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_quantiles_of_members_go_as_far_as_weights_of_households_do(share: float) -> None:
    """All corners of the bounds, tried one by one."""
    rng = np.random.default_rng(3)
    records, values = rng.integers(0, 7, 20), rng.integers(0, 12, 20).astype(float)
    design, lower, upper = rng.uniform(1, 3, 7), rng.uniform(0, 0.9, 7), rng.uniform(1.1, 4, 7)

    def quantile(weights: Any) -> float:
        order = np.argsort(values, kind="stable")
        up_to = np.cumsum(weights[records][order])
        return float(values[order][np.searchsorted(up_to, share * up_to[-1] * (1 - 1e-12))])

    corners = [
        quantile(design * np.where(pattern, upper, lower))
        for pattern in product([True, False], repeat=7)
    ]
    found = shared_quantile_range(values, share, records, design, lower, upper)
    assert_allclose(found, (quantile(design), min(corners), max(corners)))
    homes = pd.DataFrame({"household_id": np.arange(7), "weight": design})
    median = {"name": "median", "value": 5, "aggregate": "quantile", "variable": "amount"}
    checked = check_targets(
        {"household": homes, "person": pd.DataFrame({"household_id": records, "amount": values})},
        [median | {"quantile": share, "entity": "person"}],
        min_weight_ratio=lower,
        max_weight_ratio=upper,
    )
    assert_allclose(checked.table.loc[0, ["initial", "lowest", "highest"]].astype(float), found)


def test_what_cannot_be_built_is_found_at_its_level() -> None:
    person = {"entity": "person"}
    rows = [
        {"name": "homes", "value": 6_000, "aggregate": "count"},
        person | {"name": "heads", "value": 6_000, "variable": "head"},
        person | {"name": "unread", "value": 1, "filter": "agee > 3"},
        {"name": "of persons", "value": 1, "filter": "age > 3"},
        {"name": "nowhere", "value": 1, "entity": "persons"},
        {"name": "off", "value": 1, "entity": "persons", "include": False},
        person | {"name": "homes", "value": 1, "aggregate": "count"},
    ]
    found = check_targets(TABLES, rows)

    kinds = found.findings.groupby("row")["kind"].agg(list).to_dict()
    assert kinds[2] == ["duplicate"]
    assert kinds[3] == kinds[4] == ["unknown column"]
    assert kinds[5] == ["unknown table"]
    assert 6 not in kinds
    assert kinds[7] == ["name stands twice"]
    assert "Did you mean 'person'?" in found.table["findings"][4]


def test_households_without_persons_are_told(tmp_path: Any) -> None:
    empty = HOMES.iloc[[3]].assign(household_id=999)
    tables = TABLES | {"household": pd.concat([HOMES, empty], ignore_index=True)}
    found = check_targets(tables, [{"name": "homes", "value": 6_000, "aggregate": "count"}])

    (note,) = found.notes
    assert "1 of 61 rows of 'household' has no row in 'person'" in note
    assert "identifier 999" in note
    assert TargetChecks.load(found.save(tmp_path / "run")).notes == found.notes


def test_a_survey_is_checked_with_its_own_links_and_weights() -> None:
    survey = load_cps_households()
    rows = [{"name": "people", "value": 3e8, "aggregate": "count", "entity": "person"}]
    found = check_targets(survey, rows)

    expected = Calibration.from_tables(survey, rows).problem
    assert_allclose(found.table["initial"], expected.estimates(expected.design_weights))
    with pytest.raises(InvalidOption, match="the survey says its unit itself"):
        check_targets(survey, rows, unit="household")


@pytest.mark.parametrize(
    ("tables", "options", "said"),
    [
        ({"person": PEOPLE.drop(columns="household_id")}, {}, "'person' is not linked to"),
        ({"person": PEOPLE.replace({"household_id": {100: 7}})}, {}, "linked to no row of"),
        ({"household": pd.concat([HOMES, HOMES.head(1)])}, {}, "occurs more than once"),
        ({}, {"weight": "w"}, "have a column 'w'|has a column 'w'"),
        ({}, {"links": {"person": {"household": "home"}}}, "has no column 'home'"),
    ],
)
def test_tables_that_are_not_linked_are_refused(
    tables: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidProblem, match=said):
        check_targets(TABLES | tables, [{"name": "a", "value": 1}], **options)


def test_one_table_has_no_links() -> None:
    with pytest.raises(InvalidOption, match="links is for linked tables"):
        check_targets(
            HOMES, [{"name": "weight", "value": 1}], links={"person": {}, "a": {"b": "c"}}
        )
