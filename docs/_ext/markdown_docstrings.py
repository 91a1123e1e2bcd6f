"""Docstrings are in Markdown, and autodoc reads reStructuredText: this turns one into the other.

Only what the docstrings use: code between backticks, tables, and indented lines that stand for
themselves. Google sections (`Args:` and so on) are left to napoleon, which runs afterwards.
"""

import re
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(?<!`)(`[^`]+`)(?!`)")
SECTION = re.compile(r"(Args|Attributes|Examples|Raises|Returns|Yields):$")
PROMPTS = (">>> ", "... ")


def to_restructuredtext(lines: list[str]) -> list[str]:
    """The same docstring in reStructuredText.

    >>> to_restructuredtext(["A `name`.", "", "| a | `b` |", "|---|---|", "| 1 | 2 |"])[:4]
    ['A ``name``.', '', '', '.. list-table::']
    """
    first_section = next((i for i, line in enumerate(lines) if SECTION.match(line)), len(lines))
    converted: list[str] = []
    for kind, block in groupby(lines[:first_section], key=_kind):
        converted += kind(list(block))
    return converted + _text(lines[first_section:])


def _kind(line: str) -> Any:
    if line.startswith("|"):
        return _table
    if line.startswith("    ") and not line.lstrip().startswith(PROMPTS):
        return _literal
    return _text


def _text(lines: list[str]) -> list[str]:
    return [line if line.lstrip().startswith(PROMPTS) else _inline(line) for line in lines]


def _inline(line: str) -> str:
    pieces = CODE.split(line)
    pieces[0::2] = [words.replace("|", r"\|") for words in pieces[0::2]]
    pieces[1::2] = [f"`{code}`" for code in pieces[1::2]]
    return "".join(pieces)


def _literal(lines: list[str]) -> list[str]:
    return ["", "::", "", *lines, ""]


def _table(rows: list[str]) -> list[str]:
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in (rows[0], *rows[2:]):
        first, *others = (_inline(cell.strip()) for cell in row.strip(" |").split("|"))
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return [*lines, ""]


def _convert(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = to_restructuredtext(lines)


def setup(app: Sphinx) -> None:
    """Run before napoleon, whose priority is the default of 500."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _convert, priority=400)
