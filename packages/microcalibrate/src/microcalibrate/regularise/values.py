"""Values of a column: from the types that a user's table has to plain numbers, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.errors import InvalidSurvey

if TYPE_CHECKING:
    from microcalibrate.regularise.schema import Bounds, Type


class Declared(Protocol):
    """What is needed to read a column: its type, levels and bounds."""

    @property
    def type(self) -> Type | None: ...  # noqa: D102 -- as in `schema.Column`
    @property
    def levels(self) -> tuple[Any, ...] | None: ...  # noqa: D102
    @property
    def ordered(self) -> bool: ...  # noqa: D102
    @property
    def bounds(self) -> Bounds: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Cells:
    """A column in plain numbers.

    Attributes:
        values: Positions of levels or whole numbers in int64, numbers in float64, or truth
            values; arbitrary where missing.
        missing: True where there is no value.
    """

    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_]

    def at(self, positions: npt.NDArray[np.intp]) -> Cells:
        """The cells at some positions, missing where a position is negative."""
        if not len(self.values):
            none = np.ones(len(positions), dtype=np.bool_)
            return Cells(np.zeros(len(positions), dtype=self.values.dtype), none)
        return Cells(self.values[positions], self.missing[positions] | (positions < 0))


def read_cells(series: pd.Series[Any], column: Declared) -> tuple[Cells, npt.NDArray[np.bool_]]:
    """A column of a table in plain numbers, and the cells that do not fit its declaration.

    Args:
        series: The column, of any type that pandas has.
        column: Its declaration.

    Returns:
        The cells, and True where a value is no declared level, no number, not whole, no truth
        value or out of bounds. A missing value fits; whether it may be is not looked at.
    """
    missing = series.isna().to_numpy(dtype=np.bool_)
    if column.type == "category":
        levels = pd.Index(list(column.levels or ()), dtype=object)
        if isinstance(series.dtype, pd.CategoricalDtype):
            of_category = levels.get_indexer(pd.Index(series.cat.categories, dtype=object))
            codes = np.append(of_category, -1)[series.cat.codes.to_numpy()]
        else:
            codes = levels.get_indexer(pd.Index(series.to_numpy(dtype=object), dtype=object))
        return Cells(codes.astype(np.int64), missing), ~missing & (codes < 0)
    numbers, wrong = _numbers(series, missing)
    if column.type == "boolean":
        wrong |= ~missing & ~np.isin(numbers, (0, 1))
        return Cells(numbers == 1, missing), wrong
    low, high = column.bounds
    with np.errstate(invalid="ignore"):
        if low is not None:
            wrong |= ~missing & (numbers < low)
        if high is not None:
            wrong |= ~missing & (numbers > high)
        if column.type == "integer" and numbers.dtype.kind == "f":
            wrong |= ~missing & ((numbers != np.floor(numbers)) | (np.abs(numbers) >= 2.0**63))
            numbers = np.where(wrong | missing, 0, numbers)
    values = numbers.astype(np.int64 if column.type == "integer" else np.float64)
    return Cells(values, missing), wrong


def row_values(cells: Cells, column: Declared) -> Any:
    """Cells as a column of slot rows: category, Int64, float64 or boolean."""
    if column.type == "category":
        codes = np.where(cells.missing, -1, cells.values)
        dtype = pd.CategoricalDtype(list(column.levels or ()), ordered=column.ordered)
        return pd.Categorical.from_codes(codes.tolist(), dtype=dtype)
    if column.type == "integer":
        values = np.where(cells.missing, 0, cells.values)
        return pd.arrays.IntegerArray(values, cells.missing.copy())
    if column.type == "boolean":
        return pd.arrays.BooleanArray(cells.values & ~cells.missing, cells.missing.copy())
    return np.where(cells.missing, np.nan, cells.values)


def stored_values(cells: Cells, column: Declared, dtype: Any, name: str) -> pd.Series[Any]:
    """Cells in the type that the user's table has.

    Raises:
        InvalidSurvey: If the type cannot hold a value.
    """
    if column.type == "category":
        labels = np.empty(len(column.levels or ()) + 1, dtype=object)
        labels[:-1] = column.levels or ()
        return as_dtype(labels[np.where(cells.missing, -1, cells.values)], dtype, name)
    return as_dtype(cells.values, dtype, name, cells.missing)


def as_dtype(
    values: npt.NDArray[Any],
    dtype: Any,
    name: str,
    missing: npt.NDArray[np.bool_] | None = None,
) -> pd.Series[Any]:
    """Values in a type of pandas, the same values or an error.

    Args:
        values: Numbers, truth values or objects.
        dtype: The type.
        name: What the values are, for the message.
        missing: True where there is no value; None to look for None and NaN.

    Raises:
        InvalidSurvey: If the type cannot hold a value.
    """
    gone = np.asarray(pd.isna(values)) if missing is None else missing
    is_plain = isinstance(dtype, np.dtype)
    if is_plain and dtype.kind in "iub" and gone.any():
        raise InvalidSurvey(
            f"{name} has no value for {int(gone.sum())} records, and its type {dtype} knows no "
            f"missing values. Store it as {'boolean' if dtype.kind == 'b' else 'Int64'}."
        )
    if isinstance(dtype, pd.CategoricalDtype):
        unknown = ~gone & ~np.isin(values, list(dtype.categories))
        if unknown.any():
            raise _cannot_hold(name, dtype, values[unknown][0])
        return pd.Series(pd.Categorical(_without(values, gone), dtype=dtype))
    if not is_plain or dtype.kind not in "iufb":
        try:
            series: pd.Series[Any] = pd.Series(_without(values, gone), dtype=dtype)
            return series
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidSurvey(f"{name} cannot be stored as {dtype} ({error}).") from error
    if values.dtype.kind == "O" or gone.any():
        values = np.array(np.where(gone, np.nan, values).tolist())
    with np.errstate(all="ignore"):
        held = values.astype(dtype)
        exact = gone | (held == values)
        if dtype.kind == "f":
            exact |= np.isclose(held.astype(np.float64), values.astype(np.float64), rtol=1e-6)
        elif values.dtype.kind == "f":
            exact &= np.abs(values) < 2.0**63
    if not exact.all():
        raise _cannot_hold(name, dtype, values[~exact][0])
    return pd.Series(held)


def _without(values: npt.NDArray[Any], gone: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    objects = values.astype(object)
    objects[gone] = None
    return objects


def _cannot_hold(name: str, dtype: Any, value: Any) -> InvalidSurvey:
    return InvalidSurvey(
        f"{name} has the value {value!r}, which its type {dtype} cannot hold. Store the column in "
        "a wider type."
    )


def _numbers(
    series: pd.Series[Any], missing: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Numbers of a column, int64 where they are whole by type, and True where there is none."""
    dtype = series.dtype
    kind = getattr(dtype, "kind", "O")
    if kind in "iub":
        if missing.any():
            whole = series.to_numpy(dtype=np.int64, na_value=0)
        else:
            whole = series.to_numpy(dtype=np.int64)
        # What is larger than the largest int64 has become negative.
        return whole, whole < 0 if kind == "u" else np.zeros(len(series), dtype=np.bool_)
    if kind == "f":
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers, np.isinf(numbers)
    objects = series.to_numpy(dtype=object)
    is_number = np.array(
        [isinstance(value, bool | int | float | np.number | np.bool_) for value in objects],
        dtype=np.bool_,
    )
    numbers = np.array(
        [value if good else 0 for value, good in zip(objects, is_number & ~missing, strict=True)],
        dtype=np.float64,
    )
    return np.where(missing, np.nan, numbers), ~missing & (~is_number | np.isinf(numbers))
