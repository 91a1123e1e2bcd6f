"""A survey in which a few units carry far too much, its targets, and a generator for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.regularise import Codec, Survey
from microcalibrate.regularise.generators import HotDeck

from .households import SCHEMA, make_survey

SURFACE = {
    "metrics": [{"name": "households", "value": "1"}, {"name": "persons", "value": "n_persons"}],
    "slices": ["region", "tenure"],
}


def survey_with_offenders(
    n: int = 150, n_offenders: int = 3, factor: float = 40.0, seed: int = 2
) -> Survey:
    """Households with even weights, but for a few that stand for far too many, by design."""
    rng = np.random.default_rng(seed)
    survey = make_survey(rng.integers(1, 4, n).tolist(), seed, schema=SCHEMA)
    base = rng.lognormal(3, 0.2, n)
    base[rng.choice(n, n_offenders, replace=False)] *= factor
    return with_weights(survey, base, base)


def with_weights(survey: Survey, weights: Any, base: Any) -> Survey:
    """The same survey with other weights of both kinds."""
    new = {"weight": np.asarray(weights), "base_weight": np.asarray(base)}
    table = survey.tables["household"].assign(**new)
    return Survey({**survey.tables, "household": table}, survey.schema)


SEEDS = tuple(range(10))
"""Seeds that were looked at while the code was written."""
UNUSED_SEEDS = tuple(range(200, 210))
"""Seeds that were declared before they were run, and not used while the code was written."""
FORMERLY_UNUSED_SEEDS = tuple(range(100, 110))
"""Seeds that were such ones before the way in which conditions are given up was changed."""
DESIGNS = ("planted", "calibrated", "drifted")
"""How five of 600 households come to stand for 40 times as many as the others:

- planted: weights in use and base weights are so, and so are the population totals;
- calibrated: only weights in use are so, and population totals with them, as where a calibration
  had to raise a few; base weights are even;
- drifted: only weights in use are so; base weights are even, and so is the population.

Targets are population totals with a noise of 5%.
"""


def designed(design: str, seed: int) -> tuple[Survey, pd.DataFrame]:
    """Survey and targets of one of the designs."""
    survey = survey_with_offenders(600, 5, 40.0, seed)
    heavy = survey.base_weights.to_numpy()
    if design == "planted":
        return survey, declared_targets(survey, seed=seed)
    even = np.where(heavy > 300, heavy / 40, heavy)
    survey = with_weights(survey, heavy, even)
    of = heavy if design == "calibrated" else even
    return survey, declared_targets(survey, seed=seed, weights=of)


def declared_targets(
    survey: Survey, noise: float = 0.05, seed: int = 0, weights: Any = None
) -> pd.DataFrame:
    """Totals that base weights, or others, meet up to some noise: of households and persons."""
    rng = np.random.default_rng(seed)
    homes, people = survey.tables["household"], survey.tables["person"]
    weights = survey.base_weights.to_numpy() if weights is None else weights
    of_persons = weights[survey.unit_positions("person")]
    rows = []
    for region in ("north", "south"):
        mask = (homes["region"] == region).to_numpy()
        where = f"region == '{region}'"
        rows.append({"name": f"homes/{region}", "value": weights[mask].sum(), "filter": where})
        total = (weights * homes["income"].to_numpy())[mask].sum()
        income = {"name": f"income/{region}", "value": total, "variable": "income"}
        rows.append({**income, "filter": where})
    for tenure in ("owned", "rented", "other"):
        mask = (homes["tenure"] == tenure).to_numpy()
        where = f"tenure == '{tenure}'"
        rows.append({"name": f"tenure/{tenure}", "value": weights[mask].sum(), "filter": where})
    for low, high in ((0, 18), (18, 50), (50, 111)):
        mask = people["age"].between(low, high - 1).to_numpy()
        where = f"age >= {low} and age < {high}"
        total = of_persons[mask].sum()
        rows.append({"name": f"age/{low}", "value": total, "filter": where, "entity": "person"})
    table = pd.DataFrame(rows)
    return table.assign(value=table["value"] * rng.lognormal(0, noise, len(table)))


def hot_deck(survey: Survey) -> tuple[HotDeck, Codec]:
    """A generator that takes free cells from real households."""
    codec = Codec.fit(survey, coverage=1.0)
    rows = codec.encode(survey)
    weights = survey.base_weights.reindex(rows.index).to_numpy()
    return HotDeck().fit(rows, codec.columns, weights, seed=0), codec


def even_hot_deck(survey: Survey) -> tuple[HotDeck, Codec, pd.DataFrame]:
    """Such a generator, to which every unit counts once, and the rows that it knows."""
    codec = Codec.fit(survey, coverage=1.0)
    rows = codec.encode(survey)
    return HotDeck().fit(rows, codec.columns, np.ones(len(rows)), seed=0), codec, rows


class Stubborn:
    """A generator with a flaw: what it draws is changed by a function before it is handed out."""

    name = "stub"

    def __init__(self, inner: HotDeck, change: Any) -> None:
        self.inner, self.change, self.columns = inner, change, inner.columns

    def sample_conditional(self, given: Any, free_mask: Any, seed: int, n: int = 1) -> Any:
        """Rows of the inner generator, changed."""
        rows, achieved = self.inner.sample_conditional(given, free_mask, seed, n)
        return self.change(rows, achieved)


def same_tables(first: Survey, second: Survey) -> bool:
    """Whether two surveys have the same values, types and order in all tables."""
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name], check_exact=True)
    return list(first.tables) == list(second.tables)
