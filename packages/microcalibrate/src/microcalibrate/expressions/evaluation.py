"""From the tree to values."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import Columns, Mask, Text, Value, compare
from microcalibrate.errors import InvalidExpression
from microcalibrate.expressions.syntax import Parsed, shortened

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
class Evaluation:
    """One walk over an allowed tree; a number or truth value may still be a scalar."""

    parsed: Parsed
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
        """Mask of one link of a comparison."""
        if isinstance(left, Text | str) != isinstance(right, Text | str):
            self.fail_mixed(node)
        return compare(left, _COMPARISONS[sign], right)

    def fail_mixed(self, node: ast.Compare) -> NoReturn:
        """Raise for a comparison of text with a number."""
        self.parsed.fail(
            f"`{self.parsed.source(node)}` compares text with a number. Put quotes around a text, "
            "and none around a number."
        )

    def membership(
        self, node: ast.Compare, left: ast.expr, right: ast.List | ast.Tuple, negated: bool
    ) -> Mask:
        """Mask of `in` or `not in` a list."""
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
                    f"filter {shortened(self.parsed.expression)}: {error}"
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
        """Numbers that a node stands for; text raises."""
        value = self.value(node)
        if isinstance(value, Text | str):
            self.parsed.fail(f"`{self.parsed.source(node)}` is text: it cannot be calculated with.")
        return np.asarray(value, dtype=np.float64)
