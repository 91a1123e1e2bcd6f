"""A distance of one's own, as a user would write it."""

from __future__ import annotations

import numpy as np

from microcalibrate.engine.distances import Distance

# Case B of Creedy's paper, see `test_golden.py`: there `u -> 1 / (1 - u)`.
REVERSE_ENTROPY = Distance(
    name="reverse entropy",
    value=lambda r: r - 1 - np.log(r),
    slope=lambda r: 1 - 1 / r,
    curvature=lambda r: r**-2,
    lower=0.0,
)
