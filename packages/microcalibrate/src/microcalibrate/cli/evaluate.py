"""`microcalibrate evaluate`: how far a calibration holds beyond its own targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import end_without_certificate, say
from microcalibrate.cli.inputs import check_choice, check_out, given
from microcalibrate.cli.linked import Source
from microcalibrate.cli.options import (
    Closeness,
    Cluster,
    Data,
    Device,
    DistanceName,
    EntityTables,
    Frozen,
    Groups,
    Heteroscedasticity,
    IdCheck,
    Kappa,
    L0Lambda,
    Links,
    LossName,
    MaxIter,
    MaxRatio,
    MaxWeight,
    MinRatio,
    MinWeight,
    Out,
    Quiet,
    Records,
    RefitCloseness,
    Report,
    Selection,
    TargetsTable,
    Temperature,
    Tolerance,
    Unit,
    Weight,
)
from microcalibrate.cli.outputs import noting_open_ends, write_run
from microcalibrate.cli.reading import read_inputs


def evaluate(
    data: Data,
    out: Out,
    weight: Weight = None,
    targets: TargetsTable = None,
    id_column: IdCheck = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    l0_lambda: L0Lambda = None,
    records: Records = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Folds of targets. [5, or as many as there are groups]"),
    ] = None,
    groups: Groups = "correlation",
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="Draws with different seeds. [3 where records are chosen]"),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0, help="Repetitions with records reweighted at random; each is a whole solve."
        ),
    ] = 0,
    untargeted: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column whose total is followed but not targeted; can be repeated. Of several "
            "tables: one of the unit, or ENTITY.COLUMN. For a folder with a matrix: an NPZ file "
            "with another, a column per variable.",
        ),
    ] = None,
    random: Annotated[
        bool, typer.Option(help="Compare with simple random samples of as many records.")
    ] = True,
    max_ratio: MaxRatio = None,
    min_ratio: MinRatio = None,
    max_weight: MaxWeight = None,
    min_weight: MinWeight = None,
    frozen: Frozen = None,
    tolerance: Tolerance = None,
    loss: LossName = None,
    distance: DistanceName = None,
    heteroscedasticity: Heteroscedasticity = None,
    cluster: Cluster = None,
    closeness: Closeness = None,
    refit_closeness: RefitCloseness = None,
    kappa: Kappa = None,
    selection: Selection = None,
    temperature: Temperature = None,
    device: Device = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of folds, draws and repetitions. [0]")
    ] = None,
    max_iter: MaxIter = 1000,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Measure how well targets are met that a calibration did not see, and how stable it is."""
    options = given(
        l0_lambda=l0_lambda,
        target_records=records,
        n_folds=folds,
        n_draws=draws,
        max_weight_ratio=max_ratio,
        min_weight_ratio=min_ratio,
        max_weight=max_weight,
        min_weight=min_weight,
        loss=loss,
        distance=distance,
        closeness=closeness,
        refit_closeness=refit_closeness,
        kappa=kappa,
        selection=selection,
        temperature=temperature,
        device=device,
        seed=seed,
    )
    if not check_choice(l0_lambda, records, options) and not random:
        raise typer.BadParameter(
            "--no-random acts only when records are chosen: add --records or --l0-lambda."
        )
    followed = list(dict.fromkeys(untargeted or ()))
    source = Source(data, weight, targets, id_column, unit, tuple(table or ()), tuple(link or ()))
    files = [Path(name) for name in followed] if source.is_problem else []
    check_out(out, report, (*source.paths, *files))
    per_record = given(frozen=frozen, heteroscedasticity=heteroscedasticity, cluster=cluster)
    inputs = read_inputs(source, tolerance, followed, per_record)
    grouping = inputs.grouping(groups)
    from microcalibrate.evaluation import evaluate_robustness

    with noting_open_ends() as open_ends:
        result = evaluate_robustness(
            **inputs.problem,
            **grouping,
            quotients=inputs.quotients,
            n_bootstrap=bootstrap,
            untargeted=inputs.untargeted,
            compare_with_random=random,
            max_iter=max_iter,
            progress=False if quiet else None,
            **inputs.per_record,
            **options,
        )
    write_run(result, out, with_report=report)
    if not quiet:
        say("\n".join([*inputs.notes, result.summary()]))
        say(f"\nwritten to {out}")
    if open_ends:
        end_without_certificate(open_ends[0], out)
