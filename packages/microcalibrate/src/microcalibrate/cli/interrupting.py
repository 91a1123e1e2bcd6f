"""Signals that end a command, where they can be obeyed without leaving a library half loaded."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

LATER = 0.05
"""Seconds after which a signal that could not be obeyed comes again."""
MOST_TIMES = 100
"""How often a signal is put off at the most."""

# Note [Interrupts while loading]: an exception in the middle of an import leaves extension modules
# that cannot be loaded again, and one in a callback of the compiler is swallowed with a traceback.
_LOADING = {"importlib", "_frozen_importlib", "_frozen_importlib_external", "llvmlite", "numba"}


def when_safe(act: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    """A handler that acts at once, or as soon as no library is being loaded or compiled.

    See Note [Interrupts while loading].

    Args:
        act: What the signal asks for.
    """
    times = 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal times
        if times >= MOST_TIMES or not _is_loading(frame):
            times = 0
            act()
            return
        times += 1
        again = threading.Timer(LATER, signal.raise_signal, [number])
        again.daemon = True
        again.start()

    return handler


def interrupt() -> None:
    """What Ctrl-C asks for."""
    raise KeyboardInterrupt


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _LOADING:
            return True
        frame = frame.f_back
    return False
