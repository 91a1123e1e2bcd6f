"""Time left follows from what was told: exact for an even pace, and none where nobody can know."""

from __future__ import annotations

from typing import Any

import pytest

from microcalibrate.jobs.facts import RunState, outcome
from microcalibrate.jobs.time_left import seconds_left


def line(
    activity: str, done: int, seconds: float, total: int | None = None, **figures: float
) -> dict[str, Any]:
    place = {"activity": activity, "done": done, "seconds": seconds, "total": total}
    return {**place, "figures": figures}


def test_counted_work_goes_on_at_its_pace() -> None:
    told = [line("trials", done, 10 + 3.0 * done, 50) for done in range(11)]
    assert seconds_left(told, 40.0) == pytest.approx(40 * 3.0)
    assert seconds_left(told, 42.0) == pytest.approx(40 * 3.0 - 2)


def test_work_that_was_done_before_the_start_does_not_make_the_pace_faster() -> None:
    told = [line("trials", 30, 1.0, 50), line("trials", 32, 11.0, 50)]
    assert seconds_left(told, 11.0) == pytest.approx(18 * 5.0)


def test_any_count_with_a_total_will_do() -> None:
    told = [line("importing", 1000 * n, 1.0 * n, 10_000) for n in range(5)]
    assert seconds_left(told, 4.0) == pytest.approx(6.0)


def test_the_outermost_count_decides() -> None:
    told = [line("rounds", 0, 0.0, 10), line("rounds", 1, 20.0, 10)]
    told += [line("reforms", done, 20.0 + done, 5) for done in range(4)]
    assert seconds_left(told, 23.0) == pytest.approx(9 * 20.0 - 3)


def test_a_count_that_begins_anew_forgets_its_earlier_pace() -> None:
    told = [line("reforms", done, 100.0 * done, 5) for done in range(6)]
    told += [line("reforms", done, 500.0 + done, 5) for done in range(3)]
    assert seconds_left(told, 502.0) == pytest.approx(3.0)


def test_a_gap_that_falls_evenly_gives_the_time_of_the_last_step() -> None:
    told = [line("dense", step, 2.0 * step, gap=10.0**-step) for step in range(5)]
    assert seconds_left(told, 8.0) == pytest.approx(4 * 2.0)


def test_a_refit_is_judged_by_its_own_steps() -> None:
    told = [line("dense", step, 2.0 * step, gap=10.0 ** (-2 * step)) for step in range(5)]
    told += [line("refit", step, 8.0 + step, gap=10.0**-step) for step in range(3)]
    assert seconds_left(told, 10.0) == pytest.approx(6.0)


@pytest.mark.parametrize(
    "told",
    [
        [],
        [line("trials", 0, 1.0, 50)],
        [line("dense", 0, 1.0, gap=1.0), line("dense", 1, 2.0, gap=0.5)],
        [line("dense", step, 1.0 * step, gap=1.0) for step in range(6)],
        [line("gates", step, 1.0 * step) for step in range(6)],
        [line("writing", 0, 1.0)],
    ],
)
def test_nobody_can_tell_before_there_is_a_pace(told: list[dict[str, Any]]) -> None:
    assert seconds_left(told, 10.0) is None


@pytest.mark.parametrize(
    ("exit_code", "is_cancelled", "state"),
    [
        (0, False, RunState.DONE),
        (0, True, RunState.DONE),
        (3, False, RunState.DONE),
        (4, False, RunState.DONE),
        (5, True, RunState.DONE),
        (1, False, RunState.FAILED),
        (2, False, RunState.FAILED),
        (-9, False, RunState.FAILED),
        (-9, True, RunState.CANCELLED),
        (1, True, RunState.CANCELLED),
        (130, False, RunState.CANCELLED),
        (130, True, RunState.CANCELLED),
    ],
)
def test_how_a_command_ended_and_what_was_asked_give_the_state(
    exit_code: int, is_cancelled: bool, state: RunState
) -> None:
    found, reason = outcome(exit_code, is_cancelled)
    assert found is state
    assert bool(reason) == (exit_code != 0)
