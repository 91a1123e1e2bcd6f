"""A calibration problem in files, read alike for ours and for the incumbents."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A calibration problem in memory; `matrix` is a NumPy array or SciPy CSR, shape `(n_records,
    n_targets)`."""

    matrix: Any
    targets: Any
    names: Any
    design_weights: Any


def load(path: Path) -> Problem:
    """Read a problem folder or a dense `.npz` file."""
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    if path.is_dir():
        table = pd.read_csv(path / "targets.csv")
        design_weights = np.load(path / "weights.npz")["weights"].astype(np.float64)
        matrix = sp.load_npz(path / "matrix.npz").tocsr()
        return Problem(
            matrix,
            table["target"].to_numpy(np.float64),
            table["name"].to_numpy(str),
            design_weights,
        )
    arrays = np.load(path)
    targets = arrays["targets"].astype(np.float64)
    names = np.array([f"target_{j}" for j in range(len(targets))])
    return Problem(arrays["matrix"], targets, names, arrays["weights"].astype(np.float64))


def with_positive_targets(problem: Problem) -> Problem:
    """The same problem with the columns of negative targets multiplied by -1, and their targets
    too."""
    import numpy as np
    import scipy.sparse as sp

    sign = np.where(problem.targets < 0, -1.0, 1.0)
    flips = sign.astype(problem.matrix.dtype)
    matrix = (
        (problem.matrix @ sp.diags(flips)).tocsr()
        if sp.issparse(problem.matrix)
        else problem.matrix * flips
    )
    return replace(problem, matrix=matrix, targets=problem.targets * sign)
