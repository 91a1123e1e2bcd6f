"""What can go wrong, as types: each message says what, where, and the way out."""

from __future__ import annotations

from typing import Any


class CalibrationError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidProblem(CalibrationError, ValueError):
    """Weights, targets or estimate matrix do not form a calibration problem."""


class InvalidWeights(InvalidProblem):
    """Weights are missing, not finite, negative, or all zero."""


class InvalidOption(CalibrationError, ValueError):
    """An option has a value that cannot be honoured."""


class InvalidTargetTable(InvalidProblem):
    """A table of declared targets cannot be turned into columns of the estimate matrix."""


class InvalidExpression(InvalidTargetTable):
    """A filter is not an expression of the small language that target tables use."""


class UnknownColumn(InvalidExpression):
    """A filter or a target names a column that the data does not have."""


class NoSupport(InvalidTargetTable):
    """No record contributes to a target, so that no weights can meet it."""


class UnreadableFile(CalibrationError, OSError):
    """A file is missing, damaged, or of a format that is not understood."""


class UnwritableFile(CalibrationError, OSError):
    """A file or folder cannot be written; nothing was left half written."""


class MissingExtra(CalibrationError, ImportError):
    """An optional library is needed; the message has the command that installs it."""


class InfeasibleTargets(CalibrationError):
    """Exact or banded targets cannot all hold within the bounds.

    Attributes:
        relaxation: Least change that makes the set feasible: target name to the extra tolerance
            it needs, as a fraction of its scale.
        conflict: Names of the targets that cannot hold together.
        result: The weights of the relaxed problem, or None where none were asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        relaxation: dict[str, float],
        conflict: tuple[str, ...],
        result: Any = None,
    ) -> None:
        super().__init__(message)
        self.relaxation = relaxation
        self.conflict = conflict
        self.result = result


class NoFinishedTrial(CalibrationError):
    """A tuning study has no finished trial, so there is nothing to choose from."""


class InvalidSurface(InvalidProblem):
    """A reporting surface, or what it reads from the tables, cannot be diagnosed."""


class ReformFailed(CalibrationError):
    """A policy reform raised an error, or returned what cannot be compared with the baseline."""


class WorkerFailed(CalibrationError, RuntimeError):
    """A worker process ended with an error; the message has its text."""


class InvalidSchema(CalibrationError, ValueError):
    """A declaration of entities and columns contradicts itself, or cannot be written as JSON."""


class InvalidSurvey(CalibrationError, ValueError):
    """Tables, or generated rows of households, do not fit the schema that describes them."""


class ConditionNotMet(CalibrationError):
    """Records with the wanted cells could not all be generated; none was made up instead.

    Attributes:
        requested: How many records were asked for.
        obtained: How many of them could be had.
    """

    def __init__(self, message: str, *, requested: int, obtained: int) -> None:
        super().__init__(message)
        self.requested = requested
        self.obtained = obtained


class ModelMismatch(CalibrationError, ValueError):
    """A saved generator is of other columns, another backend or other versions than are wanted."""


class InfeasibleCap(InfeasibleTargets):
    """Exact or banded targets can hold, but not with all weights below the cap.

    Attributes:
        smallest_cap: The smallest cap with which they can.
    """

    def __init__(self, message: str, *, smallest_cap: float, **parts: Any) -> None:
        super().__init__(message, **parts)
        self.smallest_cap = smallest_cap


class NotConverged(CalibrationError):
    """A solve ended without its certificate.

    Attributes:
        result: What it had reached.
    """

    def __init__(self, message: str, *, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class NotALog(UnreadableFile):
    """A file or folder is no log of a calibration: it lacks the columns of one."""


class TruncatedFile(UnreadableFile):
    """A file ends before what it should hold does."""


class InvalidDesign(InvalidProblem):
    """Strata, sampling units and finite populations contradict each other, or the records."""


class InvalidEstimand(InvalidProblem):
    """What is to be estimated is not in the data, or is no number there."""


class InvalidReplicates(InvalidProblem):
    """Replicate weights cannot be made for this design, or do not fit the records."""


class InfeasibleReplicate(InfeasibleTargets):
    """Hard targets cannot all hold in a replicate, though they do in the sample.

    Attributes:
        replicate: Its position, from 0.
    """

    def __init__(self, message: str, *, replicate: int, **parts: Any) -> None:
        super().__init__(message, **parts)
        self.replicate = replicate


class UnknownRun(CalibrationError, LookupError):
    """A workspace has no run, or no dataset, of that id."""


class StillRunning(CalibrationError, RuntimeError):
    """A run cannot be deleted before it is over, nor a dataset that one uses."""


class UploadRefused(CalibrationError, ValueError):
    """A file is too large, empty, or of a kind that cannot be read as a table."""


class DiskFull(UploadRefused):
    """A file would leave too little room on the disk; nothing of it was kept."""
