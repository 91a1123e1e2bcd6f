"""What regularising gave: the survey, what was done to it, and whether that is better."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from microcalibrate.atomic import run_folder
from microcalibrate.diagnostics import Diagnosis
from microcalibrate.diagnostics.frame import records_of
from microcalibrate.errors import InvalidSchema, InvalidSurvey, UnreadableFile
from microcalibrate.figures.plotting import percent
from microcalibrate.io import read_json, read_table, write_json, write_table
from microcalibrate.regularise.footing import Footing
from microcalibrate.regularise.provenance import PROVENANCE, restore
from microcalibrate.regularise.schema import Schema
from microcalibrate.regularise.survey import SCHEMA_FILE, Survey
from microcalibrate.saved_values import read_values

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FORMAT = "microcalibrate.regularise/1"
MAIN_FILE = "regularise.json"
TIMING_FILE = "timing.json"
TABLES = (
    "comparison",
    "rounds",
    "offenders",
    "irreducible",
    "targets",
    "lineage",
    "units",
    "original_weights",
    "stability",
)

STATUSES = {
    "improved": "Improved: rounds were kept in which the targets still fit and no origin gained.",
    "recalibrated": "Recalibrated: weights nearer to their prior flag nobody, so that no record "
    "had to be generated.",
    "rolled_back": "Rolled back to the start: no round passed all checks. The survey is unchanged.",
    "nothing_flagged": "Nothing flagged: no record carries too much. The survey is unchanged.",
    "no_rounds": "No round was run. The survey is unchanged.",
}
STOPPED = {
    "none_flagged": "no record is flagged any more",
    "nothing_accepted": "what is still flagged could not be spread",
    "max_rounds": "the limit of rounds was reached",
    "time_budget": "the time was up",
    "max_added": "the limit of added records was reached",
    "cancelled": "it was cancelled",
}


@dataclass(frozen=True, eq=False)
class RegulariseResult:
    """The survey after the loop, with the evidence.

    Attributes:
        survey: Its tables, with columns of provenance and the weights in use.
        status: "improved", "recalibrated" (weights near their prior flag nobody, and nothing was
            generated), "rolled_back", "nothing_flagged" or "no_rounds".
        stopped: Why the rounds ended: "none_flagged", "nothing_accepted", "max_rounds",
            "time_budget", "max_added" or "cancelled".
        before: Diagnosis of the survey as it came.
        after: Diagnosis of the survey as it is, always of the final state.
        comparison: One row in the columns of `rounds`: what recalibration alone does, without
            offspring. Rounds start from there, and their fit is compared with it.
        rounds: One row per round, kept or rolled back, with the reasons and all figures that it
            was judged by. Flagged records are counted in the statistics that were not thin in
            `before`, by the limits that they had there; `n_flagged_elsewhere` are those flagged
            only in cells that had been thin, and have become less so by the offspring in them.
        offenders: One row per unit and round in which it was to be spread: `round`, `id`,
            `lineage`, `statistic`, `share`, `weight`, `k`, `n_offspring`, `n_candidates`,
            `n_valid`, `n_moved` (of these, drawn without regard to the place and then put there),
            `accepted`, `reason`.
        irreducible: Units that could not be spread, and why.
        targets: One row per target: `name`, `family`, `target`, `before`, `after`,
            `before_error`, `after_error`, `scale`, `tolerance`, `importance`, `price` (entropy per
            unit of the target) and `price_per_scale`; prices are missing for an unchanged survey.
            Of means, ratios, shares and quantiles these are of the totals that they are held by,
            and `declared`, `declared_before`, `declared_after` are in their own unit.
        lineage: One row per generated unit: `id`, `lineage`, `source`, `round`, `backend`,
            `conditioned`, `fraction` (asked for), `achieved`, `weight`, `prior`.
        units: One row per unit: `id`, `lineage`, `is_synthetic`, `original_weight` (missing for
            generated ones), `prior`, `weight`, and `ceiling`: a bound that kept it from carrying
            too much, infinite where none was needed.
        original_weights: Weights of the survey as it came, for `restore`.
        stability: One row per statistic: `statistic`, `mean`, `sd` between seeds, `relative_sd`,
            `is_thin`, `fails`; without rows where it was not checked.
        settings: Every option of the run, and what was fixed by it.
        seconds: Wall time by phase, and of each round.
        versions: Of this package and of what it computes with.
    """

    survey: Survey
    status: str
    stopped: str
    before: Diagnosis
    after: Diagnosis
    comparison: pd.DataFrame
    rounds: pd.DataFrame
    offenders: pd.DataFrame
    irreducible: pd.DataFrame
    targets: pd.DataFrame
    lineage: pd.DataFrame
    units: pd.DataFrame
    original_weights: pd.DataFrame
    stability: pd.DataFrame
    settings: dict[str, Any]
    seconds: dict[str, Any]
    versions: dict[str, str]

    # --- Short answers ----------------------------------------------------------------------------

    @property
    def weights(self) -> pd.Series[float]:
        """Weight of each unit by its id."""
        return self.survey.weights

    @property
    def changed(self) -> bool:
        """Whether the survey is another than the one that came."""
        return self.status in ("improved", "recalibrated")

    @property
    def rolled_back(self) -> bool:
        """Whether rounds were tried and none was kept."""
        return self.status == "rolled_back"

    @property
    def history(self) -> pd.DataFrame:
        """The row of recalibration alone, round 0, and the rounds."""
        rounds = self.rounds.drop(columns="seconds")
        return pd.concat([self.comparison, rounds], ignore_index=True)

    @property
    def n_flagged(self) -> tuple[int, int]:
        """Flagged records before and after, in the statistics that were not thin before."""
        footing = Footing.of(self.before)
        return len(footing.flagged(self.before)), len(footing.flagged(self.after))

    @property
    def n_flagged_elsewhere(self) -> int:
        """Records that are flagged after, only in statistics that were thin before."""
        return Footing.of(self.before).n_elsewhere(self.after)

    @property
    def diagnosis_before(self) -> Diagnosis:
        """The diagnosis `before`."""
        return self.before

    @property
    def diagnosis_after(self) -> Diagnosis:
        """The diagnosis `after`."""
        return self.after

    @property
    def is_stable(self) -> bool | None:
        """Whether no statistic depends much on the seed; None where that was not checked."""
        return None if self.stability.empty else not bool(self.stability["fails"].any())

    @property
    def verdict(self) -> str:
        """What came out, in one sentence."""
        return STATUSES[self.status]

    def summary(self) -> str:
        """What was done and what came out, in a few lines; the first is the verdict."""
        first, last = self.before.summary_figures, self.after.summary_figures
        kept = int(self.rounds["accepted"].sum()) if len(self.rounds) else 0
        before, after = self.n_flagged
        n_rounds = "1 round" if len(self.rounds) == 1 else f"{len(self.rounds)} rounds"
        lines = [
            self.verdict,
            f"{n_rounds}, {kept} kept; the rounds ended because {STOPPED[self.stopped]}.",
            f"Flagged: {before:,} before, {after:,} after. Largest share by record "
            f"{first['largest_share']:.1%} to {last['largest_share']:.1%}, by origin "
            f"{first['largest_lineage_share']:.1%} to {last['largest_lineage_share']:.1%}.",
            f"Kish effective sample size {first['kish']['n_eff']:,.0f} to "
            f"{last['kish']['n_eff']:,.0f}; by origin {first['kish']['lineage_n_eff']:,.0f} to "
            f"{last['kish']['lineage_n_eff']:,.0f}. Only the latter is information of respondents.",
            "Targets: root mean squared relative error "
            f"{percent(_rms(self.targets.before_error))} to "
            f"{percent(_rms(self.targets.after_error))}.",
        ]
        if self.n_flagged_elsewhere:
            lines.append(
                f"{self.n_flagged_elsewhere:,} more are flagged only in cells that were thin "
                "before, and are less so with the offspring in them: nobody was judged there."
            )
        if len(self.comparison):
            alone = self.comparison.iloc[0]
            lines.append(
                f"Recalibration alone, without any offspring: {alone['n_flagged_after']:,} flagged"
                + (f"; {alone['reason']}." if alone["reason"] else ".")
            )
        if len(self.lineage):
            n_replaced = len(self.original_weights) - int((~self.units["is_synthetic"]).sum())
            lines.append(
                f"{len(self.lineage):,} generated {records_of(self.survey.unit)} descend from "
                f"{self.lineage['lineage'].nunique():,} of the survey; {n_replaced:,} of it "
                "were replaced. They are no respondents: see the column _mc_synthetic."
            )
        borrowed = self.offenders[self.offenders["accepted"] & (self.offenders["n_moved"] > 0)]
        if len(borrowed):
            lines.append(
                f"For {borrowed['id'].nunique():,} of these the generator has hardly anything "
                "alike in the same place: offspring were drawn elsewhere and put there."
            )
        if len(self.irreducible):
            row = self.irreducible.iloc[0]
            lines.append(
                f"{len(self.irreducible):,} could not be spread; {row['id']}: {row['reason']}."
            )
        if not self.settings["n_folds_used"]:
            lines.append("No target was held out: there are fewer than two groups of targets.")
        if not self.stability.empty:
            worst = self.stability[~self.stability["is_thin"]]["relative_sd"].max()
            lines.append(
                f"Price of synthesis: over {self.settings['n_stability_seeds']} seeds, statistics "
                f"differ by a standard deviation of up to {worst:.2%}"
                + (" - more than the 2% allowed." if not self.is_stable else ".")
            )
        return "\n".join(lines)

    def restored(self) -> Survey:
        """The survey without generated records, with its former weights; see `restore`."""
        return restore(
            self.survey, self.original_weights, keep=self.settings["provenance_of_input"]
        )

    # --- Files ------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, format: Literal["parquet", "csv"] = "parquet") -> Path:
        """Write everything into a folder of files that other tools read, all or nothing.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced.
            format: Of the tables of the survey.

        Returns:
            The folder.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        folder = Path(folder)
        with run_folder(folder) as fresh:
            self.write_into(fresh, format=format)
        return folder

    def write_into(self, folder: Path, *, format: Literal["parquet", "csv"] = "parquet") -> None:
        """Write the files of `save` into a folder that exists."""
        (folder / "tables").mkdir()
        for name, table in self.survey.tables.items():
            write_table(table, folder / "tables" / f"{name}.{format}")
        schema = self.survey.schema
        try:
            content, has_code = schema.to_json(), False
        except InvalidSchema:
            content, has_code = schema.to_json(by_name=True), True
        write_json(content, folder / "tables" / SCHEMA_FILE)
        for name in TABLES:
            table = getattr(self, name)
            if name == "rounds":
                table = table.drop(columns="seconds")
            write_table(table, folder / f"{name}.parquet")
            if name not in ("original_weights",):
                write_table(table, folder / f"{name}.csv", guard_formulas=True)
        for name, diagnosis in (("before", self.before), ("after", self.after)):
            (folder / name).mkdir()
            diagnosis.write_into(folder / name)
        write_json(
            {
                "format": FORMAT,
                "status": self.status,
                "meaning": self.verdict,
                "stopped": self.stopped,
                "schema_has_functions": has_code,
                "settings": self.settings,
                "versions": self.versions,
            },
            folder / MAIN_FILE,
        )
        # Apart from the rest, so that two runs of one seed give the same files otherwise.
        write_json(self.seconds, folder / TIMING_FILE)

    @classmethod
    def load(cls, folder: str | Path, schema: Schema | None = None) -> RegulariseResult:
        """Read what `save` wrote.

        Args:
            folder: Folder of a result.
            schema: Of the survey; needed only where it has columns calculated by functions.

        Returns:
            The result, equal to the saved one where its tables are Parquet files.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
            InvalidSurvey: If the schema has functions and none is given.
        """
        folder = Path(folder)
        values = read_values(
            folder / MAIN_FILE,
            FORMAT,
            "Open it with the version that wrote it, or run it again.",
        )
        if values.get("schema_has_functions") and schema is None:
            raise InvalidSurvey(
                f"{folder} has columns that are calculated by Python functions, which no file "
                "holds. Give the `schema` that it was made with."
            )
        tables = {name: read_table(folder / f"{name}.parquet") for name in TABLES}
        try:
            seconds = read_json(folder / TIMING_FILE)
            tables["rounds"] = tables["rounds"].assign(
                seconds=np.asarray(seconds["rounds"], dtype=np.float64)
            )
            return cls(
                survey=Survey.read(folder / "tables", schema),
                status=values["status"],
                stopped=values["stopped"],
                before=Diagnosis.load(folder / "before"),
                after=Diagnosis.load(folder / "after"),
                settings=values["settings"],
                seconds=seconds,
                versions=values["versions"],
                **tables,
            )
        except (KeyError, ValueError) as error:
            if isinstance(error, InvalidSurvey):
                raise
            raise UnreadableFile(f"{folder} is not complete ({error}). Run it again.") from error

    # --- Figures and report -----------------------------------------------------------------------

    def report(self, path: str | Path) -> Path:
        """Write one HTML page with all figures, which needs no network."""
        from microcalibrate.reports.regularise import write_regularise_report

        return write_regularise_report(self, Path(path))

    def plot_rounds(self) -> Figure:
        """What each round brought, by record and by origin, and what it cost in fit."""
        from microcalibrate.figures import regularise as figures

        return figures.rounds(self)

    def plot_targets(self, n_targets: int = 20) -> Figure:
        """Errors of the targets before and after, the largest first."""
        from microcalibrate.figures import regularise as figures

        return figures.target_fit(self, n_targets)

    def plot_prices(self, n_targets: int = 20) -> Figure:
        """What drives the weights: the targets with the largest prices."""
        from microcalibrate.figures import regularise as figures

        return figures.prices(self, n_targets)

    def plot_weights(self) -> Figure:
        """Weights before and after, and how far weights of respondents moved."""
        from microcalibrate.figures import regularise as figures

        return figures.weights(self)


def unmarked_columns(survey: Survey) -> list[str]:
    """Columns of provenance that a survey has by itself."""
    return [name for name in PROVENANCE if name in survey.tables[survey.unit].columns]


def _rms(errors: pd.Series[float]) -> float:
    return float(np.sqrt((errors**2).mean()))
