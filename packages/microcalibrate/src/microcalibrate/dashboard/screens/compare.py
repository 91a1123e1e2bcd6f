"""Compare: two runs of one kind, or logs of any, side by side; and old logs are taken in here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from microcalibrate.dashboard import comparison_tabs, links, log_files, parts
from microcalibrate.dashboard.outcomes import LOG_NAME, Outcome
from microcalibrate.dashboard.saved import saved
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.reports.comparison import Comparison

TOGETHER = (("calibration", "log"), ("diagnosis",), ("regularisation",))
"""Kinds that can be compared with each other."""
KEPT = 4


def render(context: Context) -> None:
    """Draw the screen."""
    _take_in(context)
    found = [each for kinds in TOGETHER for each in context.outcomes(*kinds)]
    firsts = {each.id: each for each in found if _partners(each, found)}
    if not firsts:
        parts.empty(
            "Nothing to compare yet",
            "Two calibrations, two diagnoses or two regularisations are compared here, or logs of "
            "any programme with them. Run another one, or take in a log.",
        )
        return
    first, second = _chosen(firsts, found)
    comparison = _compared(first, second)
    comparison_tabs.lead(comparison)
    tabs: dict[str, Callable[[], None]] = {
        "Side by side": lambda: comparison_tabs.statistics(comparison)
    }
    if len(comparison.targets):
        tabs["Targets"] = lambda: comparison_tabs.targets(comparison)
        tabs["Errors"] = lambda: comparison_tabs.errors(comparison)
    if comparison.logs is not None:
        tabs["One target"] = lambda: comparison_tabs.one_target(comparison)
        tabs["Course"] = lambda: comparison_tabs.course(comparison)
    if len(comparison.weights):
        tabs["Weights"] = lambda: comparison_tabs.weights(comparison)
    if first.kind == "diagnosis":
        tabs["Influence"] = lambda: comparison_tabs.influence(
            saved(first).result, saved(second).result
        )
    tabs["Settings"] = lambda: comparison_tabs.settings(comparison)
    parts.tabs(tabs)


def _take_in(context: Context) -> None:
    round_ = st.session_state.setdefault("log_round", 0)
    with st.expander("Take in a log of an earlier calibration", key="take_in_log"):
        file = st.file_uploader(
            "Log, as CSV: of microcalibrate, or of PolicyEngine's enhanced_cps, "
            "unified_calibration or unified_diagnostics",
            type=["csv"],
            key=f"log_{round_}",
            max_upload_size=log_files.LIMIT // 1_000_000,
        )
        parts.note("It stays on this machine. The Results screen shows it by itself.")
        mine = {each.id: each for each in log_files.files(context.workspace)}
        if mine:
            _remove(context, mine)
    if file is None:
        return
    # Another key makes a new, empty field.
    st.session_state["log_round"] = round_ + 1
    with parts.told(), st.spinner("Reading the log …"):
        log = log_files.add(context.workspace, file.name, file)
        others = {name: st.query_params[name] for name in ("a",) if name in st.query_params}
        context.go("compare", **others, b=log.id)


def _remove(context: Context, mine: dict[str, log_files.LogFile]) -> None:
    shown = links.distinct({key: each.name for key, each in mine.items()})
    gone = st.selectbox(
        "Remove a log", ["", *mine], format_func=lambda key: shown.get(key, "none"), key="gone_log"
    )
    if gone and st.button("Remove it", key="remove_log"):
        log_files.delete(mine[gone])
        context.go("compare")


def _partners(outcome: Outcome, found: list[Outcome]) -> list[Outcome]:
    kinds = next(kinds for kinds in TOGETHER if outcome.kind in kinds)
    return [each for each in found if each.kind in kinds and each.id != outcome.id]


def _chosen(firsts: dict[str, Outcome], found: list[Outcome]) -> tuple[Outcome, Outcome]:
    names = {key: f"{each.name} ({each.kind})" for key, each in firsts.items()}
    for parameter in ("a", "b"):
        if links.is_stale(parameter, {each.id: each.name for each in found}):
            parts.notice(
                "Not here.",
                "A run of this link is not finished, or was deleted. Shown is another one.",
            )
    # The newer of two runs is what is judged, so it comes second.
    asked = firsts.get(st.query_params.get("b", ""))
    partners = _partners(asked, found) if asked else []
    order = {each.id: each for each in (*partners, *list(firsts.values())[1:], *firsts.values())}
    if asked and "a" not in st.query_params:
        # A link that names the second only must not have it taken for the first.
        del order[asked.id]
    left, right = st.columns(2)
    with left:
        first = firsts[links.choose("First", {key: names[key] for key in order}, "a")]
    others = {each.id: each for each in _partners(first, found)}
    with right:
        second = others[links.choose("Second", {key: names[key] for key in others}, "b")]
    return first, second


def _compared(first: Outcome, second: Outcome) -> Comparison:
    shown = links.distinct({first.id: first.name, second.id: second.name})
    return _read(
        str(first.path),
        str(second.path),
        (shown[first.id], shown[second.id]),
        (_written(first), _written(second)),
    )


def _written(outcome: Outcome) -> int:
    file = outcome.path / LOG_NAME if outcome.path.is_dir() else outcome.path
    return (file if file.exists() else outcome.path).stat().st_mtime_ns


@st.cache_resource(max_entries=KEPT, show_spinner="Reading both …")
def _read(first: str, second: str, names: tuple[str, str], _when: tuple[int, int]) -> Comparison:
    from microcalibrate.reports.comparison import compare_runs

    return compare_runs(Path(first), Path(second), names)


SCREEN = Screen(
    title="Compare",
    icon=":material/compare_arrows:",
    url="compare",
    lead="Two runs or logs side by side: what got better, what got worse, and what differs.",
    render=render,
    group="Look",
)
