"""`microcalibrate schema`: a first schema for tables, to be read and corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microcalibrate.cli.app import say
from microcalibrate.cli.options import Quiet, Tables

LINK_FORM = "CHILD.COLUMN=PARENT"


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
    link: Annotated[
        list[str] | None,
        typer.Option(
            metavar=LINK_FORM,
            help="Column of an entity that names what it belongs to, such as "
            "person.household_id=household; may be given several times. [columns with the name "
            "of another entity's id]",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Propose a schema: what each column is, and what holds in every household.

    It is a first one, to be read and corrected by somebody who knows the data.
    """
    from microcalibrate.atomic import check_run_folder
    from microcalibrate.cli.surveys import read_tables
    from microcalibrate.io import write_json
    from microcalibrate.regularise import propose_schema

    if out.suffix.lower() != ".json":
        raise typer.BadParameter(f"--out {out} must end in .json.")
    if out.is_dir():
        check_run_folder(out)
    ids = dict(_parted(text, "--id", "ENTITY=COLUMN") for text in identifier or ())
    links: dict[str, dict[str, str]] = {}
    for text in link or ():
        place, parent = _parted(text, "--link", LINK_FORM)
        child, dot, column = place.partition(".")
        if not (child and dot and column):
            raise typer.BadParameter(f"--link {text} must have the form {LINK_FORM}.")
        links.setdefault(child, {})[parent] = column
    tables = read_tables(data, entity or (), unit)
    for option, names in (("--id", ids), ("--link", links)):
        unknown = [name for name in names if name not in tables]
        if unknown:
            raise typer.BadParameter(
                f"{option} {unknown[0]}…: there is no table of {unknown[0]!r}, only of "
                f"{', '.join(tables)}."
            )
    # Whoever names one link of an entity still wants those that need no naming.
    for child, named in links.items():
        for other in tables:
            usual = ids.get(other, f"{other}_id")
            is_free = other not in (child, *named) and usual not in named.values()
            if is_free and usual in tables[child].columns:
                named[other] = usual
    proposed = propose_schema(
        tables, unit=unit, weight=weight, base_weight=base_weight, ids=ids, links=links
    )
    write_json(proposed.to_json(), out)
    if quiet:
        return
    for each in proposed.entities:
        say(f"{each.name}: {len(tables[each.name]):,} rows")
        kinds: dict[str, list[str]] = {}
        for part in each.columns:
            kinds.setdefault(part.kind, []).append(part.name)
        for kind, listed in kinds.items():
            say(f"  {kind:12}{', '.join(listed)}")
    say(f"{len(proposed.constraints):,} constraints that hold in all records")
    say(f"\nwritten to {out}: read it, and correct what the data could not show")


def _parted(text: str, option: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise typer.BadParameter(f"{option} {text} must have the form {form}.")
    return left, right
