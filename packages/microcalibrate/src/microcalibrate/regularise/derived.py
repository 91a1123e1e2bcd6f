"""Derived and external columns, computed anew from what they follow from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.columns import Columns, Text
from microcalibrate.errors import InvalidSurvey

# Arithmetic with the same parser and checks as filters.
from microcalibrate.expressions import calculate, evaluate
from microcalibrate.regularise.rules import (
    Aggregate,
    Calculated,
    Expression,
    Inherited,
    Lookup,
    Rule,
)
from microcalibrate.regularise.values import as_dtype

if TYPE_CHECKING:
    from microcalibrate.regularise.linking import Links
    from microcalibrate.regularise.schema import Schema


def recomputed(
    tables: Mapping[str, pd.DataFrame],
    schema: Schema,
    links: Links,
    dtypes: Mapping[tuple[str, str], Any],
) -> dict[str, pd.DataFrame]:
    """The tables with every derived and external column computed anew.

    Args:
        tables: Table of each entity; derived and external columns may be absent.
        schema: What they hold.
        links: Which record belongs to which.
        dtypes: Type in which each computed column is stored, by entity and column.

    Returns:
        New tables with their columns in the order of the schema's; the others are shared.

    Raises:
        InvalidSurvey: If a rule gives a value that the type of its column cannot hold, or none
            for a value that is looked up.
        InvalidExpression: If an expression calculates with text.
    """
    result = {name: table.copy(deep=False) for name, table in tables.items()}
    for entity, column in schema.computed:
        assert column.rule is not None
        name = f"{entity}.{column.name}"
        values = _apply(column.rule, entity, name, result, links)
        stored = as_dtype(values, dtypes[entity, column.name], name)
        result[entity][column.name] = stored.set_axis(result[entity].index)
    return result


def _apply(
    rule: Rule, entity: str, name: str, tables: Mapping[str, pd.DataFrame], links: Links
) -> npt.NDArray[Any]:
    if isinstance(rule, Aggregate):
        return _aggregate(rule, len(tables[entity]), tables, links.positions(rule.entity, entity))
    if isinstance(rule, Expression):
        return _expression(rule, name, tables[entity])
    if isinstance(rule, Inherited):
        rows = links.positions(entity, rule.entity)
        return tables[rule.entity][rule.column].to_numpy(dtype=object)[rows]
    if isinstance(rule, Lookup):
        return _lookup(rule, name, tables[entity])
    return _calculated(rule, name, len(tables[entity]), tables)


def _aggregate(
    rule: Aggregate,
    n_records: int,
    tables: Mapping[str, pd.DataFrame],
    owner: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    columns = Columns(tables[rule.entity])
    chosen = np.ones(len(owner), dtype=np.bool_)
    if rule.where is not None:
        chosen = evaluate(rule.where, columns)
    if rule.column is None:
        return np.bincount(owner[chosen], minlength=n_records).astype(np.float64)
    numbers = columns.numbers(rule.column)
    chosen = chosen & ~np.isnan(numbers)
    of, values = owner[chosen], numbers[chosen]
    if rule.total == "sum":
        # Of no values at all, bincount gives whole numbers.
        return np.bincount(of, weights=values, minlength=n_records).astype(np.float64)
    if rule.total == "mean":
        counts = np.bincount(of, minlength=n_records)
        sums = np.bincount(of, weights=values, minlength=n_records)
        mean: npt.NDArray[np.float64] = np.full(n_records, np.nan)
        np.divide(sums, counts, out=mean, where=counts > 0)
        return mean
    is_max = rule.total == "max"
    result = np.full(n_records, -np.inf if is_max else np.inf)
    (np.maximum if is_max else np.minimum).at(result, of, values)
    return np.where(np.isinf(result), np.nan, result)


def _expression(rule: Expression, name: str, table: pd.DataFrame) -> npt.NDArray[Any]:
    value = calculate(rule.text, table)
    if isinstance(value, Text | str):
        raise InvalidSurvey(
            f"{name} is the expression {rule.text!r}, which is text. An expression gives numbers "
            "or truth values; for text, use a look-up."
        )
    return np.array(np.broadcast_to(value, (len(table),)))


def _lookup(rule: Lookup, name: str, table: pd.DataFrame) -> npt.NDArray[np.object_]:
    keys = pd.Index([key for key, _ in rule.values], dtype=object)
    results = np.array([*(value for _, value in rule.values), None], dtype=object)
    stored = table[rule.column]
    found = keys.get_indexer(pd.Index(stored.to_numpy(dtype=object), dtype=object))
    lost = (found < 0) & stored.notna().to_numpy(dtype=np.bool_)
    if lost.any():
        raise InvalidSurvey(
            f"{name} is looked up by {rule.column!r}, and the look-up has no value for "
            f"{stored[lost].iloc[0]!r}. Add it to the schema."
        )
    looked_up: npt.NDArray[np.object_] = results[found]
    return looked_up


def _calculated(
    rule: Calculated, name: str, n_records: int, tables: Mapping[str, pd.DataFrame]
) -> npt.NDArray[Any]:
    values = np.asarray(rule.function(dict(tables)))
    if values.shape != (n_records,):
        raise InvalidSurvey(
            f"{name} is calculated by {rule.name}, which gave values of shape {values.shape}; it "
            f"must give {n_records}, one for each record."
        )
    return values
