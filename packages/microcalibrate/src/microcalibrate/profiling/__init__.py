"""A table in a file, read in pieces: what it holds, what is wrong with it, and a working copy."""

from microcalibrate.profiling.importing import import_data
from microcalibrate.profiling.limits import Limits
from microcalibrate.profiling.profile import ColumnProfile, DataProfile

__all__ = ["ColumnProfile", "DataProfile", "Limits", "import_data"]
