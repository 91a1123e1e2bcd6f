"""Sparse regression: best subsets, exact counts, wishes, paths, dense and sparse designs."""

from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from l0.errors import InvalidCount, InvalidSetting, UnreachableCount
from l0.selection.quotas import Bundles
from l0.selectors import gate_path
from l0.selectors.design import Design
from l0.selectors.sparse_regression import CRITERIA, SparseL0Linear


def problem(n_rows=80, n_columns=40, k=4, noise=0.5, rho=0.0, seed=0):
    """Standard normal columns, correlated like rho ** |i - j|; k coefficients of 1 or -1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_columns))
    for j in range(1, n_columns):
        x[:, j] = rho * x[:, j - 1] + (1 - rho**2) ** 0.5 * x[:, j]
    support = np.sort(rng.choice(n_columns, k, replace=False))
    y = x[:, support] @ rng.choice([-1.0, 1.0], k) + noise * rng.normal(size=n_rows)
    return x, y, support


def residual(x, y, chosen):
    """Sum of squares that least squares with an intercept leaves."""
    columns = np.column_stack([np.ones(len(y)), x[:, list(chosen)]])
    return np.sum((y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]) ** 2)


@parametrize_with_checks([SparseL0Linear()])
@pytest.mark.filterwarnings("ignore")  # the checks warn on purpose
def test_scikit_learn_finds_the_estimator_as_it_wants_it(estimator, check):
    check(estimator)


# Which set


@pytest.mark.parametrize("rho", [0.0, 0.9])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_set_is_the_best_of_all_sets_of_its_count(seed, k, rho):
    x, y, _ = problem(30, 14, 4, noise=2.0, rho=rho, seed=seed)
    fit = SparseL0Linear(k=k).fit(x, y)
    best = min(residual(x, y, chosen) for chosen in combinations(range(14), k))
    assert fit.support_.size == np.count_nonzero(fit.coef_) == k
    assert_allclose(np.sum((y - fit.predict(x)) ** 2), best, rtol=1e-9)


@pytest.mark.parametrize(("rho", "seed"), [(0.0, 1), (0.7, 2), (0.95, 3)])
def test_no_exchange_of_two_columns_lowers_the_loss(rho, seed):
    x, y, _ = problem(100, 60, 12, noise=2.0, rho=rho, seed=seed)
    chosen = SparseL0Linear(k=12).fit(x, y).support_
    reached = residual(x, y, chosen)
    for out in chosen:
        for into in set(range(60)) - set(chosen.tolist()):
            assert residual(x, y, [*(chosen[chosen != out]), into]) >= reached * (1 - 1e-9)


def test_known_supports_among_thousands_of_columns_are_recovered():
    x, y, support = problem(300, 1000, 8, noise=1.0, rho=0.5)
    assert SparseL0Linear(k=8).fit(x, y).support_.tolist() == support.tolist()
    assert SparseL0Linear().fit(x, y).support_.tolist() == support.tolist()


def test_gates_find_what_forward_selection_cannot():
    """y has the difference of two columns that are nearly alike: neither explains it alone, and no
    exchange of a single column brings both in."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 50))
    x[:, 1] = x[:, 0] + 0.3 * rng.normal(size=100)
    y = (x[:, 1] - x[:, 0]) / 0.3 + 0.9 * x[:, 2] + 0.01 * rng.normal(size=100)
    assert SparseL0Linear(k=3).fit(x, y).support_.tolist() == [0, 1, 2]


# Certificates and equalities of the fit


@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_survivors_have_the_coefficients_of_ridge_regression(ridge, intercept, weighted):
    x, y, _ = problem(seed=1)
    x = x * np.linspace(0.01, 100, 40) + 5  # columns of any unit and place
    weights = np.random.default_rng(0).uniform(0, 3, 80) if weighted else None
    fit = SparseL0Linear(k=5, ridge=ridge, fit_intercept=intercept).fit(x, y, weights)
    plain = Ridge(ridge, fit_intercept=intercept, solver="svd")
    plain.fit(x[:, fit.support_], y, sample_weight=weights)
    assert_allclose(fit.coef_[fit.support_], plain.coef_, rtol=1e-7)
    assert_allclose(fit.intercept_, plain.intercept_, rtol=1e-7, atol=1e-9)
    assert np.count_nonzero(fit.coef_) == 5


def test_nearly_equal_columns_keep_their_digits():
    x, y, _ = problem(seed=1)
    x[:, 1] = x[:, 0] + 1e-5 * x[:, 1]
    fit = SparseL0Linear(k=3, keep=[0, 1]).fit(x, y)
    plain = LinearRegression().fit(x[:, fit.support_], y)
    assert_allclose(fit.coef_[fit.support_], plain.coef_, rtol=1e-8)


@pytest.mark.parametrize("sparse", [True, False])
def test_open_weights_of_even_gates_are_those_of_ridge_regression(sparse, monkeypatch):
    """With chances p the expected loss is a sum of squares with a ridge of 1 / p - 1."""
    monkeypatch.setattr(gate_path, "CG_STEPS", 500)
    monkeypatch.setattr(gate_path, "CG_TOLERANCE", 1e-20)
    rng = np.random.default_rng(0)
    x = rng.normal(2, 1, (50, 30)) * (rng.random((50, 30)) < 0.3)
    y = x[:, 3] + rng.normal(size=50)
    given_x = sp.csc_array(x) if sparse else x
    design = Design.of(given_x, y, None, intercept=True, ridge=0.0)
    budget, worth = gate_path.gate_path(design, Bundles.of(30), nonnegative=False)[0]
    unit = x - x.mean(0)
    unit /= np.linalg.norm(unit, axis=0)
    assert budget == 15
    assert_allclose(worth, Ridge(30 / 15 - 1).fit(unit, y).coef_ ** 2, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("settings_", [{"k": 6}, {"k": 6, "ridge": 2.0}, {}])
def test_sparse_and_dense_designs_have_one_answer(kind, settings_):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 60)) * (rng.random((120, 60)) < 0.1)
    y = x[:, :6] @ np.ones(6) + 3 + 0.2 * rng.normal(size=120)
    weights = rng.uniform(0.5, 2, 120)
    dense = SparseL0Linear(**settings_).fit(x, y, weights)
    sparse = SparseL0Linear(**settings_).fit(kind(x), y, weights)
    assert sparse.support_.tolist() == dense.support_.tolist()
    assert_allclose(sparse.coef_, dense.coef_, atol=1e-10)
    assert_allclose(sparse.intercept_, dense.intercept_)
    assert_allclose(sparse.predict(kind(x)), dense.predict(x))


def test_a_large_sparse_design_is_never_filled_in(monkeypatch):
    filled = sp.csr_array.toarray

    def refuse(matrix, *arguments, **settings_):
        assert matrix.shape[0] * matrix.shape[1] < 1e6, "the design was filled in"
        return filled(matrix, *arguments, **settings_)

    rng = np.random.default_rng(0)
    x = sp.random_array((10_000, 20_000), density=0.001, rng=rng, format="csr")
    support = np.array([5, 5000, 12_345, 19_999])
    y = x[:, support] @ np.array([3.0, -2.0, 4.0, 2.5]) + 0.1 * rng.normal(size=10_000)
    for kind in (sp.csr_array, sp.csc_array):
        monkeypatch.setattr(kind, "toarray", refuse)
    assert SparseL0Linear(k=4).fit(x, y).support_.tolist() == support.tolist()


@given(
    st.integers(0, 50), st.floats(-3, 3), st.floats(0.01, 100), st.randoms(use_true_random=False)
)
@settings(max_examples=20)
def test_units_origins_and_order_do_not_matter(seed, shift, unit, shuffler):
    x, y, _ = problem(40, 15, 3, seed=seed)
    order = np.array(shuffler.sample(range(15), 15))
    once = SparseL0Linear(k=3).fit(x, y)
    again = SparseL0Linear(k=3).fit(x[:, order] * unit + shift, y * unit + shift)
    assert sorted(order[again.support_]) == once.support_.tolist()
    assert_allclose(again.coef_[np.argsort(order)], once.coef_, rtol=1e-6)


def test_a_row_of_weight_two_is_two_rows_and_of_weight_zero_none():
    x, y, _ = problem(60, 20, 3)
    weights = np.random.default_rng(3).integers(0, 3, 60)
    once = SparseL0Linear().fit(x, y, weights)
    again = SparseL0Linear().fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    assert once.support_.tolist() == again.support_.tolist()
    assert_allclose(once.coef_, again.coef_, rtol=1e-8)


@pytest.mark.parametrize("sparse", [True, False])
def test_nonnegative_coefficients_satisfy_the_optimality_condition(sparse):
    x, y, _ = problem(seed=5)
    given_x = sp.csc_array(x) if sparse else x
    fit = SparseL0Linear(k=6, nonnegative=True).fit(given_x, y)
    slope = (x - x.mean(0)).T @ (y - fit.predict(x))
    assert fit.coef_.min() >= 0
    assert fit.support_.size == 6
    inside = fit.coef_ > 0
    assert_allclose(slope[inside], 0, atol=1e-8)
    assert (slope[fit.support_][fit.coef_[fit.support_] == 0] <= 1e-8).all()


def test_nonnegative_selection_goes_on_to_k_or_to_the_optimum():
    rng = np.random.default_rng(1)
    x = rng.random((50, 300))
    y = x[:, :40] @ rng.random(40)
    fit = SparseL0Linear(k=30, nonnegative=True, fit_intercept=False).fit(x, y)
    assert np.count_nonzero(fit.coef_) == 30
    # With more than the best fit uses, no column that is left out could improve it.
    everything = SparseL0Linear(k=49, nonnegative=True, fit_intercept=False).fit(x, y)
    slope = x.T @ (y - everything.predict(x))
    assert np.count_nonzero(everything.coef_) == 49 or slope.max() <= 1e-6


# Wishes


def test_kept_columns_are_in_every_model():
    x, y, support = problem()
    useless = sorted(set(range(40)) - set(support.tolist()))[:2]
    fit = SparseL0Linear(k=6, keep=useless).fit(x, y)
    assert set(useless) | set(support) == set(fit.support_)
    assert set(useless) <= set(SparseL0Linear(keep=useless).fit(x, y).support_)
    with pytest.raises(InvalidCount, match="Keep fewer"):
        SparseL0Linear(k=1, keep=useless).fit(x, y)


@pytest.mark.parametrize("count", ["items", "groups"])
def test_groups_of_columns_are_taken_or_left_together(count):
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(20), 3)
    x = rng.normal(size=(100, 60))
    true = np.isin(groups, [2, 11])
    y = x[:, true] @ rng.normal(size=6) + 0.3 * rng.normal(size=100)
    fit = SparseL0Linear(k=6 if count == "items" else 2, groups=groups, count=count).fit(x, y)
    assert fit.support_.tolist() == np.flatnonzero(true).tolist()
    best = min(
        residual(x, y, np.flatnonzero(np.isin(groups, pair))) for pair in combinations(range(20), 2)
    )
    assert_allclose(np.sum((y - fit.predict(x)) ** 2), best, rtol=1e-9)
    with pytest.raises(UnreachableCount, match="6 or 9"):
        SparseL0Linear(k=7, groups=groups).fit(x, y)


def test_quotas_bind_and_the_rest_is_the_best_under_them():
    x, y, _ = problem(50, 16, 4, noise=1.0, seed=6)
    strata = np.arange(16) % 2
    fit = SparseL0Linear(k=3, strata=strata, quotas={0: 2}).fit(x, y)
    allowed = [c for c in combinations(range(16), 3) if sum(i % 2 == 0 for i in c) == 2]
    assert_allclose(
        np.sum((y - fit.predict(x)) ** 2), min(residual(x, y, c) for c in allowed), rtol=1e-9
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_exchange_that_quotas_allow_lowers_the_loss(seed):
    x, y, _ = problem(60, 24, 8, noise=2.0, rho=0.8, seed=seed)
    strata = np.random.default_rng(seed).integers(0, 3, 24)
    quotas = {0: (2, 3), 1: (0, 1)}
    chosen = SparseL0Linear(k=6, strata=strata, quotas=quotas).fit(x, y).support_
    reached = residual(x, y, chosen)
    better = []
    for out in chosen:
        for into in set(range(24)) - set(chosen.tolist()):
            other = [*chosen[chosen != out], into]
            held = np.bincount(strata[other], minlength=3)
            if 2 <= held[0] <= 3 and held[1] <= 1:
                better.append(residual(x, y, other) < reached * (1 - 1e-9))
    held = np.bincount(strata[chosen], minlength=3)
    assert 2 <= held[0] <= 3
    assert held[1] <= 1
    assert not any(better)


def test_many_exchanges_at_once_keep_the_quotas():
    """From this start two exchanges, each of which the quotas allow, would empty a stratum."""
    x, y, _ = problem(60, 60, 12, noise=1.0, rho=0.5, seed=5)
    strata = np.random.default_rng(5).integers(0, 4, 60)
    chosen = SparseL0Linear(k=8, strata=strata, quotas=(1, 3)).fit(x, y).support_
    held = np.bincount(strata[chosen], minlength=4)
    assert held.min() >= 1
    assert held.max() <= 3


def test_at_most_one_of_each_group():
    x, y, _ = problem(60, 20, 3, seed=7)
    x = np.repeat(x, 2, axis=1) + 0.1 * np.random.default_rng(0).normal(size=(60, 40))
    fit = SparseL0Linear(k=5, strata=np.arange(40) // 2, quotas=(0, 1)).fit(x, y)
    assert np.unique(fit.support_ // 2).size == 5


# Paths, and the choice of the count


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_on_a_path_each_count_has_the_answer_that_it_has_alone(rho):
    x, y, _ = problem(60, 50, 8, noise=3.0, rho=rho, seed=8)
    fits = SparseL0Linear().path(x, y, [9, 2, 5])
    assert list(fits) == [9, 2, 5]
    for k, fit in fits.items():
        alone = SparseL0Linear(k=k).fit(x, y)
        assert fit.support_.tolist() == alone.support_.tolist()
        assert_allclose(fit.coef_, alone.coef_, rtol=1e-10)
        assert fit.get_params() == alone.get_params()


def test_a_nested_path_is_nested_and_exact_at_its_largest_count():
    x, y, _ = problem(60, 50, 8, noise=3.0, rho=0.9, seed=8)
    fits = SparseL0Linear().path(x, y, range(1, 13), nested=True)
    for k in range(1, 12):
        assert set(fits[k].support_) < set(fits[k + 1].support_)
        assert fits[k].support_.size == k
    assert fits[12].support_.tolist() == SparseL0Linear(k=12).fit(x, y).support_.tolist()
    losses = [np.sum((y - fits[k].predict(x)) ** 2) for k in range(1, 13)]
    assert (np.diff(losses) < 0).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_chosen_count_has_the_lowest_criterion(criterion):
    x, y, _ = problem(70, 30, 5, noise=2.0, seed=9)
    fits = SparseL0Linear().path(x, y, range(9))
    values = [
        CRITERIA[criterion](np.sum((y - fits[k].predict(x)) ** 2), 70, k, 30) for k in range(9)
    ]
    assert SparseL0Linear(criterion=criterion, max_k=8).fit(x, y).k_ == np.argmin(values)


@pytest.mark.parametrize("seed", [7, 9, 13])
def test_cross_validation_chooses_the_count_of_the_lowest_error(seed):
    """On data in which the folds do not agree."""
    x, y, _ = problem(40, 15, 3, noise=3.0, seed=seed)
    search = GridSearchCV(SparseL0Linear(), {"k": range(6)}, cv=4, scoring="neg_mean_squared_error")
    fit = SparseL0Linear(criterion="cv", max_k=5, cv=4).fit(x, y)
    assert fit.k_ == search.fit(x, y).best_params_["k"]


def test_a_price_of_columns_keeps_those_that_are_worth_it():
    x = np.eye(8) * 8**0.5
    y = x @ np.array([3.0, -2.0, 1.0, 0.5, 0.1, 0, 0, 0])
    # With orthogonal columns a column is worth half the square of its coefficient.
    for price, k in ((0.6, 2), (0.4, 3), (0.1, 4), (5.0, 0)):
        fit = SparseL0Linear(l0_lambda=price, max_k=8, fit_intercept=False).fit(x, y)
        assert fit.support_.tolist() == list(range(k))


def test_nothing_and_everything_can_be_selected():
    x, y, _ = problem(60, 10, 3)
    nothing = SparseL0Linear(k=0).fit(x, y)
    assert nothing.support_.size == 0
    assert_allclose(nothing.predict(x), y.mean())
    assert_allclose(SparseL0Linear(k=10).fit(x, y).coef_, LinearRegression().fit(x, y).coef_)


def test_copies_and_constants_among_the_columns_do_no_harm():
    x, y, support = problem(60, 20, 3)
    x = np.column_stack([x, x, np.full(60, 7.0)])
    fit = SparseL0Linear(k=3).fit(x, y)
    assert sorted(fit.support_ % 20) == support.tolist()
    full = SparseL0Linear(k=41).fit(x, y)
    assert_allclose(full.predict(x), LinearRegression().fit(x[:, :20], y).predict(x[:, :20]))


@pytest.mark.parametrize(
    ("asked", "error", "way_out"),
    [
        ({"k": 41}, InvalidCount, "41 of 40"),
        ({"k": -1}, InvalidCount, "-1 of 40"),
        ({"k": 3, "l0_lambda": 0.1}, InvalidSetting, "one of the two"),
        ({"l0_lambda": -0.1}, InvalidSetting, "at least 0"),
        ({"ridge": -1.0}, InvalidSetting, "at least 0"),
        ({"criterion": "xic"}, InvalidSetting, "aic"),
        ({"keep": [0, 1, 2], "max_k": 2}, InvalidCount, "max_k"),
    ],
)
def test_settings_out_of_range_are_refused(asked, error, way_out):
    x, y, _ = problem()
    with pytest.raises(error, match=way_out):
        SparseL0Linear(**asked).fit(x, y)
