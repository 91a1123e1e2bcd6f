"""A survey: tables and the schema that they were checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.atomic import PathLike, run_folder
from microcalibrate.columns import Columns, did_you_mean
from microcalibrate.errors import InvalidSurvey, UnreadableFile
from microcalibrate.io import TABLE_SUFFIXES, read_json, read_table, write_json, write_table
from microcalibrate.regularise.derived import recomputed
from microcalibrate.regularise.linking import Links, Positions
from microcalibrate.regularise.schema import RESERVED, Column, Schema
from microcalibrate.regularise.values import read_cells

SCHEMA_FILE = "schema.json"


@dataclass(frozen=True, eq=False)
class Survey:
    """Tables of households, or of any sampled units and their members, that fit their schema.

    Whether the constraints of the schema hold, and whether derived columns are what their rules
    say, is told by `violations` and `derived_differences`; everything else is checked when the
    survey is made.

    Attributes:
        tables: Table of each entity, with the types and the order that it came in, rows numbered
            from 0. A column that starts with `_mc_` says where a record came from and needs no
            declaration.
        schema: What they hold.

    Raises:
        InvalidSurvey: If a table or column is missing or undeclared, an id is there twice, a link
            leads nowhere, a parent has no members, or a value does not fit its column.

    Examples:
        >>> from microcalibrate.regularise.schema import Entity
        >>> people = Entity("person", (Column("id", "id"), Column("weight", "weight"),
        ...                            Column("age", "input", "integer", bounds=(0, 120))))
        >>> table = pd.DataFrame({"id": [7, 9], "weight": [1.5, 2.5], "age": [30, 60]})
        >>> Survey({"person": table}, Schema((people,), unit="person", weight="weight")).weights
        id
        7    1.5
        9    2.5
        Name: weight, dtype: float64
    """

    tables: Mapping[str, pd.DataFrame]
    schema: Schema

    def __post_init__(self) -> None:
        """Check everything, once."""
        _check_names("the survey", "table", self.tables, [e.name for e in self.schema.entities])
        tables = {}
        for entity in self.schema.entities:
            table = self.tables[entity.name].reset_index(drop=True)
            if not table.columns.is_unique:
                raise InvalidSurvey(f"table {entity.name!r} has a column more than once.")
            columns = [name for name in table.columns if not str(name).startswith(RESERVED)]
            declared = [column.name for column in entity.columns]
            _check_names(f"table {entity.name!r}", "column", columns, declared)
            for column in entity.columns:
                _check_values(table[column.name], column, entity.name)
            tables[entity.name] = table
        object.__setattr__(self, "tables", tables)
        _ = self._links

    @cached_property
    def _links(self) -> Links:
        return Links(self.tables, self.schema)

    @cached_property
    def _columns(self) -> dict[str, Columns]:
        return {name: Columns(table) for name, table in self.tables.items()}

    # --- What there is ----------------------------------------------------------------------------

    @property
    def unit(self) -> str:
        """Entity that was sampled and carries the weight."""
        return self.schema.unit

    @property
    def ids(self) -> dict[str, str]:
        """Id column of each entity."""
        return {entity.name: entity.id_column for entity in self.schema.entities}

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """Entities that each entity belongs to, with the column of the link."""
        return {e.name: e.parents for e in self.schema.entities if e.parents}

    @property
    def unit_ids(self) -> pd.Index[Any]:
        """Ids of the sampled units, in the order of their table."""
        name = self.schema.unit_entity.id_column
        index: pd.Index[Any] = pd.Index(self.tables[self.unit][name], name=name)
        return index

    @property
    def weights(self) -> pd.Series[float]:
        """Weight of each unit by its id."""
        return self._unit_column(self.schema.weight)

    @property
    def base_weights(self) -> pd.Series[float]:
        """Weight of each unit in the sampling design; the weight in use where none is declared."""
        return self._unit_column(self.schema.base_weight or self.schema.weight)

    def _unit_column(self, name: str) -> pd.Series[float]:
        values = self.tables[self.unit][name].to_numpy(dtype=np.float64)
        return pd.Series(values, index=self.unit_ids, name=name)

    def columns(self, entity: str) -> Columns:
        """Columns of a table for expressions, each read once."""
        return self._columns[entity]

    def link(self, entity: str, column: str) -> Positions:
        """Row that each record's link names, -1 where it is missing."""
        return self._links.link(entity, column)

    def positions(self, child: str, parent: str) -> Positions:
        """Row in the parent's table of the record that each record belongs to."""
        return self._links.positions(child, parent)

    def unit_positions(self, entity: str) -> Positions:
        """Row of the unit that each record belongs to; of the unit itself its own row."""
        if entity == self.unit:
            return np.arange(len(self.tables[entity]), dtype=np.intp)
        return self.positions(entity, self.unit)

    def unit_of(self, entity: str) -> npt.NDArray[Any]:
        """Id of the unit that each record belongs to."""
        return self.unit_ids.to_numpy()[self.unit_positions(entity)]

    @cached_property
    def derived_differences(self) -> pd.DataFrame:
        """Records whose derived or external columns are not what their rules say.

        A row each: `entity`, `column`, `id`, `stored` and `recomputed`. Numbers may differ by a
        part in 10^9, since sums depend on the order of what is added. Generated households get
        the recomputed values.
        """
        dtypes = {
            (entity, column.name): np.dtype(object) for entity, column in self.schema.computed
        }
        anew = recomputed(self.tables, self.schema, self._links, dtypes)
        found = []
        for entity, column in self.schema.computed:
            stored, other = self.tables[entity][column.name], anew[entity][column.name]
            differs = _differs(stored, other)
            if differs.any():
                ids = self.tables[entity][self.ids[entity]]
                found.append(
                    pd.DataFrame(
                        {
                            "entity": entity,
                            "column": column.name,
                            "id": ids.to_numpy(dtype=object)[differs],
                            "stored": stored.to_numpy(dtype=object)[differs],
                            "recomputed": other.to_numpy(dtype=object)[differs],
                        }
                    )
                )
        empty = pd.DataFrame(columns=["entity", "column", "id", "stored", "recomputed"])
        return pd.concat(found, ignore_index=True) if found else empty

    # --- Parts and wholes -------------------------------------------------------------------------

    def with_weights(self, weights: npt.ArrayLike) -> Survey:
        """The same units with other weights in use, in the order of the unit table.

        Raises:
            InvalidSurvey: If there are more or fewer weights than units, or one cannot be.
        """
        values = np.asarray(weights, dtype=np.float64)
        units = self.tables[self.unit]
        if values.shape != (len(units),):
            raise InvalidSurvey(
                f"there are weights of shape {values.shape} for {len(units)} units. Give one each."
            )
        changed = units.assign(**{self.schema.weight: values})
        return Survey({**self.tables, self.unit: changed}, self.schema)

    # --- Files ------------------------------------------------------------------------------------

    @classmethod
    def read(
        cls, files: PathLike | Mapping[str, PathLike], schema: Schema | PathLike | None = None
    ) -> Survey:
        """Survey from files: one for each entity.

        Args:
            files: Folder with a table for each entity (`person.parquet`, `person.csv`, …); file of
                the only entity; or a file for each entity by its name.
            schema: What the tables hold, or the JSON file that says it; by default `schema.json`
                in the folder.

        Raises:
            UnreadableFile: If a file is missing or cannot be read.
            InvalidSchema: If the schema contradicts itself.
            InvalidSurvey: If tables and schema do not fit together.
        """
        if schema is None:
            if isinstance(files, Mapping) or not Path(files).is_dir():
                raise UnreadableFile(
                    "these files come without a schema. Name the JSON file that says what each "
                    "column is; propose_schema writes a first one."
                )
            schema = Path(files) / SCHEMA_FILE
        known = schema if isinstance(schema, Schema) else Schema.from_json(read_json(schema))
        names = [entity.name for entity in known.entities]
        if not isinstance(files, Mapping):
            files = _found_files(Path(files), names)
        _check_names("the list of files", "table", files, names)
        return cls({name: read_table(files[name]) for name in names}, known)

    def write(self, folder: PathLike, *, format: Literal["parquet", "csv"] = "parquet") -> None:
        """Write the tables and the schema into a new folder, whole or not at all.

        Args:
            folder: Folder that does not exist yet.
            format: Of the tables. Parquet keeps every type; CSV keeps the values, unguarded texts
                included, for programs rather than spreadsheets.

        Raises:
            UnwritableFile: If the folder exists or cannot be written.
            InvalidSchema: If a column is calculated by a Python function.
        """
        content = self.schema.to_json()
        with run_folder(folder) as unfinished:
            write_json(content, unfinished / SCHEMA_FILE)
            for name, table in self.tables.items():
                # No apostrophes before what looks like a formula: the values are read again.
                write_table(table, unfinished / f"{name}.{format}")


def select_units(survey: Survey, unit_ids: Sequence[Any] | npt.NDArray[Any]) -> Survey:
    """Some units and all that belongs to them.

    Args:
        survey: The whole.
        unit_ids: Ids of the units to keep, in the order that their table shall have.

    Raises:
        InvalidSurvey: If there is no such unit, or one is named twice.
    """
    wanted = pd.Index(list(unit_ids), dtype=object)
    rows = pd.Index(survey.unit_ids.to_numpy(dtype=object), dtype=object).get_indexer(wanted)
    if (rows < 0).any() or not wanted.is_unique:
        raise InvalidSurvey(
            f"there is no unit {wanted[rows < 0][0]!r}."
            if (rows < 0).any()
            else f"the unit {wanted[wanted.duplicated()][0]!r} is named twice."
        )
    rank = np.full(len(survey.unit_ids), -1, dtype=np.intp)
    rank[rows] = np.arange(len(rows))
    tables = {}
    for name, table in survey.tables.items():
        place = rank[survey.unit_positions(name)]
        order = np.argsort(place, kind="stable")
        tables[name] = table.iloc[order[place[order] >= 0]]
    return Survey(tables, survey.schema)


def concatenate(surveys: Sequence[Survey]) -> Survey:
    """Surveys of one schema as one; their ids must differ.

    Raises:
        InvalidSurvey: If there is none, the schemas differ, or an id is in two of them.
    """
    if not surveys:
        raise InvalidSurvey("there is no survey to put together. Give at least one.")
    first = surveys[0].schema
    if any(survey.schema.hash != first.hash for survey in surveys):
        raise InvalidSurvey("the surveys have different schemas. Read them with one.")
    tables = {
        name: pd.concat([survey.tables[name] for survey in surveys], ignore_index=True)
        for name in surveys[0].tables
    }
    return Survey(tables, first)


def _check_names(where: str, what: str, found: Any, declared: Sequence[str]) -> None:
    undeclared = [name for name in found if name not in declared]
    if undeclared:
        way_out = (
            "Declare it: Column(name, 'input', ...) is generated, Column(name, 'carried') is kept "
            "as it is. Or leave it out of the table."
            if what == "column"
            else "Declare an entity of that name, or leave it out."
        )
        raise InvalidSurvey(
            f"{where} has the {what} {undeclared[0]!r}, which the schema does not declare"
            f"{f' (nor {undeclared[1:5]})' if undeclared[1:] else ''}. {way_out}"
        )
    absent = [name for name in declared if name not in found]
    if absent:
        raise InvalidSurvey(
            f"{where} has no {what} {absent[0]!r}, which the schema declares."
            f"{did_you_mean(absent[0], map(str, found))} Add it, or take it out of the schema."
        )


def _check_values(stored: pd.Series[Any], column: Column, entity: str) -> None:
    name = f"{entity}.{column.name}"
    if column.kind == "weight":
        numeric = pd.api.types.is_numeric_dtype(stored.dtype)
        values = stored.to_numpy(dtype=np.float64, na_value=np.nan) if numeric else None
        if values is None or not (np.isfinite(values) & (values >= 0)).all():
            raise InvalidSurvey(
                f"{name} has a weight that is missing, negative or no number. Mend the weights."
            )
        return
    if column.kind not in ("input", "structural"):
        return
    cells, wrong = read_cells(stored, column)
    if wrong.any():
        raise InvalidSurvey(
            f"{name} has the value {stored[wrong].iloc[0]!r}, which is not {_allowed(column)}; "
            f"{int(wrong.sum())} such values in all. Mend the table or the schema."
        )
    if cells.missing.any() and not column.missing:
        raise InvalidSurvey(
            f"{name} has {int(cells.missing.sum())} missing values. Declare it with missing=True, "
            "or fill them."
        )


def _allowed(column: Column) -> str:
    if column.type == "category":
        levels = column.levels or ()
        return f"one of {', '.join(map(repr, levels[:8]))}{', …' if len(levels) > 8 else ''}"
    if column.type == "boolean":
        return "a truth value"
    low, high = column.bounds
    limits = "" if low is None else f" from {low:g}"
    limits += "" if high is None else f" to {high:g}"
    return f"{'a whole number' if column.type == 'integer' else 'a finite number'}{limits}"


def _differs(stored: pd.Series[Any], other: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    left, right = stored.to_numpy(dtype=object), other.to_numpy(dtype=object)
    gone, other_gone = np.asarray(pd.isna(left)), np.asarray(pd.isna(right))
    both = ~gone & ~other_gone
    differs: npt.NDArray[np.bool_] = gone != other_gone
    if any(isinstance(value, str) for value in [*left[both][:1], *right[both][:1]]):
        differs[both] = left[both] != right[both]
        return differs
    first, second = (values[both].astype(np.float64) for values in (left, right))
    scale = np.maximum(np.abs(first), np.abs(second))
    differs[both] = np.abs(first - second) > 1e-9 * scale
    return differs


def _found_files(path: Path, names: Sequence[str]) -> dict[str, PathLike]:
    if not path.is_dir():
        if len(names) > 1:
            raise UnreadableFile(
                f"{path} is one file, and the schema has the entities {', '.join(names)}. Give a "
                "folder with a file for each of them."
            )
        return {names[0]: path}
    files: dict[str, PathLike] = {}
    for name in names:
        there = [
            path / f"{name}{end}" for end in TABLE_SUFFIXES if (path / f"{name}{end}").exists()
        ]
        if len(there) != 1:
            raise UnreadableFile(
                f"{path} has {len(there)} files for {name!r}, and it needs one: {name}.parquet, "
                f"{name}.csv, {name}.csv.gz or {name}.feather."
            )
        files[name] = there[0]
    return files
