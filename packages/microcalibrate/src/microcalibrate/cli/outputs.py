"""What commands write, and solves that ended early noted for what is said at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from microcalibrate.cli.app import REPORT_NAME
from microcalibrate.progress import WRITING, tell


class Outcome(Protocol):
    """A result that can be saved and reported."""

    def save(self, folder: str | Path) -> Path:
        """Write its files into a folder."""
        ...

    def report(self, path: str | Path) -> Path:
        """Write its page."""
        ...


def write_run(result: Outcome, folder: Path, with_report: bool) -> None:
    """Write the files of a result, and its report beside them, whole or not at all."""
    from microcalibrate.atomic import run_folder

    tell(WRITING, 0, None, "files", {})
    with run_folder(folder) as unfinished:
        result.save(unfinished)
        if with_report:
            result.report(unfinished / REPORT_NAME)


@contextmanager
def noting_open_ends() -> Iterator[list[str]]:
    """Collect warnings of solves without certificate instead of printing them at once."""
    from microcalibrate.calibration import NotConvergedWarning

    noted: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", NotConvergedWarning)
        shown = warnings.showwarning

        def note(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, NotConvergedWarning):
                noted.append(str(message))
            else:
                shown(message, category, *place, **more)

        warnings.showwarning = note
        yield noted
