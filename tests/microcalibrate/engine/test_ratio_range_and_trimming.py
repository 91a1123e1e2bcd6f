"""The narrowest bounds that leave weights, and weights below a cap with their totals kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
import scipy.sparse as sp
from numpy.testing import assert_allclose

from microcalibrate import (
    InfeasibleTargets,
    InvalidOption,
    RatioRange,
    feasible_ratio_range,
    trim,
)
from microcalibrate.engine.distances import CHI2
from microcalibrate.engine.solving import solve
from microcalibrate.errors import NotConverged
from microcalibrate.problem import Problem

from ..problems import Data, calibrated, feasible, survey


def problem_of(data: Data, **options: Any) -> Problem:
    return Problem.build(data.weights, data.targets, data.matrix, **{"tolerances": 0} | options)


def is_feasible(data: Data, low: float, high: float, **options: Any) -> bool:
    try:
        solve(problem_of(data, min_weight_ratio=low, max_weight_ratio=high, **options), CHI2)
    except InfeasibleTargets:
        return False
    return True


# --- The narrowest range --------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("seed", range(4))
def test_the_range_is_the_least_half_width_around_any_centre(seed: int, form: Any) -> None:
    """As icarus puts it: the least `b` with `a - b <= r <= a + b` for all ratios, and any `a`."""
    data = feasible(seed, n_records=30)
    n, columns = 30, (data.matrix * data.weights[:, None]).T
    one, unit = np.ones((n, 1)), np.eye(n)
    icarus = so.linprog(
        np.r_[0.0, 1.0, np.zeros(n)],
        A_ub=np.vstack([np.hstack([-one, -one, unit]), np.hstack([one, -one, -unit])]),
        b_ub=np.zeros(2 * n),
        A_eq=np.hstack([np.zeros((len(columns), 2)), columns]),
        b_eq=data.targets,
        bounds=[(None, None), (None, None)] + [(0, None)] * n,
    )
    found = feasible_ratio_range(problem_of(Data(data.weights, data.targets, form(data.matrix))))

    assert_allclose(found.upper - found.lower, 2 * icarus.fun, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"shape": "symmetric"}, {"lower": 0.85}, {"upper": 1.2}])
@pytest.mark.parametrize("seed", range(3))
def test_at_the_range_weights_exist_and_within_it_none_do(
    seed: int, options: dict[str, Any]
) -> None:
    data = feasible(seed, n_records=30)
    low, high = feasible_ratio_range(problem_of(data), **options)

    assert is_feasible(data, low - 1e-5, high + 1e-5)
    low_free, high_free = "lower" not in options, "upper" not in options
    assert not is_feasible(data, low + 1e-4 * low_free, high - 1e-4 * high_free)
    if options.get("shape") == "symmetric":
        assert_allclose(low + high, 2)
    assert low == options.get("lower", low)
    assert high == options.get("upper", high)


def test_bands_make_the_range_narrower_and_other_bounds_wider() -> None:
    data = feasible(2, n_records=30)
    exact = feasible_ratio_range(problem_of(data))
    banded = feasible_ratio_range(problem_of(data, tolerances=0.05))
    frozen = feasible_ratio_range(problem_of(data, frozen=np.arange(30) < 4))

    assert banded.upper - banded.lower < exact.upper - exact.lower < frozen.upper - frozen.lower
    assert is_feasible(data, banded.lower - 1e-5, banded.upper + 1e-5, tolerances=0.05)


def test_soft_targets_need_no_room() -> None:
    data = feasible(3, n_records=30)
    tolerances = [0, 0, np.nan, np.nan, 0]
    hard = [0, 1, 4]
    some = feasible_ratio_range(problem_of(data, tolerances=tolerances))
    only = feasible_ratio_range(
        problem_of(Data(data.weights, data.targets[hard], data.matrix[:, hard]))
    )

    assert_allclose(some, only, atol=1e-6)


def test_targets_that_no_range_can_meet_are_named() -> None:
    data = feasible(4, n_records=30)
    targets = data.targets.copy()
    targets[1] = -1.0
    with pytest.raises(InfeasibleTargets, match="target_1"):
        feasible_ratio_range(problem_of(Data(data.weights, targets, data.matrix)))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shape": "round"}, "not known"),
        ({"lower": 0.5, "upper": 2.0}, "lower or upper"),
        ({"shape": "symmetric", "lower": 0.5}, "symmetric"),
    ],
)
def test_options_of_a_range_that_contradict_each_other_are_refused(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidOption, match=complaint):
        feasible_ratio_range(problem_of(feasible(0)), **options)


def test_a_range_of_soft_targets_is_refused() -> None:
    with pytest.raises(InvalidOption, match="soft"):
        feasible_ratio_range(problem_of(feasible(0), tolerances=None))


def test_when_nothing_need_move_the_range_is_a_point() -> None:
    problem = Problem.build([1.0, 2.0], [3.0], [[1.0], [1.0]], tolerances=0)

    assert_allclose(feasible_ratio_range(problem), RatioRange(1.0, 1.0), atol=1e-9)


# --- Trimming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [{"quantile": 0.95}, {"multiple": 3.0}, {"max_weight": 60.0}])
@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_trimmed_weights_keep_cap_and_totals(distance: str, cap: dict[str, float]) -> None:
    data = survey(1)
    weights = calibrated(data, tolerances=0.01).weights
    found = trim(weights, data.matrix, distance=distance, **cap)

    assert found.n_trimmed > 0
    assert found.weights.max() <= found.max_weight
    assert found.n_on_cap > 0
    assert_allclose(data.matrix.T @ found.weights, data.matrix.T @ weights, rtol=1e-9)
    assert (found.weights >= 0).all()


def test_no_weights_below_the_cap_with_these_totals_are_nearer() -> None:
    data = survey(2, n_records=60, n_targets=6)
    cap = float(np.quantile(data.weights, 0.95))
    found = trim(data.weights, data.matrix, max_weight=cap)
    general = so.minimize(
        lambda w: ((w - data.weights) ** 2 / data.weights).sum(),
        np.minimum(data.weights, cap),
        jac=lambda w: 2 * (w - data.weights) / data.weights,
        bounds=[(0, cap)] * 60,
        constraints=[
            {"type": "eq", "fun": lambda w: data.matrix.T @ (w - data.weights) / 100,
             "jac": lambda _: data.matrix.T / 100},
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 2_000},
    )  # fmt: skip

    assert general.success
    assert_allclose(found.weights, general.x, atol=2e-4 * cap)


def test_equal_shares_of_what_is_cut_off() -> None:
    """With `q = 1 / w` what is cut off goes in equal parts to the others, until none is above."""
    weights = np.array([1.0, 2.0, 3.0, 9.0, 14.0, 19.0])
    found = trim(weights, np.ones((6, 1)), max_weight=10.0, heteroscedasticity=1 / weights)

    assert_allclose(found.weights, np.minimum(weights + 12 / 3, [5, 6, 7, 10, 10, 10]))
    assert_allclose(found.weights.sum(), weights.sum())


def test_weights_that_need_no_trimming_stay_as_they_are() -> None:
    data = feasible(3)
    found = trim(data.weights, data.matrix, max_weight=100.0)

    assert_allclose(found.weights, data.weights, rtol=1e-12)
    assert found.n_trimmed == found.n_on_cap == 0


def test_dropped_records_stay_dropped_and_do_not_count_for_the_cap() -> None:
    weights = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 5.0])
    found = trim(weights, np.ones((6, 1)), multiple=3.0)

    assert found.max_weight == 3.0
    assert_allclose(found.weights, [0, 0, 0, 2, 2, 3])


def test_a_cap_that_totals_do_not_allow_is_refused_with_the_total() -> None:
    with pytest.raises(InfeasibleTargets, match="everyone"):
        trim([1.0, 1.0, 4.0], [[1.0]] * 3, max_weight=1.9, target_names=["everyone"])


def test_a_tolerance_buys_a_lower_cap() -> None:
    found = trim([1.0, 1.0, 4.0], [[1.0]] * 3, max_weight=1.9, tolerances=0.06)

    assert_allclose(found.weights.sum(), 5.64)


@pytest.mark.parametrize(
    "options",
    [{}, {"quantile": 0.9, "multiple": 3.0}, {"quantile": 1.0}, {"multiple": 1.0},
     {"max_weight": 3.0, "tolerances": np.nan}],
)  # fmt: skip
def test_there_is_one_cap_within_its_range(options: dict[str, float]) -> None:
    with pytest.raises(InvalidOption):
        trim([1.0, 1.0, 4.0], [[1.0]] * 3, **options)


def test_trimming_that_is_cut_short_is_no_answer() -> None:
    data = survey(1)
    with pytest.raises(NotConverged):
        trim(data.weights, data.matrix, quantile=0.9, max_iter=1)
