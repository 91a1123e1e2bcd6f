"""A CSV file as batches of typed columns, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from microcalibrate.errors import UnreadableFile
from microcalibrate.profiling.csv_text import (
    check_text,
    known_encoding,
    open_bytes,
    read_header,
)
from microcalibrate.profiling.csv_types import FALSE, MISSING, TRUE, CellTypes
from microcalibrate.profiling.limits import Limits
from microcalibrate.profiling.source import Batches, named_apart
from microcalibrate.progress import tell

BLOCK = 16_000_000
"""Bytes that are parsed at once, and so the longest record."""


def csv_batches(file: Path, encoding: str, limits: Limits) -> Batches:
    """Batches of a CSV file whose types are those of all its cells.

    The file is read three times: as text, which finds what is not of its encoding; as cells, which
    finds the types; and as typed columns, when the batches are asked for.

    Raises:
        UnreadableFile: If it is no such table; the message says in which line, byte or row.
        InvalidOption: If the encoding is not known.
    """
    codec = known_encoding(encoding)
    check_text(file, codec, limits)
    header = read_header(file, codec)
    keys = [str(position) for position in range(len(header))]
    names, problems = named_apart(header)

    types = {key: CellTypes() for key in keys}
    n_records = 0
    for batch in _parsed(file, codec, dict.fromkeys(keys, pa.string())):
        for key, name in zip(keys, names, strict=True):
            cells = batch.column(key)
            _check_fields(file, cells, name, n_records, limits)
            types[key].see(cells, n_records)
        n_records += batch.num_rows
        tell("finding types", n_records, None, "records", {})
    for name, found in zip(names, types.values(), strict=True):
        problems += _type_problems(name, found)
    schema = {key: found.arrow_type for key, found in types.items()}

    def batches() -> Iterator[Any]:
        for batch in _parsed(file, codec, schema):
            yield pa.RecordBatch.from_arrays(batch.columns, names=names)

    return Batches(
        names=tuple(names),
        schema=pa.schema(list(zip(names, schema.values(), strict=True))),
        n_records=n_records,
        problems=tuple(problems),
        read=batches,
    )


def _parsed(file: Path, codec: str, types: dict[str, Any]) -> Iterator[Any]:
    """Record batches of columns of the given types."""
    n_records = 0
    try:
        for batch in _unchecked(file, codec, types, use_threads=True, on_ragged=lambda _: "error"):
            n_records += batch.num_rows
            yield batch
    except pa.ArrowInvalid as error:
        _refuse_ragged(file, codec, types)
        if "straddling" in str(error):
            raise UnreadableFile(
                f"{file}: a record after row {n_records + 1:,} has more than {BLOCK:,} bytes. "
                "Look for a quotation mark that is not closed, and drop values of this length."
            ) from error
        raise UnreadableFile(
            f"{file} cannot be parsed as CSV after row {n_records + 1:,} "
            f"({str(error).splitlines()[0]}). Mend the row, or write the file again."
        ) from error


def _unchecked(
    file: Path,
    codec: str,
    types: dict[str, Any],
    use_threads: bool,
    on_ragged: Callable[[Any], str],
) -> Iterator[Any]:
    with open_bytes(file) as content:
        stream = pa.PythonFile(content, mode="r")
        if codec != "utf-8-sig":
            stream = pa.transcoding_input_stream(stream, codec, "utf-8")
        yield from pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK,
                column_names=list(types),
                skip_rows_after_names=1,
                use_threads=use_threads,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                null_values=list(MISSING),
                true_values=list(TRUE),
                false_values=list(FALSE),
                strings_can_be_null=True,
                check_utf8=False,  # the text was checked
            ),
        )


def _refuse_ragged(file: Path, codec: str, types: dict[str, Any]) -> None:
    """Raise for the first row of another length, if there is one.

    The parser counts rows only where it works alone, so they are read once more.
    """
    rows: list[Any] = []

    def note(row: Any) -> str:
        rows.append(row)
        return "error"

    with suppress(pa.ArrowInvalid):
        for _ in _unchecked(file, codec, types, use_threads=False, on_ragged=note):
            pass
    if rows:
        row = rows[0]
        where = "a row" if row.number is None else f"row {row.number:,} (the header is row 1)"
        raise UnreadableFile(
            f"{file}: {where} has {row.actual_columns:,} values, and the header has "
            f"{row.expected_columns:,} names. Mend this row: a comma within a value needs "
            "quotation marks around the value."
        )


def _check_fields(file: Path, cells: Any, name: str, n_before: int, limits: Limits) -> None:
    sizes = pc.binary_length(cells)
    longest = pc.max(sizes).as_py() or 0
    if longest > limits.field_bytes:
        place = n_before + pc.index(sizes, longest).as_py() + 1
        raise UnreadableFile(
            f"{file}: column {name!r} has a value of {longest:,} bytes in record {place:,}, and "
            f"{limits.field_bytes:,} is the most. Drop the column, or look for a quotation mark "
            "that is not closed."
        )


def _type_problems(name: str, found: CellTypes) -> list[str]:
    """What the cells of a column say against its type."""
    if found.is_too_long:
        return [
            f"{name!r} has whole numbers of more than 18 digits, which no number type holds, so "
            "it is kept as text."
        ]
    if found.has_leading_zeros and found.is_whole:
        return [
            f"{name!r} has numbers written with zeros before them (such as 06). They are read as "
            "plain numbers, so write 6 and not '06' in a filter."
        ]
    if found.first_text is None or found.is_bool or 2 * found.n_numbers < found.n_present:
        return []
    text, record = found.first_text
    shown = repr(text if len(text) <= 40 else f"{text[:39]}…")
    n_texts = found.n_present - found.n_numbers
    return [
        f"{name!r} mixes numbers with text: {n_texts:,} of its {found.n_present:,} values are no "
        f"numbers, the first of them {shown} in record {record:,}. It is kept as text, so nothing "
        "can be added up; mend or empty these cells."
    ]
