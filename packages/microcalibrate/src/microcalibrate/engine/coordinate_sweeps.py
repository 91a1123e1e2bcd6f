"""Coordinate descent on the model of a step under bands, compiled; see `banded_step`."""

from __future__ import annotations

import numpy as np
from numba import njit

from microcalibrate.engine.normal_equations import Matrix, Vector


@njit(cache=True)
def charged_sweeps(
    curvature: Matrix, slope: Vector, prices: Vector, charge: Vector, n_sweeps: int
) -> None:
    """Raise `slope @ d - d @ curvature @ d / 2 - charge @ abs(prices + d)`, price by price.

    Args:
        curvature: Both triangles, shape `(n_targets, n_targets)`.
        slope: At the prices, `(n_targets,)`; changed.
        prices: `(n_targets,)`; changed to better ones.
        charge: What a unit of each price costs, `(n_targets,)`.
        n_sweeps: How often each price is changed.
    """
    for _ in range(n_sweeps):
        for j in range(len(prices)):
            own = curvature[j, j]
            if own <= 0.0:
                continue
            best = prices[j] + slope[j] / own
            best = np.sign(best) * max(abs(best) - charge[j] / own, 0.0)
            change = best - prices[j]
            if change != 0.0:
                prices[j] = best
                for k in range(len(prices)):
                    slope[k] -= curvature[j, k] * change
