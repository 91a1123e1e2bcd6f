"""The process behind one run: waits for its turn, starts the command, and writes down its end.

Started as `python -m microcalibrate.jobs.supervisor RUN_FOLDER`, apart from whoever asks for the
run, so that the run goes on when that one is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from microcalibrate.jobs.facts import Facts, RunState, outcome
from microcalibrate.jobs.locks import FileLock
from microcalibrate.jobs.mending import LOCK_NAME, SLOTS_VARIABLE, mend
from microcalibrate.jobs.processes import ProcessMark, apart, end_group, kill_tree
from microcalibrate.jobs.run import LOG_NAME, PROGRESS_NAME, Run
from microcalibrate.jobs.waiting import QUEUE, wait_for_slot

SECONDS_TO_TERM = 3.0
# The run is to be over ten seconds after it was cancelled, its last words included.
SECONDS_TO_KILL = 9.0
SECONDS_BETWEEN_LOOKS = 0.1


def main() -> None:
    """Supervise the run whose folder is the first argument."""
    folder = Path(sys.argv[1]).resolve()
    signal.signal(signal.SIGTERM, _leave)
    with FileLock(folder / LOCK_NAME) as lock:
        if not lock.take() or Facts.read(folder).state is not RunState.QUEUED:
            return  # Another supervisor has it, or had it.
        run = Run.read(folder)
        n_slots = int(os.environ.get(SLOTS_VARIABLE, "1"))
        supervise(run, n_slots)
    mend(run.workspace_folder, n_slots)


def supervise(run: Run, n_slots: int) -> None:
    """See a queued run to its end."""
    facts = Facts(supervisor=ProcessMark.of(os.getpid()))
    facts.write(run.folder)
    ticket = run.workspace_folder / QUEUE / run.ticket
    ticket.touch()
    try:
        slot = wait_for_slot(run.workspace_folder, run.ticket, n_slots, lambda: run.is_cancelled)
        if slot is None:
            end = replace(facts, state=RunState.CANCELLED, reason="Cancelled before it began.")
            replace(end, ended=time.time()).write(run.folder)
            return
        with slot:
            # Whoever had the slot before may have been killed, and have left a worker behind.
            mend(run.workspace_folder, n_slots)
            _work(run, facts, ticket)
    finally:
        ticket.unlink(missing_ok=True)


def _work(run: Run, facts: Facts, ticket: Path) -> None:
    """Run the command and write down how it ended."""
    try:
        worker = _started(run)
    except OSError as error:
        reason = f"The command could not be started: {error.strerror or error}."
        replace(facts, state=RunState.FAILED, ended=time.time(), reason=reason).write(run.folder)
        return
    try:
        # One that has ended already has no mark any more, and needs none.
        with suppress(psutil.NoSuchProcess):
            facts = replace(facts, worker=ProcessMark.of(worker.pid))
        facts = replace(facts, state=RunState.RUNNING, started=time.time())
        facts.write(run.folder)
        ticket.unlink(missing_ok=True)
        exit_code = _watched(run, worker, facts.worker)
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        end_group(worker.pid)
    state, reason = outcome(exit_code, run.is_cancelled)
    replace(facts, state=state, ended=time.time(), exit_code=exit_code, reason=reason).write(
        run.folder
    )


def _started(run: Run) -> subprocess.Popen[bytes]:
    words = ["-m", "microcalibrate", "--progress-file", str(run.folder / PROGRESS_NAME), *run.words]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    with (run.folder / LOG_NAME).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run.folder,
            env=environment,
            **apart(),
        )


def _watched(run: Run, worker: subprocess.Popen[bytes], mark: ProcessMark | None) -> int:
    """Wait for the end of the worker, and bring it about if that is asked for."""
    asked: float | None = None
    was_told = sys.platform == "win32"  # There, SIGTERM ends a process without a last word.
    while True:
        with suppress(subprocess.TimeoutExpired):
            return worker.wait(SECONDS_BETWEEN_LOOKS)
        now = time.monotonic()
        if asked is None:
            asked = now if run.is_cancelled else None
        elif now - asked >= SECONDS_TO_KILL:
            if mark is not None:
                kill_tree(mark)
            worker.kill()
        elif now - asked >= SECONDS_TO_TERM and not was_told:
            worker.terminate()
            was_told = True


def _leave(*_: Any) -> None:
    raise SystemExit("asked to end")


if __name__ == "__main__":
    main()
