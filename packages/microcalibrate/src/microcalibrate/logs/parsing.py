"""The text of a log: its header, its columns, and what is wrong where it is no table."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.errors import NotALog, TruncatedFile, UnreadableFile
from microcalibrate.logs.columns import DIALECTS, KNOWN, Dialect

BYTES_A_BLOCK = 1 << 25
"""Of text that is parsed at once; no row may be longer."""


def _is_packed(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def header_of(file: Path) -> list[str]:
    """The names in the first line.

    Raises:
        NotALog: If they are not separated by commas, or one stands twice.
        UnreadableFile: If the file cannot be read, or is not encoded in UTF-8.
    """
    opener = gzip.open if _is_packed(file) else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:
            header = [cell.strip() for cell in next(csv.reader(lines), [])]
    except UnicodeDecodeError as error:
        raise _wrong_encoding(file) from error
    except (OSError, EOFError, csv.Error) as error:
        raise UnreadableFile(f"{file} cannot be read ({error}). Write it again.") from error
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise NotALog(
            f"{file} is not separated by commas (its header is {header[0][:80]!r}). Save it with "
            "commas between the columns."
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise NotALog(
            f"{file} has more than one column {twice[0]!r}. Give each column a name of its own."
        )
    return header


def not_a_log(file: Path, header: Sequence[str]) -> NotALog:
    """What to say of a file with columns of no dialect."""
    shown = ", ".join(repr(name[:40]) for name in header[:12])
    more = f" and {len(header) - 12} more" if len(header) > 12 else ""
    needed = "; or ".join(", ".join(sorted(d.needs)) for d in (DIALECTS[-1], DIALECTS[0]))
    return NotALog(f"{file} is no log: it has the columns {shown}{more}. A log has {needed}.")


def _wrong_encoding(file: Path) -> UnreadableFile:
    return UnreadableFile(
        f"{file} is not encoded in UTF-8. In a spreadsheet, save it as 'CSV UTF-8'."
    )


def parsed_columns(
    file: Path, header: Sequence[str], dialect: Dialect, only: Sequence[str] = ()
) -> dict[str, Any]:
    """The columns that are of use, as Arrow arrays.

    Args:
        file: The log.
        header: The names in its first line.
        dialect: What it is.
        only: Columns to read; all of `KNOWN` where not given.

    Raises:
        TruncatedFile: If the file ends within a row.
        UnreadableFile: If it is damaged, or not encoded in UTF-8.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    wanted = [name for name in header if name in (only or KNOWN)]
    number, text = pa.float64(), pa.dictionary(pa.int32(), pa.string())
    words = {dialect.target_name, "achievable"}
    broken: list[Any] = []

    def note(row: Any) -> str:
        broken.append(row)
        return "error"

    names = [name or f"\0{place}" for place, name in enumerate(header)]
    try:
        with pa.input_stream(str(file), compression="gzip" if _is_packed(file) else None) as source:
            table = arrow_csv.read_csv(
                source,
                arrow_csv.ReadOptions(
                    column_names=names,
                    skip_rows=0,
                    skip_rows_after_names=1,
                    block_size=BYTES_A_BLOCK,
                ),
                arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
                arrow_csv.ConvertOptions(
                    column_types={name: text if name in words else number for name in wanted},
                    include_columns=wanted,
                ),
            )
    except pa.ArrowInvalid as error:
        raise _broken(file, broken, str(error)) from error
    except (OSError, EOFError) as error:
        raise UnreadableFile(
            f"{file} is damaged or cut off ({error}). Copy the whole file again."
        ) from error
    return {name: table[name].combine_chunks() for name in wanted}


def _broken(file: Path, broken: Sequence[Any], reason: str) -> UnreadableFile:
    """What is wrong with a file that is no table."""
    if broken:
        row = broken[0]
        with (gzip.open if _is_packed(file) else open)(file, "rb") as lines:
            tail = lines.read()[-len(row.text.encode()) - 2 :] if row.text else b""
        if tail.rstrip(b"\r\n").endswith(row.text.encode()) and row.text:
            return TruncatedFile(
                f"{file} ends within a row: its last one has {row.actual_columns} of "
                f"{row.expected_columns} columns ({row.text[:60]!r}). Copy the whole file again, "
                "or take that line out."
            )
        return UnreadableFile(
            f"{file} is damaged: a row has {row.actual_columns} columns and the header "
            f"{row.expected_columns} ({row.text[:60]!r}). Names with commas need quotes."
        )
    if "UTF8" in reason or "UTF-8" in reason:
        return _wrong_encoding(file)
    reason = re.sub(r"\s+", " ", reason)
    if "straddling" in reason or "out of sync" in reason:
        return TruncatedFile(
            f"{file} ends within quotes, or has a cell of more than {BYTES_A_BLOCK >> 20} MB. "
            "Copy the whole file again."
        )
    return UnreadableFile(f"{file} is damaged ({reason[:200]}). Write it again.")


def numbers_of(column: Any) -> Vector:
    """An Arrow column in float64, gaps as NaN."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
