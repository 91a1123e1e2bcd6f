"""What a calibration returns: weights, how well they fit, the certificate; saved and loaded."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.record_options import RecordOptions, read_record_options, write_record_options
from microcalibrate.result_tables import (
    DECLARED_COLUMNS,
    HISTORY_COLUMNS,
    TARGET_COLUMNS,
    as_declared,
)

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from microcalibrate.logs import CalibrationLog

Vector = NDArray[np.float64]

FORMAT = "microcalibrate.result/2"

STATISTICS = (
    ("records", "records with weight", "{:,.0f}"),
    ("total_weight", "total weight", "{:,.0f}"),
    ("kish", "Kish effective sample size", "{:,.0f}"),
    ("median_error", "median absolute relative error", "{:.2%}"),
    ("capped_error", "mean absolute relative error, capped at 100%", "{:.2%}"),
    ("rms_error", "root mean squared relative error", "{:.2%}"),
    ("within_10_percent", "share of targets within 10%", "{:.1%}"),
)
"""Those of `weight_statistics` that tables show: key, what people call it, how it is written."""


class Status(Enum):
    """How a solve ended; the text is what to make of it."""

    CONVERGED = "The duality gap is below its tolerance: these are the closest weights."
    STATIONARY = (
        "No weights near these are better: the convex problem around them has its certificate. "
        "With a capped loss, better ones far from these cannot be ruled out."
    )
    STEP_LIMIT = (
        "Stopped at the step limit. Raise `max_iter`, or look at `result.targets` for targets in "
        "conflict."
    )
    STALLED = (
        "No further step could be computed in double precision. The gap says how far the "
        "optimum may be; look for targets of very different size or support."
    )
    CANCELLED = "Cancelled. These are the best weights so far, not the optimum."

    @property
    def is_certified(self) -> bool:
        """Whether gap and residuals were checked to be below their tolerances."""
        return self in (Status.CONVERGED, Status.STATIONARY)


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """The outcome of one calibration.

    Attributes:
        weights: Calibrated weights, shape `(n_records,)`; exact zeros for dropped records.
        design_weights: What they started from, shape `(n_records,)`.
        record_ids: One label per record, shape `(n_records,)`.
        inclusion_probabilities: Chance of each record to be kept; 1 where all are.
        status: How the last solve ended.
        gap: Its relative duality gap: no weights can lower the objective by more than this share.
        targets: One row per target: `name`, `family`, `target`, `initial`, `final`, `error`
            (relative to `scale`, signed), `initial_error`, `scale`, `tolerance` (NaN is soft),
            `importance`, `price` (fall of the objective per scale by which the target is raised;
            for a soft target, its importance times its error). Means, ratios, shares and their
            differences are held by totals, and have `declared`, `declared_initial` and
            `declared_final` in their own unit; of a quantile, the share of records up to its
            value. These are NaN for totals.
        history: One row per step of the engine: `phase`, `step`, `method`, `loss`, `gap`,
            `residual`, `step_length`, `seconds`, `records`.
        target_history: Estimates of the targets after each step: a row per step, a column per
            target, in the targets' own units; of a quotient along the way as if its denominator
            were that of the phase's end. The index has `epoch` (row of `history`), `phase` and
            `step`. Where steps times targets exceed two million, about ten steps of each
            phase, and its last.
        statistics: Fit and concentration of weights, before and after.
        settings: Every option of the run.
        seconds: Wall time by phase.
        versions: Of this package and of what it computes with.
        record_options: Options that differ by record, by name, each of shape `(n_records,)`.
    """

    weights: Vector
    design_weights: Vector
    record_ids: NDArray[Any]
    inclusion_probabilities: Vector
    status: Status
    gap: float
    targets: pd.DataFrame
    history: pd.DataFrame
    target_history: pd.DataFrame
    statistics: dict[str, dict[str, float]]
    settings: dict[str, Any]
    seconds: dict[str, float]
    versions: dict[str, str]
    record_options: RecordOptions = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether gap and residuals were checked to be below their tolerances."""
        return self.status.is_certified

    @property
    def seed(self) -> int:
        """Seed of the draw."""
        return int(self.settings["seed"])

    def weights_table(self) -> pd.DataFrame:
        """One row per record: `id`, `design_weight`, `weight`."""
        import pandas as pd

        return pd.DataFrame(
            {"id": self.record_ids, "design_weight": self.design_weights, "weight": self.weights}
        )

    def log(self) -> CalibrationLog:
        """The course of every target, as `logs.read_log` reads it from the saved run."""
        from microcalibrate.logs.runs import log_of_run

        return log_of_run(self.target_history, self.history, as_declared(self.targets))

    def save(self, folder: str | Path) -> Path:
        """Write the result into a folder of files that other tools read.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced as a
                whole, and only once the new one is complete.

        Returns:
            The folder.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        from microcalibrate.atomic import run_folder

        folder = Path(folder)
        with run_folder(folder) as fresh:
            self.write_into(fresh)
        return folder

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists."""
        import pandas as pd

        from microcalibrate.io import write_json, write_table
        from microcalibrate.logs.runs import STEPS_NAME, write_run_log
        from microcalibrate.logs.writing import weights_hash

        table = self.weights_table()
        write_table(table, folder / "weights.parquet")
        write_table(table[table.weight != 0], folder / "weights.csv", guard_formulas=True)
        write_table(self.targets, folder / "targets.csv", guard_formulas=True)
        write_table(self.targets, folder / "targets.parquet")
        # A problem with nothing to decide takes no step, and its table still needs a header.
        steps = self.history.reindex(columns=list(HISTORY_COLUMNS))
        write_table(steps, folder / STEPS_NAME)
        facts = {
            "config": self.settings,
            "seed": self.seed,
            "status": self.status.name,
            "versions": self.versions,
            "weights_sha256": weights_hash(self.weights),
        }
        write_run_log(folder, self.target_history, steps, as_declared(self.targets), facts)
        kept = pd.DataFrame({"inclusion_probability": self.inclusion_probabilities})
        write_table(kept, folder / "inclusion_probabilities.parquet")
        write_record_options(self.record_options, folder)
        write_json(self.settings, folder / "config.json")
        write_json(self.summary_values(), folder / "result.json")

    def summary_values(self) -> dict[str, Any]:
        """Everything that is not a table, in plain types, as `result.json` holds it."""
        return {
            "format": FORMAT,
            "status": self.status.name,
            "meaning": self.status.value,
            "gap": float(self.gap) if math.isfinite(self.gap) else None,
            "statistics": self.statistics,
            "settings": self.settings,
            "seconds": self.seconds,
            "versions": self.versions,
        }

    @classmethod
    def load(cls, folder: str | Path) -> CalibrationResult:
        """Read what `save` wrote.

        Args:
            folder: A run's folder.

        Returns:
            The result, equal to the saved one.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
        """
        from microcalibrate.io import read_table
        from microcalibrate.logs.runs import STEPS_NAME, read_run_history
        from microcalibrate.saved_values import complete, read_values

        folder = Path(folder)
        values = read_values(
            folder / "result.json",
            FORMAT,
            "Open it with the version that wrote it, or run the calibration again.",
        )
        table = read_table(folder / "weights.parquet")
        kept = read_table(folder / "inclusion_probabilities.parquet")
        with complete(folder, "Run the calibration again."):
            if len(table) != len(kept):
                raise KeyError(f"{len(table) - len(kept)} inclusion probabilities")
            listed = read_table(folder / "targets.parquet")
            targets = listed[list(TARGET_COLUMNS)].assign(
                **{name: listed.get(name, math.nan) for name in DECLARED_COLUMNS}
            )
            return cls(
                weights=table["weight"].to_numpy(),
                design_weights=table["design_weight"].to_numpy(),
                record_ids=table["id"].to_numpy(),
                inclusion_probabilities=kept["inclusion_probability"].to_numpy(),
                status=Status[values["status"]],
                gap=math.inf if values["gap"] is None else values["gap"],
                targets=targets,
                history=read_table(folder / STEPS_NAME)[list(HISTORY_COLUMNS)],
                target_history=read_run_history(folder, list(targets.name)),
                statistics={when: dict(values["statistics"][when]) for when in ("before", "after")},
                settings=dict(values["settings"]),
                seconds=dict(values["seconds"]),
                versions=dict(values["versions"]),
                record_options=read_record_options(folder),
            )

    def summary(self) -> str:
        """A few lines for people: what was asked, what came out, what to do."""
        before, after = self.statistics["before"], self.statistics["after"]
        lines = [f"{'':46}{'before':>16}{'after':>16}"]
        for key, label, pattern in STATISTICS:
            lines.append(
                f"{label:46}{pattern.format(before[key]):>16}{pattern.format(after[key]):>16}"
            )
        lines.append(f"{self.status.name}: {self.status.value}")
        plural = "" if len(self.targets) == 1 else "s"
        lines.append(
            f"Relative duality gap {self.gap:.1e}; {len(self.targets):,} target{plural}; "
            f"{self.seconds['total']:.2f} s."
        )
        return "\n".join(lines)

    def plot_fit(self) -> Figure:
        """Relative error of every target before and after, by family."""
        from microcalibrate.figures import calibration as figures

        return figures.fit(self)

    def plot_estimates(self) -> Figure:
        """Every target against its estimate, before and after."""
        from microcalibrate.figures import calibration as figures

        return figures.estimates(self)

    def plot_weights(self) -> Figure:
        """Distribution of weights before and after."""
        from microcalibrate.figures import calibration as figures

        return figures.weights(self)

    def plot_worst(self, n_targets: int = 20) -> Figure:
        """The targets that are missed most, with their prices."""
        from microcalibrate.figures import calibration as figures

        return figures.worst_targets(self, n_targets)

    def plot_history(self) -> Figure:
        """Duality gap by step."""
        from microcalibrate.figures import calibration as figures

        return figures.history(self)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML page that works without a network.

        Args:
            path: File to write.

        Returns:
            The path.

        Raises:
            MissingExtra: If Plotly is not installed.
            UnwritableFile: If the file cannot be written.
        """
        from microcalibrate.reports.calibration import write_report

        return write_report(self, Path(path))


def installed_versions() -> dict[str, str]:
    """Versions of Python, of this package, and of what it computes with."""
    packages = ("microcalibrate", "l0-python", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def weight_statistics(weights: Vector, errors: Vector) -> dict[str, float]:
    """Fit and concentration of weights, in plain numbers.

    Args:
        weights: Shape `(n_records,)`.
        errors: `(estimate - target) / scale`, shape `(n_targets,)`.

    Returns:
        `records` with weight, `total_weight`, `largest_over_mean`, the share of all weight that
        the heaviest 1% of these records hold, `top_1_percent`, Kish's effective sample size
        `kish` (Kish 1965), and of the absolute errors the `median_error`, `capped_error` (mean,
        each capped at 1), `rms_error`, `largest_error` and share `within_10_percent`.

    Examples:
        >>> weight_statistics(np.array([1.0, 1.0, 2.0]), np.array([0.0, 0.5]))["kish"]
        2.6666666666666665
    """
    miss = np.abs(errors)
    kept = weights != 0
    heaviest = np.sort(np.abs(weights[kept]))[::-1]
    return {
        "records": float(kept.sum()),
        "total_weight": float(weights.sum()),
        "largest_over_mean": float(weights.max() / weights[kept].mean()) if kept.any() else 0.0,
        "top_1_percent": float(heaviest[: math.ceil(len(heaviest) / 100)].sum() / heaviest.sum())
        if len(heaviest)
        else 0.0,
        "kish": effective_sample_size(weights),
        "median_error": float(np.median(miss)),
        "capped_error": float(np.minimum(miss, 1).mean()),
        "rms_error": float(np.sqrt((miss**2).mean())),
        "largest_error": float(miss.max()),
        "within_10_percent": float((miss < 0.1).mean()),
    }


def effective_sample_size(weights: Vector) -> float:
    """Number of equally weighted records that would give the same precision.

    Kish's approximation (Kish 1965): `sum(w)**2 / sum(w**2)`.

    Args:
        weights: Shape `(n_records,)`.

    Returns:
        A value in `[1, n_records]`, in records; 0 where all weights are zero.

    Examples:
        >>> effective_sample_size(np.array([100.0, 100.0, 200.0]))
        2.6666666666666665
    """
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares) if squares > 0 else 0.0
