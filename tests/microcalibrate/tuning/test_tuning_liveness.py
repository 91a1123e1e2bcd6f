"""Trials of living workers are left alone; those of dead ones are given up."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import Any

import optuna
import pytest

from microcalibrate.hyperparameter_tuning import liveness
from microcalibrate.hyperparameter_tuning.liveness import Watch, Worker


@pytest.fixture
def study() -> Any:
    return optuna.create_study(direction="minimize")


def test_trials_of_the_living_are_left_alone(study: Any) -> None:
    with Worker(beats=False) as worker:
        worker.claim(study)
        Watch().fail_abandoned(study)
        assert study.trials[0].state.name == "RUNNING"
    Watch().fail_abandoned(study)
    assert study.trials[0].state.name == "FAIL"


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"place": "another machine"}, "RUNNING"),
        ({"place": "another machine", "seen": time.time() - 301}, "FAIL"),
        ({"place": "another machine", "pid": 1}, "RUNNING"),
        ({"started": "another time"}, "FAIL"),
        ({"pid": 2**22 + 1}, "FAIL"),
        ({"token": "another"}, "FAIL"),
        ({"started": None}, "RUNNING"),
        ({"started": None, "seen": time.time() - 301}, "FAIL"),
    ],
)
def test_who_counts_as_dead(study: Any, changed: dict[str, Any], state: str) -> None:
    with Worker(beats=False) as worker:
        trial = worker.claim(study)
        trial.set_user_attr("worker", {**study.trials[0].user_attrs["worker"], **changed})
        Watch().fail_abandoned(study)

    assert study.trials[0].state.name == state


def test_an_unsigned_trial_is_waited_for(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study.ask()
    watch, now = Watch(), [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch.fail_abandoned(study)
    assert study.trials[0].state.name == "RUNNING"
    now[0] += liveness.UNSIGNED_AFTER + 1
    watch.fail_abandoned(study)
    assert study.trials[0].state.name == "FAIL"


def test_ctrl_c_waits_until_a_trial_that_was_begun_is_signed(study: Any) -> None:
    ask = study.ask

    def interrupted() -> Any:
        trial = ask()
        signal.raise_signal(signal.SIGINT)
        return trial

    study.ask = interrupted
    # A shell starts what it puts in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Worker(beats=False) as worker:
            worker.claim(study)
    finally:
        signal.signal(signal.SIGINT, before)

    assert "worker" in study.trials[0].user_attrs
    Watch().fail_abandoned(study)
    assert study.trials[0].state.name == "FAIL"


def test_a_worker_says_that_it_is_alive(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "SECONDS_A_BEAT", 0.01)
    with Worker(beats=True) as worker:
        trial = worker.claim(study)
        first = seen = study.trials[0].user_attrs["worker"]["seen"]
        until = time.monotonic() + 10
        while seen == first and time.monotonic() < until:
            time.sleep(0.01)
            seen = study.trials[0].user_attrs["worker"]["seen"]
        assert seen > first
        with worker.finishing():
            study.tell(trial, 1.0)
        time.sleep(0.05)


def test_systems_without_proc_are_asked_by_ps() -> None:
    if not shutil.which("ps"):
        pytest.skip("there is no ps")
    own = liveness._asked(os.getpid())

    assert own
    assert own == liveness._asked(os.getpid())
    assert liveness._asked(2**22 + 1) is None
