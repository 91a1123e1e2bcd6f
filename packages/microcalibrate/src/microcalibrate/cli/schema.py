"""`microcalibrate schema`: a first schema for tables, to be read and corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.linked import check_entities, parted, read_links, usual_links
from microcalibrate.cli.options import Links, Quiet, Tables


def schema(
    data: Tables,
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    unit: Annotated[
        str, typer.Option(help="Entity that was sampled and carries the weight.")
    ] = "household",
    weight: Annotated[str, typer.Option(help="Column of the unit with its weight.")] = "weight",
    base_weight: Annotated[
        str | None, typer.Option(help="Column of the unit with the weight of the design.")
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option(help="Table of a folder to take; may be given several times. [all]"),
    ] = None,
    identifier: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="ENTITY=COLUMN",
            help="Id column of an entity; may be given several times. [<entity>_id, or id]",
        ),
    ] = None,
    link: Links = None,
    quiet: Quiet = False,
) -> None:
    """Propose a schema: what each column is, and what holds in every household.

    It is a first one, to be read and corrected by somebody who knows the data.
    """
    from microcalibrate.atomic import check_run_folder
    from microcalibrate.cli.surveys import read_tables
    from microcalibrate.figures.plotting import count
    from microcalibrate.io import write_json
    from microcalibrate.regularise import propose_schema

    if out.suffix.lower() != ".json":
        raise typer.BadParameter(f"--out {out} must end in .json.")
    if out.is_dir():
        check_run_folder(out)
    ids = dict(parted(text, "--id", "ENTITY=COLUMN") for text in identifier or ())
    tables = read_tables(data, entity or (), unit)
    check_entities("--id", list(ids), tables)
    named, of_parents = read_links(link or (), tables)
    ids = of_parents | ids
    # Whoever names one link of an entity still wants those that need no naming; of the others
    # the proposal itself looks for them.
    usual = {name: f"{name}_id" for name in tables} | ids
    links = {child: usual_links(tables, usual, named)[child] for child in named}
    proposed = propose_schema(
        tables, unit=unit, weight=weight, base_weight=base_weight, ids=ids, links=links
    )
    write_json(proposed.to_json(), out)
    if quiet:
        return
    for each in proposed.entities:
        say(f"{each.name}: {count(len(tables[each.name]), 'row')}")
        kinds: dict[str, list[str]] = {}
        for part in each.columns:
            kinds.setdefault(part.kind, []).append(part.name)
        for kind, listed in kinds.items():
            say(f"  {kind:12}{', '.join(listed)}")
    say(f"{len(proposed.constraints):,} constraints that hold in all records")
    say(f"\nwritten to {out}: read it, and correct what the data could not show")
