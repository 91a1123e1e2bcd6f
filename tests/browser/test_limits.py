"""What is too large, or cannot be read, is refused in words, and the page goes on."""

from __future__ import annotations

import os


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
    page.shows("Failed.")
    assert page.value("choose_dataset") == "broken.parquet"
    jobs.delete_dataset(page.query["dataset"])
