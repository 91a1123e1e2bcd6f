"""Problems as folders of numbers, for R to read, and our answer to each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from microcalibrate import Calibration


def write_problem(folder: Path, problem: dict[str, np.ndarray]) -> None:
    """A new folder with a file for each array, to the last bit."""
    folder.mkdir()
    for name, values in problem.items():
        np.savetxt(folder / name, values, delimiter=",", fmt="%.17g")


def ratio_of(problem: dict[str, np.ndarray], **options: Any) -> np.ndarray:
    """Ratios of design weights `d` with columns `x` that meet the totals `t` exactly."""
    calibration = Calibration(problem["d"], problem["t"], problem["x"], tolerances=0, **options)
    weights = calibration.calibrate(progress=False)
    assert calibration.result.converged
    return np.asarray(weights / problem["d"])
