"""The command line run within a test: what is typed, what comes out, what it leaves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from microcalibrate.cli import app

from .files import content


def run(line: str) -> Any:
    """A line as it is typed after `microcalibrate`."""
    return CliRunner().invoke(app, shlex.split(line))


def unwrapped(text: str) -> str:
    """Text without the line breaks that a narrow terminal puts into it."""
    return " ".join(text.split())


def interrupt(*_: Any, **__: Any) -> None:
    """In place of a step during which Ctrl-C is pressed."""
    raise KeyboardInterrupt


def assert_refused(here: Path, line: str, code: int, part: str) -> None:
    """A command says why, without a traceback, ends with its code, and writes nothing."""
    before = content(here)

    done = run(line)

    assert part in unwrapped(done.stderr).replace("│ ", "").replace("\\", "/")
    assert "Traceback" not in done.output
    assert done.exit_code == code, done.output
    assert content(here) == before
