"""Checks of targets beside each other: duplicates, sums of parts, multiples."""

from __future__ import annotations

import pytest

from microcalibrate.target_checks import check_targets
from microcalibrate.target_checks import relations as relations_module

from .people import GOOD, INCOME, PEOPLE, TOTAL, WOMEN, kinds


def test_the_same_target_twice_is_found_however_it_is_written() -> None:
    rows = [
        {"name": "women", "value": WOMEN, "filter": "sex == 'f'"},
        {"name": "again", "value": WOMEN, "filter": "sex != 'm'"},
        {"name": "otherwise", "value": 1.2 * WOMEN, "filter": "sex in ['f']"},
        {"name": "granted", "value": 1.01 * WOMEN, "filter": "not sex == 'm'", "tolerance": 0.02},
        {"name": "mean", "value": 40, "variable": "age", "agg": "mean"},
        {"name": "mean2", "value": 41, "variable": "age", "agg": "mean"},
    ]

    assert kinds(rows) == {
        "again": {("warning", "duplicate")},
        "otherwise": {("error", "contradictory duplicate")},
        "granted": {("warning", "duplicate")},
        "mean2": {("error", "contradictory duplicate")},
    }


@pytest.mark.parametrize(
    ("off", "tolerance", "expected"),
    [
        (1.0, None, ("note", "collinear")),
        (1.001, None, ("note", "differs from the sum of its parts")),
        (1.1, None, ("warning", "differs from the sum of its parts")),
        (1.1, 0.0, ("error", "differs from the sum of its parts")),
        (1.1, 0.2, ("note", "differs from the sum of its parts")),
    ],
)
def test_a_total_is_compared_with_the_sum_of_its_parts(
    off: float, tolerance: float | None, expected: tuple[str, str]
) -> None:
    rows = [
        {"name": f"people/{region}", "value": PEOPLE["w"][PEOPLE["region"] == region].sum(),
         "filter": f"region == '{region}'", "tolerance": tolerance}
        for region in "abc"
    ]  # fmt: skip
    rows.append({"name": "people", "value": off * TOTAL, "agg": "count", "tolerance": tolerance})

    found = check_targets(PEOPLE, rows, weight="w")

    assert kinds(rows) == {"people": {expected}}
    message = found.findings["message"][0]
    assert "= 'people'" in message
    assert all(f"'people/{region}'" in message for region in "abc")


def test_a_multiple_of_another_target_is_named() -> None:
    data = PEOPLE.assign(hands=2.0)
    rows = [{"name": "persons", "value": TOTAL, "agg": "count"}, {"name": "hands", "value": TOTAL}]

    found = check_targets(data, rows, weight="w").findings

    assert found["kind"].tolist() == ["contradicts others"]
    assert "2 × 'persons'" in found["message"][0]


def test_where_sums_are_not_looked_for_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations_module, "MOST_TARGETS", 1)
    rows = [GOOD, {"name": "income", "value": INCOME}]

    checks = check_targets(PEOPLE, rows, weight="w")

    assert "there are 2 targets, and 1 is the most" in checks.notes[0]
    assert checks.notes[0] in checks.summary()
