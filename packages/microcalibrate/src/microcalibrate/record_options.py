"""Options of a calibration that differ from record to record, kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from microcalibrate.io import read_table, write_table

if TYPE_CHECKING:
    from microcalibrate.problem import Problem

RecordOptions: TypeAlias = Mapping[str, NDArray[Any]]

FILE_NAME = "record_options.parquet"

# Options of `Calibration` and where the checked problem has them.
_BOUNDS = {
    "min_weight_ratio": "min_ratio",
    "max_weight_ratio": "max_ratio",
    "min_weight": "min_weight",
    "max_weight": "max_weight",
}


def record_options(problem: Problem, **labels: Any) -> RecordOptions:
    """The options that are not the same for all records, as `Calibration` takes them.

    Args:
        problem: Whose bounds, frozen records and factors they are.
        **labels: Labels of clusters and parts, one per record; None where there are none.

    Returns:
        By name, each of shape `(n_records,)`.

    Examples:
        >>> from microcalibrate.problem import Problem
        >>> problem = Problem.build([1.0, 1.0], [3.0], [[1.0], [1.0]], max_weight=[2.0, 4.0])
        >>> record_options(problem, cluster=None)
        {'max_weight': array([2., 4.])}
    """
    found: dict[str, NDArray[Any]] = {}
    for option, attribute in _BOUNDS.items():
        values = getattr(problem, attribute)
        if np.any(values != values[0]):
            found[option] = np.array(values)
    if problem.frozen.any():
        found["frozen"] = np.array(problem.frozen)
    if np.any(problem.heteroscedasticity != 1):
        found["heteroscedasticity"] = np.array(problem.heteroscedasticity)
    for option, given in labels.items():
        if given is not None:
            values = np.asarray(given if hasattr(given, "__array__") else list(given))
            found[option] = values.astype(str) if values.dtype.kind == "O" else values
    return found


def write_record_options(options: RecordOptions, folder: Path) -> None:
    """Write them as a table with a row per record; nothing where there are none."""
    import pandas as pd

    if options:
        write_table(pd.DataFrame(dict(options)), folder / FILE_NAME)


def read_record_options(folder: Path) -> RecordOptions:
    """What `write_record_options` wrote, nothing where there is no such file."""
    if not (folder / FILE_NAME).exists():
        return {}
    table = read_table(folder / FILE_NAME)
    return {str(name): table[name].to_numpy() for name in table.columns}
