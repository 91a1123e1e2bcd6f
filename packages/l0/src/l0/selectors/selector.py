"""A scikit-learn selector of exactly k features, for linear estimators and PyTorch modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from l0.errors import InvalidCount, InvalidSetting, UnsupportedData
from l0.selection import Indices
from l0.selection.quotas import Bundles, Quotas
from l0.selectors.design import Vector
from l0.selectors.gate_path import closing_gates, worth_at
from l0.selectors.scikit import (
    BaseEstimator,
    LabelEncoder,
    LogisticRegression,
    SelectorMixin,
    check_is_fitted,
    clone,
    issparse,
    type_of_target,
    validate_data,
)
from l0.selectors.sparse_regression import SparseL0Linear
from l0.selectors.trained_gates import trained_path

Module = nn.Module | Callable[[int], nn.Module]


class L0Selector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Selects exactly k features by L0 gates in front of an estimator.

    The gates close while the estimator is fitted to the gated features; the k of most worth are
    selected, under wishes if there are any.

    - `SparseL0Linear`: gates in closed form, then swaps (the best subset in least squares).
    - Other linear estimators with `coef_`, such as `LogisticRegression` or `Ridge`: fitted again
      and again to features scaled by their gates, while the budget of open gates shrinks.
    - A PyTorch module, or a function from the number of features to one: trained on features that
      are open at random, with the chances of their gates. Scale the features beforehand.

    Args:
        estimator: One of these. If None, `SparseL0Linear` for a target of real numbers, and
            `LogisticRegression` for one of classes (whole numbers or labels).
        k: How many features to select; if None, half of them, rounded up.
        keep: Positions of features that are selected in any case, as in `l0.selection.Wishes`.
        groups: Label of each feature; features of one label are taken or left together.
        strata: Label of each feature, for `quotas`.
        quotas: How many features to take of each stratum.
        count: Whether k and quotas count `"items"`, that is features, or `"groups"`.
        loss: For a module: loss of (outputs, targets), a scalar tensor. If None, mean squared
            error, or cross-entropy of classes.
        steps: For a module: training steps, each on all rows.
        learning_rate: For a module: of AdamW.
        seed: For a module: of its initial parameters and of the gates' noise.

    Attributes:
        support_: Positions of the selected features, ascending.
        estimator_: The estimator, fitted to the selected features alone; or the trained module.
        n_features_in_: Number of features.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 50))
        >>> y = np.where(x[:, 3] - x[:, 40] + 0.5 * rng.normal(size=200) > 0, "yes", "no")
        >>> L0Selector(k=2).fit(x, y).get_support(indices=True).tolist()
        [3, 40]
    """

    support_: Indices
    estimator_: Any
    n_features_in_: int

    def __init__(
        self,
        estimator: Any = None,
        k: int | None = None,
        *,
        keep: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        quotas: Quotas | None = None,
        count: Literal["items", "groups"] = "items",
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        steps: int = 1000,
        learning_rate: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.k = k
        self.keep = keep
        self.groups = groups
        self.strata = strata
        self.quotas = quotas
        self.count = count
        self.loss = loss
        self.steps = steps
        self.learning_rate = learning_rate
        self.seed = seed

    def fit(self, X: Any, y: ArrayLike) -> Self:  # noqa: N803  # scikit-learn's name
        """Select features.

        Args:
            X: Shape `(n_rows, n_features)`: an array, a DataFrame, or (not for modules) a SciPy
                sparse matrix.
            y: Shape `(n_rows,)`.

        Returns:
            The selector itself.

        Raises:
            InvalidCount: If `k` is not in `[0, n_features]`.
            UnsupportedData: If the estimator is none of those that can be used.
            L0Error: If the wishes contradict each other; see `l0.constrained_top_k`.
        """
        rows, target, bundles = self._validated(X, y)
        k = -(-int(bundles.size.sum()) // 2) if self.k is None else self.k
        found, self.estimator_ = self._selections(rows, target, bundles, [k], nested=False)
        self.support_ = found[k]
        if self.estimator_ is None:
            self.estimator_ = clone(self._estimator(target))
            if self.support_.size:
                self.estimator_.fit(rows[:, self.support_], target)
        return self

    def path(
        self,
        X: Any,  # noqa: N803  # scikit-learn's name
        y: ArrayLike,
        ks: Iterable[int],
        *,
        nested: bool = True,
    ) -> dict[int, Indices]:
        """Selections of several counts, from one run of the gates; the selector stays as it is.

        Args:
            X: As in `fit`.
            y: As in `fit`.
            ks: Counts, in any order.
            nested: Whether each smaller selection must lie within the next larger one. If not, each
                is what `fit` selects for that count alone.

        Returns:
            Positions for each count, in the order of `ks`.

        Raises:
            L0Error: As `fit`, for any of the counts.

        Examples:
            >>> rng = np.random.default_rng(0)
            >>> x = rng.normal(size=(100, 20))
            >>> y = 3 * x[:, 7] - 2 * x[:, 12] + rng.normal(size=100)
            >>> {k: found.tolist() for k, found in L0Selector().path(x, y, [1, 2]).items()}
            {1: [7], 2: [7, 12]}
        """
        rows, target, bundles = clone(self)._validated(X, y)
        return self._selections(rows, target, bundles, list(ks), nested=nested)[0]

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn's checks may expect."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self._is_module()
        tags.target_tags.required = True
        return tags

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, dtype=np.bool_)
        mask[self.support_] = True
        return mask

    def _is_module(self) -> bool:
        given = self.estimator
        return isinstance(given, nn.Module) or (callable(given) and not hasattr(given, "fit"))

    def _estimator(self, target: NDArray[Any]) -> Any:
        if self.estimator is not None:
            return self.estimator
        return SparseL0Linear() if type_of_target(target) == "continuous" else LogisticRegression()

    def _validated(self, x: Any, y: ArrayLike) -> tuple[Any, NDArray[Any], Bundles]:
        accept = False if self._is_module() else ("csr", "csc")
        rows, target = validate_data(self, x, y, accept_sparse=accept, dtype=np.float64)
        bundles = Bundles.of(rows.shape[1], **self._wishes())
        if self.k is not None and not 0 <= self.k <= bundles.size.sum():
            raise InvalidCount(
                f"{self.k} of {bundles.size.sum()} {self.count} are asked for. Ask for fewer."
            )
        return rows, target, bundles

    def _wishes(self) -> dict[str, Any]:
        names = ("keep", "groups", "strata", "quotas", "count")
        return {name: getattr(self, name) for name in names}

    def _selections(
        self, rows: Any, target: NDArray[Any], bundles: Bundles, ks: list[int], *, nested: bool
    ) -> tuple[dict[int, Indices], Any]:
        """Positions for each count; and the fitted estimator where it comes with them."""
        estimator = self._estimator(target)
        if isinstance(estimator, SparseL0Linear):
            plain = {"count": "items"}
            names = (*self._wishes(), "k", "l0_lambda")
            own = [name for name in names if not _same(getattr(estimator, name), plain.get(name))]
            if own:
                raise InvalidSetting(
                    f"`{own[0]}` is a setting of SparseL0Linear here. Give it to the selector."
                )
            search = clone(estimator).set_params(**self._wishes(), k=None, l0_lambda=None)
            fits = search.path(rows, target, ks, nested=nested)
            found = {k: fit.support_ for k, fit in fits.items()}
            return found, fits[ks[0]] if len(ks) == 1 else None
        if self.loss is not None and not self._is_module():
            raise InvalidSetting(
                f"`loss` is for PyTorch modules, and {type(estimator).__name__} has its own. "
                "Leave it out."
            )
        module = None
        if self._is_module():
            path, module = trained_path(
                estimator,
                rows,
                *_targets(target, self.loss),
                bundles,
                steps=self.steps,
                learning_rate=self.learning_rate,
                seed=self.seed,
            )
        else:
            path = _linear_path(estimator, rows, target, bundles)
        per_item = bundles.size.size / max(int(bundles.size.sum()), 1)  # budgets count bundles
        chosen: dict[int, Indices] = {}
        among = np.ones(bundles.size.size, dtype=np.bool_)
        for k in sorted(set(ks), reverse=True):
            chosen[k] = bundles.best(worth_at(path, k * per_item), k, among=among)
            if nested:
                among = np.isin(np.arange(among.size), chosen[k])
        return {k: bundles.items(chosen[k]) for k in ks}, module


def _same(value: Any, default: str | None) -> bool:
    return value is default or (isinstance(value, str) and value == default)


def _linear_path(
    estimator: Any, rows: Any, target: NDArray[Any], bundles: Bundles
) -> list[tuple[int, Vector]]:
    """The path of `closing_gates` for an estimator with `coef_`."""
    if issparse(rows):
        squares = np.asarray(rows.multiply(rows).mean(0)).ravel()
        spread = np.sqrt(np.maximum(squares - np.asarray(rows.mean(0)).ravel() ** 2, 0.0))
    else:
        spread = rows.std(0)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)

    def fitted(sight: Indices, chance: Vector) -> Vector:
        factors = scale[sight] * chance
        columns = rows[:, sight]
        gated = columns.multiply(factors).tocsr() if issparse(columns) else columns * factors
        model = clone(estimator).fit(gated, target)
        if not hasattr(model, "coef_"):
            raise UnsupportedData(
                f"{type(estimator).__name__} has no `coef_`, so its gates cannot be set. Give a "
                "linear estimator, a PyTorch module, or a function that makes one."
            )
        weights = np.atleast_2d(model.coef_) * chance
        return np.asarray(np.sqrt((weights**2).sum(0)))

    return closing_gates(bundles, rows.shape[0], fitted)


def _targets(
    target: NDArray[Any], loss: Callable[[Tensor, Tensor], Tensor] | None
) -> tuple[NDArray[Any], Callable[[Tensor, Tensor], Tensor]]:
    """Numbers to train a module on, and its loss."""
    if type_of_target(target) == "continuous":
        return target.astype(np.float32), loss or (
            lambda outputs, goals: nn.functional.mse_loss(outputs.reshape(goals.shape), goals)
        )
    codes = LabelEncoder().fit_transform(target)
    return codes.astype(np.int64), loss or nn.functional.cross_entropy
