"""What is known before a solve: reach, copies, sums; checked against what a solve then finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
import scipy.sparse as sp
from numpy.testing import assert_allclose

from microcalibrate import Calibration, InfeasibleTargets
from microcalibrate.engine.feasibility import (
    Problematic,
    check_feasibility,
    copies,
    reachable_range,
    sums,
)
from microcalibrate.problem import Problem


def kinds(problem: Problem) -> list[Problematic]:
    return [finding.kind for finding in check_feasibility(problem).findings]


def survey(seed: int, n_records: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 5, n_records), rng.normal(size=(n_records, 6)) * (
        rng.random((n_records, 6)) < 0.5
    )


# --- Reach ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("seed", range(3))
def test_the_reach_of_a_target_is_what_a_linear_program_finds(seed: int, form: Any) -> None:
    weights, matrix = survey(seed)
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(-0.5, 0.9, 40), rng.uniform(1.1, 3, 40)
    problem = Problem.build(
        weights, np.ones(6), form(matrix), min_weight_ratio=low, max_weight_ratio=high
    )
    lowest, highest = reachable_range(problem)

    for j in range(6):
        cost = matrix[:, j] * weights
        bounds = np.column_stack([low, high])
        assert_allclose(lowest[j], so.linprog(cost, bounds=bounds).fun, atol=1e-9)
        assert_allclose(highest[j], -so.linprog(-cost, bounds=bounds).fun, atol=1e-9)


def test_without_an_upper_bound_every_positive_column_reaches_everything() -> None:
    problem = Problem.build([1.0, 0.0], [5.0, -1.0], [[1.0, 2.0], [9.0, -9.0]])
    lowest, highest = reachable_range(problem)

    assert_allclose(lowest, 0)
    assert np.isinf(highest).all()
    assert kinds(problem) == [Problematic.OUT_OF_REACH, Problematic.DUPLICATE]


def test_a_tolerance_is_granted_to_a_target_out_of_reach() -> None:
    def problem(tolerance: float) -> Problem:
        return Problem.build([1.0], [2.2], [[1.0]], tolerances=tolerance, max_weight_ratio=2.0)

    assert not check_feasibility(problem(0.1)).findings
    assert check_feasibility(problem(0.09)).is_infeasible


# --- Copies and sums ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_multiples_are_found_and_near_multiples_are_not(form: Any) -> None:
    weights, matrix = survey(1)
    columns = np.column_stack(
        [matrix, 3 * matrix[:, 1], -1e9 * matrix[:, 1], matrix[:, 2], matrix[:, 3]]
    )
    columns[0, -1] += 1e-4

    assert copies(form(columns), weights) == ((1, 6, 7), (2, 8))


def test_columns_that_differ_only_where_the_weight_is_zero_are_copies() -> None:
    assert copies(np.array([[1.0, 1.0], [2.0, 5.0]]), np.array([1.0, 0.0])) == ((0, 1),)


def test_a_parent_that_differs_from_the_sum_of_its_children_is_found() -> None:
    weights, matrix = survey(2)
    columns = np.column_stack([matrix, matrix[:, :3].sum(axis=1)])
    targets = columns.T @ weights
    targets[-1] *= 1.1
    problem = Problem.build(weights, targets, columns, tolerances=0, min_weight_ratio=-np.inf)
    found = check_feasibility(problem)

    assert [set(finding.targets) for finding in found.findings] == [{0, 1, 2, 6}]
    assert found.findings[0].kind is Problematic.SUM_DISAGREES
    assert found.is_infeasible
    assert '"target_6"' in found.findings[0].text
    with pytest.raises(InfeasibleTargets):
        Calibration(weights, targets, columns, tolerances=0, min_weight_ratio=-np.inf).calibrate()


def test_tolerances_wide_enough_for_the_difference_let_a_sum_agree() -> None:
    columns = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    targets = [10.0, 10.0, 22.0]

    def problem(tolerance: float) -> Problem:
        return Problem.build([9.0, 9.0], targets, columns, tolerances=tolerance)

    assert kinds(problem(0.06)) == [Problematic.REDUNDANT]
    Calibration([9.0, 9.0], targets, columns, tolerances=0.06).calibrate()
    assert kinds(problem(0.04)) == [Problematic.SUM_DISAGREES]
    with pytest.raises(InfeasibleTargets):
        Calibration([9.0, 9.0], targets, columns, tolerances=0.04).calibrate()


def test_a_combination_with_coefficients_of_its_own_is_written_out() -> None:
    weights, matrix = survey(3)
    columns = np.column_stack([matrix, 2 * matrix[:, 0] - 0.5 * matrix[:, 4]])
    problem = Problem.build(weights, columns.T @ weights, columns)
    (found,) = sums(problem)
    values = problem.targets

    assert {found.of, *found.parts} == {0, 4, 6}
    assert_allclose(found.implied(values), values[found.of])
    assert kinds(problem) == [Problematic.REDUNDANT]


@pytest.mark.parametrize("seed", range(4))
def test_columns_that_are_independent_are_left_in_peace(seed: int) -> None:
    weights, matrix = survey(seed)
    problem = Problem.build(weights, matrix.T @ weights, matrix, tolerances=0)

    assert not check_feasibility(problem).findings
    assert "Nothing" in check_feasibility(problem).summary()


def test_copies_with_contradictory_targets_are_fatal_only_if_all_are_hard() -> None:
    columns = np.array([[1.0, 2.0], [2.0, 4.0]])

    def found(tolerances: list[float]) -> Any:
        return check_feasibility(
            Problem.build([1.0, 1.0], [3.0, 7.0], columns, tolerances=tolerances)
        )

    assert found([0.0, 0.0]).is_infeasible
    assert not found([0.0, np.nan]).is_infeasible
    assert "contradict" in found([0.0, np.nan]).findings[0].text
    assert not found([0.2, 0.2]).is_infeasible


def test_a_zero_target_without_support_is_named_and_harmless() -> None:
    problem = Problem.build([1.0], [1.0, 0.0], [[1.0, 0.0]], tolerances=0)
    (finding,) = check_feasibility(problem).findings

    assert finding.kind is Problematic.NO_SUPPORT
    assert not finding.is_fatal


def test_the_table_has_every_target_with_what_was_found() -> None:
    problem = Problem.build(
        [1.0, 1.0], {"men": 2.0, "women": 1.0, "all": 9.0}, [[1, 0, 1], [0, 1, 1]],
        max_weight_ratio=3.0,
    )  # fmt: skip
    table = check_feasibility(problem).table().set_index("name")

    assert_allclose(table["highest"], [3, 3, 6])
    assert '"men" + "women" is "all"' in table.loc["men", "findings"]
    assert "give 0 to 6" in table.loc["all", "findings"]
