"""`microcalibrate train`: a model that draws households like those of a survey."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from microcalibrate.cli.app import POOR_MODEL, complain, say
from microcalibrate.cli.inputs import check_out, given
from microcalibrate.cli.options import Out, Quiet, Report, SchemaFile, Tables
from microcalibrate.cli.outputs import write_run
from microcalibrate.progress import Bar


def train(
    data: Tables,
    out: Out,
    schema: SchemaFile = None,
    backend: Annotated[
        str, typer.Option(metavar="anyorder|hotdeck|sdv-tvae", help="Kind of model.")
    ] = "anyorder",
    seed: Annotated[int, typer.Option(min=0, help="Seed of split, training and check.")] = 0,
    held_out: Annotated[
        float, typer.Option(help="Fraction of the units that the model is checked on.")
    ] = 0.2,
    coverage: Annotated[
        float,
        typer.Option(help="Share of the weight whose units must fit; larger ones are left out."),
    ] = 0.999,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the data; for anyorder.")
    ] = None,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Train a model that draws households like yours, and check what it draws."""
    options = given(max_epochs=epochs)
    if options and backend != "anyorder":
        raise typer.BadParameter(f"--epochs is for the backend anyorder, not for {backend}.")
    check_out(out, report, (data, schema))
    from microcalibrate.cli.surveys import read_survey
    from microcalibrate.regularise.trained import train_model

    survey = read_survey(data, schema)
    with epochs_bar(quiet, epochs) as told:
        model = train_model(
            survey,
            backend,
            seed=seed,
            held_out=held_out,
            coverage=coverage,
            progress=told,
            **options,
        )
    write_run(model, out, with_report=report)
    if not quiet:
        say(model.summary())
        say(f"\nwritten to {out}")
    if not model.passed:
        complain(
            f"The model failed its gates: see quality in {out}. It was written all the same, and "
            f"`regularise` takes it only with --allow-poor-model (exit code {POOR_MODEL})."
        )
        raise typer.Exit(POOR_MODEL)


@contextmanager
def epochs_bar(quiet: bool, most: int | None = None) -> Iterator[Callable[[int, float], None]]:
    """A bar of the epochs of a training on a terminal, with the loss on rows held out."""
    bar = Bar(
        False if quiet else None,
        "training",
        "epochs",
        total=most,
        formats={"held_out_loss": ".3f"},
        leave=False,
    )
    with bar:
        yield lambda epoch, loss: bar.to(epoch, held_out_loss=loss)
