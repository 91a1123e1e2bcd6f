"""Folds of targets: every target once, like targets together, sizes balanced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from microcalibrate import InvalidOption, InvalidProblem, Problem
from microcalibrate.evaluation.folds import target_folds, target_groups

from ..problems import survey

DATA = survey(3, 400, 24)
NAMES = [f"{state}/{kind}/{band}" for state in "ABCD" for kind in "xy" for band in "lmh"]


def fold_of(folds: Any, n_targets: int) -> Any:
    """Number of the fold of each target."""
    found = np.full(n_targets, -1)
    for number, fold in enumerate(folds):
        assert (found[fold] == -1).all()
        found[fold] = number
    assert (found >= 0).all()
    return found


@pytest.mark.parametrize("groups", ["correlation", "family", "names", None, ["p", "q"] * 12])
def test_every_target_is_in_one_fold_and_groups_are_whole(groups: Any) -> None:
    fold = fold_of(target_folds(DATA.matrix, NAMES, 2, groups=groups), 24)
    labels = target_groups(DATA.matrix, NAMES, groups=groups)

    for label in np.unique(labels):
        assert len(set(fold[labels == label])) == 1


@pytest.mark.parametrize("n_folds", [2, 3, 5, 8])
def test_sizes_are_balanced(n_folds: int) -> None:
    alone = target_folds(DATA.matrix, NAMES, n_folds, groups=None)
    sizes = [len(fold) for fold in alone]

    assert max(sizes) - min(sizes) <= 1
    families = target_folds(DATA.matrix, NAMES, n_folds, groups="family")
    assert max(map(len, families)) - min(map(len, families)) <= 3


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("factor", [1.0, -3.0, 1e12, 1e-9, 1e200, 1e-200])
@pytest.mark.parametrize("threshold", [0.9, 1.0])
def test_a_duplicated_target_is_never_split(form: Any, factor: float, threshold: float) -> None:
    twins = np.hstack([DATA.matrix, DATA.matrix * factor])
    for seed in range(5):
        folds = target_folds(form(twins), None, 4, threshold=threshold, seed=seed)
        fold = fold_of(folds, 48)
        assert_array_equal(fold[:24], fold[24:])


def test_columns_that_differ_only_where_nobody_has_weight_are_duplicates() -> None:
    weights = DATA.weights.copy()
    weights[::2] = 0
    matrix = np.hstack([DATA.matrix, DATA.matrix])
    matrix[::2, 24:] = np.random.default_rng(0).lognormal(size=(200, 24))
    problem = Problem.build(weights, matrix.T @ weights, matrix)

    labels = target_groups(problem)
    assert_array_equal(labels[:24], labels[24:])
    assert len(np.unique(target_groups(matrix))) > 24


def test_groups_are_chains_of_correlated_columns() -> None:
    """First and last are hardly alike, but each is like its neighbour."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=5_000)]
    for _ in range(5):
        columns.append(columns[-1] + 0.4 * columns[-1].std() * rng.normal(size=5_000))
    matrix = np.column_stack([*columns, rng.normal(size=5_000)])
    correlation = np.corrcoef(matrix.T)

    assert correlation[0, 5] < 0.9 < np.diagonal(correlation, 1)[:5].min()
    assert_array_equal(target_groups(matrix), [0] * 6 + [1])


def test_constant_columns_tell_the_same() -> None:
    matrix = np.column_stack([np.full(400, 1.0), DATA.matrix, np.full(400, 7.0)])
    labels = target_groups(matrix)

    assert labels[0] == labels[-1]
    assert (labels[1:-1] != labels[0]).all()


def test_names_and_families_group() -> None:
    assert len(np.unique(target_groups(DATA.matrix, NAMES, groups="names"))) == 4
    assert len(np.unique(target_groups(DATA.matrix, NAMES, groups="family"))) == 8
    given = ["one", *["two"] * 22, None]
    labels = target_groups(DATA.matrix, NAMES, groups="family", families=given)
    assert_array_equal(labels, [0, *[1] * 22, 2])
    # A name without a family stands alone.
    assert_array_equal(target_groups(np.eye(3), ["a", "b", "c"], groups="family"), [0, 1, 2])


def test_the_seed_settles_the_folds() -> None:
    folds = [target_folds(DATA.matrix, None, 4, seed=seed) for seed in (0, 0, 1)]

    assert all(np.array_equal(a, b) for a, b in zip(folds[0], folds[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(folds[0], folds[2], strict=True))


@pytest.mark.parametrize("n_folds", [0, 1, 2.0, True, "5"])
def test_a_bad_number_of_folds_is_refused(n_folds: Any) -> None:
    with pytest.raises(InvalidOption, match="from 2"):
        target_folds(DATA.matrix, None, n_folds)


def test_fewer_groups_than_folds_says_how_many_there_are() -> None:
    with pytest.raises(InvalidOption, match="at most 4 folds"):
        target_folds(DATA.matrix, NAMES, 5, groups="names")
    with pytest.raises(InvalidOption, match=r"1 groups.*groups=None"):
        target_folds(DATA.matrix[:, [0, 0, 0]], None, 2)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"groups": "clusters"}, InvalidOption, "correlation.*family.*names"),
        ({"groups": 3}, InvalidOption, "a label per target"),
        ({"groups": ["a"] * 3}, InvalidProblem, "3 labels for 24 targets"),
        ({"groups": np.zeros((24, 2))}, InvalidProblem, "one text or number"),
        ({"groups": "family", "families": ["a"]}, InvalidProblem, "1 labels for 24 targets"),
        ({"families": ["a"] * 24}, InvalidOption, 'groups="family"'),
        ({"threshold": 0.0}, InvalidOption, "threshold"),
        ({"threshold": 1.5}, InvalidOption, "threshold"),
        ({"seed": -1}, InvalidOption, "seed"),
        ({"names": ["a"]}, InvalidProblem, "1 names for 24 targets"),
    ],
)
def test_bad_input_is_refused(options: Any, error: Any, says: str) -> None:
    names = options.pop("names", None)
    with pytest.raises(error, match=says):
        target_folds(DATA.matrix, names, 3, **options)
