"""`microcalibrate targets`: which targets make trouble, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microcalibrate.cli.app import end_without_certificate, say
from microcalibrate.cli.inputs import check_out, given
from microcalibrate.cli.linked import Source
from microcalibrate.cli.options import (
    Closeness,
    Data,
    DistanceName,
    EntityTables,
    IdCheck,
    Links,
    MaxIter,
    MaxRatio,
    MinRatio,
    Out,
    Quiet,
    Report,
    TargetsTable,
    Tolerance,
    Unit,
    Weight,
)
from microcalibrate.cli.outputs import write_run
from microcalibrate.cli.reading import read_inputs

if TYPE_CHECKING:
    from microcalibrate.target_analysis import TargetAnalysis

MOST_TARGETS = 10
CHARACTERS_A_NAME = 40


def targets(
    data: Data,
    out: Out,
    weight: Weight = None,
    targets: TargetsTable = None,
    id_column: IdCheck = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Saved calibration of the same data on all records, whose prices save a solve.",
        ),
    ] = None,
    max_ratio: MaxRatio = None,
    min_ratio: MinRatio = None,
    tolerance: Tolerance = None,
    distance: DistanceName = None,
    closeness: Closeness = None,
    loosening: Annotated[
        float | None,
        typer.Option(help="By which fraction of itself loosening a target is judged. [0.01]"),
    ] = None,
    least_miss: Annotated[
        float | None,
        typer.Option(help="Fraction of itself from which on a target counts as missed. [0.01]"),
    ] = None,
    min_explained: Annotated[
        float | None,
        typer.Option(
            help="Share of a column that others must explain before its target counts as "
            "redundant. [0.9999]"
        ),
    ] = None,
    resolve: Annotated[
        int,
        typer.Option(
            min=0,
            help="For how many of the worst targets dropping is solved exactly, not to "
            "first order.",
        ),
    ] = 0,
    max_iter: MaxIter = 1000,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Find out which targets are out of reach, contradictory, redundant or costly, and why."""
    source = Source(data, weight, targets, id_column, unit, tuple(table or ()), tuple(link or ()))
    check_out(out, report, (*source.paths, run))
    inputs = read_inputs(source, tolerance)
    from microcalibrate.result import CalibrationResult
    from microcalibrate.target_analysis import analyse_targets
    from microcalibrate.target_analysis.summary import ROUGH_GAP

    analysis = analyse_targets(
        **inputs.problem,
        n_resolve=resolve,
        max_iter=max_iter,
        **given(
            result=None if run is None else CalibrationResult.load(run),
            min_weight_ratio=min_ratio,
            max_weight_ratio=max_ratio,
            distance=distance,
            closeness=closeness,
            loosening=loosening,
            least_miss=least_miss,
            min_explained=min_explained,
        ),
    )
    write_run(analysis, out, with_report=report)
    if not quiet:
        say("\n".join([*inputs.notes, analysis.summary(MOST_TARGETS)]))
        say(f"\n{_table(analysis)}")
        say(f"\nwritten to {out}")
    if not analysis.gap <= ROUGH_GAP:
        end_without_certificate(
            f"the solve ended at a relative gap of {analysis.gap:.1e}, so the figures are rough. "
            "Raise `max_iter`, or look for targets of very different size or support.",
            out,
        )


def _table(analysis: TargetAnalysis) -> str:
    """The most troublesome targets, one line each, with what is known of them in figures."""
    from microcalibrate.figures.plotting import percent, readable

    worst = analysis.table.head(MOST_TARGETS)
    names = [readable(name) for name in worst["name"]]
    names = [
        name if len(name) <= CHARACTERS_A_NAME else f"{name[: CHARACTERS_A_NAME - 1]}…"
        for name in names
    ]
    # The worst target has no loss to give where nothing is missed.
    whole = analysis.objective if analysis.objective > 0 else 1.0
    columns = {
        "rank": [str(rank) for rank in worst["rank"]],
        "target": names,
        "kind": list(worst["kind"]),
        "error before": [percent(error, signed=True) for error in worst["initial_error"]],
        "after": [percent(error, signed=True) for error in worst["error"]],
        "loss if dropped": [
            percent(-fall / whole, signed=True) for fall in worst["drop_objective"]
        ],
    }
    lines = []
    widths = {head: max(map(len, [head, *cells])) for head, cells in columns.items()}
    left = ("target", "kind")
    rows = zip(*columns.values(), strict=True)
    for row in [tuple(columns), *rows]:
        cells = (
            cell.ljust(width) if head in left else cell.rjust(width)
            for cell, (head, width) in zip(row, widths.items(), strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
