"""How good are k records? Ways to choose them, from 1,000 to 100,000, on targets held out.

    python benchmarks/frontier.py [--problem FOLDER] [--draws 1] [--quick] [--table]

Five folds of targets, those with correlated columns in one fold; each is held out once, with a seed
of its own. Every method starts from the same dense solution of the fold and ends with the same
refit; only the records chosen and the weights that they start from differ. Every run is written
into `results/frontier.json` when it is done, and a run that is there is not done again: delete the
file to start anew.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

from _table import HERE, RESULTS, machine, update_readme

COUNTS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
N_FOLDS = 5
# Columns correlated beyond this are held out together.
CORRELATED = 0.8
# Chance has no part in these, or so much work that one draw per fold must do.
DRAWN_ONCE = ("top k", "L1", "gates, Adam", "sampled_gates")
COLUMNS = (
    "method",
    "seed",
    "draw",
    "records",
    "held_out",
    "train",
    "kish",
    "drift",
    "draw_seconds",
    "refit_seconds",
)
DENSE = "dense"


class Store:
    """Runs in a file that is whole at any time."""

    def __init__(self, path: Path, about: dict):
        self._path = path
        self._about = about
        self.runs: list[dict] = []
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["settings"] != about["settings"]:
                sys.exit(f"{path} has runs at other settings. Delete it, or name another --out.")
            self._about["loaded"] = about["loaded"] or kept["loaded"]
            self.runs = [dict(zip(kept["columns"], run, strict=True)) for run in kept["runs"]]

    def has(self, **key: object) -> bool:
        """Whether a run is there."""
        return any(all(run[name] == value for name, value in key.items()) for run in self.runs)

    @property
    def loaded(self) -> bool:
        """Whether others used the machine while some of it ran."""
        return bool(self._about["loaded"])

    def add(self, run: dict) -> None:
        """Keep one more run."""
        self.runs.append(
            {
                name: float(f"{value:.6g}") if isinstance(value, float) else value
                for name, value in run.items()
            }
        )
        self.write()

    def write(self) -> None:
        """Write all, in one go."""
        from microcalibrate.atomic import atomic_path

        head = json.dumps({**self._about, "columns": COLUMNS}, indent=1)
        rows = ",\n  ".join(json.dumps([run[name] for name in COLUMNS]) for run in self.runs)
        with atomic_path(self._path) as unfinished:
            unfinished.write_text(f'{head[:-2]},\n "runs": [\n  {rows}\n ]\n}}\n')


def measure(options: argparse.Namespace, store: Store) -> None:
    """Run what is not there yet."""
    import numpy as np
    from _frontier_measures import outputs_by_state
    from _problem import load

    from microcalibrate.evaluation.folds import target_folds
    from microcalibrate.problem import Problem

    loaded = load(options.problem)
    problem = Problem.build(
        loaded.design_weights,
        loaded.targets,
        loaded.matrix,
        target_names=[str(name) for name in loaded.names],
    )
    if options.quick:
        some = np.random.default_rng(0).random(problem.n_records) < 0.1
        matrix = problem.estimate_matrix[some]
        there = np.flatnonzero(abs(matrix).sum(axis=0) > 0)
        problem = Problem.build(
            problem.design_weights[some] * 10,
            problem.targets[there],
            matrix[:, there],
            target_names=[problem.target_names[j] for j in there],
        )
    outputs, _ = outputs_by_state(problem)
    folds = target_folds(problem, None, N_FOLDS, threshold=CORRELATED)
    for draw in range(options.draws):
        for seed in options.folds:
            fold = folds[seed]
            measure_fold(options, store, problem, outputs, fold, seed, draw)


def measure_fold(options, store, problem, outputs, fold, seed: int, draw: int) -> None:
    """Every method at every count, without the targets of one fold."""
    from _frontier_draws import methods
    from _frontier_measures import Judge

    from microcalibrate import Calibration
    from microcalibrate.engine.solving import solve
    from microcalibrate.evaluation.folds import without_targets
    from microcalibrate.progress import ProgressBar
    from microcalibrate.reduction import refit_records

    start = time.perf_counter()
    calibration = Calibration(**without_targets(problem, fold))
    part, settings = calibration.problem, calibration.settings
    solution = solve(part, settings.distance, closeness=settings.closeness)
    dense_weights = solution.ratio * problem.design_weights
    judge = Judge(problem, outputs, fold, dense_weights)
    if not store.has(method=DENSE, seed=seed):
        store.add(
            {
                **{"method": DENSE, "seed": seed, "draw": 0, **judge(dense_weights)},
                "records": int((dense_weights > 0).sum()),
                "draw_seconds": 0.0,
                "refit_seconds": time.perf_counter() - start,
            }
        )
    for name, choose in methods(part, dense_weights, seed).items():
        wanted = options.methods is None or name in options.methods
        if not wanted or (draw > 0 and name in DRAWN_ONCE):
            continue
        for records in options.counts:
            key = {"method": name, "seed": seed, "draw": draw, "records": records}
            if store.has(**key):
                continue
            start = time.perf_counter()
            chosen = choose(records, seed + N_FOLDS * draw)
            drawn = time.perf_counter()
            solution, weights = refit_records(part, settings, chosen, 1000, ProgressBar(False))
            ended = time.perf_counter()
            if solution.status.name != "CONVERGED" or (weights > 0).sum() != records:
                raise RuntimeError(f"{key}: {solution.status.name}, {(weights > 0).sum()} records")
            seconds = {"draw_seconds": drawn - start, "refit_seconds": ended - drawn}
            store.add({**key, **judge(weights), **seconds})
        print(f"{time.strftime('%H:%M:%S')}  draw {draw}, fold {seed}: {name}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--problem", type=Path, default=HERE.parent.parent / "shared/data/us_tax_2023"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "frontier.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folds", type=int, nargs="*", default=range(N_FOLDS), help="only these")
    parser.add_argument("--draws", type=int, default=1, help="per fold, where chance has a part")
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument(
        "--join", type=Path, nargs="*", default=[], help="add the runs of these files, made apart"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the records, to try")
    parser.add_argument("--loaded", action="store_true", help="others ran on this machine too")
    parser.add_argument("--table", action="store_true", help="write the last run's tables only")
    return parser.parse_args()


def main() -> None:
    """Run everything that is not there yet; write tables and figure."""
    options = parse()
    # Threads are set before NumPy and numba are imported: they read them only once.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    settings = {
        "quick": options.quick,
        "folds": N_FOLDS,
        "threshold": CORRELATED,
        "closeness": 1e-4,
        "refit_closeness": 1e-3,
    }
    about = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "threads": options.threads,
        "loaded": options.loaded,
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba", "torch")},
        "settings": settings,
    }
    store = Store(options.out, about)
    for path in options.join:
        for run in Store(path, about).runs:
            if not store.has(**{name: run[name] for name in ("method", "seed", "draw", "records")}):
                store.add(run)
    if not options.table:
        measure(options, store)
    store.write()
    if not options.quick:
        from _frontier_figure import write_figure
        from _frontier_table import tables

        update_readme("frontier", tables(store.runs, loaded=store.loaded))
        write_figure(store.runs, RESULTS / "frontier.svg")


if __name__ == "__main__":
    main()
