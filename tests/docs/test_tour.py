"""The tour of the page tells of the screens that there are, and of no others."""

import re
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard.screens import SCREENS

DOCS = Path(__file__).parents[2] / "docs"
TOUR = DOCS / "tutorials" / "the-page.md"
PICTURES = DOCS / "_static" / "page"
MOST_BYTES = 1_500_000
SECTION = re.compile(r"^## (.+)\n\n!\[(.+)\]\((.+)\)$", re.MULTILINE)


def test_the_tour_goes_through_every_screen_in_the_order_of_the_page():
    sections = SECTION.findall(TOUR.read_text("utf-8"))

    assert [title for title, _, _ in sections] == [screen.title for screen in SCREENS]
    for screen, (_, said, path) in zip(SCREENS, sections, strict=True):
        assert said.startswith(f"The {screen.title} screen")
        assert TOUR.parent.joinpath(path).resolve() == PICTURES / f"{screen.url}.webp"


def test_there_is_a_picture_of_every_screen_and_no_other():
    found = {path.name for path in PICTURES.iterdir()}

    assert found == {f"{screen.url}.webp" for screen in SCREENS}
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < MOST_BYTES
    assert all(path.read_bytes()[8:12] == b"WEBP" for path in PICTURES.iterdir())
