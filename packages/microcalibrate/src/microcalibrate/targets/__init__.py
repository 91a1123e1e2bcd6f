"""Targets declared in a table, and the columns of the estimate matrix that they stand for."""

from microcalibrate.targets.building import Targets, build_targets
from microcalibrate.targets.contributions import ColumnBuilder
from microcalibrate.targets.describing import describe_targets
from microcalibrate.targets.differences import Difference
from microcalibrate.targets.levels import totals_by_level
from microcalibrate.targets.margins import margins
from microcalibrate.targets.quotients import Bands, Quotients
from microcalibrate.targets.rows import (
    AGGREGATES,
    COLUMNS,
    OTHER_WORDS,
    Declared,
    declared,
    included_rows,
    is_included,
    read_rows,
)
from microcalibrate.targets.units import WithUnit, builder_of, targets_of_units

__all__ = [
    "AGGREGATES",
    "COLUMNS",
    "OTHER_WORDS",
    "Bands",
    "ColumnBuilder",
    "Declared",
    "Difference",
    "Quotients",
    "Targets",
    "WithUnit",
    "build_targets",
    "builder_of",
    "declared",
    "describe_targets",
    "included_rows",
    "is_included",
    "margins",
    "read_rows",
    "targets_of_units",
    "totals_by_level",
]
