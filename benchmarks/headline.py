"""Small and dense problems: beside the incumbents, and beside R on one thread with exact targets.

    python benchmarks/headline.py [--peers PYTHON] [--rscript Rscript]

Part one: 1,000 x 5 and 100,000 x 10, soft targets, beside the incumbents at the settings of their
documentation.
Part two: dense columns, targets exact, one thread each, beside R's `survey::calibrate` and
`sampling::calib`, whose
seconds are those of the call alone; ours are those of `Calibration(...)` and `.calibrate()`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _table import DEFAULT_PEERS, HERE, header, read, row, run, save, update_readme

INCUMBENT_SIZES = ((1_000, 5), (100_000, 10))
R_SIZES = ((100_000, 10), (100_000, 100), (280_000, 100))
# README of microcalibrate 0.19.1: 500 epochs at the default learning rate of its signature;
# l0-python: its signature.
INCUMBENTS = {
    "microcalibrate 0.19.1": ("microcalibrate", 500),
    "microcalibrate 0.19.1, gated": ("microcalibrate-gated", 500),
    "l0-python 0.6.2": ("l0", 1000),
}


def problem(n_records: int, n_targets: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Log-normal columns and targets within 5% of their design-weighted totals: feasible, and not
    already met."""
    rng = np.random.default_rng(seed)
    matrix = rng.lognormal(size=(n_records, n_targets))
    weights = rng.uniform(1, 5, n_records)
    targets = (matrix.T @ weights) * rng.uniform(0.95, 1.05, n_targets)
    return {"matrix": matrix, "weights": weights, "targets": targets}


def beside_incumbents(peers: Path, folder: Path) -> list[dict]:
    """Part one."""
    rows = []
    for n_records, n_targets in INCUMBENT_SIZES:
        path = folder / f"{n_records}x{n_targets}.npz"
        content = problem(n_records, n_targets)
        np.savez(path, **content)
        common = ["--problem", path, "--threads", 2, "--out", folder]
        run(sys.executable, "_ours.py", *common, "--name", "ours", "--repeat", 11)
        record = read(folder, "ours") | {"name": "ours", "shape": [n_records, n_targets]}
        rows.append(record)
        for number, (name, (method, passes)) in enumerate(INCUMBENTS.items()):
            run(
                peers,
                "_incumbent.py",
                *common,
                "--method",
                method,
                "--passes",
                passes,
                "--settings",
                "defaults",
                "--name",
                f"peer-{number}",
            )
            record = read(folder, f"peer-{number}")
            if record["status"] == "finished":
                weights = np.load(folder / f"peer-{number}.npy")
                error = content["matrix"].T @ weights / content["targets"] - 1
                record["max_relative_error"] = float(np.abs(error).max())
            rows.append(
                record | {"name": f"{name}, {passes} passes", "shape": [n_records, n_targets]}
            )
    return rows


def beside_r(rscript: str, folder: Path) -> list[dict]:
    """Part two: each size in one process of R and one of ours per distance, in turn, three
    times."""
    rows = []
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for n_records, n_targets in R_SIZES:
        content = problem(n_records, n_targets)
        content["matrix"].ravel(order="F").tofile(folder / "X.f64")
        content["weights"].tofile(folder / "d.f64")
        content["targets"].tofile(folder / "totals.f64")
        path = folder / "dense.npz"
        np.savez(path, **content)
        seconds: dict[str, list[float]] = {}
        errors: dict[str, float] = {}
        for _ in range(3):
            for method in ("survey-linear", "sampling-linear", "survey-raking", "sampling-raking"):
                command = [
                    rscript,
                    str(HERE / "r_calibrate.R"),
                    str(folder),
                    str(n_records),
                    str(n_targets),
                    method,
                ]
                lines = subprocess.run(
                    command, env=one_thread, check=True, capture_output=True, text=True
                ).stdout
                answer = json.loads(lines.splitlines()[-1])
                seconds.setdefault(method, []).append(answer["seconds"])
                errors[method] = answer["max_relative_error"]
            for method, settings in (
                ("ours-linear", ["distance=chi2", "min_weight_ratio=-inf"]),
                ("ours-raking", ["distance=raking"]),
            ):
                sets = [
                    part for setting in [*settings, "tolerances=0"] for part in ("--set", setting)
                ]
                run(
                    sys.executable,
                    "_ours.py",
                    "--problem",
                    path,
                    "--threads",
                    1,
                    "--out",
                    folder,
                    "--name",
                    method,
                    "--repeat",
                    3,
                    *sets,
                )
                record = read(folder, method)
                seconds.setdefault(method, []).append(record["fit_seconds"])
                errors[method] = record["max_relative_error"]
        for distance in ("linear", "raking"):
            names = [f"{who}-{distance}" for who in ("ours", "survey", "sampling")]
            rows.append(
                {
                    "shape": [n_records, n_targets],
                    "distance": distance,
                    "seconds": {name: sorted(seconds[name])[1] for name in names},
                    "all_seconds": {name: seconds[name] for name in names},
                    "max_relative_error": {name: errors[name] for name in names},
                }
            )
    return rows


def main() -> None:
    """Run both parts and write the result file and the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=DEFAULT_PEERS, help="Python of peers_env.py")
    parser.add_argument("--rscript", default="Rscript")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        incumbents = beside_incumbents(options.peers, Path(scratch))
        r = beside_r(options.rscript, Path(scratch)) if shutil.which(options.rscript) else []
    save("headline", {"incumbents": incumbents, "r": r})
    update_readme("headline", tables(incumbents, r))


def tables(incumbents: list[dict], r: list[dict]) -> list[str]:
    """The tables of README.md."""
    lines = header("records x targets", "method", "seconds", "largest relative error", "times ours")
    ours: dict = {}
    for record in incumbents:
        if record["name"] == "ours":
            ours = record
        times = record["fit_seconds"] / ours["fit_seconds"]
        shape = " x ".join(f"{size:,}" for size in record["shape"])
        name = "**ours**" if record is ours else record["name"]
        lines.append(
            row(
                shape,
                name,
                f"{record['fit_seconds']:.4f}",
                f"{record['max_relative_error']:.1e}",
                f"{times:,.0f}",
            )
        )
    lines += ["", "Exact targets, one thread each, seconds:", ""]
    lines += header(
        "records x targets",
        "distance",
        "**ours**",
        "`sampling::calib`",
        "`survey::calibrate`",
        "our largest error",
        "times sampling",
        "times survey",
    )
    for record in r:
        shape = " x ".join(f"{size:,}" for size in record["shape"])
        mine, survey, sampling = record["seconds"].values()
        error = next(iter(record["max_relative_error"].values()))
        lines.append(
            row(
                shape,
                record["distance"],
                f"{mine:.3f}",
                f"{sampling:.3f}",
                f"{survey:.3f}",
                f"{error:.0e}",
                f"{sampling / mine:.1f}",
                f"{survey / mine:.1f}",
            )
        )
    return lines


if __name__ == "__main__":
    main()
