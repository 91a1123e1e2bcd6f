"""Checks of differences of means, each in its own unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.target_checks import check_targets

from .people import GOOD, PEOPLE, kinds


def mean_gap(weights: Any, data: pd.DataFrame = PEOPLE) -> float:
    women = (data["sex"] == "f").to_numpy()
    means = [np.average(data["age"][one], weights=weights[one]) for one in (~women, women)]
    return float(means[0] - means[1])


GAP = {"name": "gap", "value": 2.0, "agg": "mean", "variable": "age", "filter": "sex == 'm'",
       "minus": "sex == 'f'"}  # fmt: skip


def test_a_difference_of_means_is_looked_at_in_its_own_unit() -> None:
    bounds = {"min_weight_ratio": 0.8, "max_weight_ratio": 1.3}
    wanted = {**GAP, "value": 1.2 * mean_gap(PEOPLE["w"].to_numpy())}
    line = check_targets(PEOPLE, [wanted, GOOD], weight="w", **bounds).table.iloc[0]
    drawn = np.random.default_rng(0).choice([0.8, 1.3], (300, len(PEOPLE)))
    possible = [mean_gap(one * PEOPLE["w"].to_numpy()) for one in drawn]
    women, age = (PEOPLE["sex"] == "f").to_numpy(), PEOPLE["age"].to_numpy()
    low_men = np.where((age < 40) ^ women, 1.3, 0.8)

    assert_allclose(line["initial"], mean_gap(PEOPLE["w"].to_numpy()))
    assert line["lowest"] < min(possible)
    assert max(possible) < line["highest"]
    assert line["lowest"] <= mean_gap(low_men * PEOPLE["w"].to_numpy()) < line["lowest"] + 0.6
    assert line["reachable"]
    assert line["severity"] == "ok"


@pytest.mark.parametrize(
    ("rows", "severity", "kind"),
    [
        ([{**GAP, "value": 60.0}], "error", "out of reach"),
        ([GAP, {**GAP, "name": "again", "minus": "'f' == sex"}], "warning", "duplicate"),
        ([{**GAP, "minus": "'m' == sex"}], "error", "no supporting record"),
        ([{**GAP, "minus": "age > 99"}], "error", "no supporting record"),
    ],
)
def test_what_is_wrong_with_a_difference_is_found(
    rows: list[dict[str, Any]], severity: str, kind: str
) -> None:
    found = kinds(rows, min_weight_ratio=0.5, max_weight_ratio=2.0)

    assert (severity, kind) in found[rows[-1]["name"]]


def test_a_difference_of_persons_is_looked_at_with_the_weights_of_households() -> None:
    homes = pd.DataFrame({"household_id": np.arange(200), "weight": PEOPLE["w"][:200]})
    persons = PEOPLE.drop(columns="w").assign(household_id=np.arange(400) // 2)
    tables = {"household": homes, "person": persons}
    row = {**GAP, "entity": "person", "value": 0.0}
    line = check_targets(tables, [row], weight="weight").table.iloc[0]
    of_persons = homes["weight"].to_numpy()[persons["household_id"]]

    assert_allclose(line["initial"], mean_gap(of_persons, persons))
    assert line["reachable"]
