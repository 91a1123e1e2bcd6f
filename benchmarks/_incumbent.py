"""Run one method of the field on one problem, and write its weights, its seconds and its settings.

Run it with the Python of `peers_env.py`: the incumbents share import names with this project, so
they live apart.

    PYTHON benchmarks/_incumbent.py --problem FOLDER --method l0 --passes 600 --threads 2 --out
    FOLDER

A problem is a folder (`matrix.npz` as SciPy CSR, `targets.csv`, `weights.npz`) or one `.npz` file
with dense arrays
`matrix` (n_records, n_targets), `targets` and `weights`. Written are `METHOD.npy` (weights, zero
where a record is
dropped) and `METHOD.json`. The JSON exists, with status "started", before the fit: a run that the
system kills for its memory leaves a trace too.

Methods (a pass is one gradient step over all records; `steps` in the JSON counts them):

| method | what runs | gates |
|---|---|---|
| `microcalibrate` | `microcalibrate.Calibration(estimate_matrix=DataFrame)`, dense float32 | no |
| `microcalibrate-gated` | `regularize_with_l0=True`: `passes` dense, `2 * passes` gated | yes |
| `microcalibrate-sparse` | `Calibration(estimate_function=...)` over a sparse matrix | no |
| `microcalibrate-sparse-gated` | the same with `regularize_with_l0=True` | yes |
| `l0` | `l0.calibration.SparseCalibrationWeights(use_gates=False)` | no |
| `l0-gated` | `SparseCalibrationWeights`, Hard Concrete gates sampled in each pass | yes |
| `adam` | `_adam.py`: gradient descent as above, without the overhead of a package | no |
| `adam-gated` | the same with gates sampled in each pass | yes |

Settings are those that the authors of the packages use on problems of this kind, see AUTHORS in
`_incumbent_methods.py`; `--set name=value` changes one, `--settings defaults` takes those of the
signatures instead. All methods start at the design weights.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

from _incumbent_methods import AUTHORS, METHODS, run
from _problem import load, with_positive_targets


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, in GB (1e9 bytes)."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def versions() -> dict[str, str]:
    """Versions of Python and of every package that takes part."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("microcalibrate", "l0-python", "torch", "numpy", "scipy", "pandas"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--problem", type=Path, required=True, help="problem folder, or dense .npz file"
    )
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument(
        "--passes", type=int, required=True, help="gradient passes (the packages say epochs)"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", choices=("authors", "defaults"), default="authors")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting"
    )
    # microcalibrate 0.22.3 divides by max(target + 1, 1e-12): a negative target overflows unless
    # its sign is turned.
    parser.add_argument(
        "--positive-targets", action="store_true", help="multiply columns of negative targets by -1"
    )
    parser.add_argument(
        "--checkpoints", type=int, nargs="*", default=[], help="passes to score at (adam only)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the weights and the JSON"
    )
    parser.add_argument("--name", help="name of the two files (default: the method)")
    options = parser.parse_args(arguments)
    if options.checkpoints and not options.method.startswith("adam"):
        parser.error(
            "--checkpoints needs an adam method: the packages do not hand out weights on the way"
        )
    return options


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the method: its authors' (or none: the signature's), then those of
    `--set`."""
    family = options.method.split("-")[0]
    settings = dict(AUTHORS[family]) if options.settings == "authors" else {}
    for assignment in options.set:
        name, _, value = assignment.partition("=")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


def main(arguments: list[str] | None = None) -> int:
    """Run one method and write what came of it, also when it fails."""
    options = parse(arguments)
    # Threads are set before NumPy and torch are imported: some libraries read them only once.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    import numpy as np
    import torch
    from _scoring import score

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / (options.name or options.method)
    settings = settings_of(options)
    record: dict[str, Any] = {
        "status": "started",
        "method": options.method,
        "problem": options.problem.name,
        "passes": options.passes,
        "threads": options.threads,
        "seed": options.seed,
        "settings": settings,
        "settings_from": options.settings,
        "positive_targets": options.positive_targets,
        "versions": versions(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }

    def write() -> None:
        stem.with_name(stem.name + ".json").write_text(json.dumps(record, indent=2) + "\n")

    write()
    start = time.perf_counter()
    problem = load(options.problem)
    if options.positive_targets:
        problem = with_positive_targets(problem)
    record |= {
        "load_seconds": time.perf_counter() - start,
        "shape": list(problem.matrix.shape),
        "nonzeros": int(getattr(problem.matrix, "nnz", problem.matrix.size)),
        "memory_after_load_gb": peak_memory_gb(),
    }
    write()
    try:
        fit = run(
            options.method, problem, options.passes, options.seed, settings, options.checkpoints
        )
    except (MemoryError, RuntimeError, ValueError, TypeError) as error:
        record |= {
            "status": "failed",
            "error": f"{type(error).__name__}: {error}",
            "peak_memory_gb": peak_memory_gb(),
        }
        write()
        print(json.dumps(record), file=sys.stderr)
        return 1
    record |= {
        "status": "finished",
        "steps": fit.steps,
        "prepare_seconds": fit.prepare_seconds,
        "fit_seconds": fit.fit_seconds,
        "seconds_per_step": fit.fit_seconds / max(fit.steps, 1),
        "peak_memory_gb": peak_memory_gb(),
        "score": score(fit.weights, problem.matrix, problem.targets, problem.design_weights),
        **fit.notes,
    }
    np.save(stem.with_name(stem.name + ".npy"), fit.weights)
    write()
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
