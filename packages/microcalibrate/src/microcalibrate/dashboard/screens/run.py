"""Run: what is going on, what waits, and how each run ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from microcalibrate.dashboard import links, parts, progress, words
from microcalibrate.dashboard.screen import Screen
from microcalibrate.figures.live import course

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.jobs import Run

LOG_LINES = 40
SHOWN_ELSEWHERE = ("profile", "check", "targets-template", "schema")
"""Commands of jobs that belong to another screen."""


def render(context: Context) -> None:
    """Draw the screen."""
    found = {run.id: run for run in context.workspace.runs() if run.command not in SHOWN_ELSEWHERE}
    if not found:
        parts.empty(
            "No runs yet",
            "Start a calibration on the Settings screen. It goes on when you close this page.",
        )
        context.link("settings", "Go to the settings")
        return
    names = {key: f"{run.name} · {words.moment(run.created)}" for key, run in found.items()}
    if links.is_stale("run", names):
        parts.notice("Not here.", "The run of this link was deleted. Shown is another one.")
    run = found[links.choose("Run", names, "run")]
    _one(context, run)
    st.divider()
    _all(list(found.values()))


def _one(context: Context, run: Run) -> None:
    if not run.state.is_over:
        progress.watch(run, run.name, _live)
        if st.button("Cancel the run", key="cancel_run", icon=":material/stop:"):
            run.cancel()
            st.rerun()
        return
    _ended(context, run)


def _live(run: Run) -> None:
    lines = run.progress()
    known = [line for line in lines if line["figures"]]
    if known:
        parts.tiles(progress.figures_of(known[-1]))
    steps = [line for line in lines if "loss" in line["figures"]]
    if len(steps) > 1:
        parts.chart("course", course(steps))
    _log(run)


def _ended(context: Context, run: Run) -> None:
    progress.ended(run)
    facts = run.facts
    url = progress.SCREENS.get(run.command, "")
    if run.result_folder.is_dir() and url in context.pages:
        context.link(url, "See what it found", run=run.id)
        context.link("downloads", "Download its files", run=run.id)
    took = facts.ended - facts.started if facts.started and facts.ended else None
    parts.listing(
        {
            "command": run.command,
            "state": facts.state.value,
            "started": words.moment(run.started),
            "ended": words.moment(run.ended),
            "took": None if took is None else words.span(took),
            "exit code": facts.exit_code,
        }
    )
    with st.expander("Command line", key="command_line"):
        st.code(run.command_line(), language="bash", wrap_lines=True)
    _log(run)
    with st.expander("Delete", key="delete_fold"):
        sure = st.checkbox("Yes, delete this run and its results", key=f"sure_{run.id}")
        if st.button("Delete the run", key=f"delete_{run.id}", disabled=not sure):
            run.delete()
            st.session_state.pop("last_run", None)
            context.go("run")


def _log(run: Run) -> None:
    tail = run.log_tail(LOG_LINES)
    with st.expander("What it printed", key=f"log_{run.id}"):
        if tail.strip():
            parts.plain_lines(tail)
        else:
            parts.note("Nothing yet.")


def _all(runs: list[Run]) -> None:
    st.subheader("All runs", anchor=False)
    parts.table(
        pd.DataFrame(
            {
                "run": [run.name for run in runs],
                "command": [run.command for run in runs],
                "state": [_state(run) for run in runs],
                "created": [words.moment(run.created) for run in runs],
            }
        ),
        key="all_runs",
        alt="All runs, newest first",
    )


def _state(run: Run) -> str:
    place = run.queue_position
    return run.state.value if place is None else f"queued, number {place}"


SCREEN = Screen(
    title="Run",
    icon=":material/play_circle:",
    url="run",
    lead="Runs go on when this page is closed, and are here when it is opened again.",
    render=render,
    group="Run",
)
