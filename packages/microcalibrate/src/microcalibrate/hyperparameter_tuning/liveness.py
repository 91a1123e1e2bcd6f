"""Which trials of a study are still being worked on, and which were left by workers that died."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

# A worker on another machine says this often that it is alive, and is given up after as long.
SECONDS_A_BEAT = 30.0
DEAD_AFTER = 300.0
# A trial that no worker has put its name on after as many seconds never will be.
UNSIGNED_AFTER = 10.0
# Tokens of the work that is going on in this process.
_AT_WORK: set[str] = set()


class Worker:
    """Signs the trials that it works on, so that others see whether they are still worked on.

    Attributes:
        trial: The Optuna trial that is being worked on, or None.
    """

    def __init__(self, *, beats: bool) -> None:
        self._signature = {
            "place": _place(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "token": secrets.token_hex(8),
        }
        self._beats = beats
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.trial: Any = None

    def __enter__(self) -> Worker:
        """Begin: from here on its trials count as alive."""
        _AT_WORK.add(str(self._signature["token"]))
        if self._beats:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End: what is not finished now never will be."""
        _AT_WORK.discard(str(self._signature["token"]))
        self._ended.set()
        if self._beats:
            self._thread.join()

    def claim(self, study: Study) -> Any:
        """Begin a trial and put its name on it, both or neither."""
        with _undisturbed(), self._lock:
            self.trial = study.ask()
            self._write()
            return self.trial

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """No sign of life while a trial is being finished: it can then no more be written to."""
        with self._lock:
            self.trial = None
            yield

    def _write(self) -> None:
        self.trial.set_user_attr("worker", {**self._signature, "seen": time.time()})

    def _beat(self) -> None:
        while not self._ended.wait(SECONDS_A_BEAT):
            with self._lock:
                if self.trial is not None:
                    try:
                        self._write()
                    except Exception:
                        # What is wrong with the storage shows when the trial is finished, in the
                        # thread that can tell the user.
                        return


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C, and being asked to end, wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        # Python hands signals to the main thread only.
        yield
        return
    came: list[int] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A handler that was not set from Python cannot be put back.
    held = [number for number, handler in former.items() if handler is not None]
    for number in held:
        signal.signal(number, lambda caught, _frame: came.append(caught))
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, former[number])
        for caught in came[:1]:
            signal.raise_signal(caught)


class Watch:
    """Finds trials that nobody works on any more, and marks them as failed."""

    def __init__(self) -> None:
        self._unsigned_since: dict[int, float] = {}

    def fail_abandoned(self, study: Study) -> None:
        """Mark as failed what dead workers left running; those of living ones are left alone."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self._is_abandoned(trial):
                continue
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (UpdateFinishedTrialError, ValueError):
                # Someone else has done it since, or it was alive and has finished.
                continue

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        signature = trial.user_attrs.get("worker")
        if not isinstance(signature, Mapping):
            first = self._unsigned_since.setdefault(trial.number, time.monotonic())
            return time.monotonic() - first > UNSIGNED_AFTER
        if signature["place"] != _place() or signature["started"] is None:
            return time.time() - float(signature["seen"]) > DEAD_AFTER
        if signature["pid"] == os.getpid() and signature["started"] == _started(os.getpid()):
            return signature["token"] not in _AT_WORK
        # A process of the same number that began at another time is another process.
        return bool(_started(int(signature["pid"])) != signature["started"])


def _place() -> str:
    """This machine; containers on one machine count as several, for each has its own processes."""
    try:
        room = os.readlink("/proc/self/ns/pid")
    except OSError:
        room = ""
    return f"{socket.gethostname()} {room}".strip()


def _started(pid: int) -> str | None:
    """When a process began, as its system counts; None if it has ended or that is not known."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() or os.name == "nt" else _asked(pid)
    # The name in brackets may hold blanks; state and start time are fields 3 and 22.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _asked(pid: int) -> str | None:
    """The same where there is no /proc, as on a Mac."""
    asked = ["ps", "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
