"""A survey, a good target of it, and what is found about others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.target_checks import check_targets


def survey(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "w": rng.gamma(3, 100, n),
            "age": rng.integers(0, 90, n),
            "sex": rng.choice(["f", "m"], n),
            "region": rng.choice(list("abc"), n),
            "income": rng.lognormal(9, 1, n),
            "gap": np.where(rng.random(n) < 0.1, np.nan, 1.0),
            "none": 0.0,
        }
    )


PEOPLE = survey()
TOTAL = float(PEOPLE["w"].sum())
INCOME = float(PEOPLE["w"] @ PEOPLE["income"])
WOMEN = float(PEOPLE["w"][PEOPLE["sex"] == "f"].sum())
GOOD = {"name": "good", "value": TOTAL, "agg": "count"}


def kinds(rows: list[dict[str, Any]], **options: Any) -> dict[str, set[tuple[str, str]]]:
    """Severity and kind of what is found about each target."""
    found = check_targets(PEOPLE, rows, weight="w", **options).findings
    return {
        name: set(zip(part["severity"], part["kind"], strict=True))
        for name, part in found.groupby("name")
    }
