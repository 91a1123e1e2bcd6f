"""What each declared target asks for, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from microcalibrate.columns import Columns, Table
from microcalibrate.figures.plotting import percent
from microcalibrate.targets.rows import Declared, declared, is_included, read_rows


def describe_targets(
    table: Table | Iterable[Mapping[str, Any]], data: Table | None = None
) -> list[str]:
    """A plain sentence for each target, to read before calibrating to it.

    Args:
        table: Targets, as for `build_targets`. Rows whose `include` is false are left out.
        data: The records, to find out whether what is named is there; None believes it.

    Returns:
        The sentences, in the order of the table.

    Raises:
        InvalidTargetTable: If a row is not complete, or contradicts itself.

    Examples:
        >>> wanted = [
        ...     {"name": "old", "value": 1e6, "variable": "income", "filter": "age >= 65"},
        ...     {"name": "people", "value": 250, "agg": "count", "tolerance": 0},
        ...     {"name": "age", "value": 41.5, "agg": "mean", "tolerance": 0.01},
        ... ]
        >>> for sentence in describe_targets(wanted):
        ...     print(sentence)
        the total of income over records where age >= 65 shall be 1,000,000 (soft)
        the number of records shall be exactly 250
        the mean of age over all records shall be 41.5, within 1%
    """
    names = None if data is None else Columns(data).names
    rows = enumerate(read_rows(table), start=1)
    return [
        sentence_of(declared(number, cells, names))
        for number, cells in rows
        if is_included(number, cells)
    ]


def sentence_of(target: Declared) -> str:
    """The sentence for one target."""
    what = _what(target)
    value = plain_number(target.value)
    if target.tolerance == 0:
        return f"{what} shall be exactly {value}"
    if target.tolerance > 0:
        return f"{what} shall be {value}, within {_percent(target.tolerance)}"
    counts = "" if target.importance == 1 else f", importance {target.importance:g}"
    return f"{what} shall be {value} (soft{counts})"


def _what(target: Declared) -> str:
    """What a target is of, without what it shall be."""
    if target.aggregate == "share":
        what = "records" if target.variable is None else f"the total of {target.variable}"
        first, second = (
            f"the share of {what}{_where(condition)} that is where {_plain(target.filter)}"
            for condition in (target.within, target.minus)
        )
        return first if target.minus is None else f"{first}, less {second},"
    if target.aggregate == "count":
        counted = None if target.variable is None else f"{target.variable} is not zero"
        first, second = (
            f"the number of records{_where(condition, also=counted)}"
            for condition in (target.filter, target.minus)
        )
    else:
        noun = {
            "sum": f"total of {target.variable}",
            "mean": f"mean of {target.variable}",
            "ratio": f"ratio of {target.variable} to {target.denominator}",
            "quantile": f"{_quantile(target.level)} of {target.variable}",
        }[target.aggregate]
        first, second = (
            f"the {noun} over {'all ' if condition is None else ''}records{_where(condition)}"
            for condition in (target.filter, target.minus)
        )
    return first if target.minus is None else f"{first}, less {second},"


def _quantile(share: float) -> str:
    return "median" if share == 0.5 else f"{share:g} quantile"


def _where(condition: str | None, also: str | None = None) -> str:
    """Of which records, as the end of a phrase."""
    both = [each for each in (_plain(condition), also) if each]
    return f" where {' and '.join(both)}" if both else ""


def _plain(condition: str | None) -> str:
    return "" if condition is None else " ".join(condition.split())


def plain_number(value: float) -> str:
    """A number with all of its digits, as people write it.

    Examples:
        >>> plain_number(1234567.0), plain_number(0.25), plain_number(-3e20)
        ('1,234,567', '0.25', '-3e+20')
    """
    if abs(value) >= 1e15:
        return f"{value:g}"
    return f"{int(value):,}" if value == int(value) else f"{value:,.10g}"


def _percent(fraction: float) -> str:
    """Of 1%, without the digits that `percent` would add."""
    hundredth = fraction * 100
    return f"{hundredth:g}%" if hundredth >= 0.001 else percent(fraction)
