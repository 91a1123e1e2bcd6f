"""A reporting surface: what is reported, of which entity, in which cells.

A statistic is a metric in a cell of a slice. Slices are declared at an entity, and the rows of a
metric are added up to the sampling unit *within the cell*: two adults of 30 in one household put
it into the age band 25–34 with both of their incomes, and never into the band 55–64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import numbers
from microcalibrate.columns import Columns, Text, did_you_mean
from microcalibrate.diagnostics.cells import Cells, band_cells, category_cells, quantile_cells
from microcalibrate.diagnostics.frame import Frame, Vector
from microcalibrate.errors import InvalidExpression, InvalidSurface
from microcalibrate.expressions import calculate, evaluate
from microcalibrate.io import read_json

KINDS = ("total", "mean", "ratio")
OVERALL = "all"

Values: TypeAlias = "str | Callable[[dict[str, Any]], Any]"
"""An expression of the package's own grammar, or a function of the tables (a user's model)."""


@dataclass(frozen=True)
class Metric:
    """One amount that is reported.

    Args:
        name: What it is called in tables and figures.
        value: An expression in the columns of the entity (`"wages + pensions"`, `"age >= 65"`,
            `"1"` counts rows), or a function of the tables that returns one number per row.
        entity: Whose rows it is of; None is the unit.
        kind: "total"; "mean" over the rows; or "ratio" of the totals of value and denominator.
        denominator: Expression or function; for a ratio, and only there.
        where: Filter of rows that count; None is all. Values outside of it may be missing.

    Raises:
        InvalidSurface: If the kind is unknown, or the denominator does not go with it.
    """

    name: str
    value: Values
    entity: str | None = None
    kind: str = "total"
    denominator: Values | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.kind not in KINDS:
            raise InvalidSurface(
                f"metric {self.name!r} is of kind {self.kind!r}."
                f"{did_you_mean(str(self.kind), KINDS).replace('columns', 'kinds')}"
            )
        if (self.kind == "ratio") != (self.denominator is not None):
            raise InvalidSurface(
                f"metric {self.name!r} is a {self.kind} "
                + (
                    "and needs a `denominator`."
                    if self.denominator is None
                    else "and takes no `denominator`: make it a ratio, or leave that out."
                )
            )

    def numerator(self, frame: Frame) -> Vector:
        """The value of each row, 0 where `where` does not hold.

        Raises:
            InvalidExpression: If an expression is not of the language or names no column.
            InvalidSurface: If a value is missing or infinite, or not one per row.
        """
        return self.checked(frame, self._read(frame, self.value))

    def denominators(self, frame: Frame) -> Vector | None:
        """What each row adds to the denominator of a mean or ratio; None for a total.

        Raises:
            InvalidExpression: If an expression is not of the language or names no column.
            InvalidSurface: If a value is missing or infinite, or not one per row.
        """
        if self.kind == "total":
            return None
        if self.denominator is not None:
            return self.checked(frame, self._read(frame, self.denominator))
        return self.checked(frame, np.ones(len(frame.tables[self.entity_in(frame)])))

    def entity_in(self, frame: Frame) -> str:
        """The entity whose rows it is of."""
        return frame.unit if self.entity is None else self.entity

    def checked(self, frame: Frame, values: Any) -> Vector:
        """Values of the rows as finite float64, 0 where `where` does not hold.

        Raises:
            InvalidSurface: If a value is missing or infinite, or there is not one per row.
        """
        entity = self.entity_in(frame)
        n_rows = len(frame.tables[entity])
        try:
            array = numbers(values.to_numpy() if hasattr(values, "to_numpy") else values)
        except (TypeError, ValueError) as error:
            raise InvalidSurface(f"metric {self.name!r} has no numbers: {error}.") from error
        if array.shape != (n_rows,):
            raise InvalidSurface(
                f"metric {self.name!r} has shape {array.shape}, and {entity!r} has {n_rows} rows. "
                "It must have one value per row."
            )
        if self.where is not None:
            counts = evaluate(self.where, frame.columns(entity))
            array = np.where(counts, array, 0.0)
        bad = ~np.isfinite(array)
        if bad.any():
            raise InvalidSurface(
                f"metric {self.name!r} is missing or infinite in {int(bad.sum())} of {n_rows} rows "
                f"of {entity!r}; the first is row {int(np.flatnonzero(bad)[0])}. Fill them in, or "
                "say with `where` which rows count, for example where='income == income'."
            )
        return array

    def _read(self, frame: Frame, value: Values) -> Any:
        entity = self.entity_in(frame)
        columns = frame.columns(entity)
        if not isinstance(value, str):
            # Copies are lazy in pandas: a model that writes into its tables leaves these alone.
            return value({name: table.copy(deep=False) for name, table in frame.tables.items()})
        return row_values(f"metric {self.name!r}", value, columns, len(frame.tables[entity]))


@dataclass(frozen=True)
class Slice:
    """One way to divide the rows of an entity into cells.

    Args:
        name: What it is called.
        by: A column of categories, or, with edges or quantiles, an expression that gives numbers.
        entity: Whose rows it divides; None is the unit.
        edges: Ascending bounds of bands.
        quantiles: Number of weighted quantile groups, at least 2.

    Raises:
        InvalidSurface: If both edges and quantiles are given, or either is of no use.
    """

    name: str
    by: str
    entity: str | None = None
    edges: tuple[float, ...] | None = None
    quantiles: int | None = None

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.edges is not None:
            edges = tuple(map(float, self.edges))
            if not edges or not all(np.isfinite(edges)) or list(edges) != sorted(set(edges)):
                raise InvalidSurface(
                    f"slice {self.name!r} has edges {self.edges}: they must be finite and ascend."
                )
            object.__setattr__(self, "edges", edges)
            if self.quantiles is not None:
                raise InvalidSurface(f"slice {self.name!r} has edges and quantiles. Choose one.")
        if self.quantiles is not None and (
            isinstance(self.quantiles, bool)
            or not isinstance(self.quantiles, int)
            or self.quantiles < 2
        ):
            raise InvalidSurface(
                f"slice {self.name!r}: quantiles={self.quantiles!r} must be a whole number from 2."
            )

    def entity_in(self, frame: Frame) -> str:
        """The entity whose rows it divides."""
        return frame.unit if self.entity is None else self.entity

    def cells(self, frame: Frame, weights: Vector) -> Cells:
        """The cell of each row of the entity.

        Raises:
            InvalidExpression: If the expression is not of the language or names no column.
            InvalidSurface: If numbers are needed and it gives none.
        """
        entity = self.entity_in(frame)
        columns = frame.columns(entity)
        n_rows = len(frame.tables[entity])
        if self.edges is None and self.quantiles is None:
            return category_cells(_column_or_values(f"slice {self.name!r}", self.by, columns))
        values = row_values(f"slice {self.name!r}", self.by, columns, n_rows)
        if self.edges is not None:
            return band_cells(values, self.edges)
        of_rows = weights[frame.rows_of(entity, frame.unit)]
        return quantile_cells(values, of_rows, int(self.quantiles or 2))


@dataclass(frozen=True)
class Surface:
    """Metrics in the cells of slices: the statistics that people read.

    Each metric is reported overall, and in the cells of each slice whose entity contains the rows
    of the metric: incomes of persons by age band or by region of the household, incomes of
    households by region but not by a person's age.

    Args:
        metrics: At least one.
        slices: Any number.

    Raises:
        InvalidSurface: If there is no metric, or a name occurs twice.

    Examples:
        >>> surface = Surface.from_mapping({
        ...     "metrics": ["wages", {"name": "aged", "value": "age >= 65"}],
        ...     "slices": [{"name": "age band", "by": "age", "edges": [25, 65]}],
        ... })
        >>> [metric.name for metric in surface.metrics]
        ['wages', 'aged']
    """

    metrics: tuple[Metric, ...]
    slices: tuple[Slice, ...] = ()

    def __post_init__(self) -> None:
        """Check the names."""
        object.__setattr__(self, "metrics", tuple(self.metrics))
        object.__setattr__(self, "slices", tuple(self.slices))
        if not self.metrics:
            raise InvalidSurface("a surface needs at least one metric.")
        for what, names in (
            ("metric", [metric.name for metric in self.metrics]),
            ("slice", [part.name for part in self.slices] + [OVERALL]),
        ):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise InvalidSurface(
                    f"there is more than one {what} {twice[0]!r}. Give each a name of its own"
                    + (f"; {OVERALL!r} stands for all records." if twice[0] == OVERALL else ".")
                )

    def metric(self, name: str) -> Metric:
        """The metric of that name.

        Raises:
            InvalidSurface: If there is none.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        near = did_you_mean(name, [metric.name for metric in self.metrics])
        raise InvalidSurface(f"there is no metric {name!r}.{near.replace('columns', 'metrics')}")

    def check(self, frame: Frame) -> tuple[tuple[str, str], ...]:
        """Pairs of metric and slice that cannot be reported together.

        Raises:
            InvalidSurface: If an entity does not exist, or a slice goes with no metric at all.
        """
        items: tuple[Metric | Slice, ...] = (*self.metrics, *self.slices)
        for item in items:
            frame.check_entity(item.entity_in(frame))
        left_out = []
        for part in self.slices:
            entity = part.entity_in(frame)
            apart = [
                m.name for m in self.metrics if not frame.is_within(m.entity_in(frame), entity)
            ]
            if len(apart) == len(self.metrics):
                raise InvalidSurface(
                    f"slice {part.name!r} divides {entity!r}, and no metric is of rows within it. "
                    f"Add a metric of {entity!r}, or declare the slice at the metrics' entity."
                )
            left_out += [(name, part.name) for name in apart]
        return tuple(left_out)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Surface:
        """A surface from plain values, as a JSON file holds them.

        Args:
            mapping: `metrics`, a list of expressions or of mappings with the fields of `Metric`,
                and `slices`, a list of columns or of mappings with the fields of `Slice`.

        Raises:
            InvalidSurface: If a field is unknown or missing.
        """
        if not isinstance(mapping, Mapping):
            raise InvalidSurface("a surface is a mapping with `metrics` and `slices`.")
        _check_names("a surface", mapping, ("metrics", "slices"))
        listed = {key: mapping.get(key, []) for key in ("metrics", "slices")}
        for key, items in listed.items():
            if not isinstance(items, list | tuple):
                raise InvalidSurface(f"`{key}` of a surface must be a list.")
        return cls(
            tuple(_built(Metric, "value", item) for item in listed["metrics"]),
            tuple(_built(Slice, "by", item) for item in listed["slices"]),
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Surface:
        """A surface from a JSON file; see `from_mapping`.

        Raises:
            UnreadableFile: If the file cannot be read.
            InvalidSurface: If it does not hold a surface.
        """
        try:
            return cls.from_mapping(read_json(path))
        except InvalidSurface as error:
            raise InvalidSurface(f"{path}: {error}") from error

    def as_mapping(self) -> dict[str, list[dict[str, Any]]]:
        """The surface in plain values; a function is given by its name."""
        return {
            "metrics": [_plain(metric) for metric in self.metrics],
            "slices": [_plain(part) for part in self.slices],
        }


def row_values(what: str, expression: str, columns: Columns, n_rows: int) -> Vector:
    """Numbers that an expression gives for each row.

    Raises:
        InvalidExpression: If it is not of the language, names no column, or gives text.
    """
    values = _column_or_values(what, expression, columns)
    if isinstance(values, Text):
        raise InvalidExpression(f"{what}: {expression!r} is text, and numbers are needed.")
    return np.array(np.broadcast_to(values.astype(np.float64), (n_rows,)))


def _column_or_values(what: str, text: str, columns: Columns) -> NDArray[Any] | Text:
    if text in columns.names:
        # A column whose name is no plain word needs no backticks where it stands alone.
        return columns[text]
    try:
        # The grammar is that of filters; only `evaluate` insists that the whole is a condition.
        value = calculate(text, columns)
    except InvalidExpression as error:
        raise InvalidExpression(f"{what}: {error}") from error
    if isinstance(value, str):
        raise InvalidExpression(f"{what}: {text!r} is a text, and a column is needed.")
    return value if isinstance(value, Text) else np.asarray(value)


def _built(kind: type[Any], shorthand: str, item: Any) -> Any:
    what = f"a {kind.__name__.lower()}"
    if isinstance(item, str):
        return kind(name=item, **{shorthand: item})
    if not isinstance(item, Mapping):
        raise InvalidSurface(f"{what} is an expression or a mapping, not {item!r}.")
    _check_names(what, item, [field.name for field in fields(kind)])
    values = {
        key: tuple(value) if key == "edges" and value else value for key, value in item.items()
    }
    values.setdefault("name", values.get(shorthand))
    for key in ("name", shorthand):
        if not isinstance(values.get(key), str):
            raise InvalidSurface(f"{what} {dict(item)} needs a text `{key}`.")
    return kind(**values)


def _check_names(what: str, given: Mapping[str, Any], known: Any) -> None:
    for key in given:
        if key not in known:
            near = did_you_mean(str(key), known).replace("columns", "fields")
            raise InvalidSurface(f"{what} has no field {key!r}.{near}")


def _plain(item: Metric | Slice) -> dict[str, Any]:
    def text(value: Any) -> Any:
        if callable(value):
            return getattr(value, "__name__", type(value).__name__)
        return list(value) if isinstance(value, tuple) else value

    return {key: text(value) for key, value in asdict(item).items() if value is not None}
