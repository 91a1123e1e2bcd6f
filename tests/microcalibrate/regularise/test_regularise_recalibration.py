"""Entropy recalibration: certificates, other solvers, caps that cannot hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from microcalibrate.errors import (
    InfeasibleCap,
    InfeasibleTargets,
    InvalidOption,
    NotConverged,
)
from microcalibrate.regularise.caps import smallest_feasible_cap
from microcalibrate.regularise.recalibration import recalibrate


def small_problem(seed, n=12, kinds=(0.0, 0.05, np.nan)):
    """Targets that are reached by ratios between a half and two; exact, banded and soft ones."""
    rng = np.random.default_rng(seed)
    matrix = rng.random((n, len(kinds))) * rng.choice([0, 1, 1], (n, len(kinds)))
    matrix[0] = 1.0
    prior = rng.lognormal(2, 1, n)
    targets = matrix.T @ (prior * rng.uniform(0.5, 2.0, n))
    return prior, targets, matrix, np.array(kinds)


def objective(weights, prior, targets, matrix, soft, entropy_lambda):
    """The formula of the module, written down once more."""
    logs = np.log(np.maximum(weights, 1e-300) / prior)
    entropy = (weights * logs - weights + prior).sum() / prior.sum()
    errors = ((weights @ matrix - targets) / targets)[soft]
    share = entropy_lambda if soft.any() else 1.0
    return share * entropy + (0.5 * (errors**2).mean() if soft.any() else 0.0)


def by_slsqp(prior, targets, matrix, tolerances, entropy_lambda, cap):
    """SciPy's general solver on the ratios, from the prior, to its last digits."""
    soft = np.isnan(tolerances)
    scaled = matrix * prior[:, None] / targets
    constraints = []
    for j in np.flatnonzero(~soft):
        column, band = scaled[:, j], tolerances[j]
        jac = {"jac": lambda _, c=column: c}
        if band == 0:
            constraints.append({"type": "eq", "fun": lambda r, c=column: c @ r - 1, **jac})
            continue
        constraints += [
            {"type": "ineq", "fun": lambda r, c=column, b=band: c @ r - 1 + b, **jac},
            {
                "type": "ineq",
                "fun": lambda r, c=column, b=band: 1 + b - c @ r,
                "jac": lambda _, c=column: -c,
            },
        ]
    share = entropy_lambda if soft.any() else 1.0
    q = share * prior / prior.sum()

    def value(ratio):
        errors = scaled[:, soft].T @ ratio - 1
        half = 0.5 * (errors**2).mean() if soft.any() else 0.0
        return (q * (ratio * np.log(ratio) - ratio + 1)).sum() + half

    def slope(ratio):
        errors = scaled[:, soft].T @ ratio - 1
        fit = scaled[:, soft] @ errors / max(soft.sum(), 1)
        return q * np.log(ratio) + fit

    # Twice, the second time from the first answer and with the objective in a size near to one.
    start = np.minimum(1.0, cap / prior)
    for scale in (1.0, 1 / q.max()):
        start = minimize(
            lambda r, s=scale: s * value(r),
            start,
            jac=lambda r, s=scale: s * slope(r),
            bounds=[(1e-9, top) for top in cap / prior],
            constraints=constraints,
            method="SLSQP",
            options={"ftol": 1e-16, "maxiter": 2000},
        ).x
    return start * prior


@pytest.mark.parametrize("seed", range(50))
def test_weights_equal_those_of_a_general_convex_solver(seed):
    """Fifty random problems with exact, banded and soft targets, half of them below a cap."""
    prior, targets, matrix, tolerances = small_problem(seed)
    cap = None if seed % 2 else 2.5 * float(np.median(prior)) + float(prior.max()) / 2
    try:
        found = recalibrate(
            prior, targets, matrix, tolerances=tolerances, entropy_lambda=0.1, cap=cap
        )
    except InfeasibleCap as error:
        cap = 1.2 * error.smallest_cap
        found = recalibrate(
            prior, targets, matrix, tolerances=tolerances, entropy_lambda=0.1, cap=cap
        )
    other = by_slsqp(prior, targets, matrix, tolerances, 0.1, np.inf if cap is None else cap)

    assert_allclose(found.weights, other, rtol=1e-6, atol=1e-6 * prior.max())
    assert found.gap <= 1e-8
    assert found.max_bound_violation <= 1e-9
    assert found.kkt_residual <= 1e-6
    assert cap is None or found.weights.max() <= cap


def test_the_same_problem_gives_the_same_bits():
    parts = small_problem(3, n=300)
    first, again = (
        recalibrate(*parts[:3], tolerances=parts[3], cap=parts[0].max() * 0.8) for _ in range(2)
    )
    assert_array_equal(first.weights, again.weights)
    assert_array_equal(first.prices, again.prices)


def test_prices_give_the_weights():
    """`log(w / d)` away from the cap is the matrix times the prices: the meaning of a price."""
    prior, targets, matrix, tolerances = small_problem(8, n=200)
    found = recalibrate(prior, targets, matrix, tolerances=tolerances, cap=prior.max() / 2)
    inside = found.weights < prior.max() / 2 * (1 - 1e-6)

    assert found.n_at_cap == (~inside).sum() > 0
    assert_allclose(
        np.log(found.weights / prior)[inside], (matrix @ found.prices)[inside], atol=1e-6
    )


@pytest.mark.parametrize(("seed", "entropy_lambda"), [(0, 1e-1), (1, 1e-2), (2, 1e-3)])
def test_no_objective_of_gradient_descent_is_lower(seed, entropy_lambda):
    """Adam, 5,000 steps on the log weights, with the cap as a clamp (as is common practice)."""
    prior, targets, matrix, _ = small_problem(seed, n=60, kinds=(np.nan,) * 6)
    cap = 0.7 * float(prior.max())
    found = recalibrate(prior, targets, matrix, entropy_lambda=entropy_lambda, cap=cap)

    columns = torch.tensor(matrix / targets)
    start = torch.tensor(np.minimum(prior, cap * 0.999)).log()
    logs, prior_ = start.clone().requires_grad_(), torch.tensor(prior)
    optimiser = torch.optim.Adam([logs], lr=0.01)
    for _ in range(5000):
        weights = logs.exp().clamp(max=cap)
        entropy = (weights * (weights / prior_).log() - weights + prior_).sum() / prior_.sum()
        loss = entropy_lambda * entropy + 0.5 * ((columns.T @ weights - 1) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    adam = np.minimum(np.exp(logs.detach().numpy()), cap)
    soft = np.ones(6, dtype=bool)
    of_adam = objective(adam, prior, targets, matrix, soft, entropy_lambda)

    assert found.objective <= of_adam * (1 + 1e-8)
    assert_allclose(
        found.objective,
        objective(found.weights, prior, targets, matrix, soft, entropy_lambda),
        rtol=1e-9,
    )


def test_weights_that_start_above_the_cap_end_on_it_or_below_and_fit_is_kept():
    """A clamp in a loss has no slope above the cap, so such weights never moved; here they do."""
    prior, _, matrix, _ = small_problem(1, n=400, kinds=(0.0, 0.0, 0.0))
    prior[:5] *= 50
    targets = matrix.T @ prior
    cap = float(np.sort(prior)[-6])
    above = prior > cap
    found = recalibrate(prior, targets, matrix, tolerances=0, cap=cap)

    assert above.sum() == 5
    assert found.weights.max() <= cap
    assert np.abs(found.errors).max() <= 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_a_cap_too_low_names_the_targets_and_the_smallest_that_works(seed):
    prior, targets, matrix, _ = small_problem(seed, n=40, kinds=(0.0, 0.0, 0.0))
    with pytest.raises(InfeasibleCap, match=r'"target_.*smallest cap') as caught:
        recalibrate(prior, targets, matrix, tolerances=0, cap=float(targets.max()) / 60)
    smallest = caught.value.smallest_cap

    assert caught.value.conflict
    assert recalibrate(prior, targets, matrix, tolerances=0, cap=smallest).weights.max() <= smallest
    with pytest.raises(InfeasibleCap):
        recalibrate(prior, targets, matrix, tolerances=0, cap=0.985 * smallest)


def test_a_linear_program_has_the_same_smallest_cap():
    """The least largest weight, min u with w <= u and A'w = t, by SciPy's HiGHS."""
    from scipy.optimize import linprog

    prior, targets, matrix, _ = small_problem(5, n=30, kinds=(0.0, 0.0, 0.0))
    program = linprog(
        np.r_[np.zeros(30), 1.0],
        A_ub=np.c_[np.eye(30), -np.ones(30)],
        b_ub=np.zeros(30),
        A_eq=np.c_[matrix.T, np.zeros(3)],
        b_eq=targets,
    )
    problem = recalibrate(prior, targets, matrix, tolerances=0).problem

    assert program.fun <= smallest_feasible_cap(problem) <= program.fun * 1.0101


def test_targets_that_contradict_each_other_are_named_whatever_the_cap():
    matrix = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    for cap in (None, 1e6):
        with pytest.raises(InfeasibleTargets, match='"target_0"') as caught:
            recalibrate([1.0, 1.0], [2.0, 5.0, 1.0], matrix, tolerances=0, cap=cap)
        assert not isinstance(caught.value, InfeasibleCap)
        assert set(caught.value.conflict) == {"target_0", "target_1"}


def test_a_solve_cut_short_raises_and_carries_its_weights():
    prior, targets, matrix, _ = small_problem(2, n=100, kinds=(np.nan,) * 6)
    with pytest.raises(NotConverged, match="gap") as caught:
        recalibrate(prior, targets, matrix, entropy_lambda=1e-6, cap=prior.max() / 3, max_iter=2)
    assert caught.value.result.weights.shape == (100,)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"entropy_lambda": 0.0}, "entropy_lambda"),
        ({"cap": -1.0}, "cap"),
        ({"floor": 3.0, "cap": 2.0}, "floor"),
    ],
)
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(InvalidOption, match=named):
        recalibrate([1.0, 1.0], [2.0], [[1.0], [1.0]], **options)
