"""`--progress-file`: progress as lines of JSON for other programs, and a way to cancel."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from microcalibrate.cli.interrupting import when_safe
from microcalibrate.errors import UnwritableFile
from microcalibrate.progress import WRITING, Update, listening

LINES_A_SECOND = 10
CANCEL_NAME = "cancel"
"""File beside the progress file whose appearance cancels the command."""


@contextmanager
def writing_progress(path: Path) -> Iterator[None]:
    """Append a line for each update, and cancel the work when asked to.

    The work is cancelled once, as by Ctrl-C, by a file `cancel` beside this one, which is looked
    for with every update, or by SIGTERM. Neither disturbs the writing of what was done.

    Args:
        path: File to append to; its folder must exist.

    Raises:
        UnwritableFile: If it cannot be written.
    """
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise UnwritableFile(
            f"{path} cannot be written: {error.strerror or error}. Choose another --progress-file."
        ) from error
    with file, ExitStack() as stack:
        lines = _Lines(file, path.with_name(CANCEL_NAME))
        stack.callback(lines.flush)
        stack.enter_context(_sigterm_as_interrupt(lines))
        stack.enter_context(listening(lines.take))
        yield


class _Lines:
    """Writes updates, so many a second at most; the last of an activity is never left out."""

    def __init__(self, file: IO[str], cancel: Path) -> None:
        self._file, self._cancel = file, cancel
        self._begun = time.monotonic()
        self._written: deque[float] = deque(maxlen=LINES_A_SECOND)
        self._waiting: tuple[float, Update] | None = None
        self._is_over = False

    def take(self, update: Update) -> None:
        now = time.monotonic()
        if self._waiting and self._waiting[1].activity != update.activity:
            self.flush()
        self._waiting = now, update
        if len(self._written) < LINES_A_SECOND or now - self._written[0] >= 1:
            self._written.append(now)
            self.flush()
        if update.activity == WRITING:
            self._is_over = True
        if not self._is_over and self._cancel.exists():
            self.cancel()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting is None:
            return
        (at, update), self._waiting = self._waiting, None
        # JSON has no infinity: a figure that is not finite is left out.
        figures = {name: value for name, value in update.figures.items() if math.isfinite(value)}
        line = {"seconds": round(at - self._begun, 3), **vars(update), "figures": figures}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def cancel(self) -> None:
        """End the work as Ctrl-C does, the first time only: what follows is its tidy end."""
        if not self._is_over:
            self._is_over = True
            raise KeyboardInterrupt


@contextmanager
def _sigterm_as_interrupt(lines: _Lines) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python hands signals to the main thread only.
        yield
        return

    former = signal.signal(signal.SIGTERM, when_safe(lines.cancel))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
