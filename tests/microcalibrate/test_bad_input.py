"""Bad input is refused at the boundary, and the message says what, where and the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import (
    Calibration,
    CalibrationError,
    InfeasibleTargets,
    InvalidOption,
    InvalidProblem,
)
from microcalibrate.errors import InvalidWeights

from .problems import Data, calibrated, feasible

DATA = feasible(0, n_records=12, n_targets=4)
NAMES = ["men", "women", "wages", "rent"]


def set_up(weights: Any = None, targets: Any = None, matrix: Any = None, **options: Any) -> Any:
    return Calibration(
        DATA.weights if weights is None else weights,
        DATA.targets if targets is None else targets,
        DATA.matrix if matrix is None else matrix,
        **{"target_names": NAMES, **options},
    )


def changed(values: np.ndarray, place: Any, value: float) -> np.ndarray:
    copy = values.copy()
    copy[place] = value
    return copy


def test_every_refusal_is_one_kind_of_error() -> None:
    for error in (InvalidProblem, InvalidOption, InfeasibleTargets, InvalidWeights):
        assert issubclass(error, CalibrationError)
    assert issubclass(InvalidOption, ValueError)
    assert issubclass(InvalidProblem, ValueError)


# --- Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (changed(DATA.weights, 3, np.nan), r"1 of 12.*not finite.*nan.*record 3"),
        (changed(DATA.weights, slice(5, 7), np.inf), r"2 of 12.*not finite.*inf.*record 5"),
        (changed(DATA.weights, 11, -0.5), r"1 of 12.*negative.*-0\.5.*record 11"),
        (np.zeros(12), "all weights are zero"),
        ([], "there are no records"),
        (np.ones((12, 1)), r"shape \(12, 1\).*one weight per record"),
        (3.0, "one weight per record"),
        (["many"] * 12, "not numbers"),
    ],
)
def test_weights_are_finite_and_not_negative(weights: Any, says: str) -> None:
    with pytest.raises(InvalidWeights, match=says):
        set_up(weights=weights)


def test_weights_of_zero_stay_zero() -> None:
    weights = changed(DATA.weights, [0, 4], 0.0)
    for options in ({}, {"distance": "raking"}, {"target_records": 5}):
        found = calibrated(Data(weights, DATA.targets, DATA.matrix), **options).weights
        assert_array_equal(found[[0, 4]], 0)


# --- Targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (DATA.targets[:3], r"targets have shape \(3,\).*4 columns"),
        (5.0, "targets have shape"),
        (None, "target"),
        (["a", "b", "c", "d"], "targets are not numbers"),
        (changed(DATA.targets, 2, np.nan), '"wages" is nan'),
        (changed(DATA.targets, 3, np.inf), '"rent" is inf'),
        (dict(zip(NAMES[:3], DATA.targets, strict=False)), 'no value for "rent"'),
        ({**dict(zip(NAMES, DATA.targets, strict=True)), "wagse": 1.0}, '"wagse".*no column'),
        (pd.Series(DATA.targets, index=["men", "women", "wages", "x"]), '"x".*no column'),
    ],
    ids=range(9),
)
def test_targets_are_finite_numbers_one_a_column(targets: Any, says: str) -> None:
    with pytest.raises(InvalidProblem, match=says):
        Calibration(DATA.weights, targets, pd.DataFrame(DATA.matrix, columns=NAMES))


def test_a_target_to_which_nothing_contributes_is_named() -> None:
    matrix = changed(DATA.matrix, (slice(None), 2), 0.0)
    for stored in (matrix, sp.csr_array(matrix)):
        with pytest.raises(InvalidProblem, match=r'"wages" is .*no record.*column 2.*all zero'):
            set_up(matrix=stored)


def test_a_target_to_which_only_records_of_weight_zero_contribute_is_named() -> None:
    matrix = changed(DATA.matrix, (slice(1, None), 2), 0.0)
    with pytest.raises(InvalidProblem, match='"wages"'):
        set_up(weights=changed(DATA.weights, 0, 0.0), matrix=matrix)


def test_a_column_of_zeros_may_have_a_target_of_zero() -> None:
    matrix = changed(DATA.matrix, (slice(None), 2), 0.0)
    targets = changed(DATA.targets, 2, 0.0)
    for tolerance in (0.0, None):
        calibration = calibrated(Data(DATA.weights, targets, matrix), tolerances=tolerance)
        assert_allclose(calibration.result.targets["final"], targets, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize(
    ("names", "says"),
    [(["a", "b", "a", "c"], '"a" stands twice'), (["a", "b"], "2 target names for 4 columns")],
)
def test_names_are_unique_and_one_a_column(names: list[str], says: str) -> None:
    with pytest.raises(InvalidProblem, match=says):
        set_up(target_names=names)


def test_columns_of_a_frame_are_unique() -> None:
    with pytest.raises(InvalidProblem, match='"men" stands twice'):
        Calibration(
            DATA.weights,
            DATA.targets,
            pd.DataFrame(DATA.matrix, columns=["men", "men", "wages", "rent"]),
        )


@pytest.mark.parametrize("tolerance", [0.0, None])
def test_targets_of_zero_and_below_zero(tolerance: float | None) -> None:
    """Losses and balances: a zero target is measured against the absolute total of its column."""
    rng = np.random.default_rng(1)
    matrix = np.column_stack([np.ones(30), rng.normal(0, 5, 30), rng.normal(-4, 1, 30)])
    weights = rng.uniform(1, 3, 30)
    targets = np.array([1.05 * weights.sum(), 0.0, 1.1 * matrix[:, 2] @ weights])
    calibration = calibrated(Data(weights, targets, matrix), tolerances=tolerance)
    table = calibration.result.targets

    assert targets[2] < 0
    assert_allclose(table["scale"], [targets[0], np.abs(matrix[:, 1]) @ weights, -targets[2]])
    assert_allclose(table["error"], 0, atol=1e-3 if tolerance is None else 1e-9)
    assert_allclose(table["final"] - targets, table["error"] * table["scale"], atol=1e-9)


@pytest.mark.parametrize("tolerance", [0.0, 0.001, None])
def test_targets_of_very_different_size(tolerance: float | None) -> None:
    """1e-9 and 1e15 side by side: each is met relative to its own size."""
    unit = np.array([1.0, 1e-9, 1e15, 1.0]) / np.array([1, DATA.targets[1], DATA.targets[2], 1])
    calibration = calibrated(
        Data(DATA.weights, DATA.targets * unit, DATA.matrix * unit), tolerances=tolerance
    )
    table = calibration.result.targets

    assert_allclose(table["target"][[1, 2]], [1e-9, 1e15])
    assert (table["error"].abs() <= {0.0: 1e-9, 0.001: 0.001 + 1e-9, None: 1e-3}[tolerance]).all()


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"l0_lambda": -0.1}, "l0_lambda=-0.1"),
        ({"l0_lambda": np.nan}, "l0_lambda=nan"),
        ({"l0_lambda": np.inf}, "l0_lambda=inf"),
        ({"l0_lambda": 0.1, "target_records": 5}, "l0_lambda.*target_records.*not both"),
        ({"target_records": 13}, "target_records=13.*1 to 12"),
        ({"target_records": 0}, "target_records=0"),
        ({"target_records": -3}, "target_records=-3"),
        ({"target_records": 2.5}, "target_records=2.5.*whole number"),
        ({"target_records": True}, "target_records=True.*whole number"),
        ({"target_records": "5"}, "target_records='5'.*whole number"),
        ({"target_records": 5, "min_weight_ratio": -np.inf}, "negative.*min_weight_ratio"),
        ({"kappa": -1.0}, "kappa=-1"),
        ({"kappa": np.nan, "target_records": 5}, "kappa=nan"),
        ({"closeness": 0.0}, "closeness=0"),
        ({"closeness": -1e-4}, "closeness=-0.0001"),
        ({"closeness": np.nan}, "closeness=nan"),
        ({"refit_closeness": 0.0}, "refit_closeness=0"),
        ({"kappa": 3.0}, "kappa=3.0 acts only where records are chosen.*target_records"),
        ({"selection": "top_k"}, "selection='top_k' acts only where records are chosen"),
        ({"refit_closeness": 1e-3}, "refit_closeness=0.001 acts only where records are chosen"),
        ({"tolerances": -0.01}, 'tolerance of target "men" is -0.01'),
        ({"tolerances": {"rent": np.inf}}, 'tolerance of target "rent" is inf'),
        ({"importances": [1, 1, -1, 1]}, 'importance of target "wages" is -1'),
        ({"importances": [1, 1, 1, np.inf]}, 'importance of target "rent" is inf'),
        ({"importances": [0, 0, 0, 0]}, "all importances.*zero"),
        ({"scales": [1, 1, 0, 1]}, 'scale of target "wages" is 0'),
        ({"scales": {"men": -2.0}}, 'scale of target "men" is -2'),
        ({"min_weight_ratio": 1.2, "max_weight_ratio": 0.8}, "1.2.*0.8.*cross"),
        ({"min_weight_ratio": np.linspace(0, 2, 12), "max_weight_ratio": 1.5}, "record 9.*cross"),
        ({"max_weight_ratio": -1.0, "min_weight_ratio": -2.0}, "max_weight_ratio is negative"),
        ({"max_weight_ratio": np.nan}, "max_weight_ratio is NaN"),
        ({"min_weight_ratio": np.nan}, "min_weight_ratio is NaN"),
        ({"min_weight_ratio": np.ones(5)}, r"min_weight_ratio has shape \(5,\)"),
        ({"min_weight_ratio": np.inf}, "min_weight_ratio"),
        ({"distance": "logarithmic"}, "distance='logarithmic'.*chi2.*raking"),
        ({"selection": "best"}, "selection='best'.*closed_form"),
        ({"temperature": 0.5}, "temperature.*sampled_gates"),
        ({"device": "cpu", "target_records": 5}, "device.*sampled_gates"),
        ({"selection": "sampled_gates", "temperature": 0.0}, "temperature=0.0.*positive"),
        ({"selection": "sampled_gates", "tolerances": 0, "l0_lambda": 1.0}, "none is soft"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
        ({"l0_lambda": None}, "l0_lambda=None"),
        ({"l0_lambda": "0.1"}, "l0_lambda='0.1'"),
        ({"kappa": None}, "kappa=None"),
        ({"closeness": "near"}, "closeness='near'"),
        ({"max_weight_ratio": "high"}, "max_weight_ratio"),
        ({"distance": ["chi2"]}, "distance="),
    ],
    ids=str,
)
def test_options_that_cannot_be_honoured_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        set_up(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tolerances": {"rents": 0.0}}, 'tolerances name "rents"'),
        ({"importances": {"wagse": 2.0}}, 'importances name "wagse"'),
        ({"scales": {"x": 2.0}}, 'scales name "x"'),
        ({"tolerances": [0.0, 0.1]}, r"tolerances have shape \(2,\)"),
        ({"tolerances": "exact"}, "tolerances are not numbers"),
        ({"importances": [[1, 1, 1, 1]]}, r"importances have shape \(1, 4\)"),
        ({"families": ["a", "b"]}, "families has 2 entries for 4"),
        ({"record_ids": [1, 2, 3]}, "record_ids has 3 entries for 12"),
    ],
    ids=str,
)
def test_options_per_target_fit_the_targets(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidProblem, match=says):
        set_up(**options)


def test_positional_arguments_end_with_the_price() -> None:
    with pytest.raises(TypeError):
        Calibration(DATA.weights, DATA.targets, DATA.matrix, 0.0, 5)  # type: ignore[misc]


@pytest.mark.parametrize("max_iter", [0, -5])
def test_at_least_one_step_is_allowed(max_iter: int) -> None:
    with pytest.raises(InvalidOption, match=f"max_iter={max_iter}"):
        set_up().calibrate(max_iter=max_iter)


# --- Small and degenerate problems ----------------------------------------------------------------


@pytest.mark.parametrize("distance", ["chi2", "raking"])
@pytest.mark.parametrize("tolerance", [0.0, 0.1, None])
def test_one_record_and_one_target(distance: str, tolerance: float | None) -> None:
    data = Data(np.array([2.0]), np.array([3.0]), np.array([[1.0]]))
    weights = calibrated(data, tolerances=tolerance, distance=distance).weights

    expected = {0.0: 3.0, 0.1: 2.7, None: 3.0}[tolerance]
    assert_allclose(weights, [expected], rtol=1e-8 if tolerance == 0 else 1e-3)


def test_contradictory_exact_targets_are_named() -> None:
    calibration = Calibration(
        DATA.weights,
        {"men": 50.0, "men again": 60.0, "women": DATA.targets[1]},
        pd.DataFrame(DATA.matrix[:, [0, 0, 1]], columns=["men", "men again", "women"]),
        tolerances=0,
    )

    with pytest.raises(InfeasibleTargets, match="men again") as caught:
        calibration.calibrate(progress=False)

    assert set(caught.value.conflict) == {"men", "men again"}


def test_a_positive_target_of_negative_records_is_infeasible() -> None:
    calibration = Calibration(
        np.ones(3), {"debt": 5.0}, pd.DataFrame({"debt": [-1.0, -2.0, 0.0]}), tolerances=0
    )

    with pytest.raises(InfeasibleTargets, match='"debt"'):
        calibration.calibrate(progress=False)


@pytest.mark.parametrize("distance", ["chi2", "raking"])
def test_records_that_are_all_frozen(distance: str) -> None:
    """Equal bounds leave nothing to choose: the weights are given, and the targets are judged."""
    frozen: dict[str, Any] = {"min_weight_ratio": 1, "max_weight_ratio": 1, "distance": distance}
    weights = calibrated(DATA, **frozen).weights
    assert_array_equal(weights, DATA.weights)

    reached = Data(DATA.weights, DATA.matrix.T @ DATA.weights, DATA.matrix)
    assert_array_equal(calibrated(reached, tolerances=0, **frozen).weights, DATA.weights)

    with pytest.raises(InfeasibleTargets):
        set_up(tolerances=0, **frozen).calibrate(progress=False)


def test_some_records_are_frozen() -> None:
    data = feasible(4, n_records=30)
    held = np.arange(30) < 6
    targets = data.matrix.T @ (data.weights * np.where(held, 1.0, 1.1))
    calibration = calibrated(
        Data(data.weights, targets, data.matrix),
        tolerances=0,
        min_weight_ratio=np.where(held, 1.0, 0.5),
        max_weight_ratio=np.where(held, 1.0, 2.0),
    )

    assert_array_equal(calibration.weights[held], data.weights[held])
    assert_allclose(calibration.result.targets["final"], targets, rtol=1e-9)


def test_records_frozen_at_zero() -> None:
    """An upper bound of zero removes a record."""
    upper = np.where(np.arange(12) < 2, 0.0, np.inf)
    weights = calibrated(DATA, max_weight_ratio=upper).weights

    assert_array_equal(weights[:2], 0)
    assert weights[2:].max() > 0


def test_more_targets_than_records() -> None:
    data = feasible(5, n_records=4, n_targets=8)
    off = data.targets * np.random.default_rng(5).lognormal(0, 0.2, 8)

    assert calibrated(Data(data.weights, off, data.matrix)).result.gap <= 1e-8
    assert_allclose(calibrated(data, tolerances=0).result.targets["final"], data.targets, rtol=1e-9)
