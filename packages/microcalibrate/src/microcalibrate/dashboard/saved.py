"""Saved runs of any kind, shown by the sections of their reports, a tab for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import parts
from microcalibrate.dashboard.words import of_the_page
from microcalibrate.reports.page import Figure, Part, Section, Sentences, Table, Tiles, Verdict

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome

KEPT = 8
LONG = 12
"""Rows of a table from which on it is folded above a figure."""


@dataclass(frozen=True, eq=False)
class Saved:
    """A saved run, read, with the parts of its report.

    Attributes:
        result: What was saved.
        headline: What was done, in one line.
        lead: What people should see first.
        sections: The rest.
    """

    result: Any
    headline: str
    lead: list[Part]
    sections: list[Section]


def saved(outcome: Outcome) -> Saved:
    """A saved run, read once as long as its files stay.

    Raises:
        UnreadableFile: If a file is missing or damaged.
    """
    from microcalibrate.reports.saved import kind_of

    kind = kind_of(outcome.path)
    written = (outcome.path / kind.file).stat().st_mtime_ns
    return _read(str(outcome.path), kind.name, written)


@st.cache_resource(max_entries=KEPT, show_spinner="Reading the result …")
def _read(folder: str, kind: str, _written: int) -> Saved:
    from microcalibrate.reports import diagnosis, quality, regularise, robustness, targets, tuning
    from microcalibrate.reports.saved import KINDS

    reports: dict[str, Any] = {
        "evaluation of robustness": robustness,
        "tuning": tuning,
        "target analysis": targets,
        "diagnosis": diagnosis,
        "trained model": quality,
        "quality report": quality,
        "regularisation": regularise,
    }
    result = next(each for each in KINDS if each.name == kind).load(Path(folder))
    told = result.quality if kind == "trained model" else result
    report = reports[kind]
    lead = [_in_words(part) for part in report.lead(told)]
    return Saved(result, report.headline(told), lead, report.sections(told))


def said(label: str) -> str:
    """A label with the name of an option in it, as people would say it.

    Examples:
        >>> said("l0_lambda chosen")
        'L0 lambda chosen'
    """
    return label.replace("_", " ").capitalize() if "_" in label else label


def _in_words(part: Part) -> Part:
    """A part that names options as the forms of the page do."""
    if isinstance(part, Verdict):
        return replace(part, words=of_the_page(part.words), meaning=of_the_page(part.meaning))
    if isinstance(part, Tiles):
        tiles = [(number, said(label), beside) for number, label, beside in part.tiles]
        return replace(part, tiles=tiles)
    if isinstance(part, Sentences):
        return replace(part, sentences=[of_the_page(each) for each in part.sentences])
    return part


def show(found: Saved, further: Mapping[str, Callable[[], None]] | None = None) -> None:
    """Show what leads, and a tab for each section.

    Args:
        found: The run.
        further: Tabs that stand first: title to what draws it.
    """
    parts.note(found.headline)
    parts.show(*found.lead)

    def drawn(section: Section) -> Callable[[], None]:
        return lambda: show_section(section)

    own = {section.tab or section.title: drawn(section) for section in found.sections}
    parts.tabs({**(further or {}), **own})


def show_section(section: Section) -> None:
    """Show the parts of a section below its title; figures in the colours of the page.

    A long table is folded where a figure stands below it, which nobody would find otherwise.
    """
    st.subheader(section.title, anchor=False)
    places = [place for place, part in enumerate(section.parts) if isinstance(part, Figure)]
    last = max(places, default=-1)
    shown: list[Part] = []
    for place, part in enumerate(section.parts):
        is_folded = isinstance(part, Table) and len(part.rows) > LONG and place < last
        if not is_folded and not isinstance(part, Figure):
            shown.append(part)
            continue
        if shown:
            parts.show(*shown)
            shown = []
        if isinstance(part, Figure):
            parts.chart(part.name, part.drawn)
        elif isinstance(part, Table):
            # The heads are words of the reports' own.
            with st.expander(f"{part.heads[0] or 'Table'}: {len(part.rows):,} rows"):
                parts.show(part)
    if shown:
        parts.show(*shown)


def result_and_form(
    context: Context,
    kinds: tuple[str, ...],
    draw: Callable[[Outcome], None],
    form: Callable[[], None],
    title: str,
    text: str,
) -> None:
    """A screen of two halves: results of a kind, and the form that makes a new one.

    Args:
        context: Of the page.
        kinds: Of the results.
        draw: Shows one of them.
        form: Shows the form.
        title: Of the form.
        text: What a run of it would tell, where there is none yet.
    """
    if not context.outcomes(*kinds):
        parts.empty("No results yet", text)
        form()
        return

    def results() -> None:
        outcome = context.outcome(*kinds)
        if outcome is not None:
            draw(outcome)

    parts.tabs({"Results": results, title: form}, key="view")
