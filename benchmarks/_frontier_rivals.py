"""Penalties that lead to few records: L1 by proximal gradient, and Hard Concrete gates by Adam.

Neither can be asked for a count. Each runs along a path of its penalty, from the same dense
solution, until it keeps from k to 10% more than k records (or, where the path is so steep that
twelve runs do not get there, as few above k as any of them); the k of largest weight stay.
"""

from abc import ABC, abstractmethod

import numpy as np
import scipy.sparse as sp
from _adam import descend

from microcalibrate.problem import Problem
from microcalibrate.selection.drawing import Draw, Vector

# Counts this far above k are near enough; the surplus with the least weight is then dropped.
SURPLUS = 0.10
MOST_RUNS = 12


class PenaltyPath(ABC):
    """Answers of a penalised method by penalty, and the search for one of about k records.

    Args:
        first: A penalty to begin with for each of some counts. Those between begin between.
    """

    def __init__(self, first: dict[int, float]):
        self._first = first
        self._answers: dict[float, tuple[int, Vector]] = {}

    @abstractmethod
    def weights_at(self, penalty: float) -> Vector:
        """Weights of all records at one penalty, shape `(n_records,)`, zero where dropped."""

    def draw(self, records: int) -> Draw:
        """The k records of largest weight at a penalty that keeps a few more than k.

        They start from the weights that the method gave them, scaled up to the total of all.
        """
        weights = self._near(records)
        kept = np.sort(np.argsort(-weights, kind="stable")[:records])
        start = weights[kept] * (weights.sum() / weights[kept].sum())
        return Draw(kept, start, (weights > 0).astype(np.float64))

    def _near(self, records: int) -> Vector:
        counts = np.array(sorted(self._first))
        beginnings = np.log([self._first[count] for count in counts])
        penalty = float(np.exp(np.interp(np.log(records), np.log(counts), beginnings)))
        for _ in range(MOST_RUNS):
            if penalty not in self._answers:
                weights = self.weights_at(penalty)
                self._answers[penalty] = (int((weights > 0).sum()), weights)
            enough = {p: c for p, (c, _) in self._answers.items() if c >= records}
            if enough and min(enough.values()) <= (1 + SURPLUS) * records:
                break
            penalty = self._next(records)
        if not enough:
            raise RuntimeError(f"no penalty keeps {records:,} records")
        return self._answers[min(enough, key=enough.__getitem__)][1]

    def _next(self, records: int) -> float:
        """Between the nearest penalties on both sides, or beyond the last one."""
        goal = np.log(records * (1 + SURPLUS / 2))
        path = sorted((p, np.log(max(c, 1))) for p, (c, _) in self._answers.items())
        low = max((p for p, log_count in path if log_count > goal), default=None)
        high = min((p for p, log_count in path if log_count <= goal), default=None)
        if low is None or high is None:
            return path[0][0] / 4 if low is None else path[-1][0] * 4
        at = dict(path)
        # A share in the middle half, so that a steep end of the path cannot stall the search.
        share = (at[low] - goal) / max(at[low] - at[high], 1e-9)
        return float(low * (high / low) ** np.clip(share, 0.15, 0.85))


class LassoPath(PenaltyPath):
    """Weights that are few because each ratio to its dense weight has a price.

    With `r` the ratios to the dense weights `w`, `q = w / sum(w)`, and `e(r)` the relative errors:

        minimise   1/2 sum_j importance_j e_j(r)^2 + closeness sum_i q_i (r_i - 1)^2 / 2
                   + penalty * mean_i r_i        over r >= 0

    The first two terms are what the refit minimises. A price on the weights themselves could not
    choose: their sum is all but fixed by the targets. That each ratio has the same price is the
    adaptive lasso (Zou 2006). Without the closeness an optimum need not have more records than
    targets (1,999 here), so larger counts would only be a descent that stopped early.

    Solved by FISTA (Beck and Teboulle 2009) with restarts (O'Donoghue and Candes 2015) and a step
    length per record, from `sum_j importance_j |a_ij| sum_k |a_kj|`, which bounds the Hessian.
    """

    PASSES = 300

    def __init__(self, part: Problem, dense_weights: Vector, closeness: float = 1e-3):
        super().__init__({1_000: 1.0, 5_000: 6e-2, 20_000: 8e-3, 100_000: 7e-4})
        self._alive = np.flatnonzero(dense_weights > 0)
        self._dense = dense_weights
        weights = dense_weights[self._alive]
        columns = part.estimate_matrix[self._alive] @ sp.diags_array(1 / part.scales)
        self._by_record = sp.csr_array(sp.diags_array(weights) @ columns)
        self._by_target = sp.csr_array(self._by_record.T)
        self._goal = part.targets / part.scales
        self._importance = part.importances
        self._pull = closeness * weights / weights.sum()
        size = abs(self._by_record)
        self._curvature = size @ (self._importance * (size.T @ np.ones(len(weights)))) + self._pull
        self._last = np.ones(len(weights))

    def weights_at(self, penalty: float) -> Vector:
        """The solution at one penalty, from the last one found."""
        price = penalty / len(self._last)
        ratio, ahead, momentum = self._last, self._last, 1.0
        for _ in range(self.PASSES):
            error = self._by_target @ ahead - self._goal
            slope = self._by_record @ (self._importance * error) + self._pull * (ahead - 1)
            moved = np.maximum(ahead - (slope + price) / self._curvature, 0.0)
            if ((ahead - moved) * self._curvature) @ (moved - ratio) > 0:
                momentum = 1.0
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = moved + (momentum - 1) / following * (moved - ratio)
            ratio, momentum = moved, following
        self._last = ratio
        weights = np.zeros(len(self._dense))
        weights[self._alive] = ratio * self._dense[self._alive]
        return weights


class GatePath(PenaltyPath):
    """Weights and sampled Hard Concrete gates trained together by Adam, as the incumbents do.

    `_adam.py` at the incumbents' settings: learning rate 0.15, gates that start open at 0.999,
    fixed temperature 2/3; but it starts at the dense weights.
    """

    PASSES = 600

    def __init__(self, part: Problem, dense_weights: Vector, seed: int):
        super().__init__({1_000: 8e-5, 5_000: 6e-6, 20_000: 1e-6, 100_000: 6.105e-7})
        self._alive = np.flatnonzero(dense_weights > 0)
        self._dense = dense_weights
        self._rows = sp.csr_matrix(part.estimate_matrix[self._alive])
        self._targets = part.targets
        self._seed = seed

    def weights_at(self, penalty: float) -> Vector:
        """Trained weights times their deterministic gates."""
        weights = np.zeros(len(self._dense))
        weights[self._alive] = descend(
            self._rows,
            self._targets,
            self._dense[self._alive],
            passes=self.PASSES,
            seed=self._seed,
            gated=True,
            checkpoints=[],
            judge=lambda _: {},
            l0_lambda=penalty,
        )[0]
        return weights
