"""From text to a tree of allowed nodes."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from microcalibrate.errors import InvalidExpression

MAX_LENGTH = 10_000
"""Longest filter, in characters."""

MAX_DEPTH = 100
"""Deepest nesting of a filter; a sum of 100 terms is that deep."""

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
class Parsed:
    """An expression that was read and checked.

    Attributes:
        expression: The text.
        body: Root of its tree, with allowed nodes only.
        backticked: Pairs of a placeholder in the tree and the column name that it stands for.
    """

    expression: str
    body: ast.expr
    backticked: tuple[tuple[str, str], ...]

    def name(self, node: ast.Name) -> str:
        """Name of the column that a node reads."""
        return dict(self.backticked).get(node.id, node.id)

    def source(self, node: ast.AST) -> str:
        """The part of the filter that a node stands for, as it can be read."""
        text = ast.unparse(node)
        for placeholder, name in self.backticked:
            text = text.replace(placeholder, f"`{name}`")
        return text if len(text) <= 80 else text[:79] + "…"

    def fail(self, message: str) -> NoReturn:
        """Raise `InvalidExpression` with the text and what is wrong with it."""
        raise InvalidExpression(f"filter {shortened(self.expression)}: {message}")


def shortened(expression: str) -> str:
    """The text in quotes, cut where it is long."""
    return repr(expression if len(expression) <= 200 else expression[:199] + "…")


def parse(expression: str) -> Parsed:
    """Read a text and check that it is of the language; `InvalidExpression` if it is not."""
    if not isinstance(expression, str):
        raise InvalidExpression(
            f'A filter is text such as "age >= 65", not a {type(expression).__name__}.'
        )
    return _parse_text(expression)


@lru_cache(maxsize=1024)
def _parse_text(expression: str) -> Parsed:
    if len(expression) > MAX_LENGTH:
        raise InvalidExpression(
            f"filter {shortened(expression)} has {len(expression)} characters, and the limit is "
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
            f"filter {shortened(expression)} cannot be read: {reason}.{hint}"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise InvalidExpression(
            f"filter {shortened(expression)} is nested too deeply (limit {MAX_DEPTH})."
        ) from error
    parsed = Parsed(expression, body, backticked)
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
                f"filter {shortened(expression)} has a `#` in it, and comments are not allowed."
            )
        if piece["quoted"] is not None:
            if end_of_quoted >= 0 and not expression[end_of_quoted : piece.start()].strip():
                # Python would join them: ['CA' 'NY'] would silently be ['CANY'].
                raise InvalidExpression(
                    f"filter {shortened(expression)} has two quoted texts in a row near "
                    f"{piece['quoted']}: a comma is missing between them."
                )
            end_of_quoted = piece.end()
            return piece[0]
        if piece["name"] is not None:
            backticked.append((f"{stem}{len(backticked)}_", piece["name"]))
            return f" {backticked[-1][0]} "
        return " "

    return _PIECES.sub(plain, expression).strip(), tuple(backticked)


def _check(parsed: Parsed) -> None:
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


def _check_literal(parsed: Parsed, value: Any) -> None:
    if value is None:
        parsed.fail("None is not allowed: `x == x` selects the records where x is present.")
    if not isinstance(value, bool | int | float | str):
        parsed.fail(f"{value!r} is neither a number, a text nor a truth value.")
    if isinstance(value, int) and value.bit_length() > 1023:
        parsed.fail("a number is larger than any float64.")


def _check_list(parsed: Parsed, node: ast.List | ast.Tuple, parent: ast.AST) -> None:
    if not (isinstance(parent, ast.Compare) and node in parent.comparators):
        parsed.fail(f"a list such as `{parsed.source(node)}` may only stand behind `in`.")
    for item in node.elts:
        inner = item.operand if isinstance(item, ast.UnaryOp) else item
        if not isinstance(inner, ast.Constant):
            parsed.fail(f"a list holds numbers or texts, not `{parsed.source(item)}`.")


def _check_membership(parsed: Parsed, node: ast.Compare) -> None:
    for sign, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(sign, ast.In | ast.NotIn) != isinstance(right, ast.List | ast.Tuple):
            parsed.fail(
                f"in `{parsed.source(node)}`, `in` needs a list in square brackets behind it, "
                "and a list needs `in` before it."
            )
