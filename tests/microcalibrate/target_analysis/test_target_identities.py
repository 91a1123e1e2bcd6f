"""Totals and parts that disagree: one finding, with the loss that it forces at any weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from microcalibrate.datasets import load_cps, load_us_targets
from microcalibrate.engine.redundancy import combinations_of
from microcalibrate.problem import Problem
from microcalibrate.target_analysis import TargetAnalysis, analyse_targets
from microcalibrate.target_analysis.identities import forced_together, identity_of
from microcalibrate.targets import build_targets

from ..problems import Data

N_STATES, N_CLASSES = 8, 5
NAMES = [
    *[f"income_by_state/{state}" for state in range(N_STATES)],
    *[f"income_by_class/{number}" for number in range(N_CLASSES)],
    "persons",
]


def states_and_classes(off: float, seed: int = 0) -> Data:
    """Incomes by state and by class, met by some ratios but for the states, which are all off."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(2, 0.3, 600)
    income = rng.lognormal(1, 0.5, 600)
    # Some states are much larger than others, and hold most of the misses.
    size = np.array([30, 8, 4, 2, 1, 1, 1, 1]) / 48
    states = np.eye(N_STATES)[rng.choice(N_STATES, p=size, size=600)]
    classes = np.eye(N_CLASSES)[rng.integers(N_CLASSES, size=600)]
    matrix = np.column_stack([income[:, None] * states, income[:, None] * classes, np.ones(600)])
    targets = matrix.T @ (weights * rng.uniform(0.8, 1.2, 600))
    targets[:N_STATES] *= 1 + off
    return Data(weights, targets, matrix)


def analysed(data: Data, **options: Any) -> TargetAnalysis:
    return analyse_targets(data.weights, data.targets, data.matrix, target_names=NAMES, **options)


def test_parts_that_do_not_add_up_are_one_finding() -> None:
    found = analysed(states_and_classes(0.04))

    assert len(found.identities) == 1
    row = found.identities.iloc[0]
    assert row.identity == "sum of 8 'income_by_state/…' = sum of 5 'income_by_class/…'"
    assert row.contradicted
    assert_allclose(row.discrepancy, 0.04, rtol=1e-9)
    assert_allclose(row.rescale, 1 / 1.04, rtol=1e-9)
    assert row.n_members == 13
    assert found.groups == (tuple(NAMES[:13]),)
    members = found.identity_members
    assert sorted(members.name) == sorted(NAMES[:13])
    assert list(members.drop_objective) == sorted(members.drop_objective, reverse=True)
    assert row.drop_first == members.name[0]
    assert set(members.side[members.name.str.startswith("income_by_state")]) == {"part"}


def test_members_that_are_met_are_not_contradictory() -> None:
    found = analysed(states_and_classes(0.04))
    table = found.table

    contradictory = table.kind == "contradictory"
    assert 1 <= contradictory.sum() < 13
    assert (table.error.abs()[contradictory] >= 0.01).all()
    met = table.error.abs() < 0.01
    assert met[table.name.isin(NAMES[:13])].sum() >= 4
    assert set(table.kind[met]) == {"fine"}
    lenient = analysed(states_and_classes(0.04), least_miss=0.5)
    assert not set(lenient.table.kind) & {"contradictory", "missed"}


def test_an_identity_that_holds_is_redundant_and_forces_nothing() -> None:
    found = analysed(states_and_classes(0.0))

    assert list(found.identities.contradicted) == [False]
    assert found.identities.share_of_loss[0] == found.forced_share == 0
    assert found.identities.reason[0].endswith("and the targets agree")
    assert list(found.table.name[found.table.kind == "redundant"]) == ["income_by_class/4"]


@pytest.mark.parametrize("closeness", [1e-7, 1e-3])
def test_forced_loss_is_the_least_loss_of_any_estimates(closeness: float) -> None:
    """It bounds the objective from below, and is reached when closeness costs nothing."""
    data = states_and_classes(0.04)
    importances = np.linspace(1, 3, len(NAMES))

    found = analysed(data, closeness=closeness, importances=importances)

    forced = found.identities.share_of_loss[0] * found.objective
    scales, omega = np.abs(data.targets), importances / importances.sum()
    sign = np.array([1.0] * N_STATES + [-1.0] * N_CLASSES + [0.0])

    def loss(errors: Any) -> float:
        return float(1e6 * 0.5 * omega @ errors**2)

    adds_up: Any = {
        "type": "eq",
        "fun": lambda errors: sign @ (data.targets + scales * errors) / scales.sum(),
    }
    least = minimize(loss, np.zeros(len(NAMES)), constraints=[adds_up], tol=1e-12)
    assert_allclose(forced, least.fun / 1e6, rtol=1e-4)
    assert_allclose(found.identities.forced_error[0], np.abs(least.x).max(), rtol=1e-3)
    assert forced <= found.objective
    assert_allclose(found.forced_share, found.identities.share_of_loss[0], rtol=1e-9)
    if closeness < 1e-6:
        assert forced >= 0.95 * found.objective


def test_identities_that_share_members_do_not_add_up_their_losses() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.random((50, 3))
    matrix = np.column_stack([matrix, matrix[:, 0], matrix[:, 0], matrix[:, 1:].sum(axis=1)])
    targets = np.array([100.0, 80.0, 60.0, 110.0, 110.0, 150.0])
    problem = Problem.build(np.full(50, 4.0), targets, matrix)
    identities = [
        identity_of(combination, problem, targets, 1.0)
        for combination in combinations_of(matrix.T @ matrix, 0.9999)
    ]

    together = forced_together(identities, problem)

    # Three targets of one column: the best estimate is where their relative errors balance.
    group = targets[[0, 3, 4]]
    best = (1 / group).sum() / (1 / group**2).sum()
    copies = 0.5 * (((best - group) / group) ** 2).sum() / 6
    rest = 10.0**2 / (2 * 6 * (80.0**2 + 60.0**2 + 150.0**2))
    assert_allclose(together, copies + rest, rtol=1e-6)
    assert together < sum(identity.forced_loss for identity in identities)


def test_rescaling_gives_what_it_says() -> None:
    """Without bounds the objective is a quadratic of the targets."""
    data = states_and_classes(0.03)
    options = {"min_weight_ratio": -np.inf, "scales": np.abs(data.targets)}
    found = analysed(data, **options)
    row = found.identities.iloc[0]

    factor = np.where(np.arange(len(NAMES)) < N_STATES, row.rescale, 1.0)
    after = analysed(replace(data, targets=data.targets * factor), **options)

    assert_allclose(found.objective - after.objective, row.rescale_objective, rtol=1e-5)
    assert not after.identities.contradicted[0]


def test_tolerances_are_granted_before_an_identity_is_contradicted() -> None:
    data = states_and_classes(0.01)
    for tolerance, contradicted in ((0.02, False), (0.001, True)):
        banded = {name: tolerance for name in NAMES[:13]} | {NAMES[0]: np.nan}
        found = analysed(data, tolerances=banded)
        assert found.identities.contradicted[0] == contradicted


def test_units_of_targets_change_no_share() -> None:
    data = states_and_classes(0.04)
    found = analysed(data)
    unit = 10.0 ** np.random.default_rng(2).integers(-3, 4, len(NAMES))

    other = analysed(Data(data.weights, data.targets * unit, data.matrix * unit))

    columns = ["share_of_loss", "forced_error", "n_members", "n_missed"]
    assert_allclose(other.identities[columns], found.identities[columns], rtol=1e-5)


def test_summary_says_what_is_met_and_then_what_costs_most() -> None:
    text = analysed(states_and_classes(0.04)).summary().splitlines()

    assert text[0].startswith("8 of 14 targets are met within 1%, 14 within 10%.")
    assert "sums that do not add up" in text[2]
    assert text[3] == "What costs most, to first order:"
    assert "sum of 5 'income_by_class/…' in every record" in text[4]
    assert "off by 4.00%" in text[4]
    assert "times 0.9615" in text[4]
    assert "in every record" not in analysed(states_and_classes(0.0)).summary()


def test_example_data_have_one_sum_that_does_not_add_up() -> None:
    """Incomes of states are of 2022, those by class of 2023; 62 targets once stood accused."""
    cps = load_cps()
    targets = build_targets(cps, load_us_targets(), initial_weights=cps["weight"])

    found = analyse_targets(
        cps["weight"], targets.values, targets.matrix, target_names=targets.names
    )

    contradicted = found.identities[found.identities.contradicted]
    assert len(contradicted) == 1
    row = contradicted.iloc[0]
    assert row.identity == "sum of 51 'agi_by_state/…' = sum of 10 'agi_by_agi/…'"
    states = pd.Series(targets.values, targets.names).filter(like="agi_by_state/")
    assert_allclose(row.implied, states.sum(), rtol=1e-12)
    accused = found.table[found.table.kind == "contradictory"]
    assert (accused.error.abs() >= 0.01).all()
    assert len(accused) < 30
