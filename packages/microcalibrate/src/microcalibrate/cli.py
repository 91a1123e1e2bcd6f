"""The command line: `microcalibrate demo`, `calibrate` and `report`.

Exit codes: 0 done; 1 failure; 2 bad usage; 130 cancelled by Ctrl-C. Whatever a command writes
appears whole or not at all.
"""

from __future__ import annotations

import textwrap
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from microcalibrate.errors import CalibrationError, InvalidOption, MissingExtra

if TYPE_CHECKING:
    from microcalibrate.calibration import Calibration
    from microcalibrate.result import CalibrationResult

FAILURE, BAD_USAGE, CANCELLED = 1, 2, 130
REPORT_NAME = "report.html"
PHASES = {"dense": "solve with all records", "draw": "draw", "refit": "refit"}


class _Commands(TyperGroup):
    """Commands whose failures end in a message and an exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CalibrationError as error:
            _complain(f"Error: {error}")
            raise typer.Exit(BAD_USAGE if isinstance(error, InvalidOption) else FAILURE) from error
        except KeyboardInterrupt as interrupt:
            _complain("Cancelled; nothing was written.")
            raise typer.Exit(CANCELLED) from interrupt


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Calibrate survey weights to population targets, on the few records that matter.",
)


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"microcalibrate {version('microcalibrate')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for both runs.")] = Path("calibration-demo"),
    records: Annotated[int, typer.Option(min=1, help="Records to keep in the second run.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    report: Annotated[bool, typer.Option(help="Write report.html into each run.")] = True,
) -> None:
    """Calibrate real data: 25,000 tax units to 284 published totals of the United States."""
    from microcalibrate.atomic import check_run_folder
    from microcalibrate.calibration import Calibration

    if report:
        _check_plotly("report.html", "or add --no-report")
    if out.is_dir():
        for run in (out / "dense", out / f"records-{records}"):
            check_run_folder(run)
    else:
        check_run_folder(out)
    from microcalibrate.datasets import load_cps, load_us_targets

    begun = time.perf_counter()
    data, targets = load_cps(), load_us_targets()
    options: dict[str, Any] = {"record_ids": data["record_id"], "seed": seed}
    seconds = {"load the data": time.perf_counter() - begun}
    results = {}
    for name, label, budget in (
        ("dense", "dense", None),
        (f"records-{records}", f"{records:,} records", records),
    ):
        begun = time.perf_counter()
        calibration = Calibration.from_table(data, targets, target_records=budget, **options)
        seconds[f"{label}: build the matrix"] = time.perf_counter() - begun
        results[name, label] = result = _solve(calibration, max_iter=1000, quiet=False)
        for phase, took in result.seconds.items():
            if phase != "total":
                seconds[f"{label}: {PHASES[phase]}"] = took
        if result.status.name == "CANCELLED":
            raise KeyboardInterrupt
    begun = time.perf_counter()
    out.mkdir(exist_ok=True)
    for (name, _), result in results.items():
        _write(result, out / name, with_report=report)
    seconds["write the files"] = time.perf_counter() - begun

    first = next(iter(results.values()))
    typer.echo(f"{len(data):,} tax units, {len(targets):,} published totals of the United States\n")
    before = {"before": first.statistics["before"]}
    typer.echo(_comparison(before | {k[1]: r.statistics["after"] for k, r in results.items()}))
    typer.echo("\nwhere the time went")
    for step, took in (seconds | {"total": sum(seconds.values())}).items():
        typer.echo(f"  {step:44}{took:8.2f} s")
    typer.echo("\nwritten to")
    for name, _ in results:
        typer.echo(f"  {out / name / REPORT_NAME if report else out / name}")


@app.command()
def calibrate(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Records: a CSV, Parquet or Feather table; or a folder with matrix.npz, "
            "targets.csv (name, target) and weights.npz.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the run; an earlier run is replaced.")],
    weight: Annotated[
        str | None, typer.Option(help="Column with the design weights, for a table.")
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(help="Table of declared targets, for a table.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="Column that names the records.")
    ] = None,
    l0_lambda: Annotated[
        float | None, typer.Option(help="Price of records: higher keeps fewer, 0 keeps all.")
    ] = None,
    records: Annotated[
        int | None, typer.Option(help="Exact number of records to keep, instead of a price.")
    ] = None,
    max_ratio: Annotated[
        float | None, typer.Option(help="Greatest calibrated over design weight. [none]")
    ] = None,
    min_ratio: Annotated[
        float | None,
        typer.Option(help="Least calibrated over design weight; -inf allows negative ones. [0]"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="For targets without one of their own: fraction by which they may be missed, "
            "0 is exact. [soft: as well as can be]"
        ),
    ] = None,
    distance: Annotated[
        str | None, typer.Option(metavar="chi2|raking", help="Distance to keep small. [chi2]")
    ] = None,
    closeness: Annotated[
        float | None,
        typer.Option(help="Price of distance: lower fits better, higher is more even. [1e-4]"),
    ] = None,
    kappa: Annotated[
        float | None,
        typer.Option(help="Price of concentrated weights when records are chosen. [1]"),
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(
            metavar="closed_form|top_k|random|sampled_gates",
            help="How records are chosen. [closed_form]",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draw. [0]")] = None,
    max_iter: Annotated[int, typer.Option(min=1, help="Most steps of each solve.")] = 1000,
    report: Annotated[bool, typer.Option(help="Write report.html into the run.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but problems.")] = False,
) -> None:
    """Calibrate the weights of your records, and write a folder with weights and report."""
    from microcalibrate.atomic import check_run_folder

    if records is not None and l0_lambda:
        raise typer.BadParameter("give --l0-lambda (a price) or --records (a count), not both.")
    options = {
        "l0_lambda": l0_lambda,
        "target_records": records,
        "max_weight_ratio": max_ratio,
        "min_weight_ratio": min_ratio,
        "distance": distance,
        "closeness": closeness,
        "kappa": kappa,
        "selection": selection,
        "seed": seed,
    }
    options = {name: value for name, value in options.items() if value is not None}
    idle = [f"--{name}" for name in ("kappa", "selection") if name in options]
    if idle and records is None and not l0_lambda:
        raise typer.BadParameter(
            f"{' and '.join(idle)} act only when records are chosen: add --records or --l0-lambda."
        )
    if report:
        _check_plotly("report.html", "or add --no-report")
    check_run_folder(out)
    for source in (data, targets):
        if source is not None and source.resolve().is_relative_to(out.resolve()):
            raise typer.BadParameter(f"{source} lies in --out {out}, which is replaced as a whole.")
    if data.is_dir():
        calibration = _from_folder(data, weight, targets, id_column, tolerance, options)
    else:
        calibration = _from_table(data, weight, targets, id_column, tolerance, options)
    result = _solve(calibration, max_iter, quiet)
    _write(result, out, with_report=report)
    if not quiet:
        typer.echo(result.summary())
        typer.echo(f"\nwritten to {out}")
    elif not result.converged:
        _complain(f"{result.status.name}: {result.status.value}")
    if result.status.name == "CANCELLED":
        _complain(f"Cancelled: the best weights so far were written to {out}.")
        raise typer.Exit(CANCELLED)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a saved run.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write. [report.html in the run]")
    ] = None,
) -> None:
    """Write the report of a saved run anew."""
    _check_plotly("the report")
    from microcalibrate.reports.calibration import write_report
    from microcalibrate.result import CalibrationResult

    typer.echo(write_report(CalibrationResult.load(run), out or run / REPORT_NAME))


# --- Steps of the commands ------------------------------------------------------------------------


def _from_table(
    data: Path,
    weight: str | None,
    targets: Path | None,
    id_column: str | None,
    tolerance: float | None,
    options: dict[str, Any],
) -> Calibration:
    if weight is None or targets is None:
        raise typer.BadParameter(
            f"{data} needs --weight (the column with the design weights) and --targets (a table "
            "of targets). Only a folder with matrix.npz brings its own."
        )
    from microcalibrate.calibration import Calibration
    from microcalibrate.errors import InvalidProblem
    from microcalibrate.io import read_table

    declared, table = read_table(targets), read_table(data)
    if tolerance is not None:
        own = declared["tolerance"] if "tolerance" in declared.columns else None
        declared["tolerance"] = tolerance if own is None else own.fillna(tolerance)
    if id_column is not None:
        if id_column not in table.columns:
            raise InvalidProblem(f"{data} has no column {id_column!r} to name the records with.")
        names = table[id_column]
        if names.isna().any() or names.duplicated().any():
            raise InvalidProblem(
                f"column {id_column!r} of {data} does not name every record differently. Choose "
                "another column, or leave --id out to number the records from 0."
            )
        options["record_ids"] = names
    return Calibration.from_table(table, declared, weight, **options)


def _from_folder(
    data: Path,
    weight: str | None,
    targets: Path | None,
    id_column: str | None,
    tolerance: float | None,
    options: dict[str, Any],
) -> Calibration:
    for name, value in (("--weight", weight), ("--targets", targets), ("--id", id_column)):
        if value is not None:
            raise typer.BadParameter(
                f"{name} is for tables, and {data} is a folder that brings weights.npz and "
                "targets.csv. Leave it out."
            )
    import numpy as np

    from microcalibrate.calibration import Calibration
    from microcalibrate.io import read_problem

    stored = read_problem(data)
    families: list[Any] = [family or None for family in stored.families]
    tolerances = stored.tolerances
    if tolerance is not None:
        tolerances = np.where(np.isnan(tolerances), tolerance, tolerances)
    return Calibration(
        stored.weights,
        stored.targets,
        stored.estimate_matrix,
        target_names=stored.target_names,
        families=families,
        tolerances=tolerances,
        **options,
    )


def _solve(calibration: Calibration, max_iter: int, quiet: bool) -> CalibrationResult:
    from microcalibrate.calibration import NotConvergedWarning

    with warnings.catch_warnings():
        # The summary says the same in its place.
        warnings.simplefilter("ignore", NotConvergedWarning)
        calibration.calibrate(max_iter, progress=False if quiet else None)
    return calibration.result


def _write(result: CalibrationResult, folder: Path, with_report: bool) -> None:
    from microcalibrate.atomic import run_folder

    with run_folder(folder) as unfinished:
        result.write_into(unfinished)
        if with_report:
            result.report(unfinished / REPORT_NAME)


def _check_plotly(what: str, otherwise: str = "") -> None:
    """Say before the work, not after it, that no report can be drawn."""
    from importlib.util import find_spec

    if find_spec("plotly") is None:
        raise MissingExtra(
            f"{what} needs Plotly. Install it with: pip install 'microcalibrate[viz]'"
            + (f", {otherwise}" if otherwise else "")
        )


def _comparison(columns: dict[str, dict[str, float]]) -> str:
    """Statistics side by side, one column per run."""
    from microcalibrate.result import STATISTICS

    lines = [f"{'':46}" + "".join(f"{name:>16}" for name in columns)]
    for key, label, pattern in STATISTICS:
        cells = (pattern.format(values[key]) for values in columns.values())
        lines.append(f"{label:46}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _complain(text: str) -> None:
    """One tidy paragraph on stderr."""
    from microcalibrate.figures.plotting import readable

    words = readable(" ".join(text.split()))
    typer.echo(textwrap.fill(words, 96, break_long_words=False, break_on_hyphens=False), err=True)
