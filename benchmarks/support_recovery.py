"""Known supports recovered by ten columns: SparseL0Linear beside abess and the lasso.

    python benchmarks/support_recovery.py [--peers-python PYTHON] [--seeds 50] [--timed 2]

500 rows, 2,000 features, 10 true ones; five correlation patterns, five signal-to-noise ratios. The
rivals run in a process of their own on the same problems (`_support_rivals.py`), seed by seed in
turn with ours. `--rivals-lines FILE` keeps their answers, so that a run can be taken up again; the
first `--timed` seeds are always run anew, and the seconds in the table are theirs. In the result,
`per_seed` has true features chosen / features chosen.
"""

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from _support_rivals import DESIGNS, N_FEATURES, N_ROWS, N_SEEDS, N_TRUE, SNRS, problem, record
from _table import DEFAULT_PEERS, HERE, header, row, run, save, update_readme

OURS = ("ours, k = 10", "ours, own choice")
# What is compared with what: where ten columns are asked for, and where the method chooses.
RIVALS = {
    "ours, k = 10": ("abess, k = 10", "lasso, its first 10"),
    "ours, own choice": ("abess, own choice", "lasso, cross-validated"),
}
METHODS = [name for ours, rivals in RIVALS.items() for name in (ours, *rivals)]


def solve(x, y) -> dict:
    """Chosen positions and seconds of ours."""
    from l0.selectors.sparse_regression import SparseL0Linear

    answers = {}
    for name, settings in zip(OURS, ({"k": N_TRUE}, {}), strict=True):
        start = time.perf_counter()
        chosen = SparseL0Linear(**settings).fit(x, y).support_
        answers[name] = {"chosen": chosen.tolist(), "seconds": time.perf_counter() - start}
    return answers


def read_lines(path: Path) -> dict:
    """The rivals' answers by problem."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line["design"], line["snr"], line["seed"]): line for line in lines}


def score(chosen: list[int], support) -> dict:
    """Measures of one answer."""
    hits = len(set(chosen) & set(support.tolist()))
    return {
        "hits": hits,
        "exact": float(hits == len(chosen) == len(support)),
        "precision": hits / max(len(chosen), 1),
        "recall": hits / len(support),
        "f1": 2 * hits / (len(chosen) + len(support)),
        "chosen": len(chosen),
    }


def measured(options: argparse.Namespace, lines_path: Path) -> tuple[dict, dict]:
    """Scores by setting, method and measure, a list over seeds; and versions."""
    kept = read_lines(lines_path)
    fresh = {key: line for key, line in kept.items() if key[2] >= options.timed}
    lines_path.write_text("".join(json.dumps(line) + "\n" for line in fresh.values()))
    scores: dict = {}
    versions: dict = {}
    for seed in range(options.seeds):
        arguments = ("--seeds", seed, "--out", lines_path)
        run(options.peers_python, "_support_rivals.py", *arguments)
        rivals = read_lines(lines_path)
        for design, snr in product(DESIGNS, SNRS):
            x, y, support = problem(design, snr, seed)
            line = rivals[design, snr, seed]
            if line["checksum"] != record(design, snr, seed, y)["checksum"]:
                raise SystemExit(f"{design}, {snr}, {seed}: the rivals had other data")
            versions |= line.get("versions", {})
            answers = line["answers"] | solve(x, y)
            lasso = answers["lasso, cross-validated"]
            answers["lasso, its first 10"] = {**lasso, "chosen": lasso["chosen"][:N_TRUE]}
            setting = scores.setdefault(f"{design}, {snr:g}", {name: [] for name in METHODS})
            for name in METHODS:
                found = score(answers[name]["chosen"], support)
                setting[name].append(found | {"seconds": answers[name]["seconds"]})
    return scores, versions


def summary(scores: dict, timed: int) -> dict:
    """Means over the seeds, and what ours differ from each rival: mean and standard error."""
    from statistics import mean, median, stdev

    settings = {}
    for setting, by_method in scores.items():
        means = {
            name: {
                measure: round(mean(found[measure] for found in found_by_seed), 4)
                for measure in ("exact", "precision", "recall", "f1", "chosen")
            }
            | {"seconds": round(median(f["seconds"] for f in found_by_seed[:timed]), 4)}
            for name, found_by_seed in by_method.items()
        }
        differences = {}
        for ours, rivals in RIVALS.items():
            for rival, measure in product(rivals, ("f1", "exact")):
                pairs = zip(by_method[ours], by_method[rival], strict=True)
                gaps = [mine[measure] - theirs[measure] for mine, theirs in pairs]
                error = stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
                differences[f"{ours} - {rival}, {measure}"] = [
                    round(mean(gaps), 4),
                    round(error, 4),
                ]
        settings[setting] = {"means": means, "differences": differences}
    return settings


def table(settings: dict) -> list[str]:
    """F1 and share of exact supports, in percent, at each setting; then the seconds."""
    lines = header(
        "design, signal to noise",
        *(f"**{name}**" if name in OURS else name for name in METHODS),
    )
    for setting, found in settings.items():
        cells = [
            f"{100 * means['f1']:.1f} ({100 * means['exact']:.0f})"
            for means in (found["means"][name] for name in METHODS)
        ]
        lines.append(row(setting, *cells))
    seconds = [
        sorted(found["means"][name]["seconds"] for found in settings.values())[len(settings) // 2]
        for name in METHODS
    ]
    lines.append(row("seconds, median", *(f"{value:.3f}" for value in seconds)))
    lines += ["", *verdict(settings)]
    return lines


def verdict(settings: dict) -> list[str]:
    """How often ours are behind or ahead by more than two standard errors."""
    lines = []
    for ours, rivals in RIVALS.items():
        for rival in rivals:
            for measure in ("f1", "exact"):
                gaps = [
                    found["differences"][f"{ours} - {rival}, {measure}"]
                    for found in settings.values()
                ]
                ahead = sum(gap > 2 * error and gap > 0 for gap, error in gaps)
                behind = sum(-gap > 2 * error and gap < 0 for gap, error in gaps)
                average = sum(gap for gap, _ in gaps) / len(gaps)
                lines.append(
                    f"- {ours} against {rival}, {measure}: ahead at {ahead}, behind at {behind} of "
                    f"{len(gaps)} settings by more than two standard errors; {100 * average:+.1f} "
                    "points on average."
                )
    return lines


def main() -> None:
    """Run everything, write the result file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers-python", type=Path, default=DEFAULT_PEERS)
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--timed", type=int, default=2)
    parser.add_argument("--rivals-lines", type=Path, help="JSON lines, kept from run to run")
    parser.add_argument("--table", action="store_true", help="write the last run's table only")
    options = parser.parse_args()
    if options.table:
        kept = json.loads((HERE / "results/support_recovery.json").read_text())
        update_readme("support_recovery", table(kept["settings"]))
        return
    # Threads are set before NumPy and torch are imported: they read them only once.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    import numpy as np
    import torch

    torch.set_num_threads(1)
    solve(np.random.default_rng(0).normal(size=(50, 100)), np.arange(50.0))  # loads what it needs
    with TemporaryDirectory() as scratch:
        lines_path = options.rivals_lines or Path(scratch) / "rivals.jsonl"
        scores, versions = measured(options, lines_path)
    settings = summary(scores, options.timed)
    content = {
        "rows": N_ROWS,
        "features": N_FEATURES,
        "true": N_TRUE,
        "seeds": options.seeds,
        "timed_seeds": options.timed,
        "threads": 1,
        "versions": versions | {"torch": torch.__version__, "numpy": np.__version__},
        "settings": settings,
        "rivals_kept_from_seed": options.timed if options.rivals_lines else None,
        "per_seed": {
            setting: {
                name: " ".join(f"{found['hits']}/{found['chosen']}" for found in by_seed)
                for name, by_seed in methods.items()
            }
            for setting, methods in scores.items()
        },
    }
    save("support_recovery", content)
    update_readme("support_recovery", table(settings))


if __name__ == "__main__":
    main()
