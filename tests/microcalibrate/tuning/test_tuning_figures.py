"""Figures of a tuning: they show its numbers, few enough marks, and nobody's tags."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from numpy.testing import assert_allclose
from optuna.trial import TrialState

from l0.reports.palette import DARK
from microcalibrate.figures import tuning as figures
from microcalibrate.hyperparameter_tuning.result import TuningResult

from ..pages import texts
from ..studies import add_finished, add_unfinished, empty_study, random_study

DRAWINGS = ["plot_history", "plot_importance", "plot_front", "plot_folds"]
HOSTILE = '<img src=x onerror=alert(1)>"<a href="javascript:alert(2)">%{x}</a><b>$x$\u202e"'


def trace(figure: go.Figure, name: str) -> Any:
    (found,) = (each for each in figure.data if each.name == name)
    return found


@pytest.fixture(scope="module", params=["balanced", "pareto"])
def result(request: pytest.FixtureRequest) -> TuningResult:
    study = random_study(40, request.param)
    add_unfinished(study, TrialState.PRUNED, infeasible=HOSTILE)
    add_unfinished(study, TrialState.FAIL, error=HOSTILE)
    add_unfinished(study, TrialState.RUNNING)
    return TuningResult.from_study(study)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_no_text_is_read_as_a_tag(result: TuningResult, drawing: str) -> None:
    for text in texts(json.loads(getattr(result, drawing)().to_json())):
        plain = text
        for ours in ("<br>", "<b>", "</b>"):
            plain = plain.replace(ours, "")
        assert "<" not in plain
        assert "\u202e" not in plain


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_axes_are_named_and_nothing_needs_webgl(result: TuningResult, drawing: str) -> None:
    figure = getattr(result, drawing)()

    assert {each.type for each in figure.data} <= {"scatter", "bar"}
    assert all(axis.title.text for axis in figure.select_xaxes())
    assert all(axis.title.text or axis.ticktext is not None for axis in figure.select_yaxes())


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_every_colour_has_one_for_dark_pages(result: TuningResult, drawing: str) -> None:
    figure = getattr(result, drawing)()
    figure.layout.template = None

    colours = {text for text in texts(json.loads(figure.to_json())) if text.startswith("#")}

    assert colours <= {*DARK, figures.BEFORE}


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_traces_differ_without_colour(result: TuningResult, drawing: str) -> None:
    named = [each for each in getattr(result, drawing)().data if each.showlegend is not False]
    looks = [
        (each.mode, each.marker.symbol, each.line.dash if "lines" in each.mode else None)
        for each in named
        if each.type == "scatter"
    ]

    assert len(set(looks)) == len(looks)


def test_history_shows_every_trial_and_the_best_so_far(result: TuningResult) -> None:
    figure = result.plot_history()

    done = result.trials[result.trials.state == "COMPLETE"]
    goal = done.score if result.settings["objective"] == "balanced" else done.held_out_error
    assert_allclose(trace(figure, "trial").y, goal)
    assert_allclose(trace(figure, "best so far").y, np.minimum.accumulate(goal))
    assert list(trace(figure, "chosen").x) == [result.best["number"]]
    assert list(trace(figure, "pruned or failed").x) == [40, 41]
    assert "onerror" in "".join(trace(figure, "pruned or failed").text).replace("<br>", "")


def test_importance_shows_the_shares(result: TuningResult) -> None:
    figure = result.plot_importance()

    assert_allclose(figure.data[0].x, list(result.importances().values()))
    assert list(figure.layout.yaxis.ticktext) == list(result.importances())


def test_importance_that_is_not_known_is_said() -> None:
    figure = TuningResult.from_study(random_study(5)).plot_importance()

    assert "5 trials finished, and 20 are needed" in figure.layout.annotations[0].text


def test_the_front_is_a_staircase_below_all_trials(result: TuningResult) -> None:
    figure = result.plot_front()

    stairs = trace(figure, "front")
    assert stairs.line.shape == "hv"
    assert_allclose(stairs.x, result.front.records)
    assert_allclose(stairs.y, result.front.held_out_error)
    # With as many records, no trial is below the step.
    others = trace(figure, "beaten by another")
    for records, error in zip(others.x, others.y, strict=True):
        assert error >= min(stairs.y[stairs.x <= records])
    assert len(others.x) + len(stairs.x) == 40
    assert list(trace(figure, "chosen").x) == [result.best["records"]]


def test_bars_are_one_standard_error(result: TuningResult) -> None:
    figure = result.plot_front()

    bars = figure.data[0].y.reshape(-1, 3)
    assert_allclose(bars[:, 1] - result.front.held_out_error, result.front.standard_error)
    limit = result.lowest["held_out_error"] + result.lowest["standard_error"]
    assert_allclose(figure.layout.shapes[0].y0, limit)


@pytest.mark.parametrize(
    ("rule", "name"), [(False, "one-standard-error rule"), (True, "smallest error")]
)
def test_the_front_marks_what_else_could_be_chosen(rule: bool, name: str) -> None:
    result = TuningResult.from_study(random_study(40, "pareto", one_standard_error=rule))
    other = result.lowest if rule else result.one_standard_error

    figure = result.plot_front()

    assert other["number"] != result.best["number"]
    assert list(trace(figure, name).x) == [other["records"]]


def test_folds_are_shown_each_with_their_mean(result: TuningResult) -> None:
    figure = result.plot_folds()

    table = result.fold_errors.pivot(index="number", columns="fold", values="held_out_error")
    prices = result.trials.set_index("number").l0_lambda.loc[table.index].sort_values()
    for fold in range(3):
        assert_allclose(trace(figure, f"fold {fold}").x, prices)
        assert_allclose(trace(figure, f"fold {fold}").y, table.loc[prices.index, fold])
    assert_allclose(trace(figure, "mean of the folds").y, table.mean(axis=1).loc[prices.index])


def test_lines_join_trials_that_differ_in_the_price_alone() -> None:
    study = empty_study()
    for price in (0.01, 0.001, 0.05):
        add_finished(study, price, [price, 0.1, 0.2], 200)

    mean = trace(TuningResult.from_study(study).plot_folds(), "mean of the folds")

    assert mean.mode == "lines+markers"
    assert list(mean.x) == [0.001, 0.01, 0.05]


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize(("n_trials", "n_folds"), [(2_600, 2), (300, 100)])
def test_many_trials_are_thinned_and_it_is_said(n_trials: int, n_folds: int, drawing: str) -> None:
    result = many(n_trials, n_folds)

    figure = getattr(result, drawing)()

    assert sum(len(each.x) for each in figure.data) <= figures.MOST_MARKS
    said = figure.layout.title.subtitle.text.replace("<br>", " ")
    n_drawn = {
        "plot_history": n_trials,
        "plot_importance": 0,
        "plot_front": n_trials,
        "plot_folds": n_trials * min(n_folds, figures.MOST_FOLDS),
    }
    if n_drawn[drawing] > figures.MOST_MARKS or (n_trials > 2_000 and n_drawn[drawing]):
        assert "Shows " in said
    if drawing == "plot_folds" and n_folds > figures.MOST_FOLDS:
        assert f"Shows {figures.MOST_FOLDS} of {n_folds} folds" in said
    marks = [each.name for each in figure.data]
    assert drawing == "plot_importance" or "chosen" in marks


MANY: dict[tuple[int, int], TuningResult] = {}


def many(n_trials: int, n_folds: int) -> TuningResult:
    if (n_trials, n_folds) not in MANY:
        MANY[n_trials, n_folds] = TuningResult.from_study(random_study(n_trials, n_folds=n_folds))
    return MANY[n_trials, n_folds]


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize(("n_trials", "n_folds"), [(1, 1), (1, 2), (3, 1)])
def test_the_smallest_studies_are_drawn(n_trials: int, n_folds: int, drawing: str) -> None:
    result = TuningResult.from_study(random_study(n_trials, n_folds=n_folds))

    figure = getattr(result, drawing)()

    assert figure.data
    for axis in figure.select_xaxes():
        if axis.type == "log":
            low, high = axis.range
            assert any(low <= np.log10(tick) <= high for tick in axis.tickvals)


def test_a_long_front_is_thinned_too() -> None:
    study = empty_study()
    for place in range(1_000):
        add_finished(study, 0.01, [0.9 - 0.0005 * place] * 3, 100 + place)

    figure = TuningResult.from_study(study).plot_front()

    assert sum(len(each.x) for each in figure.data) <= figures.MOST_MARKS
    assert len(trace(figure, "front").x) == figures.MOST_ON_FRONT


def test_no_bound_is_called_none() -> None:
    study = empty_study()
    add_finished(study, 0.01, [0.1, 0.2, 0.3], 200, max_weight_ratio=None)
    add_finished(study, 0.02, [0.1, 0.2, 0.4], 300, max_weight_ratio=50.0)

    figure = TuningResult.from_study(study).plot_history()

    bounds = [text.split("<br>")[2] for text in trace(figure, "trial").text]
    assert bounds == ["max_weight_ratio none", "max_weight_ratio 50"]
    assert "max_weight_ratio none" in trace(figure, "chosen").text[0]
