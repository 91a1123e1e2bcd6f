"""What an analysis of targets returns: tables, their figures, a summary; saved and loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.errors import UnreadableFile
from microcalibrate.target_analysis.identities import IDENTITY_COLUMNS, MEMBER_COLUMNS
from microcalibrate.target_analysis.summary import summary_of

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

Matrix = NDArray[np.float64]

FORMAT = "microcalibrate.targets/1"


@dataclass(frozen=True, eq=False)
class TargetAnalysis:
    """Which targets make trouble, and why.

    Attributes:
        table: One row per target, the most troublesome first. `rank`, `name`, `kind` (see
            `reason` for it in words), `target`, `initial` and `final` estimate, `initial_error`
            and `error` (signed, in scales), `price`; before solving `lowest` and `highest`
            estimate at the bounds on the ratio, `unreachable`, `support` (records that
            contribute), `effective_support`, `largest_share` (of one record, in `[0, 1]`);
            `group` (of collinear targets, the costliest it is in; -1 for none), `explained`
            (share that its combination explains, in `[0, 1]`), `combination`; `conflict_with` and
            `conflict` (strongest); and `drop_objective`, `drop_mean_error`, `loosen_objective`:
            fall of the objective and of the mean absolute error of the other targets, to first
            order, with `exact_drop_objective` and `exact_drop_mean_error` where solved again
            (else NaN).
        groups: Names of collinear targets: one group per identity, in which targets that are
            multiples of each other are one. A target may be in several.
        identities: One row per linear identity among columns, the costliest first: `rank`,
            `identity` in words, whether it is `contradicted` (forces errors of the size of a
            miss), `n_members`, `n_missed`, `implied` (what the targets of the parts add up to),
            `stated` (what those of the total do), `discrepancy` (`implied / stated - 1`),
            `forced_error` (largest that it puts on a member, in scales), `share_of_loss` (least
            part of the objective that is due to it alone, in `[0, 1]`), `explained`, `rescale`
            (what would bring the parts to the total; NaN where no positive factor does) and
            `rescale_objective` (fall of the objective by that, to first order), `drop_first` (the
            member that gives most when dropped) and `reason`, a sentence.
        identity_members: One row per identity and member, in each the one first whose dropping
            gives most: `identity` (its rank), `rank`, `name`, `side` ("part" or "total"),
            `coefficient`, `target`, `error`, `drop_objective`, `loosen_objective`.
        conflicts: One row per pair that pulls against each other, strongest first: `first`,
            `second`, `conflict` (in `[0, 1]`), `strength` (in units of the objective),
            `relief_first` (fall of the first's absolute error, in scales, per scale by which the
            second is loosened) and `relief_second`.
        target_names: Names in the order of the matrices.
        conflict_matrix: Shape `(n_targets, n_targets)`, in `[-1, 1]`: 1 where only one of two
            targets can be met, 0 where they do not meet, below 0 where they pull as one. Targets
            out of reach are left out of it: they would hide the rest.
        sensitivity: Shape `(n_targets, n_targets)`: fall of the absolute error of target `j`
            (row), in scales, per scale by which target `k` (column) is loosened; also among those
            within reach.
        objective: Price of distance plus half the mean squared error, before any change.
        mean_error: Mean absolute error, in scales.
        forced_share: Least part of the objective that all identities together are the cause of,
            in `[0, 1]`.
        gap: Relative duality gap of the solve, or of the given result.
        loosening: By how many scales `loosen_objective` loosens.
        least_miss: Absolute error, in scales, from which a target counts as missed.
        infeasible: Why exact or banded targets cannot all hold, or an empty text. Where they
            cannot, all targets were analysed as soft ones.
        seconds: Wall time.
    """

    table: pd.DataFrame
    groups: tuple[tuple[str, ...], ...]
    identities: pd.DataFrame
    identity_members: pd.DataFrame
    conflicts: pd.DataFrame
    target_names: tuple[str, ...]
    conflict_matrix: Matrix
    sensitivity: Matrix
    objective: float
    mean_error: float
    forced_share: float
    gap: float
    loosening: float
    least_miss: float
    infeasible: str
    seconds: float

    def summary(self, n_targets: int = 10) -> str:
        """A few lines for people: what is met, then what costs most, with names and figures.

        Args:
            n_targets: Most troubles to list, from 1: identities and single targets.

        Raises:
            InvalidOption: If `n_targets` is below 1.
        """
        return summary_of(self, n_targets)

    def save(self, folder: str | Path) -> Path:
        """Write tables, matrices and summary into a folder, from which `load` reads them.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced as a
                whole, and only once the new one is complete.

        Returns:
            The folder, with the files of `write_into`.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        from microcalibrate.atomic import run_folder

        folder = Path(folder)
        with run_folder(folder) as fresh:
            self.write_into(fresh)
        return folder

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists, each as a whole.

        Each of `target_analysis`, `target_identities`, `target_identity_members` and
        `target_conflicts` is a table, once as CSV to look at and once as Parquet to load;
        `target_analysis.txt` is the summary, `target_conflict_matrix.npz` has `names`, `conflict`
        and `sensitivity`, and `target_analysis.json` the rest.

        Raises:
            UnwritableFile: If a file cannot be written; it is then as it was.
        """
        from microcalibrate.atomic import atomic_path
        from microcalibrate.io import write_json, write_table

        for name, table in self._tables().items():
            write_table(table, folder / f"{name}.csv", guard_formulas=True)
            write_table(table, folder / f"{name}.parquet")
        with (
            atomic_path(folder / "target_conflict_matrix.npz") as unfinished,
            unfinished.open("wb") as file,
        ):
            np.savez_compressed(
                file,
                names=np.array(self.target_names, dtype=np.str_),
                conflict=self.conflict_matrix,
                sensitivity=self.sensitivity,
            )
        with atomic_path(folder / "target_analysis.txt") as unfinished:
            unfinished.write_text(self.summary() + "\n", encoding="utf-8")
        values: dict[str, Any] = {"format": FORMAT}
        for name in NUMBERS:
            number = float(getattr(self, name))
            values[name] = number if math.isfinite(number) else None
        values |= {"infeasible": self.infeasible, "groups": self.groups}
        write_json(values, folder / "target_analysis.json")

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "target_analysis": self.table,
            "target_identities": self.identities,
            "target_identity_members": self.identity_members,
            "target_conflicts": self.conflicts,
        }

    @classmethod
    def load(cls, folder: str | Path) -> TargetAnalysis:
        """Read what `save` wrote.

        Args:
            folder: A run's folder.

        Returns:
            The analysis, equal to the saved one.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
        """
        from microcalibrate.io import read_table
        from microcalibrate.saved_values import complete, read_values

        folder = Path(folder)
        values = read_values(
            folder / "target_analysis.json",
            FORMAT,
            "Open it with the version that wrote it, or run the analysis again.",
        )
        tables = {
            name: read_table(folder / f"target_{name}.parquet")
            for name in ("analysis", "identities", "identity_members", "conflicts")
        }
        with complete(folder, "Run the analysis again."):
            arrays = _arrays(folder / "target_conflict_matrix.npz")
            names = tuple(map(str, arrays["names"]))
            shape = (len(names), len(names))
            if not arrays["conflict"].shape == arrays["sensitivity"].shape == shape:
                raise ValueError(f"the matrices are not of shape {shape}")
            if set(tables["analysis"]["name"]) != set(names):
                raise ValueError("table and matrices are of other targets")
            numbers = {name: values[name] for name in NUMBERS}
            return cls(
                table=tables["analysis"],
                groups=tuple(tuple(map(str, group)) for group in values["groups"]),
                identities=tables["identities"][list(IDENTITY_COLUMNS)],
                identity_members=tables["identity_members"][list(MEMBER_COLUMNS)],
                conflicts=tables["conflicts"],
                target_names=names,
                conflict_matrix=arrays["conflict"],
                sensitivity=arrays["sensitivity"],
                infeasible=str(values["infeasible"]),
                **{key: math.inf if value is None else value for key, value in numbers.items()},
            )

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
        from microcalibrate.reports.targets import write_targets_report

        return write_targets_report(self, Path(path))

    def plot(self, n_targets: int = 30) -> Figure:
        """Heat map of the conflicts among the most troublesome targets.

        Args:
            n_targets: Most targets to show, from 1 to 60.

        Raises:
            InvalidOption: If `n_targets` is out of its range.
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures.heat_map import heat_map

        return heat_map(self, n_targets)

    def plot_ranking(self, n_targets: int = 30) -> Figure:
        """What dropping each of the targets that cost most would give, by kind of trouble.

        Args:
            n_targets: Most targets to show, from 1 to 60.

        Raises:
            InvalidOption: If `n_targets` is out of its range.
            MissingExtra: If Plotly is not installed.
        """
        from microcalibrate.figures.target_ranking import target_ranking

        return target_ranking(self, n_targets)


NUMBERS = (
    "objective",
    "mean_error",
    "forced_share",
    "gap",
    "loosening",
    "least_miss",
    "seconds",
)


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a file of matrices."""
    import zipfile

    if not file.is_file():
        raise UnreadableFile(f"{file} does not exist. Run the analysis again.")
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableFile(f"{file} is damaged: {error}. Run the analysis again.") from error
