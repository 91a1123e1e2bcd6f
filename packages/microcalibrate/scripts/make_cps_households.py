"""Make the three tables of `load_cps_households` from the CPS file that Tax-Calculator ships.

Needs `pip install taxcalc==6.8.0 pyarrow`. Run from the root of the repository:

    python packages/microcalibrate/scripts/make_cps_households.py

The file has a row for each tax unit, with the household it was interviewed in (`FLPDYR` and
`h_seq`), the ages, wages, business and farm income of its head and spouse, and the number of its
other members in five bands of age. So households, tax units and persons are real; what has to be
filled in is the age of the other members within their band, which is drawn from it uniformly with
a fixed seed.

The households are drawn as in `make_cps.py`: systematically, with probabilities in proportion to
`sqrt(weight * (1 + |income| / $100,000))` along state, size and income.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from make_cps import FILING_STATUSES, STATES, YEAR, inclusion_probabilities, systematic_sample

N_HOUSEHOLDS = 3_000
SEED = 2023
FOLDER = Path(__file__).parents[1] / "src" / "microcalibrate" / "datasets" / "cps_households_2023"

REGIONS = {
    "northeast": "CT ME MA NH RI VT NJ NY PA",
    "midwest": "IL IN MI OH WI IA KS MN MO NE ND SD",
    "south": "DE DC FL GA MD NC SC VA WV AL KY MS TN AR LA OK TX",
    "west": "AZ CO ID MT NV NM UT WY AK CA HI OR WA",
}
"""Regions of the Census Bureau."""

UNIT_DOLLARS = {
    "interest": "e00300",
    "dividends": "e00600",
    "capital_gains": "e01100",
    "pensions": "e01700",
    "social_security": "e02400",
    "unemployment": "e02300",
    "property_taxes": "e18500",
    "mortgage_interest": "e19200",
    "charity": "e19800",
    "snap": "snap_ben",
}
PERSON_DOLLARS = {"wages": "e00200", "business_income": "e00900", "farm_income": "e02100"}
"""Dollar amounts of head (`p` at the end) and spouse (`s`)."""
NO_INCOME = ["property_taxes", "mortgage_interest", "charity", "snap"]

BANDS = {"under_6": (0, 5), "6_to_12": (6, 12), "13_to_17": (13, 17), "18_to_20": (18, 20),
         "21_and_over": (21, 85)}  # fmt: skip
"""Ages of members who are neither head nor spouse, first and last year of each band."""

ADULT_AGES = (21, 23)
"""Ages given to members from 21 who are neither head nor spouse: most are students."""


def _within(ages: pd.Series[Any], first: int, last: int) -> npt.NDArray[np.int64]:
    return ages.between(first, last).to_numpy(dtype=np.int64)


def tax_units() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tax units with what describes their other members, and the 2023 values of both."""
    import taxcalc

    source = Path(taxcalc.__file__).parent / "cps.csv.gz"
    raw = pd.read_csv(source)
    calculator = taxcalc.Calculator(
        policy=taxcalc.Policy(), records=taxcalc.Records.cps_constructor()
    )
    calculator.advance_to_year(YEAR)
    if not np.array_equal(calculator.array("RECID"), raw["RECID"]):
        raise ValueError("Tax-Calculator changed the order of its file. Look at the new version.")

    has_spouse = raw["age_spouse"] > 0
    spouse = raw["age_spouse"].where(has_spouse, -1)
    under_18 = raw["nu18"] - _within(raw["age_head"], 0, 17) - _within(spouse, 0, 17)
    units = pd.DataFrame(
        {
            "household": raw["FLPDYR"] * 1_000_000 + raw["h_seq"],
            "tax_unit_id": raw["RECID"].astype("int64"),
            "state": raw["fips"].map(STATES),
            "filing_status": raw["MARS"].map(FILING_STATUSES),
            "age_head": raw["age_head"],
            "age_spouse": spouse,
            "under_6": raw["nu06"],
            "6_to_12": raw["nu13"] - raw["nu06"],
            "13_to_17": under_18 - raw["nu13"],
            "18_to_20": raw["n1820"] - _within(raw["age_head"], 18, 20) - _within(spouse, 18, 20),
            "21_and_over": raw["n21"] - (raw["age_head"] >= 21) - (spouse >= 21),
            "elderly": raw["elderly_dependents"],
            "others": raw["XTOT"] - 1 - has_spouse,
            "weight": calculator.array("s006"),
        }
    )
    amounts = {name: calculator.array(source) for name, source in UNIT_DOLLARS.items()}
    for name, source_name in PERSON_DOLLARS.items():
        for suffix in "ps":
            amounts[f"{name}_{suffix}"] = calculator.array(source_name + suffix)
    return units, pd.DataFrame(amounts).round()


def complete_households(units: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tax units of households in which the bands of age account for every member."""
    bands = units[list(BANDS)]
    is_complete = (bands >= 0).all(axis=1) & (bands.sum(axis=1) == units["others"])
    is_complete &= (units["age_spouse"] >= 0) == (units["filing_status"] == "joint")
    return is_complete.groupby(units["household"]).transform("all").to_numpy()


def drawn_households(
    units: pd.DataFrame, amounts: pd.DataFrame
) -> tuple[pd.DataFrame, npt.NDArray[np.intp]]:
    """Sampled households with their state and weight, and the row of `units` of each tax unit."""
    n_persons = 1 + (units["age_spouse"] >= 0) + units["others"]
    by_household = pd.DataFrame(
        {
            "household": units["household"],
            "state": units["state"],
            "n_persons": n_persons,
            "weight": units["weight"] * n_persons,
            "income": amounts.drop(columns=NO_INCOME).sum(axis=1),
        }
    )
    households = by_household.groupby("household", as_index=False).agg(
        {"state": "first", "n_persons": "sum", "weight": "sum", "income": "sum"}
    )
    # The file has a weight per tax unit; their mean over persons keeps the number of persons.
    households["weight"] /= households["n_persons"]
    households = households.sort_values(["state", "n_persons", "income", "household"])
    sizes = np.sqrt(households["weight"] * (1 + households["income"].abs() / 100_000)).to_numpy()
    probabilities = inclusion_probabilities(sizes, N_HOUSEHOLDS)
    drawn = systematic_sample(probabilities, np.random.default_rng(SEED))
    sample = households.iloc[drawn].copy()
    sample["weight"] = (sample["weight"] / probabilities[drawn]).round(2)
    for name in ("weight", "n_persons", "income"):
        factor = 1 if name == "weight" else households[name]
        whole = (households["weight"] * factor).sum()
        total = (sample["weight"] * (1 if name == "weight" else sample[name])).sum()
        print(f"{name}: {whole:,.0f} in the whole file, {total / whole - 1:+.2%} in the sample")
    sample = sample.sort_values("household").reset_index(drop=True)
    sample["household_id"] = np.arange(1, len(sample) + 1)
    of_sample = units["household"].isin(sample["household"]).to_numpy()
    return sample, np.flatnonzero(of_sample)


def person_table(units: pd.DataFrame, amounts: pd.DataFrame) -> pd.DataFrame:
    """Heads, spouses and other members of tax units; ages of the others drawn within their band."""
    rng = np.random.default_rng(SEED + 1)
    parts = []
    for role, suffix in (("head", "p"), ("spouse", "s")):
        here = (units[f"age_{role}"] >= 0).to_numpy()
        part = units.loc[here, ["tax_unit_id", "household_id"]].copy()
        part["role"], part["age"] = role, units.loc[here, f"age_{role}"]
        for name in PERSON_DOLLARS:
            part[name] = amounts.loc[here, f"{name}_{suffix}"]
        parts.append(part)
    for band, (first, last) in BANDS.items():
        repeated = np.repeat(np.arange(len(units)), units[band])
        part = units.iloc[repeated][["tax_unit_id", "household_id", "elderly"]].copy()
        if band == "21_and_over":
            # Those from 65 are counted in the file; the first of a tax unit's are taken for them.
            is_elderly = part.groupby("tax_unit_id").cumcount() < part["elderly"]
            ages = rng.integers(ADULT_AGES[0], ADULT_AGES[1], len(part), endpoint=True)
            part["age"] = np.where(
                is_elderly, rng.integers(65, 85, len(part), endpoint=True), ages
            )  # fmt: skip
        else:
            part["age"] = rng.integers(first, last, len(part), endpoint=True)
        part["role"] = "dependent"
        for name in PERSON_DOLLARS:
            part[name] = 0.0
        parts.append(part.drop(columns="elderly"))
    persons = pd.concat(parts, ignore_index=True)
    persons["role"] = pd.Categorical(persons["role"], categories=["head", "spouse", "dependent"])
    persons = persons.sort_values(
        ["household_id", "tax_unit_id", "role", "age"], ascending=[True, True, True, False]
    ).reset_index(drop=True)
    persons["person_id"] = np.arange(1, len(persons) + 1)
    persons["earnings"] = persons[list(PERSON_DOLLARS)].sum(axis=1)
    persons["is_age_imputed"] = persons["role"] == "dependent"
    return persons[
        [
            *("person_id", "tax_unit_id", "household_id", "role", "age"),
            *PERSON_DOLLARS,
            *("earnings", "is_age_imputed"),
        ]
    ].astype({"age": "int64", "household_id": "int64"} | dict.fromkeys(PERSON_DOLLARS, "float64"))


def main() -> None:
    """Draw the households and write their tables."""
    units, amounts = tax_units()
    complete = complete_households(units)
    print(f"{(~complete).mean():.2%} of the tax units are in households left out")
    units, amounts = (
        units[complete].reset_index(drop=True),
        amounts[complete].reset_index(drop=True),
    )
    sample, rows = drawn_households(units, amounts)
    units, amounts = (
        units.iloc[rows].reset_index(drop=True),
        amounts.iloc[rows].reset_index(drop=True),
    )
    ids = sample.set_index("household")["household_id"]
    units["household_id"] = units["household"].map(ids).astype("int64")

    persons = person_table(units, amounts)
    by_unit = persons.groupby("tax_unit_id")
    tax_units_ = units[["tax_unit_id", "household_id"]].copy()
    tax_units_["filing_status"] = pd.Categorical(
        units["filing_status"], categories=FILING_STATUSES.values()
    )
    for name in UNIT_DOLLARS:
        tax_units_[name] = amounts[name].astype("float64")
    key = tax_units_["tax_unit_id"]
    tax_units_["n_persons"] = key.map(by_unit.size())
    tax_units_["n_spouses"] = key.map(by_unit["role"].agg(lambda roles: (roles == "spouse").sum()))
    tax_units_["earnings"] = key.map(by_unit[list(PERSON_DOLLARS)].sum().sum(axis=1))
    others = ["interest", "dividends", "capital_gains", "pensions", "social_security"]
    tax_units_["income"] = tax_units_[["earnings", *others, "unemployment"]].sum(axis=1)
    tax_units_["home_costs"] = tax_units_["property_taxes"] + tax_units_["mortgage_interest"]
    tax_units_ = tax_units_.sort_values(["household_id", "tax_unit_id"]).reset_index(drop=True)

    household = sample["household_id"]
    by_household, of_units = persons.groupby("household_id"), tax_units_.groupby("household_id")
    regions = {state: region for region, states in REGIONS.items() for state in states.split()}
    n_children = (persons["age"] < 18).groupby(persons["household_id"]).sum()
    households = pd.DataFrame(
        {
            "household_id": household.astype("int64"),
            "state": pd.Categorical(sample["state"], categories=STATES.values()),
            "region": pd.Categorical(sample["state"].map(regions), categories=list(REGIONS)),
            "n_tax_units": household.map(of_units.size()),
            "n_persons": household.map(by_household.size()),
            "n_children": household.map(n_children),
            "income": household.map(of_units["income"].sum()),
            "snap": household.map(of_units["snap"].sum()),
            "home_costs": household.map(of_units["home_costs"].sum()),
            "weight": sample["weight"].astype("float64"),
        }
    )
    households["pays_home_costs"] = households["home_costs"] > 0

    FOLDER.mkdir(exist_ok=True)
    total = 0
    for name, table in (("household", households), ("tax_unit", tax_units_), ("person", persons)):
        path = FOLDER / f"{name}.parquet"
        content = pa.Table.from_pandas(table, preserve_index=False)
        pq.write_table(content, path, compression="zstd", compression_level=19)
        total += path.stat().st_size
        print(f"{path.name}: {len(table)} rows, {path.stat().st_size / 1e3:.0f} kB")
    print(f"{total / 1e6:.2f} MB in all")


if __name__ == "__main__":
    main()
