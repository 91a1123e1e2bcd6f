"""What a replicate costs beside a calibration from nothing, both measured in one run.

    python benchmarks/replicates.py [--replicates 200] [--targets 100] [--threads 1]

The embedded data with a random choice of targets, and 200 bootstrap replicates (Rao and Wu: `n - 1`
records drawn of `n`, with replacement). A cold solve is `solve` of a replicate's own problem from
nothing. A warm replicate is one of `Resolver`: the layout of the matrix is kept, replicates are
solved side by side from the prices of the whole sample, and those that plain steps do not solve
take the usual road. Its seconds include the preparation, shared out over all replicates, and the
replicates that took the usual road. Seconds are those of the processor. Replicates in which hard
targets cannot all hold are left out on both sides.
"""

import argparse
import os

OPTIONS = {
    "linear, exact": {"tolerances": 0.0, "min_weight_ratio": -float("inf")},
    "raking, exact": {"tolerances": 0.0, "distance": "raking"},
    "linear, soft": {"min_weight_ratio": -float("inf")},
    "chi2, soft": {},
    "raking, soft": {"distance": "raking"},
    "logit, soft": {"distance": "logit", "min_weight_ratio": 0.1, "max_weight_ratio": 6.0},
    "raking, bands of 1%": {"distance": "raking", "tolerances": 0.01},
    "chi2, bands of 5%, ratio <= 5": {"tolerances": 0.05, "max_weight_ratio": 5.0},
}


def compare(calibration, factors) -> dict:
    """Seconds of both roads over the replicates in `factors`, and how far they are apart."""
    import time
    from dataclasses import replace

    import numpy as np

    from microcalibrate.engine.resolving import Resolver
    from microcalibrate.engine.solving import solve
    from microcalibrate.errors import InfeasibleTargets

    optimum, problem = calibration.optimum, calibration.problem
    cold, cold_weights = [], []
    for factor in factors.T:
        changed = replace(problem, design_weights=problem.design_weights * factor)
        begun = time.process_time()
        try:
            solution = solve(changed, optimum.distance, closeness=optimum.closeness)
        except InfeasibleTargets:
            cold_weights.append(None)
        else:
            cold_weights.append(solution.ratio * changed.design_weights)
        cold.append(time.process_time() - begun)
    feasible = np.array([weights is not None for weights in cold_weights])
    begun = time.process_time()
    resolver = Resolver(optimum)
    warm_weights = list(resolver.weights(factors[:, feasible]))
    warm = (time.process_time() - begun) / max(int(feasible.sum()), 1)
    apart = [
        float(np.abs(one - other).max() / other.max())
        for one, other in zip(
            warm_weights, [one for one in cold_weights if one is not None], strict=True
        )
    ]
    return {
        "replicates": int(feasible.sum()),
        "infeasible": int((~feasible).sum()),
        "by_plain_steps": resolver.n_by_newton,
        "cold_seconds": float(np.mean(np.array(cold)[feasible])),
        "warm_seconds": warm,
        "ratio_of_seconds": warm / float(np.mean(np.array(cold)[feasible])),
        "largest_difference_over_largest_weight": max(apart, default=0.0),
    }


def main() -> None:
    """Solve everything in one run and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(asked.threads)

    import numpy as np
    from _table import save

    from microcalibrate import Calibration
    from microcalibrate.datasets import load_cps, load_us_targets
    from microcalibrate.errors import InfeasibleTargets
    from microcalibrate.evaluation.folds import without_targets
    from microcalibrate.inference import Replication, SurveyDesign

    whole = Calibration.from_table(load_cps(), load_us_targets()).problem
    chosen = np.sort(np.random.default_rng(0).permutation(whole.n_targets)[: asked.targets])
    part = without_targets(whole, np.setdiff1d(np.arange(whole.n_targets), chosen))
    drawn = Replication.bootstrap(
        SurveyDesign(), n_records=whole.n_records, n_replicates=asked.replicates
    )
    factors = drawn.factors[drawn.unit]
    rows = {}
    for name, options in OPTIONS.items():
        calibration = Calibration(**{**part, **options})
        try:
            calibration.calibrate(progress=False)
        except InfeasibleTargets:
            rows[name] = {"replicates": 0, "infeasible": asked.replicates}
            continue
        compare(calibration, factors[:, :2])  # compiles the kernels
        rows[name] = compare(calibration, factors)
        print(f"{name:32}", {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    save("replicates", {**vars(asked), "seed": 0, "runs": rows})


if __name__ == "__main__":
    main()
