"""Linear regression on exactly k columns, as a scikit-learn estimator, dense or sparse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import lgamma, log
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from l0.errors import InvalidCount, InvalidSetting
from l0.selection import Indices
from l0.selection.quotas import Bundles, Quotas
from l0.selectors.best_subset import BestSubset, Fit
from l0.selectors.design import Design, Vector
from l0.selectors.scikit import (
    BaseEstimator,
    KFold,
    RegressorMixin,
    check_is_fitted,
    check_sample_weight,
    validate_data,
)

Criterion: TypeAlias = Callable[[float, float, int, int], float]

_PATIENCE = 10  # counts without improvement after which the search for the best count ends


def _choices(n_columns: int, k: int) -> float:
    """Logarithm of the number of sets of k columns."""
    return lgamma(n_columns + 1) - lgamma(k + 1) - lgamma(n_columns - k + 1)


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        # Akaike 1974; Schwarz 1978.
        "aic": lambda loss, n, k, _: n * log(loss / n) + 2 * k,
        "bic": lambda loss, n, k, _: n * log(loss / n) + k * log(n),
        # Chen and Chen 2008, "Extended Bayesian information criteria for model selection with
        # large model spaces", Biometrika 95, with gamma = 1.
        "ebic": lambda loss, n, k, p: n * log(loss / n) + k * log(n) + 2 * _choices(p, k),
        # Żak-Szatkowska and Bogdan 2011, "Modified versions of the Bayesian information criterion
        # for sparse generalized linear models", Computational Statistics & Data Analysis 55: a
        # prior by which four columns are expected.
        "mbic": lambda loss, n, k, p: n * log(loss / n) + k * (log(n) + 2 * log(max(p / 4, 1.0))),
        # Fan and Tang 2013, "Tuning parameter selection in high dimensional penalized
        # likelihood", Journal of the Royal Statistical Society B 75.
        "gic": lambda loss, n, k, p: n * log(loss / n) + k * log(p) * log(max(log(n), 1.0)),
    }
)
"""Information criteria of (residual sum of squares, rows, columns in the model, columns in all)."""


class SparseL0Linear(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Least squares on the best k columns: closed-form gates, exact count, swaps, refit.

    The columns carry L0 gates whose expected loss is minimised without noise while their budget
    shrinks; exactly k columns are left, exchanged until no exchange of one for another lowers the
    residual sum of squares, and refitted. Two fits of the same data are equal, and the answer for
    one k is the same alone and on a path.

    Args:
        k: How many columns to use, exactly. If None, `l0_lambda` or `criterion` chooses.
        l0_lambda: Price of a column: the count minimises `loss / (2 n_rows) + l0_lambda * k`.
        criterion: What chooses the count if there is neither `k` nor `l0_lambda`: an information
            criterion of `CRITERIA`, or `"cv"` for the squared error in cross-validation.
        max_k: Largest count to consider; if None, `n_rows / (log(n_columns) log(log(n_rows)))`. The
            search goes up from 0 and ends after 10 counts without improvement.
        cv: Number of folds of `"cv"`, taken in the order of the rows.
        ridge: Price of a squared coefficient, as `alpha` of scikit-learn's `Ridge`.
        nonnegative: Whether coefficients may not be negative. A selected column may then have a
            coefficient of zero, namely when no further column can improve the fit.
        fit_intercept: Whether there is an intercept.
        keep: Columns that are selected in any case, as in `l0.selection.Wishes`.
        groups: Label of each column; columns of one label are taken or left together.
        strata: Label of each column, for `quotas`.
        quotas: How many columns to take of each stratum.
        count: Whether k and quotas count `"items"`, that is columns, or `"groups"`.

    Attributes:
        coef_: Coefficients, shape `(n_features,)`; zero but for the selected columns.
        intercept_: The intercept, 0 without one.
        support_: Positions of the selected columns, ascending.
        k_: The count that was asked for or chosen.
        n_features_in_: Number of columns.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(100, 400))
        >>> y = 3 * x[:, 7] - 2 * x[:, 300] + rng.normal(size=100)
        >>> SparseL0Linear(k=2).fit(x, y).support_.tolist()
        [7, 300]
        >>> SparseL0Linear().fit(x, y).k_
        2
    """

    coef_: Vector
    intercept_: float
    support_: Indices
    k_: int
    n_features_in_: int

    def __init__(
        self,
        k: int | None = None,
        *,
        l0_lambda: float | None = None,
        criterion: Literal["aic", "bic", "ebic", "mbic", "gic", "cv"] = "mbic",
        max_k: int | None = None,
        cv: int = 5,
        ridge: float = 0.0,
        nonnegative: bool = False,
        fit_intercept: bool = True,
        keep: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        quotas: Quotas | None = None,
        count: Literal["items", "groups"] = "items",
    ) -> None:
        self.k = k
        self.l0_lambda = l0_lambda
        self.criterion = criterion
        self.max_k = max_k
        self.cv = cv
        self.ridge = ridge
        self.nonnegative = nonnegative
        self.fit_intercept = fit_intercept
        self.keep = keep
        self.groups = groups
        self.strata = strata
        self.quotas = quotas
        self.count = count

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803  # scikit-learn's name
        """Select columns and fit them.

        Args:
            X: Shape `(n_rows, n_features)`: a NumPy array, a DataFrame, or a SciPy sparse matrix or
                array, which is never filled in.
            y: Shape `(n_rows,)`.
            sample_weight: Weights of the rows, at least 0, shape `(n_rows,)`. A row of weight 2 is
                two rows.

        Returns:
            The estimator itself.

        Raises:
            InvalidSetting: If a setting is out of range, or `k` and `l0_lambda` are both given.
            InvalidCount: If `k` is not in `[0, n_features]`.
            L0Error: If the wishes contradict each other; see `l0.constrained_top_k`.
        """
        self._check()
        rows, target, weights = self._validated(X, y, sample_weight)
        search = self._search(rows, target, weights)
        self.k_ = self._chosen_count(rows, target, weights, search) if self.k is None else self.k
        self._take(search.fit(self.k_), search.design, rows, target, weights)
        return self

    def path(
        self,
        X: Any,  # noqa: N803  # scikit-learn's name
        y: ArrayLike,
        ks: Iterable[int],
        *,
        sample_weight: ArrayLike | None = None,
        nested: bool = False,
    ) -> dict[int, Self]:
        """Fitted estimators for several counts, which share the gates and the starts.

        Args:
            X: As in `fit`.
            y: As in `fit`.
            ks: Counts, in any order.
            sample_weight: As in `fit`.
            nested: Whether each smaller set must lie within the next larger one. If not, each is
                what `fit` gives for that count alone. The best sets of two counts need not be
                nested, so to demand it costs fit at the smaller ones.

        Returns:
            An estimator for each count, in the order of `ks`.

        Raises:
            L0Error: As `fit`, for any of the counts.

        Examples:
            >>> rng = np.random.default_rng(0)
            >>> x = rng.normal(size=(100, 40))
            >>> y = 3 * x[:, 7] - 2 * x[:, 30] + rng.normal(size=100)
            >>> fits = SparseL0Linear().path(x, y, [1, 2])
            >>> {k: fit.support_.tolist() for k, fit in fits.items()}
            {1: [7], 2: [7, 30]}
        """
        self._check()
        rows, target, weights = self._validated(X, y, sample_weight)
        search = self._search(rows, target, weights)
        wanted = list(ks)
        found: dict[int, Self] = {}
        last: Fit | None = None
        for k in sorted(set(wanted), reverse=True):
            last = search.within(last, k) if nested and last is not None else search.fit(k)
            found[k] = type(self)(**{**self.get_params(deep=False), "k": k, "l0_lambda": None})
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self, name):
                    setattr(found[k], name, getattr(self, name))
            found[k].k_ = k
            found[k]._take(last, search.design, rows, target, weights)
        return {k: found[k] for k in wanted}

    def predict(self, X: Any) -> Vector:  # noqa: N803  # scikit-learn's name
        """Predictions, shape `(n_rows,)`."""
        check_is_fitted(self)
        rows = validate_data(self, X, accept_sparse=("csr", "csc"), reset=False)
        return np.asarray(rows @ self.coef_ + self.intercept_)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn's checks may expect."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check(self) -> None:
        if self.k is not None and self.l0_lambda is not None:
            raise InvalidSetting("`k` and `l0_lambda` are both given. Give one of the two.")
        for name in ("l0_lambda", "ridge"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidSetting(f"`{name}` is {value}, but must be at least 0 and finite.")
        if self.criterion not in (*CRITERIA, "cv"):
            raise InvalidSetting(
                f"`criterion` is {self.criterion!r}. Give one of {', '.join(CRITERIA)}, cv."
            )

    def _validated(
        self, x: Any, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Any, Vector, Vector | None]:
        rows, target = validate_data(
            self, x, y, accept_sparse=("csr", "csc"), dtype=np.float64, y_numeric=True
        )
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(
                sample_weight, rows, dtype=np.float64, ensure_non_negative=True
            )
        return rows, np.asarray(target, dtype=np.float64), weights

    def _search(self, rows: Any, target: Vector, weights: Vector | None) -> BestSubset:
        n_columns = rows.shape[1]
        wanted = self.max_k if self.k is None else self.k
        if wanted is not None and not 0 <= wanted <= n_columns:
            raise InvalidCount(f"{wanted} of {n_columns} columns are asked for.")
        bundles = Bundles.of(
            n_columns,
            keep=self.keep,
            groups=self.groups,
            strata=self.strata,
            quotas=self.quotas,
            count=self.count,
        )
        design = Design.of(rows, target, weights, intercept=self.fit_intercept, ridge=self.ridge)
        return BestSubset(design, bundles, self.nonnegative)

    def _chosen_count(
        self, rows: Any, target: Vector, weights: Vector | None, search: BestSubset
    ) -> int:
        """The count of the lowest price, among those that the wishes can reach."""
        n_rows = float(target.size if weights is None else weights.sum())
        price = self._price(rows, target, weights, search, n_rows)
        lowest, best = np.inf, None
        for k in range(self._limit(n_rows, search.bundles) + 1):
            try:
                value = price(k)
            except InvalidCount:  # Fewer than must be kept, or between the sizes of groups.
                continue
            if value < lowest:
                lowest, best = value, k
            elif best is not None and k - best >= _PATIENCE:
                break
        if best is None:
            raise InvalidCount(
                f"no count up to {self._limit(n_rows, search.bundles)} obeys the wishes. Raise "
                "`max_k`, or loosen them."
            )
        return best

    def _limit(self, n_rows: float, bundles: Bundles) -> int:
        most = int(bundles.size.sum())
        if self.max_k is not None:
            return min(self.max_k, most)
        # Zhu et al. 2020, "A polynomial algorithm for best-subset selection problem", PNAS 117.
        rate = log(max(most, 3)) * max(log(max(log(max(n_rows, 2)), 1)), 0.5)
        return min(most, max(int(n_rows / rate), 1))

    def _price(
        self,
        rows: Any,
        target: Vector,
        weights: Vector | None,
        search: BestSubset,
        n_rows: float,
    ) -> Callable[[int], float]:
        """What a count costs: by `l0_lambda`, in cross-validation, or by the criterion."""
        if self.l0_lambda is not None:
            price = self.l0_lambda
            return lambda k: search.fit(k).loss / (2 * n_rows) + price * k
        if self.criterion == "cv":
            folds = [
                (self._search(*_rows_of(fit, rows, target, weights)), fit, test)
                for fit, test in KFold(self.cv).split(target)
            ]

            def missed(k: int) -> float:
                total = 0.0
                for part, fit, test in folds:
                    inside = _rows_of(fit, rows, target, weights)
                    coef, intercept = _unscaled(
                        part.fit(k), part.design, *inside, self.fit_intercept
                    )
                    misses = target[test] - rows[test] @ coef - intercept
                    total += float(np.sum(misses**2 * (1.0 if weights is None else weights[test])))
                return total

            return missed
        criterion = CRITERIA[self.criterion]
        # A perfect fit has no logarithm; below this the loss is rounding.
        least = 1e-14 * float(search.design.target @ search.design.target) + 1e-300

        def informed(k: int) -> float:
            fit = search.fit(k)
            return criterion(max(fit.loss, least), n_rows, fit.chosen.size, rows.shape[1])

        return informed

    def _take(
        self, fit: Fit, design: Design, rows: Any, target: Vector, weights: Vector | None
    ) -> None:
        self.support_ = fit.chosen
        self.coef_, self.intercept_ = _unscaled(
            fit, design, rows, target, weights, self.fit_intercept
        )


def _unscaled(
    fit: Fit, design: Design, rows: Any, target: Vector, weights: Vector | None, intercept: bool
) -> tuple[Vector, float]:
    """Coefficients in the bundles of the data, and the intercept that goes with them."""
    coef = np.zeros(design.scale.size)
    coef[fit.chosen] = fit.coefficients / design.scale[fit.chosen]
    if not intercept:
        return coef, 0.0
    residual = target - rows[:, fit.chosen] @ coef[fit.chosen]
    return coef, float(np.average(residual, weights=weights))


def _rows_of(
    which: Indices, rows: Any, target: Vector, weights: Vector | None
) -> tuple[Any, Vector, Vector | None]:
    return rows[which], target[which], None if weights is None else weights[which]
