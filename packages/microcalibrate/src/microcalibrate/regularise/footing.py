"""Who carries too much before and after, counted in the same statistics and by the same limits.

Whether a cell is thin depends on how many contribute to it, and offspring contribute. So a cell
with a few respondents ceases to be thin when one of them is spread, and its members, whom nobody
judged before, are flagged; and a limit of three over the number of contributors falls when there
are more of them. Counts before and after then differ for reasons that have nothing to do with
weights. Here the statistics are those that were judged in a first diagnosis, with the limits that
they had in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.diagnostics import Diagnosis
from microcalibrate.diagnostics.flags import FlagRules
from microcalibrate.diagnostics.scenarios import BASELINE


@dataclass(frozen=True, eq=False)
class Footing:
    """Statistics that all states of a run are judged in.

    Attributes:
        limits: Share above which a unit carries too much, by statistic.
        by_origin: Statistics at baseline in which origins are judged.
        reform_fraction: Fraction of the reforms in which a unit must carry too much.
    """

    limits: Mapping[str, float]
    by_origin: frozenset[str]
    reform_fraction: float

    @classmethod
    def of(cls, first: Diagnosis) -> Footing:
        """The statistics that are not thin in a diagnosis, and their limits."""
        cells, settings = first.cells, first.settings
        names = cells["statistic"].astype(str)
        judged = ~cells["is_thin"].to_numpy(bool)
        rules = FlagRules(
            threshold=settings["threshold"],
            least_contributors=settings["least_contributors"],
            least_effective=settings["least_effective"],
            flag_dominating=settings["flag_dominating"],
        )
        reasons = rules.thin_reasons(
            cells["n_lineages"].to_numpy(np.float64),
            cells["lineage_effective"].to_numpy(np.float64),
            cells["largest_lineage_share"].to_numpy(np.float64),
        )
        of_origins = (reasons == 0) & (cells["reform"].astype(str) == BASELINE).to_numpy()
        return cls(
            limits=dict(zip(names[judged], cells["limit"][judged].astype(float), strict=True)),
            by_origin=frozenset(names[of_origins]),
            reform_fraction=float(settings["reform_fraction"]),
        )

    def above(self, now: Diagnosis) -> pd.DataFrame:
        """Units above the limit of a statistic that is judged, with all figures of `influence`.

        Returns:
            Rows of `influence` with `excess`; `limit` is that of the footing.
        """
        found = now.influence
        limits = found["statistic"].astype(str).map(self.limits).to_numpy(np.float64)
        found = found.assign(limit=limits, excess=found["share"].to_numpy() - limits)
        return found[found["excess"].to_numpy() > 0]

    def flagged(self, now: Diagnosis) -> pd.Index[Any]:
        """Ids of the units that carry too much, at baseline or in enough of the reforms."""
        above = self.above(now)
        at_baseline = (above["reform"].astype(str) == BASELINE).to_numpy()
        found = set(above.loc[at_baseline, "id"].tolist())
        n_reforms = int(now.summary_figures["n_reforms_ok"])
        if n_reforms:
            over = above.loc[~at_baseline, ["id", "reform"]].drop_duplicates()
            counts = over.groupby("id", observed=True).size()
            found |= set(counts.index[counts >= self.reform_fraction * n_reforms * (1 - 1e-9)])
        ids: pd.Index[Any] = pd.Index(now.records["id"])
        is_found = np.array([unit in found for unit in ids.tolist()], dtype=np.bool_)
        return ids[is_found].copy()

    def worst(self, now: Diagnosis) -> pd.DataFrame:
        """The flagged units, those furthest above a limit first, each with where that is.

        Returns:
            Columns `id`, `share`, `limit`, `excess`, `statistic`, `metric`, `slice` and `cell`.
        """
        found = self.above(now)
        found = found[found["id"].isin(self.flagged(now))]
        place = pd.Index(now.records["id"]).get_indexer(pd.Index(found["id"]))
        order = np.lexsort([np.arange(len(found)), place, -found["excess"].to_numpy()])
        found = found.iloc[order].drop_duplicates("id")
        texts = ["statistic", "metric", "slice", "cell"]
        columns = ["id", "share", "limit", "excess", *texts]
        return found[columns].astype(dict.fromkeys(texts, "str")).reset_index(drop=True)

    def n_elsewhere(self, now: Diagnosis) -> int:
        """How many units are flagged only in statistics that were thin at first."""
        return int((~pd.Index(now.flagged["id"]).isin(self.flagged(now))).sum())

    def largest_share(self, now: Diagnosis, units: Any = None) -> float:
        """Largest share of a unit, of some units, in the statistics that are judged."""
        found = now.influence
        is_judged = found["statistic"].astype(str).isin(self.limits.keys()).to_numpy()
        if units is not None:
            is_judged = is_judged & found["id"].isin(units).to_numpy()
        if is_judged.any():
            return float(found["share"].to_numpy()[is_judged].max())
        # All of them are below what the table of influence keeps.
        records = now.records if units is None else now.records[now.records["id"].isin(units)]
        return float(records["share"].max()) if len(records) else 0.0

    def largest_lineage_share(self, now: Diagnosis) -> float:
        """Largest share of an origin at baseline, in the statistics in which these are judged."""
        is_judged = now.cells["statistic"].astype(str).isin(self.by_origin)
        shares = now.cells.loc[is_judged, "largest_lineage_share"]
        return float(shares.max()) if len(shares) else 0.0
