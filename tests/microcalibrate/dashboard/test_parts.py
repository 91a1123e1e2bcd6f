"""Parts of screens: colours of a dark page, words for errors, names that nobody can misread."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

from l0.reports.palette import AFTER, BEFORE, DARK, GRID, INK, PAPER
from microcalibrate.dashboard import links, parts, words
from microcalibrate.dashboard.browsing import found
from microcalibrate.dashboard.theme import style
from microcalibrate.figures.live import course
from microcalibrate.figures.log_errors import error_histogram


def colours_of(part):
    if isinstance(part, dict):
        return set().union(*map(colours_of, part.values())) if part else set()
    if isinstance(part, (list, tuple)):
        return set().union(*map(colours_of, part)) if part else set()
    return {part} if isinstance(part, str) and part.startswith("#") else set()


def histogram():
    import pandas as pd

    bins = ["0–5%", "5–10%", "10–20%", "20–30%", "30–50%", "50–100%", "100% or more", "n/a"]
    return error_histogram(pd.DataFrame({"bin": bins, "count": range(8)}))


def test_no_colour_of_the_light_page_is_left_on_a_dark_one():
    """Colours of single bars stand in lists, and they change too."""
    figure = parts.themed(histogram(), True)

    shown = colours_of(figure.to_plotly_json())
    assert not shown & (set(DARK) - {BEFORE})
    assert DARK[AFTER] in shown
    assert DARK[PAPER] in shown


def test_a_figure_stays_as_it_is_on_a_light_page():
    figure = histogram()

    assert parts.themed(figure, False) is figure


def test_the_page_has_both_themes_in_its_style():
    text = style()

    for colour in (INK, PAPER, GRID, AFTER):
        assert f"light-dark({colour},{DARK[colour]})" in text


def test_names_that_look_alike_are_told_apart():
    shown = links.distinct({"1": "run", "2": "run", "3": "\u202erun"})

    assert len(set(shown.values())) == 3
    assert not any("\u202e" in name for name in shown.values())


@pytest.mark.parametrize("sign", list("\\`*_{}[]()<>#+-.!|~$:"))
def test_each_sign_of_markdown_is_taken_from_labels(sign):
    assert words.label(f"a{sign}b") == f"a\\{sign}b"


def test_a_search_takes_its_words_literally():
    import pandas as pd

    table = pd.DataFrame({"name": ["a.b", "axb", "[a"], "family": ["x", "y", "z"]})

    assert found(table, "a.b", ("name",)).name.tolist() == ["a.b"]
    assert found(table, "[A z", ("name", "family")).name.tolist() == ["[a"]
    assert len(found(table, "  ", ("name",))) == 3


def test_the_course_of_a_run_has_a_line_for_each_phase_and_leaves_out_what_is_not_known():
    lines = [
        {"activity": "dense", "figures": {"loss": 0.5, "gap": 1e-2}},
        {"activity": "dense", "figures": {"loss": 0.4, "gap": 0.0}},
        {"activity": "refit", "figures": {"loss": 0.3}},
        {"activity": "writing", "figures": {}},
    ]

    figure = course(lines)

    drawn = [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data]
    assert drawn == [
        ("all records", [1, 2], [0.5, 0.4]),
        ("kept records", [3], [0.3]),
        ("all records", [1], [1e-2]),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"done": 3, "total": 50, "unit": "trials"}, "3 of 50 trials"),
        ({"done": 1200, "total": None, "unit": "records"}, "1,200 records"),
        ({"done": 5e6, "total": 2e9, "unit": "bytes"}, "5.0 MB of 2.0 GB"),
    ],
)
def test_how_far_a_run_has_come_is_said_in_its_units(line, said):
    from microcalibrate.dashboard.progress import done_in_words

    assert done_in_words(line) == said


def test_an_explanation_leaves_the_figure_and_its_place_too():
    """What is drawn is as large as before, and names in the text are neither tags nor entities."""
    figure = histogram()
    figure.layout.title.subtitle.text = "Of &lt;i&gt; &amp; co.<br>In two lines."
    before = figure.layout.height - figure.layout.margin.t

    drawn, explanation = parts.explained(figure)

    assert explanation == "Of <i> & co. In two lines."
    assert drawn.layout.height - drawn.layout.margin.t == before
    assert drawn.layout.height == figure.layout.height - 2 * parts.LINE_HEIGHT
    assert drawn.layout.title.subtitle.text is None
    assert figure.layout.title.subtitle.text.startswith("Of")
    assert parts.explained(drawn) == (drawn, "")
