"""Make the environment in which the incumbents run, so that anyone can repeat the comparison.

    python benchmarks/peers_env.py                       # into benchmarks/.venv-incumbents
    python benchmarks/peers_env.py FOLDER --python PYTHON

They get an environment of their own because they share the import names `microcalibrate` and `l0`
with this project.
Python 3.11 or newer; torch comes as whatever wheel pip finds for that Python and this machine, so
set pip up (its
configuration file, or `PIP_*` variables) if you want the build for CPUs only. The last line
printed is the path of the new environment's Python.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / ".venv-incumbents"
TORCH = "torch==2.13.0"
# Without their dependencies, since these would choose another torch, and without their Python
# limits, since newer
# releases of microcalibrate ask for 3.13 though nothing in them needs more than 3.11.
INCUMBENTS = ["microcalibrate==0.19.1", "l0-python==0.6.2"]
DEPENDENCIES = ["numpy==2.4.6", "pandas==3.1.1", "scipy==1.17.1", "tqdm==4.70.1", "optuna==5.0.0"]
# Best subsets and the lasso beside our sparse regression; structured pruning beside our networks.
OTHERS = ["abess==0.4.11", "scikit-learn==1.9.1", "torch-pruning==1.6.1"]


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def steps(folder: Path, base_python: str, incumbents: list[str]) -> list[list[str]]:
    """The commands to run, in order."""
    pip = [str(python_of(folder)), "-m", "pip", "install"]
    return [
        [base_python, "-m", "venv", "--clear", str(folder)],
        [*pip, TORCH],
        [*pip, "--no-deps", "--ignore-requires-python", *incumbents],
        [*pip, *DEPENDENCIES, *OTHERS],
        [str(python_of(folder)), "-c", "import microcalibrate, l0.calibration"],
    ]


def main() -> int:
    """Run the steps, stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="Python 3.11 or newer to build on (default: this one)",
    )
    parser.add_argument(
        "--incumbents",
        nargs="+",
        default=INCUMBENTS,
        help="other releases, such as l0-python==0.6.2",
    )
    options = parser.parse_args()
    for command in steps(options.folder.absolute(), options.python, options.incumbents):
        print("+", *command, flush=True)
        done = subprocess.run(command, check=False)
        if done.returncode:
            print(
                f"failed with exit status {done.returncode}; nothing after this step ran",
                file=sys.stderr,
            )
            return done.returncode
    print(python_of(options.folder.absolute()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
