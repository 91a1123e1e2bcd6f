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

Settings are those that the authors of the packages use on problems of this kind, see AUTHORS;
`--set name=value`
changes one, `--settings defaults` takes those of the signatures instead. All methods start at the
design weights.
"""

import argparse
import json
import logging
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# What PolicyEngine passes in its own pipelines. microcalibrate:
# `policyengine_data/calibration/calibrate.py` of
# policyengine-data (epochs 600; 10 is the default noise_level, and the README's too). l0-python:
# `calibration/unified_calibration.py` of policyengine-us-data (preset "local" 1e-8, "national"
# 1e-4 for lambda_l0),
# with one difference: there all weights start at 100, here at the design weights.
AUTHORS: dict[str, dict[str, Any]] = {
    "microcalibrate": {"learning_rate": 0.2, "sparse_learning_rate": 0.1},
    "l0": {
        "beta": 0.35,
        "gamma": -0.1,
        "zeta": 1.1,
        "init_keep_prob": 0.999,
        "log_weight_jitter_sd": 0.05,
        "log_alpha_jitter_sd": 0.01,
        "lambda_l0": 1e-4,
        "lambda_l2": 1e-12,
        "lr": 0.15,
        "loss_type": "relative",
    },
    "adam": {"learning_rate": 0.15},
}
L0_FIT_SETTINGS = ("lambda_l0", "lambda_l2", "lr", "loss_type")
FAMILIES = ("microcalibrate-sparse", "microcalibrate", "l0", "adam")
METHODS = tuple(sorted(family + gates for family in FAMILIES for gates in ("", "-gated")))


@dataclass(frozen=True)
class Problem:
    """A calibration problem in memory; `matrix` is a NumPy array or SciPy CSR, shape `(n_records,
    n_targets)`."""

    matrix: Any
    targets: Any
    names: Any
    design_weights: Any


@dataclass(frozen=True)
class Fit:
    """What a method hands back: weights `(n_records,)`, gradient steps done, and notes for the
    JSON."""

    weights: Any
    steps: int
    prepare_seconds: float
    fit_seconds: float
    notes: dict[str, Any]


def load(path: Path) -> Problem:
    """Read a problem folder or a dense `.npz` file."""
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    if path.is_dir():
        table = pd.read_csv(path / "targets.csv")
        design_weights = np.load(path / "weights.npz")["weights"].astype(np.float64)
        matrix = sp.load_npz(path / "matrix.npz").tocsr()
        return Problem(
            matrix,
            table["target"].to_numpy(np.float64),
            table["name"].to_numpy(str),
            design_weights,
        )
    arrays = np.load(path)
    targets = arrays["targets"].astype(np.float64)
    names = np.array([f"target_{j}" for j in range(len(targets))])
    return Problem(arrays["matrix"], targets, names, arrays["weights"].astype(np.float64))


def with_positive_targets(problem: Problem) -> Problem:
    """The same problem with the columns of negative targets multiplied by -1, and their targets
    too."""
    import numpy as np
    import scipy.sparse as sp

    sign = np.where(problem.targets < 0, -1.0, 1.0)
    flips = sign.astype(problem.matrix.dtype)
    matrix = (
        (problem.matrix @ sp.diags(flips)).tocsr()
        if sp.issparse(problem.matrix)
        else problem.matrix * flips
    )
    return replace(problem, matrix=matrix, targets=problem.targets * sign)


def sparse_estimate_function(matrix):
    """`weights -> matrix.T @ weights` on torch tensors with a gradient, for the
    `estimate_function` of the package."""
    import scipy.sparse as sp
    from _adam import Estimates, Operator

    operator = Operator(sp.csr_matrix(matrix))
    return lambda weights: Estimates.apply(weights, operator)


def run_microcalibrate(
    problem: Problem, passes: int, seed: int, settings: dict, *, sparse: bool, gated: bool
) -> Fit:
    """`Calibration(...)` and `.calibrate()`, both inside the clock; the DataFrame that it asks for
    is made before."""
    import inspect

    import numpy as np
    import pandas as pd
    import torch

    from microcalibrate import Calibration

    # The package sets the level ERROR in its own `configure_logging`; else it warns once per rare
    # target.
    logging.getLogger().setLevel(logging.ERROR)
    np.random.seed(seed)  # noqa: NPY002 -- 0.19.1 draws its noise from the global generator and has no seed of its own.
    torch.manual_seed(seed)
    if "seed" in inspect.signature(Calibration).parameters:  # Later releases have one.
        settings = {"seed": seed, **settings}

    start = time.perf_counter()
    if sparse:
        estimates = {
            "estimate_function": sparse_estimate_function(problem.matrix),
            "target_names": problem.names,
        }
    else:
        dense = problem.matrix.toarray() if hasattr(problem.matrix, "toarray") else problem.matrix
        estimates = {
            "estimate_matrix": pd.DataFrame(
                dense.astype(np.float32, copy=False), columns=problem.names
            )
        }
        del dense
    prepared = time.perf_counter()
    calibration = Calibration(
        weights=problem.design_weights,
        targets=problem.targets,
        epochs=passes,
        regularize_with_l0=gated,
        **estimates,
        **settings,
    )
    constructed = time.perf_counter()
    calibration.calibrate()
    finished = time.perf_counter()

    weights = calibration.sparse_weights if gated else calibration.weights
    notes = {"constructor_seconds": constructed - prepared}
    return Fit(
        weights, 3 * passes if gated else passes, prepared - start, finished - prepared, notes
    )


def run_l0(problem: Problem, passes: int, seed: int, settings: dict, *, gated: bool) -> Fit:
    """`SparseCalibrationWeights(...)` and `.fit(...)`, both inside the clock; it asks for targets
    in rows."""
    import scipy.sparse as sp
    import torch
    from l0.calibration import SparseCalibrationWeights

    torch.manual_seed(
        seed
    )  # The gates are drawn from the global generator, the jitter from `seed`.
    model_settings = {
        name: value for name, value in settings.items() if name not in L0_FIT_SETTINGS
    }
    fit_settings = {name: value for name, value in settings.items() if name in L0_FIT_SETTINGS}
    if not gated:
        fit_settings["lambda_l0"] = 0.0

    start = time.perf_counter()
    rows_are_targets = sp.csr_matrix(problem.matrix.T)
    prepared = time.perf_counter()
    model = SparseCalibrationWeights(
        n_features=rows_are_targets.shape[1],
        init_weights=problem.design_weights,
        use_gates=gated,
        seed=seed,
        **model_settings,
    )
    model.fit(M=rows_are_targets, y=problem.targets, epochs=passes, **fit_settings)
    finished = time.perf_counter()

    with torch.no_grad():
        weights = model.get_weights(deterministic=True).cpu().numpy()
    return Fit(weights, passes, prepared - start, finished - prepared, {})


def run_adam(
    problem: Problem, passes: int, seed: int, settings: dict, checkpoints: list[int], *, gated: bool
) -> Fit:
    """Gradient descent of `_adam.py`, scored at the checkpoints with the clock stopped."""
    from _adam import descend
    from _scoring import score

    return Fit(
        *descend(
            problem.matrix,
            problem.targets,
            problem.design_weights,
            passes=passes,
            seed=seed,
            gated=gated,
            checkpoints=checkpoints,
            judge=lambda weights: score(
                weights, problem.matrix, problem.targets, problem.design_weights
            ),
            **settings,
        )
    )


def run(
    method: str, problem: Problem, passes: int, seed: int, settings: dict, checkpoints: list[int]
) -> Fit:
    """Run `method`; its name is a family and whether it has gates."""
    gated = method.endswith("-gated")
    family = method.removesuffix("-gated")
    if family.startswith("microcalibrate"):
        sparse = family.endswith("-sparse")
        return run_microcalibrate(problem, passes, seed, settings, sparse=sparse, gated=gated)
    if family == "l0":
        return run_l0(problem, passes, seed, settings, gated=gated)
    return run_adam(problem, passes, seed, settings, checkpoints, gated=gated)


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
