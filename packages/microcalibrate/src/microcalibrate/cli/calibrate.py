"""`microcalibrate calibrate`: weights of the user's own records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from microcalibrate.cli.app import CANCELLED, complain, end_without_certificate, say
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
    Heteroscedasticity,
    IdColumn,
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
    Partition,
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

if TYPE_CHECKING:
    from microcalibrate.calibration import Calibration
    from microcalibrate.result import CalibrationResult


def calibrate(
    data: Data,
    out: Out,
    weight: Weight = None,
    targets: TargetsTable = None,
    id_column: IdColumn = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    l0_lambda: L0Lambda = None,
    records: Records = None,
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
    partition: Partition = None,
    closeness: Closeness = None,
    refit_closeness: RefitCloseness = None,
    kappa: Kappa = None,
    selection: Selection = None,
    temperature: Temperature = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draw. [0]")] = None,
    max_iter: MaxIter = 1000,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Calibrate the weights of your records, and write a folder with weights and report."""
    options = given(
        l0_lambda=l0_lambda,
        target_records=records,
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
    check_choice(l0_lambda, records, options)
    source = Source(data, weight, targets, id_column, unit, tuple(table or ()), tuple(link or ()))
    check_out(out, report, source.paths)
    per_record = given(
        frozen=frozen, heteroscedasticity=heteroscedasticity, cluster=cluster, partition=partition
    )
    inputs = read_inputs(source, tolerance, per_record=per_record, differences=True)
    from microcalibrate.calibration import Calibration

    calibration = Calibration(
        **inputs.problem,
        families=inputs.families,
        record_ids=inputs.record_ids,
        differences=inputs.differences,
        quotients=inputs.quotients,
        **inputs.per_record,
        **options,
    )
    result = solve(calibration, max_iter, quiet)
    write_run(result, out, with_report=report)
    if not quiet:
        say("\n".join([*inputs.notes, result.summary()]))
        say(f"\nwritten to {out}")
    if result.status.name == "CANCELLED":
        complain(f"Cancelled: the best weights so far were written to {out}.")
        raise typer.Exit(CANCELLED)
    if not result.converged:
        end_without_certificate(f"{result.status.name}. {result.status.value}", out)


def solve(calibration: Calibration, max_iter: int, quiet: bool) -> CalibrationResult:
    """Run a calibration; how it ended is for the caller to tell."""
    with noting_open_ends():
        calibration.calibrate(max_iter, progress=False if quiet else None)
    return calibration.result
