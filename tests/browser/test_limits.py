"""What is too large, or cannot be read, is refused in words, and the page goes on."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq


def test_a_file_over_the_limit_is_refused_with_the_reason(page, tmp_path):
    """The file has the size, but no place on the disk."""
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 2049 * 1024 * 1024)

    page.open("data")
    page.upload("upload_", large)

    page.shows("must be 2.0GB or smaller")
    page.open("data")
    assert page.title == "Data"


def test_a_file_that_is_no_table_is_refused_with_the_reason(page, tmp_path, jobs):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 this is none")

    page.open("data")
    page.upload("upload_", broken)

    page.until(lambda: "dataset" in page.query, "the data set")
    page.shows("Not read.")
    assert page.value("choose_dataset") == "broken.parquet"
    jobs.delete_dataset(page.query["dataset"])


def small_and_huge(folder):
    """A Parquet file of some kilobytes that says it has 2.4 GB."""
    table = pa.table({f"c{place}": np.zeros(1_000_000) for place in range(30)})
    with pq.ParquetWriter(folder / "huge.parquet", table.schema, compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(table)
    return folder / "huge.parquet"


def long_field(folder):
    (folder / "field.csv").write_bytes(PEOPLE + b'9,"' + b"x" * 10_000_000 + b'"\n')
    return folder / "field.csv"


def latin(folder):
    (folder / "latin.csv").write_bytes(PEOPLE + "9,caf\u00e9\n".encode("latin-1"))
    return folder / "latin.csv"


PEOPLE = b"weight,place\n" + b"1.5,home\n" * 50


@pytest.mark.parametrize(
    ("made", "reason", "way_out"),
    [
        (small_and_huge, "declares a table of 2.4 GB", "write it again without compression"),
        (long_field, "10,000,000", "look for a quotation mark"),
        (latin, "(0xE9), in line 52", "choose cp1252 below"),
    ],
)
def test_a_hostile_file_is_refused_with_the_reason_and_a_way_out(
    page, tmp_path, jobs, made, reason, way_out
):
    file = made(tmp_path)
    assert file.stat().st_size < 11_000_000

    page.open("data")
    page.upload("upload_", file)
    page.until(lambda: "dataset" in page.query, "the data set")
    page.shows("Not read.")

    assert reason in page.text
    assert way_out in page.text
    # The reader knows the file by its own name, and not by where the page keeps it.
    assert file.name in page.text
    assert str(jobs.folder) not in page.text
    for word in ("Traceback", "--"):
        assert word not in page.text
    assert jobs.dataset(page.query["dataset"]).profile is None
    jobs.delete_dataset(page.query["dataset"])


@pytest.mark.parametrize(("encoding", "proposed"), [("latin-1", "cp1252"), ("utf-16", "utf-16")])
def test_a_file_in_another_encoding_is_read_in_the_one_that_is_proposed(
    page, tmp_path, jobs, encoding, proposed
):
    file = tmp_path / "other.csv"
    file.write_bytes((PEOPLE.decode() + "9,caf\u00e9\n").encode(encoding))

    page.open("data")
    page.upload("upload_", file)
    page.until(lambda: "dataset" in page.query, "the data set")
    page.shows("Not read.")
    assert page.value("encoding_").startswith(proposed)
    page.click("read_again_")

    page.shows("Column with the design weights")
    columns = jobs.dataset(page.query["dataset"]).profile["columns"]
    assert {level["value"] for level in columns[1]["levels"]} == {"home", "caf\u00e9"}
    jobs.delete_dataset(page.query["dataset"])
