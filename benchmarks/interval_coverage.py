"""How often 95% intervals hold what is true, over samples drawn from the embedded data.

    python benchmarks/interval_coverage.py [--samples 2000] [--replicate-samples 300]

The 25,000 tax units are the population, each standing for itself; what is true is then known. Each
sample draws clusters of tax units with replacement in six strata, is calibrated to known totals,
and gives intervals for a total, a mean, a ratio, a median and a mean in a domain, none of them
about a target. Then the targets are not the true totals but estimates of them, with errors drawn
anew for each sample: intervals that know of these errors, and intervals that do not.
"""

import argparse
import os
import time

CLUSTER, STRATA, CLUSTERS_A_STRATUM = 5, 6, 30


def population():
    """The embedded tax units as a population of clusters in strata, and its targets."""
    import numpy as np

    from microcalibrate.datasets import load_cps

    people = load_cps()[
        ["state", "filing_status", "n_persons", "age_head", "wages", "agi", "income_tax", "snap"]
    ].copy()
    # Amounts are capped: of a handful of incomes no sample of this size knows anything.
    people["income_tax"] = people["income_tax"].clip(-10_000, 120_000) / 1_000
    people["wages"] = people["wages"].clip(upper=400_000) / 1_000
    people["agi"] = people["agi"].clip(lower=-50_000, upper=500_000) / 1_000
    people["married"] = (people["filing_status"].astype(str) == "joint").astype(float)
    people["old"] = (people["age_head"] >= 65).astype(float)
    # Neighbours are alike: clusters follow the order of states and of incomes within them, shaken.
    rng = np.random.default_rng(0)
    shaken = people["agi"].rank(pct=True) + rng.normal(0, 0.5, len(people))
    people = people.iloc[np.lexsort([shaken, people["state"].astype(str)])].reset_index(drop=True)
    people["cluster"] = np.arange(len(people)) // CLUSTER
    n_clusters = people["cluster"].max() + 1
    people["stratum"] = people["cluster"] * STRATA // n_clusters
    return people


def columns_of(people):
    """Columns that are calibrated to: persons by kind, and wages."""
    import numpy as np

    return np.column_stack(
        [np.ones(len(people)), people[["n_persons", "married", "old", "wages"]].to_numpy(float)]
    )


def asked():
    """What is estimated."""
    from microcalibrate.inference import mean, quantile, ratio, total

    return [
        total("agi"),
        mean("agi"),
        ratio("income_tax", "agi"),
        quantile("agi", 0.5),
        mean("agi", where="old == 1"),
    ]


def truth(people):
    """The same of the whole population."""
    old = people["old"] == 1
    return [
        people["agi"].sum(),
        people["agi"].mean(),
        people["income_tax"].sum() / people["agi"].sum(),
        people["agi"].sort_values().iloc[(len(people) - 1) // 2],
        people.loc[old, "agi"].mean(),
    ]


def draw(people, rng):
    """A sample of clusters, drawn with replacement in each stratum, with its design weights."""
    import numpy as np

    # Clusters and strata are runs of the records.
    first = np.flatnonzero(np.diff(people["cluster"], prepend=-1))
    stratum = people["stratum"].to_numpy()[first]
    drawn = [
        rng.choice(np.flatnonzero(stratum == one), CLUSTERS_A_STRATUM) for one in range(STRATA)
    ]
    clusters = np.concatenate(drawn)
    sample = people.iloc[(first[clusters][:, None] + np.arange(CLUSTER)).ravel()].copy()
    sample["psu"] = np.repeat(np.arange(len(clusters)), CLUSTER)
    weights = np.bincount(stratum)[stratum[clusters]] / CLUSTERS_A_STRATUM
    return sample, np.repeat(weights, CLUSTER)


SETTINGS = {
    "exact, chi2": {"tolerances": 0.0, "min_weight_ratio": -float("inf")},
    "exact, raking": {"tolerances": 0.0, "distance": "raking"},
    "soft, chi2": {"closeness": 1e-3},
}


def one_sample(people, totals, noise, true, seed, *, with_replicates):
    """Which intervals of one sample hold the truth, by method."""
    import numpy as np

    from microcalibrate import Calibration
    from microcalibrate.inference import Replication, SurveyDesign, estimate, replicate_weights

    rng = np.random.default_rng([1, seed])
    sample, weights = draw(people, rng)
    columns = columns_of(sample)
    design = SurveyDesign(strata="stratum", psu="psu")
    noisy = totals + noise @ rng.normal(size=len(totals))
    covariance = noise @ noise.T
    found = {}

    def note(name, calibration, **options):
        table = estimate(calibration, asked(), sample, **options).table
        inside = (table["lower"] <= true) & (true <= table["upper"])
        found[name] = inside.to_numpy().tolist(), (table["upper"] - table["lower"]).tolist()

    for name, options in SETTINGS.items():
        if with_replicates and name == "exact, raking":
            continue
        made = Calibration(weights, totals, columns, scales=np.abs(totals), **options)
        made.calibrate(progress=False)
        if with_replicates:
            drawn = Replication.bootstrap(design, sample, n_replicates=100, seed=seed)
            options_of = {"replicates": replicate_weights(made, drawn, progress=False)}
            note(f"{name}, bootstrap", made, **options_of)
            continue
        note(f"{name}, linearised", made, design=design)
        made = Calibration(weights, noisy, columns, scales=np.abs(totals), **options)
        made.calibrate(progress=False)
        note(f"{name}, noisy targets, not known", made, design=design)
        note(f"{name}, noisy targets, propagated", made, design=design, target_errors=covariance)
    return found


def noise_of(totals):
    """A root of the covariance of the targets: 2% of each, and what they have in common."""
    import numpy as np

    root = np.diag(0.02 * totals)
    root[0, 0] = 0.005 * totals[0]
    root[1, 0] = 0.005 * totals[1]
    root[4, 1] = 0.01 * totals[4]
    return root


def simulate(n_samples, first=0, *, with_replicates=False, people=None):
    """Share of intervals that hold the truth, by method and statistic."""
    import numpy as np

    people = population() if people is None else people
    totals = columns_of(people).sum(axis=0)
    noise, true = noise_of(totals), np.array(truth(people))
    hits, widths = {}, {}
    for seed in range(first, first + n_samples):
        found = one_sample(people, totals, noise, true, seed, with_replicates=with_replicates)
        for name, (inside, width) in found.items():
            hits.setdefault(name, []).append(inside)
            widths.setdefault(name, []).append(width)
    return (
        {name: np.array(rows, dtype=float) for name, rows in hits.items()},
        {name: np.array(rows) for name, rows in widths.items()},
    )


def main() -> None:
    """Simulate, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--replicate-samples", type=int, default=300)
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"

    import numpy as np
    from _table import save

    begun = time.perf_counter()
    people = population()
    names = [one.name for one in asked()]
    rows = {}
    for n_samples, with_replicates in (
        (given.samples, False),
        (given.replicate_samples, True),
    ):
        hits, widths = simulate(n_samples, with_replicates=with_replicates, people=people)
        for method, inside in hits.items():
            rows[method] = {
                "samples": len(inside),
                "coverage": dict(zip(names, inside.mean(axis=0).round(4).tolist(), strict=True)),
                "all": float(inside.mean().round(4)),
                "mean_width": dict(
                    zip(names, np.nanmean(widths[method], axis=0).tolist(), strict=True)
                ),
            }
            print(f"{method:45}", rows[method]["all"], rows[method]["coverage"])
    save(
        "interval_coverage",
        {**vars(given), "level": 0.95, "seconds": time.perf_counter() - begun, "runs": rows},
    )


if __name__ == "__main__":
    main()
