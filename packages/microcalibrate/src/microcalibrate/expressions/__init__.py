"""Filters: a small language of conditions on the columns of a table.

    `age >= 65 and state in ['CA', 'NY']`
    `10000 <= agi < 15000 and not is_filer`
    `` `household size` > 2 * `number of rooms` ``

It has comparisons (chained ones too), `and`, `or`, `not`, `in` and `not in` with a list in square
brackets, the arithmetic `+ - * /`, parentheses, numbers, quoted text, `True` and `False`. A name
is a column; a name that is no plain word stands between backticks. Everything works element by
element, arithmetic in float64, where a division by zero gives an infinity.

A comparison with a missing value (NaN, None) is False, `!=` and `not in` included, so `x == x`
selects the records where `x` is present, while `not (x > 0)` also selects those where it is
missing. A missing truth value counts as False.

Text is read by Python's own parser and then walked, node by node, against a list of what is
allowed: nothing is ever executed.
"""

from __future__ import annotations

import ast

import numpy as np

from microcalibrate.columns import Columns, Mask, Table, Value
from microcalibrate.expressions.evaluation import Evaluation
from microcalibrate.expressions.syntax import MAX_DEPTH, MAX_LENGTH, parse

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "calculate", "columns_used", "evaluate"]


def evaluate(expression: str, columns: Table | Columns) -> Mask:
    """Records that a filter selects.

    Args:
        expression: The filter, for example `"age >= 65 and state in ['CA', 'NY']"`.
        columns: The table, `n_records` rows: a pandas or polars DataFrame, a mapping from column
            names to arrays, or `Columns` of one, which saves time when many filters follow.

    Returns:
        True where the filter holds, shape `(n_records,)`.

    Raises:
        InvalidExpression: If the text is not of the language, names an unknown column, compares
            text with numbers, or is no condition.

    Examples:
        >>> people = {"age": np.array([70, 30, 68]), "state": np.array(["CA", "CA", "TX"])}
        >>> evaluate("age >= 65 and state == 'CA'", people)
        array([ True, False, False])
    """
    table = columns if isinstance(columns, Columns) else Columns(columns)
    parsed = parse(expression)
    mask = Evaluation(parsed, table).condition(parsed.body)
    return np.array(np.broadcast_to(mask, (table.n_records,)))


def calculate(expression: str, columns: Table | Columns) -> Value:
    """What an expression comes to: numbers, truth values or text.

    Args:
        expression: Of the same language, for example `"wages + pensions"`.
        columns: As in `evaluate`.

    Returns:
        Shape `(n_records,)`; one value where no column is read.

    Raises:
        InvalidExpression: As in `evaluate`, but that it need not be a condition.

    Examples:
        >>> calculate("wages / 2 + 1", {"wages": np.array([10.0, 20.0])})
        array([ 6., 11.])
    """
    table = columns if isinstance(columns, Columns) else Columns(columns)
    parsed = parse(expression)
    return Evaluation(parsed, table).value(parsed.body)


def columns_used(expression: str) -> set[str]:
    """Names of the columns that a filter reads.

    Args:
        expression: The filter.

    Returns:
        The names, without backticks.

    Raises:
        InvalidExpression: If the text is not of the language.

    Examples:
        >>> sorted(columns_used("10000 <= agi < 15000 and `filing status` != 'joint'"))
        ['agi', 'filing status']
    """
    parsed = parse(expression)
    return {parsed.name(node) for node in ast.walk(parsed.body) if isinstance(node, ast.Name)}
