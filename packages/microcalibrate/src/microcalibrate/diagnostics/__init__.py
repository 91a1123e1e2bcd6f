"""Which records carry too much of what is reported, and how much information weights leave."""

from microcalibrate.diagnostics.default_surface import default_surface
from microcalibrate.diagnostics.diagnosing import diagnose
from microcalibrate.diagnostics.diagnosis import Diagnosis
from microcalibrate.diagnostics.frame import Frame, SurveyTables
from microcalibrate.diagnostics.reforms import RandomScheduleReforms, Reform, ReformSpace
from microcalibrate.diagnostics.surface import Metric, Slice, Surface

__all__ = [
    "Diagnosis",
    "Frame",
    "Metric",
    "RandomScheduleReforms",
    "Reform",
    "ReformSpace",
    "Slice",
    "Surface",
    "SurveyTables",
    "default_surface",
    "diagnose",
]
