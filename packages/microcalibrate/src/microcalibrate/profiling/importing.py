"""From a file that somebody has to a table that every command reads, with a report on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microcalibrate.atomic import PathLike, run_folder
from microcalibrate.errors import InvalidOption
from microcalibrate.io import TABLE_SUFFIXES, existing_file, reading, write_json
from microcalibrate.profiling.arrow_batches import feather_batches, parquet_batches
from microcalibrate.profiling.counting import Counter, kind_of
from microcalibrate.profiling.csv_batches import csv_batches
from microcalibrate.profiling.limits import Limits, check_room
from microcalibrate.profiling.profile import DataProfile, profile_of
from microcalibrate.profiling.roles import looks_like_id
from microcalibrate.profiling.source import Batches
from microcalibrate.progress import tell

PREVIEW_ROWS = 100
ROW_GROUP_BYTES = 64_000_000


def import_data(
    path: PathLike,
    folder: PathLike,
    *,
    name: str | None = None,
    encoding: str = "utf-8",
    limits: Limits | None = None,
) -> DataProfile:
    r"""Read a table in pieces, and write it as Parquet together with what it holds.

    A table of any size goes through in bounded memory. The types of a CSV file are those of all
    its cells, not of the first ones.

    Args:
        path: File that ends in .csv, .csv.gz, .parquet or .feather.
        folder: Folder for `data.parquet`, `preview.parquet` (the first 100 records) and
            `profile.json`; an earlier import there is replaced. The folder around it must exist.
        name: What the table is called; the name of the file if None.
        encoding: Of a CSV file.
        limits: What is refused for its size; None is `Limits()`.

    Returns:
        What the table holds: types, counts, a guess at the role of each column, and problems.

    Raises:
        UnreadableFile: If the file is no such table, is damaged, or is too large; the message has
            the byte, line or row, and the way out.
        UnwritableFile: If the folder cannot be written.
        InvalidOption: If an encoding is given that is not known, or for another format.
        KeyboardInterrupt: If whoever listens to the progress wants the work to end; then the
            folder is as it was.

    Examples:
        >>> from tempfile import mkdtemp
        >>> place = Path(mkdtemp())
        >>> size = (place / "people.csv").write_text("person_id,w,age\n1,10.5,70\n2,9.5,\n")
        >>> profile = import_data(place / "people.csv", place / "imported")
        >>> [(column.name, column.type, column.role) for column in profile.columns]
        [('person_id', 'integer', 'id'), ('w', 'number', 'weight'), ('age', 'integer', 'number')]
        >>> profile.problems[0]
        "'age' is missing in 1 of 2 records: a target can add it up only where it is there, ..."
    """
    file = existing_file(path, TABLE_SUFFIXES)
    allowed = Limits() if limits is None else limits
    check_room(file, Path(folder))
    with run_folder(folder) as unfinished:
        with reading(file):
            opened = _opened(file, encoding, allowed)
        counters = {
            column: Counter(kind_of(kind), allowed.levels, looks_like_id(column))
            for column, kind in zip(opened.names, opened.schema.types, strict=True)
        }
        _write(
            unfinished / "data.parquet", opened.schema, _counted(file, opened, counters, allowed)
        )
        with pq.ParquetFile(unfinished / "data.parquet") as written:
            first = next(written.iter_batches(PREVIEW_ROWS))
        pq.write_table(pa.Table.from_batches([first]), unfinished / "preview.parquet")
        size = file.stat().st_size
        profile = profile_of(name or file.name, size, counters, opened.problems)
        write_json(profile.to_json(), unfinished / "profile.json")
    return profile


def _opened(file: Path, encoding: str, limits: Limits) -> Batches:
    ending = file.name.lower()
    if ending.endswith((".csv", ".csv.gz")):
        return csv_batches(file, encoding, limits)
    if encoding.lower() not in ("utf-8", "utf8"):
        raise InvalidOption(
            f"encoding={encoding!r} is for CSV files, and {file} is none. Leave it out."
        )
    opens = parquet_batches if ending.endswith(".parquet") else feather_batches
    return opens(file, limits)


def _counted(
    file: Path, opened: Batches, counters: dict[str, Counter], limits: Limits
) -> Iterator[Any]:
    """The batches, each counted on its way."""
    n_seen = n_bytes = 0
    with reading(file):
        for batch in opened.read():
            n_bytes += batch.nbytes
            limits.check_memory(file, n_bytes)
            for name, column in zip(opened.names, batch.columns, strict=True):
                counters[name].see(column)
            n_seen += batch.num_rows
            tell("importing", n_seen, opened.n_records, "records", {})
            yield batch


def _write(path: Path, schema: Any, batches: Iterator[Any]) -> None:
    """Write batches as one Parquet file, small ones together."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[Any] = []
        for batch in batches:
            waiting.append(batch)
            if sum(each.nbytes for each in waiting) >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
