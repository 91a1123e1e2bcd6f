"""Figures: they show the numbers of the result, few enough marks, and nobody's tags."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from numpy.testing import assert_allclose

from l0.reports.palette import DARK
from microcalibrate import Calibration, CalibrationResult
from microcalibrate.errors import InvalidOption
from microcalibrate.figures import calibration as figures
from microcalibrate.figures.plotting import amount, percent, power_of_ten

from ..pages import texts

HOSTILE = '<img src=x onerror=alert(1)>/<a href="javascript:alert(2)">%{x}</a><b>$x$\u202e'
DRAWINGS = ["plot_fit", "plot_estimates", "plot_worst", "plot_weights", "plot_history"]


def calibrated(n_targets: int = 12, **options: Any) -> CalibrationResult:
    rng = np.random.default_rng(2)
    matrix = rng.gamma(2.0, size=(400, n_targets)) - 1.0
    weights = rng.uniform(10, 1000, size=400)
    targets = (matrix.T @ weights) * rng.uniform(0.8, 1.3, size=n_targets)
    targets[0] = 0.0
    names = [f"family {i % 3}/target {i}" for i in range(n_targets)]
    names[1] = HOSTILE
    calibration = Calibration(weights, targets, matrix, target_names=names, **options)
    calibration.calibrate(progress=False)
    return calibration.result


@pytest.fixture(scope="module")
def result() -> CalibrationResult:
    return calibrated(target_records=100)


def n_marks(figure: go.Figure) -> int:
    return sum(len(trace.x) for trace in figure.data)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_no_name_is_read_as_a_tag(result: CalibrationResult, drawing: str) -> None:
    figure = getattr(result, drawing)()

    written = texts(json.loads(figure.to_json()))

    for text in written:
        plain = text
        for ours in ("<br>", "<b>", "</b>", "<extra></extra>"):
            plain = plain.replace(ours, "")
        assert "<" not in plain
        assert "\u202e" not in plain
    # A name is text, never a template, in which Plotly would put numbers for its braces.
    assert not any("alert" in (trace.hovertemplate or "") for trace in figure.data)


@pytest.mark.parametrize("drawing", ["plot_estimates", "plot_worst"])
def test_names_are_whole(result: CalibrationResult, drawing: str) -> None:
    written = " ".join(texts(json.loads(getattr(result, drawing)().to_json())))

    for part in ("onerror=alert(1)&gt;", "javascript:alert(2)", "family 2/target 11"):
        assert part in written.replace("<br>", "")


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_axes_are_named_and_nothing_needs_webgl(result: CalibrationResult, drawing: str) -> None:
    figure = getattr(result, drawing)()

    assert {trace.type for trace in figure.data} <= {"scatter", "bar"}
    assert all(axis.title.text for axis in figure.select_xaxes())
    for axis in figure.select_yaxes():
        assert axis.title.text or axis.ticktext is not None or axis.showticklabels is False


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_many_targets_and_steps_are_thinned_and_it_is_said(
    result: CalibrationResult, drawing: str
) -> None:
    times = 500
    targets = pd.concat([result.targets] * times, ignore_index=True)
    targets["family"] = [f"family {i}" for i in range(len(targets))]
    steps = pd.concat([result.history] * 5000, ignore_index=True)
    large = dataclasses.replace(result, targets=targets, history=steps)
    arguments = (len(targets),) if drawing == "plot_worst" else ()

    figure = getattr(large, drawing)(*arguments)

    assert n_marks(figure) <= figures.MOST_MARKS
    if drawing != "plot_weights":
        said = figure.layout.title.subtitle.text.replace("<br>", " ")
        assert " of " in said.partition("Shows ")[2]


def test_fit_shows_the_median_error_of_each_family(result: CalibrationResult) -> None:
    figure = figures.fit(result)

    markers = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    for name, column in (("before", "initial_error"), ("after", "error")):
        errors = result.targets[column].abs()
        medians = errors.groupby(result.targets.family).median()
        order = figures.family_order(result.targets)
        expected = [errors.median(), *(medians[family] for family in order)]
        assert_allclose(markers[name].x, np.maximum(expected, figures.LEAST_ERROR))


@pytest.mark.parametrize(("n_families", "left_out"), [(1, 0), (30, 0), (33, 3)])
def test_fit_says_how_many_families_are_left_out(
    result: CalibrationResult, n_families: int, left_out: int
) -> None:
    targets = pd.concat([result.targets] * 10, ignore_index=True)
    targets["family"] = [f"family {i % n_families}" for i in range(len(targets))]

    figure = figures.fit(dataclasses.replace(result, targets=targets))

    said = figure.layout.title.subtitle.text.replace("<br>", " ")
    expected = f"Shows {n_families - left_out} of {n_families} families" if left_out else ""
    assert expected in said
    assert ("Shows" in said) == bool(left_out)


def test_worst_shows_errors_and_prices_in_order(result: CalibrationResult) -> None:
    figure = figures.worst_targets(result, 5)

    worst = result.targets.loc[result.targets.error.abs().sort_values(ascending=False).index[:5]]
    assert_allclose(figure.data[1].x, worst.error)
    assert_allclose(figure.data[2].x, worst.price)
    # The worst stands on top.
    assert list(figure.data[1].y) == [5, 4, 3, 2, 1]


def test_worst_of_none_is_refused(result: CalibrationResult) -> None:
    with pytest.raises(InvalidOption, match="n_targets"):
        result.plot_worst(0)


def test_weights_are_all_counted(result: CalibrationResult) -> None:
    figure = figures.weights(result)

    before, after = (trace for trace in figure.data if trace.fill)
    assert sum(before.y[1:-1:2]) == 400
    assert sum(after.y[1:-1:2]) == 100
    assert "300 records of weight zero" in figure.layout.title.subtitle.text
    lines = {trace.text[1].split()[0]: trace.x[0] for trace in figure.data[5:]}
    kept = result.weights[result.weights > 0]
    assert_allclose([lines["P90"], lines["P99"]], np.quantile(kept, [0.9, 0.99]))


def test_history_shows_every_phase(result: CalibrationResult) -> None:
    figure = figures.history(result)

    assert [trace.name.split()[0] for trace in figure.data] == ["dense", "refit"]
    drawn = np.concatenate([trace.y for trace in figure.data])
    assert_allclose(drawn, np.maximum(result.history.gap.abs(), figures.LEAST_GAP))


@pytest.mark.parametrize(
    "change",
    [
        {"tolerances": 0, "n_targets": 2},
        {"n_targets": 2, "families": ["x", "x"]},
        {"min_weight_ratio": -np.inf, "n_targets": 40, "closeness": 1e-6},
        {"min_weight_ratio": 1.0, "max_weight_ratio": 1.0},
    ],
)
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_unusual_results_are_drawn(change: dict[str, Any], drawing: str) -> None:
    assert getattr(calibrated(**change), drawing)().data is not None


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_every_colour_has_one_for_dark_pages(result: CalibrationResult, drawing: str) -> None:
    figure = getattr(result, drawing)()
    figure.layout.template = None

    colours = {text for text in texts(json.loads(figure.to_json())) if text.startswith("#")}

    assert colours <= {*DARK, figures.BEFORE}


def test_without_plotly_the_way_out_is_named() -> None:
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        "from microcalibrate.figures.plotting import load_plotly\n"
        "try: load_plotly()\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("MissingExtra")
    assert "pip install 'microcalibrate[viz]'" in done.stdout


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.0), "0%"),
        (percent(1e-12), "under 0.000001%"),
        (percent(0.9999), "100.0%"),
        (percent(float("inf")), "inf"),
        (percent(-0.5, signed=True), "−50.0%"),
        (amount(999_999), "1 million"),
        (amount(999_400), "999,400"),
        (amount(-2.5e12), "−2.5 trillion"),
        (amount(3e18), "3e+18"),
        (amount(0.0), "0"),
        (power_of_ten(5.5e-27), "5.5×10⁻²⁷"),
    ],
)
def test_numbers_are_written_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected
