"""`microcalibrate regularise`: spread records that carry too much over generated ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from microcalibrate.cli.app import CANCELLED, REPORT_NAME, ROLLED_BACK, complain, say
from microcalibrate.cli.inputs import check_out, check_reforms, given
from microcalibrate.cli.options import (
    FlagDominating,
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
from microcalibrate.progress import WRITING, tell

if TYPE_CHECKING:
    from microcalibrate.regularise.result import RegulariseResult


def regularise(
    data: Tables,
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="Model that `train` wrote.")],
    targets: Annotated[
        Path,
        typer.Option(
            help="Table of declared targets; its column `entity` says whose rows each is of. "
            "[blank: the unit]"
        ),
    ],
    out: Out,
    schema: SchemaFile = None,
    surface: SurfaceGiven = None,
    reforms: Reforms = None,
    random_reforms: RandomReforms = None,
    n_reforms: NReforms = None,
    threshold: Threshold = 0.05,
    reform_fraction: ReformFraction = 0.2,
    flag_dominating: FlagDominating = True,
    on_error: Annotated[
        str | None,
        typer.Option(
            metavar="raise|record",
            help="What a reform that fails does: stop everything, or be listed. [raise]",
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="replace|retain",
            help="Whether offspring take the place of their source, or it stays among them.",
        ),
    ] = "replace",
    structure: Annotated[
        str,
        typer.Option(
            metavar="donor|sampled",
            help="Whether who lives in a generated unit is taken from a real one, or drawn.",
        ),
    ] = "donor",
    batch: Annotated[int, typer.Option(min=1, help="Flagged units in a round.")] = 20,
    max_rounds: Annotated[int | None, typer.Option(min=0, help="Most rounds. [20]")] = None,
    share_target: Annotated[
        float | None,
        typer.Option(help="Share of a statistic that offspring shall keep below. [half of it]"),
    ] = None,
    weight_target: Annotated[
        float | None,
        typer.Option(help="Weight that offspring shall keep below. [99th percentile]"),
    ] = None,
    max_offspring: Annotated[int, typer.Option(min=2, help="Most offspring of a unit.")] = 50,
    max_added: Annotated[
        int | None, typer.Option(min=1, help="Most units to add in all. [no limit]")
    ] = None,
    geography: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the unit that offspring always share with their source; may be given "
            "several times. [external columns and what they follow from]",
        ),
    ] = None,
    borrow: Annotated[
        bool,
        typer.Option(
            "--borrow/--no-borrow",
            help="Where the model has nothing alike in the same place, draw without regard to the "
            "place and put it there.",
        ),
    ] = True,
    prior: Annotated[
        str,
        typer.Option(
            metavar="base|weights",
            help="Weights to stay close to: those of the design, or those in use.",
        ),
    ] = "base",
    entropy_lambda: Annotated[
        float, typer.Option(help="Price of distance from the prior: higher is more even.")
    ] = 1e-4,
    cap: Annotated[float | None, typer.Option(help="Greatest weight. [none]")] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=0, help="Folds of targets that are held out; 0 for none. [5, or fewer groups]"
        ),
    ] = None,
    stability_seeds: Annotated[
        int,
        typer.Option(min=0, help="Spread anew with so many seeds, and report how much differs."),
    ] = 0,
    time_budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Begin no round after so long. [none]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    allow_poor_model: Annotated[
        bool, typer.Option("--allow-poor-model", help="Take a model that failed its gates.")
    ] = False,
    other_versions: Annotated[
        bool,
        typer.Option("--other-versions", help="Take a model that other versions were used for."),
    ] = False,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Spread records that carry too much over generated ones, and calibrate anew.

    Each round is kept only where it helps and the targets hold. Generated records are marked in
    every table: they are no respondents.
    """
    check_reforms(reforms, random_reforms, {"--n-reforms": n_reforms, "--on-error": on_error})
    check_out(out, report, (data, schema, model, targets))
    from microcalibrate.cli.surveys import read_reforms, read_surface, read_survey, table_format
    from microcalibrate.io import read_table
    from microcalibrate.regularise.loop import regularise as spread
    from microcalibrate.regularise.trained import TrainedModel

    trained = TrainedModel.load(model, other_versions=other_versions)
    check_model(trained, model, allow_poor_model)
    survey = read_survey(data, schema)
    trained.check_schema(survey)
    result = spread(
        survey,
        trained,
        read_table(targets),
        allow_poor_model=allow_poor_model,
        surface=read_surface(surface),
        reforms=read_reforms(reforms, random_reforms, survey),
        n_reforms=n_reforms,
        threshold=threshold,
        reform_fraction=reform_fraction,
        flag_dominating=flag_dominating,
        on_error=on_error or "raise",
        mode=mode,
        structure=structure,
        batch=batch,
        max_offspring=max_offspring,
        borrow=borrow,
        prior=prior,
        entropy_lambda=entropy_lambda,
        n_stability_seeds=stability_seeds,
        seed=seed,
        progress=False if quiet else None,
        **given(
            max_rounds=max_rounds,
            n_folds=folds,
            share_target=share_target,
            weight_target=weight_target,
            max_added=max_added,
            geography=geography,
            cap=cap,
            time_budget=time_budget,
        ),
    )
    write_regularised(result, out, table_format(data), report)
    if not quiet:
        say(result.summary())
        say(f"\nwritten to {out}; the tables are in {out / 'tables'}")
    end(result, out)


def check_model(trained: Any, folder: Path, is_allowed: bool) -> None:
    """Refuse a model that failed its gates, unless that is allowed.

    Raises:
        InvalidOption: If it failed and is not allowed.
    """
    if trained.passed or is_allowed:
        return
    from microcalibrate.errors import InvalidOption

    failures = trained.quality.failures
    listed = [failure.rstrip(".") for failure in failures[:3]]
    more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
    raise InvalidOption(
        f"the model in {folder} failed its gates: {'; '.join(listed)}{more}. Train a better one, "
        "or add --allow-poor-model."
    )


def write_regularised(
    result: RegulariseResult, folder: Path, table_format: Literal["csv", "parquet"], report: bool
) -> None:
    """Write a regularisation, its tables in the format that the data came in."""
    from microcalibrate.atomic import run_folder

    tell(WRITING, 0, None, "files", {})
    with run_folder(folder) as unfinished:
        result.save(unfinished, format=table_format)
        if report:
            result.report(unfinished / REPORT_NAME)


def end(result: RegulariseResult, out: Path) -> None:
    """Exit with what other programs should know, if anything.

    Raises:
        typer.Exit: If the run was cancelled, or nothing could be improved.
    """
    if result.stopped == "cancelled":
        complain(f"Cancelled: the rounds that were accepted so far were written to {out}.")
        raise typer.Exit(CANCELLED)
    if result.rolled_back:
        complain(
            f"Every round was rolled back: the weights and records in {out} are those that came "
            f"in, and records are still flagged (exit code {ROLLED_BACK})."
        )
        raise typer.Exit(ROLLED_BACK)
