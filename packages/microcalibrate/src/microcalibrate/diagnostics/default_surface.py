"""A first reporting surface for any survey, chosen from its columns by rules that are stated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from microcalibrate.columns import Text
from microcalibrate.diagnostics.frame import Frame, Vector
from microcalibrate.diagnostics.surface import Metric, Slice, Surface
from microcalibrate.errors import InvalidExpression

N_METRICS = 10
AMOUNT_LEVELS = 20
"""A numeric column with more different values than this is an amount."""
MOST_CATEGORIES = 20
MOST_REGIONS = 100

AGE_EDGES = (16.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0)
INCOME_NAMES = (
    "household_net_income", "equivalised_income", "net_income", "disposable_income",
    "household_income", "total_income", "gross_income", "income", "agi", "earnings", "wages",
)  # fmt: skip
REGION_NAMES = ("region", "state", "state_code", "state_fips", "province", "nation", "country")
AGE_NAMES = ("age", "age_head", "head_age", "age_years")
CATEGORY_NAMES = (
    "tenure", "tenure_type", "filing_status", "household_type", "family_type", "marital_status",
    "employment_status", "sex", "gender", "race", "education",
)  # fmt: skip
_NOT_AMOUNTS = re.compile(r"(^|_)(id|ids|weight|weights|wgt|year|fips|code|age)(_|$)|^_mc_|^age")


@dataclass(frozen=True, eq=False)
class _Found:
    entity: str
    name: str
    values: Vector | Text

    @cached_property
    def n_levels(self) -> int:
        if isinstance(self.values, Text):
            return len(self.values.labels)
        return len(np.unique(self.values[~np.isnan(self.values)]))


def default_surface(
    frame: Frame, weights: Vector, leave_out: frozenset[str] = frozenset()
) -> Surface:
    """Up to ten metrics in the cells of up to four slices.

    The metrics are the number of rows of each entity and then, of the numeric columns without
    missing values that have more than 20 different values, those with the largest weighted
    absolute totals (identifiers, links, weights, ages, codes and years are no amounts). The slices
    are: deciles of the first income found (`net_income`, `income`, `agi`, …, else the largest
    amount), the first region (`region`, `state`, …), bands of the first age, and the first further
    category (`tenure`, `filing_status`, …, else the first column with 2 to 20 different values).

    Args:
        frame: The tables.
        weights: Weight of each unit.
        leave_out: Names of columns not to look at, such as that of the weight.

    Returns:
        The surface.
    """
    found = _columns(frame, leave_out)
    amounts = [column for column in found if _is_amount(column)]
    sizes = {}
    for column in amounts:
        assert not isinstance(column.values, Text)
        of_rows = weights[frame.rows_of(column.entity, frame.unit)]
        sizes[column] = float(np.abs(of_rows * column.values).sum())
    amounts.sort(key=lambda column: -sizes[column])

    slices = []
    taken: set[_Found] = set()
    income = _first(amounts, INCOME_NAMES) or (amounts[0] if amounts else None)
    if income is not None:
        slices.append(Slice(f"{income.name} decile", income.name, income.entity, quantiles=10))
    few = [column for column in found if 2 <= column.n_levels <= MOST_REGIONS]
    region = _first(few, REGION_NAMES)
    if region is not None:
        taken.add(region)
        slices.append(Slice(region.name, region.name, region.entity))
    age = _first([c for c in found if not isinstance(c.values, Text)], AGE_NAMES)
    if age is not None:
        taken.add(age)
        slices.append(Slice(f"{age.name} band", age.name, age.entity, edges=AGE_EDGES))
    rest = [c for c in few if c.n_levels <= MOST_CATEGORIES and c not in taken and c != income]
    category = _first(rest, CATEGORY_NAMES) or next(
        (c for c in rest if isinstance(c.values, Text)), rest[0] if rest else None
    )
    if category is not None:
        slices.append(Slice(category.name, category.name, category.entity))

    # The unit comes first; an entity below it is counted where something of it is looked at.
    looked_at = {part.entity for part in slices} | {column.entity for column in amounts}
    entities = [frame.unit, *(e for e in frame.tables if e != frame.unit and e in looked_at)]
    metrics = [Metric(f"{entity} count", "1", entity) for entity in entities]
    names = {metric.name for metric in metrics}
    for column in amounts[: N_METRICS - len(metrics)]:
        name = column.name if column.name not in names else f"{column.name} of {column.entity}"
        names.add(name)
        metrics.append(Metric(name, column.name, column.entity))
    possible = [
        part
        for part in slices
        if any(frame.is_within(str(m.entity), str(part.entity)) for m in metrics)
    ]
    return Surface(tuple(metrics[:N_METRICS]), tuple(possible))


def _columns(frame: Frame, leave_out: frozenset[str]) -> list[_Found]:
    """Columns that can be read, the unit's first, without identifiers and links."""
    found = []
    for entity in [frame.unit, *(e for e in frame.tables if e != frame.unit)]:
        links = set(frame.links.get(entity, {}).values()) | {frame.ids.get(entity)}
        columns = frame.columns(entity)
        for name in columns.names:
            if name in links or name in leave_out or name.startswith("_mc_"):
                continue
            try:
                values = columns[name]
            except InvalidExpression:
                # Dates and mixed columns are nothing that a surface can be made of.
                continue
            if not isinstance(values, Text):
                values = values.astype(np.float64)
            found.append(_Found(entity, name, values))
    return found


def _is_amount(column: _Found) -> bool:
    if isinstance(column.values, Text) or _NOT_AMOUNTS.search(column.name.lower()):
        return False
    return bool(np.isfinite(column.values).all()) and column.n_levels > AMOUNT_LEVELS


def _first(columns: list[_Found], names: tuple[str, ...]) -> _Found | None:
    for name in names:
        for column in columns:
            if column.name.lower() == name:
                return column
    return None
