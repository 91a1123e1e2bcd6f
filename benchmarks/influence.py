"""Influence of 1,000,000 records on 1,000 statistics: seconds, and memory above the inputs.

    python benchmarks/influence.py [--records 1000000] [--peer-records 50000]

The peer is what one would write with NumPy and pandas: a dense matrix of records x statistics,
divided by its column sums, without leave-one-out, standard errors, or lineages. At a million
records it would take 8 GB, so it runs on fewer, beside ours on the same number. Each run is a
process of its own; memory is the peak of the process less what it held before the diagnosis.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from _table import save

SLICES = {"decile": 10, "region": 12, "age band": 8, "tenure": 3}
N_METRICS = 29
"""Times 36 cells (all records, and those of the slices with sex): 1,044 statistics."""


def table(n_records: int, seed: int = 0) -> pd.DataFrame:
    """Gamma-distributed amounts, a third of them zero, log-normal weights, four slices."""
    rng = np.random.default_rng(seed)
    amounts = {
        f"metric {number}": rng.gamma(0.5, 20_000.0, n_records) * (rng.random(n_records) < 2 / 3)
        for number in range(N_METRICS)
    }
    cells = {name: rng.integers(0, n, n_records) for name, n in SLICES.items()}
    cells["sex"] = rng.integers(0, 2, n_records)
    return pd.DataFrame({"weight": rng.lognormal(4.0, 1.5, n_records), **amounts, **cells})


def ours(data: pd.DataFrame) -> dict[str, float]:
    from microcalibrate.diagnostics import Metric, Slice, Surface, diagnose

    surface = Surface(
        tuple(Metric(f"metric {number}", f"metric {number}") for number in range(N_METRICS)),
        tuple(Slice(name, name) for name in [*SLICES, "sex"]),
    )
    found = diagnose(data, "weight", surface=surface, progress=False)
    return {
        "statistics": len(found.cells),
        "stored": len(found.influence),
        "largest_share": float(found.influence.share.max()),
    }


def peer(data: pd.DataFrame) -> dict[str, float]:
    """Every share of every record, at once."""
    dummies = [pd.DataFrame({"all": np.ones(len(data))})]
    dummies += [pd.get_dummies(data[name]).astype(float) for name in [*SLICES, "sex"]]
    cells = pd.concat(dummies, axis=1).to_numpy()
    weights = data["weight"].to_numpy()
    parts = [
        (weights * data[f"metric {number}"].to_numpy())[:, None] * cells
        for number in range(N_METRICS)
    ]
    amounts = np.abs(np.hstack(parts))
    shares = amounts / amounts.sum(axis=0)
    stored = np.argwhere(shares > 0.01)
    return {
        "statistics": shares.shape[1],
        "stored": len(stored),
        "largest_share": float(shares.max()),
    }


def one_run(method: str, n_records: int) -> None:
    data = table(n_records)
    if method == "ours":
        ours(table(1000, seed=1))  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu_begun, begun = time.process_time(), time.perf_counter()
    found = {"ours": ours, "peer": peer}[method](data)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found |= {"seconds": seconds, "cpu_seconds": cpu_seconds}
    found |= {"load_average": os.getloadavg()[0], "gb_above_inputs": (peak - before) / 2**20}
    found |= {"inputs_gb": float(data.memory_usage(deep=True).sum() / 2**30)}
    print(json.dumps(found))


def main() -> None:
    """Run ours at full size, and ours and the peer at the smaller one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--peer-records", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=["ours", "peer"])
    options = parser.parse_args()
    if options.one:
        one_run(options.one, options.records)
        return
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    runs = {}
    for name, method, n_records in (
        ("ours", "ours", options.records),
        ("ours, small", "ours", options.peer_records),
        ("dense NumPy and pandas, small", "peer", options.peer_records),
    ):
        command = [sys.executable, __file__, "--one", method, "--records", str(n_records)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **threads}
        )
        runs[name] = {"records": n_records, **json.loads(done.stdout)}
        print(name, runs[name])
    save("influence", {"threads": options.threads, "seed": 0, "runs": runs})


if __name__ == "__main__":
    main()
