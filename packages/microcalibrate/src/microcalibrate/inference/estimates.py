"""Estimates with their standard errors: a table, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Matrix = npt.NDArray[np.float64]

# Of the table, beside those of the domains.
COLUMNS = (
    "statistic",
    "estimate",
    "standard_error",
    "lower",
    "upper",
    "design_effect",
    "records",
    "degrees_of_freedom",
    "sampling_error",
    "target_error",
)


@dataclass(frozen=True, eq=False)
class Estimates:
    """What `estimate` returns.

    Attributes:
        table: One row per statistic and domain: `statistic`, the columns of the domains,
            `estimate`, `standard_error`, `lower`, `upper`, `design_effect` (variance over that of
            a simple random sample of as many records, drawn with replacement), `records` with
            weight in the domain, and `degrees_of_freedom`. Where targets have errors,
            `sampling_error` and `target_error` are the two parts of the standard error.
        covariance: Of the estimates in the order of the table, NaN where a quantile is one of the
            two.
        level: Of the intervals, in (0, 1).
        method: Where the standard errors come from.
        cautions: What they leave out, in sentences.
    """

    table: pd.DataFrame
    covariance: Matrix
    level: float
    method: str
    cautions: tuple[str, ...]

    def save(self, path: str | Path) -> Path:
        """Write the table as CSV, Parquet or Feather, by the end of the name.

        Raises:
            UnwritableFile: If it cannot be written.
        """
        from microcalibrate.io import write_table

        write_table(self.table, path, guard_formulas=str(path).lower().endswith((".csv", ".gz")))
        return Path(path)

    def summary(self) -> str:
        """The table for people, and how it came about."""
        import pandas as pd

        shown = self.table.drop(columns=["degrees_of_freedom"])
        with pd.option_context("display.width", 160, "display.max_columns", 20):
            text = shown.to_string(index=False, float_format=_figure)
        lines = [text, f"{self.level:.0%} intervals; {self.method}."]
        return "\n".join([*lines, *(f"Note: {one}" for one in self.cautions)])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:,.5g}"
