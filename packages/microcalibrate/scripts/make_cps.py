"""Make `datasets/cps_2023.parquet` from the CPS file that Tax-Calculator ships.

Needs `pip install taxcalc==6.8.0 pyarrow`. Run from the root of the repository:

    python packages/microcalibrate/scripts/make_cps.py

The sample is drawn systematically with a fixed random start: the tax units are put in order (state,
filing status, adjusted gross income), and an interval of equal length is stepped through the sum of
their sizes, so that each is drawn with a probability in proportion to its size and neighbours are
not drawn together. Sizes are `sqrt(weight * (1 + |AGI| / $100,000))`: small states and high incomes
get more records than their share. A drawn record has its weight divided by its probability, so that
every weighted total is that of the whole file in expectation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

YEAR = 2023
N_RECORDS = 25_000
SEED = 2023
OUTPUT = Path(__file__).parents[1] / "src" / "microcalibrate" / "datasets" / "cps_2023.parquet"

FILING_STATUSES = {1: "single", 2: "joint", 3: "separate", 4: "head_of_household"}

_STATE_CODES = (
    "AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH "
    "NJ NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY"
)
_UNUSED_FIPS_CODES = (3, 7, 14, 43, 52)
STATES = dict(
    zip(
        [number for number in range(1, 57) if number not in _UNUSED_FIPS_CODES],
        _STATE_CODES.split(),
        strict=True,
    )
)
"""Two-letter code of each FIPS state code."""

COUNTS = {
    "n_persons": "XTOT",
    "n_children": "nu18",
    "n_eitc_children": "EIC",
    "age_head": "age_head",
    "age_spouse": "age_spouse",
}

DOLLARS = {
    "wages": "e00200",
    "interest": "e00300",
    "exempt_interest": "e00400",
    "dividends": "e00600",
    "qualified_dividends": "e00650",
    "business_income": "e00900",
    "farm_income": "e02100",
    "capital_gains": "e01100",
    "ira_distributions": "e01400",
    "pensions": "e01500",
    "taxable_pensions": "e01700",
    "social_security": "e02400",
    "taxable_social_security": "c02500",
    "unemployment": "e02300",
    "state_local_taxes": "e18400",
    "property_taxes": "e18500",
    "mortgage_interest": "e19200",
    "charity_cash": "e19800",
    "charity_other": "e20100",
    "medical_expenses": "e17500",
    "agi": "c00100",
    "standard_deduction": "standard",
    "itemized_deductions": "c04470",
    "taxable_income": "c04800",
    "tax_before_credits": "c05800",
    "eitc": "eitc",
    "child_tax_credit": "ctc_total",
    "income_tax": "iitax",
    "payroll_tax": "payrolltax",
    "snap": "snap_ben",
    "ssi": "ssi_ben",
    "tanf": "tanf_ben",
    "wic": "wic_ben",
    "housing_assistance": "housing_ben",
    "medicaid": "mcaid_ben",
    "medicare": "mcare_ben",
    "veterans_benefits": "vet_ben",
}


def inclusion_probabilities(
    sizes: npt.NDArray[np.float64], n_records: int
) -> npt.NDArray[np.float64]:
    """Probabilities in proportion to sizes, at most 1, that sum to `n_records`."""
    certain = np.zeros(len(sizes), dtype=bool)
    while True:
        share = (n_records - certain.sum()) / sizes[~certain].sum()
        probabilities = np.where(certain, 1.0, share * sizes)
        if np.all(probabilities <= 1):
            return probabilities
        certain |= probabilities >= 1


def systematic_sample(
    probabilities: npt.NDArray[np.float64], generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Positions of a systematic sample: where the running sum of probabilities passes a step."""
    n_records = round(float(probabilities.sum()))
    steps = generator.random() + np.arange(n_records)
    positions = np.searchsorted(np.cumsum(probabilities), steps, side="right")
    return np.minimum(positions, len(probabilities) - 1)


def tax_units() -> pd.DataFrame:
    """All tax units of the file, taken to `YEAR` by Tax-Calculator, under friendly names."""
    import taxcalc

    calculator = taxcalc.Calculator(
        policy=taxcalc.Policy(), records=taxcalc.Records.cps_constructor()
    )
    calculator.advance_to_year(YEAR)
    calculator.calc_all()
    raw = calculator.dataframe([], all_vars=True)

    columns: dict[str, Any] = {
        "record_id": raw["RECID"].astype("int32"),
        "state": pd.Categorical(raw["fips"].astype(int).map(STATES), categories=STATES.values()),
        "filing_status": pd.Categorical(
            raw["MARS"].map(FILING_STATUSES), categories=FILING_STATUSES.values()
        ),
    }
    columns |= {name: raw[source].astype("int8") for name, source in COUNTS.items()}
    columns |= {name: raw[source].round().astype("int32") for name, source in DOLLARS.items()}
    columns["is_filer"] = (
        (raw["c00100"] > raw["standard"]) | (raw["iitax"] != 0) | (raw["eitc"] != 0)
    )
    columns["weight"] = raw["s006"].astype("float64")
    return pd.DataFrame(columns)


def main() -> None:
    """Draw the sample and write it."""
    units = tax_units().sort_values(["state", "filing_status", "agi", "record_id"])
    sizes = np.sqrt(units["weight"] * (1 + units["agi"].abs() / 100_000)).to_numpy()
    probabilities = inclusion_probabilities(sizes, N_RECORDS)
    drawn = systematic_sample(probabilities, np.random.default_rng(SEED))

    sample = units.iloc[drawn].copy()
    sample["weight"] = (sample["weight"] / probabilities[drawn]).round(2)
    sample = sample.reset_index(drop=True)
    table = pa.Table.from_pandas(sample, preserve_index=False)
    pq.write_table(table, OUTPUT, compression="zstd", compression_level=19)
    print(f"{OUTPUT.name}: {len(sample)} tax units, {OUTPUT.stat().st_size / 1e6:.2f} MB")
    for name in ("weight", "n_persons", "agi", "income_tax", "eitc", "snap"):
        whole = (units["weight"] * (1 if name == "weight" else units[name])).sum()
        drawn_total = (sample["weight"] * (1 if name == "weight" else sample[name])).sum()
        print(f"{name}: {drawn_total / whole - 1:+.2%} of the whole file")


if __name__ == "__main__":
    main()
