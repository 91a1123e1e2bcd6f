"""A survey in which some units are spread over their offspring, not yet recalibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.regularise.choosing import MOST_UNEVEN, shared_weights
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.identifiers import Identifiers
from microcalibrate.regularise.litters import Litter
from microcalibrate.regularise.provenance import (
    LINEAGE,
    marked,
    without_provenance,
    without_units,
)
from microcalibrate.regularise.state import State, Yardstick
from microcalibrate.regularise.survey import Survey, concatenate, select_units
from microcalibrate.regularise.target_rows import (
    CalculatedRows,
    DeclaredRows,
    Evaluated,
    Grown,
    as_vector,
)

Mode = Literal["replace", "retain"]

# A target that is missed by no more than this, in scales, counts as met.
MET = 0.01
# The heaviest offspring of a unit is to have at most this part of the limit that the unit is above.
BELOW_LIMIT = 0.9
LEAST_UNEVEN = 1.5


@dataclass(frozen=True, eq=False)
class Spread:
    """What a round made, before weights were fitted to the targets.

    Attributes:
        survey: The units that stay and, after them, the offspring.
        prior: Weights that recalibration starts from, shape `(n_units,)`.
        matrix: What each unit adds to each target.
        evaluated: Columns of a user's model, or None.
        units: Ids of the offspring, and of their sources where these stay.
        origins: Origins of the offspring.
        offspring: A row for each: `id`, `source`, `fraction`, `achieved`.
        share_near: Share of the litters that add to each met target what their source added,
            within 5%.
        near: Which litters these are.
        ceilings: Largest weight of each unit, None where there are none.
    """

    survey: Survey
    prior: Vector
    matrix: Any
    evaluated: Evaluated | None
    units: NDArray[Any]
    origins: NDArray[Any]
    offspring: pd.DataFrame
    share_near: float
    near: tuple[bool, ...] = ()
    ceilings: Vector | None = None


def spread(
    state: State,
    litters: Sequence[Litter],
    *,
    start: Survey,
    codec: Codec,
    builder: DeclaredRows | CalculatedRows,
    yardstick: Yardstick,
    mode: Mode,
    round: int,
    backend: str,
    check: bool,
    rows: Any = None,
) -> Spread:
    """Put offspring in the place of their sources, or beside them, with all of their weight.

    The weights of a lineage add up to what they were; so do its prior weights, and its base
    weights where the schema has any.

    Args:
        state: The survey as it stands.
        litters: Offspring; none of them empty.
        start: The survey as it came, whose ids are never given out again.
        codec: Of the slot rows.
        builder: Gives what units add to targets.
        yardstick: Of the run.
        mode: "replace" or "retain".
        round: Number of the round.
        backend: Name of the generator.
        check: Whether to compare the user's functions on offspring alone with the whole.
        rows: What the offspring add to targets, where a user's function told it already.

    Raises:
        InvalidProblem: If a user's function gives no proper rows, or looks beyond a household.
        InvalidTargetTable: If a declared target has no record left that contributes to it.
    """
    sizes = np.array([len(litter.rows) for litter in litters])
    sources = np.array([litter.offender.position for litter in litters], dtype=np.intp)
    of = np.repeat(np.arange(len(litters)), sizes)
    ids = state.survey.unit_ids.to_numpy()
    slot_rows = pd.concat([litter.rows for litter in litters], ignore_index=True)
    part = select_units(state.survey, ids[sources].tolist())
    offspring = codec.decode(
        slot_rows,
        source=part,
        origins=ids[sources[of]].tolist(),
        weights=1.0,
        base_weights=1.0 if part.schema.base_weight is not None else None,
        round=round,
        identifiers=_identifiers(start, state.survey),
    )
    offspring = marked(
        offspring,
        lineage=state.lineage[sources[of]],
        round=round,
        backend=backend,
        conditioned=[text for litter in litters for text in litter.held],
    )
    is_source = np.zeros(len(ids), dtype=np.bool_)
    is_source[sources] = True
    gone = is_source if mode == "replace" else np.zeros(len(ids), dtype=np.bool_)
    joined = concatenate([without_units(state.survey, gone), offspring])

    weights = state.weights
    placeholder = np.r_[weights[~gone], np.ones(len(of))]
    kept_rows = state.matrix[~gone]
    matrix = builder.extended(Grown(joined, offspring, kept_rows, placeholder, check, rows))
    evaluated = state.evaluated
    if evaluated is not None:
        kept = {name: ~gone[state.survey.unit_positions(name)] for name in state.survey.tables}
        evaluated = evaluated.extended(joined, offspring, kept, check)

    n_kept = int((~gone).sum())
    shares, near = _shares(state, yardstick, litters, matrix, n_kept, of, mode)
    left = 1 / (sizes + 1) if mode == "retain" else np.zeros(len(sizes))

    def divided(values: Vector) -> Vector:
        """Values of units handed down: to the offspring by their shares, the rest stays."""
        stays = values.copy()
        stays[sources] *= left
        handed_down: Vector = values[sources[of]] * shares
        return np.concatenate([stays[~gone], handed_down])

    tables = dict(joined.tables)
    columns = {joined.schema.weight: divided(weights)}
    if joined.schema.base_weight is not None:
        columns[joined.schema.base_weight] = divided(as_vector(state.survey.base_weights))
    tables[joined.unit] = tables[joined.unit].assign(**columns)
    survey = Survey(tables, joined.schema)
    fresh = survey.unit_ids.to_numpy()[n_kept:]
    units = np.concatenate([fresh, ids[sources]]) if mode == "retain" else fresh
    return Spread(
        survey=survey,
        prior=divided(state.prior),
        matrix=matrix,
        evaluated=evaluated,
        units=units,
        origins=np.unique(state.lineage[sources]),
        offspring=pd.DataFrame(
            {
                "id": fresh,
                "source": ids[sources[of]],
                "fraction": np.concatenate([litter.fractions for litter in litters]),
                "achieved": np.concatenate([litter.achieved for litter in litters]),
            }
        ),
        share_near=float(np.mean(near)),
        near=tuple(near),
        ceilings=(
            None
            if state.ceilings is None
            else np.concatenate([state.ceilings[~gone], np.full(len(of), np.inf)])
        ),
    )


def _shares(
    state: State,
    yardstick: Yardstick,
    litters: Sequence[Litter],
    matrix: Any,
    n_kept: int,
    of: NDArray[np.intp],
    mode: Mode,
) -> tuple[Vector, list[bool]]:
    """Share of its source's weight that each offspring gets, shape `(n_offspring,)`."""
    weights = state.weights
    errors = np.abs(yardstick.errors(weights, state.matrix))
    tolerances = np.nan_to_num(yardstick.targets.tolerances, nan=0.0)
    met = errors <= np.maximum(tolerances, MET)
    everything = np.ones(len(met), dtype=np.bool_)
    limit = BELOW_LIMIT * float(yardstick.diagnosing["threshold"])
    shares, near = np.zeros(len(of)), []
    for number, litter in enumerate(litters):
        source = litter.offender.position
        mine = np.flatnonzero(of == number)
        given = len(mine) / (len(mine) + 1) if mode == "retain" else 1.0
        own = state.matrix[[source]]
        own = own.toarray()[0] if hasattr(own, "toarray") else np.asarray(own)[0]
        even_share = given * litter.offender.share / len(mine)
        uneven = float(np.clip(limit / max(even_share, 1e-300), LEAST_UNEVEN, MOST_UNEVEN))

        def handed_down(counting: Any) -> tuple[Vector, bool]:
            return shared_weights(
                float(weights[source]),  # noqa: B023 -- called in this turn of the loop
                matrix[n_kept + mine],  # noqa: B023
                own,  # noqa: B023
                counting,
                yardstick.targets.scales,
                uneven,  # noqa: B023
            )

        # Targets that are missed stay as they are too, where that does not cost those that are met.
        found, is_near = handed_down(everything)
        if not is_near and not met.all():
            found, is_near = handed_down(met)
        shares[mine] = found * (given / found.sum())
        near.append(is_near)
    return shares, near


def _identifiers(start: Survey, now: Survey) -> Identifiers:
    """Ids that neither the survey as it came nor its offspring have."""
    known = np.isin(now.unit_ids.to_numpy(), start.unit_ids.to_numpy())
    plain = without_provenance(start)
    if known.all():
        return Identifiers.of(plain)
    return Identifiers.of(concatenate([plain, without_provenance(without_units(now, known))]))


def lineage_sizes(survey: Survey) -> pd.Series[int]:
    """How many units each origin has, by its id."""
    counts: pd.Series[int] = survey.tables[survey.unit][LINEAGE].value_counts(sort=False)
    return counts
