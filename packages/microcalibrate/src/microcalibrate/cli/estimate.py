"""`microcalibrate estimate`: estimates of a run, with standard errors."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microcalibrate.cli.app import complain, say
from microcalibrate.cli.flags import in_flags
from microcalibrate.cli.linked import Source, linked_arguments
from microcalibrate.cli.options import EntityTables, Links, Quiet, Unit

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.calibration import Calibration
    from microcalibrate.inference import Estimand, ReplicateWeights, SurveyDesign

METHODS = ("jackknife", "bootstrap", "brr", "fay")
# Column of a table of targets with their standard errors.
STANDARD_ERROR = "standard_error"


def estimate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a calibration.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="The table that was calibrated: the same records; or a folder of linked tables.",
        ),
    ],
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Table of targets that the run was calibrated to, or folder with its matrix.npz. "
            "Without it weights are taken as given, and their making is not in the errors."
        ),
    ] = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    entity: Annotated[
        str | None,
        typer.Option(metavar="ENTITY", help="Of linked tables, whose columns are meant. [unit]"),
    ] = None,
    total: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Population total; again for more.")
    ] = None,
    mean: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Mean, or share of a yes/no column.")
    ] = None,
    ratio: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN/COLUMN", help="One total over another.")
    ] = None,
    quantile: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN:SHARE", help="Quantile, as income:0.5.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Size of the population.")] = False,
    where: Annotated[
        str | None, typer.Option(help='Only records that meet a condition: "age >= 65".')
    ] = None,
    minus: Annotated[
        str | None,
        typer.Option(metavar="CONDITION", help="Less the same of records that meet this one."),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Domains; again for combinations.")
    ] = None,
    strata: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Strata; again for later stages.")
    ] = None,
    psu: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Primary sampling units; again for later stages."),
    ] = None,
    fpc: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Units in the stratum's population, or sampling fractions."
        ),
    ] = None,
    nest: Annotated[
        bool, typer.Option("--nest", help="Labels of units are unique within strata only.")
    ] = False,
    lonely_psu: Annotated[
        str,
        typer.Option(
            metavar="fail|certainty|adjust|average", help="A stratum with one sampled unit."
        ),
    ] = "fail",
    replicates: Annotated[
        str | None,
        typer.Option(
            metavar="jackknife|bootstrap|brr|fay|COLUMNS",
            help='Replicates, each calibrated anew; or columns of the data, as "PWGTP*".',
        ),
    ] = None,
    replicate_type: Annotated[
        str | None,
        typer.Option(
            metavar="JK1|bootstrap|BRR|Fay|SDR", help="What the columns of replicates are."
        ),
    ] = None,
    n_replicates: Annotated[int | None, typer.Option(min=2, help="Of the bootstrap. [200]")] = None,
    rho: Annotated[float | None, typer.Option(help="Fay's factor. [0.5 for fay]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the bootstrap. [0]")] = None,
    on_failure: Annotated[
        str | None,
        typer.Option(
            metavar="raise|drop", help="Hard targets that cannot hold in a replicate. [raise]"
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Threads for replicates.")] = 1,
    parts: Annotated[
        Path | None,
        typer.Option(help="Folder for finished replicates, to go on with a cancelled run."),
    ] = None,
    target_errors: Annotated[
        bool,
        typer.Option(
            "--target-errors",
            help="Propagate the targets' own errors: column standard_error of --targets.",
        ),
    ] = False,
    level: Annotated[float, typer.Option(help="Of the confidence intervals.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(help="Write the table: .csv, .parquet or .feather.")
    ] = None,
    replicates_out: Annotated[
        Path | None, typer.Option(help="Write the replicate weights as a wide table.")
    ] = None,
    residuals: Annotated[
        Path | None,
        typer.Option(
            help="Write each record's weight times linearised residual, a column per estimate."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Estimate totals, means, ratios and quantiles of a run, with standard errors."""
    asked = _asked(total, mean, ratio, quantile, count, where, entity)
    if minus is not None and quantile:
        raise typer.BadParameter("--minus: a quantile has no derivative, so no linearised error.")
    _check(replicates, replicate_type, n_replicates, rho, seed, on_failure, parts, replicates_out)
    if residuals is not None and replicates is not None:
        raise typer.BadParameter("--residuals are linearised: leave --replicates out.")
    from microcalibrate import inference
    from microcalibrate.result import CalibrationResult

    if minus is not None:
        less = _asked(total, mean, ratio, quantile, count, minus, entity)
        asked = [inference.difference(*both) for both in zip(asked, less, strict=True)]
    source = Source(
        data, targets=targets, unit=unit, tables=tuple(table or ()), links=tuple(link or ())
    )
    read, own = _read(source)
    declared = _declared(targets)
    if targets is None and (replicates or target_errors):
        raise typer.BadParameter(
            "--replicates and --target-errors calibrate again: add --targets, the table that the "
            "run was calibrated to."
        )
    design = inference.SurveyDesign(
        strata=_stages(strata), psu=_stages(psu), fpc=_stages(fpc), nest=nest, lonely_psu=lonely_psu
    )
    weights: Any
    if targets is None:
        weights = CalibrationResult.load(run).weights
    else:
        from microcalibrate.inference.saved_runs import calibration_of_run

        progress = False if quiet else None
        weights = calibration_of_run(run, read, declared, progress=progress)
    made = None
    if replicates is not None:
        drawn = _drawn(replicates, design, own, weights, replicate_type, n_replicates, rho, seed)
        made = inference.replicate_weights(
            weights,
            drawn,
            on_failure=on_failure or "raise",
            n_jobs=jobs,
            folder=parts,
            progress=False if quiet else None,
        )
    is_designed = bool(strata or psu or fpc)
    with warnings.catch_warnings():
        # They stand below the table, as notes.
        warnings.simplefilter("ignore", inference.DesignVarianceWarning)
        found = inference.estimate(
            weights,
            asked,
            read,
            design=design if is_designed and made is None else None,
            replicates=made,
            by=by or None,
            target_errors=_standard_errors(declared, targets) if target_errors else None,
            level=level,
        )
    found = replace(found, cautions=tuple(in_flags(one) for one in found.cautions))
    _write(found, made, out, replicates_out)
    if residuals is not None:
        from microcalibrate.io import write_table

        made_of = inference.weighted_residuals(weights, asked, read, by=by or None)
        write_table(made_of, residuals, guard_formulas=residuals.name.endswith((".csv", ".gz")))
    if not quiet:
        say(found.summary())
        for path in (out, replicates_out, residuals):
            if path is not None:
                say(f"written to {path}")
    elif found.cautions:
        complain(" ".join(found.cautions))


def _asked(
    total: list[str] | None,
    mean: list[str] | None,
    ratio: list[str] | None,
    quantile: list[str] | None,
    count: bool,
    where: str | None,
    entity: str | None,
) -> list[Estimand]:
    from microcalibrate import inference

    of: dict[str, Any] = {"where": where, "entity": entity}
    asked = [inference.count(**of)] if count else []
    asked += [inference.total(name, **of) for name in total or []]
    asked += [inference.mean(name, **of) for name in mean or []]
    for pair in ratio or []:
        numerator, slash, denominator = pair.partition("/")
        if not (numerator and slash and denominator):
            raise typer.BadParameter(f"--ratio {pair}: give two columns, as tax/income.")
        asked.append(inference.ratio(numerator, denominator, **of))
    for given in quantile or []:
        name, _, share = given.rpartition(":")
        try:
            asked.append(inference.quantile(name, float(share), **of))
        except ValueError as error:
            raise typer.BadParameter(
                f"--quantile {given}: give a column and a share between 0 and 1, as income:0.5."
            ) from error
    if not asked:
        raise typer.BadParameter(
            "say what to estimate: --total, --mean, --ratio, --quantile or --count."
        )
    return asked


def _check(
    replicates: str | None,
    replicate_type: str | None,
    n_replicates: int | None,
    rho: float | None,
    seed: int | None,
    on_failure: str | None,
    parts: Path | None,
    replicates_out: Path | None,
) -> None:
    """Refuse options that would do nothing."""
    of_columns = replicates is not None and replicates not in METHODS
    if of_columns and "*" not in str(replicates):
        raise typer.BadParameter(
            f"--replicates {replicates} is not known. Use one of {', '.join(METHODS)}, or the "
            'columns of replicate weights with a * for their number, as "PWGTP*".'
        )
    needs = {
        "--replicate-type": (replicate_type, of_columns),
        "--n-replicates": (n_replicates, replicates == "bootstrap"),
        "--seed": (seed, replicates == "bootstrap"),
        "--rho": (rho, replicates == "fay" or replicate_type == "Fay"),
        "--on-failure": (on_failure, replicates is not None),
        "--parts": (parts, replicates is not None),
        "--replicates-out": (replicates_out, replicates is not None),
    }
    for flag, (value, acts) in needs.items():
        if value is not None and not acts:
            raise typer.BadParameter(f"{flag} does nothing here: see --replicates.")


def _read(source: Source) -> tuple[Any, pd.DataFrame]:
    """The data, and the table of the records that were calibrated."""
    if source.data.is_dir() or source.tables:
        from microcalibrate.linked_tables import frame_of

        given = linked_arguments(source)
        frame = frame_of(**{name: value for name, value in given.items() if name != "weight"})
        return frame, frame.tables[frame.unit]
    from microcalibrate.io import read_table

    source.refuse_links()
    table = read_table(source.data)
    return table, table


def _declared(targets: Path | None) -> Any:
    """The table of targets, or the matrix of a folder."""
    if targets is None:
        return None
    from microcalibrate.io import read_problem, read_table

    return read_problem(targets).estimate_matrix if targets.is_dir() else read_table(targets)


def _stages(columns: list[str] | None) -> Any:
    return None if not columns else columns[0] if len(columns) == 1 else tuple(columns)


def _drawn(
    replicates: str,
    design: SurveyDesign,
    table: pd.DataFrame,
    calibration: Calibration,
    replicate_type: str | None,
    n_replicates: int | None,
    rho: float | None,
    seed: int | None,
) -> Any:
    from microcalibrate.inference import ReplicateWeights, Replication

    if replicates == "jackknife":
        return Replication.jackknife(design, table)
    if replicates == "bootstrap":
        return Replication.bootstrap(
            design, table, n_replicates=n_replicates or 200, seed=seed or 0
        )
    if replicates in ("brr", "fay"):
        factor = 0.0 if replicates == "brr" else 0.5 if rho is None else rho
        return Replication.balanced(design, table, rho=factor)
    wide = table.assign(**{"design weight of the run": calibration.problem.design_weights})
    base = ReplicateWeights.load(
        wide,
        weight="design weight of the run",
        replicates=replicates,
        type=replicate_type,
        rho=rho or 0.0,
    )
    return Replication.of_weights(base)


def _standard_errors(declared: Any, targets: Path | None) -> dict[str, float]:
    if not hasattr(declared, "columns") or STANDARD_ERROR not in declared.columns:
        raise typer.BadParameter(
            f'--target-errors: {targets} has no column "{STANDARD_ERROR}", in the units of the '
            "targets."
        )
    errors = declared[STANDARD_ERROR].fillna(0.0)
    return dict(zip(declared["name"].astype(str), errors.astype(float), strict=True))


def _write(
    found: Any, made: ReplicateWeights | None, out: Path | None, replicates_out: Path | None
) -> None:
    if out is not None:
        found.save(out)
    if replicates_out is not None and made is not None:
        made.save(replicates_out)
