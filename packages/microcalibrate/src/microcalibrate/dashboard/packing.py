"""What can be downloaded of a result, as files with their content made when it is asked for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from microcalibrate.io import write_table

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.result import CalibrationResult

MANIFEST = "SHA256SUMS"
# An archive of equal files is the same file whenever it is made.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class File:
    """A file to download.

    Attributes:
        name: Of the file.
        meaning: What is in it.
        content: Makes its bytes.
    """

    name: str
    meaning: str
    content: Callable[[], bytes]

    @property
    def media_type(self) -> str:
        """What a browser is told that it is."""
        return _TYPES.get(Path(self.name).suffix, "application/octet-stream")


def files_of(folder: Path, meanings: dict[str, str]) -> list[File]:
    """Files of a folder, those with a meaning first, in its order.

    Args:
        folder: Of a result.
        meanings: Name to what is in it.
    """
    there = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    named = [name for name in meanings if name in there]
    others = [name for name in there if name not in meanings]
    return [
        File(name, meanings.get(name, ""), (folder / name).read_bytes) for name in (*named, *others)
    ]


def weights_table(result: CalibrationResult) -> pd.DataFrame:
    """One row per record, those of weight zero included: `id`, `initial_weight`, `weight`."""
    return result.weights_table().rename(columns={"design_weight": "initial_weight"})


def table_bytes(table: Any, name: str) -> bytes:
    """A table as a file; in a CSV, no text is taken for a formula by a spreadsheet.

    Args:
        table: What to write.
        name: Of the file; its ending says the format.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        write_table(table, path, guard_formulas=name.endswith(".csv"))
        return path.read_bytes()


def archive(files: Sequence[File]) -> bytes:
    """A ZIP archive of files with their checksums, as `sha256sum --check` reads them.

    Examples:
        >>> packed = archive([File("a.txt", "", lambda: b"a")])
        >>> zipfile.ZipFile(io.BytesIO(packed)).namelist()
        ['a.txt', 'SHA256SUMS']
    """
    packed = io.BytesIO()
    sums = []
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in files:
            content = file.content()
            sums.append(f"{sha256(content).hexdigest()}  {file.name}\n")
            _write(opened, file.name, content)
        _write(opened, MANIFEST, "".join(sums).encode())
    return packed.getvalue()


def _write(opened: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _MOMENT)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    opened.writestr(entry, content)
