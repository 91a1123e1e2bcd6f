"""Logs of calibrations: what each target was at each epoch, read, written and compared."""

from microcalibrate.logs.comparing import LogComparison, changes_within, compare_logs
from microcalibrate.logs.log import CalibrationLog
from microcalibrate.logs.reading import read_log
from microcalibrate.logs.writing import write_log

__all__ = [
    "CalibrationLog",
    "LogComparison",
    "changes_within",
    "compare_logs",
    "read_log",
    "write_log",
]
