"""Data of a command as arguments of the library, and what is refused before the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from microcalibrate.cli.app import REPORT_NAME, check_plotly
from microcalibrate.cli.flags import FLAGS

GROUPS = ("correlation", "family", "names", "none")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Data of a calibration, by the names of its arguments.

    Attributes:
        weights: Design weights, shape `(n_records,)`.
        targets: Target totals, shape `(n_targets,)`.
        estimate_matrix: What each record adds to each target, shape `(n_records, n_targets)`.
        target_names: One name per target.
        families: Group of each target, None for none.
        tolerances: Allowed relative errors, shape `(n_targets,)`: 0 exact, NaN soft.
        importances: Of each target, or None where all count alike.
        scales: What an error of 1 means for each target, or None for its size.
        record_ids: One label per record, or None.
        untargeted: Variables to follow, `(n_records, n_variables)`, or None.
        per_record: Options that take a value per record, by the names of the library.
        differences: Targets that are differences of quotients.
        quotients: Targets that are quotients of two totals, or None.
        notes: What users should know of their data, in sentences.
    """

    weights: Any
    targets: Any
    estimate_matrix: Any
    target_names: tuple[str, ...]
    families: list[Any]
    tolerances: Any
    importances: Any = None
    scales: Any = None
    record_ids: Any = None
    untargeted: Any = None
    per_record: dict[str, Any] = field(default_factory=dict)
    differences: Any = ()
    quotients: Any = None
    notes: tuple[str, ...] = ()

    @property
    def problem(self) -> dict[str, Any]:
        """The arguments that every function of the library takes."""
        names = ("weights", "targets", "estimate_matrix", "target_names")
        further = ("tolerances", "importances", "scales")
        return {name: getattr(self, name) for name in names + further}

    def grouping(self, groups: str) -> dict[str, Any]:
        """Arguments that say which targets are held out together."""
        if groups not in GROUPS:
            raise typer.BadParameter(f"--groups {groups} is not known. Use {_listed(GROUPS)}.")
        declared = groups == "family" and any(self.families)
        return {
            "groups": None if groups == "none" else groups,
            "families": self.families if declared else None,
        }


# --- Checks before the work -----------------------------------------------------------------------


def given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others keep the defaults of the library."""
    return {name: value for name, value in options.items() if value is not None}


def check_choice(l0_lambda: float | None, records: int | None, options: dict[str, Any]) -> bool:
    """Refuse options on the choice of records that contradict each other or would do nothing.

    Args:
        l0_lambda: Price of records.
        records: Their exact number.
        options: What else was given, by the names of the library.

    Returns:
        Whether records are chosen at all.
    """
    if records is not None and l0_lambda:
        raise typer.BadParameter("give --l0-lambda (a price) or --records (a count), not both.")
    chosen = records is not None or bool(l0_lambda)
    about_choice = ("kappa", "selection", "refit_closeness", "temperature", "device")
    idle = [FLAGS[name] for name in about_choice if name in options]
    if idle and not chosen:
        raise typer.BadParameter(
            f"{' and '.join(idle)} {'acts' if len(idle) == 1 else 'act'} only when records are "
            "chosen: add --records or --l0-lambda."
        )
    return chosen


def check_out(out: Path, with_report: bool, sources: Sequence[Path | None]) -> None:
    """Refuse before the work what would end in no report, no run, or in lost data.

    Args:
        out: Folder of the run.
        with_report: Whether a report goes into it.
        sources: Files and folders that are read or kept; None is passed over.
    """
    from microcalibrate.atomic import check_run_folder

    if with_report:
        check_plotly(REPORT_NAME, "or add --no-report")
    check_run_folder(out)
    for source in sources:
        if source is not None and source.resolve().is_relative_to(out.resolve()):
            raise typer.BadParameter(f"{source} lies in --out {out}, which is replaced as a whole.")


def check_reforms(reforms: str | None, random_reforms: str | None, options: dict[str, Any]) -> None:
    """Refuse options on reforms where there are none.

    Args:
        reforms: Those of the user's own.
        random_reforms: Income on which schedules are drawn.
        options: Flag to value, None where it was not given.
    """
    idle = [name for name, value in options.items() if value is not None]
    if idle and reforms is None and random_reforms is None:
        raise typer.BadParameter(
            f"{idle[0]} acts only on reforms: add --reforms or --random-reforms."
        )
    if reforms is not None and random_reforms is not None:
        raise typer.BadParameter("give --reforms or --random-reforms, not both.")


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
