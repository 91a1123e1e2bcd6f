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
import operator
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import Columns, Mask, Table, Text, Value, compare
from microcalibrate.errors import InvalidExpression

MAX_LENGTH = 10_000
"""Longest filter, in characters."""

MAX_DEPTH = 100
"""Deepest nesting of a filter; a sum of 100 terms is that deep."""


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
    parsed = _parse(expression)
    mask = _Evaluation(parsed, table).condition(parsed.body)
    return np.array(np.broadcast_to(mask, (table.n_records,)))


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
    parsed = _parse(expression)
    return {parsed.name(node) for node in ast.walk(parsed.body) if isinstance(node, ast.Name)}


# --- From text to a tree of allowed nodes ---------------------------------------------------------

_PIECES = re.compile(
    r"""(?P<quoted> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
      | ` (?P<name> [^`]* ) `
      | (?P<comment> \# )
      | (?P<line_end> [\r\n]+ )""",
    re.VERBOSE | re.DOTALL,
)

_ALLOWED: tuple[type[ast.AST], ...] = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Load,
)  # fmt: skip

_WAY_OUT: dict[type[ast.AST], str] = {
    ast.BitAnd: "`&` is not used here: write `and`.",
    ast.BitOr: "`|` is not used here: write `or`.",
    ast.Invert: "`~` is not used here: write `not`.",
    ast.Is: "`is` is not used here: write `==`.",
    ast.IsNot: "`is not` is not used here: write `!=`.",
    ast.Pow: "powers are not allowed: write a product, or add a column that holds the power.",
    ast.Mod: "`%` is not allowed: add a column that holds the remainder.",
    ast.FloorDiv: "`//` is not allowed: use `/`.",
    ast.Call: "functions cannot be called: add a column that holds the result.",
    ast.Attribute: "a dot between names is not allowed: put a column name with a dot between "
    "backticks.",
    ast.Subscript: "square brackets after a name are not allowed.",
    ast.IfExp: "`if … else` is not allowed: use `and` and `or`.",
    ast.JoinedStr: "text with an f in front is not allowed: use plain quotes.",
    ast.NamedExpr: "`:=` is not allowed: write `==` to compare.",
    ast.Set: "a list goes in square brackets, for example ['CA', 'NY'].",
}


@dataclass(frozen=True)
class _Parsed:
    expression: str
    body: ast.expr
    backticked: tuple[tuple[str, str], ...]

    def name(self, node: ast.Name) -> str:
        return dict(self.backticked).get(node.id, node.id)

    def source(self, node: ast.AST) -> str:
        """The part of the filter that a node stands for, as it can be read."""
        text = ast.unparse(node)
        for placeholder, name in self.backticked:
            text = text.replace(placeholder, f"`{name}`")
        return text if len(text) <= 80 else text[:79] + "…"

    def fail(self, message: str) -> NoReturn:
        raise InvalidExpression(f"filter {_shortened(self.expression)}: {message}")


def _shortened(expression: str) -> str:
    return repr(expression if len(expression) <= 200 else expression[:199] + "…")


def _parse(expression: str) -> _Parsed:
    if not isinstance(expression, str):
        raise InvalidExpression(
            f'A filter is text such as "age >= 65", not a {type(expression).__name__}.'
        )
    return _parse_text(expression)


@lru_cache(maxsize=1024)
def _parse_text(expression: str) -> _Parsed:
    if len(expression) > MAX_LENGTH:
        raise InvalidExpression(
            f"filter {_shortened(expression)} has {len(expression)} characters, and the limit is "
            f"{MAX_LENGTH}. Add a column that holds the condition."
        )
    if not expression.strip():
        raise InvalidExpression("A filter is empty: write a condition, or leave the filter out.")

    text, backticked = _without_backticks(expression)
    try:
        with warnings.catch_warnings():
            # Python only warns about `1 is 1` or an unknown escape: here they are errors.
            warnings.simplefilter("error")
            body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        hint = " Write `==` to compare." if re.search(r"[^=!<>:]=[^=]", text) else ""
        raise InvalidExpression(
            f"filter {_shortened(expression)} cannot be read: {reason}.{hint}"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise InvalidExpression(
            f"filter {_shortened(expression)} is nested too deeply (limit {MAX_DEPTH})."
        ) from error
    parsed = _Parsed(expression, body, backticked)
    _check(parsed)
    return parsed


def _without_backticks(expression: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The filter in one line with plain names, and the pairs (plain name, name in backticks)."""
    stem = "_column"
    while stem in expression:
        stem += "_"
    backticked: list[tuple[str, str]] = []
    end_of_quoted = -1

    def plain(piece: re.Match[str]) -> str:
        nonlocal end_of_quoted
        if piece["comment"] is not None:
            # The parser would drop what follows on the line, and with it perhaps a condition.
            raise InvalidExpression(
                f"filter {_shortened(expression)} has a `#` in it, and comments are not allowed."
            )
        if piece["quoted"] is not None:
            if end_of_quoted >= 0 and not expression[end_of_quoted : piece.start()].strip():
                # Python would join them: ['CA' 'NY'] would silently be ['CANY'].
                raise InvalidExpression(
                    f"filter {_shortened(expression)} has two quoted texts in a row near "
                    f"{piece['quoted']}: a comma is missing between them."
                )
            end_of_quoted = piece.end()
            return piece[0]
        if piece["name"] is not None:
            backticked.append((f"{stem}{len(backticked)}_", piece["name"]))
            return f" {backticked[-1][0]} "
        return " "

    return _PIECES.sub(plain, expression).strip(), tuple(backticked)


def _check(parsed: _Parsed) -> None:
    """Refuse every node that is not of the language."""
    for node, parent, depth in _walk(parsed.body, parsed.body, 1):
        if depth > MAX_DEPTH:
            parsed.fail(
                f"it is nested more than {MAX_DEPTH} deep. Add a column that holds a part of it."
            )
        if not isinstance(node, _ALLOWED):
            way_out = _WAY_OUT.get(type(node))
            if way_out is None:
                kind = type(node).__name__
                way_out = f"{kind} is not part of the filter language: use comparisons, `and`, "
                way_out += "`or`, `not`, `in`, and + - * /."
            where = node if isinstance(node, ast.expr) else parent
            parsed.fail(f"in `{parsed.source(where)}`, {way_out}")
        if isinstance(node, ast.Constant):
            _check_literal(parsed, node.value)
        if isinstance(node, ast.List | ast.Tuple):
            _check_list(parsed, node, parent)
        if isinstance(node, ast.Compare):
            _check_membership(parsed, node)


def _walk(node: ast.AST, parent: ast.AST, depth: int) -> Iterator[tuple[ast.AST, ast.AST, int]]:
    """Nodes with their parent and depth, parents first, without recursion."""
    waiting = [(node, parent, depth)]
    while waiting:
        node, parent, depth = waiting.pop()
        yield node, parent, depth
        waiting.extend((child, node, depth + 1) for child in ast.iter_child_nodes(node))


def _check_literal(parsed: _Parsed, value: Any) -> None:
    if value is None:
        parsed.fail("None is not allowed: `x == x` selects the records where x is present.")
    if not isinstance(value, bool | int | float | str):
        parsed.fail(f"{value!r} is neither a number, a text nor a truth value.")
    if isinstance(value, int) and value.bit_length() > 1023:
        parsed.fail("a number is larger than any float64.")


def _check_list(parsed: _Parsed, node: ast.List | ast.Tuple, parent: ast.AST) -> None:
    if not (isinstance(parent, ast.Compare) and node in parent.comparators):
        parsed.fail(f"a list such as `{parsed.source(node)}` may only stand behind `in`.")
    for item in node.elts:
        inner = item.operand if isinstance(item, ast.UnaryOp) else item
        if not isinstance(inner, ast.Constant):
            parsed.fail(f"a list holds numbers or texts, not `{parsed.source(item)}`.")


def _check_membership(parsed: _Parsed, node: ast.Compare) -> None:
    for sign, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(sign, ast.In | ast.NotIn) != isinstance(right, ast.List | ast.Tuple):
            parsed.fail(
                f"in `{parsed.source(node)}`, `in` needs a list in square brackets behind it, "
                "and a list needs `in` before it."
            )


# --- From the tree to values ----------------------------------------------------------------------

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}


@dataclass(frozen=True)
class _Evaluation:
    """One walk over an allowed tree; a number or truth value may still be a scalar."""

    parsed: _Parsed
    columns: Columns

    def condition(self, node: ast.expr) -> Mask:
        """Mask of a node that must be a condition."""
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(part) for part in node.values]
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            mask = parts[0]
            for part in parts[1:]:
                mask = join(mask, part)
            return mask
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return np.logical_not(self.condition(node.operand))
        if isinstance(node, ast.Compare):
            key = ast.dump(node) + repr(self.parsed.backticked)
            return self.columns.remember(key, lambda: self.comparison(node))
        value = self.value(node)
        if not isinstance(value, Text | str):
            mask = np.asarray(value)
            if mask.dtype == np.bool_:
                return mask
        source = self.parsed.source(node)
        kind = "text" if isinstance(value, Text | str) else "a number"
        self.parsed.fail(
            f"`{source}` is {kind}, and a condition is needed: compare it with something, "
            f"for example `{source} != {repr('') if kind == 'text' else '0'}`."
        )

    def comparison(self, node: ast.Compare) -> Mask:
        """Mask of a comparison; a chain holds where each of its links holds."""
        mask: Mask = np.array(True)
        left = node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(right, ast.List | ast.Tuple):
                link = self.membership(node, left, right, isinstance(sign, ast.NotIn))
            else:
                link = self.link(node, type(sign), self.value(left), self.value(right))
            mask = np.logical_and(mask, link)
            left = right
        return mask

    def link(self, node: ast.Compare, sign: type[ast.cmpop], left: Value, right: Value) -> Mask:
        if isinstance(left, Text | str) != isinstance(right, Text | str):
            self.fail_mixed(node)
        return compare(left, _COMPARISONS[sign], right)

    def fail_mixed(self, node: ast.Compare) -> NoReturn:
        self.parsed.fail(
            f"`{self.parsed.source(node)}` compares text with a number. Put quotes around a text, "
            "and none around a number."
        )

    def membership(
        self, node: ast.Compare, left: ast.expr, right: ast.List | ast.Tuple, negated: bool
    ) -> Mask:
        value = self.value(left)
        items = [self.value(item) for item in right.elts]
        if any(isinstance(item, str) != isinstance(value, Text | str) for item in items):
            self.fail_mixed(node)
        if isinstance(value, Text):
            wanted = set(items)
            return value.where(lambda label: (label in wanted) != negated)
        if isinstance(value, str):
            return np.array((value in items) != negated)
        links = [self.link(node, ast.Eq, value, item) for item in items]
        found = np.logical_or.reduce(np.broadcast_arrays(*links)) if links else np.array(False)
        return np.logical_not(found) & np.asarray(value == value) if negated else found

    def value(self, node: ast.expr) -> Value:
        """Numbers, truth values or text that a node stands for."""
        if isinstance(node, ast.Constant):
            return node.value  # type: ignore[return-value]
        if isinstance(node, ast.Name):
            try:
                return self.columns[self.parsed.name(node)]
            except InvalidExpression as error:
                raise InvalidExpression(
                    f"filter {_shortened(self.parsed.expression)}: {error}"
                ) from error
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            number = self.number(node.operand)
            return np.negative(number) if isinstance(node.op, ast.USub) else number
        if isinstance(node, ast.BinOp):
            with np.errstate(all="ignore"):
                result: npt.NDArray[np.float64] = _ARITHMETIC[type(node.op)](
                    self.number(node.left), self.number(node.right)
                )
            return result
        return self.condition(node)

    def number(self, node: ast.expr) -> npt.NDArray[np.float64]:
        value = self.value(node)
        if isinstance(value, Text | str):
            self.parsed.fail(f"`{self.parsed.source(node)}` is text: it cannot be calculated with.")
        return np.asarray(value, dtype=np.float64)
