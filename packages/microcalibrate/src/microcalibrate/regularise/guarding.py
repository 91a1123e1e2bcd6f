"""Bounds on the weights of records that recalibration would make carry too much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.arrays import Vector
from microcalibrate.diagnostics import Diagnosis
from microcalibrate.regularise.footing import Footing

# Solves of one round: bounds that were found from the last one hold the next.
MOST_PASSES = 4
# A weight is bounded a little below what its limit allows, since totals move as well.
BELOW = 0.97


def tightened(
    now: Diagnosis,
    ceilings: Vector | None,
    footing: Footing,
    before: Diagnosis,
    reference: Diagnosis,
    origins: Any,
    allowed: float,
) -> Vector | None:
    """Largest weights with which nobody would carry too much who did not before.

    Args:
        now: Diagnosis of the weights that were found.
        ceilings: Bounds that they keep, shape `(n_units,)`; None for none.
        footing: Statistics and limits.
        before: Diagnosis before the round: units that were flagged in it are not bounded.
        reference: Diagnosis that shares of origins are compared with.
        origins: Those of the batch.
        allowed: Most that the largest share of an origin may grow, as a fraction.

    Returns:
        Tighter bounds, shape `(n_units,)`; None where none is needed.
    """
    records = now.records
    weights = records["weight"].to_numpy(np.float64)
    factor = np.ones(len(records))
    above = footing.above(now)
    flagged = footing.flagged(now).difference(footing.flagged(before), sort=False)
    above = above[above["id"].isin(flagged)]
    if len(above):
        least = (above["limit"] / above["share"]).groupby(above["id"].to_numpy()).min()
        places = pd.Index(records["id"]).get_indexer(least.index)
        factor[places] = BELOW * least.to_numpy(np.float64)

    then = reference.records
    of_batch = records["lineage"].isin(origins).to_numpy()
    share = records["lineage_share"].to_numpy(np.float64)
    former = then.loc[then["lineage"].isin(origins), "lineage_share"]
    most = np.full(len(records), float(then["lineage_share"].max()))
    if len(former):
        most[of_batch] = np.minimum(most[of_batch], float(former.max()))
    gained = share > (1 + allowed) * most
    factor[gained] = np.minimum(factor[gained], (1 + allowed / 2) * most[gained] / share[gained])
    is_bounded = (factor < 1) & (weights > 0)
    if not is_bounded.any():
        return None
    found = np.full(len(records), np.inf) if ceilings is None else ceilings.copy()
    found[is_bounded] = np.minimum(found, factor * weights)[is_bounded]
    return found
