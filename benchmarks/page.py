"""The page with large files: a long log, and an upload of 500 MB beside a second tab.

    python benchmarks/page.py [--targets 5000] [--epochs 100] [--megabytes 500]

Needs Chromium and its driver. Seconds are wall time as a browser sees it, from the step of a reader
until the page rests; everything is made in a temporary folder. A search is counted from the press
of Enter, a scroll from the turn of the wheel, and each until its first new row is drawn.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent

# The table is a drawing: its rows are texts that are filled into it.
WATCH = """
const [event, wanted] = arguments;
window.begun = window.drawn = undefined;
window.seen = new Set();
addEventListener(event, each => {
    if (event === 'wheel' || each.key === 'Enter') window.begun = performance.now();
}, {capture: true, once: event === 'wheel'});
if (!window.watched) {
    window.watched = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        const row = String(text);
        if (window.begun === undefined) window.seen.add(row);
        else if (window.drawn === undefined && row.includes(window.wanted) && !window.seen.has(row))
            window.drawn = performance.now();
        return window.watched.call(this, text, ...rest);
    };
}
window.wanted = wanted;
"""
TIMES = 15


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
    numbers = [n_targets - 1 - 231 * place for place in range(TIMES)]
    seconds["searches"] = spread([search(page, f"target {number},") for number in numbers])
    seconds["searches that find many"] = spread(
        [search(page, f"group {number}/") for number in range(100, 100 + TIMES)]
    )
    page.fill("q", " ")
    page.shows(f"{n_targets:,} targets of {n_targets:,}.")
    seconds["scrolls"] = spread([scroll(page) for _ in range(TIMES)])
    return {
        "rows": n_targets * n_epochs,
        "megabytes": path.stat().st_size / 1e6,
        "seconds": seconds,
    }


def search(page, words: str) -> float:
    """Seconds from Enter to the first row of what is found."""
    from selenium.webdriver.common.keys import Keys

    field = page.find("q", "input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(words)
    return drawn(page, "keydown", words, lambda: field.send_keys(Keys.ENTER))


def scroll(page) -> float:
    """Seconds from a turn of the wheel to the first row that was not in view."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.by import By

    grid = page.driver.find_element(By.CSS_SELECTOR, "[role=region][aria-label=Targets] canvas")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", grid)
    turn = ActionChains(page.driver).scroll_from_origin(
        ScrollOrigin.from_element(grid), 0, 3 * grid.size["height"]
    )
    return drawn(page, "wheel", "target ", turn.perform)


def drawn(page, event: str, words: str, step) -> float:
    """Seconds from an event to the first new text with some words in the table."""
    import time

    from chromium import settled

    page.driver.execute_script(WATCH, event, words)
    # What is still to be drawn from the step before is none of this one's.
    time.sleep(0.5)
    step()
    page.until(lambda: page.driver.execute_script("return window.drawn !== undefined"), words)
    settled(page.driver)
    return page.driver.execute_script("return window.drawn - window.begun") / 1000


def spread(seconds: list[float]) -> dict:
    """Median and slowest of some times."""
    from statistics import median

    return {"times": len(seconds), "median": median(seconds), "slowest": max(seconds)}


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
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with dashboard(folder / "workspace") as served, chromium(downloads=folder) as driver:
            page = Page(driver, served, folder)
            told = {"long_log": long_log(page, folder, given.targets, given.epochs)}
            for ending in ("csv", "parquet"):
                told[f"upload_{ending}"] = upload(page, folder, given.megabytes, ending)
            page.assert_quiet()
    save("page", told | {"load_at_start": load, "load_at_end": os.getloadavg()[0]})


if __name__ == "__main__":
    main()
