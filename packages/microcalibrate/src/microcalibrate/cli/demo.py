"""`microcalibrate demo`: real data, calibrated on all records and on a few."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from microcalibrate.cli.app import REPORT_NAME, check_plotly, end_without_certificate
from microcalibrate.cli.calibrate import solve
from microcalibrate.cli.outputs import write_run

PHASES = {"dense": "solve with all records", "draw": "draw", "refit": "refit"}


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the runs. [calibration-demo, or regularisation-demo]"),
    ] = None,
    records: Annotated[
        int | None, typer.Option(min=1, help="Records to keep in the second run. [2000]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    report: Annotated[bool, typer.Option(help="Write report.html into each run.")] = True,
    regularise: Annotated[
        bool,
        typer.Option(
            "--regularise",
            help="Instead, find the households that carry too much, and spread them: about two "
            "minutes.",
        ),
    ] = False,
) -> None:
    """Calibrate real data: 25,000 tax units to 284 published totals of the United States."""
    if regularise:
        if records is not None:
            raise typer.BadParameter("--records is for the demo without --regularise.")
        from microcalibrate.cli.demo_regularise import demo_regularise

        demo_regularise(out or Path("regularisation-demo"), seed, report)
        return
    out = Path("calibration-demo") if out is None else out
    records = 2000 if records is None else records
    from microcalibrate.atomic import check_run_folder
    from microcalibrate.calibration import Calibration

    if report:
        check_plotly(REPORT_NAME, "or add --no-report")
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
        results[name, label] = result = solve(calibration, max_iter=1000, quiet=False)
        for phase, took in result.seconds.items():
            if phase != "total":
                seconds[f"{label}: {PHASES[phase]}"] = took
        if result.status.name == "CANCELLED":
            raise KeyboardInterrupt
    begun = time.perf_counter()
    out.mkdir(exist_ok=True)
    for (name, _), result in results.items():
        write_run(result, out / name, with_report=report)
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
    for (_, label), result in results.items():
        if not result.converged:
            end_without_certificate(f"{label}: {result.status.value}", out)


def _comparison(columns: dict[str, dict[str, float]]) -> str:
    """Statistics side by side, one column per run."""
    from microcalibrate.result import STATISTICS

    lines = [f"{'':46}" + "".join(f"{name:>16}" for name in columns)]
    for key, label, pattern in STATISTICS:
        cells = (pattern.format(values[key]) for values in columns.values())
        lines.append(f"{label:46}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
