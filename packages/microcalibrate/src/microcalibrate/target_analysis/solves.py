"""Solves of one problem with some targets changed, and what a result says in their place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.engine.distances import Distance, distance_named
from microcalibrate.engine.losses import SQUARED
from microcalibrate.engine.program import Program, program_of
from microcalibrate.engine.solving import Solution, solve
from microcalibrate.errors import InfeasibleTargets, InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.conflict import Sensitivity

if TYPE_CHECKING:
    from microcalibrate.result import CalibrationResult

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A result belongs to a problem when its prices explain its errors to this, relative.
SAME_PROBLEM = 1e-3


@dataclass(frozen=True, eq=False)
class Optimum:
    """A problem with its solution.

    Attributes:
        problem: The problem.
        program: Its form in the engine.
        free: Mask of the records that the program is over, shape `(n_records,)`.
        prices: Shape `(n_targets,)`.
        ratio: Calibrated over design weight, shape `(n_records,)`.
        gap: Relative duality gap.
    """

    problem: Problem
    program: Program
    free: Mask
    prices: Vector
    ratio: Vector
    gap: float

    @property
    def errors(self) -> Vector:
        """Errors at the optimum, signed, in scales, shape `(n_targets,)`."""
        return self.problem.errors(self.ratio * self.problem.design_weights)

    @property
    def objective(self) -> float:
        """Price of distance plus half the mean squared error of soft targets."""
        ratio = self.ratio[self.free]
        x = np.concatenate([ratio, np.zeros(len(self.program.slack_target))])
        return self.program.objective(x, self.program.errors(x))


@dataclass(frozen=True)
class Solver:
    """How to solve: the options that do not change from one solve to the next.

    Attributes:
        distance: What closeness to design weights means.
        closeness: Price of distance in units of half the mean squared error of soft targets.
        max_iter: Most Newton steps of a solve.
    """

    distance: Distance
    closeness: float
    max_iter: int

    def price_for(self, problem: Problem) -> float:
        """Price of distance: 1 where no soft target counts, also when hard ones were dropped."""
        return self.closeness if problem.importances.any() else 1.0

    def solution(self, problem: Problem, start_prices: Vector | None = None) -> Solution:
        """Solve a problem, from the prices of a nearby one where these are known.

        Raises:
            InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
            KeyboardInterrupt: If Ctrl-C ended the solve: half an analysis is none.
        """
        return solve(
            problem,
            self.distance,
            closeness=self.price_for(problem),
            max_iter=self.max_iter,
            start_prices=start_prices,
        ).unless_cancelled()

    def program(self, problem: Problem) -> tuple[Program, Mask]:
        """The program of a problem, and the mask `(n_records,)` of its free records."""
        program, free, _ = program_of(problem, self.distance, self.price_for(problem))
        return program, free

    def feasible(self, problem: Problem, start_prices: Vector | None = None) -> tuple[Optimum, str]:
        """Solve a problem, or, where its hard targets cannot all hold, its soft form.

        Returns:
            The optimum of the problem that was solved, and why it had to be changed, or "".
        """
        why = ""
        try:
            solution = self.solution(problem, start_prices)
        except InfeasibleTargets as error:
            problem, why = all_soft(problem), str(error)
            solution = self.solution(problem)
        program, free = self.program(problem)
        return Optimum(problem, program, free, solution.prices, solution.ratio, solution.gap), why

    def dropping(self, at: Optimum, dropped: Mask, sensitivity: Sensitivity) -> Optimum:
        """Solve a problem without some of its targets, from its optimum with all of them.

        The solve starts where the sensitivity says that the prices go, and mostly ends after two
        or three steps.

        Args:
            at: The optimum with all targets.
            dropped: Which targets to leave out, shape `(n_targets,)`.
            sensitivity: At that optimum.
        """
        start = sensitivity.prices_without(dropped)
        return self.feasible(without(at.problem, dropped), start)[0]


def all_soft(problem: Problem) -> Problem:
    """The problem with every target soft; one that was hard counts as the mean of the others."""
    soft = problem.is_soft
    usual = problem.importances[soft].mean() if soft.any() else 1.0
    importances = np.where(soft, problem.importances, usual)
    return replace(
        problem,
        tolerances=np.full(problem.n_targets, np.nan),
        importances=importances / importances.sum(),
    )


def without(problem: Problem, dropped: Mask) -> Problem:
    """The problem without some targets, which keep their places and count for nothing."""
    return replace(
        problem,
        tolerances=np.where(dropped, np.nan, problem.tolerances),
        importances=np.where(dropped, 0.0, problem.importances),
    )


def cost_of_distance(
    problem: Problem,
    closeness: float | None,
    distance: str | Distance | None,
    result: CalibrationResult | None,
) -> tuple[float, Distance]:
    """Closeness and distance, those of `result` where none are given.

    Raises:
        InvalidOption: If one cannot be honoured, or the result is of other targets or records.
    """
    given: dict[str, Any]
    if result is None:
        given = {"closeness": 1e-4, "distance": "chi2"}
    else:
        given = result.settings
        if given["l0_lambda"] or given["target_records"] is not None:
            raise InvalidOption(
                "the result is of a calibration that dropped records, so its prices are not those "
                "of all records. Leave `result` out, or calibrate with l0_lambda=0."
            )
        loss = given.get("loss", SQUARED.name)
        if loss != SQUARED.name:
            raise InvalidOption(
                f'the result is of a calibration with loss="{loss}", and what targets cost is '
                "found for squared errors. Leave `result` out, or calibrate without a loss of "
                "your own."
            )
        if list(result.targets["name"]) != list(problem.target_names):
            raise InvalidOption(
                "the result is of other targets than those given. Leave `result` out, or pass "
                "targets and matrix as they were calibrated."
            )
    price = given["closeness"] if closeness is None else closeness
    check_positive("closeness", price)
    return float(price), distance_named(given["distance"] if distance is None else distance)


def given_by(result: CalibrationResult, problem: Problem, solver: Solver) -> Optimum:
    """The optimum that a result of this problem is.

    Raises:
        InvalidOption: If its design weights are others, or its prices not those of this problem.
    """
    if not np.array_equal(result.design_weights, problem.design_weights):
        raise InvalidOption("the result has other design weights than those given. Leave it out.")
    weight = problem.design_weights
    ratio = np.divide(result.weights, weight, out=np.zeros_like(weight), where=weight > 0)
    program, free = solver.program(problem)
    prices = result.targets["price"].to_numpy(dtype=np.float64)
    check_prices(program, prices, ratio[free])
    return Optimum(problem, program, free, prices, ratio, float(result.gap))


def check_prices(program: Program, prices: Vector, ratio: Vector) -> None:
    """Refuse prices that are not those of this problem: they must explain errors and ratios.

    Raises:
        InvalidOption: If they do not.
    """
    best = program.response(program.gradient(prices))[: program.n_ratios]
    errors = program.columns.transposed_product(ratio) - program.goal
    soft = ~program.is_hard
    expected = program.compliance[soft] * prices[soft]
    size = 1 + np.abs(errors[soft]).max(initial=0.0)
    off = np.abs(errors[soft] - expected).max(initial=0.0) / size
    moved = np.abs(program.columns.transposed_product(best - ratio)).max() / size
    if max(off, moved) > SAME_PROBLEM:
        raise InvalidOption(
            "the prices of the result do not belong to this problem: it was calibrated with other "
            "targets, importances, bounds, closeness or distance, or did not converge. Pass the "
            "same ones, or leave `result` out."
        )


def check_positive(name: str, value: Any) -> None:
    """Refuse an option that is not a positive number."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    if not number or isinstance(value, bool) or not (np.isfinite(value) and value > 0):
        raise InvalidOption(f"{name}={value!r} must be a positive number.")


def check_fraction(name: str, value: Any) -> None:
    """Refuse an option that is not between 0 and 1."""
    number = isinstance(value, (float, np.floating))
    if not number or not 0 < value < 1:
        raise InvalidOption(f"{name}={value!r} must be between 0 and 1.")


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse an option that is not a whole number from `least`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise InvalidOption(f"{name}={value!r} must be a whole number from {least}.")
