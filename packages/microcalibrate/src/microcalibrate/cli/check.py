"""`microcalibrate check`: what is wrong with targets, row by row, before a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microcalibrate.cli.app import FLAGGED, complain, say
from microcalibrate.cli.linked import Source, linked_arguments
from microcalibrate.cli.options import EntityTables, Links, MaxRatio, MinRatio, Out, Quiet, Unit
from microcalibrate.cli.text_table import text_table

if TYPE_CHECKING:
    from microcalibrate.target_checks import TargetChecks

MOST_TARGETS = 50
MOST_FINDINGS = 30


def check(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Records: a CSV, Parquet or Feather table; or a folder with a table for each "
            "entity.",
        ),
    ],
    out: Out,
    targets: Annotated[Path, typer.Option(help="Table of declared targets.")],
    weight: Annotated[
        str | None,
        typer.Option(help="Column with the design weights. [weight, for several tables]"),
    ] = None,
    unit: Unit = None,
    table: EntityTables = None,
    link: Links = None,
    max_ratio: MaxRatio = None,
    min_ratio: MinRatio = None,
    fail_on_errors: Annotated[
        bool,
        typer.Option(
            "--fail-on-errors",
            help=f"Exit with {FLAGGED} if a target has an error; everything is written all the "
            "same.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Check targets one by one: unknown columns, no records, duplicates, conflicts, out of reach.

    Nothing is calibrated, and a bad row never hides the others. The folder has checks.csv (a row
    per target, with initial estimate and achievable range) and checks.json.
    """
    from microcalibrate.cli.inputs import check_out, given
    from microcalibrate.cli.reading import refuse_entities

    source = Source(data, weight, targets, None, unit, tuple(table or ()), tuple(link or ()))
    check_out(out, False, source.paths)
    from microcalibrate.io import read_table
    from microcalibrate.target_checks import check_targets

    declared = read_table(targets)
    linked: dict[str, Any] = {"weight": weight}
    records: Any
    if source.is_linked:
        linked = linked_arguments(source)
        records = linked.pop("tables")
    else:
        source.refuse_links()
        if weight is None:
            raise typer.BadParameter(f"{data} needs --weight, the column with the design weights.")
        refuse_entities(declared, data)
        records = read_table(data)
    found = check_targets(
        records,
        declared,
        **linked,
        **given(min_weight_ratio=min_ratio, max_weight_ratio=max_ratio),
    )
    found.save(out)
    if not quiet:
        say(f"{_table(found)}\n")
        say(found.summary(MOST_FINDINGS))
        say(f"\nwritten to {out}")
    if fail_on_errors and not found.ok:
        n_wrong = found.count("error")
        have = "target has" if n_wrong == 1 else "targets have"
        complain(f"Errors: {n_wrong:,} {have} one (exit code {FLAGGED}).")
        raise typer.Exit(FLAGGED)


def _table(found: TargetChecks) -> str:
    """Targets in their order, a line each, with what is known of them in figures."""
    shown = found.table.head(MOST_TARGETS)
    columns = {
        "row": [str(row) for row in shown["row"]],
        "target": list(shown["name"]),
        "value": [_number(value) for value in shown["target"]],
        "initial": [_number(value) for value in shown["initial"]],
        "initial/value": [_number(value) for value in shown["ratio"]],
        "at least": [_number(value) for value in shown["lowest"]],
        "at most": [_number(value) for value in shown["highest"]],
        "records": [f"{count:,}" for count in shown["support"]],
        "found": list(shown["severity"]),
    }
    rest = len(found.table) - len(shown)
    more = f"\n… and {rest:,} more targets, in checks.csv" if rest else ""
    return text_table(columns, left=("target", "found")) + more


def _number(value: float) -> str:
    """Seven digits, nothing for what is not known, and a word for no limit."""
    if value != value:
        return ""
    from microcalibrate.targets.describing import plain_number

    return "no limit" if abs(value) == float("inf") else plain_number(float(f"{value:.7g}"))
