"""`microcalibrate diagnose`: which records carry too much of what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from microcalibrate.cli.app import FLAGGED, complain, say
from microcalibrate.cli.inputs import check_out, check_reforms
from microcalibrate.cli.options import (
    FlagDominating,
    IdColumn,
    NReforms,
    Out,
    Quiet,
    RandomReforms,
    ReformFraction,
    Reforms,
    Report,
    SchemaFile,
    SurfaceGiven,
    Tables,
    Threshold,
)
from microcalibrate.cli.outputs import write_run


def diagnose(
    data: Tables,
    out: Out,
    schema: SchemaFile = None,
    weight: Annotated[
        str | None, typer.Option(help="Column with the weights, for a table without a schema.")
    ] = None,
    id_column: IdColumn = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Saved calibration of the same records: its weights, instead of a column's.",
        ),
    ] = None,
    surface: SurfaceGiven = None,
    reforms: Reforms = None,
    random_reforms: RandomReforms = None,
    n_reforms: NReforms = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the reforms that are drawn. [0]")
    ] = None,
    on_error: Annotated[
        str | None,
        typer.Option(
            metavar="raise|record",
            help="What a reform that fails does: stop everything, or be listed. [raise]",
        ),
    ] = None,
    threshold: Threshold = 0.05,
    reform_fraction: ReformFraction = 0.2,
    flag_dominating: FlagDominating = False,
    lineage: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Origin of each unit. [_mc_lineage, or each its own]"),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Table of declared targets: leave out the most influential units one by one, and "
            "fit the weights of the others to these again."
        ),
    ] = None,
    left_out: Annotated[
        int | None, typer.Option(min=1, help="How many units --targets leaves out. [50]")
    ] = None,
    weight_groups: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Group within which weights are compared."),
    ] = None,
    strata: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Stratum of each unit.")
    ] = None,
    psu: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Primary sampling unit of each unit.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Reforms computed at the same time.")] = 1,
    fail_on_flagged: Annotated[
        bool, typer.Option("--fail-on-flagged", help="Exit with 3 if a record is flagged.")
    ] = False,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Find the records that carry too much of what is reported, at baseline and over reforms."""
    check_reforms(
        reforms, random_reforms, {"--n-reforms": n_reforms, "--seed": seed, "--on-error": on_error}
    )
    if left_out is not None and targets is None:
        raise typer.BadParameter(
            "--left-out needs --targets, which the weights of the others are fitted to."
        )
    check_out(out, report, (data, schema, targets, run))
    tables, named = _tables(data, schema, weight, id_column, run)
    from microcalibrate.cli.surveys import read_reforms, read_surface
    from microcalibrate.diagnostics import diagnose as diagnose_tables
    from microcalibrate.io import read_table

    found = diagnose_tables(
        tables,
        **named,
        surface=read_surface(surface),
        reforms=read_reforms(reforms, random_reforms, tables),
        n_reforms=n_reforms,
        seed=seed or 0,
        on_error=on_error or "raise",
        threshold=threshold,
        reform_fraction=reform_fraction,
        flag_dominating=flag_dominating,
        lineage=lineage,
        targets=None if targets is None else read_table(targets),
        n_left_out=left_out or 50,
        weight_groups=weight_groups,
        strata=strata,
        psu=psu,
        n_workers=jobs,
        progress=False if quiet else None,
    )
    write_run(found, out, with_report=report)
    if not quiet:
        say(found.summary().replace("flag_dominating=True", "--flag-dominating"))
        say(f"\nwritten to {out}")
    count = len(found.flagged)
    if fail_on_flagged and count:
        complain(
            f"{count:,} {'records are' if count > 1 else 'record is'} flagged: see flagged.csv in "
            f"{out} (exit code {FLAGGED})."
        )
        raise typer.Exit(FLAGGED)


def _tables(
    data: Path, schema: Path | None, weight: str | None, id_column: str | None, run: Path | None
) -> tuple[Any, dict[str, Any]]:
    """The survey, or a table with its weights and the name of its column of ids."""
    from microcalibrate.cli.surveys import read_survey, refuse_hdf5

    if weight is not None and run is not None:
        raise typer.BadParameter(
            "--weight and --run both say which weights. Leave one of them out."
        )
    if schema is None and not data.is_dir():
        if weight is None and run is None:
            raise typer.BadParameter(
                f"{data} needs --weight (the column with the weights) or --run (a calibration of "
                "it), or --schema (a JSON file that says what each column is)."
            )
        from microcalibrate.io import read_table

        refuse_hdf5(data)
        weights = weight if run is None else _weights_of(run)
        return read_table(data), {"weights": weights, "id_column": id_column}
    for option, value in (("--weight", weight), ("--id", id_column)):
        if value is not None:
            raise typer.BadParameter(
                f"{option} is for a table without a schema, and the schema names these columns. "
                "Leave it out."
            )
    return read_survey(data, schema), {} if run is None else {"weights": _weights_of(run)}


def _weights_of(run: Path) -> Any:
    """Weights of a saved calibration by the identifiers of its records."""
    import pandas as pd

    from microcalibrate.result import CalibrationResult

    result = CalibrationResult.load(run)
    return pd.Series(result.weights, index=result.record_ids, name="weight")
