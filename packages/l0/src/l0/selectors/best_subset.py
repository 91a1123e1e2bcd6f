"""The k columns that fit a target best by least squares: gates, then swaps until none helps.

Three steps, each without chance. (1) Two starts: what each column is worth when gates close
(`gate_path`), and forward selection. (2) The best set of exactly k columns by each of them.
(3) Swaps: the exchange of a column inside for one outside that lowers the loss most, until none
lowers it. The lower of the two ends is the answer; for k it depends on k alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from l0.selection import Indices
from l0.selection.quotas import Bundles
from l0.selectors.design import Design, Vector
from l0.selectors.gate_path import gate_path, worth_at
from l0.selectors.scikit import nnls

_SPANNED = 1e-9  # of its squared length is left of a column that others explain
_LOWER = 1e-10  # of the target's squared length: what counts as a lower loss
_TRIES = 3  # exchanges that are tried one by one when groups leave their effect uncertain


@dataclass(frozen=True)
class Fit:
    """Least squares on a set of columns.

    Attributes:
        chosen: Positions of the columns, ascending.
        gram: Their products with all columns, shape `(n_chosen, n_columns)`.
        coefficients: One for each of them, for columns of unit length.
        loss: Residual sum of squares plus ridge.
    """

    chosen: Indices
    gram: Vector
    coefficients: Vector
    loss: float


@dataclass
class BestSubset:
    """Best subsets of any number of columns of one design.

    Args:
        design: Columns and target.
        bundles: What is taken or left as one, with the wishes about it.
        nonnegative: Whether coefficients may not be negative.
    """

    design: Design
    bundles: Bundles
    nonnegative: bool = False
    _fits: dict[int, Fit] = field(default_factory=dict)

    def fit(self, k: int) -> Fit:
        """The best fit found of exactly `k`, in items or groups as the bundles count."""
        if k not in self._fits:
            starts = [self.bundles.best(worth, k) for worth in self._worths(k)]
            distinct = {start.tobytes(): start for start in starts}.values()
            self._fits[k] = min((self._swapped(s, k) for s in distinct), key=lambda fit: fit.loss)
        return self._fits[k]

    def within(self, larger: Fit, k: int) -> Fit:
        """The best fit of `k` bundles among those of a larger fit."""
        among = np.zeros(self.bundles.size.size, dtype=np.bool_)
        among[self.bundles.of_item[larger.chosen]] = True
        worth = np.zeros_like(among, dtype=np.float64)
        np.add.at(worth, self.bundles.of_item[larger.chosen], larger.coefficients**2)
        return self._swapped(self.bundles.best(worth, k, among=among), k, among)

    def least_squares(self, chosen: Indices, gram: Vector | None = None) -> Fit:
        """Coefficients of the chosen columns, refined once so that they have their full digits."""
        gram = self.design.gram(chosen) if gram is None else gram
        coefficients = self._coefficients(gram[:, chosen], chosen)
        if not self.nonnegative:
            residual = self.design.target - self.design.fitted(chosen, coefficients)
            miss = self.design.correlations(residual)[chosen]
            miss -= self.design.ridge[chosen] * coefficients
            coefficients = coefficients + self._inverse(gram[:, chosen], chosen) @ miss
        return Fit(chosen, gram, coefficients, self._loss(chosen, coefficients))

    @cached_property
    def _goal(self) -> Vector:
        return self.design.correlations(self.design.target)

    @cached_property
    def _square(self) -> float:
        return float(self.design.target @ self.design.target)

    def _loss(self, chosen: Indices, coefficients: Vector) -> float:
        residual = self.design.target - self.design.fitted(chosen, coefficients)
        return float(residual @ residual + self.design.ridge[chosen] @ coefficients**2)

    def _coefficients(self, inner: Vector, chosen: Indices) -> Vector:
        if not self.nonnegative or not chosen.size:
            return self._inverse(inner, chosen) @ self._goal[chosen]
        # A triangular factor turns the normal equations back into a small least-squares problem.
        values, vectors = np.linalg.eigh(inner + np.diag(self.design.ridge[chosen]))
        root = np.sqrt(np.maximum(values, 1e-12 * values.max(initial=0.0)))
        safe = np.where(root > 0, root, 1.0)
        return np.asarray(nnls(root[:, None] * vectors.T, vectors.T @ self._goal[chosen] / safe)[0])

    def _inverse(self, inner: Vector, chosen: Indices) -> Vector:
        # The pseudo-inverse, as columns may be copies of one another.
        penalised = inner + np.diag(self.design.ridge[chosen])
        return np.asarray(np.linalg.pinv(penalised, rcond=1e-12, hermitian=True), dtype=np.float64)

    def _worths(self, k: int) -> Iterator[Vector]:
        """Worth of each bundle: by the gates at a budget not below k, and by forward entry."""
        n_bundles = self.bundles.size.size
        # Budgets count bundles, k may count their items.
        yield worth_at(self._gate_path, k * n_bundles / max(int(self.bundles.size.sum()), 1))
        order = self._forward(min(k, n_bundles))
        worth = np.zeros(n_bundles)
        worth[order] = np.arange(len(order), 0, -1)
        yield worth

    @cached_property
    def _gate_path(self) -> list[tuple[int, Vector]]:
        return gate_path(self.design, self.bundles, nonnegative=self.nonnegative)

    # Forward selection: a Cholesky factor whose pivot is the bundle that lowers the loss most.

    @cached_property
    def _factor(self) -> tuple[Vector, Vector, list[Vector], list[int]]:
        lengths = self.design.squares + self.design.ridge
        return self._goal.copy(), lengths, [], []

    def _forward(self, k: int) -> list[int]:
        goal, lengths, rows, order = self._factor
        while len(order) < k:
            gains = self.bundles.total(self._gains(goal, lengths))
            gains[self.bundles.keep] += self._square  # those to keep enter first
            gains[order] = 0.0
            pivot = int(np.argmax(gains))
            if gains[pivot] <= _LOWER * self._square:
                break
            order.append(pivot)
            for item in np.flatnonzero(self.bundles.of_item == pivot).tolist():
                if lengths[item] > _SPANNED:
                    row = self.design.gram(np.array([item]))[0]
                    row[item] += self.design.ridge[item]
                    row -= np.array([earlier[item] for earlier in rows]) @ rows if rows else 0.0
                    row /= np.sqrt(lengths[item])
                    goal -= row * (goal[item] / row[item])
                    lengths -= row**2
                    rows.append(row)
        return order[:k]

    def _gains(self, goal: Vector, lengths: Vector) -> Vector:
        """Fall of the loss when a column joins, from what is left of the column and its product."""
        usable = lengths > _SPANNED
        if self.nonnegative:
            usable = usable & (goal > 0)
        return np.divide(goal**2, lengths, out=np.zeros_like(goal), where=usable)

    # Swaps

    def _swapped(self, start: Indices, k: int, among: NDArray[np.bool_] | None = None) -> Fit:
        """Exchange bundles until no exchange lowers the loss."""
        fit = self.least_squares(self.bundles.items(start))
        inside = np.zeros(self.bundles.size.size, dtype=np.bool_)
        inside[start] = True
        outside = np.ones_like(inside) if among is None else among
        low, high = self.bundles.bounds(k)
        while True:
            swaps = self._proposals(fit, inside, outside & ~inside, low, high)
            # For single columns the effect of the first is known exactly, and it is the best; many
            # at once save steps after a poor start. Whatever lowers the loss most is done.
            attempts = [[swap] for swap in swaps[:_TRIES]]
            attempts += [swaps[: len(swaps) >> halvings] for halvings in range(9)]
            best_loss, best = fit.loss - _LOWER * self._square, None
            for pairs in attempts:
                after = inside.copy()
                after[[out for out, _ in pairs]] = False
                after[[into for _, into in pairs]] = True
                held = np.bincount(
                    self.bundles.stratum, self.bundles.size * after, minlength=low.size
                )
                if pairs and (low <= held).all() and (held <= high).all():
                    chosen = self.bundles.items(np.flatnonzero(after))
                    loss = self._loss(chosen, self._coefficients(self._inner(chosen), chosen))
                    if loss < best_loss:
                        best_loss, best = loss, after
            if best is None:
                return fit
            inside = best
            fit = self._moved(fit, self.bundles.items(np.flatnonzero(inside)))

    def _inner(self, chosen: Indices) -> Vector:
        return self.design.gram(chosen, chosen)

    def _moved(self, fit: Fit, chosen: Indices) -> Fit:
        """The fit of other columns; products of the columns that stay are not formed again."""
        stay = np.isin(chosen, fit.chosen)
        gram = np.empty((chosen.size, fit.gram.shape[1]))
        gram[stay] = fit.gram[np.isin(fit.chosen, chosen)]
        gram[~stay] = self.design.gram(chosen[~stay])
        return self.least_squares(chosen, gram)

    def _proposals(
        self,
        fit: Fit,
        inside: NDArray[np.bool_],
        outside: NDArray[np.bool_],
        low: Indices,
        high: Indices,
    ) -> list[tuple[int, int]]:
        """For each bundle inside the best one to take its place, where that helps; best first.

        Taking columns g out of least squares on A adds `b_g' B b_g` to the loss, with b the
        coefficients, M the inverse of the inner products and B the inverse of its block of g. The
        products of the columns with the residual rise by `B b_g` times the rows g of `M X_A' X`,
        and what is left of their squared length by the form of B in these rows. Groups of several
        columns are judged as if their columns were orthogonal, and then tried.
        """
        bundles = self.bundles
        active = fit.coefficients != 0
        items, b, gram = fit.chosen[active], fit.coefficients[active], fit.gram[active]
        inverse = self._inverse(gram[:, items], items)
        shares = inverse @ gram
        goal = self._goal - b @ gram
        lengths = self.design.squares + self.design.ridge - np.einsum("ij,ij->j", gram, shares)
        held = np.bincount(bundles.stratum, bundles.size * inside, minlength=low.size)
        found = []
        for out in np.flatnonzero(inside & ~bundles.keep).tolist():
            home, size = bundles.stratum[out], bundles.size[out]
            room = (held + size <= high) & (held[home] - size >= low[home])
            room[home] = True
            allowed = outside & (bundles.size == size) & room[bundles.stratum]
            if not allowed.any():
                continue
            places = np.flatnonzero(bundles.of_item[items] == out)
            block = np.linalg.pinv(inverse[np.ix_(places, places)], hermitian=True)
            pull, rows = block @ b[places], shares[places]
            gains = bundles.total(
                self._gains(goal + pull @ rows, lengths + np.einsum("ij,ij->j", rows, block @ rows))
            )
            into = int(np.argmax(np.where(allowed, gains, -1.0)))
            found.append((float(gains[into] - b[places] @ pull), out, into))
        # Each newcomer once, at its best exchange.
        swaps: dict[int, tuple[int, int]] = {}
        for fall, out, into in sorted(found, key=lambda swap: -swap[0]):
            if fall > 0:
                swaps.setdefault(into, (out, into))
        return list(swaps.values())
