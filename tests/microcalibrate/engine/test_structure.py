"""Clusters with one ratio, and independent parts: the same answers by another road."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from microcalibrate import (
    Calibration,
    InfeasibleTargets,
    InvalidOption,
    InvalidProblem,
    NotConvergedWarning,
    Status,
)

from ..problems import Data, calibrated, conflicting, feasible

# --- Clusters -------------------------------------------------------------------------------------


def households(seed: int, n: int = 40) -> tuple[Data, np.ndarray]:
    """Persons of households; every member has the household's design weight."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, n)
    index = np.repeat(np.arange(n), sizes)
    rng.shuffle(index)
    weights = rng.uniform(1, 20, n)[index]
    matrix = np.column_stack(
        [np.ones(len(index)), rng.random((len(index), 3)) < 0.4, rng.lognormal(0, 0.5, len(index))]
    ).astype(float)
    ratio = rng.uniform(0.7, 1.3, n)[index]
    return Data(weights, matrix.T @ (weights * ratio), matrix), index


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("distance", ["chi2", "raking"])
@pytest.mark.parametrize("tolerances", [None, 0], ids=["soft", "exact"])
def test_members_of_a_cluster_get_one_weight_and_all_targets_hold(
    tolerances: Any, distance: str, form: Any
) -> None:
    data, index = households(1)
    found = calibrated(
        Data(data.weights, data.targets, form(data.matrix)),
        cluster=[f"h{i}" for i in index],
        distance=distance,
        tolerances=tolerances,
        max_weight_ratio=2.0,
    )
    weight_of = {}
    for household, weight in zip(index, found.weights, strict=True):
        assert weight_of.setdefault(household, weight) == weight
    assert_allclose(
        data.matrix.T @ found.weights, data.targets, rtol=1e-9 if tolerances == 0 else 1e-3
    )
    assert found.result.settings["n_clusters"] == 40


@pytest.mark.parametrize("tolerances", [None, 0, 0.01], ids=["soft", "exact", "band"])
def test_households_as_records_give_the_same_weights(tolerances: Any) -> None:
    """Sum the rows of a household, and calibrate its weight."""
    data, index = households(2)
    sums = np.zeros((40, data.matrix.shape[1]))
    np.add.at(sums, index, data.matrix)
    first = np.array([np.flatnonzero(index == household)[0] for household in range(40)])
    weights = data.weights[first]
    options: dict[str, Any] = {"tolerances": tolerances, "max_weight_ratio": 1.2}
    persons = calibrated(data, cluster=index, **options)
    # A household counts in the distance by all its members, or once where factors say so.
    size = np.bincount(index)
    whole = calibrated(Data(weights, data.targets, sums), heteroscedasticity=1 / size, **options)
    once = calibrated(data, cluster=index, heteroscedasticity=size[index], **options)
    plain = calibrated(Data(weights, data.targets, sums), **options)

    assert_allclose(persons.weights[first], whole.weights, rtol=1e-6)
    assert_allclose(once.weights[first], plain.weights, rtol=1e-6)


def test_no_weights_that_are_equal_within_clusters_are_nearer() -> None:
    """Unequal ratios are nearer; among equal ones ours are the solution of the normal equations."""
    data, index = households(3)
    found = calibrated(data, cluster=index, tolerances=0, min_weight_ratio=-np.inf)
    free = calibrated(data, tolerances=0, min_weight_ratio=-np.inf)
    ratio = found.weights / data.weights
    means = np.zeros((40, 5))
    np.add.at(means, index, data.matrix)
    means /= np.bincount(index)[:, None]
    coefficients, *_ = np.linalg.lstsq(means[index], ratio - 1)

    assert_allclose(means[index] @ coefficients, ratio - 1, atol=1e-8)
    assert data.weights @ (free.weights / data.weights - 1) ** 2 < data.weights @ (ratio - 1) ** 2


def test_bounds_and_frozen_members_bind_the_whole_cluster() -> None:
    data, index = households(4)
    frozen = np.arange(len(index)) == 5
    cap = np.quantile(data.weights, 0.7)
    targets = data.matrix.T @ data.weights
    found = calibrated(
        Data(data.weights, targets * 0.97, data.matrix), cluster=index, frozen=frozen,
        max_weight=np.where(data.weights < cap, cap, 30),
    )  # fmt: skip
    mates = index == index[5]

    assert (found.weights[mates] == data.weights[mates]).all()
    assert (found.weights <= np.where(data.weights < cap, cap, 30)).all()


def test_clusters_of_one_change_nothing() -> None:
    data = feasible(3)
    alone = calibrated(data, cluster=np.arange(60), tolerances=0)

    assert_allclose(alone.weights, calibrated(data, tolerances=0).weights, rtol=1e-9)


# --- Parts ----------------------------------------------------------------------------------------


def states(seed: int, make: Any = conflicting, n_states: int = 4) -> tuple[Data, list[str]]:
    """Several problems beside each other, their records shuffled."""
    pieces = [make(seed + 10 * number) for number in range(n_states)]
    matrix = sp.block_diag([piece.matrix for piece in pieces]).toarray()
    weights = np.concatenate([piece.weights for piece in pieces])
    labels = np.repeat([f"state {number}" for number in range(n_states)], 60)
    order = np.random.default_rng(seed).permutation(len(weights))
    targets = np.concatenate([piece.targets for piece in pieces])
    return Data(weights[order], targets, matrix[order]), labels[order].tolist()


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("loss", ["squared", "absolute", "huber:0.1"])
@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_parts_give_the_answer_of_the_whole(distance: str, loss: str, form: Any) -> None:
    data, labels = states(1)
    data = Data(data.weights, data.targets, form(data.matrix))
    importances = np.random.default_rng(1).uniform(0.2, 3, len(data.targets))
    options: dict[str, Any] = {
        "distance": distance, "loss": loss, "closeness": 1e-2, "max_weight_ratio": 3.0,
        "importances": importances,
    }  # fmt: skip
    whole, apart = calibrated(data, **options), calibrated(data, partition=labels, **options)

    assert_allclose(apart.weights, whole.weights, rtol=2e-3, atol=1e-2)
    assert_allclose(apart.result.targets["price"], whole.result.targets["price"], atol=2e-5)
    last, usual = apart.result.history.iloc[-1], whole.result.history.iloc[-1]
    assert_allclose(last["loss"], usual["loss"], rtol=1e-7)
    assert apart.result.gap <= 1e-8
    assert apart.result.settings["n_parts"] == 4


def test_exact_parts_give_the_answer_and_the_prices_of_the_whole() -> None:
    data, labels = states(2, feasible)
    whole, apart = calibrated(data, tolerances=0), calibrated(data, partition=labels, tolerances=0)

    assert_allclose(apart.weights, whole.weights, rtol=1e-8)
    assert_allclose(apart.result.targets["price"], whole.result.targets["price"], rtol=1e-6)


def test_every_part_has_its_own_certificate() -> None:
    data, labels = states(3)
    parts = calibrated(data, partition=labels).parts.set_index("part")

    assert sorted(parts.index) == [f"state {number}" for number in range(4)]
    assert (parts["status"] == "CONVERGED").all()
    assert (parts["gap"] <= 1e-8).all()
    assert (parts["records"] == 60).all()
    assert (parts["targets"] == 6).all()


def test_a_part_without_targets_keeps_its_design_weights() -> None:
    data, labels = states(4, feasible, n_states=2)
    weights = np.append(data.weights, [3.0, 4.0])
    matrix = np.vstack([data.matrix, np.zeros((2, matrix_columns(data)))])
    found = calibrated(
        Data(weights, data.targets, matrix), partition=[*labels, "elsewhere", "elsewhere"]
    )

    assert found.weights[-2:].tolist() == [3.0, 4.0]
    assert set(found.parts["status"]) == {"CONVERGED", "NO_TARGETS"}


def matrix_columns(data: Data) -> int:
    return int(data.matrix.shape[1])


def test_all_parts_that_are_infeasible_are_named_at_once() -> None:
    data, labels = states(5, feasible)
    targets = data.targets.copy()
    targets[[0, 10]] *= 9
    calibration = Calibration(
        data.weights, targets, data.matrix, partition=labels, tolerances=0, max_weight_ratio=1.5
    )
    with pytest.raises(InfeasibleTargets, match=r"'state 0'.*'state 2'") as caught:
        calibration.calibrate(progress=False)

    assert {"target_0", "target_10"} <= set(caught.value.conflict)
    assert {"target_0", "target_10"} <= set(caught.value.relaxation)


def test_a_part_that_does_not_converge_leaves_the_whole_uncertified() -> None:
    data, labels = states(6)
    calibration = Calibration(
        data.weights, data.targets, data.matrix, partition=labels, max_weight_ratio=1.1
    )
    with pytest.warns(NotConvergedWarning):
        calibration.calibrate(max_iter=2, progress=False)

    assert calibration.result.status is Status.STEP_LIMIT


def test_prices_of_the_whole_start_the_parts() -> None:
    data, labels = states(7)
    cold = calibrated(data, partition=labels, max_weight_ratio=3.0)
    warm = Calibration(
        data.weights, data.targets, data.matrix, partition=labels, max_weight_ratio=3.0
    )
    warm.calibrate(start_prices=cold.result.targets["price"].to_numpy(), progress=False)

    assert_allclose(warm.weights, cold.weights, rtol=1e-4, atol=1e-4)
    assert len(warm.result.history) < len(cold.result.history)


def test_households_within_states() -> None:
    data, index = households(8)
    labels = np.where(index < 20, "north", "south")
    matrix = np.hstack([data.matrix * (labels == name)[:, None] for name in ("north", "south")])
    targets = matrix.T @ data.weights * 1.05
    both = calibrated(
        Data(data.weights, targets, matrix), cluster=index, partition=labels, tolerances=0
    )
    whole = calibrated(Data(data.weights, targets, matrix), cluster=index, tolerances=0)

    assert_allclose(both.weights, whole.weights, rtol=1e-8)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"partition": ["a", "b"] * 30}, "about records of 'a' and of 'b'"),
        ({"cluster": np.arange(60) // 2, "target_records": 40}, "from 1 to 30, the clusters"),
        ({"cluster": np.arange(60) // 2, "partition": np.arange(60) % 2}, "another part"),
        ({"cluster": np.zeros(60), "min_weight_ratio": [1.2] + [0.0] * 59,
          "max_weight_ratio": [3.0] + [1.1] * 59}, "no ratio in common"),
    ],
)  # fmt: skip
def test_structures_that_cannot_be_honoured_are_refused(
    options: dict[str, Any], complaint: str
) -> None:
    data = feasible(0)
    with pytest.raises(InvalidOption, match=complaint):
        Calibration(data.weights, data.targets, data.matrix, **options)


@pytest.mark.parametrize("labels", [["a"] * 59, ["a"] * 59 + [None]])
@pytest.mark.parametrize("option", ["cluster", "partition"])
def test_every_record_needs_a_label(option: str, labels: list[Any]) -> None:
    data = feasible(0)
    with pytest.raises(InvalidProblem, match=option):
        Calibration(data.weights, data.targets, data.matrix, **{option: labels})


def test_the_optimum_of_clusters_is_that_of_their_sums() -> None:
    data, index = households(9)
    made = calibrated(data, cluster=index)
    optimum, place = made.optimum, made.cluster_index

    assert place is not None
    assert optimum.problem.n_records == index.max() + 1
    assert_allclose(optimum.solution.ratio[place] * data.weights, made.weights)
    assert_allclose(
        optimum.problem.estimates(optimum.weights), made.problem.estimates(made.weights)
    )
