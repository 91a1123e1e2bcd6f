"""A log of 5,000 targets and 100 epochs: read, and drawn as a page first shows it.

    python benchmarks/read_log.py [--targets 5000] [--epochs 100] [--tries 5]

The log is written to a temporary folder and read anew in each try. Seconds are wall time, of the
fastest try and of the median one, and processor time of the fastest; imports are not counted.
"""

import argparse
import os


def made(folder, n_targets: int, n_epochs: int):
    """A log of as many targets, in a tree of three levels, and what writing took."""
    import time

    import numpy as np

    from microcalibrate.logs import write_log

    rng = np.random.default_rng(0)
    targets = rng.lognormal(15, 3, n_targets)
    shrinking = np.geomspace(1, 1e-3, n_epochs)[:, None]
    begun = time.perf_counter()
    path = write_log(
        folder / "log.csv",
        epochs=np.arange(n_epochs),
        losses=np.geomspace(1, 1e-6, n_epochs),
        target_names=[f"state {j % 51}/group {j % 500}/target {j}, all" for j in range(n_targets)],
        targets=targets,
        estimates=targets * (1 + shrinking * rng.normal(0, 0.5, n_targets)),
    )
    return path, time.perf_counter() - begun


def first_view(path) -> dict:
    """Seconds of each part of what is shown first."""
    import time

    from microcalibrate.figures import log_course, log_errors, target_tree
    from microcalibrate.logs import read_log
    from microcalibrate.logs.quality import error_histogram, ranked

    seconds = {}
    clock = [time.perf_counter()]

    def took(name: str) -> None:
        clock.append(time.perf_counter())
        seconds[name] = clock[-1] - clock[-2]

    log = read_log(path)
    took("read")
    table = ranked(log.final)
    log.quality()
    took("final state and quality")
    curve = log_course.loss_and_error(log.curve, log.loss_kind).to_json()
    histogram = log_errors.error_histogram(error_histogram(log.final)).to_json()
    bars = log_errors.estimate_bars(table).to_json()
    took("curve, histogram, bars")
    tree = target_tree.target_tree(log.final).to_json()
    took("tree")
    course = log_course.target_errors(log, list(table.name[:5])).to_json()
    took("course of five targets")
    seconds["all"] = clock[-1] - clock[0]
    assert all((curve, histogram, bars, tree, course))
    return seconds


def main() -> None:
    """Write, read, draw and save the table."""
    import tempfile
    import time
    from pathlib import Path

    import numpy as np
    from _table import save

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--tries", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, writing = made(Path(folder), asked.targets, asked.epochs)
        first_view(path)  # what is imported late is imported now
        tries, processor = [], []
        for _ in range(asked.tries):
            begun = time.process_time()
            tries.append(first_view(path))
            processor.append(time.process_time() - begun)
        size = path.stat().st_size
    rows = {
        name: {
            "fastest_seconds": min(one[name] for one in tries),
            "median_seconds": float(np.median([one[name] for one in tries])),
        }
        for name in tries[0]
    }
    save(
        "read_log",
        {
            "targets": asked.targets,
            "epochs": asked.epochs,
            "rows": asked.targets * asked.epochs,
            "megabytes": size / 1e6,
            "write_seconds": writing,
            "fastest_processor_seconds": min(processor),
            "load": os.getloadavg()[0],
            "first_view": rows,
        },
    )


if __name__ == "__main__":
    main()
