"""What an evaluation of robustness returns: figures, tables and a verdict; saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.evaluation.tables import RandomComparison

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

FORMAT = "microcalibrate.robustness/1"

TABLES = {
    "folds": (
        "fold",
        "n_targets",
        "held_out_error",
        "train_error",
        "gap",
        "design_error",
        "random_error",
        "weight_change",
        "final_weight_change",
        "records",
        "kish",
    ),
    "targets": (
        "name",
        "group",
        "fold",
        "target",
        "held_out_error",
        "train_error",
        "held_out_bias",
        "design_error",
        "random_error",
    ),
    "draws": (
        "fold",
        "selection",
        "seed",
        "records",
        "kish",
        "train_error",
        "held_out_error",
        "status",
    ),
    "bootstrap": ("replicate", "records", "kish", "error", "status"),
    "drift": (
        "variable",
        "design_total",
        "dense_total",
        "draw_drift",
        "fold_drift",
        "random_drift",
        "bootstrap_std",
    ),
}
"""Tables of a result and their columns, as they are saved."""
# Figures that every evaluation has.
ALWAYS_KNOWN = ("mean_error", "std_error", "train_error", "gap", "design_error", "records")


@dataclass(frozen=True, eq=False)
class RobustnessResult(Mapping[str, float]):
    """What `evaluate_robustness` found; `result["mean_error"]` and the like are its figures.

    Errors are absolute, relative to the scale of their target, and capped at 1 each.

    Attributes:
        figures: By name: `mean_error` (held-out, mean over folds), `std_error` (its standard
            deviation over folds), `worst_error` (of a fold), `train_error` (in the same folds, of
            the targets calibrated to), `gap` (held-out less train), `design_error` (held-out,
            had the design weights been left alone), `within_10_percent` (share of held-out
            targets), `weight_change` (share of the dense weight that moves when a fold is left
            out, mean over folds), `records` and `kish` (mean over folds and draws), `n_folds`,
            `n_groups`, `n_targets`; where more than one draw was made `draw_std` (standard
            deviation of the held-out error over seeds), with replicates `bootstrap_std` (of the
            error on all targets), with a comparison `random_mean_error` and `random_ratio`.
        folds: One row per fold: `fold`, `n_targets`, `held_out_error`, `train_error`, `gap`,
            `design_error`, `random_error` (NaN without), `weight_change` (dense weights),
            `final_weight_change`, `records`, `kish`.
        targets: One row per target: `name`, `group`, `fold`, `target`, `held_out_error` and
            `train_error` (mean over draws, and over the other folds), `held_out_bias` (signed,
            not capped), `design_error`, `random_error`.
        draws: One row per refit: `fold` (-1 calibrates to all targets), `selection`, `seed`,
            `records`, `kish`, `train_error`, `held_out_error`, `status`.
        bootstrap: One row per replicate: `replicate`, `records`, `kish`, `error` (on all
            targets), `status`.
        drift: One row per untargeted variable: `variable`, `design_total`, `dense_total`, and
            relative to the dense total `draw_drift` (mean absolute change by draw and refit),
            `fold_drift` (mean absolute change when a fold is left out), `random_drift`,
            `bootstrap_std`. Empty where none is named.
        random: The comparison with a random sample, or None where all records stay.
        verdict: What to make of it, one sentence each.
        settings: The options of the run.
    """

    figures: dict[str, float]
    folds: pd.DataFrame
    targets: pd.DataFrame
    draws: pd.DataFrame
    bootstrap: pd.DataFrame
    drift: pd.DataFrame
    random: RandomComparison | None
    verdict: tuple[str, ...]
    settings: dict[str, Any]

    def __getitem__(self, name: str) -> float:
        """One of the figures; an unknown name is a KeyError that lists the known ones."""
        if name not in self.figures:
            raise KeyError(f"{name!r} is no figure of this result. There are: {list(self.figures)}")
        return self.figures[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the figures."""
        return iter(self.figures)

    def __len__(self) -> int:
        """Number of figures."""
        return len(self.figures)

    def __repr__(self) -> str:
        """The figures that matter, in one line."""
        shown = ("mean_error", "std_error", "train_error", "n_folds", "records")
        return f"RobustnessResult({', '.join(f'{name}={self[name]:.4g}' for name in shown)})"

    @property
    def is_drawn(self) -> bool:
        """Whether records were drawn; else the dense weights are the final ones."""
        return bool(self.settings.get("target_records") or self.settings.get("l0_lambda"))

    def summary(self) -> str:
        """The verdict, one sentence a line."""
        return "\n".join(self.verdict)

    def save(self, folder: str | Path) -> Path:
        """Write tables as CSV and Parquet, and the rest as `robustness.json`.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced as a
                whole, and only once the new one is complete.

        Returns:
            The folder.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        from microcalibrate.atomic import run_folder

        with run_folder(Path(folder)) as fresh:
            self.write_into(fresh)
        return Path(folder)

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists."""
        from microcalibrate.io import write_json, write_table

        compared_to = asdict(self.random) if self.random else {}
        # JSON has no NaN: what is not known is null.
        known = {name: None if value != value else value for name, value in compared_to.items()}
        values = {
            "format": FORMAT,
            "figures": self.figures,
            "random": known or None,
            "verdict": self.verdict,
            "settings": self.settings,
        }
        for name in TABLES:
            # Spreadsheets open the CSV; the other keeps every text as it was.
            write_table(getattr(self, name), folder / f"{name}.csv", guard_formulas=True)
            write_table(getattr(self, name), folder / f"{name}.parquet")
        write_json(values, folder / "robustness.json")

    @classmethod
    def load(cls, folder: str | Path) -> RobustnessResult:
        """Read what `save` wrote.

        Args:
            folder: A run's folder.

        Returns:
            The result, equal to the saved one.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
        """
        from microcalibrate.io import read_table
        from microcalibrate.saved_values import complete, read_values

        folder = Path(folder)
        values = read_values(
            folder / "robustness.json",
            FORMAT,
            "Open it with the version that wrote it, or run the evaluation again.",
        )
        tables = {name: read_table(folder / f"{name}.parquet") for name in TABLES}
        with complete(folder, "Run the evaluation again."):
            figures = {str(name): float(value) for name, value in values["figures"].items()}
            for name in ALWAYS_KNOWN:
                figures[name]
            for name, rows in (("folds", "n_folds"), ("targets", "n_targets")):
                if len(tables[name]) != figures[rows]:
                    raise ValueError(f"{len(tables[name])} {name}, not {figures[rows]:.0f}")
            return cls(
                figures=figures,
                **{name: tables[name][list(columns)] for name, columns in TABLES.items()},
                random=_comparison(values["random"]),
                verdict=tuple(map(str, values["verdict"])),
                settings=dict(values["settings"]),
            )

    def plot_folds(self) -> Figure:
        """Error of held-out targets by fold, beside those calibrated to and what else there is.

        Raises:
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures import robustness as drawing

        return drawing.folds(self)

    def plot_targets(self, n_targets: int = 20) -> Figure:
        """The targets that are missed most when they are held out.

        Args:
            n_targets: Most targets to show, from 1.

        Raises:
            InvalidOption: If `n_targets` is below 1.
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures import robustness as drawing

        return drawing.targets(self, n_targets)

    def plot_stability(self) -> Figure:
        """How far errors and weights change with the draw, the records and the targets.

        Raises:
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures import robustness as drawing

        return drawing.stability(self)

    def plot_drift(self, n_variables: int = 30) -> Figure:
        """Change of the totals that were followed but not targeted.

        Args:
            n_variables: Most variables to show, from 1.

        Raises:
            InvalidOption: If none was named in the evaluation, or `n_variables` is below 1.
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures import robustness as drawing

        return drawing.drift(self, n_variables)

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
        from microcalibrate.reports.robustness import write_robustness_report

        return write_robustness_report(self, path)


def _comparison(saved: dict[str, Any] | None) -> RandomComparison | None:
    if saved is None:
        return None
    known = {field.name: saved[field.name] for field in fields(RandomComparison)}
    numbers: dict[str, Any] = {n: math.nan if v is None else v for n, v in known.items()}
    return RandomComparison(**numbers)
