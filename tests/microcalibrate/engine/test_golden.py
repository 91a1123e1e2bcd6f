"""Published numbers, at their printed digits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate import (
    Calibration,
    Distance,
    InfeasibleTargets,
    Problem,
    feasible_ratio_range,
)

from ..problems import Data, calibrated, ratio_of
from .own_distance import REVERSE_ENTROPY

# --- Creedy, "Survey reweighting for tax microsimulation modelling", NZ Treasury WP 03/17 ---------

CREEDY_ROWS = (
    "1100 0100 1020 0061 1041 1100 1050 0061 0100 0031 "
    "1020 1101 1031 1040 0050 0101 1021 0060 1041 0100"
)
CREEDY = Data(
    weights=np.array([3, 3, 5, 4, 2, 5, 5, 4, 3, 3, 5, 4, 4, 3, 5, 3, 4, 5, 4, 3.0]),
    targets=np.array([50, 20, 230, 35.0]),
    matrix=np.array([[float(digit) for digit in row] for row in CREEDY_ROWS.split()]),
)
CREEDY_WEIGHTS = {
    # Table 1.
    "chi2": "2.753 2.109 5.945 4.005 2.484 4.589 5.752 4.005 2.109 3.120 "
    "5.945 3.985 5.019 3.490 4.678 2.345 5.070 4.614 4.967 2.109",
    # Not in the paper; from an independent solution of its problem.
    "raking": "2.697 2.193 5.982 3.963 2.505 4.495 5.739 3.963 2.193 3.098 "
    "5.982 3.870 5.080 3.491 4.667 2.360 5.150 4.603 5.010 2.193",
    # Table 4, cases A and B.
    "hellinger": "2.674 2.228 5.998 3.944 2.514 4.456 5.729 3.944 2.228 3.086 "
    "5.998 3.814 5.108 3.490 4.665 2.370 5.191 4.603 5.028 2.228",
    "reverse entropy": "2.654 2.260 6.012 3.926 2.521 4.423 5.717 3.926 2.260 3.074 "
    "6.012 3.762 5.136 3.487 4.666 2.380 5.232 4.604 5.043 2.260",
}
# Table 4, by limits on the ratio; that of 0.8 to 1.25 is rounded anew there.
CREEDY_LOGIT = {
    (0.2, 3.0): "2.706 2.178 5.976 3.974 2.501 4.510 5.747 3.974 2.178 3.106 "
    "5.976 3.897 5.065 3.494 4.665 2.355 5.128 4.600 5.001 2.178",
    (0.8, 1.3): "2.513 2.408 6.162 3.951 2.534 4.189 5.911 3.951 2.408 3.213 "
    "6.162 3.645 5.094 3.604 4.442 2.428 5.115 4.366 5.069 2.408",
}


def test_creedy_starts_from_the_published_totals() -> None:
    assert_allclose(CREEDY.matrix.T @ CREEDY.weights, [44, 24, 213, 32])


@pytest.mark.parametrize("distance", ["chi2", "raking", "hellinger", REVERSE_ENTROPY])
def test_creedy_weights(distance: str | Distance) -> None:
    calibration = calibrated(CREEDY, distance=distance, tolerances=0, min_weight_ratio=-np.inf)
    name = calibration.result.settings["distance"]
    published = [float(number) for number in CREEDY_WEIGHTS[name].split()]

    assert_allclose(calibration.weights, published, atol=5.1e-4)
    assert_allclose(calibration.result.targets["final"], CREEDY.targets, rtol=1e-9)


@pytest.mark.parametrize("bounds", CREEDY_LOGIT, ids=str)
def test_creedy_logit_weights(bounds: tuple[float, float]) -> None:
    low, high = bounds
    calibration = calibrated(
        CREEDY, distance="logit", tolerances=0, min_weight_ratio=low, max_weight_ratio=high
    )
    published = [float(number) for number in CREEDY_LOGIT[bounds].split()]

    assert_allclose(calibration.weights, published, atol=5.1e-4)


@pytest.mark.parametrize("distance", ["chi2", "raking", "logit", "truncated_linear", "hellinger"])
@pytest.mark.parametrize("bounds", [(0.82, 1.25), (0.83, 3.0), (0.83, 1.26)])
def test_creedy_bounds_that_the_paper_calls_feasible(
    bounds: tuple[float, float], distance: str
) -> None:
    low, high = bounds
    calibration = calibrated(
        CREEDY, tolerances=0, min_weight_ratio=low, max_weight_ratio=high, distance=distance
    )
    weights = calibration.weights

    assert_allclose(CREEDY.matrix.T @ weights, CREEDY.targets, rtol=1e-9)
    assert (weights >= low * CREEDY.weights).all()
    assert (weights <= high * CREEDY.weights).all()


@pytest.mark.parametrize("distance", ["chi2", "raking"])
@pytest.mark.parametrize("bounds", [(0.83, 1.25), (0.84, 3.0)])
def test_creedy_bounds_that_the_paper_calls_infeasible(
    bounds: tuple[float, float], distance: str
) -> None:
    low, high = bounds
    calibration = Calibration(
        CREEDY.weights,
        CREEDY.targets,
        CREEDY.matrix,
        target_names=["aged", "children", "hours", "female"],
        tolerances=0,
        min_weight_ratio=low,
        max_weight_ratio=high,
        distance=distance,
    )

    with pytest.raises(InfeasibleTargets) as caught:
        calibration.calibrate(progress=False)

    conflict = caught.value.conflict
    assert conflict
    assert set(conflict) <= {"aged", "children", "hours", "female"}
    assert all(name in str(caught.value) for name in conflict)


def test_creedy_tightest_range() -> None:
    """By a linear program, independently: the paper only tries bounds."""
    problem = Problem.build(CREEDY.weights, CREEDY.targets, CREEDY.matrix, tolerances=0)

    assert_allclose(feasible_ratio_range(problem), [0.828125, 1.248047], atol=5.1e-7)


# --- Kalton and Flores-Cervantes (2003), as printed by `tests/kalton.Rout.save` of R `survey` -----

# One record per cell, a running fastest; its design weight is the size of the sample in the cell.
KALTON_A, KALTON_B = np.tile([1, 2, 3, 4], 3), np.repeat([1, 2, 3], 4)
KALTON_SAMPLE = np.array([20, 50, 100, 30, 40, 140, 50, 100, 40, 310, 50, 70.0])
KALTON_POPULATION = np.array([80, 60, 170, 55, 40, 150, 60, 165, 55, 340, 200, 125.0])
KALTON_MARGINS = np.column_stack(
    [a == KALTON_A for a in (1, 2, 3, 4)] + [b == KALTON_B for b in (1, 2, 3)]
).astype(np.float64)
KALTON_NUMBERS = np.column_stack([np.ones(12), KALTON_A, KALTON_B])


@pytest.mark.parametrize(
    ("columns", "options", "published"),
    [
        (
            KALTON_MARGINS,
            {"distance": "raking"},
            "1.81 1.45 2.02 1.08 .87 1.21 2.20 1.76 2.45 1.83 1.47 2.04",
        ),
        (KALTON_MARGINS, {}, "1.82 1.50 1.97 1.09 .78 1.24 2.19 1.88 2.34 1.83 1.52 1.98"),
        (KALTON_NUMBERS, {}, "1.21 1.17 1.14 1.43 1.40 1.36 1.66 1.62 1.59 1.88 1.85 1.81"),
        (
            KALTON_MARGINS,
            {"distance": "logit", "min_weight_ratio": 0.5, "max_weight_ratio": 2.2},
            "1.87 1.46 1.98 1.08 .74 1.27 2.17 2.09 2.18 1.89 1.49 1.99",
        ),
        (
            KALTON_MARGINS,
            {"distance": "truncated_linear", "min_weight_ratio": 0.5, "max_weight_ratio": 2.2},
            "1.81 1.48 1.99 1.08 .75 1.26 2.20 2.00 2.20 1.83 1.50 2.00",
        ),
    ],
    ids=["raking", "linear", "GREG", "logit", "truncated linear"],
)
def test_kalton_and_flores_cervantes_adjustments(
    columns: np.ndarray, options: dict[str, object], published: str
) -> None:
    data = Data(KALTON_SAMPLE, columns.T @ KALTON_POPULATION, columns)
    by_b = ratio_of(calibrated(data, tolerances=0, **options)).reshape(3, 4)

    assert_allclose(by_b.T.ravel(), [float(g) for g in published.split()], atol=0.0051)


# --- INSEE, "La macro CALMAR" (Sautory 1993), page 23 ---------------------------------------------


def test_calmar_documentation_raking_ratios() -> None:
    names = "ADEFGHIK"
    x = np.array([1, 2, 2, 2, 2, 1, 2, 2])
    y = np.array([1, 1, 1, 2, 2, 2, 1, 2])
    z = np.array([1, 1, 3, 2, 2, 2, 2, 2.0])
    columns = np.column_stack([x == 1, x == 2, y == 1, y == 2, z]).astype(np.float64)
    weights = np.array([10, 11, 13, 7, 8, 8, 9, 14.0])
    data = Data(weights, np.array([20, 60, 30, 50, 140.0]), columns)

    ratio = dict(
        zip(names, ratio_of(calibrated(data, tolerances=0, distance="raking")), strict=True)
    )

    published = {"A": 1.01683, "H": 1.22897, "D": 1.14602, "I": 0.49456, "E": 0.21342}
    published |= dict.fromkeys("FGK", 1.38511)
    assert_allclose([ratio[name] for name in published], list(published.values()), atol=5.1e-6)


# --- R `sampling`: the first example of `?calib` --------------------------------------------------

SAMPLING = Data(
    weights=np.full(10, 5.0),
    targets=np.array([24, 26, 290.0]),
    matrix=np.column_stack([np.arange(10) < 5, np.arange(10) >= 5, np.arange(1, 11)]).astype(float),
)


def test_sampling_calib_example_truncated() -> None:
    """The g-weights that the example prints."""
    ratio = ratio_of(
        calibrated(SAMPLING, tolerances=0, min_weight_ratio=0.75, max_weight_ratio=1.2)
    )

    printed = [0.75, 0.85125, 0.95875, 1.06625, 1.17375, 0.83875, 0.94625, 1.05375, 1.16125, 1.2]
    assert_allclose(ratio, printed, atol=5.1e-6)


def test_sampling_calib_example_linear() -> None:
    ratio = ratio_of(calibrated(SAMPLING, tolerances=0))

    assert_allclose(ratio, np.r_[0.76:1.16:5j, 0.84:1.24:5j], atol=1e-9)


# --- CVXR, "Survey calibration" (cvxr.rbind.io): R's `apisrs`, one record per cell ----------------


@pytest.mark.parametrize(
    ("distance", "published"),
    [
        ("raking", [28.911, 31.396, 29.003, 31.497, 29.033, 31.529]),
        ("chi2", [28.907, 31.397, 29.005, 31.495, 29.037, 31.528]),
    ],
)
def test_cvxr_school_weights(distance: str, published: list[float]) -> None:
    level, school_wide = np.repeat(["E", "H", "M"], 2), np.tile(["No", "Yes"], 3)
    count = np.array([15, 127, 13, 12, 9, 24])
    columns = np.column_stack(
        [level == name for name in "EHM"] + [school_wide == name for name in ("No", "Yes")]
    ).astype(np.float64)
    data = Data(30.97 * count, np.array([4421, 755, 1018, 1072, 5122.0]), columns)

    weights = calibrated(data, tolerances=0, distance=distance).weights

    assert_allclose(weights / count, published, atol=5.1e-4)
