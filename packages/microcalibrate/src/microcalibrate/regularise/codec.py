"""From households to rows of slots, which a generator can learn, and back to households."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.errors import InvalidOption, InvalidSchema, InvalidSurvey
from microcalibrate.regularise.derived import recomputed
from microcalibrate.regularise.faults import Fault, faults_of
from microcalibrate.regularise.identifiers import Identifiers
from microcalibrate.regularise.linking import Links, Positions
from microcalibrate.regularise.schema import Entity, Schema
from microcalibrate.regularise.slots import (
    Mask,
    Records,
    SlotColumn,
    modelled_links,
    records_in,
    records_of,
    rows_of,
    slot_columns,
    slots_of,
    taken,
)
from microcalibrate.regularise.survey import Survey
from microcalibrate.regularise.values import as_dtype, stored_values

FORMAT = "microcalibrate.codec/1"


@dataclass(frozen=True, eq=False)
class Codec:
    """Turns each household into one row with a slot for each member, and rows into households.

    A row has the inputs and the structure of the household: who is there, who belongs to which
    tax or benefit unit, what was asked of each. Totals are not in it: they are derived from the
    members after decoding, and so cannot contradict them. Ids and weights are not in it either.

    Attributes:
        schema: Of the surveys that it encodes.
        n_slots: Slots for each entity below the unit.
        n_too_large: Units with more records of an entity than it has slots, when it was fitted.
        weight_too_large: Their share of the weight, in `[0, 1]`.

    Examples:
        >>> from microcalibrate.datasets import load_cps_households
        >>> survey = load_cps_households()
        >>> codec = Codec.fit(survey)
        >>> rows = codec.encode(survey)
        >>> rows["person.0.role"].iloc[0]
        'head'
        >>> again = codec.decode(rows, source=survey, origins=rows.index, weights=1.0)
        >>> codec.encode(again).reset_index(drop=True).equals(rows.reset_index(drop=True))
        True
    """

    schema: Schema
    n_slots: Mapping[str, int]
    n_too_large: int = 0
    weight_too_large: float = 0.0

    @classmethod
    def fit(cls, survey: Survey, coverage: float = 0.999) -> Codec:
        """Codec with as many slots as nearly all households need.

        Args:
            survey: Households to encode.
            coverage: Share of the weight whose units must have a slot for each of their records,
                for each entity by itself, in `(0, 1]`. Larger ones stay as they are: they are
                counted, and never generated.

        Raises:
            InvalidOption: If the coverage is out of its range.
            InvalidSurvey: If all weights are zero.
            InvalidSchema: If two columns of the rows would have one name.
        """
        if not 0 < coverage <= 1:
            raise InvalidOption(f"coverage is {coverage}, and it must lie in (0, 1].")
        weights = survey.base_weights.to_numpy()
        if not weights.sum() > 0:
            raise InvalidSurvey("all weights are zero, so no share of the weight can be covered.")
        share = weights / weights.sum()
        n_slots = {}
        for entity in survey.schema.children:
            counts = np.bincount(survey.unit_positions(entity.name), minlength=len(weights))
            covered = np.cumsum(np.bincount(counts, weights=share))
            # A sum of shares may fall short of 1 by rounding.
            n_slots[entity.name] = int(np.argmax(covered >= min(coverage, covered[-1]) - 1e-12))
        codec = cls(survey.schema, n_slots)
        names = [column.name for column in codec.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidSchema(
                f"the column {twice[0]!r} of the unit has the name of a slot. Rename it."
            )
        fits = codec.fits(survey).to_numpy()
        return replace(
            codec, n_too_large=int((~fits).sum()), weight_too_large=float(share[~fits].sum())
        )

    @cached_property
    def columns(self) -> tuple[SlotColumn, ...]:
        """Columns of the rows, those of the unit first, then slot after slot."""
        return slot_columns(self.schema, self.n_slots)

    def fits(self, survey: Survey) -> pd.Series[bool]:
        """Whether there is a slot for each record of a unit, by the id of the unit."""
        self._check_schema(survey)
        fits = np.ones(len(survey.unit_ids), dtype=np.bool_)
        for name, n_slots in self.n_slots.items():
            counts = np.bincount(survey.unit_positions(name), minlength=len(fits))
            fits &= counts <= n_slots
        return pd.Series(fits, index=survey.unit_ids, name="fits")

    # --- Households to rows -----------------------------------------------------------------------

    def encode(self, survey: Survey) -> pd.DataFrame:
        """A row for each unit that fits, in the order of the unit table.

        Args:
            survey: Households of the codec's schema.

        Returns:
            Slot rows with the columns of `columns`, labelled by the ids of the units. Units that
            do not fit (see `fits`) have none.

        Raises:
            InvalidSurvey: If the survey has another schema.
        """
        fits = self.fits(survey).to_numpy()
        units, records = records_of(survey)
        new = np.cumsum(fits) - 1
        slots = slots_of(records, self.schema)
        kept_units = taken(units, np.flatnonzero(fits), new)
        kept, kept_slots = {}, {}
        moved = {name: np.cumsum(fits[of.unit]) - 1 for name, of in records.items()}
        for name, of in records.items():
            chosen = np.flatnonzero(fits[of.unit])
            links = modelled_links(self.schema, self.schema.entity(name))
            kept[name] = taken(of, chosen, new, {link: moved[to] for link, to in links.items()})
            kept_slots[name] = slots[name][chosen]
        return rows_of(kept_units, kept, kept_slots, self.columns, survey.unit_ids[fits])

    def canonical(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The same households with their records in canonical order, without gaps.

        Rows that were encoded are so already. Links to empty slots become missing.

        Args:
            rows: Slot rows, such as a generator gives.

        Raises:
            InvalidSurvey: If the rows have other columns.
        """
        self._check_columns(rows)
        units, records, _ = records_in(rows, self.schema, self.columns)
        return rows_of(
            units, records, slots_of(records, self.schema), self.columns, pd.Index(rows.index)
        )

    # --- What is wrong with rows ------------------------------------------------------------------

    def problems(self, rows: pd.DataFrame) -> pd.DataFrame:
        """What keeps rows from being households: a row for each.

        Args:
            rows: Slot rows, such as a generator gives.

        Returns:
            Columns `unit` (label of the row), `column` and `problem`: a value that does not fit
            its column or is missing, one in an empty slot, a link to an empty slot, a unit
            without records of an entity, or a parent without members.
        """
        found: list[pd.DataFrame] = []
        for name, problem, mask in self._checked_faults(rows):
            if mask.any():
                content = {"unit": rows.index[mask], "column": name, "problem": problem}
                found.append(pd.DataFrame(content))
        empty = pd.DataFrame(columns=["unit", "column", "problem"])
        return pd.concat(found, ignore_index=True) if found else empty

    def acceptable(self, rows: pd.DataFrame) -> Mask:
        """Rows without a problem, shape `(n_rows,)`."""
        good = np.ones(len(rows), dtype=np.bool_)
        for _, _, mask in self._checked_faults(rows):
            good &= ~mask
        return good

    def _checked_faults(self, rows: pd.DataFrame) -> list[Fault]:
        self._check_columns(rows)
        return faults_of(rows, self.schema, self.columns, self.n_slots)

    # --- Rows to households -----------------------------------------------------------------------

    def decode(
        self,
        rows: pd.DataFrame,
        *,
        source: Survey,
        origins: Sequence[Any] | npt.NDArray[Any] | pd.Index[Any],
        weights: npt.ArrayLike,
        base_weights: npt.ArrayLike | None = None,
        round: int = 1,
        identifiers: Identifiers | None = None,
    ) -> Survey:
        """Households of rows, as tables with the types of the source's.

        Args:
            rows: Slot rows that are `acceptable`.
            source: Survey that they descend from: gives types and carried columns.
            origins: Id of the source's unit that each row descends from.
            weights: Weight of each row, or one for all.
            base_weights: Design weight of each row where the schema has one; by default that of
                the origin, divided by the number of rows that descend from it.
            round: Number of the round of generation, for ids that are text.
            identifiers: Where fresh ids come from; give the same one to calls whose results
                shall live in one survey. By default ids that are new to the source.

        Returns:
            The households in the order of the rows, their records in the order of the slots.
            External and derived columns are computed anew. A carried column of the unit is the
            origin's; that of another entity is that of the origin's record in the same canonical
            slot, missing where it has none.

        Raises:
            InvalidSurvey: If a row is not acceptable, an origin is unknown, or the type of a
                column cannot hold a value.
        """
        self._check_schema(source)
        bad = ~self.acceptable(rows)
        if bad.any():
            first = self.problems(rows[bad]).iloc[0]
            raise InvalidSurvey(
                f"{int(bad.sum())} of {len(rows)} rows are no households; the first has "
                f"{first['problem']} in {first['column']!r}. Leave out what `acceptable` refuses."
            )
        origin_rows = pd.Index(source.unit_ids.to_numpy(dtype=object), dtype=object).get_indexer(
            pd.Index(list(origins), dtype=object)
        )
        if len(origin_rows) != len(rows) or (origin_rows < 0).any():
            raise InvalidSurvey(
                f"{len(rows)} rows have {len(origin_rows)} origins, "
                f"{int((origin_rows < 0).sum())} of them unknown. Name a unit of the source for "
                "each row."
            )
        ids = identifiers or Identifiers.of(source)
        units, records, slots = records_in(rows, self.schema, self.columns)
        everything = {self.schema.unit: units, **records}
        fresh = {
            name: ids.fresh(name, len(of.unit), round=round) for name, of in everything.items()
        }
        carried = self._carried_rows(source, origin_rows, records, slots)
        tables = {}
        for entity in self.schema.entities:
            tables[entity.name] = self._table(
                entity, source.tables[entity.name], everything[entity.name], fresh, carried
            )
        table = tables[self.schema.unit]
        given = {self.schema.weight: np.broadcast_to(np.asarray(weights, float), len(rows))}
        if self.schema.base_weight is not None:
            if base_weights is None:
                lineage = np.bincount(origin_rows, minlength=len(source.unit_ids))
                base_weights = (source.base_weights.to_numpy() / np.maximum(lineage, 1))[
                    origin_rows
                ]
            given[self.schema.base_weight] = np.broadcast_to(
                np.asarray(base_weights, float), len(rows)
            )
        for name, values in given.items():
            table[name] = values
        links = Links(tables, self.schema)
        dtypes = {
            (name, column.name): source.tables[name][column.name].dtype
            for name, column in self.schema.computed
        }
        complete = recomputed(tables, self.schema, links, dtypes)
        ordered = {
            name: table[[c for c in source.tables[name].columns if c in table.columns]]
            for name, table in complete.items()
        }
        return Survey(ordered, self.schema)

    def _table(
        self,
        entity: Entity,
        source: pd.DataFrame,
        records: Records,
        fresh: Mapping[str, npt.NDArray[Any]],
        carried: Mapping[str, Positions],
    ) -> pd.DataFrame:
        """Table of one entity without its weights, derived and external columns."""
        content: dict[str, Any] = {}
        for column in entity.columns:
            name, dtype = f"{entity.name}.{column.name}", source[column.name].dtype
            if column.kind == "id":
                content[column.name] = as_dtype(fresh[entity.name], dtype, name)
            elif column.kind == "link":
                to = str(column.to)
                rows = records.unit if to == self.schema.unit else records.links[column.name]
                content[column.name] = as_dtype(fresh[to][rows], dtype, name, rows < 0)
            elif column.kind in ("structural", "input"):
                cells = records.cells[column.name]
                content[column.name] = stored_values(cells, column, dtype, name)
            elif column.kind == "carried":
                rows = carried[entity.name]
                values = source[column.name].to_numpy(dtype=object)[rows]
                missing = (rows < 0) | np.asarray(pd.isna(values))
                content[column.name] = as_dtype(values, dtype, name, missing)
        return pd.DataFrame(content)

    def _carried_rows(
        self,
        source: Survey,
        origin_rows: Positions,
        records: Mapping[str, Records],
        slots: Mapping[str, Positions],
    ) -> dict[str, Positions]:
        """Row of the source's table that each new record takes its carried columns from."""
        found = {self.schema.unit: origin_rows}
        wanted = [entity.name for entity in self.schema.children if entity.of_kind("carried")]
        if not wanted:
            return found
        _, of_source = records_of(source)
        source_slots = slots_of(of_source, self.schema)
        for name in wanted:
            width = 1 + max(source_slots[name].max(initial=0), slots[name].max(initial=0))
            row_at = np.full((len(source.unit_ids), width), -1, dtype=np.intp)
            row_at[of_source[name].unit, source_slots[name]] = np.arange(len(source_slots[name]))
            found[name] = row_at[origin_rows[records[name].unit], slots[name]]
        return found

    # --- Checks and files -------------------------------------------------------------------------

    def _check_schema(self, survey: Survey) -> None:
        if survey.schema is not self.schema and survey.schema.hash != self.schema.hash:
            raise InvalidSurvey(
                "the survey has another schema than the codec was fitted to. Fit one to it."
            )

    def _check_columns(self, rows: pd.DataFrame) -> None:
        names = {column.name for column in self.columns}
        found = set(rows.columns)
        if found != names or len(rows.columns) != len(names):
            absent, stray = sorted(names - found), sorted(map(str, found - names))
            raise InvalidSurvey(
                f"the rows lack {absent[:3]} and have the unknown columns {stray[:3]}. Give "
                "exactly the columns of the codec."
            )

    def to_json(self) -> dict[str, Any]:
        """The codec as dictionaries and lists, for `io.write_json`."""
        return {
            "format": FORMAT,
            "schema": self.schema.to_json(),
            "n_slots": dict(self.n_slots),
            "n_too_large": self.n_too_large,
            "weight_too_large": self.weight_too_large,
        }

    @classmethod
    def from_json(cls, content: Any) -> Codec:
        """Codec from what `to_json` gave.

        Raises:
            InvalidSchema: If it is of another format.
        """
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise InvalidSchema(f"this is no codec that is understood here ({FORMAT} is).")
        return cls(
            schema=Schema.from_json(content["schema"]),
            n_slots={name: int(number) for name, number in content["n_slots"].items()},
            n_too_large=int(content["n_too_large"]),
            weight_too_large=float(content["weight_too_large"]),
        )
