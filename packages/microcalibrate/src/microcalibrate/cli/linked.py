"""Several linked tables on the command line: where they lie, and what links them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from microcalibrate.diagnostics.frame import Frame

TABLE_FORM = "ENTITY=FILE"
LINK_FORM = "CHILD.COLUMN=PARENT"
UNIT = "household"
"""What the table is called that further ones are given beside, unless it is named."""


@dataclass(frozen=True)
class Source:
    """Where the data of a command lie, as its user said it.

    Attributes:
        data: Table of records, folder of tables, or folder of a problem.
        weight: Column with the design weights.
        targets: Table of declared targets.
        id_column: Column that names the records.
        unit: Entity that carries the weight, where there are several tables.
        tables: Further tables, each `ENTITY=FILE`.
        links: Each `CHILD.COLUMN=PARENT`, the parent's own column after another dot if need be.
    """

    data: Path
    weight: str | None = None
    targets: Path | None = None
    id_column: str | None = None
    unit: str | None = None
    tables: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    @property
    def is_problem(self) -> bool:
        """Whether it is a folder that brings matrix, targets and weights of its own."""
        return self.data.is_dir() and not self.is_linked

    @property
    def is_linked(self) -> bool:
        """Whether these are several tables."""
        if not self.data.is_dir():
            return bool(self.tables)
        named = (self.weight, self.targets, self.unit, *self.links)
        return any(named) and not (self.data / "matrix.npz").exists()

    @property
    def paths(self) -> tuple[Path | None, ...]:
        """Everything that is read."""
        files = [Path(text.partition("=")[2]) for text in self.tables if "=" in text]
        return (self.data, self.targets, *files)

    def words(self) -> list[str]:
        """The same as arguments of a command."""
        said = {"--weight": self.weight, "--targets": self.targets, "--id": self.id_column}
        words = [str(self.data)]
        for flag, value in {**said, "--unit": self.unit}.items():
            words += [] if value is None else [flag, str(value)]
        for flag, values in (("--table", self.tables), ("--link", self.links)):
            words += [word for value in values for word in (flag, value)]
        return words

    def refuse_links(self) -> None:
        """Refuse what is about several tables where there is one, or none."""
        for flag, value in (
            ("--unit", self.unit),
            ("--link", self.links),
            ("--table", self.tables),
        ):
            if value:
                raise typer.BadParameter(
                    f"{flag} is about several tables, and {self.data} is "
                    + ("a folder with a matrix." if self.data.is_dir() else "the only one.")
                    + " Leave it out, or add the others with --table."
                )


def linked_arguments(source: Source) -> dict[str, Any]:
    """Linked tables, by the names of the arguments of `linked_units`.

    Raises:
        CalibrationError: If a file is missing or damaged.
    """
    from microcalibrate.cli.surveys import read_survey
    from microcalibrate.io import read_table
    from microcalibrate.regularise.survey import SCHEMA_FILE

    weight: dict[str, Any] = {"weight": source.weight}
    if source.data.is_dir() and (source.data / SCHEMA_FILE).is_file():
        own = {"--unit": source.unit, "--link": source.links, "--id": source.id_column}
        told = [flag for flag, value in own.items() if value] + ["--table"] * bool(source.tables)
        if told:
            raise typer.BadParameter(
                f"{told[0]}: {source.data / SCHEMA_FILE} says what the tables are and how they "
                "are linked. Leave it out, or correct the schema."
            )
        survey = read_survey(source.data, None)
        return {"tables": survey, "unit": None, "ids": None, "links": None, **weight}
    unit = source.unit
    if source.data.is_dir():
        tables = _tables_of(source)
    else:
        unit = unit or UNIT
        tables = {unit: read_table(source.data)}
    for text in source.tables:
        name, path = parted(text, "--table", TABLE_FORM)
        if name in tables:
            raise typer.BadParameter(f"--table {text}: there is a table of {name!r} already.")
        tables[name] = read_table(path)
    links, ids = read_links(source.links, tables)
    if unit is None and source.id_column is not None:
        raise typer.BadParameter(
            "--id names a column of the unit: say with --unit which of the tables that is."
        )
    if unit is not None and source.id_column is not None:
        ids[unit] = source.id_column
    found = usual_ids(tables) | ids
    return {
        "tables": tables,
        "unit": unit,
        "ids": found,
        "links": usual_links(tables, found, links),
        **weight,
    }


def _tables_of(source: Source) -> dict[str, Any]:
    """Tables of a folder, but for the targets where they lie there too."""
    from microcalibrate.cli.surveys import read_tables
    from microcalibrate.io import TABLE_SUFFIXES

    names = []
    for file in sorted(source.data.iterdir()):
        suffix = next((end for end in TABLE_SUFFIXES if file.name.lower().endswith(end)), None)
        is_targets = source.targets is not None and file.resolve() == source.targets.resolve()
        if suffix is not None and not is_targets:
            names.append(file.name[: -len(suffix)])
    return read_tables(source.data, names, source.unit)


# --- Links ----------------------------------------------------------------------------------------


def read_links(
    texts: Sequence[str], tables: Mapping[str, Any]
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Links by child and parent, and the identifiers of parents that were named along.

    Examples:
        >>> read_links(["person.hh=household.number"], {"person": 0, "household": 0})
        ({'person': {'household': 'hh'}}, {'household': 'number'})
    """
    links: dict[str, dict[str, str]] = {}
    ids: dict[str, str] = {}
    for text in texts:
        place, named = parted(text, "--link", LINK_FORM)
        child, dot, column = place.partition(".")
        if not (child and dot and column):
            raise typer.BadParameter(f"--link {text} must have the form {LINK_FORM}.")
        parent, dot, own = (named, "", "") if named in tables else named.partition(".")
        if dot:
            ids[parent] = own
        check_entities("--link", (child, parent), tables)
        links.setdefault(child, {})[parent] = column
    return links, ids


def usual_ids(tables: Mapping[str, Any]) -> dict[str, str]:
    """Identifier columns that need no naming: `<entity>_id`."""
    return {name: f"{name}_id" for name, table in tables.items() if f"{name}_id" in table.columns}


def usual_links(
    tables: Mapping[str, Any], ids: Mapping[str, str], links: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """The named links, and those that need no naming: columns called like another's identifier."""
    found: dict[str, dict[str, str]] = {}
    for child, table in tables.items():
        parents = dict(links.get(child, {}))
        for parent, column in ids.items():
            is_free = parent not in (child, *parents) and column not in parents.values()
            if is_free and column in table.columns:
                parents[parent] = column
        if parents:
            found[child] = parents
    return found


def check_entities(option: str, names: Sequence[str], tables: Mapping[str, Any]) -> None:
    """Refuse names that no table has."""
    unknown = [name for name in names if name not in tables]
    if unknown:
        raise typer.BadParameter(
            f"{option} {unknown[0]}…: there is no table of {unknown[0]!r}, only of "
            f"{', '.join(tables)}."
        )


def parted(text: str, option: str, form: str) -> tuple[str, str]:
    """What stands before and after the equals sign."""
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise typer.BadParameter(f"{option} {text} must have the form {form}.")
    return left, right


def rows_with_unit(frame: Frame, entity: str) -> Any:
    """Rows of an entity, with the columns of the unit that they have none of the name for."""
    import pandas as pd

    own = frame.tables[entity].reset_index(drop=True)
    unit = frame.tables[frame.unit]
    further = [name for name in unit.columns if name not in own.columns]
    of_unit = unit[further].iloc[frame.rows_of(entity, frame.unit)].reset_index(drop=True)
    return pd.concat([own, of_unit], axis=1)
