"""Numbers as point masses and bins."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.regularise.slots import SlotColumn

Floats: TypeAlias = npt.NDArray[np.float64]

MAX_BINS = 64
N_KNOTS = 9
MASS_SHARE = 0.01
MIN_RECORDS_OF_MASS = 5
MIN_RECORDS_OF_BIN = 20
MAX_DECIMALS, MIN_DECIMALS = 2, -3


def knots_of(
    column: SlotColumn, values: Floats, weights: Floats, total: float
) -> tuple[Floats, int | None]:
    """Bins and point masses of a number, and the decimals that it is rounded to."""
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    held: Floats = np.bincount(inverse, weights, minlength=len(distinct)).astype(np.float64)
    is_whole = column.type == "integer"
    if is_whole and len(distinct) and np.ptp(distinct) < MAX_BINS:
        is_mass = np.ones(len(distinct), dtype=np.bool_)
    else:
        is_mass = (held > MASS_SHARE * total) & (counts >= MIN_RECORDS_OF_MASS)
        is_mass |= distinct == 0
    rest, rest_held = distinct[~is_mass], held[~is_mass]
    knots = [np.full(N_KNOTS, value) for value in distinct[is_mass]]
    if len(rest):
        wanted = int(np.clip(counts[~is_mass].sum() // MIN_RECORDS_OF_BIN, 1, MAX_BINS))
        bins = _bins(rest, rest_held, np.searchsorted(distinct[is_mass], rest), wanted)
        ranges = [bins == number for number in range(bins[-1] + 1)]
        knots += [_quantiles(rest[here], rest_held[here]) for here in ranges]
    found = np.array(sorted(map(tuple, knots)), dtype=np.float64).reshape(-1, N_KNOTS)
    return found, _decimals(distinct, 0 if is_whole else None, len(values))


def _bins(
    values: Floats, held: Floats, gap: npt.NDArray[np.intp], wanted: int
) -> npt.NDArray[np.intp]:
    """Bin of each distinct value: weighted quantiles, of one sign, and without a mass inside."""
    middle = (np.cumsum(held) - held / 2) / max(held.sum(), np.finfo(float).tiny)
    for n_quantiles, splits in ((wanted, (gap, values > 0)), (MAX_BINS - 1, (values > 0,))):
        keys = [np.floor(middle * n_quantiles), *splits]
        starts = np.any([key[1:] != key[:-1] for key in keys], axis=0)
        bins: npt.NDArray[np.intp] = np.r_[0, np.cumsum(starts)].astype(np.intp)
        if bins[-1] < MAX_BINS:
            break
    return bins


def _quantiles(values: Floats, held: Floats) -> Floats:
    """Values at evenly spaced shares of the weight, the smallest and the largest among them."""
    if len(values) == 1:
        return np.full(N_KNOTS, values[0])
    middle = np.cumsum(held) - held / 2
    place = (middle - middle[0]) / max(middle[-1] - middle[0], np.finfo(float).tiny)
    found = np.interp(np.linspace(0, 1, N_KNOTS), place, values)
    found[0], found[-1] = values[0], values[-1]
    return np.asarray(found)


def _decimals(values: Floats, least: int | None, n_records: int) -> int | None:
    """Fewest decimals that all values have: amounts that are whole hundreds stay so."""
    if n_records >= MIN_RECORDS_OF_BIN:
        for decimals in range(MIN_DECIMALS, MAX_DECIMALS + 1):
            if np.array_equal(np.round(values, decimals), values):
                return decimals
    return least
