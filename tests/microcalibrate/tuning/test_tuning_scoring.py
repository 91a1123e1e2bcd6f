"""How trials are judged: the front, the rule and the score are what their definitions say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from microcalibrate.errors import InvalidOption
from microcalibrate.hyperparameter_tuning.scoring import (
    AGGREGATES,
    ScoreWeights,
    aggregated,
    best_of,
    one_standard_error,
    pareto_front,
    score,
    standard_error,
)
from microcalibrate.hyperparameter_tuning.storage import quiet_optuna

# Few different values, so that ties in one figure and in both are common.
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=25)
TRIALS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(1, 6)), min_size=1)


def split(points: Any) -> tuple[list[float], ...]:
    return tuple([list(map(float, column)) for column in zip(*points, strict=True)] or [[], []])


def beats(one: Any, other: Any) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


@given(POINTS)
def test_nobody_beats_a_member_of_the_front(points: Any) -> None:
    mask = pareto_front(*split(points))

    for member in np.flatnonzero(mask):
        assert not any(beats(point, points[member]) for point in points)


@given(POINTS)
def test_everyone_else_is_beaten_by_a_member_or_equals_one(points: Any) -> None:
    mask = pareto_front(*split(points))

    members = [points[place] for place in np.flatnonzero(mask)]
    assert len(set(members)) == len(members)
    for place in np.flatnonzero(~mask):
        assert any(beats(member, points[place]) or member == points[place] for member in members)
        # Of equal ones it is the first that is kept.
        if points[place] in members:
            assert points.index(points[place]) < place


@given(POINTS.filter(len))
def test_the_front_is_that_of_optuna(points: Any) -> None:
    with quiet_optuna():
        study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trials([optuna.create_trial(values=list(map(float, point))) for point in points])

    mask = pareto_front(*split(points))

    theirs = {tuple(trial.values) for trial in study.best_trials}
    assert {points[place] for place in np.flatnonzero(mask)} == theirs


@given(TRIALS)
def test_the_rule_is_its_definition(trials: Any) -> None:
    errors, spreads, records = split(trials)
    best = best_of(errors, records)

    chosen = one_standard_error(errors, spreads, records, best)

    limit = errors[best] + spreads[best]
    assert errors[chosen] <= limit
    assert all(records[chosen] <= n for e, n in zip(errors, records, strict=True) if e <= limit)
    rivals = [e for e, n in zip(errors, records, strict=True) if n == records[chosen]]
    assert errors[chosen] == min(rivals)


@given(TRIALS)
def test_with_no_spread_the_rule_keeps_the_smallest_error(trials: Any) -> None:
    errors, _, records = split(trials)
    best = best_of(errors, records)

    for unknown in (0.0, math.nan):
        chosen = one_standard_error(errors, [unknown] * len(errors), records, best)
        assert (errors[chosen], records[chosen]) == (errors[best], records[best])


def test_the_rule_starts_from_the_best_that_is_given() -> None:
    # The best of a balanced score need not have the smallest error.
    errors, spreads, records = [0.20, 0.23, 0.26], [0.01, 0.04, 0.01], [900, 400, 100]

    assert one_standard_error(errors, spreads, records, best=0) == 0
    assert one_standard_error(errors, spreads, records, best=1) == 2


@given(TRIALS)
def test_the_best_is_smallest_then_sparsest_then_first(trials: Any) -> None:
    values, _, records = split(trials)

    place = best_of(values, records)

    pairs = list(zip(values, records, strict=True))
    assert place == pairs.index(min(pairs))


def test_a_score_is_read_in_points_of_error() -> None:
    base = score([0.2], [0.6], [200], 1_000)

    # Halving the records from 20% to 10%, or ten in a hundred more within 10%, is worth a point.
    assert_allclose(base - score([0.2], [0.6], [100], 1_000), 0.01)
    assert_allclose(base - score([0.2], [0.7], [200], 1_000), 0.01)
    assert_allclose(base - score([0.19], [0.6], [200], 1_000), 0.01)


def test_each_part_of_the_score_has_its_weight() -> None:
    weights = ScoreWeights.of({"held_out_error": 2, "beyond_10_percent": 3, "records": 5})
    arguments = ([0.1, 0.3, 0.8], [0.9, 0.5, 0.1], [100, 100, 400], 1_000, weights)

    # Of the folds, and the worst share within 10% is the smallest; records are always a mean.
    assert_allclose(score(*arguments, "mean"), 2 * 0.4 + 3 * 0.5 + 5 * 0.2)
    assert_allclose(score(*arguments, "median"), 2 * 0.3 + 3 * 0.5 + 5 * 0.2)
    assert_allclose(score(*arguments, "worst"), 2 * 0.8 + 3 * 0.9 + 5 * 0.2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_aggregates_are_ordered_and_in_the_range_of_the_folds(values: list[float]) -> None:
    found = {how: aggregated(values, how) for how in AGGREGATES}

    assert found["worst"] == max(values)
    assert max(found.values()) <= found["worst"] + 1e-12
    assert min(found.values()) >= min(values) - 1e-12


def test_the_standard_error_shrinks_with_the_root_of_the_number_of_folds() -> None:
    folds = np.random.default_rng(0).normal(size=10_000)

    assert_allclose(standard_error(folds), 0.01, rtol=0.05)
    assert math.isnan(standard_error([0.3]))


@pytest.mark.parametrize(
    ("given_weights", "words"),
    [
        ({"record": 1.0}, "score_weights has no 'record'"),
        ({"records": -0.1}, r"score_weights\['records'\]=-0.1"),
        ({"records": math.inf}, "finite"),
        ({"records": math.nan}, "finite"),
        ({"records": "much"}, "finite number"),
        ({"records": True}, "finite number"),
        ({"held_out_error": 0, "beyond_10_percent": 0, "records": 0}, "all zero"),
        ([1.0, 0.1], "must be a mapping"),
    ],
)
def test_weights_that_make_no_score_are_refused(given_weights: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        ScoreWeights.of(given_weights)


def test_weights_not_named_keep_their_defaults() -> None:
    assert ScoreWeights.of(None) == ScoreWeights.of({}) == ScoreWeights()
    assert ScoreWeights.of({"records": 0.3}) == ScoreWeights(records=0.3)
    own = ScoreWeights(records=0.4)
    assert ScoreWeights.of(own) is own


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: aggregated([0.1], "best"), "aggregate='best' is not known"),
        (lambda: aggregated([], "mean"), "one finite number or more"),
        (lambda: aggregated([0.1, math.nan], "mean"), "one finite number or more"),
        (lambda: pareto_front([0.1], [1, 2]), "errors and records have shapes"),
        (lambda: pareto_front([math.nan], [1]), "must be finite"),
        (lambda: best_of([], []), "no trial"),
        (lambda: one_standard_error([0.1], [0.1], [1], best=1), "no position"),
        (lambda: one_standard_error([0.1], [0.1, 0.2], [1], best=0), "have shapes"),
    ],
)
def test_figures_that_are_none_are_refused(call: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        call()
