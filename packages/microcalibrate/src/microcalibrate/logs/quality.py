"""How well targets are met, in numbers: bands of relative errors, their histogram, orders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CLOSE, FAIR = 0.05, 0.20
"""Limits of the bands, as absolute relative errors: up to 5% is close, up to 20% fair."""
EDGES = (0.0, 0.05, 0.10, 0.20, 0.30, 0.50, 1.0, np.inf)
"""Of the histogram's bins; each holds its lower end, and not its upper one."""
BINS = ("0–5%", "5–10%", "10–20%", "20–30%", "30–50%", "50–100%", "100% or more")


@dataclass(frozen=True)
class Quality:
    """How well targets are met. Targets that were not calibrated to are counted apart.

    Attributes:
        n_targets: All targets.
        n_excluded: Not calibrated to, and in none of the other numbers.
        n_close: With an absolute relative error of at most 5%.
        n_fair: Above that, and at most 20%.
        n_poor: Above 20%.
        n_undefined: Without a relative error: the target is 0, or the estimate unknown.
        n_zero_missed: Those of them whose target is 0 and whose estimate is not.
        mean_error: Mean absolute relative error, each capped at 1; NaN where none is defined.
        median_error: Median absolute relative error.
        largest_error: Largest absolute relative error.
        score: Of 100: 1 for each close target, half for each fair one, over those of the three
            bands.
    """

    n_targets: int
    n_excluded: int
    n_close: int
    n_fair: int
    n_poor: int
    n_undefined: int
    n_zero_missed: int
    mean_error: float
    median_error: float
    largest_error: float
    score: float


def quality_of(targets: pd.DataFrame) -> Quality:
    """How well targets are met.

    Args:
        targets: With `target`, `abs_error`, `rel_abs_error` (NaN where undefined) and `excluded`.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"target": [10.0, 10.0, 0.0], "abs_error": [0.1, 1.5, 2.0]})
        >>> table["rel_abs_error"] = [0.01, 0.15, float("nan")]
        >>> found = quality_of(table.assign(excluded=False))
        >>> found.n_close, found.n_fair, found.n_zero_missed, found.score
        (1, 1, 1, 75.0)
    """
    included = targets[~targets.excluded.to_numpy(dtype=bool)]
    error = included.rel_abs_error.to_numpy(dtype=np.float64)
    known = error[~np.isnan(error)]
    close = int((known <= CLOSE).sum())
    fair = int((known <= FAIR).sum()) - close
    missed = (included.target.to_numpy() == 0) & (included.abs_error.to_numpy() > 0)
    some = len(known) > 0
    return Quality(
        n_targets=len(targets),
        n_excluded=len(targets) - len(included),
        n_close=close,
        n_fair=fair,
        n_poor=len(known) - close - fair,
        n_undefined=len(error) - len(known),
        n_zero_missed=int(missed.sum()),
        mean_error=float(np.minimum(known, 1.0).mean()) if some else float("nan"),
        median_error=float(np.median(known)) if some else float("nan"),
        largest_error=float(known.max()) if some else float("nan"),
        score=100 * (close + 0.5 * fair) / len(known) if some else float("nan"),
    )


def error_histogram(targets: pd.DataFrame) -> pd.DataFrame:
    """How many targets have an absolute relative error in each bin.

    Args:
        targets: With `rel_abs_error`, NaN where undefined.

    Returns:
        `bin` and `count`, seven bins from 0–5% to 100% or more, then "n/a (target 0)" for those
        without a relative error.

    Examples:
        >>> import pandas as pd
        >>> found = error_histogram(pd.DataFrame({"rel_abs_error": [0.0, 0.05, 3.0, None]}))
        >>> found["count"].tolist()
        [1, 1, 0, 0, 0, 0, 1, 1]
    """
    import pandas as pd

    error = targets.rel_abs_error.to_numpy(dtype=np.float64)
    known = error[~np.isnan(error)]
    place = np.searchsorted(EDGES, known, side="right") - 1
    counts = np.bincount(np.minimum(place, len(BINS) - 1), minlength=len(BINS))
    return pd.DataFrame(
        {"bin": [*BINS, "n/a (target 0)"], "count": [*counts, len(error) - len(known)]}
    )


def ranked(targets: pd.DataFrame) -> pd.DataFrame:
    """The targets that are missed most first.

    Args:
        targets: With `rel_abs_error` and `abs_error`.

    Returns:
        The same rows: those with a relative error by its size, then those without one by their
        absolute error, then those whose estimate is unknown.
    """
    relative = targets.rel_abs_error.to_numpy(dtype=np.float64)
    absolute = targets.abs_error.to_numpy(dtype=np.float64)
    # Within each group larger errors come first; NaN sorts last by itself.
    group = np.where(~np.isnan(relative), 0, np.where(~np.isnan(absolute), 1, 2))
    size = np.where(group == 0, relative, absolute)
    return targets.iloc[np.lexsort((-size, group))]


def by_hierarchy(targets: pd.DataFrame) -> pd.DataFrame:
    """The targets by the parts of their names between slashes, numbers in them by their size.

    Args:
        targets: With `name`.

    Examples:
        >>> import pandas as pd
        >>> names = ["us/ny", "us/age 10", "uk", "us", "us/age 9"]
        >>> by_hierarchy(pd.DataFrame({"name": names})).name.tolist()
        ['uk', 'us', 'us/age 9', 'us/age 10', 'us/ny']
    """

    def key(name: str) -> list[list[tuple[bool, float, str]]]:
        return [
            [(not bit.isdecimal(), float(bit) if bit.isdecimal() else 0.0, bit) for bit in bits]
            for bits in (re.split(r"(\d+)", part.lower()) for part in name.split("/"))
        ]

    order = sorted(range(len(targets)), key=lambda place: key(str(targets.name.iloc[place])))
    return targets.iloc[order]
