"""Cells of a slice: every row is in exactly one, or in "missing"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from microcalibrate.columns import Text

Vector: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]

MISSING = "missing"

# Shares of the weight this near to a bound of a quantile lie on it: rounding must not decide.
ON_THE_BOUND = 1e-9


@dataclass(frozen=True, eq=False)
class Cells:
    """Which cell each row of an entity is in.

    Attributes:
        codes: Position of each row's cell in `labels`, shape `(n_rows,)`.
        labels: What the cells are called; "missing" comes last, where there is any.
    """

    codes: Index
    labels: tuple[str, ...]


def category_cells(values: NDArray[np.float64] | NDArray[np.bool_] | Text) -> Cells:
    """One cell per different value, in order.

    Args:
        values: A column: numbers (NaN is missing), truth values, or text.

    Returns:
        The cells.

    Examples:
        >>> category_cells(np.array([3.0, np.nan, 1.0, 3.0])).labels
        ('1', '3', 'missing')
    """
    if isinstance(values, Text):
        order = sorted(range(len(values.labels)), key=lambda code: values.labels[code])
        place = np.empty(len(order) + 1, dtype=np.intp)
        place[order] = np.arange(len(order))
        place[-1] = -1
        return _with_missing(place[values.codes], [values.labels[code] for code in order])
    is_number = values.dtype.kind == "f"
    present = ~np.isnan(values) if is_number else np.ones(len(values), dtype=np.bool_)
    different, codes = np.unique(values[present], return_inverse=True)
    placed = np.full(len(values), -1, dtype=np.intp)
    placed[present] = codes
    return _with_missing(placed, [_label(value) for value in different.tolist()])


def band_cells(values: Vector, edges: Sequence[float]) -> Cells:
    """Bands between ascending edges, open below the first and above the last.

    A value on an edge belongs to the band above it. Where all values and edges are whole numbers,
    the labels name the last whole number of each band.

    Args:
        values: Numbers, shape `(n_rows,)`; NaN is missing.
        edges: At least one, ascending.

    Returns:
        The cells, empty ones included.

    Examples:
        >>> band_cells(np.array([30.0, 15.0, 65.0]), (16, 25, 35, 65)).labels
        ('under 16', '16–24', '25–34', '35–64', '65 or over')
    """
    bounds = np.asarray(edges, dtype=np.float64)
    present = ~np.isnan(values)
    codes = np.where(present, np.searchsorted(bounds, values, side="right"), -1)
    finite = values[np.isfinite(values)]
    is_whole = bool((finite == np.floor(finite)).all() and (bounds == np.floor(bounds)).all())
    names = [_label(bound) for bound in bounds.tolist()]
    inner = []
    for low, high, first, end in zip(bounds[:-1], bounds[1:], names[:-1], names[1:], strict=True):
        last = _label(float(high - 1))
        whole = first if high - low == 1 else f"{first}–{last}"
        inner.append(whole if is_whole else f"{first} to under {end}")
    labels = [f"under {names[0]}", *inner, f"{names[-1]} or over"]
    return _with_missing(codes.astype(np.intp), labels)


def quantile_cells(values: Vector, weights: Vector, n_quantiles: int) -> Cells:
    """Weighted quantile groups in which equal values stay together.

    A value is placed by the middle of its share of the weight, counted from below, so a large tie
    goes whole to the group that its middle lies in, and other groups may be empty.

    Args:
        values: Numbers, shape `(n_rows,)`; NaN is missing.
        weights: Weight of each row, not negative.
        n_quantiles: How many groups.

    Returns:
        The cells `1` (lowest) to `n_quantiles`.

    Examples:
        >>> quantile_cells(np.array([5.0, 1.0, 5.0, 9.0]), np.ones(4), 2).codes.tolist()
        [1, 0, 1, 1]
    """
    present = ~np.isnan(values)
    different, codes = np.unique(values[present], return_inverse=True)
    mass = np.bincount(codes, weights=weights[present], minlength=len(different))
    total = float(mass.sum())
    placed = np.full(len(values), -1, dtype=np.intp)
    if total > 0:
        middle = (np.cumsum(mass) - mass / 2) / total
        group = np.floor(n_quantiles * middle + ON_THE_BOUND).astype(np.intp)
        placed[present] = np.clip(group, 0, n_quantiles - 1)[codes]
    else:
        placed[present] = 0
    return _with_missing(placed, [str(number) for number in range(1, n_quantiles + 1)])


def _with_missing(codes: Index, labels: list[str]) -> Cells:
    is_missing = codes < 0
    if not is_missing.any():
        return Cells(codes, tuple(labels))
    name = MISSING
    while name in labels:
        # A category of the same name is somebody's answer, not an absence of one.
        name = f"({name})"
    return Cells(np.where(is_missing, len(labels), codes), (*labels, name))


def _label(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def sums_by(group: Index, values: NDArray[Any], n_groups: int) -> Vector:
    """Values added up by group, in the order of the rows.

    Args:
        group: Group of each value, from 0 to below `n_groups`.
        values: Numbers or truth values.
        n_groups: How many groups there are.

    Returns:
        Shape `(n_groups,)`; 0 for an empty group.
    """
    return np.bincount(group, weights=values, minlength=n_groups).astype(np.float64, copy=False)
