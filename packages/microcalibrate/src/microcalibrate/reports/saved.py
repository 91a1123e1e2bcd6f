"""The right report for a saved run, whatever kind of run it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from microcalibrate.errors import UnreadableFile


class Reported(Protocol):
    """A result that writes its own page."""

    def report(self, path: Path) -> Path:
        """Write the page."""


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        name: What people call it.
        file: That only folders of this kind have.
        load: Reads the folder.
    """

    name: str
    file: str
    load: Callable[[Path], Any]


def _calibration(folder: Path) -> Reported:
    from microcalibrate.result import CalibrationResult

    return CalibrationResult.load(folder)


def _robustness(folder: Path) -> Reported:
    from microcalibrate.evaluation import RobustnessResult

    return RobustnessResult.load(folder)


def _tuning(folder: Path) -> Reported:
    from microcalibrate.hyperparameter_tuning.result import TuningResult

    return TuningResult.load(folder)


def _targets(folder: Path) -> Reported:
    from microcalibrate.target_analysis import TargetAnalysis

    return TargetAnalysis.load(folder)


def _diagnosis(folder: Path) -> Reported:
    from microcalibrate.diagnostics import Diagnosis

    return Diagnosis.load(folder)


def _model(folder: Path) -> Reported:
    from microcalibrate.regularise.trained import TrainedModel

    # Its quality is what it is, whatever would draw from it now.
    return TrainedModel.load(folder, other_versions=True)


def _quality(folder: Path) -> Reported:
    from microcalibrate.regularise.quality import QualityReport

    return QualityReport.load(folder)


def _regularise(folder: Path) -> Reported:
    from microcalibrate.regularise.result import RegulariseResult

    loaded: Reported = RegulariseResult.load(folder)
    return loaded


KINDS = (
    Kind("calibration", "result.json", _calibration),
    Kind("evaluation of robustness", "robustness.json", _robustness),
    Kind("tuning", "tuning.json", _tuning),
    Kind("target analysis", "target_analysis.json", _targets),
    Kind("diagnosis", "summary.json", _diagnosis),
    Kind("trained model", "trained.json", _model),
    Kind("quality report", "quality.json", _quality),
    Kind("regularisation", "regularise.json", _regularise),
)
"""Kinds of runs that are known. A further kind is one more of these."""


def kind_of(folder: str | Path) -> Kind:
    """The kind of run that a folder holds.

    Args:
        folder: A run's folder.

    Returns:
        The kind.

    Raises:
        UnreadableFile: If there is no such folder, or it is not that of a run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableFile(f"{folder} is not a folder. Give the folder that a run was saved to.")
    found = [kind for kind in KINDS if (folder / kind.file).is_file()]
    if not found:
        files = ", ".join(f"{kind.file} ({kind.name})" for kind in KINDS)
        raise UnreadableFile(
            f"{folder} holds no saved run: there is none of {files} in it. Give the folder that a "
            "run was saved to."
        )
    if len(found) > 1:
        files = " and ".join(kind.file for kind in found)
        raise UnreadableFile(
            f"{folder} holds more than one run ({files}). Keep each in a folder of its own."
        )
    return found[0]


def write_saved_report(folder: str | Path, path: str | Path) -> Path:
    """Write the report of a saved run, whatever kind of run it is.

    Args:
        folder: The run's folder.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        UnreadableFile: If the folder holds no saved run, or one that is damaged.
        MissingExtra: If a library for this kind of run is not installed.
        UnwritableFile: If the file cannot be written.
    """
    loaded: Reported = kind_of(folder).load(Path(folder))
    return loaded.report(Path(path))
