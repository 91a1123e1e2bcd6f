"""How far a job has come, drawn anew by itself until the job has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import parts, words
from microcalibrate.figures.plotting import amount, power_of_ten
from microcalibrate.jobs import RunState

if TYPE_CHECKING:
    from microcalibrate.jobs import Run

SECONDS = 1.0
"""How often a job that is on its way is looked at."""
ACTIVITIES = {
    "dense": "Solve with all records",
    "gates": "Training gates",
    "refit": "Refit of the records that were kept",
    "trials": "Trials",
    "folds": "Folds",
    "reforms": "Reforms",
    "rounds": "Rounds",
    "training": "Training",
    "checking text": "Checking the text",
    "finding types": "Finding the types of the columns",
    "importing": "Writing the table",
    "writing": "Writing",
}
SCREENS = {
    "calibrate": "results",
    "tune": "tune",
    "evaluate": "robustness",
    "targets": "target_analysis",
    "diagnose": "diagnostics",
    "train": "regularise",
    "regularise": "regularise",
}
"""Command to the screen that shows what it found."""


# A path that is longer than a line begins the next one.
_ERROR = re.compile(r"(?:\A|\n)Error:\s((?:(?!\nError:\s).)+)\Z", re.DOTALL)


def watch(
    run: Run,
    title: str,
    draw: Callable[[Run], None] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Show a job until it has ended, and then draw the whole screen anew.

    A job that has failed is shown with what it said last.

    Args:
        run: The job.
        title: What it does, in a few words.
        draw: Draws more of it each time.
        names: Path of a file to what the reader knows it by.
    """
    if run.state.is_over:
        ended(run, names)
        return

    @st.fragment(run_every=SECONDS)
    def live() -> None:
        if run.state.is_over:
            st.rerun()
        bar(run, title)
        if draw is not None:
            draw(run)

    live()


def bar(run: Run, title: str) -> None:
    """Show how far a job has come, in one line and a bar."""
    state = run.state
    if state is RunState.QUEUED:
        place = run.queue_position or 1
        parts.notice("Waiting.", f"Number {place} in the queue.", is_good=True)
        return
    lines = run.progress()
    last = lines[-1] if lines else None
    told = _told(last) if last else ["Starting"]
    if state is RunState.CANCELLING:
        told.append("cancelling")
    elif (left := run.seconds_left()) is not None:
        told.append(f"about {words.span(left)} left")
    elif run.started is not None:
        told.append(f"for {words.span((datetime.now(UTC) - run.started).total_seconds())}")
    parts.notice(f"{title}.", " · ".join(told), is_good=True)
    if last and last["total"]:
        st.progress(min(last["done"] / last["total"], 1.0))


def ended(run: Run, names: Mapping[str, str] | None = None) -> None:
    """Show how a job ended.

    Args:
        run: The job.
        names: Path of a file to what the reader knows it by.
    """
    facts = run.facts
    if facts.state is RunState.DONE:
        parts.notice("Done.", facts.reason or "Everything was written.", is_good=not facts.reason)
    elif facts.state is RunState.FAILED:
        if error := error_of(run, names):
            parts.notice("Failed.", words.of_the_page(error))
            return
        parts.notice("Failed.", facts.reason)
        if lines := run.progress():
            parts.note(f"It came as far as: {' · '.join(_told(lines[-1]))}.")
        parts.plain_lines(run.log_tail(12) or "It printed nothing.")
    else:
        parts.notice("Cancelled.", "It was ended before it was done.")


def error_of(run: Run, names: Mapping[str, str] | None = None) -> str:
    """The error that ended a job, in the words of the command; empty where it told none.

    Args:
        run: The job.
        names: Path of a file to what the reader knows it by.
    """
    found = _ERROR.search(run.log_tail().strip())
    if found is None:
        return ""
    text = " ".join(found[1].split("\n"))
    for path, name in (names or {}).items():
        text = text.replace(path, name)
    # Where the page keeps its files is nothing to the reader.
    kept = re.escape(str(run.folder.parent.parent))
    return re.sub(rf"{kept}/(?:\S+/)?([^\s/:,;]+)", r"\1", text)


def figures_of(line: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Tiles of what a progress line knows besides its count."""
    written = {"loss": power_of_ten, "gap": power_of_ten}
    return [
        (written.get(name, amount)(value), name.replace("_", " "), "")
        for name, value in line["figures"].items()
    ]


def _told(line: Mapping[str, Any]) -> list[str]:
    """What a job is at, and how much of it is done."""
    activity = ACTIVITIES.get(line["activity"], line["activity"])
    return [activity, done_in_words(line)] if line["done"] or line["total"] else [activity]


def done_in_words(line: Mapping[str, Any]) -> str:
    """How much of an activity is done, and of how much."""
    done, total = (
        words.size(each) if line["unit"] == "bytes" else f"{each:,}"
        for each in (line["done"], line["total"] or 0)
    )
    unit = "" if line["unit"] == "bytes" else f" {line['unit']}"
    if line["total"]:
        return f"{done} of {total}{unit}"
    return f"{done}{unit.removesuffix('s') if done == '1' else unit}"
