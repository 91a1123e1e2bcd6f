"""Targets within bands: plain Newton steps that choose all ends at once, and the interior point.

    python benchmarks/bands.py [--problem FOLDER] [--threads 2]

The embedded data at several widths of the bands, and a real problem of 280,005 records (a folder as
for `us_tax.py`; left out where there is none). Of that, targets of more than 30 records are kept,
each at the estimate of a soft calibration of all, moved by up to 3%, so that bands of 4% can hold.
Both roads solve the same problem in one run; the second is the engine with plain steps taken away,
which is how it solved bands before it had them. Seconds are those of the call.
"""

import argparse
import os
from pathlib import Path

HERE = Path(__file__).parent
EMBEDDED = {
    "chi2, bands of 30%": {"tolerances": 0.3},
    "raking, bands of 50%": {"tolerances": 0.5, "distance": "raking"},
    "chi2, bands of 50%, ratio <= 5": {"tolerances": 0.5, "max_weight_ratio": 5.0},
}
LARGE = {
    "chi2, bands of 4%": {"tolerances": 0.04},
    "chi2, bands of 4%, ratio <= 10": {"tolerances": 0.04, "max_weight_ratio": 10.0},
    "raking, bands of 4%, ratio <= 10": {
        "tolerances": 0.04,
        "max_weight_ratio": 10.0,
        "distance": "raking",
    },
}


def solved(data: dict, options: dict) -> dict:
    """Seconds and steps of one solve."""
    import time

    import numpy as np

    from microcalibrate import Calibration

    calibration = Calibration(**data, **options)
    clock, processor = time.perf_counter(), time.process_time()
    calibration.calibrate(progress=False)
    seconds = time.perf_counter() - clock, time.process_time() - processor
    history, targets = calibration.result.history, calibration.result.targets
    return {
        "seconds": round(seconds[0], 3),
        "processor_seconds": round(seconds[1], 3),
        "steps": len(history) - 1,
        "methods": history["method"].value_counts().to_dict(),
        "status": calibration.result.status.name,
        "held_targets": int((np.abs(targets["price"]) > 0).sum()),
        "objective": float(history["loss"].iloc[-1]),
    }


def both(data: dict, options: dict) -> dict:
    """The engine as it is, and with the interior point method alone."""
    from microcalibrate.engine.dual_newton import DualNewton

    found = {"as it is": solved(data, options)}
    plain = DualNewton.step
    DualNewton.step = lambda _: False
    try:
        found["interior point alone"] = solved(data, options)
    finally:
        DualNewton.step = plain
    first, second = (one["processor_seconds"] for one in found.values())
    return found | {"ratio_of_processor_seconds": round(first / second, 3)}


def large(folder: Path) -> dict:
    """The real problem with targets that its records can meet."""
    import numpy as np

    from microcalibrate import Calibration
    from microcalibrate.io import read_problem

    stored = read_problem(folder)
    soft = Calibration(stored.weights, stored.targets, stored.estimate_matrix, max_weight_ratio=8.0)
    soft.calibrate(progress=False)
    found = stored.estimate_matrix.T @ soft.weights
    moved = np.random.default_rng(0).uniform(0.97, 1.03, len(found))
    carried = np.asarray((stored.estimate_matrix != 0).sum(axis=0)).ravel()
    kept = (carried > 30) & (found != 0)
    return {
        "weights": stored.weights,
        "targets": (found * moved)[kept],
        "estimate_matrix": stored.estimate_matrix[:, kept],
    }


def main() -> None:
    """Solve everything in one run and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--problem", type=Path, default=HERE.parent.parent / "shared/data/us_tax_2023"
    )
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(asked.threads)

    from _table import save

    from microcalibrate import Calibration
    from microcalibrate.datasets import load_cps, load_us_targets

    whole = Calibration.from_table(load_cps(), load_us_targets()).problem
    data = {
        "weights": whole.design_weights,
        "targets": whole.targets,
        "estimate_matrix": whole.estimate_matrix,
    }
    both(data, EMBEDDED["chi2, bands of 30%"])  # compiles the kernels
    problems = [("embedded", data, EMBEDDED)]
    if asked.problem.is_dir():
        problems.append((asked.problem.name, large(asked.problem), LARGE))
    rows = {}
    for name, content, several in problems:
        shape = list(content["estimate_matrix"].shape)
        for label, options in several.items():
            rows[f"{name}: {label}"] = {"shape": shape, **both(content, options)}
            print(label, rows[f"{name}: {label}"], flush=True)
    save("bands", {"threads": asked.threads, "load": os.getloadavg()[0], "runs": rows})


if __name__ == "__main__":
    main()
