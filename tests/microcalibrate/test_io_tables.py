"""Tables in files: what was written is read back to the last bit, and what is wrong is named."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

from microcalibrate.errors import InvalidOption, UnreadableFile, UnwritableFile
from microcalibrate.io import read_table, write_table

from .files import content

FRAME = pd.DataFrame({"name": ["a", "é"], "value": [0.1 + 0.2, 1e300], "n": [1, 2]})
SUFFIXES = [".csv", ".csv.gz", ".parquet", ".feather"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV"])
@pytest.mark.parametrize("frame", [FRAME, pl.from_pandas(FRAME)])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, suffix: str, frame: Any) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(frame, path)

    assert_frame_equal(read_table(path), FRAME, check_exact=True)
    assert list(content(tmp_path)) == [path.name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_in_a_csv_keep_their_last_bit(tmp_path: Path, values: list[float]) -> None:
    write_table(pd.DataFrame({"x": values}), tmp_path / "x.csv")

    assert_array_equal(read_table(tmp_path / "x.csv")["x"], values)


def test_a_csv_of_a_spreadsheet_has_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("name,value\né,1\n".encode("utf-8-sig"))

    assert read_table(tmp_path / "x.csv").columns.tolist() == ["name", "value"]


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        write_table(FRAME, tmp_path / name)

    first, second = content(tmp_path).values()
    assert gzip.decompress(first) == gzip.decompress(second)
    # Bytes 4 to 8 of a gzip file are its time stamp.
    assert first[4:8] == second[4:8] == bytes(4)


def test_formulas_are_guarded_and_numbers_are_not(tmp_path: Path) -> None:
    cells = ["=1+1", "+1", "-1", "@x", "\tx", "plain", None]
    table = pd.DataFrame({"=text": cells, "number": [-1.0] * 7})
    write_table(table, tmp_path / "x.csv", guard_formulas=True)

    read = read_table(tmp_path / "x.csv")

    assert read["'=text"].tolist()[:6] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "plain"]
    assert pd.isna(read["'=text"].iloc[6])
    assert read["number"].tolist() == [-1.0] * 7
    assert table.columns[0] == "=text"


def test_guarding_formulas_where_there_are_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="guard_formulas"):
        write_table(FRAME, tmp_path / "x.parquet", guard_formulas=True)


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("missing.csv", None, "does not exist"),
        ("x.xlsx", b"x", "'.xlsx'"),
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "no header"),
        ("latin.csv", "name\né\n".encode("latin-1"), "UTF-8"),
        ("excel.csv", "na\u00efve".encode("utf-16"), "UTF-8"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
        ("semicolons.csv", b"a;b\n1;2\n", "commas"),
        ("mark.csv", "a,b,a\n1,2,3\n".encode("utf-8-sig"), "more than one column 'a'"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "more than one column 'a'"),
        ("damaged.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-9], "damaged"),
        ("text.csv.gz", b"a,b\n1,2\n", "damaged"),
        ("damaged.parquet", b"PAR1....PAR1", "damaged"),
        ("text.feather", b"a,b\n1,2\n", "damaged"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes | None, part: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(UnreadableFile) as caught:
        read_table(tmp_path / name)

    assert name in str(caught.value)
    assert part in str(caught.value)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()

    with pytest.raises(UnreadableFile, match="is a folder"):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_a_table_that_a_format_cannot_hold_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_table(FRAME, path)
    before = content(tmp_path)

    with pytest.raises(UnwritableFile, match=path.name):
        write_table(pd.DataFrame({"mixed": [1, "a", []]}), path)

    assert content(tmp_path) == before


def test_a_table_of_unknown_format_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="tables end in"):
        write_table(FRAME, tmp_path / "x.xlsx")
