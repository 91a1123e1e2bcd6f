"""From what users have to float64 arrays: weights, tables and matrices, checked value by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from microcalibrate.errors import InvalidProblem, InvalidWeights

Vector = NDArray[np.float64]

# A dense matrix with fewer non-zeros than this is worked on as a sparse one: above it BLAS wins.
SPARSE_BELOW_DENSITY = 0.2
ROWS_A_BLOCK = 16_384
# Kinds of NumPy types that are numbers: truth values, integers, unsigned, floating point.
NUMERIC_KINDS = "biuf"


def is_sparse(matrix: Any) -> bool:
    """Whether an estimate matrix is a SciPy sparse one; any other is an array."""
    return bool(sp.issparse(matrix))


def checked_weights(weights: Any) -> Vector:
    """Design weights as a float64 array of their own.

    Raises:
        InvalidWeights: If they are not finite numbers, negative, all zero, or not a vector.
    """
    try:
        array = np.array(numbers(weights))
    except (TypeError, ValueError) as error:
        raise InvalidWeights(f"weights are not numbers: {error}") from error
    if array.size == 0:
        raise InvalidWeights("there are no records, and so no weights: give one at least.")
    if array.ndim != 1:
        raise InvalidWeights(
            f"weights have shape {array.shape}; give one weight per record, shape (n_records,)."
        )
    for bad, what in ((~np.isfinite(array), "not finite"), (array < 0, "negative")):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise InvalidWeights(
                f"{int(bad.sum())} of {array.size} weights are {what}; the first is "
                f"{array[first]:g} at record {first}. Drop or mend these records."
            )
    if not array.any():
        raise InvalidWeights("all weights are zero: there is nothing to calibrate.")
    return array


def checked_matrix(
    estimate_matrix: Any, n_records: int, targets: Any
) -> tuple[Any, tuple[str, ...] | None]:
    """An estimate matrix as float64, dense or CSR, and the names of its columns if it has any.

    Args:
        estimate_matrix: DataFrame (pandas or polars), array or SciPy sparse matrix.
        n_records: How many rows it must have.
        targets: The targets, whose number tells a matrix that is the wrong way round.

    Raises:
        InvalidProblem: If it is no matrix of finite numbers, or of another shape.
    """
    names: tuple[str, ...] | None = None
    array: Any
    if hasattr(estimate_matrix, "columns") and hasattr(estimate_matrix, "to_numpy"):
        names = tuple(str(name) for name in estimate_matrix.columns)
        array = _frame_values(estimate_matrix, names)
    elif is_sparse(estimate_matrix):
        array = sp.csr_array(estimate_matrix)
        if array.dtype.kind not in NUMERIC_KINDS:
            raise InvalidProblem(
                f"the estimate matrix does not hold numbers, but values of type {array.dtype}."
            )
    else:
        try:
            array = numbers(estimate_matrix)
        except (TypeError, ValueError) as error:
            raise InvalidProblem(f"the estimate matrix does not hold numbers: {error}") from error
    if array.ndim != 2:
        raise InvalidProblem(
            f"the estimate matrix has {array.ndim} dimensions; it must have 2: "
            "(n_records, n_targets)."
        )
    if array.shape[0] != n_records:
        n_targets = len(targets) if hasattr(targets, "__len__") else None
        turned = array.shape == (n_targets, n_records)
        raise InvalidProblem(
            f"the estimate matrix has shape {array.shape}, but there are {n_records} weights. "
            + (
                "It is the wrong way round: rows must be records; pass its transpose (`.T`)."
                if turned
                else "It must have one row per weight."
            )
        )
    if array.shape[1] == 0:
        raise InvalidProblem("the estimate matrix has no columns: give at least one target.")
    return _in_working_form(array, names), names


def _frame_values(frame: Any, names: tuple[str, ...]) -> NDArray[Any]:
    """Values of a DataFrame as float64, naming the first column that is not numeric."""
    # A polars frame turns dates into numbers without a word, so its columns go one by one.
    whole = None if hasattr(frame, "schema") else frame.to_numpy()
    if whole is not None and whole.dtype.kind in NUMERIC_KINDS:
        return np.asarray(whole, dtype=np.float64)
    columns = []
    for name, column in zip(names, frame.columns, strict=True):
        try:
            columns.append(numbers(frame[column].to_numpy()))
        except (TypeError, ValueError) as error:
            raise InvalidProblem(
                f'column "{name}" of the estimate matrix does not hold numbers. Drop it, or turn '
                "it into 0/1 columns."
            ) from error
    return np.column_stack(columns)


def numbers(values: Any) -> NDArray[np.float64]:
    """Values as float64, None and NA as NaN.

    Raises:
        TypeError: If they are dates, complex numbers, text, or other objects.
    """
    array = np.asarray(values)
    if array.dtype.kind == "O":
        # Nullable columns arrive as objects, with None or pandas' NA where a value is missing.
        missing = np.array([item is None or type(item).__name__ == "NAType" for item in array.flat])
        array = np.where(missing.reshape(array.shape), np.nan, array)
        if any(isinstance(item, (str, bytes)) for item in array.flat):
            raise TypeError("text where numbers were expected")
        return array.astype(np.float64)
    if array.dtype.kind not in NUMERIC_KINDS:
        raise TypeError(f"values of type {array.dtype} where numbers were expected")
    return array.astype(np.float64, copy=False)


def _in_working_form(array: Any, names: tuple[str, ...] | None) -> Any:
    """Float64, finite, sparse where that is faster: CSR with sorted indices, or an array."""
    if not is_sparse(array):
        non_zero: int | np.integer[Any] = 0
        for start in range(0, array.shape[0], ROWS_A_BLOCK):
            block = array[start : start + ROWS_A_BLOCK]
            if not np.isfinite(block).all():
                row, column = np.argwhere(~np.isfinite(block))[0]
                _refuse_value(block[row, column], start + int(row), int(column), names)
            non_zero += np.count_nonzero(block)
        if array.size < 100_000 or non_zero >= SPARSE_BELOW_DENSITY * array.size:
            return array
        array = sp.csr_array(array)
    matrix = sp.csr_array(array, dtype=np.float64)
    if not matrix.has_sorted_indices or not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if not np.isfinite(matrix.data).all():
        place = int(np.flatnonzero(~np.isfinite(matrix.data))[0])
        row = int(np.searchsorted(matrix.indptr, place, side="right")) - 1
        _refuse_value(matrix.data[place], row, int(matrix.indices[place]), names)
    return matrix


def _refuse_value(value: float, row: int, column: int, names: tuple[str, ...] | None) -> None:
    label = f'"{names[column]}"' if names else str(column)
    raise InvalidProblem(
        f"the estimate matrix holds {value:g} at record {row}, column {label}. Fill in or drop "
        "missing values before calibrating."
    )
