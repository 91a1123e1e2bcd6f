"""Replicates solved side by side: the same weights as one by one from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from microcalibrate import Calibration, InfeasibleTargets
from microcalibrate.engine.pair_columns import Pairs, WholeColumns, pairs_of
from microcalibrate.engine.resolving import Resolver
from microcalibrate.engine.solving import solve

Vector = NDArray[np.float64]

KINDS: dict[str, Any] = {
    "soft": {"tolerances": np.nan},
    "exact": {"tolerances": 0.0},
    "bands": {"tolerances": 0.03},
    "mixed": {"tolerances": [0.0, np.nan, 0.02, np.nan, 0.1, np.nan]},
    "absolute": {"tolerances": np.nan, "loss": "absolute"},
}
DISTANCES: dict[str, Any] = {
    "linear": {"min_weight_ratio": -np.inf},
    "chi2": {"min_weight_ratio": 0.0},
    "bounded": {"min_weight_ratio": 0.6, "max_weight_ratio": 1.6},
    "per record": {
        "min_weight_ratio": np.linspace(0.3, 0.9, 300),
        "max_weight_ratio": np.linspace(1.3, 2.5, 300),
    },
    "raking": {"distance": "raking"},
    "logit": {"distance": "logit", "min_weight_ratio": 0.3, "max_weight_ratio": 3.0},
    "frozen": {"frozen": np.arange(300) % 10 == 0},
    "absolute bound": {"max_weight": 25.0},
    "factors": {"heteroscedasticity": np.linspace(0.5, 2, 300)},
}


def calibration(kind: str, distance: str, *, sparse: bool) -> Calibration:
    rng = np.random.default_rng(11)
    n_records = 300
    groups = np.eye(3)[rng.integers(3, size=n_records)]
    matrix = np.hstack([groups, rng.lognormal(0, 0.6, (n_records, 3))])
    weights = rng.uniform(1, 20, n_records)
    targets = matrix.T @ (weights * rng.uniform(0.85, 1.2, n_records))
    made = Calibration(
        weights,
        targets,
        sp.csr_array(matrix) if sparse else matrix,
        scales=np.abs(targets),
        **KINDS[kind],
        **DISTANCES[distance],
    )
    made.calibrate(progress=False)
    return made


def bootstrap(n_records: int, n_replicates: int) -> Vector:
    rng = np.random.default_rng(2)
    drawn = rng.multinomial(n_records - 1, np.full(n_records, 1 / n_records), n_replicates).T
    return np.asarray(drawn * n_records / (n_records - 1.0))


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", KINDS)
def test_replicates_have_the_weights_of_solves_from_nothing(
    kind: str, distance: str, sparse: bool
) -> None:
    made = calibration(kind, distance, sparse=sparse)
    problem, optimum = made.problem, made.optimum
    factors = bootstrap(problem.n_records, 5)
    found = list(Resolver(optimum).weights(factors))

    for weights, factor in zip(found, factors.T, strict=True):
        changed = replace(problem, design_weights=problem.design_weights * factor)
        cold = solve(changed, optimum.distance, closeness=optimum.closeness, loss=optimum.loss)
        expected = cold.ratio * changed.design_weights
        assert_allclose(weights, expected, rtol=2e-3, atol=2e-3)
        misses = np.abs(problem.errors(weights)) - problem.tolerances
        assert np.all(~(misses[~problem.is_soft] > 2e-9))
        counted = factor > 0
        ratio = weights[counted] / changed.design_weights[counted]
        assert np.all(ratio >= changed.lower_ratio[counted] - 1e-12)
        assert np.all(ratio <= changed.upper_ratio[counted] + 1e-12)
        assert not weights[~counted].any()


@pytest.mark.parametrize("kind", ["soft", "exact"])
@pytest.mark.parametrize("distance", ["linear", "chi2", "raking", "logit", "frozen", "factors"])
def test_plain_steps_solve_every_replicate(kind: str, distance: str) -> None:
    made = calibration(kind, distance, sparse=True)
    resolver = Resolver(made.optimum)
    assert len(list(resolver.weights(bootstrap(300, 40)))) == resolver.n_by_newton == 40


def test_the_whole_sample_is_its_own_replicate() -> None:
    made = calibration("soft", "bounded", sparse=True)
    (same,) = Resolver(made.optimum).weights(np.ones((300, 1)))
    assert_allclose(same, made.weights, rtol=1e-6)


def test_a_replicate_without_the_records_of_an_exact_target_is_infeasible() -> None:
    made = calibration("exact", "raking", sparse=True)
    matrix = made.problem.estimate_matrix.toarray()
    factors = (matrix[:, 0] == 0).astype(float)[:, None]
    with pytest.raises(InfeasibleTargets, match="target_0"):
        list(Resolver(made.optimum).weights(factors))


def test_normal_equations_of_kept_products_are_those_of_the_matrix() -> None:
    rng = np.random.default_rng(0)
    matrix = sp.random_array((200, 12), density=0.3, rng=rng, format="csr")
    weights = rng.random((200, 3))
    kept = pairs_of(matrix)
    assert isinstance(kept, Pairs)
    dense = matrix.toarray()

    for gram, whole, plain, weight in zip(
        kept.grams(weights),
        WholeColumns(matrix).grams(weights),
        pairs_of(dense).grams(weights),
        weights.T,
        strict=True,
    ):
        expected = dense.T @ (weight[:, None] * dense)
        assert_allclose(np.triu(gram), np.triu(expected), rtol=1e-12, atol=1e-13)
        assert_allclose(np.triu(whole), np.triu(expected), rtol=1e-12, atol=1e-13)
        assert_allclose(np.triu(plain), np.triu(expected), rtol=1e-12, atol=1e-13)
