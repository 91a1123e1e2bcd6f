"""Tables that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CHARACTERS_A_CELL = 48


def text_table(columns: Mapping[str, Sequence[str]], *, left: Sequence[str] = ()) -> str:
    """A table in text, a line per row.

    Args:
        columns: Head to cells; all of one length.
        left: Heads of the columns that begin at the left; the others end at the right.

    Examples:
        >>> print(text_table({"name": ["a", "bc"], "n": ["1", "20"]}, left=["name"]))
        name   n
        a      1
        bc    20
    """
    from microcalibrate.figures.plotting import readable

    cut = {head: [_cut(readable(cell)) for cell in cells] for head, cells in columns.items()}
    widths = {head: max(map(len, [head, *cells])) for head, cells in cut.items()}
    lines = []
    for row in [tuple(cut), *zip(*cut.values(), strict=True)]:
        cells = (
            cell.ljust(width) if head in left else cell.rjust(width)
            for cell, (head, width) in zip(row, widths.items(), strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS_A_CELL else f"{text[: CHARACTERS_A_CELL - 1]}…"
