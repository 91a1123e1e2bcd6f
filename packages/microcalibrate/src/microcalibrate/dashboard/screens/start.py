"""Start: the way from a survey to its weights, and what is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import parts, words
from microcalibrate.dashboard.screen import Screen
from microcalibrate.dashboard.screens.run import SHOWN_ELSEWHERE
from microcalibrate.reports.page import Table

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context

STEPS = (
    ("data", "1 · Data", "Upload a survey, or take the embedded one."),
    ("targets", "2 · Targets", "Say which totals are known."),
    ("settings", "3 · Settings", "Choose how close and how many records, and start."),
    ("results", "4 · Results", "See what is met and what is not; download the weights."),
)
MOST_RUNS = 8
CARD_WIDTH, CARD_HEIGHT = 200, 165


def render(context: Context) -> None:
    """Draw the screen."""
    with st.container(horizontal=True):
        for url, title, meaning in STEPS:
            with st.container(border=True, width=CARD_WIDTH, height=CARD_HEIGHT):
                context.link(url, title)
                parts.note(meaning)
    datasets = context.workspace.datasets()
    runs = [run for run in context.workspace.runs() if run.command not in SHOWN_ELSEWHERE]
    if not datasets and not runs and not context.opened:
        parts.empty(
            "Nothing here yet",
            "Data sets and runs stay on this machine, and are here again when you come back.",
        )
        return
    if runs:
        st.subheader("Latest runs", anchor=False)
        rows = [[run.name, run.state.value, words.moment(run.created)] for run in runs[:MOST_RUNS]]
        parts.show(Table(["Run", "State", "Created"], rows, words=frozenset({1, 2})))
    if datasets:
        st.subheader("Data sets", anchor=False)
        found = [
            [each.name, words.size(each.size), words.moment(each.created)] for each in datasets
        ]
        parts.show(Table(["Data set", "Size", "Taken up"], found, words=frozenset({1, 2})))


SCREEN = Screen(
    title="Start",
    icon=":material/home:",
    url="start",
    lead="From a survey to weights that add up to what is known: with a certificate, on the "
    "records that matter. Everything stays on this machine.",
    render=render,
    group="",
)
