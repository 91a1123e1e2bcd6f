"""`microcalibrate tune`: how sparse is safe, found on targets that were held out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from microcalibrate.cli.app import CANCELLED, complain, end_without_certificate, say
from microcalibrate.cli.flags import as_arguments, in_flags
from microcalibrate.cli.inputs import check_out, given
from microcalibrate.cli.linked import Source
from microcalibrate.cli.options import (
    ClosenessValues,
    Cluster,
    Data,
    Device,
    DistanceName,
    EntityTables,
    Groups,
    Heteroscedasticity,
    IdCheck,
    Kappa,
    Links,
    LossName,
    MaxIter,
    MaxRatios,
    MaxWeight,
    MinRatio,
    MinWeight,
    Out,
    Quiet,
    RefitCloseness,
    Report,
    Selections,
    TargetsTable,
    Temperature,
    Tolerance,
    Unit,
    Weight,
)
from microcalibrate.cli.outputs import noting_open_ends, write_run
from microcalibrate.cli.reading import read_inputs


def tune(
    data: Data,
    out: Out,
    weight: Weight = None,
    targets: TargetsTable = None,
    id_column: IdCheck = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    lambda_min: Annotated[float, typer.Option(help="Lowest price of records to try.")] = 1e-4,
    lambda_max: Annotated[float, typer.Option(help="Highest price of records to try.")] = 1e-1,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, resumed ones included.")] = 50,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Folds of targets. [5, or as many as there are groups]"),
    ] = None,
    groups: Groups = "correlation",
    kappa: Kappa = None,
    kappa_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Search for this price too, between two bounds."),
    ] = None,
    closeness: ClosenessValues = None,
    refit_closeness: RefitCloseness = None,
    max_ratio: MaxRatios = None,
    min_ratio: MinRatio = None,
    max_weight: MaxWeight = None,
    min_weight: MinWeight = None,
    tolerance: Tolerance = None,
    loss: LossName = None,
    distance: DistanceName = None,
    heteroscedasticity: Heteroscedasticity = None,
    cluster: Cluster = None,
    selection: Selections = None,
    temperature: Temperature = None,
    device: Device = None,
    objective: Annotated[
        str,
        typer.Option(
            metavar="balanced|pareto",
            help="One score of error, share within 10% and records; or the front of error against "
            "records.",
        ),
    ] = "balanced",
    score_weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=NUMBER,…",
            help="Prices of held_out_error, beyond_10_percent and records in the balanced score. "
            "[1, 0.1 and 0.1]",
        ),
    ] = None,
    aggregate: Annotated[
        str, typer.Option(metavar="mean|median|worst", help="How folds are put together.")
    ] = "mean",
    one_standard_error: Annotated[
        bool,
        typer.Option(
            "--one-standard-error",
            help="Choose the fewest records within one standard error of the best.",
        ),
    ] = False,
    sampler: Annotated[
        str, typer.Option(metavar="tpe|nsga2|random", help="How the next trial is chosen.")
    ] = "tpe",
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL|FILE",
            help="Database, or journal file (.log), that keeps the trials: the same command "
            "resumes them, and several machines share them.",
        ),
    ] = None,
    study_name: Annotated[
        str | None, typer.Option(help="Name of the study in --storage. [microcalibrate]")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Start no trial after this time.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="Draws with different seeds in each fold of a trial.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds, trials and draws.")] = 0,
    max_iter: MaxIter = 1000,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Search for the price of records that does best on targets that were held out."""
    if kappa is not None and kappa_range is not None:
        raise typer.BadParameter("give --kappa (a price) or --kappa-range (a search), not both.")
    if study_name is not None and storage is None:
        raise typer.BadParameter("--study-name acts only with --storage: add it.")
    if score_weights is not None and objective != "balanced":
        raise typer.BadParameter("--score-weights act only with --objective balanced.")
    place = None if storage is None else _place(storage)
    source = Source(data, weight, targets, id_column, unit, tuple(table or ()), tuple(link or ()))
    file = place if isinstance(place, Path) else _file_of(storage)
    check_out(out, report, (*source.paths, file))
    per_record = given(heteroscedasticity=heteroscedasticity, cluster=cluster)
    inputs = read_inputs(source, tolerance, per_record=per_record)
    grouping = inputs.grouping(groups)
    fixed = given(
        min_weight_ratio=min_ratio,
        max_weight=max_weight,
        min_weight=min_weight,
        loss=loss,
        distance=distance,
        refit_closeness=refit_closeness,
    )
    of_gates = given(temperature=temperature, device=device)
    searched = given(
        kappa=kappa if kappa_range is None else kappa_range,
        closeness=_one_or_all(closeness),
        max_weight_ratio=_one_or_all(max_ratio),
        selection=_one_or_all(selection),
    )
    from microcalibrate.hyperparameter_tuning import tune_hyperparameters

    with noting_open_ends() as open_ends:
        best_lambda, result = tune_hyperparameters(
            **inputs.problem,
            **grouping,
            lambda_min=lambda_min,
            lambda_max=lambda_max,
            n_trials=trials,
            objective=objective,
            aggregate=aggregate,
            one_standard_error=one_standard_error,
            sampler=sampler,
            n_jobs=jobs,
            n_draws=draws,
            seed=seed,
            max_iter=max_iter,
            progress=False if quiet else None,
            **given(
                n_folds=folds,
                score_weights=None if score_weights is None else _weights(score_weights),
                storage=place,
                study_name=study_name,
                timeout=timeout,
            ),
            **inputs.per_record,
            **searched,
            **fixed,
            **of_gates,
        )
    write_run(result, out, with_report=report)
    if not quiet:
        # It names what to change next by the arguments of the library.
        say("\n".join([*inputs.notes, in_flags(result.summary())]))
        say("\nto calibrate with the best trial:")
        chosen = {name: value for name, value in searched.items() if _is_fixed(value)}
        options = chosen | fixed | per_record | dict(result.best_params)
        options |= {"l0_lambda": float(best_lambda)}
        if options.get("selection") == "sampled_gates":
            options |= of_gates
        words = ["--tolerance", str(tolerance)] if tolerance is not None else []
        words += [*as_arguments(options), *as_arguments({"seed": seed or None})]
        words = ["--out", str(out.with_name(f"{out.name}-best")), *words]
        say(f"  {shlex.join(['microcalibrate', 'calibrate', *source.words(), *words])}")
        say(f"\nwritten to {out}")
    if result.status == "cancelled":
        complain(
            f"Cancelled: the trials that were finished were written to {out}."
            + (" The same command resumes them." if storage is not None else "")
        )
        raise typer.Exit(CANCELLED)
    if open_ends:
        end_without_certificate(open_ends[0], out)


# --- Options as the library takes them ------------------------------------------------------------


def _place(storage: str) -> str | Path:
    """A database by its URL, or a file."""
    return storage if "://" in storage else Path(storage)


def _file_of(storage: str | None) -> Path | None:
    """The file of an SQLite database, None for what is on a server."""
    name, slashes, path = (storage or "").partition(":///")
    return Path(path.partition("?")[0]) if slashes and name.startswith("sqlite") and path else None


def _one_or_all(values: Sequence[Any] | None) -> Any:
    """One value is fixed, several are searched."""
    if not values:
        return None
    return values[0] if len(values) == 1 else list(dict.fromkeys(values))


def _is_fixed(value: object) -> bool:
    return not isinstance(value, (list, tuple))


def _weights(text: str) -> dict[str, float]:
    """Numbers by name, as in `held_out_error=1,records=0.2`."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (name and equals and math.isfinite(value)) or name in weights:
            raise typer.BadParameter(
                f"--score-weights {text!r}: {part!r} is not a name that stands there once, an = "
                "and a number. Write for example held_out_error=1,records=0.2."
            )
        weights[name] = value
    return weights
