"""What a statistic would change by without one unit, and how much of its variance the unit is.

Closed forms, with the weights of all others as they are. `amount` is what the unit has in the
cell (`y`), `base` what it adds to the denominator (`x`; its rows for a mean).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from microcalibrate.diagnostics.frame import Vector


def total_without(weights: Vector, amount: Vector) -> Vector:
    """Change of a total without each unit: `-w * y`.

    Args:
        weights: Shape `(n,)`.
        amount: Shape `(n,)`.

    Returns:
        Changes in the unit of the total, shape `(n,)`.
    """
    return -weights * amount


def ratio_without(
    weights: Vector, amount: Vector, base: Vector, ratio: Any, denominator: Any
) -> Vector:
    """Change of a ratio of totals without each unit: `-w * (y - R * x) / (D - w * x)`.

    A mean is the ratio whose denominator counts: `w * (mean - y) / (W - w)` where `x` is 1.

    Args:
        weights: Shape `(n,)`.
        amount: What each unit adds to the numerator per weight, shape `(n,)`.
        base: What it adds to the denominator per weight, shape `(n,)`.
        ratio: The ratio `R` with all units, a number or one per unit.
        denominator: The weighted denominator `D`, a number or one per unit.

    Returns:
        Changes of the ratio, shape `(n,)`; NaN where nothing is left to divide by.

    Examples:
        >>> w, y = np.array([1.0, 1.0, 2.0]), np.array([3.0, 5.0, 8.0])
        >>> ratio_without(w, y, np.ones(3), 6.0, 4.0)
        array([ 1. , 0.3333, -2. ])
    """
    rest = denominator - weights * base
    # What is left of equal numbers after subtraction is rounding, not a denominator.
    is_left = np.abs(rest) > 1e-12 * np.abs(denominator)
    change = -weights * (amount - ratio * base)
    without: Vector = np.divide(change, rest, out=np.full(len(weights), np.nan), where=is_left)
    return without


def linearised(
    weights: Vector, amount: Vector, base: Vector, ratio: Any, denominator: Any
) -> Vector:
    """Weighted linearised variable `w * z` of each unit in a ratio, whose spread is its variance.

    `z = (y - R * x) / D` for a mean or ratio (Taylor linearisation); that of a total is `y`.

    Args:
        weights: Shape `(n,)`.
        amount: Shape `(n,)`.
        base: Shape `(n,)`.
        ratio: The ratio with all units, a number or one per unit.
        denominator: Its weighted denominator, a number or one per unit; 0 gives 0.

    Returns:
        Shape `(n,)`.
    """
    residual = weights * (amount - ratio * base)
    divisor = np.broadcast_to(np.asarray(denominator, dtype=np.float64), residual.shape)
    influence: Vector = np.divide(
        residual, divisor, out=np.zeros(len(residual)), where=divisor != 0
    )
    return influence
