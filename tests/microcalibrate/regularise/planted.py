"""Rows in which one column is a function of another, for tests of generators."""

from __future__ import annotations

import numpy as np
import pandas as pd

from microcalibrate.regularise.slots import SlotColumn

# Shares of the cells that are given.
FRACTIONS = (0.2, 0.4, 0.5, 0.6, 0.8)
LETTERS = tuple("abcdef")
GROUP = {"a": "u", "b": "u", "c": "u", "d": "v", "e": "v", "f": "w"}
SHARES = np.array([0.3, 0.1, 0.1, 0.25, 0.05, 0.2])


def column(name, type_, levels=None, **declared):
    """A column of the only unit of a record."""
    return SlotColumn(name, "unit", 0, name, type_, levels, **declared)


COLUMNS = (
    column("letter", "category", LETTERS),
    column("group", "category", ("u", "v", "w")),
    column("high", "boolean", missing=True),
    column("income", "number"),
)


def planted(n, seed):
    """`group` is a function of `letter`, `high` says whether income is above 20,000 or so."""
    rng = np.random.default_rng(seed)
    letter = rng.choice(LETTERS, n, p=SHARES)
    income = np.where(rng.random(n) < 0.3, 0, rng.lognormal(10, 1, n))
    high = pd.array(income > 20_000, dtype="boolean")
    high[rng.random(n) < 0.1] = pd.NA
    return pd.DataFrame(
        {
            "letter": pd.Categorical(letter, LETTERS),
            "group": pd.Categorical([GROUP[x] for x in letter], ["u", "v", "w"]),
            "high": high,
            "income": income,
        }
    )


def free_columns(*names):
    """Mask of the columns with these names, which are drawn anew."""
    return np.array([c.name in names for c in COLUMNS])
