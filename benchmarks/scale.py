"""A sparse problem of 300,000 records x 5,000 targets, 20 non-zeros a record: time and memory.

    python benchmarks/scale.py [--records 300000] [--targets 5000]

Densified, its matrix would take 12 GB. There is no rival in this table: it shows what memory goes
where. `peak` is that of the whole process, `matrix` that of the matrix as it was loaded.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from _table import header, read, row, run, save, update_readme


def write_problem(folder: Path, n_records: int, n_targets: int, a_row: int, seed: int = 0) -> None:
    """Log-normal amounts in random columns; targets are those of perturbed weights, off by 2%."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, n_targets, size=(n_records, a_row))
    values = rng.lognormal(size=(n_records, a_row))
    rows = np.repeat(np.arange(n_records), a_row)
    shape = (n_records, n_targets)
    matrix = sp.csr_matrix((values.ravel(), (rows, columns.ravel())), shape=shape)
    weights = rng.uniform(100, 1000, n_records)
    wanted = matrix.T @ (weights * rng.lognormal(0, 0.5, n_records))
    wanted *= rng.lognormal(0, 0.02, n_targets)
    sp.save_npz(folder / "matrix.npz", matrix)
    np.savez(folder / "weights.npz", weights=weights)
    names = [f"target_{j}" for j in range(n_targets)]
    pd.DataFrame({"name": names, "target": wanted}).to_csv(folder / "targets.csv", index=False)


def main() -> None:
    """Run dense and to 30,000 records, and write the result file and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--targets", type=int, default=5_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    runs = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_problem(folder, options.records, options.targets, 20)
        for name, settings in (
            ("dense", []),
            ("30,000 records", ["--set", "target_records=30000"]),
        ):
            run(
                sys.executable,
                "_ours.py",
                *("--problem", folder, "--threads", options.threads, "--out", folder),
                *("--name", "run", *settings),
            )
            runs[name] = read(folder, "run")
    save("scale", {"runs": runs})
    lines = header("", "seconds", "steps", "gap", "median error", "Kish", "loaded GB", "peak GB")
    for name, record in runs.items():
        score = record["score"]
        lines.append(
            row(
                name,
                f"{record['fit_seconds']:.0f}",
                record["steps"],
                f"{record['gap']:.0e}",
                f"{score['median_error']:.3%}",
                f"{score['kish']:,.0f}",
                f"{record['memory_after_load_gb']:.2f}",
                f"{record['peak_memory_gb']:.2f}",
            )
        )
    update_readme("scale", lines)


if __name__ == "__main__":
    main()
