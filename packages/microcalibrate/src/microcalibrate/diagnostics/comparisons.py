"""Cut-offs for weights that survey practice knows, for comparison only: none is a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.diagnostics.flags import Mask
from microcalibrate.diagnostics.frame import Vector

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

N_CAPS = 30
COMPARISON_COLUMNS = ("rule", "group", "cutoff", "n", "n_above", "weight_above")
POTTER_COLUMNS = ("cap", "n_capped", "relative_mse", "relative_bias", "relative_variance")

NAEP_LOW, NAEP_HIGH, TUKEY, POTTER = (
    "NAEP: 3.5 × median",
    "NAEP: 4.5 × median",
    "Tukey: far out (Q3 + 3 IQR)",
    "Potter: least mean squared error",
)
FLAG_COLUMNS = {
    NAEP_LOW: "above_naep_3_5",
    NAEP_HIGH: "above_naep_4_5",
    TUKEY: "above_tukey",
    POTTER: "above_potter",
}


def compare_cutoffs(
    weights: Vector, groups: NDArray[Any], amounts: Sequence[Vector]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Mask]]:
    """What the known rules would call an extreme weight.

    NAEP compares with multiples of the median of the unit's group, Tukey with the quartiles of the
    group (far out: above the third quartile plus three interquartile ranges), and Potter (1990)
    with the cap of least estimated mean squared error over all units.

    Args:
        weights: Weight of each unit, not negative, shape `(n_units,)`.
        groups: Group of each unit for NAEP and Tukey, shape `(n_units,)`.
        amounts: What each unit has of some metrics, each of shape `(n_units,)`.

    Returns:
        One row per rule and group (`COMPARISON_COLUMNS`); Potter's curve (`POTTER_COLUMNS`); and
        by column of the table of records, which units are above their cut-off.
    """
    import pandas as pd

    positive = weights > 0
    labels, codes = np.unique(groups, return_inverse=True)
    rows: list[tuple[str, str, float, Mask]] = []
    for code, label in enumerate(labels.tolist()):
        members = positive & (codes == code)
        if not members.any():
            continue
        low, median, high = np.quantile(weights[members], [0.25, 0.5, 0.75])
        for rule, cutoff in (
            (NAEP_LOW, 3.5 * median),
            (NAEP_HIGH, 4.5 * median),
            (TUKEY, high + 3 * (high - low)),
        ):
            rows.append((rule, str(label), float(cutoff), members))
    curve = potter_curve(weights, amounts)
    best = float(curve.cap.iloc[int(curve.relative_mse.to_numpy().argmin())])
    rows.append((POTTER, "all", best, positive))

    above = {column: np.zeros(len(weights), dtype=np.bool_) for column in FLAG_COLUMNS.values()}
    listed = []
    total = weights.sum()
    for rule, group, cutoff, members in rows:
        # Equal weights are no further out than each other, whatever rounding says.
        exceeds = members & (weights > cutoff * (1 + 1e-12))
        above[FLAG_COLUMNS[rule]] |= exceeds
        listed.append(
            (
                rule,
                group,
                cutoff,
                int(members.sum()),
                int(exceeds.sum()),
                float(weights[exceeds].sum() / total),
            )
        )
    table = pd.DataFrame(listed, columns=list(COMPARISON_COLUMNS))
    return table.sort_values(["rule", "group"], kind="stable", ignore_index=True), curve, above


def potter_curve(weights: Vector, amounts: Sequence[Vector]) -> pd.DataFrame:
    """Estimated mean squared error of totals when weights are capped, cap by cap.

    Weights above a cap are set to it and the excess is spread over the others in proportion, until
    none exceeds it. With the variances `V` before and `Vc` after, taken as fully correlated
    (Potter 1990), the squared bias is estimated by `(total_c - total)**2 - (sqrt(V) -
    sqrt(Vc))**2`, not below zero, and the mean squared error is that plus `Vc`. All are relative
    to `V`, averaged over the metrics: 1 is what no cap gives.

    Args:
        weights: Not negative, at least one positive, shape `(n_units,)`.
        amounts: What each unit has of some metrics, each of shape `(n_units,)`.

    Returns:
        One row per cap, the smallest first, with the columns `POTTER_COLUMNS`.

    Examples:
        >>> curve = potter_curve(np.array([1.0, 1.0, 1.0, 1.0]), [np.ones(4)])
        >>> curve.relative_mse.tolist(), curve.n_capped.tolist()
        ([1.0], [0])
    """
    import pandas as pd

    kept = weights > 0
    order = np.argsort(weights[kept], kind="stable")
    w = weights[kept][order]
    n, total = len(w), float(w.sum())
    held = _cumulated(w)
    start, end = 1.2 * total / n, float(w[-1])
    caps = np.geomspace(start, end, N_CAPS) if end > start else np.array([end])
    caps[-1] = end
    # Above this many of the lightest, weights are capped; those below grow by the factor.
    below, factor = np.full(len(caps), n), np.ones(len(caps))
    for number, cap in enumerate(caps):
        fewer = int(np.searchsorted(w, cap, side="right"))
        while fewer < below[number]:
            below[number] = fewer
            factor[number] = (total - cap * (n - fewer)) / held[fewer]
            fewer = int(np.searchsorted(w, cap / factor[number], side="right"))

    shares = []
    for of_units in amounts:
        y = of_units[kept][order]
        sums, squares = _cumulated(w * y), _cumulated((w * y) ** 2)
        plain, plain_squares = _cumulated(y), _cumulated(y**2)
        totals = factor * sums[below] + caps * (plain[-1] - plain[below])
        spread = factor**2 * squares[below]
        spread = spread + caps**2 * (plain_squares[-1] - plain_squares[below])
        variance = np.maximum(spread - totals**2 / n, 0.0) * n / max(n - 1, 1)
        # The last cap is the largest weight, so that nothing is capped by it.
        if variance[-1] <= 1e-12 * totals[-1] ** 2:
            continue
        bias = (totals - totals[-1]) ** 2 - (np.sqrt(variance[-1]) - np.sqrt(variance)) ** 2
        shares.append((np.maximum(bias, 0.0) / variance[-1], variance / variance[-1]))
    bias_share, variance_share = (
        np.mean(shares, axis=0) if shares else (np.zeros(len(caps)), np.ones(len(caps)))
    )
    values = (caps, n - below, bias_share + variance_share, bias_share, variance_share)
    return pd.DataFrame(dict(zip(POTTER_COLUMNS, values, strict=True)))


def _cumulated(values: Vector) -> Vector:
    return np.concatenate([[0.0], np.cumsum(values)])
