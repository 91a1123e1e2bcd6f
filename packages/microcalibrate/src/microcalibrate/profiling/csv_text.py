"""A CSV file as bytes and characters: what is wrong with it is found before it is parsed."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from microcalibrate.errors import InvalidOption, UnreadableFile
from microcalibrate.profiling.limits import Limits
from microcalibrate.progress import tell

CHUNK = 4_000_000
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")

# How files begin that are often renamed to .csv.
_BEGINNINGS = (
    (b"PK\x03\x04", "a spreadsheet or another archive", "Open it and save it as 'CSV UTF-8'."),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet", "Open it and save it as 'CSV UTF-8'."),
    (b"PAR1", "a Parquet file", "Rename it to end in .parquet."),
    (b"ARROW1", "a Feather file", "Rename it to end in .feather."),
    (b"\x1f\x8b", "compressed", "Rename it to end in .csv.gz."),
    (b"%PDF", "a PDF document", "Export the table as CSV."),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def open_bytes(file: Path) -> BinaryIO:
    """The file as it is, or what a .gz file has in it."""
    is_packed = file.name.lower().endswith(".gz")
    return cast("BinaryIO", gzip.open(file, "rb") if is_packed else file.open("rb"))


def known_encoding(encoding: str) -> str:
    """The name of an encoding as Python knows it; a byte order mark of UTF-8 is passed over.

    Raises:
        InvalidOption: If there is no such encoding of text.

    Examples:
        >>> known_encoding("UTF8"), known_encoding("windows-1252")
        ('utf-8-sig', 'cp1252')
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except (LookupError, TypeError) as error:
        raise InvalidOption(
            f"encoding={encoding!r} is not known. Use utf-8, cp1252 (Windows, western Europe), "
            "latin-1, utf-16, or another name that Python knows."
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def check_text(file: Path, encoding: str, limits: Limits) -> None:
    """Read the whole file once, in pieces, as text of its encoding.

    Args:
        file: The CSV file, maybe packed.
        encoding: As `known_encoding` returns it.
        limits: What is too large.

    Raises:
        UnreadableFile: If it is binary, or not of the encoding; the message has the byte and the
            line of the first mistake.
        KeyboardInterrupt: If whoever listens to the progress wants the work to end.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    n_bytes = n_lines = 0
    whole = None if file.name.lower().endswith(".gz") else file.stat().st_size
    for chunk in _chunks(file):
        if not n_bytes:
            _check_beginning(file, chunk, encoding)
        if b"\0" in chunk and not encoding.startswith(("utf-16", "utf-32")):
            place = n_bytes + chunk.index(b"\0")
            line = n_lines + chunk.count(b"\n", 0, chunk.index(b"\0")) + 1
            raise UnreadableFile(
                f"{file} is not text: byte {place:,} (line {line:,}) is zero. Export the table as "
                "CSV, or say its encoding if it is UTF-16 "
                '(encoding="utf-16", on the command line --encoding utf-16).'
            )
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            before = max(error.start - pending, 0)
            line = n_lines + chunk.count(b"\n", 0, before) + 1
            _refuse_encoding(file, encoding, n_bytes - pending + error.start, line, error)
        n_bytes += len(chunk)
        n_lines += chunk.count(b"\n")
        limits.check_expansion(file, n_bytes, "unpacks to at least")
        tell("checking text", n_bytes, whole, "bytes", {})
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        _refuse_encoding(file, encoding, n_bytes, n_lines + 1, error)


def read_header(file: Path, encoding: str) -> list[str]:
    """Cells of the first record.

    Raises:
        UnreadableFile: If there is none, it holds numbers only, it is not separated by commas, or
            no record follows.
    """
    with io.TextIOWrapper(open_bytes(file), encoding=encoding, newline="") as lines:
        reader = csv.reader(lines)
        try:
            header = next(reader, [])
            has_records = any(line.strip() for line in lines)
        except csv.Error as error:
            raise UnreadableFile(
                f"{file}: its first line cannot be read ({error}). Put the column names there, "
                "separated by commas."
            ) from error
    if not any(cell.strip() for cell in header):
        raise UnreadableFile(f"{file} has no header line. Put the column names in its first line.")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UnreadableFile(
            f"{file} is not separated by commas (its header is {_short(header[0])}). "
            "Save it with commas between the columns."
        )
    if all(NUMBER.fullmatch(cell) or not cell.strip() for cell in header):
        raise UnreadableFile(
            f"{file} has no header line: its first line is numbers only "
            f"({_short(','.join(header))}). Put the column names in its first line; if these are "
            "the names, put a letter before each."
        )
    if not has_records:
        raise UnreadableFile(f"{file} has a header line and no records. Write it again.")
    return header


def _chunks(file: Path) -> Iterator[bytes]:
    with open_bytes(file) as content:
        while chunk := content.read(CHUNK):
            yield chunk


def _check_beginning(file: Path, chunk: bytes, encoding: str) -> None:
    for beginning, what, way_out in _BEGINNINGS:
        if chunk.startswith(beginning):
            raise UnreadableFile(f"{file} is {what} and not a CSV file. {way_out}")
    for mark, family in _MARKS:
        if chunk.startswith(mark) and not encoding.startswith(family):
            raise UnreadableFile(
                f"{file} is encoded in {family.upper()}: it begins with the mark of it. Say so: "
                f'encoding="{family}", on the command line --encoding {family}.'
            )


def _refuse_encoding(
    file: Path, encoding: str, place: int, line: int, error: UnicodeDecodeError
) -> None:
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    wrong = error.object[error.start : error.start + 1]
    shown = f" (0x{wrong.hex().upper()})" if wrong else ""
    other = "cp1252" if name == "utf-8" else "utf-8"
    raise UnreadableFile(
        f"{file} is not encoded in {name}: byte {place:,}{shown}, in line {line:,}, is no part of "
        f'a character ({error.reason}). Say its encoding, for example encoding="{other}", on the '
        f"command line --encoding {other}; or save it as 'CSV UTF-8'."
    ) from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
