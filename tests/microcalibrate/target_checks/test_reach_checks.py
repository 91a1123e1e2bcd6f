"""Checks of what weights within bounds can reach, and of the records that a target rests on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate import Calibration, InfeasibleTargets
from microcalibrate.target_checks import check_targets
from microcalibrate.target_checks.reach import mean_range

from .people import INCOME, PEOPLE, kinds


@settings(max_examples=20, deadline=None)
@given(
    value=st.floats(0.2, 3.0),
    low=st.floats(0.0, 0.95),
    high=st.floats(1.05, 3.0),
    what=st.sampled_from([("income", None), ("age", "sex == 'f'"), (None, "age > 60")]),
)
def test_out_of_reach_is_what_an_exact_calibration_cannot_meet(
    value: float, low: float, high: float, what: tuple[str | None, str | None]
) -> None:
    data = PEOPLE.head(60)
    row = {"name": "t", "value": 1.0, "variable": what[0], "filter": what[1], "tolerance": 0.0}
    initial = check_targets(data, [row], weight="w").table["initial"][0]
    rows = [row | {"value": value * initial}]
    if min(abs(value - low), abs(value - high)) < 1e-3:
        return

    checks = check_targets(data, rows, weight="w", min_weight_ratio=low, max_weight_ratio=high)
    assert_allclose(
        checks.table[["lowest", "highest"]].to_numpy()[0], [low * initial, high * initial]
    )
    assert checks.table["reachable"][0] == (low <= value <= high)
    bounds: dict[str, Any] = {"min_weight_ratio": low, "max_weight_ratio": high}
    calibration = Calibration.from_table(data, rows, "w", **bounds)
    if checks.table["reachable"][0]:
        calibration.calibrate(progress=False)
    else:
        with pytest.raises(InfeasibleTargets):
            calibration.calibrate(progress=False)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.floats(-5, 5),
            st.floats(0.1, 5),
            st.floats(0, 1),
            st.sampled_from([1.0, 2.5, np.inf]),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_the_range_of_a_mean_is_that_of_all_corners(
    records: list[tuple[float, float, float, float]],
) -> None:
    x, d, low, high = (np.array(part) for part in zip(*records, strict=True))
    corners = []
    for chosen in itertools.product([False, True], repeat=len(x)):
        weights = d * np.where(chosen, np.where(np.isinf(high), 1e12, high), low)
        if weights.sum() > 0:
            corners.append(weights @ x / weights.sum())

    assert_allclose(mean_range(x, d, low, high), [min(corners), max(corners)], atol=1e-9)


def test_a_mean_out_of_reach_is_found() -> None:
    row = {"name": "age", "value": 60, "agg": "mean"}
    low, high = mean_range(
        PEOPLE["age"].to_numpy(float), PEOPLE["w"].to_numpy(), np.full(400, 0.8), np.full(400, 1.2)
    )

    checks = check_targets(PEOPLE, [row], weight="w", min_weight_ratio=0.8, max_weight_ratio=1.2)

    assert_allclose(checks.table[["lowest", "highest"]].to_numpy()[0], [low, high])
    assert checks.findings["kind"].tolist() == ["out of reach"]
    assert f"at most {high:.6g} at ratios from 0.8 to 1.2" in checks.findings["message"][0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (INCOME / 1_000, ("warning", "far from the data")),
        (INCOME / 3, ("note", "far from the data")),
        (1_000 * INCOME, ("warning", "far from the data")),
    ],
)
def test_another_unit_is_suspected(value: float, expected: tuple[str, str]) -> None:
    assert kinds([{"name": "income", "value": value}]) == {"income": {expected}}


def test_few_records_are_told() -> None:
    data = PEOPLE.assign(few=(np.arange(400) < 2) * 1.0, some=(np.arange(400) < 12) * 1.0)
    rows = [
        {"name": name, "value": float(data["w"] @ data[name]), "variable": name}
        for name in ("few", "some")
    ]

    found = check_targets(data, rows, weight="w").findings

    assert list(zip(found["name"], found["severity"], strict=True)) == [
        ("few", "warning"),
        ("some", "note"),
    ]
    assert "rests on 2 records" in found["message"][0]


def test_records_of_weight_zero_support_nothing() -> None:
    data = PEOPLE.assign(w=np.where(PEOPLE["sex"] == "f", 0.0, PEOPLE["w"]))

    found = check_targets(data, [{"name": "f", "value": 1, "filter": "sex == 'f'"}], weight="w")

    assert found.findings["kind"].tolist() == ["no supporting record"]
    assert "design weight is zero" in found.findings["message"][0]
