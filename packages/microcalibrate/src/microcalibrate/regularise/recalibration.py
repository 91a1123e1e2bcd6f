"""Weights as close to a stated prior as targets allow, in relative entropy, below a hard cap.

Over weights `w` with prior `d`, of which `D` is the sum, and targets with scales `s`:

    minimise    entropy_lambda * KL(w, d) / D + 1/2 * sum_j omega_j e_j^2
    with        KL(w, d) = sum_i w_i log(w_i / d_i) - w_i + d_i,
                e_j = (sum_i a_ij w_i - t_j) / s_j,   floor <= w_i <= cap

where `omega` are the importances of soft targets, which sum to 1; a banded target has
`|e_j| <= tolerance_j` in place of its square, an exact one `e_j = 0`. This is the package's one
engine with the raking distance (Deville and Särndal 1992; Kullback and Leibler 1951): the weights
are `clip(d_i exp(sum_j a_ij nu_j), floor, cap)`, with one price `nu_j` per target.

In a loss that is written as the mean squared relative error plus a price times the entropy of
shares, that price is `2 * entropy_lambda`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector, checked_weights
from microcalibrate.engine.distances import RAKING
from microcalibrate.engine.loop import Step
from microcalibrate.engine.solving import Solution, checked_prices, solve
from microcalibrate.errors import InfeasibleTargets, InvalidOption, NotConverged
from microcalibrate.problem import Problem
from microcalibrate.regularise.caps import check_reach, infeasible_cap, ratios_of
from microcalibrate.result import Status

if TYPE_CHECKING:
    import pandas as pd

# A weight this near to the cap, relative to it, lies on it.
AT_CAP = 1e-9


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Weights of least entropy from their prior, with the certificate that they are.

    Attributes:
        weights: Shape `(n_records,)`, from the floor to the cap to the last bit.
        prior: Weights that they are close to, shape `(n_records,)`.
        prices: `nu`, shape `(n_targets,)`: what a record adds to the log of the ratio of its
            weight to its prior, per unit that it adds to the target.
        status: How the solve ended.
        gap: Relative duality gap: no weights can lower the objective by more than this share.
        objective: Value of the objective.
        max_bound_violation: Largest overshoot of cap or floor before rounding was taken off,
            relative to the bound.
        kkt_residual: Largest distance of a weight from what the prices say, relative to the
            largest weight.
        n_at_cap: Weights that lie on the cap.
        n_steps: Steps of the engine.
        problem: The checked problem.
    """

    weights: Vector
    prior: Vector
    prices: Vector
    status: Status
    gap: float
    objective: float
    max_bound_violation: float
    kkt_residual: float
    n_at_cap: int
    n_steps: int
    problem: Problem

    @property
    def errors(self) -> Vector:
        """`(estimate - target) / scale`, shape `(n_targets,)`, signed."""
        return self.problem.errors(self.weights)

    @property
    def targets(self) -> pd.DataFrame:
        """One row per target, the dearest first: `name`, `target`, `estimate`, `error`, `price`.

        `price` is in entropy per unit of the target; `price_per_scale` in entropy per scale, so
        that targets of different units compare.
        """
        import pandas as pd

        problem = self.problem
        table = pd.DataFrame(
            {
                "name": list(problem.target_names),
                "target": problem.targets,
                "estimate": problem.estimates(self.weights),
                "error": self.errors,
                "scale": problem.scales,
                "tolerance": problem.tolerances,
                "price": self.prices,
                "price_per_scale": self.prices * problem.scales,
            }
        )
        order = np.argsort(-np.abs(table.price_per_scale.to_numpy()), kind="stable")
        return table.iloc[order].reset_index(drop=True)


def recalibrate(
    prior: Any,
    targets: Any,
    estimate_matrix: Any,
    *,
    target_names: Any = None,
    tolerances: Any = None,
    importances: Any = None,
    scales: Any = None,
    entropy_lambda: float = 1e-4,
    cap: float | None = None,
    floor: float = 0.0,
    ceilings: Any = None,
    max_iter: int = 1000,
    on_step: Callable[[Step], None] | None = None,
    start_prices: Any = None,
) -> Recalibration:
    """The weights nearest to a prior in relative entropy that reproduce targets, below a cap.

    Args:
        prior: Weights to be close to, shape `(n_records,)`; a record of prior 0 stays at 0.
        targets: Totals, shape `(n_targets,)`, or a mapping by name.
        estimate_matrix: What each record adds to each target per unit of weight, shape
            `(n_records, n_targets)`: DataFrame, array or SciPy sparse matrix.
        target_names: Names of the columns, where the matrix does not carry them.
        tolerances: As fractions of the scales: 0 is exact, missing or NaN is soft.
        importances: How much each soft target counts, relative to the others.
        scales: What an error of 1 means; `|target|` where not given.
        entropy_lambda: Price of entropy in units of half the mean squared relative error of soft
            targets, positive; the `closeness` of `Calibration` with the raking distance. A soft
            target whose standard deviation `sigma` is known has the scale `sigma`.
        cap: Largest weight; None is no cap. A weight whose prior lies above it ends on it or
            below.
        floor: Smallest weight of a record whose prior is positive.
        ceilings: Largest weight of each record, shape `(n_records,)`; infinite is none.
        max_iter: Most steps of the engine.
        on_step: Called with each step.
        start_prices: `Recalibration.prices` of nearly the same problem, `(n_targets,)`, such as
            the last round's: the same weights in fewer steps.

    Returns:
        The weights and their certificate.

    Raises:
        InfeasibleCap: If exact and banded targets can hold, but not below this cap. It names the
            targets and the smallest cap with which they can.
        InfeasibleTargets: If they contradict each other whatever the cap.
        NotConverged: If the engine ended without a certificate; the error carries the weights.
        InvalidProblem: If the parts do not fit together.
        InvalidOption: If an option is out of its range, or `start_prices` are not one finite
            number per target.
        KeyboardInterrupt: If Ctrl-C ended the solve.

    Examples:
        >>> found = recalibrate([1.0, 1.0, 1.0], [4.0], [[1.0], [1.0], [1.0]], tolerances=0, cap=2)
        >>> found.weights.round(4)
        array([1.3333, 1.3333, 1.3333])
    """
    weights = checked_weights(prior)
    if not (np.isfinite(entropy_lambda) and entropy_lambda > 0):
        raise InvalidOption(f"entropy_lambda={entropy_lambda!r} must be positive and finite.")
    if cap is not None and not (np.isfinite(cap) and cap > 0):
        raise InvalidOption(f"cap={cap!r} must be a positive weight, or None for no cap.")
    if not (np.isfinite(floor) and floor >= 0) or (cap is not None and floor > cap):
        raise InvalidOption(f"floor={floor!r} must lie between 0 and the cap ({cap}).")
    problem = Problem.build(
        weights,
        targets,
        estimate_matrix,
        target_names=target_names,
        scales=scales,
        tolerances=tolerances,
        importances=importances,
        min_weight_ratio=ratios_of(floor, weights, 0.0),
        max_weight_ratio=ratios_of(_highest(cap, ceilings), weights, np.inf),
    )
    start = _engine_prices(problem, start_prices, entropy_lambda)
    if cap is not None:
        check_reach(problem, cap, floor)
    try:
        solution = _solved(problem, entropy_lambda, max_iter, progress=on_step, start_prices=start)
    except InfeasibleTargets as error:
        if cap is None or ceilings is not None:
            raise
        raise infeasible_cap(problem, cap, floor, error) from error
    return _certified(problem, solution, entropy_lambda, _highest(cap, ceilings), floor)


def solved_weights(
    problem: Problem, entropy_lambda: float, max_iter: int = 1000, start_prices: Any = None
) -> tuple[Vector, int]:
    """Weights alone, of a problem that was built before, and the engine's steps to them.

    Args:
        problem: A checked problem.
        entropy_lambda: As in `recalibrate`.
        max_iter: Most steps of the engine.
        start_prices: As in `recalibrate`.

    Raises:
        InfeasibleTargets: If exact and banded targets contradict each other.
        NotConverged: If the engine ended without a certificate.
        KeyboardInterrupt: If Ctrl-C ended the solve.
    """
    start = _engine_prices(problem, start_prices, entropy_lambda)
    solution = _solved(problem, entropy_lambda, max_iter, start_prices=start)
    _check_end(solution, solution.ratio * problem.design_weights)
    return solution.ratio * problem.design_weights, len(solution.history)


# --- Parts ----------------------------------------------------------------------------------------


def _highest(cap: float | None, ceilings: Any) -> Any:
    return np.fmin(np.inf if cap is None else cap, np.inf if ceilings is None else ceilings)


def _solved(problem: Problem, entropy_lambda: float, max_iter: int, **options: Any) -> Solution:
    return solve(
        problem, RAKING, closeness=entropy_lambda, max_iter=max_iter, phase="entropy", **options
    ).unless_cancelled()


def _engine_prices(problem: Problem, prices: Any, entropy_lambda: float) -> Vector | None:
    """Prices of a recalibration as the engine has them; None for none."""
    if prices is None:
        return None
    total = problem.design_weights.sum()
    start = checked_prices(prices, problem.n_targets)
    start *= -problem.scales * _price_of_entropy(problem, entropy_lambda) / total
    return start


def _price_of_entropy(problem: Problem, entropy_lambda: float) -> float:
    """What the engine charges for entropy: 1 where no soft target needs a comparison."""
    return entropy_lambda if problem.is_soft.any() else 1.0


def _check_end(solution: Solution, result: Any) -> None:
    if solution.status is not Status.CONVERGED:
        raise NotConverged(
            f"{solution.status.value} The relative duality gap is {solution.gap:.1e}, and 1e-8 is "
            "asked for.",
            result=result,
        )


def _certified(
    problem: Problem, solution: Solution, entropy_lambda: float, highest: Any, floor: float
) -> Recalibration:
    prior = problem.design_weights
    total = prior.sum()
    share = _price_of_entropy(problem, entropy_lambda)
    raw = solution.ratio * prior
    positive = prior > 0
    weights = np.where(positive, np.clip(raw, floor, highest), 0.0)
    bound = np.where(np.isfinite(highest) & (highest > 0), highest, 1.0)
    over = max(float(((raw - highest) / bound).max()), 0.0)
    under = float((floor - raw[positive]).max()) / floor if floor > 0 else 0.0
    prices = -solution.prices * total / (problem.scales * share)
    tilt = np.clip(np.asarray(problem.estimate_matrix @ prices, dtype=np.float64), -700, 700)
    implied = np.where(positive, np.clip(prior * np.exp(tilt), floor, highest), 0.0)
    errors = problem.errors(weights)
    entropy = float((prior * RAKING.value(_ratio(weights, prior))).sum()) / total
    soft = problem.is_soft
    objective = share * entropy + 0.5 * float((problem.importances * errors**2)[soft].sum())
    found = Recalibration(
        weights=weights,
        prior=prior,
        prices=prices,
        status=solution.status,
        gap=solution.gap,
        objective=objective,
        max_bound_violation=max(over, under),
        kkt_residual=float(np.abs(implied - weights).max() / weights.max()),
        n_at_cap=int((weights >= highest * (1 - AT_CAP)).sum()),
        n_steps=len(solution.history),
        problem=problem,
    )
    _check_end(solution, found)
    return found


def _ratio(weights: Vector, prior: Vector) -> Vector:
    return np.divide(weights, prior, out=np.ones(len(prior)), where=prior > 0)
