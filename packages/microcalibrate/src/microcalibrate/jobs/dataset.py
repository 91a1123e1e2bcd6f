"""A data set of a workspace: what was uploaded, and the table that was made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from microcalibrate.errors import UnknownRun
from microcalibrate.jobs.run import Run
from microcalibrate.jobs.waiting import RUNS

ABOUT_NAME, IMPORTED_NAME = "dataset.json", "imported"


@dataclass(frozen=True)
class Dataset:
    """A table that was uploaded, and its profile.

    Attributes:
        folder: Where its table is.
        name: What people call it: the name of the file that it came from.
        upload: The file as it came.
        size: Of that file, in bytes.
        created: When it came.
        run_id: Id of the run that imports it.
    """

    folder: Path
    name: str
    upload: Path
    size: int
    created: datetime
    run_id: str

    @classmethod
    def read(cls, folder: Path) -> Dataset:
        """The data set in a folder.

        Raises:
            UnknownRun: If there is none.
        """
        try:
            plain = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
            return cls(
                folder,
                plain["name"],
                folder.parent.parent / "uploads" / (folder.name + plain["suffix"]),
                plain["size"],
                datetime.fromtimestamp(plain["created"], UTC),
                plain["run"],
            )
        except (OSError, ValueError, KeyError) as error:
            raise UnknownRun(
                f"there is no data set {folder.name} in this workspace: it was deleted, or never "
                "made."
            ) from error

    @property
    def id(self) -> str:
        """A UUID, and the name of the folder."""
        return self.folder.name

    @property
    def imported(self) -> Path:
        """The folder that the import writes."""
        return self.folder / IMPORTED_NAME

    @property
    def table(self) -> Path:
        """The table as Parquet; it is there once the import is done."""
        return self.imported / "data.parquet"

    @property
    def preview(self) -> Path:
        """Its first rows as Parquet."""
        return self.imported / "preview.parquet"

    @property
    def profile(self) -> dict[str, Any] | None:
        """What the import found, or None until it is done."""
        try:
            text = (self.imported / "profile.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def run(self) -> Run:
        """The run that imports it.

        Raises:
            UnknownRun: If that run was deleted.
        """
        return Run.read(self.folder.parent.parent / RUNS / self.run_id)
