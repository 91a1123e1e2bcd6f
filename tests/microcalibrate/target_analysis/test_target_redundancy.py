"""Targets that others make up: found, written out, and told in words."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from microcalibrate.engine.redundancy import combinations_of, groups_of
from microcalibrate.target_analysis.analysis import analyse_targets


def test_combinations_are_found_with_their_coefficients() -> None:
    rng = np.random.default_rng(9)
    matrix = rng.normal(size=(200, 8))
    columns = np.column_stack(
        [matrix, 3 * matrix[:, 1], matrix[:, [2, 3, 4]] @ [1.0, -2.0, 0.5], np.zeros(200)]
    )

    found = combinations_of(columns.T @ columns, 0.9999)

    assert [(item.of, set(item.parts)) for item in found] == [(8, {1}), (9, {2, 3, 4})]
    for item in found:
        made = columns[:, list(item.parts)] @ item.coefficients
        assert_allclose(made, columns[:, item.of], atol=1e-9)
        assert_allclose(item.implied(columns[0]), columns[0, item.of], rtol=1e-9)
    assert groups_of(found) == [(2, 3, 4, 9), (1, 8)]


def test_a_total_with_three_breakdowns_has_three_identities_of_few_parts() -> None:
    """Elimination alone writes the later breakdowns through the first one."""
    rng = np.random.default_rng(14)
    income = rng.lognormal(0, 1, 800)
    breakdowns = [np.eye(n)[rng.integers(n, size=800)] for n in (4, 7, 5)]
    parts = [income[:, None] * breakdown for breakdown in breakdowns]
    columns = np.column_stack([*parts, income])

    found = combinations_of(columns.T @ columns, 0.9999)

    groups = {frozenset(group) for group in groups_of(found)}
    assert groups == {
        frozenset({16, *range(4)}),
        frozenset({16, *range(4, 11)}),
        frozenset({16, *range(11, 16)}),
    }
    for item in found:
        assert_allclose(np.abs(item.coefficients), 1, atol=1e-7)


def test_columns_of_few_records_make_no_identity_unless_it_is_a_sum() -> None:
    """Six columns over four records are collinear whatever they stand for."""
    rng = np.random.default_rng(15)
    columns = rng.random((300, 9))
    columns[4:, 3:] = 0
    columns[:, 8] = columns[:, 3] + columns[:, 4]
    support = (columns != 0).sum(axis=0)

    every = combinations_of(columns.T @ columns, 0.9999)
    believed = combinations_of(columns.T @ columns, 0.9999, support)

    assert len(every) == 2
    assert [{item.of, *item.parts} for item in believed] == [{3, 4, 8}]


def test_nearly_the_same_counts_from_the_share_that_is_asked() -> None:
    rng = np.random.default_rng(10)
    matrix = rng.normal(size=(5_000, 3))
    matrix[:, 2] = matrix[:, 0] + 0.05 * matrix[:, 2]  # 99.75% explained
    gram = matrix.T @ matrix

    assert combinations_of(gram, 0.999) == ()
    (found,) = combinations_of(gram, 0.99)
    assert (found.of, found.parts) == (2, (0,))
    assert_allclose(found.explained, 1 / 1.0025, rtol=1e-3)


def test_a_long_combination_is_believed_only_when_it_is_exact() -> None:
    """With enough columns nearly anything is nearly explained; a sum of districts is exact."""
    rng = np.random.default_rng(12)
    matrix = rng.normal(size=(5_000, 20))
    total = matrix.sum(axis=1)
    nearly = total + 0.02 * rng.normal(size=5_000)

    for column, expected in ((total, 1), (nearly, 0)):
        columns = np.column_stack([matrix, column])
        assert len(combinations_of(columns.T @ columns, 0.9999)) == expected


def test_what_is_explained_is_weighted_by_design() -> None:
    rng = np.random.default_rng(13)
    weights = rng.lognormal(0, 2, 200)
    first = rng.random(200)
    second = first + 0.2 * rng.random(200)
    matrix = np.column_stack([first, second])
    found = analyse_targets(weights, matrix.T @ weights, matrix, min_explained=0.5)

    squares = (weights * first**2).sum() * (weights * second**2).sum()
    expected = (weights * first * second).sum() ** 2 / squares
    assert_allclose(found.table.explained.max(), expected, rtol=1e-9)


def test_reasons_say_what_is_wrong_in_words() -> None:
    rng = np.random.default_rng(11)
    base = rng.random((100, 3)) + 0.5
    matrix = np.column_stack([base, base[:, 0], base[:, 1] + base[:, 2]])
    weights = np.full(100, 10.0)
    targets = base.T @ weights
    names = ["snap_ca", "men", "women", "snap_again", "all"]
    values = [*targets, targets[0], 1.3 * (targets[1] + targets[2])]
    found = analyse_targets(weights, values, matrix, target_names=names)
    reasons = dict(zip(found.table.name, found.table.reason, strict=True))

    assert reasons["snap_again"] == "same as 'snap_ca'"
    assert reasons["men"].startswith("contradicts 'all' (missed by 6.8")
    assert reasons["women"].startswith("contradicts 'all' (missed by 6.8")
    assert reasons["all"].startswith("contradicts 'women' and 'men', which imply ") or reasons[
        "all"
    ].startswith("contradicts 'men' and 'women', which imply ")
    assert {*found.groups} == {("men", "women", "all"), ("snap_ca", "snap_again")}
    assert "contradictory" in found.summary()
    assert "'all'" in found.summary()
