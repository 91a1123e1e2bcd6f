"""Are generated rows good enough: measures, gates, and a report."""

from microcalibrate.regularise.quality.checking import check_generator, check_quality
from microcalibrate.regularise.quality.gates import Gate
from microcalibrate.regularise.quality.limits import GATES
from microcalibrate.regularise.quality.report import QualityReport
from microcalibrate.regularise.quality.samples import Sample
from microcalibrate.regularise.quality.settings import QualitySettings
from microcalibrate.regularise.quality.structure import HouseholdColumns

__all__ = [
    "GATES",
    "Gate",
    "HouseholdColumns",
    "QualityReport",
    "QualitySettings",
    "Sample",
    "check_generator",
    "check_quality",
]
