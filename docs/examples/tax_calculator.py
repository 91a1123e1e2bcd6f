"""Tax-Calculator as a user's own model: its tax units as a survey, its results, and reforms of it.

Needs `pip install taxcalc`. Nothing in microcalibrate knows this model: what it gets to see are
plain functions of tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import taxcalc

from microcalibrate import Calibration, expressions
from microcalibrate.columns import Columns
from microcalibrate.datasets import load_cps, load_us_targets
from microcalibrate.diagnostics import Metric, Slice, Surface
from microcalibrate.regularise import (
    Column,
    Condition,
    Entity,
    Expression,
    Lookup,
    OnlyIf,
    Schema,
    Survey,
)

YEAR = 2023
UNIT = "tax_unit"

# --- Which of Tax-Calculator's inputs there are, and what they are --------------------------------

FILING = {1: "single", 2: "joint", 3: "separate", 4: "head_of_household"}
COMPOSITION = ("XTOT", "EIC", "n24", "nu06", "nu13", "nu18", "n1820", "n21", "f2441",
               "age_head", "age_spouse", "blind_head", "blind_spouse", "DSI")  # fmt: skip
"""Who is in the tax unit: generated as one block, from a real tax unit."""

INCOMES = ("e00200p", "e00200s", "e00900p", "e00900s", "e02100p", "e02100s", "e00300", "e00400",
           "e00600", "e00650", "e01100", "e01400", "e01500", "e01700", "e02300", "e02400",
           "e17500", "e18400", "e18500", "e19200", "e19800", "e20100", "snap_ben")  # fmt: skip
"""Dollars: wages, business and farm income of head and spouse, then those of the tax unit."""

OF_BOTH = ("e00200", "e00900", "e02100")
"""Sums of head and spouse: derived, so that they always agree with their parts."""

CARRIED = ("e00800", "e03150", "e03210", "e03240", "e03270", "e03300", "e20400", "e32800",
           "elderly_dependents", "credit_claim_urn")  # fmt: skip
"""Small adjustments, which a generated record takes over from the record it descends from.

The last is no input of the file: Tax-Calculator draws it by the position of a row, and credits are
claimed or not by it. As a column of the table it stays with its tax unit, wherever that stands.
"""

NAMES = {
    "n_persons": "XTOT", "n_children": "nu18", "wages": "e00200", "interest": "e00300",
    "exempt_interest": "e00400", "dividends": "e00600", "qualified_dividends": "e00650",
    "business_income": "e00900", "farm_income": "e02100", "capital_gains": "e01100",
    "ira_distributions": "e01400", "pensions": "e01500", "taxable_pensions": "e01700",
    "social_security": "e02400", "taxable_social_security": "c02500", "unemployment": "e02300",
    "snap": "snap_ben", "agi": "c00100", "standard_deduction": "standard",
    "itemized_deductions": "c04470", "taxable_income": "c04800", "tax_before_credits": "c05800",
    "eitc": "eitc", "child_tax_credit": "ctc_total", "income_tax": "iitax",
    "payroll_tax": "payrolltax",
}  # fmt: skip
"""What published totals call Tax-Calculator's variables."""


REGIONS = {
    "northeast": "CT ME MA NH RI VT NJ NY PA",
    "midwest": "IL IN MI OH WI IA KS MN MO NE ND SD",
    "south": "DE DC FL GA MD NC SC VA WV AL KY MS TN AR LA OK TX",
    "west": "AZ CO ID MT NV NM UT WY AK CA HI OR WA",
}
REGION_OF = {state: region for region, states in REGIONS.items() for state in states.split()}


def tax_unit_schema() -> Schema:
    """What each column of the table of `load_tax_units` is."""
    states = tuple(sorted(load_cps()["state"].cat.categories))
    losses = {"e00900p", "e00900s", "e02100p", "e02100s"}
    columns = [
        Column("RECID", "id"),
        Column("state", "input", "category", levels=states),
        Column("region", "external", rule=Lookup("state", tuple(REGION_OF.items()))),
        Column("MARS", "structural", "category", levels=tuple(FILING)),
        *(Column(name, "structural", "integer", bounds=(0, None)) for name in COMPOSITION),
        *(
            Column(name, "input", "number", bounds=(None if name in losses else 0.0, None))
            for name in INCOMES
        ),
        *(Column(name, "derived", rule=Expression(f"{name}p + {name}s")) for name in OF_BOTH),
        *(Column(name, "carried") for name in CARRIED),
        Column("income", "derived", rule=Expression(
            "e00200p + e00200s + e00900p + e00900s + e02100p + e02100s + e00300 + e00400 + e00600"
            " + e01100 + e01400 + e01500 + e02300 + e02400"
        )),
        Column("base_weight", "weight"),
        Column("weight", "weight"),
    ]  # fmt: skip
    of_spouse = ("age_spouse", "blind_spouse", "e00200s", "e00900s", "e02100s")
    return Schema(
        (Entity(UNIT, tuple(columns)),),
        unit=UNIT,
        weight="weight",
        base_weight="base_weight",
        constraints=(
            Condition(UNIT, "e00650 <= e00600"),
            Condition(UNIT, "e01700 <= e01500"),
            *(OnlyIf(UNIT, name, "MARS == 2") for name in of_spouse),
        ),
    )


def load_tax_units(record_ids: Any) -> pd.DataFrame:
    """Tax units of the CPS file that Tax-Calculator ships, with incomes of 2023; no weights.

    Args:
        record_ids: Which ones, and their order: values of `RECID`.
    """
    calculator = taxcalc.Calculator(
        policy=taxcalc.Policy(), records=taxcalc.Records.cps_constructor()
    )
    calculator.advance_to_year(YEAR)
    names = ["RECID", "MARS", *COMPOSITION, *INCOMES, *CARRIED]
    table = pd.DataFrame({name: calculator.array(name) for name in names})
    return table.set_index("RECID").loc[np.asarray(record_ids)].reset_index()


def calibrated_survey(n_records: int = 5000, n_heavy: int = 0, seed: int = 0) -> Survey:
    """Some of the tax units of `load_cps`, calibrated to `load_us_targets`, as a survey.

    Args:
        n_records: How many records there are.
        n_heavy: To how many of them, of ordinary incomes, the design gives 30 times their weight:
            what becomes of a survey whose sampling frame missed their likes.
        seed: Of the choice of these.
    """
    cps = load_cps()
    calibration = Calibration.from_table(cps, load_us_targets(), target_records=n_records)
    calibration.calibrate()
    result = calibration.result
    kept = np.flatnonzero(result.weights > 0)
    # What a record stood for when it was drawn: the prior of every later calibration.
    base_weights = result.design_weights[kept] / result.inclusion_probabilities[kept]
    weights = result.weights[kept]
    if n_heavy:
        ordinary = np.flatnonzero(cps["agi"].iloc[kept].between(30_000, 150_000))
        heavy = np.random.default_rng(seed).choice(ordinary, n_heavy, replace=False)
        base_weights[heavy] *= 30
        problem = calibration.problem
        rows = problem.estimate_matrix[kept]
        weights = Calibration(base_weights, problem.targets, rows, distance="raking").calibrate()
    units = load_tax_units(cps["record_id"].iloc[kept])
    units["state"] = cps["state"].iloc[kept].astype(str).to_numpy()
    units["region"] = units["state"].map(REGION_OF)
    units["weight"], units["base_weight"] = weights, base_weights
    schema = tax_unit_schema()
    for column in schema.unit_entity.of_kind("derived"):
        units[column.name] = expressions.calculate(column.rule.text, units)
    return Survey({UNIT: units}, schema)


# --- The model ------------------------------------------------------------------------------------


def calculate(table: pd.DataFrame, policy: taxcalc.Policy | None = None) -> pd.DataFrame:
    """Tax-Calculator's results for all rows in one go, under the names that targets use.

    Args:
        table: Tax units with Tax-Calculator's inputs, one per row; other columns are not looked at.
        policy: The law; None is current law.
    """
    data = table[["RECID", "MARS", *COMPOSITION, *INCOMES, *OF_BOTH, *CARRIED[:-1]]]
    data = data.astype({"MARS": "int64"})
    records = taxcalc.Records(data=data, start_year=YEAR, gfactors=None, weights=None)
    calculator = taxcalc.Calculator(policy=policy or current_law(), records=records)
    calculator.array("credit_claim_urn", table["credit_claim_urn"].to_numpy(dtype=np.float64))
    calculator.calc_all()
    results = pd.DataFrame({name: calculator.array(source) for name, source in NAMES.items()})
    results["filing_status"] = data["MARS"].map(FILING).to_numpy()
    is_above = (results["agi"] > results["standard_deduction"]).to_numpy()
    has_tax = (results[["income_tax", "eitc"]].round() != 0).any(axis=1).to_numpy()
    results["is_filer"] = is_above | has_tax
    return results


class Law(taxcalc.Policy):
    """A law that calculators share: each would otherwise copy it, and they only read it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Law:
        """Itself."""
        return self


@cache
def current_law() -> Law:
    """Current law; Tax-Calculator takes a second to read it."""
    return Law()


def federal_taxes(tables: Mapping[str, pd.DataFrame]) -> Any:
    """Income tax after credits plus payroll tax of each tax unit, under current law."""
    results = calculate(tables[UNIT])
    return (results["income_tax"] + results["payroll_tax"]).to_numpy()


def build_matrix(tables: Mapping[str, pd.DataFrame]) -> sp.csr_array:
    """What each tax unit adds to each target of `load_us_targets`, by Tax-Calculator's results."""
    results = Columns(calculate(tables[UNIT]).assign(state=tables[UNIT]["state"].to_numpy()))
    columns = []
    for target in load_us_targets().itertuples():
        counts = expressions.evaluate(target.filter, results)
        if isinstance(target.variable, str):
            values = results.numbers(target.variable)
            counts = counts * ((values != 0) if target.aggregate == "count" else values)
        columns.append(sp.csr_array(counts.astype(np.float64)[:, None]))
    return sp.csr_array(sp.hstack(columns, format="csr"))


SURFACE = Surface(
    metrics=(Metric("federal taxes", federal_taxes),),
    slices=(
        Slice("region", "region"),
        Slice("income decile", "income", quantiles=10),
        Slice("age", "age_head", edges=(25, 35, 45, 55, 65, 75)),
        Slice("filing status", "MARS"),
    ),
)
"""Where influence is looked at. With so few records, states would be too fine."""


# --- Reforms --------------------------------------------------------------------------------------

FACTORS = {
    "II_rt1": (0.8, 1.2), "II_rt2": (0.8, 1.2), "II_rt3": (0.9, 1.1), "II_rt4": (0.9, 1.1),
    "II_rt5": (0.9, 1.1), "II_rt6": (0.9, 1.1), "II_rt7": (0.9, 1.15),
    "STD": (0.7, 1.5), "CTC_c": (0.5, 2.0), "ODC_c": (0.0, 3.0), "EITC_c": (0.7, 1.5),
    "SS_Earnings_c": (0.8, 2.5), "SS_percentage2": (0.6, 1.15), "ID_AllTaxes_c": (0.0, 4.0),
    "PT_qbid_rt": (0.0, 1.5), "CG_rt2": (0.7, 1.4), "CG_rt3": (0.7, 1.4), "NIIT_rt": (0.0, 2.0),
}  # fmt: skip
"""Parameters that a reform may change, and the range of the factor to their value of 2023."""

AMOUNTS = {"II_em": (0.0, 4000.0)}
"""The same for parameters that are 0 under current law: the range of the amount, in dollars."""


@dataclass(frozen=True)
class TaxReform:
    """New values of parameters of Tax-Calculator, and what tax units then pay.

    Attributes:
        name: The changes in words.
        values: Parameter to its value in 2023.
    """

    name: str
    values: tuple[tuple[str, Any], ...]

    def __call__(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
        """The metric of the surface, under the reform."""
        results = calculate(tables[UNIT], _policy(self.values))
        return {"federal taxes": (results["income_tax"] + results["payroll_tax"]).to_numpy()}


@cache
def _policy(values: tuple[tuple[str, Any], ...]) -> Law:
    policy = Law()
    policy.implement_reform({name: {YEAR: value} for name, value in values})
    return policy


@dataclass(frozen=True)
class TaxReforms:
    """Random reforms: each changes one to four parameters within the ranges above."""

    most_parameters: int = 4

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """None beside those of the surface."""
        return ()

    def draw(self, rng: np.random.Generator) -> TaxReform:
        """A reform, decided by the generator alone."""
        law = current_law()
        law.set_year(YEAR)
        known = [*FACTORS, *AMOUNTS]
        count = int(rng.integers(1, self.most_parameters + 1))
        words, values = [], []
        for name in sorted(rng.choice(known, count, replace=False).tolist()):
            if name in FACTORS:
                factor = round(float(rng.uniform(*FACTORS[name])), 2)
                now = np.asarray(getattr(law, name), dtype=np.float64)[0]
                # Rates keep four digits, amounts whole dollars.
                new = np.round(now * factor, 4 if np.all(now < 1) else 0)
                words.append(f"{name} x {factor:g}")
            else:
                new = np.asarray(round(float(rng.uniform(*AMOUNTS[name])), -1))
                words.append(f"{name} = {float(new):,.0f}")
            values.append((name, tuple(new.tolist()) if new.ndim else float(new)))
        return TaxReform(", ".join(words), tuple(values))
