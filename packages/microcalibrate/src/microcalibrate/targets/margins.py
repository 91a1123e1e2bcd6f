"""Categorical margins as declared targets: from a formula, a dictionary, or a long table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import Columns, Table
from microcalibrate.errors import InvalidOption, InvalidTargetTable, NoSupport
from microcalibrate.targets.formula import Term, shown_term, terms_of
from microcalibrate.targets.levels import Cells, cells_of, shown_level, target_rows

if TYPE_CHECKING:
    import pandas as pd

Vector: TypeAlias = npt.NDArray[np.float64]
Margin: TypeAlias = dict[tuple[str, ...], float]
"""Total of each cell, by its levels as they are shown."""

SAME_SUM = 1e-6
"""Sums of margins that differ by no more than this, relative, were meant to be the same."""
LONG_COLUMNS = ("variable", "level", "total")


def margins(
    data: Table,
    margins: str | Mapping[Any, Mapping[Any, float]] | Any,
    *,
    totals: Any = None,
    total: float | None = None,
    variable: str | None = None,
    weight: str | None = None,
    rescale: bool = False,
) -> pd.DataFrame:
    """Declared targets for the margins of a population, which all forms of writing them share.

    Args:
        data: One row per record: pandas or polars DataFrame, or a mapping.
        margins: A formula (`"~ sex + age:region"`, in which `a * b` is short for `a + b + a:b`);
            or a dictionary, `{"sex": {"f": 51.0, "m": 49.0}, ("age", "region"): {("young",
            "north"): 20.0, …}}`; or a long table with the columns `variable`, `level` and `total`,
            in which a cross is written `age:region` and `young:north`.
        totals: For a formula, the totals as a dictionary or a long table.
        total: Size of the population where the margins are fractions of it, which sum to 1.
        variable: Column that is added up; None counts records.
        weight: For a formula, column with the weights of a larger survey that lends its totals.
            Without totals and weights the values are blank, to be filled in.
        rescale: Whether margins that sum to something else than the first are scaled to it.

    Returns:
        One row per cell with `name`, `value`, `variable`, `aggregate`, `filter` and `family`, for
        `Calibration.from_table`; the family is the margin.

    Raises:
        InvalidOption: If the formula cannot be read, names a column that is not there, or options
            contradict each other.
        InvalidTargetTable: If a total is missing, or margins contradict each other: the message
            names them, with the difference.
        NoSupport: If a cell has a total and no record.

    Examples:
        >>> people = {"sex": np.array(["f", "m", "f"]), "old": np.array([1, 0, 0])}
        >>> known = {"sex": {"f": 0.51, "m": 0.49}, "old": {0: 0.8, 1: 0.2}}
        >>> margins(people, "~ sex + old", totals=known, total=1_000)[["name", "value", "filter"]]
            name  value      filter
        0  sex/f  510.0  sex == 'f'
        1  sex/m  490.0  sex == 'm'
        2  old/0  800.0    old == 0
        3  old/1  200.0    old == 1
    """
    import pandas as pd

    columns = Columns(data)
    terms, given = _terms_and_totals(margins, totals, weight)
    cells = {term: cells_of(columns, term, variable) for term in terms}
    for term, found in cells.items():
        _check_complete(term, found)
    if given is not None:
        values = {term: _values_of(cells[term], given[term], term) for term in terms}
        values = _as_totals(values, total)
        if rescale:
            first = next(iter(values.values())).sum()
            values = {term: each * (first / each.sum()) for term, each in values.items()}
        _refuse_contradictions(cells, values)
    elif total is not None or rescale:
        raise InvalidOption(
            f"{'total' if total is not None else 'rescale'} is about totals that are given, and "
            "there are none: give `totals`, or leave it out."
        )
    else:
        blank = {term: np.full(len(found.levels), np.nan) for term, found in cells.items()}
        values = blank if weight is None else {t: c.totals(weight) for t, c in cells.items()}
    start = "" if variable is None else f"{variable}/"
    rows = [target_rows(cells[term], values[term], start + shown_term(term)) for term in terms]
    return pd.concat(rows, ignore_index=True)


# --- What is given --------------------------------------------------------------------------------


def _terms_and_totals(
    margins: Any, totals: Any, weight: str | None
) -> tuple[tuple[Term, ...], dict[Term, Margin] | None]:
    """The margins, and their totals where there are any."""
    if not isinstance(margins, str):
        if totals is not None or weight is not None:
            raise InvalidOption(
                f"margins holds totals already, so that {'totals' if weight is None else 'weight'} "
                "has nothing to say. Give a formula, or leave it out."
            )
        given = _read_totals(margins)
        return tuple(given), given
    terms = terms_of(margins)
    if totals is None:
        return terms, None
    if weight is not None:
        raise InvalidOption("give totals, or a weight to take them from, and not both.")
    read = _read_totals(totals)
    # A cross is the same in whatever order its columns stand.
    by_columns = {frozenset(term): term for term in read}
    unknown = [term for term in read if frozenset(term) not in set(map(frozenset, terms))]
    missing = [term for term in terms if frozenset(term) not in by_columns]
    if unknown or missing:
        raise InvalidTargetTable(
            f"the totals have the margin {shown_term(unknown[0])!r}, which the formula does not "
            "ask for. Add it to the formula, or leave it out."
            if unknown
            else f"there are no totals for the margin {shown_term(missing[0])!r}. Add them, or "
            "leave it out of the formula."
        )
    return terms, {
        term: _reordered(read[by_columns[frozenset(term)]], by_columns[frozenset(term)], term)
        for term in terms
    }


def _reordered(margin: Margin, given: Term, wanted: Term) -> Margin:
    places = [given.index(name) for name in wanted]
    return {tuple(level[place] for place in places): value for level, value in margin.items()}


def _read_totals(totals: Any) -> dict[Term, Margin]:
    """Totals of every margin, from a dictionary or a long table.

    Raises:
        InvalidTargetTable: If it is neither, or a total stands twice or is no finite number.
    """
    if isinstance(totals, Mapping):
        cells = [
            (_columns_of(names), level, value)
            for names, margin in totals.items()
            for level, value in _items(names, margin)
        ]
    elif all(name in getattr(totals, "columns", ()) for name in LONG_COLUMNS):
        listed = (list(totals[name]) for name in LONG_COLUMNS)
        cells = [
            (_columns_of(names), level, value) for names, level, value in zip(*listed, strict=True)
        ]
    else:
        raise InvalidTargetTable(
            f"margins is a {type(totals).__name__}: give a formula, a dictionary of margins, or a "
            f"table with the columns {', '.join(LONG_COLUMNS)}."
        )
    found: dict[Term, Margin] = {}
    for term, level, value in cells:
        margin = found.setdefault(term, {})
        key = _level_of(term, level)
        where = f"margin {shown_term(term)!r}, level {':'.join(key)!r}"
        if key in margin:
            raise InvalidTargetTable(f"{where} stands twice. Leave one of them out.")
        try:
            margin[key] = float(value)
        except (TypeError, ValueError) as error:
            raise InvalidTargetTable(f"{where}: {value!r} is no number.") from error
        if not np.isfinite(margin[key]) or margin[key] < 0:
            raise InvalidTargetTable(
                f"{where}: its total is {value!r}, and must be finite and not negative."
            )
    if not found:
        raise InvalidTargetTable("there are no margins: give one at least.")
    return found


def _items(names: Any, margin: Any) -> Any:
    if not hasattr(margin, "items"):
        raise InvalidTargetTable(
            f"margin {names!r} is a {type(margin).__name__}: give a dictionary of level to total."
        )
    return margin.items()


def _columns_of(names: Any) -> Term:
    if isinstance(names, str):
        return next(iter(terms_of(names))) if ":" in names and "`" not in names else (names,)
    return tuple(map(str, names))


def _level_of(term: Term, level: Any) -> tuple[str, ...]:
    if len(term) == 1 and not isinstance(level, tuple):
        return (shown_level(level),)
    parts = level.split(":") if isinstance(level, str) else list(level)
    if len(parts) != len(term):
        raise InvalidTargetTable(
            f"margin {shown_term(term)!r}: its level {level!r} has {len(parts)} parts for "
            f"{len(term)} columns. Give one value per column; write values that hold a colon as a "
            "tuple."
        )
    return tuple(shown_level(part.strip() if isinstance(part, str) else part) for part in parts)


# --- Checks ---------------------------------------------------------------------------------------


def _check_complete(term: Term, cells: Cells) -> None:
    if cells.n_missing:
        raise InvalidTargetTable(
            f"margin {shown_term(term)!r}: {cells.n_missing:,} records have no value there, so "
            "that they belong to no level. Fill them in, give them a level of their own, or drop "
            "them."
        )


def _values_of(cells: Cells, given: Margin, term: Term) -> Vector:
    """Total of each cell of the data, in their order."""
    levels = [tuple(map(shown_level, level)) for level in cells.levels]
    where = f"margin {shown_term(term)!r}"
    absent = [level for level in given if level not in set(levels) and given[level] > 0]
    if absent:
        raise NoSupport(
            f"{where}: no record contributes to the level {':'.join(absent[0])!r}, whose total is "
            f"{given[absent[0]]:,.10g}. Collapse it with another level, in the data and in the "
            "totals, or mend its name."
        )
    missing = [level for level in levels if level not in given]
    if missing:
        count = int(np.count_nonzero(cells.cell == levels.index(missing[0])))
        raise InvalidTargetTable(
            f"{where}: {count:,} records have the level {':'.join(missing[0])!r}, which has no "
            "total. Add it, or collapse the level with another in the data."
        )
    return np.array([given[level] for level in levels])


def _as_totals(values: dict[Term, Vector], total: float | None) -> dict[Term, Vector]:
    if total is None:
        return values
    for term, fractions in values.items():
        if abs(fractions.sum() - 1) > SAME_SUM:
            raise InvalidTargetTable(
                f"margin {shown_term(term)!r} is given as fractions of total={total:g}, and they "
                f"sum to {fractions.sum():.9g}, not to 1. Mend them, or leave `total` out for "
                "totals."
            )
    return {term: fractions * total for term, fractions in values.items()}


def _refuse_contradictions(cells: Mapping[Term, Cells], values: Mapping[Term, Vector]) -> None:
    """Raise `InvalidTargetTable` for two margins that differ where both say something.

    What both say is the total of every combination of the columns that they share; of margins
    that share none, it is the total of all.
    """
    for first, second in combinations(cells, 2):
        shared = [name for name in first if name in second]
        one, other = (_collapsed(cells[each], values[each], shared) for each in (first, second))
        apart = {level: one.get(level, 0.0) - other.get(level, 0.0) for level in {**one, **other}}
        worst = max(apart, key=lambda level: abs(apart[level]))
        size = max(abs(one.get(worst, 0.0)), abs(other.get(worst, 0.0)))
        if abs(apart[worst]) > SAME_SUM * size:
            of = f" for {':'.join(shared)} {':'.join(worst)!r}" if shared else ""
            raise InvalidTargetTable(
                f"the margins {shown_term(first)!r} and {shown_term(second)!r} contradict each "
                f"other{of}: they sum to {one.get(worst, 0.0):,.10g} and "
                f"{other.get(worst, 0.0):,.10g}, a difference of {apart[worst]:,.10g}. Mend one, "
                "or collapse levels"
                + (", or set rescale=True to scale all to the first." if not shared else ".")
            )


def _collapsed(cells: Cells, values: Vector, onto: Sequence[str]) -> dict[tuple[str, ...], float]:
    places = [cells.by.index(name) for name in onto]
    sums: dict[tuple[str, ...], float] = {}
    for level, value in zip(cells.levels, values.tolist(), strict=True):
        key = tuple(shown_level(level[place]) for place in places)
        sums[key] = sums.get(key, 0.0) + value
    return sums
