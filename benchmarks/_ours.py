"""Run one of our calibrations on one problem, in a process of its own, and write what came of it.

    python benchmarks/_ours.py --problem FOLDER --name dense --threads 2 --out FOLDER --set
    closeness=1e-4

The files and the JSON fields are those of `_incumbent.py`, so that both stand in one table. The
clock runs from
`Calibration(...)` to the weights: checking the input is in it, reading files and importing are
not. With `--repeat N` the first call is reported as `cold_seconds`, the median of the others as
`fit_seconds`.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--problem", type=Path, required=True, help="problem folder, or dense .npz file"
    )
    parser.add_argument("--name", required=True, help="name of the two files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a keyword of Calibration"
    )
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Run and write."""
    options = parse()
    # Threads are set before NumPy and numba are imported: they read them only once.
    for variable in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ):
        os.environ[variable] = str(options.threads)
    from statistics import median

    import numpy as np
    import scipy.sparse as sp
    from _incumbent import peak_memory_gb
    from _problem import load
    from _scoring import score

    import microcalibrate

    settings = {}
    for assignment in options.set:
        name, _, value = assignment.partition("=")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = float(value) if value in ("inf", "-inf") else value
    # A tiny sparse problem first: what is imported, and loaded from numba's cache, on first use is
    # not part of the clock, as it is not for the rivals, who import torch before theirs.
    tiny = sp.csr_array(np.eye(2, dtype=np.float32).repeat(8, axis=0))
    for few in ({}, {"target_records": 8}):
        microcalibrate.Calibration(np.ones(16), [9.0, 9.0], tiny, **few).calibrate(progress=False)
    problem = load(options.problem)
    after_load = peak_memory_gb()
    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        calibration = microcalibrate.Calibration(
            problem.design_weights, problem.targets, problem.matrix, **settings
        )
        weights = calibration.calibrate(progress=False)
        seconds.append(time.perf_counter() - start)
    result = calibration.result
    estimates = problem.matrix.T.astype(np.float64) @ weights
    record = {
        "status": "finished",
        "method": "microcalibrate (ours)",
        "problem": options.problem.name,
        "threads": options.threads,
        "settings": settings,
        "shape": list(problem.matrix.shape),
        "steps": len(result.history),
        "gap": result.gap,
        "certificate": result.status.name,
        "cold_seconds": seconds[0],
        "fit_seconds": median(seconds[1:] or seconds),
        "seconds_by_phase": result.seconds,
        "memory_after_load_gb": after_load,
        "peak_memory_gb": peak_memory_gb(),
        "max_relative_error": float(np.max(np.abs(estimates / problem.targets - 1))),
        "score": score(weights, problem.matrix, problem.targets, problem.design_weights),
        "versions": {**result.versions, "python": platform.python_version()},
        "cores": os.cpu_count(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    np.save(options.out / f"{options.name}.npy", weights)
    (options.out / f"{options.name}.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
