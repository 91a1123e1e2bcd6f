"""The form has every option of the command, and says the same."""

from __future__ import annotations

import inspect
from typing import Annotated

import pytest

pytest.importorskip("streamlit")

import typer

from microcalibrate.cli.calibrate import calibrate
from microcalibrate.dashboard import option_schema
from microcalibrate.dashboard.calibration_job import SUPPLIED
from microcalibrate.dashboard.option_schema import Kind, arguments, options_of
from microcalibrate.dashboard.option_widgets import command_line
from microcalibrate.errors import InvalidOption


def test_every_option_of_the_command_is_in_the_form_or_filled_in_by_the_page():
    of_the_command = set(inspect.signature(calibrate).parameters)

    assert of_the_command - set(options_of("calibrate")) <= set(SUPPLIED)


def test_a_new_option_shows_up_by_itself(monkeypatch):
    def invented(
        speed: Annotated[int, typer.Option(min=2, max=9, help="How fast. [as it can]")] = 3,
        mood: Annotated[str | None, typer.Option(metavar="good|bad", help="How; bad:2.")] = None,
        home: Annotated[str | None, typer.Option(metavar="COLUMN", help="Where.")] = None,
        deep: Annotated[bool, typer.Option(help="Whether.")] = True,
    ) -> None: ...

    monkeypatch.setattr(option_schema, "_function", lambda _: invented)

    speed, mood, home, deep = options_of("invented").values()

    assert (speed.kind, speed.least, speed.greatest, speed.default) == (Kind.WHOLE, 2, 9, 3)
    assert (speed.flag, speed.help, speed.standard) == ("--speed", "How fast.", "as it can")
    assert (mood.kind, mood.choices, mood.is_open) == (Kind.CHOICE, ("good", "bad"), True)
    assert (home.kind, home.is_open) == (Kind.COLUMN, False)
    assert deep.arguments(False) == ["--no-deep"]
    assert deep.arguments(True) == []


@pytest.mark.parametrize("command", ["calibrate", "tune", "evaluate", "diagnose", "regularise"])
def test_flags_are_those_of_the_command_line(command):
    """Each flag of the form stands on the command's help page."""
    from typer.testing import CliRunner

    from microcalibrate.cli import app

    page = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400"}).output

    for option in options_of(command).values():
        assert f"{option.flag} " in page or f"{option.flag}\n" in page, option.flag


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.01", 0.01), ("1e-4", 1e-4), (" 1,000 ", 1000.0), ("-inf", float("-inf")), ("", None)],
)
def test_numbers_are_read_as_people_write_them(written, read):
    assert options_of("calibrate")["min_ratio"].read(written) == read


@pytest.mark.parametrize(
    ("name", "written"),
    [("records", "2.5"), ("records", "many"), ("closeness", "nan"), ("seed", "-1")],
)
def test_what_is_no_such_number_is_refused_with_the_name_of_the_field(name, written):
    option = options_of("calibrate")[name]

    with pytest.raises(InvalidOption, match=f"^{option.label}: "):
        option.read(written)


def test_defaults_need_no_words():
    options = options_of("calibrate")
    defaults = {name: option.default for name, option in options.items()}

    assert arguments(options, defaults) == []


def test_an_unknown_command_has_no_form():
    with pytest.raises(InvalidOption, match="no command 'fly'"):
        options_of("fly")


def test_a_long_command_has_a_line_for_each_option():
    import shlex

    words = ["microcalibrate", "calibrate", "a table.csv", "--weight", "w" * 60, "--seed", "3"]

    shown = command_line(words)

    assert shlex.split(shown.replace("\\\n", "")) == words
    assert shown.count("\n") == 2
