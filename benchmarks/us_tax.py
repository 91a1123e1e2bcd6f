"""A real surface, dense and on few records, beside the incumbents: one run, one machine, the same
data.

    python benchmarks/us_tax.py [--problem FOLDER] [--peers PYTHON] [--passes 600] [--ours-only]

A problem is a folder with `matrix.npz` (SciPy CSR), `targets.csv` and `weights.npz`. The peers'
Python comes from
`peers_env.py`. Each run is a process of its own; seconds are those of the fit, the check of its
input included.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from _table import DEFAULT_PEERS, HERE, header, machine, read, row, run, save, update_readme

OURS = {
    "dense, closeness 1e-4": ["closeness=1e-4", "max_weight_ratio=1000"],
    "dense, closeness 1e-5": ["closeness=1e-5", "max_weight_ratio=1000"],
    "20,000 records": ["target_records=20000"],
    "5,000 records": ["target_records=5000"],
    "2,000 records, kappa 0.3": ["target_records=2000", "kappa=0.3"],
    "20,000 records, kappa 3": ["target_records=20000", "kappa=3"],
    "5,000 records, kappa 3": ["target_records=5000", "kappa=3"],
}
# Name, method of _incumbent.py, whether it selects records, further arguments.
PEERS = {
    "l0-python": ("l0", False, []),
    "microcalibrate 0.19.1": ("microcalibrate", False, []),
    "Adam, hand-tuned": ("adam", False, []),
    "l0-python, gated": ("l0-gated", True, []),
    "microcalibrate 0.19.1, gated": ("microcalibrate-gated", True, []),
    "Adam, hand-tuned, gated": ("adam-gated", True, []),
}


def main() -> None:
    """Run everything and write the result file and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--problem", type=Path, default=HERE.parent.parent / "shared/data/us_tax_2023"
    )
    parser.add_argument("--peers", type=Path, default=DEFAULT_PEERS, help="Python of peers_env.py")
    parser.add_argument("--passes", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--reuse-peers", action="store_true", help="take theirs from the last run")
    options = parser.parse_args()

    runs: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        common = ["--problem", options.problem, "--threads", options.threads, "--out", folder]
        # One short run first: it compiles the loops into numba's cache, as an installed package
        # has them.
        run(sys.executable, "_ours.py", *common, "--name", "warm", "--set", "closeness=1")
        for number, (name, settings) in enumerate(OURS.items()):
            sets = [part for setting in settings for part in ("--set", setting)]
            run(sys.executable, "_ours.py", *common, "--name", f"ours-{number}", *sets)
            runs[name] = read(folder, f"ours-{number}")
        if options.reuse_peers:
            last = json.loads((HERE / "results/us_tax.json").read_text())["runs"]
            runs |= {name: last[name] for name in PEERS}
        elif not options.ours_only:
            for number, (name, (method, _, more)) in enumerate(PEERS.items()):
                peer = [
                    *common,
                    "--method",
                    method,
                    "--passes",
                    options.passes,
                    "--name",
                    f"peer-{number}",
                ]
                run(options.peers, "_incumbent.py", *peer, *more)
                runs[name] = read(folder, f"peer-{number}")
    if options.ours_only:
        for name, record in runs.items():
            print(f"{name:28} {record['fit_seconds']:7.2f} s  {record['score']}")
        return
    content = {
        "passes": options.passes,
        "threads": options.threads,
        "peers_reused": options.reuse_peers,
        "runs": runs,
    }
    save("us_tax", content)
    update_readme("us_tax", table(runs, options.passes))


def table(runs: dict[str, dict], passes: int) -> list[str]:
    """The table of README.md."""
    rivals = {
        selects: {
            name: runs[name]["fit_seconds"] for name, peer in PEERS.items() if peer[1] is selects
        }
        for selects in (False, True)
    }
    lines = header(
        "",
        "records",
        "seconds",
        "capped error",
        "median error",
        "Kish",
        "gap",
        "peak GB",
        "times l0-python",
        "times microcalibrate 0.19.1",
        "times Adam",
    )
    for name, record in runs.items():
        score = record["score"]
        ours = name in OURS
        ratios = ["", "", ""]
        if ours:
            slower = rivals["records" in name].values()
            ratios = [f"{seconds / record['fit_seconds']:.1f}" for seconds in slower]
        label = f"**{name}**" if ours else f"{name}, {passes} passes"
        lines.append(
            row(
                label,
                f"{score['records']:,}",
                f"{record['fit_seconds']:.1f}",
                f"{score['capped_error']:.2%}",
                f"{score['median_error']:.2%}",
                f"{score['kish']:,.0f}",
                f"{record['gap']:.0e}" if ours else "none",
                f"{record['peak_memory_gb']:.2f}",
                *ratios,
            )
        )
    shape = next(iter(runs.values()))["shape"]
    about = machine()
    lines += [
        "",
        f"{shape[0]:,} records x {shape[1]:,} targets; {about['cpu']}, {about['cores']} cores. "
        "In bold ours. "
        "“Times” is how many times longer the rival took.",
    ]
    return lines


if __name__ == "__main__":
    main()
