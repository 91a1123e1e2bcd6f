"""Analysis of targets: planted trouble comes first, and its figures are facts about solves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.engine.distances import CHI2
from microcalibrate.engine.solving import solve
from microcalibrate.errors import UnwritableFile
from microcalibrate.problem import Problem
from microcalibrate.target_analysis.analysis import TargetAnalysis, analyse_targets

from ..problems import Data, conflicting, feasible, survey


def analysed(data: Data, **options: Any) -> TargetAnalysis:
    return analyse_targets(data.weights, data.targets, data.matrix, **options)


def by_position(found: TargetAnalysis) -> pd.DataFrame:
    """The table in the order in which the targets were given."""
    return found.table.set_index("name").loc[list(found.target_names)]


@dataclass(frozen=True)
class Planted:
    """A feasible problem with one target out of reach, one contradiction, one redundancy."""

    data: Data
    unreachable: set[str]
    contradictory: set[str]
    redundant: set[str]


def planted(seed: int) -> Planted:
    rng = np.random.default_rng(seed)
    data = feasible(seed, n_records=300, n_targets=15)
    matrix, targets = data.matrix, data.targets
    a, b, c, d = rng.permutation(15)[:4]
    kind = seed % 3
    contradictory = {f"target_{a}", "target_15"}
    if kind == 0:  # the same column with another target
        column, value = matrix[:, a], targets[a] * rng.choice([0.7, 1.3])
    elif kind == 1:  # a sum that is not the sum
        column, value = matrix[:, a] + matrix[:, b], 1.25 * (targets[a] + targets[b])
        contradictory.add(f"target_{b}")
    else:  # a part that is more than the whole
        column, value = matrix[:, a] * (rng.random(300) < 0.6), 1.2 * targets[a]
    if seed % 2:
        copy, copied = 1000 * matrix[:, c], 1000 * targets[c]
    else:
        copy, copied = matrix[:, c] + 2 * matrix[:, d], targets[c] + 2 * targets[d]
    far = (rng.random(300) < 0.2).astype(float)
    return Planted(
        Data(
            data.weights,
            np.array([*targets, value, copied, 5 * (far @ data.weights)]),
            np.column_stack([matrix, column, copy, far]),
        ),
        {"target_17"},
        contradictory,
        {"target_16"},
    )


def test_planted_trouble_ranks_first_in_fifty_of_fifty_problems() -> None:
    for seed in range(50):
        case = planted(seed)

        found = analysed(case.data, max_weight_ratio=4.0).table

        kinds = {kind: set(part.name) for kind, part in found.groupby("kind")}
        n_planted = len(case.contradictory) + 2
        assert kinds["unreachable"] == case.unreachable, seed
        assert kinds["contradictory"] == case.contradictory, seed
        assert kinds["redundant"] == case.redundant, seed
        assert list(found.kind[:n_planted]) == sorted(
            found.kind[:n_planted], key=["unreachable", "contradictory", "redundant"].index
        )
        assert list(found["rank"]) == list(range(1, len(found) + 1))


def test_nothing_is_called_trouble_in_a_problem_without_any() -> None:
    found = analysed(feasible(3, n_records=300), max_weight_ratio=4.0)

    assert set(found.table.kind) <= {"fine", "costly"}
    assert found.groups == ()
    assert found.mean_error < 1e-2


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_price_is_the_slope_of_the_objective_when_a_target_is_loosened(distance: str) -> None:
    """Finite differences: of the objective, solved again with the target nearer its estimate."""
    data = conflicting(1)
    options = {"distance": distance, "max_weight_ratio": 3.0, "scales": np.abs(data.targets)}
    step = 1e-4
    found = analysed(data, loosening=step, **options)
    table = by_position(found)

    for j in range(len(data.targets)):
        nearer = data.targets.copy()
        nearer[j] += np.sign(table.error.iloc[j]) * step * abs(data.targets[j])
        fall = found.objective - analysed(replace(data, targets=nearer), **options).objective
        expected = table.loosen_objective.iloc[j]
        assert expected <= abs(table.price.iloc[j]) * step
        assert_allclose(fall, expected, rtol=5e-3, atol=1e-6 * found.objective)


def test_second_order_and_sensitivity_are_exact_while_no_record_meets_a_bound() -> None:
    """With chi-square distance and no bounds the objective is a quadratic of the targets."""
    data = conflicting(2)
    options = {"min_weight_ratio": -np.inf, "scales": np.abs(data.targets), "closeness": 0.01}
    found = analysed(data, loosening=0.02, n_resolve=6, **options)
    table = by_position(found)

    scaled = data.matrix * data.weights[:, None] / np.abs(data.targets)
    theta = 0.01 * data.weights / data.weights.sum()
    inverse = np.linalg.inv((scaled.T / theta) @ scaled + len(data.targets) * np.eye(6))
    signed = np.sign(table.error.to_numpy()) / np.sqrt(inverse.diagonal())
    conflict = signed[:, None] * inverse * signed
    np.fill_diagonal(conflict, 0.0)
    assert_allclose(found.conflict_matrix, conflict, atol=1e-7)
    assert_allclose(table.exact_drop_objective, table.drop_objective, rtol=1e-6)
    assert_allclose(table.exact_drop_mean_error, table.drop_mean_error, rtol=1e-6, atol=1e-9)
    for k in range(len(data.targets)):
        nearer = data.targets.copy()
        nearer[k] += np.sign(table.error.iloc[k]) * 1e-6 * abs(data.targets[k])
        after = by_position(analysed(replace(data, targets=nearer), **options))
        fall = (table.error.abs() - after.error.abs()).to_numpy() / 1e-6
        others = np.arange(len(data.targets)) != k
        assert_allclose(found.sensitivity[others, k], fall[others], rtol=1e-3, atol=1e-5)


def test_sensitivity_counts_only_records_that_are_on_no_bound() -> None:
    data = conflicting(5)
    options = {"min_weight_ratio": 0.6, "max_weight_ratio": 1.4, "scales": np.abs(data.targets)}
    found = analysed(data, **options)
    table = by_position(found)

    for k in range(len(data.targets)):
        nearer = data.targets.copy()
        nearer[k] += np.sign(table.error.iloc[k]) * 1e-5 * abs(data.targets[k])
        after = by_position(analysed(replace(data, targets=nearer), **options))
        fall = (table.error.abs() - after.error.abs()).to_numpy() / 1e-5
        others = np.arange(len(data.targets)) != k
        assert_allclose(found.sensitivity[others, k], fall[others], rtol=1e-4, atol=1e-6)

    # A target is at fault if dropping it gives about as much as dropping those it pulls against.
    drops, strong = table.drop_objective.to_numpy(), found.conflict_matrix >= 0.3
    most = np.where(strong, drops, 0.0).max(axis=1)
    at_fault = drops >= 0.25 * most
    assert "held off by" in table.reason.iloc[3]
    assert list(table.kind == "contradictory") == list(at_fault)


def test_dropping_solved_again_is_the_solve_without_that_target() -> None:
    data = survey(4, n_records=400, n_targets=12)
    found = analysed(data, max_weight_ratio=2.0, n_resolve=2)
    m = len(data.targets)

    for row in (0, 1):
        gone = found.target_names.index(found.table.name[row])
        kept = np.arange(m) != gone
        # Importances sum to 1 again without it, so the price of distance has to follow.
        rest = Data(data.weights, data.targets[kept], data.matrix[:, kept])
        alone = analysed(rest, max_weight_ratio=2.0, closeness=1e-4 * m / (m - 1))
        left = found.objective - found.table.exact_drop_objective[row]
        assert_allclose(left, alone.objective * (m - 1) / m, rtol=1e-6)
    assert found.table.exact_drop_objective[2:].isna().all()


def test_dropping_one_of_only_exact_targets_leaves_the_price_of_distance() -> None:
    data = feasible(20)
    found = analysed(data, tolerances=0.0, n_resolve=1)
    kept = np.arange(5) != found.target_names.index(found.table.name[0])
    rest = Data(data.weights, data.targets[kept], data.matrix[:, kept])

    left = found.objective - found.table.exact_drop_objective[0]

    assert_allclose(left, analysed(rest, tolerances=0.0).objective, rtol=1e-6)


@pytest.mark.parametrize("bounds", [(0.0, 3.0), (0.5, 1.5), (-1.0, 2.0)])
def test_range_is_what_extreme_ratios_give(bounds: tuple[float, float]) -> None:
    data = feasible(5)
    matrix = data.matrix - 0.7  # both signs
    found = by_position(
        analysed(
            Data(data.weights, matrix.T @ data.weights, matrix),
            min_weight_ratio=bounds[0],
            max_weight_ratio=bounds[1],
        )
    )

    for j, column in enumerate(matrix.T):
        up = np.where(column > 0, bounds[1], bounds[0])
        assert_allclose(found.highest.iloc[j], column @ (up * data.weights), rtol=1e-12)
        down = np.where(column > 0, bounds[0], bounds[1])
        assert_allclose(found.lowest.iloc[j], column @ (down * data.weights), rtol=1e-12)
    assert not found.unreachable.any()


def test_a_target_is_out_of_reach_exactly_beyond_its_range() -> None:
    data = feasible(6)
    edge = 3.0 * (data.matrix.T @ data.weights)[0]
    for value, expected in ((edge, False), (edge * (1 + 1e-6), True)):
        targets = data.targets.copy()
        targets[0] = value
        found = by_position(analysed(replace(data, targets=targets), max_weight_ratio=3.0))
        assert found.unreachable.iloc[0] == expected
    assert "at ratios up to 3" in found.reason.iloc[0]
    assert not by_position(analysed(data)).unreachable.any()
    assert np.isinf(by_position(analysed(data)).highest).all()


def test_support_counts_records_and_their_concentration() -> None:
    matrix = np.array([[1.0, 8.0], [1.0, 1.0], [1.0, -1.0], [1.0, 0.0], [5.0, 5.0]])
    weights = np.array([2.0, 2.0, 2.0, 2.0, 0.0])
    found = by_position(analysed(Data(weights, np.array([8.0, 15.0]), matrix)))

    assert list(found.support) == [4, 3]
    assert_allclose(found.effective_support, [4.0, 20.0**2 / (16.0**2 + 4 + 4)])
    assert_allclose(found.largest_share, [0.25, 0.8])


def test_units_of_targets_and_order_of_records_change_nothing() -> None:
    case = planted(7).data
    found = analysed(case, max_weight_ratio=4.0)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(case.weights))
    unit = 10.0 ** rng.integers(-6, 7, len(case.targets))
    changed = Data(case.weights[order], case.targets * unit, case.matrix[order] * unit)

    other = analysed(changed, max_weight_ratio=4.0)

    assert list(other.table.name) == list(found.table.name)
    assert list(other.table.kind) == list(found.table.kind)
    columns = ["initial_error", "error", "drop_objective", "effective_support", "largest_share"]
    assert_allclose(other.table[columns], found.table[columns], rtol=1e-4, atol=1e-8)
    assert_allclose(other.conflict_matrix, found.conflict_matrix, atol=1e-4)
    assert other.groups == found.groups


def test_sparse_and_dense_matrices_give_the_same_and_nothing_is_densified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = survey(8, n_records=600, n_targets=16)
    dense = analysed(data, max_weight_ratio=5.0)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an estimate matrix was densified")

    for name in ("toarray", "todense"):
        monkeypatch.setattr(sp.csr_array, name, refuse)
    sparse = analyse_targets(
        data.weights, data.targets, sp.csr_array(data.matrix), max_weight_ratio=5.0
    )

    assert list(sparse.table.name) == list(dense.table.name)
    assert list(sparse.table.reason) == list(dense.table.reason)
    assert_allclose(sparse.conflict_matrix, dense.conflict_matrix, atol=1e-6)


def test_two_targets_of_one_column_are_in_full_conflict() -> None:
    data = feasible(12)
    matrix = np.column_stack([data.matrix, data.matrix[:, 4]])
    found = analysed(Data(data.weights, np.array([*data.targets, 1.3 * data.targets[4]]), matrix))

    worst = found.conflicts.iloc[0]
    assert {worst["first"], worst["second"]} == {"target_4", "target_5"}
    assert_allclose(worst.conflict, 1.0, atol=5e-3)
    assert worst.relief_first > 0
    assert_allclose(found.conflict_matrix, found.conflict_matrix.T, atol=1e-12)
    assert not found.conflict_matrix.diagonal().any()
    assert np.all(found.conflicts.strength.diff().dropna() <= 1e-9)


@pytest.mark.parametrize("tolerances", [None, 0.0, 0.02])
def test_a_result_saves_the_solve_and_changes_nothing(tolerances: float | None) -> None:
    data = feasible(13)
    calibration = Calibration(data.weights, data.targets, data.matrix, tolerances=tolerances)
    calibration.calibrate(progress=False)

    fresh = analysed(data, tolerances=tolerances)
    given = analysed(data, tolerances=tolerances, result=calibration.result)

    assert_allclose(given.objective, fresh.objective, rtol=1e-6)
    assert_allclose(given.conflict_matrix, fresh.conflict_matrix, atol=1e-6)
    assert list(given.table.name) == list(fresh.table.name)


def test_exact_targets_have_the_price_that_widening_saves() -> None:
    data = feasible(14)
    step = 1e-4
    found = analysed(data, tolerances=0.0, loosening=step)
    table = by_position(found)

    for j in range(len(data.targets)):
        band = np.zeros(len(data.targets))
        band[j] = step
        problem = Problem.build(data.weights, data.targets, data.matrix, tolerances=band)
        solution = solve(problem, CHI2)
        share = data.weights / data.weights.sum()
        left = float(share @ (0.5 * (solution.ratio - 1) ** 2))
        expected = table.loosen_objective.iloc[j]
        assert_allclose(found.objective - left, expected, rtol=1e-2, atol=1e-9)


def test_hard_targets_that_cannot_all_hold_are_analysed_as_soft_and_it_says_so() -> None:
    data = feasible(15)
    matrix = np.column_stack([data.matrix, data.matrix[:, 0]])
    broken = Data(data.weights, np.array([*data.targets, 1.2 * data.targets[0]]), matrix)

    found = analysed(broken, tolerances=0.0, n_resolve=1)

    assert "cannot all hold" in found.infeasible
    assert "analysed as soft" in found.summary()
    assert set(found.table.name[:2]) == {"target_0", "target_5"}
    assert found.table.exact_drop_objective[0] > 0


def test_everything_out_of_reach_is_still_an_answer() -> None:
    found = analyse_targets([1.0, 1.0], [50.0], [[1.0], [1.0]], max_weight_ratio=2.0, n_resolve=1)

    assert list(found.table.kind) == ["unreachable"]
    assert found.conflicts.empty
    assert found.table.exact_drop_objective[0] > 0


def test_saved_files_hold_what_was_found(tmp_path: Path) -> None:
    data = planted(17).data
    names = ["=cmd()", *[f"n{j}" for j in range(1, len(data.targets))]]
    found = analysed(data, target_names=names, max_weight_ratio=4.0)

    folder = found.save(tmp_path / "analysis")
    again = found.save(folder)

    assert again == folder
    table = pd.read_csv(folder / "target_analysis.csv")
    assert list(table["rank"]) == list(found.table["rank"])
    assert list(table.reason) == list(found.table.reason)
    assert not table.name.str.startswith("=").any()
    with np.load(folder / "target_conflict_matrix.npz") as arrays:
        assert list(arrays["names"]) == names
        assert_allclose(arrays["conflict"], found.conflict_matrix)
        assert_allclose(arrays["sensitivity"], found.sensitivity)
    assert len(pd.read_csv(folder / "target_conflicts.csv")) == len(found.conflicts)
    assert found.summary() == (folder / "target_analysis.txt").read_text(encoding="utf-8").strip()
    with pytest.raises(UnwritableFile):
        found.save(tmp_path / "absent" / "analysis")


def test_an_unfinished_solve_is_said_to_be_rough() -> None:
    data = planted(19).data

    assert "rough" in analysed(data, max_weight_ratio=4.0, max_iter=2).summary()
    assert "rough" not in analysed(data, max_weight_ratio=4.0).summary()
