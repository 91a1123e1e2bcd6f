"""Items of any kind of data: rows or columns of tensors, arrays, data frames, sparse matrices."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from l0.errors import ShapeMismatch, UnsupportedData
from l0.selection.draws import Indices

Data = TypeVar("Data")


def check_items(data: Any, n_items: int, axis: int) -> None:
    """Whether there are `n_items` along an axis of the data, and they can be taken.

    Args:
        data: Anything.
        n_items: How many items there must be.
        axis: Where they lie; -1 is the last axis.

    Raises:
        ShapeMismatch: If the data have another number of items.
        UnsupportedData: If items cannot be taken from such data.
    """
    shape = getattr(data, "shape", None)
    if not isinstance(shape, tuple) or not hasattr(data, "__getitem__"):
        raise UnsupportedData(
            f"cannot take items from {type(data).__name__}. Give a tensor, a NumPy array, a "
            "pandas or polars DataFrame, or a SciPy sparse matrix; np.asarray(...) makes an "
            "array of a list, and .collect() a DataFrame of a lazy one."
        )
    if not shape or shape[axis] != n_items:
        raise ShapeMismatch(
            f"data of shape {tuple(shape)} do not have {n_items} items along axis {axis}. "
            "Make the gate for the data that it selects from."
        )


def take(data: Data, indices: Indices, axis: int) -> Data:
    """The items at `indices` along an axis, as data of the same type.

    Args:
        data: A tensor, an array, a pandas or polars DataFrame or Series, or a SciPy sparse matrix.
        indices: Positions.
        axis: Where the items lie; -1 is the last axis.

    Returns:
        The items in the order of `indices`, with the labels of a DataFrame.

    Examples:
        >>> import numpy as np
        >>> take(np.array([[1, 2, 3], [4, 5, 6]]), np.array([0, 2]), axis=-1).tolist()
        [[1, 3], [4, 6]]
    """
    axis %= len(data.shape)  # type: ignore[attr-defined]  # `check_items` was called
    key = indices if axis == 0 else (*[slice(None)] * axis, indices)
    # pandas takes positions through `iloc`; some sparse formats cannot take any.
    view: Any = data
    if hasattr(data, "iloc"):
        view = data.iloc
    elif hasattr(data, "tocsr"):
        view = data.tocsr()
    return cast("Data", view[key])
