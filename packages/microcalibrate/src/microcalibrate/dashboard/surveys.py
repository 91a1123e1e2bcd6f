"""Surveys of several tables: links to data sets, a schema that says how they hang together.

A survey is a folder of the workspace, laid out as the commands on households read it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from microcalibrate.atomic import atomic_path
from microcalibrate.errors import InvalidSchema, InvalidSurvey, UnreadableFile
from microcalibrate.io import read_json, write_json, write_table

if TYPE_CHECKING:
    from microcalibrate.jobs import Dataset, Run, Workspace
    from microcalibrate.regularise import Schema

SURVEYS, ABOUT, TARGETS, SCHEMA = "surveys", "survey.json", "targets.csv", "schema.json"
EMBEDDED_NAME = "cps_households_2023"


@dataclass(frozen=True)
class SurveyFolder:
    """A survey of one or several tables.

    Attributes:
        id: As the address of the page has it.
        name: What people call it.
        folder: Where it is.
        run_id: Of the run that proposes its schema; empty where there was none.
    """

    id: str
    name: str
    folder: Path
    run_id: str

    @property
    def tables(self) -> Path:
        """The folder that commands take: a table for each entity, and the schema."""
        return self.folder / "tables"

    @property
    def schema_file(self) -> Path:
        """What each column is; it is there once it was proposed."""
        return self.tables / SCHEMA

    @property
    def entities(self) -> list[str]:
        """Names of the tables."""
        found = (file.stem for file in self.tables.iterdir() if file.suffix == ".parquet")
        return sorted(found)

    @property
    def missing(self) -> list[str]:
        """Tables whose data set was deleted."""
        return [each for each in self.entities if not (self.tables / f"{each}.parquet").exists()]

    def schema(self) -> Schema | None:
        """What each column is, or None until it was proposed.

        Raises:
            InvalidSchema: If it is none.
        """
        from microcalibrate.regularise import Schema

        if not self.schema_file.is_file():
            return None
        return Schema.from_json(read_json(self.schema_file))

    def numbers(self) -> list[str]:
        """Columns that amounts can be computed from, each as `entity.column`."""
        schema = self.schema()
        return [
            f"{entity.name}.{column.name}"
            for entity in (schema.entities if schema else ())
            for column in entity.columns
            if column.type in ("integer", "number")
            or (column.kind == "derived" and column.type is None)
        ]

    def write_schema(self, text: str) -> None:
        """Put another schema in place of the one there is.

        Raises:
            InvalidSchema: If the text is none.
        """
        from microcalibrate.regularise import Schema

        try:
            content = json.loads(text)
        except ValueError as error:
            raise InvalidSchema(f"the schema is not JSON: {error}.") from error
        Schema.from_json(content)
        write_json(content, self.schema_file)

    @property
    def targets_file(self) -> Path:
        """Declared targets of the survey; there may be none yet."""
        return self.folder / TARGETS

    def write_targets(self, content: bytes) -> None:
        """Keep a table of targets."""
        with atomic_path(self.targets_file) as unfinished:
            unfinished.write_bytes(content)


def surveys(workspace: Workspace) -> list[SurveyFolder]:
    """Surveys of a workspace, newest first."""
    folder = workspace.folder / SURVEYS
    if not folder.is_dir():
        return []
    found = []
    for each in folder.iterdir():
        try:
            about = read_json(each / ABOUT)
        except UnreadableFile:
            continue  # It is being made or deleted.
        survey = SurveyFolder(each.name, str(about["name"]), each, str(about["run"]))
        found.append((float(about["created"]), survey))
    return [survey for _, survey in sorted(found, key=lambda pair: pair[0], reverse=True)]


def compose(
    workspace: Workspace,
    name: str,
    tables: Mapping[str, Dataset],
    unit: str,
    weight: str,
    words: Sequence[str] = (),
) -> SurveyFolder:
    """Put data sets together to a survey, and have a schema proposed.

    Args:
        workspace: Where they are.
        name: What people will call it.
        tables: Name of each entity to its data set.
        unit: The entity that was sampled.
        weight: Column of the unit with its weight.
        words: Further arguments of `microcalibrate schema`.

    Raises:
        InvalidSurvey: If an entity has no name that a table can have, or there is no such unit.
    """
    for entity in tables:
        if not entity.isidentifier():
            raise InvalidSurvey(
                f"{entity!r} is no name for an entity. Use letters, digits and _, as in household."
            )
    if unit not in tables:
        raise InvalidSurvey(f"the unit {unit!r} is none of {', '.join(tables) or 'no table'}.")
    made = _made(workspace, name)
    made.tables.mkdir()
    for entity, dataset in tables.items():
        # A link, so that deleting a data set leaves no copy of it.
        (made.tables / f"{entity}.parquet").symlink_to(dataset.table)
    run = workspace.submit(
        "schema",
        [
            *(str(made.tables), "--out", str(made.schema_file)),
            *("--unit", unit, "--weight", weight, *words),
        ],
        f"schema of {name}",
        details={"survey": made.id},
    )
    return _told(made, run.id)


def take_up_households(workspace: Workspace) -> SurveyFolder:
    """Put the embedded households, their schema and published totals into a workspace."""
    from microcalibrate.cli.demo_regularise import published_totals
    from microcalibrate.datasets import load_cps_households

    survey = load_cps_households()
    made = _made(workspace, EMBEDDED_NAME)
    survey.write(made.tables)
    write_table(published_totals(survey), made.targets_file)
    return _told(made, "")


def delete(survey: SurveyFolder) -> None:
    """Remove a survey; its data sets stay."""
    (survey.folder / ABOUT).unlink(missing_ok=True)
    shutil.rmtree(survey.folder, ignore_errors=True)


def schema_run(workspace: Workspace, survey: SurveyFolder) -> Run | None:
    """The run that proposes the schema of a survey, None where there is none."""
    return next((run for run in workspace.runs() if run.id == survey.run_id), None)


def _made(workspace: Workspace, name: str) -> SurveyFolder:
    survey_id = str(uuid4())
    made = SurveyFolder(survey_id, name, workspace.folder / SURVEYS / survey_id, "")
    made.folder.mkdir(parents=True)
    return made


def _told(survey: SurveyFolder, run_id: str) -> SurveyFolder:
    about: dict[str, Any] = {"name": survey.name, "run": run_id, "created": time.time()}
    write_json(about, survey.folder / ABOUT)
    return SurveyFolder(survey.id, survey.name, survey.folder, run_id)
