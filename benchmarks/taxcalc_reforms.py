"""Influence of CPS records on reform revenue, before and after regularisation, by Tax-Calculator.

    pip install taxcalc==6.8.0
    python benchmarks/taxcalc_reforms.py [--records 5000] [--heavy 12] [--rounds 40]

Twenty random reforms of real parameters are computed by Tax-Calculator for tax units of the CPS
file that it ships, calibrated to 284 published totals. Twelve of them, of ordinary incomes, have 30
times the design weight that they should have; other records carry much by their incomes. The model
is `docs/examples/tax_calculator.py`, which the documentation shows.
"""

import argparse
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _table import header, row, save, update_readme

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
HEAVY = 8
"""Times the median weight from which a record counts as heavy."""


def figures(diagnosis: object) -> dict[str, object]:
    """What is compared."""
    found = diagnosis.summary_figures
    flagged, reforms = diagnosis.flagged, diagnosis.reforms
    is_heavy = flagged["weight_over_median"] >= HEAVY
    shares = reforms["largest_share"].to_numpy()
    return {
        "records": int(found["n_units"]),
        "flagged": int(found["n_flagged"]),
        "flagged_heavy": int(is_heavy.sum()),
        "flagged_for_reforms_alone": int((~flagged["is_influential"]).sum()),
        "influential_per_reform": float(reforms["n_influential"].mean()),
        "largest_share_baseline": float(found["largest_share"]),
        "largest_lineage_share_baseline": float(found["largest_lineage_share"]),
        "largest_share_over_reforms": float(np.nanmax(shares)),
        "kish": float(found["kish"]["n_eff"]),
        "lineage_kish": float(found["kish"]["lineage_n_eff"]),
        "largest_weight": float(found["weights"]["largest"]),
    }


def main() -> None:
    """Run all of it, write the results, and fill in the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--heavy", type=int, default=12)
    parser.add_argument("--reforms", type=int, default=20)
    parser.add_argument("--backend", default="hotdeck", choices=["hotdeck", "anyorder"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--time-budget", type=float, help="seconds; no round begins after it")
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    import tax_calculator as model

    from microcalibrate.datasets import load_us_targets
    from microcalibrate.regularise import Codec, regularise
    from microcalibrate.regularise.generators import make_generator

    seconds = {}
    begun = time.perf_counter()
    survey = model.calibrated_survey(options.records, options.heavy)
    seconds["survey"], begun = time.perf_counter() - begun, time.perf_counter()
    codec = Codec.fit(survey)
    rows = codec.encode(survey)
    base_weights = survey.base_weights.loc[rows.index].to_numpy()
    generator = make_generator(options.backend).fit(rows, codec.columns, base_weights, seed=0)
    seconds["fit"], begun = time.perf_counter() - begun, time.perf_counter()

    published = load_us_targets()
    targets = dict(zip(published["name"], published["value"].astype(float), strict=True))
    reforms = model.TaxReforms()
    result = regularise(
        survey,
        generator,
        targets,
        codec=codec,
        build_matrix=model.build_matrix,
        surface=model.SURFACE,
        reforms=reforms,
        n_reforms=options.reforms,
        batch=options.batch,
        max_rounds=options.rounds,
        time_budget=options.time_budget,
        on_round=lambda r: print(
            r["round"], r["accepted"], r["n_flagged_after"], r["reason"], flush=True
        ),
        progress=False,
    )
    seconds["regularise"] = time.perf_counter() - begun
    print(result.summary())
    rounds = result.rounds
    before, after = figures(result.before), figures(result.after)
    errors = {
        when: float(np.sqrt(np.mean(result.targets[f"{when}_error"] ** 2)))
        for when in ("before", "after")
    }
    reasons = Counter(
        "the share of an origin rose" if "origin" in reason
        else "its share did not fall" if "did not fall" in reason
        else "fit of targets" if "worse" in reason
        else "nothing valid generated" if "nothing" in reason
        else "other"
        for reason in result.irreducible["reason"]
    )  # fmt: skip
    save(
        "taxcalc_reforms",
        {
            "settings": vars(options),
            "seed": 0,
            "versions": result.versions | {"taxcalc": version("taxcalc")},
            "status": result.status,
            "stopped": result.stopped,
            "rounds": len(rounds),
            "rounds_kept": int(rounds["accepted"].sum()) if len(rounds) else 0,
            "replaced": int(result.lineage["lineage"].nunique()),
            "generated": len(result.lineage),
            "irreducible": dict(reasons),
            "root_mean_squared_target_error": errors,
            "before": before,
            "after": after,
            "reforms": [
                {
                    "reform": one.reform,
                    "description": one.description,
                    "largest_share_before": float(one.largest_share),
                    "largest_share_after": float(other.largest_share),
                    "n_influential_before": int(one.n_influential),
                    "n_influential_after": int(other.n_influential),
                }
                for one, other in zip(
                    result.before.reforms.itertuples(),
                    result.after.reforms.itertuples(),
                    strict=True,
                )
            ],
            "seconds": seconds,
        },
    )
    write_table()


LINES = (
    ("tax units", "records", "{:,.0f}"),
    ("flagged", "flagged", "{:,.0f}"),
    ("of them with at least 8 times the median weight", "flagged_heavy", "{:,.0f}"),
    ("influential records, mean over the reforms", "influential_per_reform", "{:.1f}"),
    ("largest share of a record, baseline", "largest_share_baseline", "{:.1%}"),
    ("largest share of an origin, baseline", "largest_lineage_share_baseline", "{:.1%}"),
    ("largest share of a record in a change by a reform", "largest_share_over_reforms", "{:.1%}"),
    ("largest weight", "largest_weight", "{:,.0f}"),
    ("Kish effective sample size", "kish", "{:,.0f}"),
    ("the same by origin", "lineage_kish", "{:,.0f}"),
)


def write_table() -> None:
    """Fill in the table from the saved results."""
    import json

    from _table import RESULTS

    found = json.loads((RESULTS / "taxcalc_reforms.json").read_text())
    lines = header("", "before", "after")
    for words, key, pattern in LINES:
        lines.append(row(words, *(pattern.format(found[w][key]) for w in ("before", "after"))))
    errors = found["root_mean_squared_target_error"]
    lines.append(
        row("root mean squared error of 284 targets", *(f"{errors[w]:.2%}" for w in errors))
    )
    reasons = ", ".join(f"{words} ({n})" for words, n in found["irreducible"].items())
    lines += [
        "",
        f"{found['rounds_kept']} of {found['rounds']} rounds were kept. {found['replaced']} tax "
        f"units were replaced by {found['generated']} generated ones; "
        f"{sum(found['irreducible'].values())} could not be spread: {reasons}.",
    ]
    update_readme("taxcalc_reforms", lines)


if __name__ == "__main__":
    main()
