"""Columns that say of every record where it came from, and the way back to the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.errors import InvalidSurvey
from microcalibrate.regularise.survey import Survey

SYNTHETIC = "_mc_synthetic"
LINEAGE = "_mc_lineage"
ROUND = "_mc_round"
BACKEND = "_mc_backend"
CONDITIONED = "_mc_conditioned"
PROVENANCE = (SYNTHETIC, LINEAGE, ROUND, BACKEND, CONDITIONED)
"""Whether a record was generated; the unit of the survey that it descends from; the round that it
was generated in, 0 for none; the generator; and, for units, the columns of the slot row that it
shares with the unit that it was made from, joined by semicolons."""

SEPARATOR = ";"


def marked(
    survey: Survey,
    *,
    lineage: npt.ArrayLike | None = None,
    round: int = 0,
    backend: str = "",
    conditioned: Sequence[str] | None = None,
) -> Survey:
    """The survey with the columns of provenance in every table.

    Args:
        survey: Units of one kind: respondents (round 0), or generated in one round. Columns of
            provenance that are there already are kept where the round is 0.
        lineage: Origin of each unit; by default each unit is its own.
        round: In which they were generated.
        backend: Name of the generator.
        conditioned: For each unit, the names that stand in `_mc_conditioned`.

    Examples:
        >>> from microcalibrate.datasets import load_cps_households
        >>> table = marked(load_cps_households()).tables["person"]
        >>> bool(table["_mc_synthetic"].any())
        False
    """
    ids = survey.unit_ids.to_numpy()
    origins = pd.Series(ids if lineage is None else np.asarray(lineage))
    own = survey.tables[survey.unit]
    if round == 0 and LINEAGE in own.columns:
        origins = own[LINEAGE]
    origins = origins.astype(own[survey.ids[survey.unit]].dtype).reset_index(drop=True)
    tables = {}
    for name, table in survey.tables.items():
        rows = survey.unit_positions(name)
        is_unit = name == survey.unit
        columns: dict[str, Any] = {
            SYNTHETIC: np.full(len(table), round > 0),
            LINEAGE: origins.iloc[rows].reset_index(drop=True),
            ROUND: np.full(len(table), round, dtype=np.int64),
            BACKEND: pd.Series([backend] * len(table), dtype="str"),
        }
        if is_unit:
            texts = [""] * len(table) if conditioned is None else list(conditioned)
            columns[CONDITIONED] = pd.Series(texts, dtype="str")
        kept = [column for column in columns if round == 0 and column in table.columns]
        tables[name] = table.assign(
            **{column: values for column, values in columns.items() if column not in kept}
        )
    return Survey(tables, survey.schema)


def without_provenance(survey: Survey, keep: Sequence[str] = ()) -> Survey:
    """The survey without the columns that `marked` adds, but for those to keep."""
    gone = [column for column in PROVENANCE if column not in keep]
    tables = {
        name: table.drop(columns=[column for column in gone if column in table.columns])
        for name, table in survey.tables.items()
    }
    return Survey(tables, survey.schema)


def without_units(survey: Survey, mask: npt.NDArray[np.bool_]) -> Survey:
    """The survey without some units and what belongs to them; all else keeps its order.

    Args:
        survey: The whole.
        mask: True for the units to leave out, shape `(n_units,)`.
    """
    tables = {
        name: table[~mask[survey.unit_positions(name)]] for name, table in survey.tables.items()
    }
    return Survey(tables, survey.schema)


def original_weights(survey: Survey) -> pd.DataFrame:
    """What `restore` needs: a row per unit: `id`, `weight`, base weight if declared."""
    table = survey.tables[survey.unit]
    content = {"id": survey.unit_ids.to_numpy(), "weight": table[survey.schema.weight].to_numpy()}
    if survey.schema.base_weight is not None:
        content["base_weight"] = table[survey.schema.base_weight].to_numpy()
    return pd.DataFrame(content)


def restore(survey: Survey, weights: pd.DataFrame, *, keep: Sequence[str] = ()) -> Survey:
    """The survey without generated records, with the weights that it had.

    Where sources were retained, that is the input, to the last bit. Where they were replaced, it
    is every record of the input that was not.

    Args:
        survey: What regularising gave.
        weights: `original_weights` of the result: `id`, `weight`, and `base_weight` where the
            schema declares one.
        keep: Columns of provenance that the input had itself.

    Returns:
        The records of the input that are left, in their order.

    Raises:
        InvalidSurvey: If there are no columns of provenance, or a unit has no weight.
    """
    units = survey.tables[survey.unit]
    if SYNTHETIC not in units.columns:
        raise InvalidSurvey(
            f"the table {survey.unit!r} has no column {SYNTHETIC!r}, so nothing says which records "
            "were generated. Give the survey of a result, with its columns of provenance."
        )
    added = units[ROUND].to_numpy() > 0
    if SYNTHETIC in keep:
        # The input had generated records of its own, of an earlier run: those stay.
        known = pd.Index(weights["id"])
        added &= ~np.asarray(known.get_indexer(pd.Index(units[survey.ids[survey.unit]])) >= 0)
    left = without_provenance(without_units(survey, added), keep)
    places = pd.Index(weights["id"]).get_indexer(left.unit_ids)
    if (places < 0).any():
        first = left.unit_ids.to_numpy()[places < 0].tolist()[0]
        raise InvalidSurvey(f"the weights have no row for the unit {first!r}. Give those saved.")
    columns = {survey.schema.weight: "weight"}
    if survey.schema.base_weight is not None:
        columns[survey.schema.base_weight] = "base_weight"
    table = left.tables[survey.unit].assign(
        **{name: weights[source].to_numpy()[places] for name, source in columns.items()}
    )
    return Survey({**left.tables, survey.unit: table}, survey.schema)
