"""What was measured of generated rows: gates, tables, words; saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.atomic import run_folder
from microcalibrate.io import read_table, write_json, write_table
from microcalibrate.saved_values import complete, read_values

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

FORMAT = "microcalibrate.quality/1"
TABLES = ("gates", "marginals", "pairs", "conditional", "statistics", "shapes")


@dataclass(frozen=True, eq=False)
class QualityReport:
    """Whether generated rows are good enough to spread records over, and where they are not.

    Attributes:
        gates: One row per figure: `family`, `metric`, `words`, `value`, `baseline` (the same of
            real rows against real rows), `limit` (NaN where only reported), `direction`
            ("at most", "at least"), `passed` (missing where only reported), `note`.
        marginals: One row per column: `column`, `type`, `statistic` ("ks" or "tv"), `value`,
            `baseline` (training against holdout rows), `zero_real`, `zero_synthetic`,
            `missing_real`, `missing_synthetic`, `effective`, `is_thin` (too few values to judge).
        pairs: One row per pair of columns: `first`, `second`, `real`, `synthetic`, `gap`,
            `is_thin`; the largest gap first.
        conditional: One row per column and fraction given: `column`, `fraction`, `gain`,
            `effective`, `is_judged`. Empty where no generator was given.
        statistics: One row per statistic: `statistic`, `real`, `synthetic`, `standard_error`,
            `z`, `is_within`.
        shapes: Distribution of each column on both sides, for figures: `column`, `state`,
            `order`, `real`, `synthetic`.
        unmeasured: Family to the reason why it was not measured.
        settings: Every option, and how many rows were compared.
        versions: Of this package and of what it computes with.
    """

    gates: pd.DataFrame
    marginals: pd.DataFrame
    pairs: pd.DataFrame
    conditional: pd.DataFrame
    statistics: pd.DataFrame
    shapes: pd.DataFrame
    unmeasured: dict[str, str]
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every gate that was measured holds."""
        return bool(self.gates.passed.fillna(True).all())

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each gate that fails."""
        failed: Any = self.gates[~self.gates.passed.fillna(True)].itertuples()
        return tuple(
            f"{gate.family}: the {gate.words} is {gate.value:.4g}, and it must be "
            f"{gate.direction} {gate.limit:.4g}" + (f" ({gate.note})." if gate.note else ".")
            for gate in failed
        )

    def summary(self) -> str:
        """The verdict, then each failed gate, and what was not measured."""
        n_gates = int(self.gates.passed.notna().sum())
        n_failed = len(self.failures)
        verdict = "Passed" if self.passed else "Failed"
        of_backend = f" of {self.settings['backend']}" if self.settings.get("backend") else ""
        lines = [
            f"{verdict}: {n_gates - n_failed} of {n_gates} gates hold for "
            f"{self.settings['n_synthetic']:,} generated rows{of_backend}, against "
            f"{self.settings['n_holdout']:,} real rows that the generator has not seen."
        ]
        lines += [f"  {sentence}" for sentence in self.failures]
        lines += [f"Not measured: {name} ({why})." for name, why in self.unmeasured.items()]
        n_thin = int(self.marginals.is_thin.sum())
        if n_thin:
            lines.append(f"{n_thin} of {len(self.marginals)} columns have too few values to judge.")
        return "\n".join(lines)

    def save(self, folder: str | Path) -> Path:
        """Write the report into a folder of files that other tools read, all or nothing.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced.

        Returns:
            The folder.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        folder = Path(folder)
        with run_folder(folder) as fresh:
            self.write_into(fresh)
        return folder

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists."""
        for name in TABLES:
            write_table(getattr(self, name), folder / f"{name}.parquet")
        write_table(self.gates, folder / "gates.csv", guard_formulas=True)
        write_json(
            {
                "format": FORMAT,
                "passed": self.passed,
                "failures": list(self.failures),
                "unmeasured": self.unmeasured,
                "settings": self.settings,
                "versions": self.versions,
            },
            folder / "quality.json",
        )

    @classmethod
    def load(cls, folder: str | Path) -> QualityReport:
        """Read what `save` wrote.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
        """
        folder = Path(folder)
        file = folder / "quality.json"
        values = read_values(
            file,
            FORMAT,
            "Open it with the version that wrote it, or judge the generator again.",
        )
        tables = {name: read_table(folder / f"{name}.parquet") for name in TABLES}
        with complete(file, "Judge the generator again."):
            tables["gates"] = tables["gates"].astype({"passed": "boolean"})
            return cls(
                **tables,
                unmeasured=values["unmeasured"],
                settings=values["settings"],
                versions=values["versions"],
            )

    # --- Figures ----------------------------------------------------------------------------------

    def plot_gates(self) -> Figure:
        """Each figure with its limit and the same of real rows."""
        from microcalibrate.figures import synthetic as figures

        return figures.gates(self)

    def plot_marginals(self, n_columns: int = 8) -> Figure:
        """Distribution of the columns that differ most, real and generated.

        Args:
            n_columns: Most columns to show, from 1.

        Raises:
            InvalidOption: If `n_columns` is below 1.
        """
        from microcalibrate.figures import synthetic as figures

        return figures.marginals(self, n_columns)

    def report(self, path: str | Path) -> Path:
        """Write one page that works without a network.

        Args:
            path: The HTML file to write.

        Returns:
            The file.

        Raises:
            MissingExtra: If Plotly is not installed.
            UnwritableFile: If it cannot be written.
        """
        from microcalibrate.reports.quality import write_quality_report

        return write_quality_report(self, Path(path))
