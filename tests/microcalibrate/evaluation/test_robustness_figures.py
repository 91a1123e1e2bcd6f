"""Figures of a robustness evaluation: its own numbers, few enough marks, and nobody's tags."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from numpy.testing import assert_allclose

from l0.reports.palette import DARK
from microcalibrate import InvalidOption, RobustnessResult, evaluate_robustness
from microcalibrate.figures import robustness as figures
from microcalibrate.figures.plotting import escaped_lines

from ..pages import HOSTILE, assert_no_tags, texts
from ..problems import survey

DATA = survey(1, 200, 12)
DRAWINGS = ["plot_folds", "plot_targets", "plot_stability", "plot_drift"]


def evaluated(**options: Any) -> RobustnessResult:
    names = [f"{HOSTILE}/target {number}" for number in range(12)]
    return evaluate_robustness(
        DATA.weights, DATA.targets, DATA.matrix, target_names=names, **options
    )


@pytest.fixture(scope="module")
def result() -> RobustnessResult:
    rng = np.random.default_rng(0)
    names = [HOSTILE, "rent", "heating and hot water, central or district, paid by the tenant"]
    untargeted = pd.DataFrame(rng.lognormal(size=(200, 3)), columns=names)
    return evaluated(target_records=60, n_folds=3, n_draws=2, n_bootstrap=3, untargeted=untargeted)


@pytest.fixture(scope="module")
def dense() -> RobustnessResult:
    return evaluated(n_folds=2)


def traces(figure: go.Figure) -> dict[str, Any]:
    """Traces that the legend names."""
    return {trace.name: trace for trace in figure.data if trace.name}


def n_marks(figure: go.Figure) -> int:
    return sum(len(trace.x) for trace in figure.data)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_no_name_is_read_as_a_tag(result: RobustnessResult, drawing: str) -> None:
    figure = getattr(result, drawing)()

    assert_no_tags(json.loads(figure.to_json()))
    # A name is text, never a template, in which Plotly would put numbers for its braces.
    assert not any(trace.hovertemplate for trace in figure.data)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_axes_are_named_and_nothing_needs_webgl(result: RobustnessResult, drawing: str) -> None:
    figure = getattr(result, drawing)()

    assert {trace.type for trace in figure.data} == {"scatter"}
    for axis in figure.select_xaxes():
        assert axis.title.text
        assert "%" in axis.tickformat
        assert axis.rangemode == "tozero"
    assert all(axis.ticktext for axis in figure.select_yaxes())


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_every_colour_has_one_for_dark_pages(result: RobustnessResult, drawing: str) -> None:
    figure = getattr(result, drawing)()
    figure.layout.template = None
    colours = {text for text in texts(json.loads(figure.to_json())) if text.startswith("#")}

    assert colours <= {*DARK, figures.BEFORE}


@pytest.mark.parametrize("drawing", DRAWINGS[:2] + DRAWINGS[3:])
def test_series_differ_in_more_than_colour(result: RobustnessResult, drawing: str) -> None:
    named = traces(getattr(result, drawing)())
    looks = {(trace.marker.symbol, trace.marker.line.width) for trace in named.values()}

    assert len(looks) == len(named) >= 3


def test_folds_show_their_errors_the_worst_on_top(result: RobustnessResult) -> None:
    figure = result.plot_folds()
    ordered = result.folds.sort_values("held_out_error", ascending=False)

    for series in figures.ERRORS:
        shown = traces(figure)[series.name]
        expected = [result.folds[series.column].mean(), *ordered[series.column]]
        assert_allclose(shown.x, expected)
        assert list(shown.y) == [4, 3, 2, 1]
    names = figure.layout.yaxis.ticktext
    assert names[0] == "mean of 3 folds"
    first = ordered.iloc[0]
    assert names[1] == f"fold {first.fold:.0f} ({first.n_targets:.0f} targets)"


def test_targets_show_the_worst_with_full_names(result: RobustnessResult) -> None:
    figure = result.plot_targets(5)
    worst = result.targets.nlargest(5, "held_out_error")

    assert list(figure.layout.yaxis.ticktext) == [escaped_lines(name) for name in worst.name]
    for series in figures.ERRORS:
        assert_allclose(traces(figure)[series.name].x, worst[series.column])
    assert len(traces(result.plot_targets(100))["held out"].x) == 12


def test_stability_has_a_row_for_every_repetition(result: RobustnessResult) -> None:
    figure = result.plot_stability()
    draws = result.draws

    assert list(figure.layout.yaxis.ticktext) == [
        "held out, seed 0",
        "held out, seed 1",
        "held out, random sample, seed 0",
        "held out, random sample, seed 1",
        "all targets calibrated to",
        "all targets, records reweighted",
    ]
    means = [trace.x[0] for trace in figure.data if trace.text]
    held_out = draws[draws.fold >= 0].groupby(["selection", "seed"]).held_out_error.mean()
    everything = draws[(draws.fold < 0) & (draws.selection == "chosen")].train_error
    assert_allclose(
        means,
        [
            held_out["chosen", 0],
            held_out["chosen", 1],
            held_out["random", 0],
            held_out["random", 1],
            everything.mean(),
            result.bootstrap.error.mean(),
            result.folds.weight_change.mean(),
            result.folds.final_weight_change.mean(),
        ],
    )
    above, below = figure.layout.yaxis.domain, figure.layout.yaxis2.domain
    assert 0 == below[0] < below[1] < above[0] < above[1] == 1


def test_drift_shows_every_kind_of_change(result: RobustnessResult) -> None:
    figure = result.plot_drift()
    ordered = result.drift.sort_values("draw_drift", ascending=False)

    for series in figures.DRIFTS:
        assert_allclose(traces(figure)[series.name].x, ordered[series.column])
    assert list(figure.layout.yaxis.ticktext) == [escaped_lines(name) for name in ordered.variable]


def test_what_was_not_done_is_not_drawn(dense: RobustnessResult) -> None:
    assert "random sample" not in traces(dense.plot_folds())
    assert "random sample" not in traces(dense.plot_targets())
    stability = dense.plot_stability()
    assert list(stability.layout.yaxis.ticktext) == ["held out", "all targets calibrated to"]
    assert list(stability.layout.yaxis2.ticktext) == ["dense weights"]
    with pytest.raises(InvalidOption, match="untargeted="):
        dense.plot_drift()


def test_drift_without_a_draw_is_that_of_the_folds(dense: RobustnessResult) -> None:
    table = pd.DataFrame(
        {
            "variable": ["rent", "heating"],
            "design_total": [1.0, 2.0],
            "dense_total": [1.0, 2.0],
            "draw_drift": [0.0, 0.0],
            "fold_drift": [0.1, 0.2],
            "random_drift": [np.nan, np.nan],
            "bootstrap_std": [np.nan, np.nan],
        }
    )
    shown = traces(dataclasses.replace(dense, drift=table).plot_drift())

    assert list(shown) == ["a fold left out"]
    assert_allclose(shown["a fold left out"].x, [0.2, 0.1])


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_many_rows_are_thinned_and_it_is_said(result: RobustnessResult, drawing: str) -> None:
    times = 2_000
    seeds = pd.concat([result.draws.assign(seed=seed) for seed in range(300)], ignore_index=True)
    large = dataclasses.replace(
        result,
        folds=pd.concat([result.folds] * times, ignore_index=True),
        targets=pd.concat([result.targets] * times, ignore_index=True),
        draws=seeds,
        bootstrap=pd.concat([result.bootstrap] * times, ignore_index=True),
        drift=pd.concat([result.drift] * times, ignore_index=True),
    )
    arguments = (10**6,) if drawing in ("plot_targets", "plot_drift") else ()
    figure = getattr(large, drawing)(*arguments)

    assert n_marks(figure) <= figures.MOST_MARKS
    said = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert " of " in said.partition("Shows ")[2]


@pytest.mark.parametrize("n_shown", [0, -1, 1.5, True, "all"])
def test_a_number_that_is_none_is_refused(result: RobustnessResult, n_shown: Any) -> None:
    with pytest.raises(InvalidOption, match="n_targets"):
        result.plot_targets(n_shown)
    with pytest.raises(InvalidOption, match="n_variables"):
        result.plot_drift(n_shown)


def test_samples_that_failed_leave_no_marker(result: RobustnessResult) -> None:
    draws = result.draws.copy()
    draws.loc[draws.selection == "random", "held_out_error"] = np.nan
    folds = result.folds.assign(random_error=np.nan)
    failed = dataclasses.replace(result, draws=draws, folds=folds)

    assert "random sample" not in traces(failed.plot_folds())
    stability = failed.plot_stability()
    assert sum(bool(trace.text) for trace in stability.data) == 6
    assert all(np.isfinite(trace.x).all() for trace in stability.data)
