"""The page with large files: a long log, and an upload of 500 MB beside a second tab.

    python benchmarks/page.py [--targets 5000] [--epochs 100] [--megabytes 500]

Needs Chromium and its driver. Seconds are wall time as a browser sees it, from the step of a reader
until the page rests; everything is made in a temporary folder.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent


def long_log(page, folder, n_targets: int, n_epochs: int) -> dict:
    """Seconds of the first view of a log, of the table of its targets, and of a search."""
    import time

    from read_log import made

    path, _ = made(folder, n_targets, n_epochs)
    page.open("compare")
    page.find("take_in_log", "summary").click()
    begun = time.perf_counter()
    page.upload("log_", path)
    page.until(lambda: "b" in page.query, "the log", seconds=300)
    seconds = {"taken in": time.perf_counter() - begun}
    log = page.query["b"]

    def took(name, step, words) -> None:
        begun = time.perf_counter()
        step()
        page.shows(words, seconds=300)
        seconds[name] = time.perf_counter() - begun

    took("first view", lambda: page.open("results", run=log), "targets within 5%")
    took("first view again", lambda: page.open("results", run=log), "targets within 5%")
    took("table of targets", lambda: page.tab("Targets"), f"of {n_targets:,}.")
    took("search", lambda: page.fill("q", "target 4321,"), "1 target of")
    return {
        "rows": n_targets * n_epochs,
        "megabytes": path.stat().st_size / 1e6,
        "seconds": seconds,
    }


def upload(page, folder, megabytes: int, ending: str) -> dict:
    """Seconds until a file is a data set, and the slowest view of a second tab meanwhile."""
    import time

    path = made_table(folder, megabytes, ending)
    page.open("data")
    first = page.driver.current_window_handle
    begun = time.perf_counter()
    page.upload("upload_", path)
    page.driver.switch_to.new_window("tab")
    second = page.driver.current_window_handle
    views = []
    while True:
        for screen in ("start", "settings"):
            opened = time.perf_counter()
            page.open(screen)
            views.append(time.perf_counter() - opened)
        page.driver.switch_to.window(first)
        # The list has the new data set once it is taken in, and its columns once it is read.
        is_taken_in = "dataset" in page.query and page.value("choose_dataset") == path.name
        if is_taken_in and "Column with the design weights" in page.text:
            break
        page.driver.switch_to.window(second)
        if time.perf_counter() - begun > 1800:
            raise TimeoutError(page.text)
    took = time.perf_counter() - begun
    n_records = page.text.partition("\nrecords")[0].rsplit("\n", 1)[-1]
    page.driver.switch_to.window(second)
    page.driver.close()
    page.driver.switch_to.window(first)
    size = path.stat().st_size / 1e6
    path.unlink()
    return {
        "megabytes": size,
        "records": n_records,
        "seconds": took,
        "second_tab": {"views": len(views), "slowest_seconds": max(views)},
    }


def made_table(folder, megabytes: int, ending: str):
    """A table of about so many megabytes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    generator = np.random.default_rng(0)
    path = folder / f"survey.{ending}"
    # Twelve numbers of six or seven letters a row, or of eight bytes.
    batch = 200_000
    n_batches = max(1, round(megabytes * 1e6 / (batch * (104 if ending == "csv" else 81))))
    writer = None
    for start in range(n_batches):
        columns = {"id": np.arange(start * batch, (start + 1) * batch)}
        columns["weight"] = generator.uniform(50, 150, batch).round(3)
        for place in range(10):
            columns[f"amount_{place}"] = generator.gamma(2, 20_000, batch).round(2)
        table = pa.table(columns)
        if writer is None:
            kind = pyarrow.csv.CSVWriter if ending == "csv" else pyarrow.parquet.ParquetWriter
            writer = kind(path, table.schema)
        writer.write_table(table)
    writer.close()
    return path


def main() -> None:
    """Go through both journeys and save what they took."""
    import os
    import tempfile

    from _table import save

    sys.path.insert(0, str(HERE.parent / "tests" / "browser"))
    from chromium import chromium, dashboard
    from page import Page

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with dashboard(folder / "workspace") as served, chromium(downloads=folder) as driver:
            page = Page(driver, served, folder)
            told = {"long_log": long_log(page, folder, given.targets, given.epochs)}
            for ending in ("csv", "parquet"):
                told[f"upload_{ending}"] = upload(page, folder, given.megabytes, ending)
            page.assert_quiet()
    save("page", told | {"load": os.getloadavg()[0]})


if __name__ == "__main__":
    main()
