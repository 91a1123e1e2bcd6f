"""Households, their benefit units, and persons who know their benefit unit alone."""

from __future__ import annotations

import html
import time

import numpy as np
import pandas as pd

N_HOMES, N_PEOPLE = 40, 100
TARGETS = """name,target,entity,variable,aggregate,filter
homes,900,,,count,
people,2300,person,,count,
old,400,person,,count,age >= 65
wages/north,20000000,person,wages,sum,region == 'north'
claims,500,benefit_unit,claims,sum,
"""


def homes() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "number": generator.permutation(N_HOMES) + 500,
            "weight": generator.uniform(15, 25, N_HOMES).round(3),
            "region": generator.choice(["north", "south"], N_HOMES),
            "rooms": generator.integers(1, 6, N_HOMES),
        }
    )


def units() -> pd.DataFrame:
    """Benefit units, two in every household."""
    generator = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "benefit_unit_id": np.arange(2 * N_HOMES),
            "number": np.repeat(np.arange(N_HOMES) + 500, 2),
            "claims": generator.integers(0, 2, 2 * N_HOMES),
        }
    )


def people() -> pd.DataFrame:
    """Persons, who know their benefit unit alone."""
    generator = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "person_id": np.arange(N_PEOPLE),
            "unit_of": generator.integers(0, 2 * N_HOMES, N_PEOPLE),
            "age": generator.integers(0, 90, N_PEOPLE),
            "wages": generator.gamma(2, 10_000, N_PEOPLE).round(),
        }
    )


def waited(run):
    while not run.state.is_over:
        time.sleep(0.05)
    return run


def last(workspace, command):
    """The newest run of a command, over and done."""
    run = waited(next(run for run in workspace.runs() if run.command == command))
    assert run.state.value == "done", run.log_tail()
    return run


def said(page) -> str:
    """What stands in parts of reports, as it is read."""
    return html.unescape(page.words)
