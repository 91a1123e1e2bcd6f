"""What a diagnosis found: tables, figures, words; saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.atomic import run_folder
from microcalibrate.diagnostics.frame import records_of
from microcalibrate.figures.plotting import amount, percent
from microcalibrate.io import read_table, write_json, write_table
from microcalibrate.saved_values import complete, read_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from plotly.graph_objects import Figure

FORMAT = "microcalibrate.diagnosis/1"

TABLES = (
    "records",
    "flagged",
    "influence",
    "cells",
    "kish",
    "reforms",
    "comparisons",
    "potter",
)
CSV_FILES = {
    "flagged": "flagged.csv",
    "kish": "ess.csv",
    "reforms": "reforms.csv",
    "comparisons": "comparisons.csv",
}
"""Tables that are also written for spreadsheets. The Parquet file of each table is what loads."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Which units carry too much of what is reported, and how much information weights leave.

    Attributes:
        records: One row per unit: `id`, `lineage`, `weight`; `share`, its largest gross share of
            a statistic that is not thin, at baseline, and that `worst_statistic`; the largest
            `lineage_share` of its origin; `n_influential`, statistics in which it is above the
            limit; over reforms `n_reforms_above`, `reform_mean_share`, `reform_max_share` (mean
            and maximum of its largest share) and `reform_worst_statistic`;
            `is_influential`, `is_reform_robust`, `is_flagged` (either of them); and, for
            comparison, `above_naep_3_5`, `above_naep_4_5`, `above_tukey`, `above_potter`.
        flagged: The rows of `records` that are flagged, the largest share first, with their
            `weight_over_median`.
        influence: One row per unit and statistic above the floor (a fifth of the threshold):
            `id`, `lineage`, `weight`, `reform`, `metric`, `slice`, `cell`, `statistic`, `amount`,
            `share`, `lineage_share`, `net_share` (NaN where undefined, with `net_reason`),
            `leave_one_out` (weights of all others as they are), `leave_one_out_recalibrated`
            (fitted again; NaN where it was not asked for), `standardised`, `variance_share`,
            `limit`, `is_thin`, `is_influential`, `is_high_variance`, `is_high_standardised`.
        cells: One row per statistic: its figures, whether it is thin and why, and how many units
            are above each limit.
        kish: Effective sample sizes, one row per cell of each slice.
        reforms: One row per reform: `reform`, `status` ("ok", "inert", "failed"), `message`,
            `metrics`, `gross_change`, `n_influential`, `largest_share`, `largest_id`.
        comparisons: Cut-offs for weights by other rules.
        potter: Potter's curve of estimated mean squared error by cap.
        summary_figures: The figures that `summary()` puts in words.
        settings: Every option of the run.
        versions: Of this package and of what it computes with.
    """

    records: pd.DataFrame
    flagged: pd.DataFrame
    influence: pd.DataFrame
    cells: pd.DataFrame
    kish: pd.DataFrame
    reforms: pd.DataFrame
    comparisons: pd.DataFrame
    potter: pd.DataFrame
    summary_figures: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def threshold(self) -> float:
        """Gross share above which a unit is influential."""
        return float(self.settings["threshold"])

    @property
    def thin_cells(self) -> pd.DataFrame:
        """The statistics at baseline with too few contributors, the fewest first."""
        thin = self.cells[(self.cells.reform == "baseline") & self.cells.is_thin]
        return thin.sort_values("effective", kind="stable", ignore_index=True)

    def summary(self) -> str:
        """What was looked at and what was found, in a few lines."""
        found = self.summary_figures
        kish, weights, settings = found["kish"], found["weights"], self.settings
        unit = settings["unit"]
        units = records_of(unit)
        robust = (
            f", {found['n_reform_robust']:,} do so in at least {settings['reform_fraction']:.0%} "
            "of the reforms"
            if len(self.reforms)
            else ""
        )
        lines = [
            f"{found['n_flagged']:,} of {found['n_units']:,} {units} are flagged: "
            f"{found['n_influential']:,} carry more than {settings['threshold']:.0%} of a "
            f"statistic at baseline{robust}.",
            f"By origin (lineage), {found['n_lineages_above']:,} of {found['n_lineages']:,} carry "
            f"more than {settings['threshold']:.0%}; the largest share is "
            f"{found['largest_share']:.1%} by record and {found['largest_lineage_share']:.1%} by "
            "origin.",
            f"{found['n_statistics']:,} statistics, of which {found['n_thin']:,} are thin: too few "
            "contribute for anyone to be called influential.",
            f"Kish effective sample size {kish['n_eff']:,.0f} of {kish['n']:,} (design effect "
            f"{kish['design_effect']:.2f}), by origin {kish['lineage_n_eff']:,.0f}.",
            f"Weights: median {amount(weights['median'])}, largest {amount(weights['largest'])}, "
            f"skewness {amount(weights['skewness'])}; the heaviest 1% hold "
            f"{weights['top_1_percent']:.1%}.",
        ]
        if found["n_dominated"]:
            lines.append(
                f"{found['n_dominated']:,} of the thin statistics have enough contributors, and "
                "one record carries most of each: see `largest_id` in `cells`, or flag such "
                "records with flag_dominating=True."
            )
        if len(self.reforms):
            lines.append(
                f"Reforms: {found['n_reforms_ok']:,} looked at, {found['n_reforms_inert']:,} inert "
                f"(they change nothing and are left out), {found['n_reforms_failed']:,} failed"
                + (": see `reforms`." if found["n_reforms_failed"] else ".")
            )
        if found.get("n_recalibrated") or found.get("n_not_recalibrated"):
            lines.append(self._refitted())
        if found["left_out"]:
            pairs = ", ".join(f"{metric} by {part}" for metric, part in found["left_out"][:5])
            more = len(found["left_out"]) - 5
            lines.append(
                f"Not reported, since a slice lies below the metric's entity: {pairs}"
                + (f" and {more} more." if more > 0 else ".")
            )
        worst_rows: Any = self.flagged.head(5).itertuples()
        for row in worst_rows:
            is_baseline = row.share >= row.reform_max_share
            share = row.share if is_baseline else row.reform_max_share
            worst = row.worst_statistic if is_baseline else row.reform_worst_statistic
            lines.append(
                f"  {row.id}: {share:.1%} of “{worst}” (its origin at most "
                f"{row.lineage_share:.1%} at baseline), weight {amount(row.weight)}, "
                f"{row.weight_over_median:,.1f} times the median."
            )
        return "\n".join(lines)

    @property
    def left_out(self) -> pd.DataFrame:
        """The units that were left out with the weights of the others fitted again.

        Returns:
            One row each, at the statistic at baseline that it would change most, relative to its
            estimate: `id`, `statistic`, `share`, `estimate`, `change` (weights of the others as
            they are) and `change_recalibrated`; the largest change first.
        """
        import numpy as np

        table = self.influence
        columns = ["id", "statistic", "share", "estimate", "change", "change_recalibrated"]
        if "leave_one_out_recalibrated" not in table:
            table = table.assign(leave_one_out_recalibrated=np.nan)
        table = table[table["leave_one_out_recalibrated"].notna()]
        estimates = self.cells.set_index(self.cells["statistic"].astype(str))["estimate"]
        table = table.assign(
            statistic=table["statistic"].astype(str),
            estimate=estimates.reindex(table["statistic"].astype(str)).to_numpy(),
            change=table["leave_one_out"],
            change_recalibrated=table["leave_one_out_recalibrated"],
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.abs((table["change_recalibrated"] / table["estimate"]).to_numpy(np.float64))
        order = np.argsort(-np.nan_to_num(size, nan=-1.0, posinf=-1.0), kind="stable")
        return table.iloc[order].drop_duplicates("id")[columns].reset_index(drop=True)

    def _refitted(self) -> str:
        """What leaving units out does when weights are fitted again, in a sentence."""
        found, most = self.summary_figures, self.left_out.head(1).to_dict("records")
        line = (
            f"Left out one by one, weights fitted again: {found['n_recalibrated']:,} records"
            + (f"; the largest change is {_relative(most[0])} of “{most[0]['statistic']}” "
               f"({most[0]['id']})." if most else ".")
        )  # fmt: skip
        if found["n_not_recalibrated"]:
            line += f" Without {found['n_not_recalibrated']:,} more the targets cannot hold."
        return line

    def save(self, folder: str | Path) -> Path:
        """Write the diagnosis into a folder of files that other tools read, all or nothing.

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
        for name, file in CSV_FILES.items():
            write_table(getattr(self, name), folder / file, guard_formulas=True)
        write_json(
            {
                "format": FORMAT,
                "figures": self.summary_figures,
                "settings": self.settings,
                "versions": self.versions,
            },
            folder / "summary.json",
        )

    @classmethod
    def load(cls, folder: str | Path) -> Diagnosis:
        """Read what `save` wrote.

        Args:
            folder: A diagnosis' folder.

        Returns:
            The diagnosis, equal to the saved one.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
        """
        folder = Path(folder)
        file = folder / "summary.json"
        values = read_values(
            file,
            FORMAT,
            "Open it with the version that wrote it, or run the diagnosis again.",
        )
        tables = {name: read_table(folder / f"{name}.parquet") for name in TABLES}
        with complete(file, "Run the diagnosis again."):
            return cls(
                **tables,
                summary_figures=values["figures"],
                settings=values["settings"],
                versions=values["versions"],
            )

    def report(self, path: str | Path) -> Path:
        """Write a page with the records that carry too much, and the figures that it rests on.

        Args:
            path: File to write; an older one is replaced when the new one is complete.

        Returns:
            The path.

        Raises:
            MissingExtra: If Plotly is not installed.
            UnwritableFile: If the file cannot be written.
        """
        from microcalibrate.reports.diagnosis import write_diagnosis_report

        return write_diagnosis_report(self, Path(path))

    # --- Figures ----------------------------------------------------------------------------------

    def plot_weights(self, before: Diagnosis | None = None, caps: Sequence[float] = ()) -> Figure:
        """Distribution of weights, linear and log, with what the heaviest hold.

        Args:
            before: An earlier diagnosis to draw beside this one.
            caps: Weights to mark.
        """
        from microcalibrate.figures import weight_distribution as figures

        return figures.weights(self, before, caps)

    def plot_kish(self, slice_name: str | None = None) -> Figure:
        """Records, effective records, and effective origins by cell.

        Args:
            slice_name: The slice; None shows all, as far as they fit.

        Raises:
            InvalidOption: If there is no such slice.
        """
        from microcalibrate.figures import weight_distribution as figures

        return figures.kish(self, slice_name)

    def plot_flagged(self, n_records: int = 30) -> Figure:
        """Table of the flagged records with the statistics they carry most of."""
        from microcalibrate.figures import diagnostics as figures

        return figures.flagged(self, n_records)

    def plot_heat_map(self, n_records: int = 20, n_statistics: int = 25) -> Figure:
        """Gross shares of the most influential records in the statistics they carry most of."""
        from microcalibrate.figures import diagnostics as figures

        return figures.heat_map(self, n_records, n_statistics)

    def plot_influence(self, before: Diagnosis | None = None) -> Figure:
        """Weight against largest gross share, and where flagged records were before."""
        from microcalibrate.figures import diagnostics as figures

        return figures.influence(self, before)


def _relative(row: Any) -> str:
    return percent(row["change_recalibrated"] / row["estimate"], signed=True)
