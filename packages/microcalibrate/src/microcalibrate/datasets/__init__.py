"""Real microdata and published totals to try things on; `SOURCE.md` here has sources and licence.

`load_cps` gives 25,000 tax units of the Current Population Survey, `load_cps_households` 3,000 of
its households with their tax units and persons, `load_us_targets` 284 published totals of the
United States. Tax units and totals make a calibration problem:

    >>> from microcalibrate.targets import build_targets
    >>> cps = load_cps()
    >>> targets = build_targets(cps, load_us_targets(), initial_weights=cps["weight"])
    >>> targets.matrix.shape
    (25000, 284)
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from microcalibrate.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.regularise.survey import Survey

__all__ = ["load_cps", "load_cps_households", "load_us_targets"]


def load_cps() -> pd.DataFrame:
    """25,000 tax units of the United States in 2023, a probability sample of real microdata.

    They are drawn from the Current Population Survey file of Tax-Calculator 6.8.0, which also
    computed their 2023 taxes. Dollar amounts are of the year 2023, in whole dollars.

    | columns | meaning |
    |---|---|
    | `record_id` | identifier of the tax unit in the file of Tax-Calculator |
    | `state`, `filing_status` | two-letter code; single, joint, separate, head_of_household |
    | `n_persons`, `n_children`, `n_eitc_children` | persons; under 18; that count for the EITC |
    | `age_head`, `age_spouse` | years, 0 without a spouse |
    | `wages`, `interest`, `exempt_interest` | wages; taxable interest; tax-exempt interest |
    | `dividends`, `qualified_dividends` | ordinary dividends, and the qualified part of them |
    | `business_income`, `farm_income` | net income, negative for a loss |
    | `capital_gains` | capital gain distributions; the file has no other gains |
    | `ira_distributions`, `pensions`, `taxable_pensions` | taxable; total; taxable |
    | `social_security`, `taxable_social_security`, `unemployment` | benefits received |
    | `state_local_taxes`, `property_taxes`, `mortgage_interest` | expenses that can be itemized |
    | `charity_cash`, `charity_other`, `medical_expenses` | the same |
    | `agi` | adjusted gross income |
    | `standard_deduction`, `itemized_deductions` | the larger one; the other is 0 |
    | `taxable_income`, `tax_before_credits` | taxable income, and the income tax on it |
    | `eitc`, `child_tax_credit` | earned income credit; child and dependent tax credits |
    | `income_tax`, `payroll_tax` | after credits, negative for a refund; both shares |
    | `snap`, `ssi`, `tanf`, `wic`, `housing_assistance` | benefits in a year |
    | `medicaid`, `medicare`, `veterans_benefits` | insurance value; insurance value; benefits |
    | `is_filer` | income above the standard deduction, or tax or EITC not zero |
    | `weight` | tax units that the record stands for |

    Returns:
        A row per tax unit: counts as int64, dollars and weights as float64, `state` and
        `filing_status` as categories, `is_filer` as truth value.

    Raises:
        MissingExtra: If pandas or pyarrow is not installed.

    Examples:
        >>> cps = load_cps()
        >>> f"{cps['weight'].sum() / 1e6:.0f} million tax units"
        '212 million tax units'
    """
    try:
        import pandas as pd

        with as_file(files(__name__) / "cps_2023.parquet") as path:
            cps = pd.read_parquet(path)
    except ImportError as error:
        raise MissingExtra(_NEEDS_PANDAS) from error
    # The file has whole dollars in 32 bits: products of two of them would overflow without a word.
    narrow = {"int8": "int64", "int32": "float64"}
    types = {name: narrow[str(kind)] for name, kind in cps.dtypes.items() if str(kind) in narrow}
    return cps.astype(types | {"record_id": "int64"})


def load_cps_households() -> Survey:
    """3,000 households of the United States in 2023, with their tax units and persons.

    They are drawn from the same file as `load_cps`, which tells the household that each tax unit
    was interviewed in. Households, tax units, their heads and spouses, and every amount are of the
    file; the ages of other members are imputed within the band of age that the file counts them
    in, and `is_age_imputed` says so. Dollar amounts are of the year 2023, in whole dollars.

    | table | columns | meaning |
    |---|---|---|
    | household | `state`, `region` | two-letter code; census region, which follows from it |
    | household | `n_tax_units`, `n_persons`, `n_children` | derived; children are under 18 |
    | household | `income`, `snap` | derived: sums over its tax units |
    | household | `home_costs`, `pays_home_costs` | derived: over its tax units; whether above 0 |
    | household | `weight` | households that it stands for |
    | tax_unit | `filing_status` | single, joint, separate, head_of_household |
    | tax_unit | `interest`, `dividends`, `capital_gains` | taxable; ordinary; distributions only |
    | tax_unit | `pensions`, `social_security`, `unemployment` | taxable; benefits received |
    | tax_unit | `property_taxes`, `mortgage_interest` | expenses that can be itemized |
    | tax_unit | `charity`, `snap` | cash gifts; food assistance in the year |
    | tax_unit | `n_persons`, `n_spouses` | derived |
    | tax_unit | `earnings`, `income`, `home_costs` | derived, `income` with its own |
    | person | `role` | head, spouse or dependent of the tax unit |
    | person | `age`, `is_age_imputed` | years, 85 for more; True for dependents |
    | person | `wages`, `business_income`, `farm_income` | losses are negative; 0 for dependents |
    | person | `earnings` | derived: their sum |

    The file does not say who rents: `pays_home_costs` only says that a tax unit of the household
    has property taxes or mortgage interest, both of which its makers partly imputed.

    Returns:
        Survey with the tables `household`, `tax_unit` and `person` and their schema.

    Raises:
        MissingExtra: If pandas or pyarrow is not installed.

    Examples:
        >>> survey = load_cps_households()
        >>> {name: len(table) for name, table in survey.tables.items()}
        {'household': 3000, 'tax_unit': 4212, 'person': 8088}
        >>> f"{survey.weights.sum() / 1e6:.0f} million households"
        '153 million households'
    """
    try:
        from microcalibrate.regularise.survey import Survey
    except ImportError as error:
        raise MissingExtra(_NEEDS_PANDAS) from error
    with as_file(files(__name__) / "cps_households_2023") as folder:
        return Survey.read(folder)


def load_us_targets() -> pd.DataFrame:
    """284 published totals of the United States, in the form that `build_targets` reads.

    | family | what | source |
    |---|---|---|
    | `returns_by_agi`, `agi_by_agi` | returns and their income by income class | IRS 2023 |
    | `wages_by_agi`, `tax_before_credits_by_agi` | wages and tax by income class | IRS 2023 |
    | `returns_by_status`, `agi_by_status` | the same by filing status | IRS 2023 |
    | `totals`, `recipients` | twelve amounts, and the returns that have them | IRS 2023 |
    | `agi_by_state` | income of the returns from $10,000 under $500,000 | IRS 2022 |
    | `eitc_by_state` | earned income credit | IRS 2022 |
    | `snap_by_state` | food assistance | USDA 2024 |
    | `population_by_state` | residents | Census Bureau 2023 |

    The survey counts more persons in tax units than there are residents, and reports more food
    assistance and fewer returns than the government does: some targets pull against each other,
    as real ones do.

    Returns:
        A row per target with the columns `name`, `value`, `variable`, `aggregate`, `filter`,
        `family`, `source` and `year`.

    Raises:
        MissingExtra: If pandas is not installed.

    Examples:
        >>> targets = load_us_targets().set_index("name")
        >>> int(targets.loc["population_by_state/WY", "value"])
        584057
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra(_NEEDS_PANDAS) from error
    with as_file(files(__name__) / "us_targets.csv") as path:
        return pd.read_csv(path)


_NEEDS_PANDAS = "The example data need pandas and pyarrow: pip install pandas pyarrow"
