"""Ctrl-C waits until a library is whole, and not for ever."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from microcalibrate.cli import interrupting
from microcalibrate.cli.interrupting import interrupt, when_safe

LOADED = """
def load(interrupted, seconds):
    signal.raise_signal(signal.SIGINT)
    until = time.monotonic() + seconds
    while time.monotonic() < until and not interrupted:
        time.sleep(0.001)
    return len(interrupted)
"""


@pytest.fixture
def interrupted() -> Iterator[list[bool]]:
    """What has come of the signals: an entry for each that was obeyed."""
    obeyed: list[bool] = []
    former = signal.signal(signal.SIGINT, when_safe(lambda: obeyed.append(True)))
    yield obeyed
    signal.signal(signal.SIGINT, former)


def loading(module: str) -> Callable[[list[bool], float], int]:
    """A function of a module in which a signal comes; it tells how many were obeyed meanwhile."""
    names = {"__name__": module, "signal": signal, "time": time}
    # Functions know their module by the names around them.
    exec(LOADED, names)
    return names["load"]  # type: ignore[return-value]


@pytest.mark.parametrize("module", ["numba.core.dispatcher", "llvmlite", "importlib._bootstrap"])
def test_a_signal_while_a_library_loads_is_obeyed_after_it(interrupted, module):
    assert loading(module)(interrupted, 3 * interrupting.LATER) == 0

    until = time.monotonic() + 30
    while not interrupted and time.monotonic() < until:
        time.sleep(0.01)
    assert interrupted == [True]


def test_elsewhere_it_is_obeyed_at_once(interrupted):
    # A name that only begins alike is no library that compiles.
    assert loading("numbanana.work")(interrupted, 30) == 1


def test_it_is_not_put_off_for_ever(interrupted, monkeypatch):
    monkeypatch.setattr(interrupting, "MOST_TIMES", 2)

    assert loading("numba")(interrupted, 30) == 1


def test_ctrl_c_is_a_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt):
        interrupt()
