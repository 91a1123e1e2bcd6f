"""Kish's effective sample size: overall, by slice, by household, and by lineage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.diagnostics.cells import Cells, sums_by
from microcalibrate.diagnostics.frame import Frame, Index, Vector

if TYPE_CHECKING:
    import pandas as pd

KISH_COLUMNS = (
    "slice",
    "cell",
    "entity",
    "n",
    "n_eff",
    "design_effect",
    "n_eff_over_n",
    "n_units",
    "cluster_n_eff",
    "n_lineages",
    "lineage_n_eff",
)


def kish_by_group(weights: Vector, groups: Index, n_groups: int) -> tuple[Vector, Vector]:
    """Number of positive weights, and Kish's effective number of them, in each group.

    `n_eff = sum(w)**2 / sum(w**2)` (Kish 1965), 0 for an empty group; the design effect of
    weighting is `n / n_eff = 1 + CV**2`.

    Args:
        weights: Not negative, shape `(n_rows,)`.
        groups: Group of each row, shape `(n_rows,)`.
        n_groups: How many groups there are.

    Returns:
        `n` and `n_eff`, each of shape `(n_groups,)`.

    Examples:
        >>> n, n_eff = kish_by_group(np.array([1.0, 1.0, 1000.0, 7.0]), np.array([0, 0, 0, 1]), 3)
        >>> n.tolist(), np.round(n[:2] / n_eff[:2], 6).tolist(), n_eff[2].item()
        ([3.0, 1.0, 0.0], [2.988042, 1.0], 0.0)
    """
    # The scale must not matter, not even where squares would leave the range of float64.
    largest = float(weights.max(initial=0.0))
    scaled = weights / largest if largest > 0 else weights
    n = sums_by(groups, scaled > 0, n_groups)
    total = sums_by(groups, scaled, n_groups)
    squares = sums_by(groups, scaled**2, n_groups)
    n_eff = np.divide(total**2, squares, out=np.zeros(n_groups), where=squares > 0)
    return n, n_eff


def kish_table(
    frame: Frame,
    weights: Vector,
    lineage: Index,
    slices: list[tuple[str, str, Cells]],
) -> pd.DataFrame:
    """Effective sample sizes overall and in every cell, at the slice's own entity.

    A row of a table below the unit has the weight of its unit (`n`, `n_eff`). Rows of one unit
    tend to be alike, so that many persons of few households say little: `cluster_n_eff` takes the
    weights of a unit's rows in the cell together, as if they were all the same, and
    `lineage_n_eff` those of all units of one origin.

    Args:
        frame: The tables.
        weights: Weight of each unit.
        lineage: Number of each unit's origin.
        slices: Name, entity and cells of each slice.

    Returns:
        One row per cell, with the columns `KISH_COLUMNS`.
    """
    import pandas as pd

    everyone = Cells(np.zeros(frame.n_units, dtype=np.intp), ("all",))
    parts = []
    for name, entity, cells in [("all", frame.unit, everyone), *slices]:
        unit = frame.rows_of(entity, frame.unit)
        of_rows = weights[unit]
        n, n_eff = kish_by_group(of_rows, cells.codes, len(cells.labels))
        n_units, cluster = _kish_of_clusters(of_rows, unit, cells)
        n_lineages, by_lineage = _kish_of_clusters(of_rows, lineage[unit], cells)
        parts.append(
            pd.DataFrame(
                {
                    "slice": name,
                    "cell": list(cells.labels),
                    "entity": entity,
                    "n": n.astype(np.int64),
                    "n_eff": n_eff,
                    "design_effect": np.divide(
                        n, n_eff, out=np.full(len(n), np.nan), where=n_eff > 0
                    ),
                    "n_eff_over_n": np.divide(n_eff, n, out=np.full(len(n), np.nan), where=n > 0),
                    "n_units": n_units.astype(np.int64),
                    "cluster_n_eff": cluster,
                    "n_lineages": n_lineages.astype(np.int64),
                    "lineage_n_eff": by_lineage,
                },
                columns=list(KISH_COLUMNS),
            )
        )
    return pd.concat(parts, ignore_index=True)


def _kish_of_clusters(weights: Vector, cluster: Index, cells: Cells) -> tuple[Vector, Vector]:
    """`kish_by_group` of the weights that each cluster has in each cell."""
    n_cells = len(cells.labels)
    keys, place = np.unique(cluster * n_cells + cells.codes, return_inverse=True)
    mass = sums_by(place, weights, len(keys))
    return kish_by_group(mass, keys % n_cells, n_cells)


def weight_figures(weights: Vector) -> dict[str, float]:
    """How unequal the positive weights are, in the figures that survey practice uses.

    Args:
        weights: Not negative, shape `(n_units,)`, at least one positive.

    Returns:
        `n`, `total`, `mean`, `median`, `p90`, `p99`, `largest`, `largest_over_median`,
        `skewness` (third standardised moment, 0 for equal weights), `top_1_percent` (share of the
        weight that the heaviest 1% hold), `above_2_means`, `above_5_means`, `above_10_means`,
        `below_half_mean`, `below_tenth_mean` (shares of records), and `median_breakdown`, the
        least share of records that hold half of the weight.
    """
    kept = np.sort(weights[weights > 0])
    mean, spread = float(kept.mean()), float(kept.std())
    # Weights that differ by rounding only are equal; their skewness is noise over noise.
    unequal = spread > 1e-12 * mean
    from_the_top = np.cumsum(kept[::-1])
    half = int(np.searchsorted(from_the_top, from_the_top[-1] / 2 * (1 - 1e-12))) + 1
    heaviest = math.ceil(len(kept) / 100)
    ratio = kept / mean
    found: dict[str, Any] = {
        "n": len(kept),
        "total": kept.sum(),
        "mean": mean,
        "median": np.median(kept),
        "p90": np.quantile(kept, 0.9),
        "p99": np.quantile(kept, 0.99),
        "largest": kept[-1],
        "largest_over_median": kept[-1] / np.median(kept),
        "skewness": (((kept - mean) / spread) ** 3).mean() if unequal else 0.0,
        "top_1_percent": from_the_top[heaviest - 1] / from_the_top[-1],
        "above_2_means": (ratio > 2).mean(),
        "above_5_means": (ratio > 5).mean(),
        "above_10_means": (ratio > 10).mean(),
        "below_half_mean": (ratio < 0.5).mean(),
        "below_tenth_mean": (ratio < 0.1).mean(),
        "median_breakdown": half / len(kept),
    }
    return {name: float(value) for name, value in found.items()}
