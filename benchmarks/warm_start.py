"""Replicates and folds from the prices of the whole sample, beside solves from nothing.

    python benchmarks/warm_start.py [--replicates 200] [--targets 100] [--threads 1]

The embedded data with a random choice of targets. A replicate multiplies design weights by random
factors: exponential ones (the Bayesian bootstrap), those of Rao and Wu's rescaled bootstrap with
`n - 1` records drawn of `n`, or those of a jackknife that deletes one of as many random groups of
records as there are replicates. Each is solved from nothing and from the prices of the whole
sample, one right after the other, and both times are processor seconds. A fold leaves out a fifth
of all targets. Replicates in which hard targets cannot all hold are counted apart.
"""

import argparse
import os

OPTIONS = {
    "raking, soft": {"distance": "raking"},
    "chi2, soft": {"distance": "chi2"},
    "raking, bands of 1%": {"distance": "raking", "tolerances": 0.01},
    "chi2, bands of 5%, ratio <= 5": {
        "distance": "chi2",
        "tolerances": 0.05,
        "max_weight_ratio": 5.0,
    },
}


def factors(scheme: str, n_records: int, seed: int, n_groups: int):
    """Random factors of design weights, mean 1."""
    import numpy as np

    if scheme == "jackknife":
        group = np.random.default_rng(0).permutation(n_records) % n_groups
        return np.where(group == seed, 0.0, n_groups / (n_groups - 1))
    rng = np.random.default_rng(seed)
    if scheme == "exponential":
        return rng.exponential(size=n_records)
    drawn = rng.multinomial(n_records - 1, np.full(n_records, 1 / n_records))
    return drawn * n_records / (n_records - 1)


def pair(problem, distance, start):
    """Seconds, steps and agreement of a solve from nothing and of one from given prices."""
    import time

    import numpy as np

    from microcalibrate.engine.solving import solve
    from microcalibrate.errors import InfeasibleTargets

    out, ratios = {}, []
    for name, prices in (("cold", None), ("warm", start)):
        begun = time.process_time()
        try:
            solution = solve(problem, distance, start_prices=prices)
        except InfeasibleTargets:
            return None
        out[f"{name}_seconds"] = time.process_time() - begun
        out[f"{name}_steps"] = len(solution.history) - 1
        out[f"{name}_gap"] = solution.gap
        ratios.append(solution.ratio)
    out["difference"] = float(np.abs(ratios[0] - ratios[1]).max())
    return out


def summary(pairs: list) -> dict:
    """Means over pairs, and the ratio of their seconds."""
    import numpy as np

    found = [one for one in pairs if one is not None]
    if not found:
        return {"solved": 0, "infeasible": len(pairs)}
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    seconds = [one["warm_seconds"] for one in found], [one["cold_seconds"] for one in found]
    return {
        "solved": len(found),
        "infeasible": len(pairs) - len(found),
        "ratio_of_seconds": means["warm_seconds"] / means["cold_seconds"],
        "ratio_of_median_seconds": float(np.median(seconds[0]) / np.median(seconds[1])),
        "ratio_of_steps": means["warm_steps"] / max(means["cold_steps"], 1e-9),
        **{key: means[key] for key in means if key.endswith(("seconds", "steps"))},
        "largest_gap": max(max(one["warm_gap"], one["cold_gap"]) for one in found),
        "largest_difference_of_ratios": max(one["difference"] for one in found),
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

    from dataclasses import replace

    import numpy as np
    from _table import save

    from microcalibrate import Calibration
    from microcalibrate.datasets import load_cps, load_us_targets
    from microcalibrate.engine.distances import distance_named
    from microcalibrate.engine.solving import solve
    from microcalibrate.errors import InfeasibleTargets
    from microcalibrate.evaluation.folds import target_folds, without_targets

    whole = Calibration.from_table(load_cps(), load_us_targets()).problem
    chosen = np.sort(np.random.default_rng(0).permutation(whole.n_targets)[: asked.targets])
    left_out = np.setdiff1d(np.arange(whole.n_targets), chosen)
    part = without_targets(whole, left_out)
    rows = {}
    for name, given in OPTIONS.items():
        options = dict(given)
        distance = distance_named(options.pop("distance"))
        keywords = {**part, **options}
        keywords["tolerances"] = options.get("tolerances", part["tolerances"])
        calibration = Calibration(**keywords)
        problem = calibration.problem
        try:
            start = solve(problem, distance).prices
        except InfeasibleTargets:
            rows[f"replicates, {name}"] = {"solved": 0, "infeasible": asked.replicates}
            continue
        pair(problem, distance, start)  # compiles the kernels
        for scheme in ("jackknife", "exponential", "rescaled"):
            pairs = []
            for seed in range(asked.replicates):
                factor = factors(scheme, problem.n_records, seed, asked.replicates)
                scaled = replace(problem, design_weights=problem.design_weights * factor)
                pairs.append(pair(scaled, distance, start))
            rows[f"replicates, {name}, {scheme}"] = summary(pairs)
    for name in ("chi2", "raking"):
        distance = distance_named(name)
        start = solve(whole, distance).prices
        pairs = []
        for fold in target_folds(whole, None, 5):
            kept = np.delete(np.arange(whole.n_targets), fold)
            problem = Calibration(**without_targets(whole, fold)).problem
            pairs.append(pair(problem, distance, start[kept]))
        rows[f"folds, {name}, soft"] = summary(pairs)
    for name, row in rows.items():
        print(name, {key: round(value, 5) for key, value in row.items()})
    save("warm_start", {**vars(asked), "seed": 0, "runs": rows})


if __name__ == "__main__":
    main()
