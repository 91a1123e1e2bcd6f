"""Parquet and Feather files as batches; what would not fit is refused before it is unpacked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from microcalibrate.errors import UnreadableFile
from microcalibrate.profiling.limits import Limits
from microcalibrate.profiling.source import Batches, named_apart

BATCH_BYTES = 64_000_000
MOST_ROWS_A_BATCH = 131_072
MOST_BYTES_A_PART = 256_000_000
# What a text takes at least: its place among the different ones, and its share of them.
BYTES_A_TEXT = 8


def parquet_batches(file: Path, limits: Limits) -> Batches:
    """Batches of a Parquet file.

    Raises:
        UnreadableFile: If what its footer declares is far larger than the file, or than memory.
    """
    with pq.ParquetFile(file) as opened:
        schema, footer = opened.schema_arrow, opened.metadata
        needed = _declared_bytes(footer)
        n_records = footer.num_rows
    limits.check_expansion(file, needed, "declares a table of")
    limits.check_memory(file, needed)
    # A text that stands once and is meant a million times is read once.
    texts = [field.name for field in schema if _is_text(field.type)]
    width = max(needed // max(n_records, 1), 1)
    rows = int(min(max(BATCH_BYTES // width, 1), MOST_ROWS_A_BATCH))

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(file, read_dictionary=texts) as opened:
            yield from opened.iter_batches(rows)

    return _checked(file, schema, n_records, batches, limits)


def feather_batches(file: Path, limits: Limits) -> Batches:
    """Batches of a Feather file.

    Raises:
        UnreadableFile: If it is of the first version of the format, or cannot be read.
    """
    try:
        with pa.memory_map(str(file)) as mapped:
            schema = pyarrow.ipc.open_file(mapped).schema
    except pa.ArrowInvalid as error:
        raise UnreadableFile(
            f"{file} is damaged or no Feather file of version 2 ({str(error).splitlines()[0]}). "
            "Write it again, or save the table as Parquet."
        ) from error

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(file)) as mapped:
            reader = pyarrow.ipc.open_file(mapped)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                limits.check_expansion(file, batch.nbytes, "has a batch of")
                for start in range(0, max(batch.num_rows, 1), MOST_ROWS_A_BATCH):
                    yield batch.slice(start, MOST_ROWS_A_BATCH)

    return _checked(file, schema, None, batches, limits)


def _declared_bytes(footer: Any) -> int:
    """Bytes that the table takes in memory, by its footer alone."""
    total = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for position in range(group.num_columns):
            column = group.column(position)
            width = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}.get(column.physical_type, BYTES_A_TEXT)
            total += max(column.total_uncompressed_size, width * column.num_values)
    return total


def _checked(file: Path, schema: Any, n_records: int | None, read: Any, limits: Limits) -> Batches:
    """Batches with plain types and names that differ."""
    if not len(schema):
        raise UnreadableFile(f"{file} has no columns. Write it again.")
    kept = [place for place, name in enumerate(schema.names) if not _is_index(name, schema)]
    names, problems = named_apart([schema.names[place] for place in kept])
    plain = pa.schema(
        [(name, _plain(schema.types[place])) for name, place in zip(names, kept, strict=True)]
    )

    def batches() -> Iterator[Any]:
        n_seen = n_bytes = 0
        for read_batch in read():
            batch = read_batch.select(kept)
            _check_fields(file, batch, names, n_seen, limits)
            for part in _parts(batch):
                n_bytes += _unpacked_bytes(part)
                limits.check_expansion(file, n_bytes, "unpacks to at least")
                limits.check_memory(file, n_bytes)
                columns = [
                    column.cast(kind) for column, kind in zip(part, plain.types, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=plain)
            n_seen += batch.num_rows
        if not n_seen:
            raise UnreadableFile(f"{file} has columns and no records. Write it again.")

    return Batches(
        names=tuple(names),
        schema=plain,
        n_records=n_records,
        problems=tuple(problems),
        read=batches,
    )


def _is_index(name: str, schema: Any) -> bool:
    """Whether a column is the nameless index of a pandas table, which is no column of it."""
    if not name.startswith("__index_level_"):
        return False
    try:
        noted = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    except ValueError:
        return False
    return isinstance(noted, dict) and name in (noted.get("index_columns") or ())


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(value)
        or pa.types.is_large_string(value)
        or pa.types.is_string_view(value)
    )


def _plain(kind: Any) -> Any:
    """The type a column is kept in: texts by themselves, and numbers that can be added up."""
    if _is_text(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind) or pa.types.is_null(kind):
        return pa.float64()
    return kind


def _parts(batch: Any) -> Iterator[Any]:
    """The batch, in halves of halves where its repeated texts would take much room."""
    if batch.num_rows > 1 and _unpacked_bytes(batch) > MOST_BYTES_A_PART:
        half = batch.num_rows // 2
        yield from _parts(batch.slice(0, half))
        yield from _parts(batch.slice(half))
    else:
        yield batch


def _unpacked_bytes(batch: Any) -> int:
    """Bytes of a batch once every text stands by itself."""
    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _is_text(column.type):
            sizes = pc.binary_length(column.dictionary).take(column.indices)
            total += (pc.sum(sizes).as_py() or 0) + 4 * len(column)
        else:
            total += column.nbytes
    return total


def _check_fields(
    file: Path, batch: Any, names: Sequence[str], n_before: int, limits: Limits
) -> None:
    for name, column in zip(names, batch.columns, strict=True):
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if not (_is_text(values.type) or pa.types.is_binary(values.type)):
            continue
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        if longest > limits.field_bytes:
            raise UnreadableFile(
                f"{file}: column {name!r} has a value of {longest:,} bytes among the "
                f"{len(column):,} records after {n_before:,}, and {limits.field_bytes:,} is the "
                "most. Drop the column."
            )
