"""Entropy recalibration of 50,000 records to 200 targets below a hard cap: seconds and certificate.

    python benchmarks/recalibration.py [--records 50000] [--targets 200] [--threads 2]

Targets are sums over random groups of records, totals of amounts by group, and all of them are
reached by ratios between a half and two, so that they can hold exactly. Three problems: soft
targets, soft targets below a cap that a fiftieth of the prior weights exceed, and exact ones.
"""

import argparse
import os

N_TIMES = 3


def problem(n_records: int, n_targets: int, seed: int = 0):
    """Prior, targets and a sparse matrix with ten entries a row."""
    import numpy as np
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n_records), 10)
    columns = rng.integers(0, n_targets, len(rows))
    values = np.where(columns % 2 == 0, 1.0, rng.gamma(1.0, 20_000.0, len(rows)))
    matrix = sp.csr_array((values, (rows, columns)), (n_records, n_targets))
    matrix.sum_duplicates()
    prior = rng.lognormal(4.0, 1.2, n_records)
    targets = matrix.T @ (prior * rng.uniform(0.5, 2.0, n_records))
    return prior, targets, matrix


def main() -> None:
    """Solve each problem three times and keep the fastest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(options.threads)

    import time

    import numpy as np
    from _table import save

    from microcalibrate.regularise.recalibration import recalibrate

    recalibrate(*problem(500, 10), entropy_lambda=1e-3)  # compiles the kernels
    prior, targets, matrix = problem(options.records, options.targets)
    cap = float(np.quantile(prior, 0.98))
    runs = {}
    for name, keywords in (
        ("soft", {"entropy_lambda": 1e-4}),
        ("soft, capped", {"entropy_lambda": 1e-4, "cap": cap}),
        ("exact", {"tolerances": 0.0}),
    ):
        seconds, found = [], None
        for _ in range(N_TIMES):
            begun = time.perf_counter()
            found = recalibrate(prior, targets, matrix, **keywords)
            seconds.append(time.perf_counter() - begun)
        assert found is not None
        runs[name] = {
            "seconds": min(seconds),
            "all_seconds": seconds,
            "gap": found.gap,
            "kkt_residual": found.kkt_residual,
            "max_bound_violation": found.max_bound_violation,
            "n_at_cap": found.n_at_cap,
            "n_steps": found.n_steps,
            "root_mean_square_error": float(np.sqrt((found.errors**2).mean())),
        }
        print(name, runs[name])
    save(
        "recalibration",
        {
            "records": options.records,
            "targets": options.targets,
            "non_zeros": int(matrix.nnz),
            "threads": options.threads,
            "load_average": os.getloadavg()[0],
            "seed": 0,
            "cap": cap,
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
