"""LeNet-300-100 and LeNet-5 on MNIST, shrunk to exact numbers of units: the tables of Louizos et
al. 2018, gradual magnitude pruning at equal units, the cost of a step, size and latency.

    python benchmarks/mnist.py [--data mnist.npz | FOLDER] [--part tables rivals step]
                               [--net lenet300 lenet5] [--seeds 0 1 2] [--peers-python PYTHON]

One thread. Runs that `results/mnist.json` already has with the same settings are not repeated, so
that an interrupted benchmark goes on where it was; `--again` repeats them. The last 5,000 training
images are the validation set, by which every setting was chosen. The test set is not looked at
before the end of a run: its "final" error is that of the last epoch; the curve and the "best"
error are only there because the published errors are the best ones over the epochs.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch is loaded.

import torch
from _mnist_data import Mnist, load
from _mnist_methods import BUDGETS, RECIPES, Recipe, shrink_by_gates
from _mnist_speed import latency, step_cost, weight_bytes
from _mnist_training import NETS
from _table import DEFAULT_PEERS, HERE, RESULTS, header, machine, row, save, update_readme

DATA = HERE.parents[1] / "shared" / "data" / "mnist" / "mnist.npz"
RIVALS = {"prune": "torch.nn.utils.prune", "torch-pruning": "Torch-Pruning"}


def main() -> None:
    """Run the parts that are asked for, and write the result file after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="NPZ file or folder of IDX files")
    parser.add_argument(
        "--part",
        nargs="+",
        default=["tables", "rivals", "step"],
        choices=["tables", "rivals", "step"],
    )
    parser.add_argument("--net", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--recipe", nargs="+", default=["main", "plain"], choices=["main", "plain"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--peers-python", type=Path, default=DEFAULT_PEERS)
    parser.add_argument("--again", action="store_true", help="repeat runs that are there already")
    parser.add_argument("--out", type=Path, help="write one run as JSON here (used internally)")
    parser.add_argument("--run", nargs=4, metavar=("NET", "UNITS", "RECIPE", "SEED"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run:
        net, units, recipe, seed = options.run
        record = one_run(load(options.data), net, units, recipe, int(seed))
        options.out.write_text(json.dumps(record))
        return
    results = Results(options.again)
    for part in options.part:
        PARTS[part](results, options)
    results.show()


class Results:
    """The result file, written anew after each run."""

    def __init__(self, again: bool) -> None:
        self.path, self.again = RESULTS / "mnist.json", again
        self.content: dict = {"tables": {}, "rivals": {}, "step": {}}
        self.read()

    def read(self) -> None:
        """Take what the file has by now: another part may run beside this one."""
        if self.path.exists():
            self.content |= json.loads(self.path.read_text())

    def has(self, part: str, key: str, settings: dict) -> bool:
        """Whether a run with these settings is there already."""
        there = self.content[part].get(key)
        same = there is not None and there.get("settings") == json.loads(json.dumps(settings))
        return same and not self.again

    def add(self, part: str, key: str, record: dict) -> None:
        """Keep the record of a run."""
        self.read()
        self.content[part][key] = record
        self.write()

    def write(self) -> None:
        """Write the file."""
        content = {k: v for k, v in self.content.items() if k not in ("machine", "date")}
        content["versions"] = {name: version(name) for name in ("l0-python", "torch", "numpy")}
        save("mnist", content)

    def show(self) -> None:
        """Put the tables into README.md."""
        self.read()
        update_readme("mnist", table(self.content))


def tables(results: Results, options: argparse.Namespace) -> None:
    """Train, shrink and fine-tune for each network, budget and seed."""
    for name in options.recipe:
        for seed in options.seeds:
            for net in options.net:
                if (name, net) not in RECIPES:
                    continue
                settings = dataclasses.asdict(RECIPES[name, net])
                for units in BUDGETS[net]:
                    key = f"{name}/{net}/{units}/{seed}"
                    if not results.has("tables", key, settings):
                        results.add("tables", key, _own_process(options, net, units, name, seed))


def rivals(results: Results, options: argparse.Namespace) -> None:
    """Gates against gradual magnitude pruning, at equal units and equal epochs."""
    settings = dataclasses.asdict(RECIPES["rivals", "lenet300"])
    for seed in options.seeds:
        for units in BUDGETS["rivals"]:
            key = f"l0/{units}/{seed}"
            if not results.has("rivals", key, settings):
                record = _own_process(options, "lenet300", units, "rivals", seed)
                results.add("rivals", key, record)
            for method in RIVALS:
                key = f"{method}/{units}/{seed}"
                if results.has("rivals", key, settings):
                    continue
                python = sys.executable if method == "prune" else options.peers_python
                words = ["--method", method, "--units", units, "--seed", seed]
                record = _process(python, "_mnist_rival.py", options.data, *words)
                results.add("rivals", key, record)


def step(results: Results, options: argparse.Namespace) -> None:
    """Cost of a training step with gates and budget, beside a dense one."""
    data = load(options.data)
    for net in options.net:
        results.add("step", net, step_cost(net, data))


PARTS = {"tables": tables, "rivals": rivals, "step": step}


def one_run(data: Mnist, net: str, units: str, name: str, seed: int) -> dict:
    """Gated training, projection, materialisation and fine-tuning: one row of a table."""
    recipe: Recipe = RECIPES[name, net]
    started = time.process_time()
    small, dense, record = shrink_by_gates(data, net, units, recipe, seed)
    record["cpu_seconds"] = time.process_time() - started
    record["settings"] = dataclasses.asdict(recipe)
    record["parameters"] = {
        which: sum(parameter.numel() for parameter in model.parameters())
        for which, model in {"dense": dense, "compact": small}.items()
    }
    record["weight_bytes"] = {"dense": weight_bytes(dense), "compact": weight_bytes(small)}
    record["latency_ms"] = latency({"dense": dense, "compact": small}, data)
    return record


def _own_process(options: argparse.Namespace, *run: object) -> dict:
    return _process(sys.executable, "mnist.py", options.data, "--run", *run)


def _process(python: Path | str, script: str, data: Path, *words: object) -> dict:
    """A run in a process of its own, with this project's `l0` and one thread."""
    out = RESULTS / f".mnist-{os.getpid()}.json"
    RESULTS.mkdir(exist_ok=True)
    # The environment of the other packages has an `l0` of its own.
    ours = str(HERE.parent / "packages" / "l0" / "src")
    environment = {**os.environ, "PYTHONPATH": ours, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [str(python), str(HERE / script), *map(str, words), "--data", str(data)]
    print(time.strftime("%H:%M:%S"), *command[1:], flush=True)
    try:
        subprocess.run([*command, "--out", str(out)], check=True, env=environment)
        return json.loads(out.read_text())
    finally:
        out.unlink(missing_ok=True)


def table(content: dict) -> list[str]:
    """The tables of README.md."""
    lines = header(
        "network", "kept", "recipe", "final test error", "best over epochs", "CPU seconds",
        "parameters", "weights, bytes", "latency, 1 image", "latency, 1,000 images",
    )  # fmt: skip
    for group, runs in _grouped(content["tables"]).items():
        name, net, _ = group
        kept = sorted({"-".join(map(str, run["kept"])) for run in runs})
        both = [
            f"{_middle(runs, key, 'dense'):,.0f} → {_middle(runs, key, 'compact'):,.0f}"
            for key in ("parameters", "weight_bytes")
        ]
        speed = []
        for batch in ("1", "1000"):
            dense, compact = (_middle(runs, "latency_ms", of, batch) for of in ("dense", "compact"))
            speed.append(f"{dense:.3g} → {compact:.3g} ms")
        lines.append(
            row(net, ", ".join(kept), name, _errors(runs, "final_test_error"),
                _errors(runs, "best_test_error_over_epochs"),
                f"{statistics.median(run['cpu_seconds'] for run in runs):.0f}", *both, *speed)
        )  # fmt: skip
    if content["rivals"]:
        lines += ["", *header("units of LeNet-300-100", "gates", *RIVALS.values())]
        by_group = _grouped(content["rivals"])
        for units in dict.fromkeys(units for _, units in by_group):
            cells = [
                _errors(by_group.get((method, units), []), "final_test_error")
                for method in ("l0", *RIVALS)
            ]
            lines.append(row(units, *cells))
    if content["step"]:
        lines += ["", *header("", "dense step, ms", "gated step, ms", "ratio")]
        for net, cost in content["step"].items():
            lines.append(
                row(
                    net,
                    f"{cost['dense_ms']:.2f}",
                    f"{cost['gated_ms']:.2f}",
                    f"{cost['ratio']:.2f}",
                )
            )
    about = machine()
    return [*lines, "", f"One thread; {about['cpu']}. Errors: mean over seeds, and each seed."]


def _grouped(runs: dict[str, dict]) -> dict[tuple[str, ...], list[dict]]:
    groups: dict[tuple[str, ...], list[dict]] = {}
    for key, run in sorted(runs.items(), key=lambda item: item[0].rpartition("/")[2]):
        groups.setdefault(tuple(key.split("/")[:-1]), []).append(run)
    return groups


def _errors(runs: list[dict], key: str) -> str:
    if not runs:
        return ""
    values = [run[key] for run in runs]
    return f"{statistics.mean(values):.2f}% ({', '.join(f'{value:.2f}' for value in values)})"


def _middle(runs: list[dict], *keys: str) -> float:
    values = []
    for run in runs:
        value = run
        for key in keys:
            value = value[key]
        values.append(value)
    return statistics.median(values)


if __name__ == "__main__":
    main()
