"""Recover known supports with abess and the lasso, and write which features each of them chose.

    python benchmarks/_support_rivals.py --designs ar0.9 --snrs 1 5 --seeds 0 1 2 --out FILE

Runs in the environment of `peers_env.py`. The problems are made here, by `problem`, which
`support_recovery.py` imports for its own part; each record carries a checksum of its data.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path

N_ROWS, N_FEATURES, N_TRUE = 500, 2000, 10
DESIGNS = {"ar0": 0.0, "ar0.35": 0.35, "ar0.7": 0.7, "ar0.9": 0.9, "equal0.5": 0.5}
SNRS = [0.5, 1.0, 2.0, 5.0, 10.0]
N_SEEDS = 50
# Least angles give the whole lasso path exactly; coordinate descent (`LassoCV`) chooses the same
# penalty up to its grid, and takes up to a hundred times longer where features are alike.
FOLDS, LASSO_STEPS = 5, 200


def problem(design: str, snr: float, seed: int):
    """Standard normal features of one correlation pattern; ten coefficients of 1 or -1 among them.

    `ar`: correlation rho ** |i - j|; `equal`: rho between any two. The noise has the variance
    that makes `snr = b' Sigma b / variance` (Hastie, Tibshirani and Tibshirani 2020, "Best
    subset, forward stepwise or lasso?", Statistical Science 35, 579-592).
    """
    import numpy as np

    # The same features, coefficients and noise at each ratio, so that only the ratio changes.
    rng = np.random.default_rng([seed, list(DESIGNS).index(design)])
    rho = DESIGNS[design]
    x = rng.standard_normal((N_ROWS, N_FEATURES))
    support = np.sort(rng.choice(N_FEATURES, N_TRUE, replace=False))
    signs = rng.choice([-1.0, 1.0], N_TRUE)
    if design.startswith("ar"):
        for j in range(1, N_FEATURES):
            x[:, j] = rho * x[:, j - 1] + (1 - rho**2) ** 0.5 * x[:, j]
        covariance = rho ** np.abs(support[:, None] - support[None, :])
    else:
        x = rho**0.5 * rng.standard_normal((N_ROWS, 1)) + (1 - rho) ** 0.5 * x
        covariance = rho + (1 - rho) * np.eye(N_TRUE)
    variance = signs @ covariance @ signs / snr
    y = x[:, support] @ signs + variance**0.5 * rng.standard_normal(N_ROWS)
    return x, y, support


def record(design: str, snr: float, seed: int, y) -> dict:
    """What identifies a problem; the checksum shows that both environments made the same one."""
    return {"design": design, "snr": snr, "seed": seed, "checksum": round(float(abs(y).sum()), 6)}


def solve(x, y) -> dict:
    """Chosen positions and seconds of each rival."""
    import numpy as np
    from abess import LinearRegression
    from sklearn.linear_model import LassoLarsCV

    answers = {}
    for name, settings in {
        "abess, k = 10": {"support_size": N_TRUE},
        "abess, own choice": {},
    }.items():
        start = time.perf_counter()
        coef = LinearRegression(**settings).fit(x, y).coef_
        seconds = time.perf_counter() - start
        answers[name] = {"chosen": np.flatnonzero(coef).tolist(), "seconds": seconds}
    start = time.perf_counter()
    coef = LassoLarsCV(cv=FOLDS, max_iter=LASSO_STEPS).fit(x, y).coef_
    seconds = time.perf_counter() - start
    order = np.argsort(-np.abs(coef), kind="stable")
    order = order[: np.count_nonzero(coef)].tolist()
    answers["lasso, cross-validated"] = {"chosen": order, "seconds": seconds}
    return answers


def versions() -> dict[str, str]:
    """What is compared."""
    return {name: version(name) for name in ("abess", "scikit-learn", "numpy")}


def main() -> None:
    """Run and write; a line for each problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS))
    parser.add_argument("--snrs", nargs="+", type=float, default=SNRS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(N_SEEDS)))
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines, appended to")
    options = parser.parse_args()
    # Threads are set before NumPy is imported: it reads them only once.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    done = set()
    if options.out.exists():
        lines = [json.loads(line) for line in options.out.read_text().splitlines()]
        done = {(line["design"], line["snr"], line["seed"]) for line in lines}
    for seed, design, snr in product(options.seeds, options.designs, options.snrs):
        if (design, snr, seed) in done:
            continue
        x, y, _ = problem(design, snr, seed)
        line = {**record(design, snr, seed, y), "answers": solve(x, y), "versions": versions()}
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
