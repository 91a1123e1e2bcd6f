"""What is odd about a log, one sentence each: nothing is mended or left out in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.logs.columns import KNOWN, Dialect
from microcalibrate.logs.parsing import numbers_of

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAMES = ("", "Unnamed: 0")
DISAGREES = 1e-3
"""A stated error that differs from target and estimate by more than this share is noted."""
SINGLE = 1e-5
"""Rounding, relative to the target, that errors in single precision may carry."""


def note_columns(header: Sequence[str], notes: list[str]) -> None:
    """Name columns that nothing is done with."""
    unknown = [name for name in header if name not in KNOWN and name not in INDEX_NAMES]
    if unknown:
        shown = ", ".join(name[:40] for name in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        notes.append(f"Columns that are not of a log are left out: {shown}{more}.")


def note_errors(
    columns: Mapping[str, Any], table: pd.DataFrame, dialect: Dialect, notes: list[str]
) -> None:
    """Count rows whose stated error is not that of their target and estimate."""
    if dialect.stated_error not in columns:
        return
    stated = numbers_of(columns[dialect.stated_error])
    target, error = table.target.to_numpy(), table.error.to_numpy()
    if dialect.stated_is_relative:
        # Whether a negative target turns the sign of its relative error is not agreed upon.
        stated, error = np.abs(stated * target), np.abs(error)
    with np.errstate(invalid="ignore"):
        off = np.abs(stated - error) > DISAGREES * np.abs(error) + SINGLE * np.abs(target)
    n_off = int((off & (target != 0)).sum())
    if n_off:
        notes.append(
            f"In {n_off:,} rows the column {dialect.stated_error!r} is not estimate minus target; "
            "errors shown are computed from these two."
        )


def note_gaps(file: Path, table: pd.DataFrame, notes: list[str]) -> None:
    """Count epochs that lack targets, and name a log of a further phase beside this one."""
    counts = np.unique(table.epoch.to_numpy(), return_counts=True)
    n_targets = len(table.target_name.cat.categories)
    short = counts[1] < n_targets
    if short.any():
        first = int(np.flatnonzero(short)[0])
        notes.append(
            f"{int(short.sum()):,} of {len(short):,} epochs lack targets (epoch "
            f"{counts[0][first]} has {counts[1][first]:,} of {n_targets:,}): the final state of a "
            "target is that of its last epoch."
        )
    sparse = file.with_name(file.name.replace(".csv", "_sparse.csv"))
    if sparse != file and sparse.is_file():
        notes.append(f"The log of the selection of records is a file of its own: {sparse.name}.")
