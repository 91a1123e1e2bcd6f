"""Derivatives of calibrated weights by the sample and by the targets, beside differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from microcalibrate import Calibration, SurveyDesign, estimate, mean, total
from microcalibrate.engine.solving import solve
from microcalibrate.inference import count
from microcalibrate.inference.sensitivity import Sensitivity
from microcalibrate.problem import Problem

Vector = NDArray[np.float64]

STEP = 1e-5
TARGETS: dict[str, Any] = {
    "exact": 0.0,
    "soft": np.nan,
    "bands": 0.05,
    "mixed": [0.0, np.nan, 0.02, np.nan, 0.2],
}
DISTANCES: dict[str, dict[str, Any]] = {
    "chi2": {"distance": "chi2", "min_weight_ratio": -np.inf},
    "raking": {"distance": "raking"},
    "logit": {"distance": "logit", "min_weight_ratio": 0.2, "max_weight_ratio": 4.0},
    "bounded chi2": {"distance": "chi2", "min_weight_ratio": 0.75, "max_weight_ratio": 1.3},
    "bounded raking": {"distance": "raking", "min_weight_ratio": 0.75, "max_weight_ratio": 1.3},
}


def calibration(kind: str, distance: str) -> Calibration:
    rng = np.random.default_rng(5)
    n_records = 60
    matrix = np.column_stack(
        [
            np.ones(n_records),
            rng.random((n_records, 2)) < 0.4,
            rng.lognormal(0, 0.6, (n_records, 2)),
        ]
    ).astype(float)
    weights = rng.uniform(1, 20, n_records)
    targets = matrix.T @ (weights * rng.uniform(0.8, 1.25, n_records))
    made = Calibration(
        weights,
        targets,
        matrix,
        tolerances=TARGETS[kind],
        scales=np.abs(targets),
        closeness=0.02,
        **DISTANCES[distance],
    )
    made.calibrate(progress=False)
    assert made.result.converged
    return made


def resolved(made: Calibration, problem: Problem) -> Vector:
    """Weights of a changed problem, to the last digits."""
    found = solve(problem, made.settings.distance, closeness=0.02, tolerance=1e-14)
    return np.asarray(found.ratio * problem.design_weights)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_record_that_counts_more_moves_totals_by_its_contribution(
    kind: str, distance: str
) -> None:
    made = calibration(kind, distance)
    problem = made.problem
    values = np.random.default_rng(1).lognormal(0, 1, (problem.n_records, 2))
    contributions = Sensitivity(made.optimum).contributions(values)

    for record in range(0, problem.n_records, 7):
        ends = []
        for sign in (1, -1):
            changed = problem.design_weights.copy()
            changed[record] *= 1 + sign * STEP
            ends.append(values.T @ resolved(made, replace(problem, design_weights=changed)))
        difference = (ends[0] - ends[1]) / (2 * STEP)
        assert_allclose(
            contributions[record], difference, rtol=2e-4, atol=2e-4 * np.abs(contributions).max()
        )


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_targets_move_totals_by_the_derivative(kind: str, distance: str) -> None:
    made = calibration(kind, distance)
    problem = made.problem
    values = np.random.default_rng(1).lognormal(0, 1, (problem.n_records, 2))
    by_target = Sensitivity(made.optimum).by_target(values)

    for target in range(problem.n_targets):
        step = STEP * problem.targets[target]
        ends = []
        for sign in (1, -1):
            changed = problem.targets.copy()
            changed[target] += sign * step
            ends.append(values.T @ resolved(made, replace(problem, targets=changed)))
        difference = (ends[0] - ends[1]) / (2 * step)
        assert_allclose(
            by_target[target], difference, rtol=2e-4, atol=2e-4 * np.abs(by_target).max()
        )


@pytest.mark.parametrize("tolerance", [0.0, np.nan], ids=["exact", "soft"])
@pytest.mark.parametrize("distance", ["chi2", "raking", "bounded chi2"])
@pytest.mark.parametrize("per_household", [False, True])
def test_the_value_of_a_quotient_moves_its_column_too(
    tolerance: float, distance: str, per_household: bool
) -> None:
    """A mean, a ratio or a share that is unsure is pulled at through what its records add."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {
            "weight": rng.uniform(1, 20, 80),
            "home": np.repeat(np.arange(40), 2),
            "income": rng.lognormal(0, 0.6, 80),
            "tax": rng.lognormal(-1, 0.8, 80),
            "age": rng.integers(10, 90, 80),
        }
    )
    weights = data["weight"].to_numpy()
    as_drawn = [
        np.average(data["age"], weights=weights),
        weights @ data["tax"] / (weights @ data["income"]),
        np.average(data["age"] > 50, weights=weights),
    ]
    wanted = pd.DataFrame(
        {
            "name": ["mean", "ratio", "share"],
            "aggregate": ["mean", "ratio", "share"],
            "variable": ["age", "tax", None],
            "denominator": [None, "income", None],
            "filter": [None, None, "age > 50"],
            "value": as_drawn * np.array([1.04, 0.94, 1.06]),
            "tolerance": tolerance,
        }
    )
    options: dict[str, Any] = {"closeness": 0.02, **DISTANCES[distance]}
    if per_household:
        options["cluster"] = "home"
    made = Calibration.from_table(data, wanted, **options)
    made.calibrate(progress=False)
    asked = [total("income"), total("tax"), mean("tax"), count()]

    def estimates(values: Any) -> Vector:
        other = Calibration.from_table(
            data, wanted.assign(value=values), scales=made.problem.scales, **options
        )
        solved = other._structure.problem
        found = solve(solved, other.settings.distance, closeness=0.02, tolerance=1e-14).ratio
        weights = data["weight"] * other._structure.of_records(found)
        tax = float(weights @ data["tax"])
        return np.array([weights @ data["income"], tax, tax / weights.sum(), weights.sum()])

    for target, name in enumerate(wanted["name"]):
        step = 1e-5 * wanted["value"][target]
        moved = np.arange(3) == target
        ends = [estimates(wanted["value"] + sign * step * moved) for sign in (1, -1)]
        found = estimate(
            made, asked, data, design=SurveyDesign(psu="home"), target_errors={name: 1.0}
        ).table["target_error"]
        slope = np.abs(ends[0] - ends[1]) / (2 * step)
        assert_allclose(found, slope, rtol=1e-3, atol=1e-4 * slope.max())
