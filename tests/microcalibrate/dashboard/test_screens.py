"""Every screen, empty and filled, without a browser."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard.screens import SCREENS
from microcalibrate.dashboard.screens.run import SHOWN_ELSEWHERE


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.url)
def test_a_screen_of_an_empty_workspace_says_what_to_do(opened, empty, screen):
    page = opened(empty, screen.url)

    assert [title.value for title in page.tested.title] == [screen.title]
    assert 'class="empty"' in page.words


def test_screens_have_addresses_and_titles_of_their_own():
    assert len({screen.url for screen in SCREENS}) == len(SCREENS)
    assert len({screen.title for screen in SCREENS}) == len(SCREENS)
    # Streamlit takes a path apart at slashes.
    assert all(screen.url.isidentifier() for screen in SCREENS)


@pytest.mark.usefixtures("calibrated")
def test_the_start_shows_what_is_there(opened, workspace):
    page = opened(workspace, "start")
    newest = next(run for run in workspace.runs() if run.command not in SHOWN_ELSEWHERE)

    assert "people.csv" in page.words
    assert newest.name in page.words


# --- Hostile names --------------------------------------------------------------------------------

HOSTILE = ["<img src=x onerror=alert(1)>", "=cmd()|' /C calc'!A0", "../../x"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_files_are_shown_and_nothing_else(opened, empty, name, over):
    dataset = empty.add_upload(f"{name}.csv", [b"w,age\n1,2\n"])
    run = empty.submit("calibrate", ["/nowhere", "--out", "{run}/result"], name)
    for each in (dataset.run, run):
        over(each)

    for url in ("start", "data", "targets", "settings", "run"):
        page = opened(empty, url)
        assert "<img src" not in page.words
        # What Streamlit reads as Markdown is written by the page alone.
        assert not [each.value for each in page.tested.markdown if name in each.value]
        assert not [each.label for each in page.tested.button if name in each.label]
    assert not list(empty.folder.parent.glob("x*"))


# --- Errors ---------------------------------------------------------------------------------------


def test_a_typed_error_is_shown_in_its_words_below_the_title(monkeypatch, opened, empty):
    from dataclasses import replace

    from microcalibrate.dashboard import shell
    from microcalibrate.errors import UnreadableFile

    def broken(_):
        raise UnreadableFile("<b>log.csv</b> ends within a row. Copy it again.")

    screen = replace(SCREENS[0], url="broken", title="Broken", render=broken)
    monkeypatch.setattr(shell, "SCREENS", (screen,))

    page = opened(empty, "broken")

    assert [title.value for title in page.tested.title] == ["Broken"]
    assert "<strong>Unreadable file.</strong>" in page.words
    assert "&lt;b&gt;log.csv&lt;/b&gt; ends within a row. Copy it again." in page.words


def test_an_error_of_the_page_shows_no_traceback(monkeypatch, opened, empty, caplog):
    from dataclasses import replace

    from microcalibrate.dashboard import shell

    def broken(_):
        raise KeyError(" of the ".join(["a value", "data"]))

    screen = replace(SCREENS[0], url="broken", title="Broken", render=broken)
    monkeypatch.setattr(shell, "SCREENS", (screen,))
    with pytest.raises(AssertionError, match="could not be drawn"):
        opened(empty, "broken")

    assert "KeyError" in caplog.text
    assert "a value of the data" not in caplog.text
