"""Files that are no table of records: each is refused with the place and the way out."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microcalibrate.errors import InvalidOption, UnreadableFile, UnwritableFile
from microcalibrate.io import write_table
from microcalibrate.profiling import Limits, import_data, limits
from microcalibrate.profiling import csv_batches as csv_batches_module

GOOD = b"id,w,name\n" + b"".join(b"%d,1.5,x\n" % i for i in range(50))

REFUSED = {
    "not utf-8": (GOOD + b"9,1,caf\xe9\n", "byte 457 (0xE9), in line 52", "--encoding cp1252"),
    "cut in a character": (GOOD + b"9,1,caf\xc3", "in line 52", "--encoding cp1252"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "encoded in UTF-16", "--encoding utf-16"),
    "binary": (GOOD + b"9,\0,x\n", "byte 452 (line 52) is zero", "Export"),
    "no header": (b"1,2\n3,4\n", "first line is numbers only ('1,2')", "Put the column names"),
    "blank header": (b",\n3,4\n", "no header line", "Put the column names"),
    "no records": (b"a,b\n\n", "header line and no records", "Write it again"),
    "no text": (b"\n", "no header line", "Put the column names"),
    "short row": (GOOD + b"9,1\n", "row 52 (the header is row 1) has 2 values", "Mend this row"),
    "long row": (GOOD + b"9,1,x,\n" + GOOD, "row 52 (the header is row 1) has 4", "Mend this row"),
    "semicolons": (b"a;b\n1;2\n", "not separated by commas", "Save it with commas"),
    "a spreadsheet": (b"PK\x03\x04....", "a spreadsheet", "save it as 'CSV UTF-8'"),
    "Parquet": (b"PAR1....", "a Parquet file", ".parquet"),
    "a long field": (GOOD + b"9,1," + b"x" * 10_000_000, "record 51", "quotation mark"),
    "an open quote": (GOOD + b'9,1,"' + GOOD * 3_000, "record 51", "quotation mark"),
    "empty": (b"", "is empty", "Write it again"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_table_is_refused_with_the_place(case: str, tmp_path: Path) -> None:
    content, place, way_out = REFUSED[case]
    (tmp_path / "t.csv").write_bytes(content)

    with pytest.raises(UnreadableFile) as refused:
        import_data(tmp_path / "t.csv", tmp_path / "out")

    assert place in str(refused.value)
    assert way_out in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_a_record_longer_than_a_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_batches_module, "BLOCK", 1_000)
    (tmp_path / "t.csv").write_bytes(GOOD + b'9,1,"' + b"x,\n" * 1_000)

    with pytest.raises(UnreadableFile, match=r"has more than 1,000 bytes.*quotation mark"):
        import_data(tmp_path / "t.csv", tmp_path / "out")


@pytest.mark.parametrize("chunk", range(5, 12))
def test_a_character_that_two_pieces_share_is_whole_and_a_wrong_one_is_found(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small pieces cut the two bytes of é now and then."""
    monkeypatch.setattr("microcalibrate.profiling.csv_text.CHUNK", chunk)
    good = "name,w\n" + "éé𝄞,1\n" * 20
    (tmp_path / "good.csv").write_text(good, encoding="utf-8")
    wrong = good.encode() + "𝄞".encode() + b"\xe9\n,1\n"
    (tmp_path / "wrong.csv").write_bytes(wrong)

    assert import_data(tmp_path / "good.csv", tmp_path / "out").n_rows == 20
    with pytest.raises(UnreadableFile) as refused:
        import_data(tmp_path / "wrong.csv", tmp_path / "out")

    assert f"byte {wrong.index(0xE9, len(good.encode())):,} (0xE9), in line 22" in str(
        refused.value
    )


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8"])
def test_a_file_is_read_in_the_encoding_that_is_named(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("näme,w\ncafé,1\n".encode(encoding))

    profile = import_data(tmp_path / "t.csv", tmp_path / "out", encoding=encoding)

    assert profile.columns[0].name == "näme"
    assert profile.columns[0].levels == (("café", 1),)


def test_encodings_that_do_not_exist_or_do_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(GOOD)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")

    for name, encoding in (("t.csv", "klingon"), ("t.csv", "zip"), ("t.parquet", "cp1252")):
        with pytest.raises(InvalidOption, match="encoding="):
            import_data(tmp_path / name, tmp_path / "out", encoding=encoding)


# --- Files that are small and claim to be huge ----------------------------------------------------


def repeated_numbers(path: Path) -> None:
    """300 million cells of one number, in a file of some kilobytes."""
    table = pa.table({f"c{i}": np.zeros(1_000_000) for i in range(30)})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(table)


def repeated_text(path: Path) -> None:
    """A text of 0.9 MB that stands once and is meant 200,000 times."""
    texts = pa.DictionaryArray.from_arrays(np.zeros(200_000, dtype=np.int32), ["x" * 900_000])
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")


@pytest.mark.parametrize("bomb", [repeated_numbers, repeated_text])
def test_a_small_file_that_unpacks_to_a_huge_table_is_refused(
    bomb: Callable[[Path], None], tmp_path: Path
) -> None:
    bomb(tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 2_000_000

    with pytest.raises(UnreadableFile, match=r"as much: no table of records is like that"):
        import_data(tmp_path / "t.parquet", tmp_path / "out")

    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_the_refusal_comes_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated_numbers(tmp_path / "t.parquet")
    monkeypatch.delattr(pq.ParquetFile, "iter_batches")

    with pytest.raises(UnreadableFile, match=r"declares a table of 2\.4 GB"):
        import_data(tmp_path / "t.parquet", tmp_path / "out")


def test_packed_text_that_goes_on_without_end_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.csv.gz", "wb") as packed:
        packed.write(b"a,b\n" + b"1,2\n" * 2_000_000)

    allowed = Limits(expansion=100, expanded_bytes=1_000_000)
    with pytest.raises(UnreadableFile, match="unpacks to at least"):
        import_data(tmp_path / "t.csv.gz", tmp_path / "out", limits=allowed)


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.csv"])
def test_a_table_larger_than_memory_is_refused(name: str, tmp_path: Path) -> None:
    write_table(pd.DataFrame({"a": np.arange(10_000)}), tmp_path / name)

    with pytest.raises(UnreadableFile, match=r"needs \d\d\.?\d? kB of memory, and 50 kB are free"):
        import_data(tmp_path / name, tmp_path / "out", limits=Limits(memory_bytes=50_000))


def test_a_file_larger_than_the_room_on_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_bytes(GOOD)
    usage = limits.shutil._ntuple_diskusage(100, 0, 100)
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(UnwritableFile, match="100 bytes are free on that disk"):
        import_data(tmp_path / "t.csv", tmp_path / "out")


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.csv.gz"])
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no such thing" * 10)

    with pytest.raises(UnreadableFile, match=re.escape(name)):
        import_data(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("name", ["t.parquet", "t.feather"])
def test_tables_without_records_are_refused(name: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"a": np.zeros(0)})
    (table.to_parquet if name == "t.parquet" else table.to_feather)(tmp_path / name)

    with pytest.raises(UnreadableFile, match="no records"):
        import_data(tmp_path / name, tmp_path / "out")
