"""Tables of reports: aligned text, HTML for notebooks, and pandas (imported here alone)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from l0.errors import MissingPackage

if TYPE_CHECKING:
    import pandas as pd

# Eighths of a line's height; no block at all for nothing, so that one of 10,000 can be seen.
_BLOCKS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_CELL = "padding:2px 10px;text-align:"


@dataclass(frozen=True)
class Table:
    """Rows of text under headers, the last of which may be a total.

    Attributes:
        title: What the table shows.
        headers: One for each column.
        rows: A text for each cell.
        n_left: How many columns from the left are names, which begin at the left.
        has_total: Whether the last row sums up the others.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_left: int = 1
    has_total: bool = False

    def text(self) -> str:
        """The table with aligned columns."""
        lines = [self.headers, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headers))]
        written = [
            "  ".join(
                cell.ljust(width) if column < self.n_left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "─" * max(map(len, written))
        written.insert(1, rule)
        if self.has_total:
            written.insert(-1, rule)
        return "\n".join([self.title, *written])

    def html(self) -> str:
        """The table as HTML; every text in it is escaped."""
        head = "".join(self._cell("th", at, text) for at, text in enumerate(self.headers))
        body = []
        for number, row in enumerate(self.rows):
            is_total = self.has_total and number == len(self.rows) - 1
            style = ' style="border-top:1px solid"' if is_total else ""
            cells = "".join(self._cell("td", at, text) for at, text in enumerate(row))
            body.append(f"<tr{style}>{cells}</tr>")
        return (
            '<table style="border-collapse:collapse;margin:0 0 1em">'
            f'<caption style="text-align:left;font-weight:bold">{html.escape(self.title)}</caption>'
            f'<thead><tr style="border-bottom:1px solid">{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table>"
        )

    def _cell(self, tag: str, column: int, text: str) -> str:
        style = f"{_CELL}{'left' if column < self.n_left else 'right'}"
        if text and set(text) <= {_NOTHING, *_BLOCKS}:
            style += ";font-family:monospace"  # so that the bins of histograms are of one width
        return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'


def data_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a pandas DataFrame.

    Raises:
        MissingPackage: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingPackage(
            "a DataFrame needs pandas. Install it with: pip install 'l0-python[viz]'"
        ) from error
    return pd.DataFrame.from_records(rows)


def sparkline(counts: Sequence[int]) -> str:
    """A histogram in one line of text.

    Examples:
        >>> sparkline([0, 1, 50, 100])
        '·▁▄█'
    """
    highest = max([*counts, 1])
    return "".join(
        _BLOCKS[max(round(len(_BLOCKS) * count / highest) - 1, 0)] if count else _NOTHING
        for count in counts
    )


def number(value: float | None, decimals: int = 0) -> str:
    """A number as people write it; a dash if it is not known.

    Examples:
        >>> number(1234567.0), number(12.34, 1), number(None)
        ('1,234,567', '12.3', '–')
    """
    return "–" if value is None else f"{value:,.{decimals}f}"


def percent(part: float | None, whole: float | None = 1.0) -> str:
    """A part of a whole in percent; a dash if one of them is not known, or there is no whole.

    Examples:
        >>> percent(3, 8), percent(1e-6), percent(2, 0)
        ('38%', '<1%', '–')
    """
    if part is None or not whole:
        return "–"
    share = 100 * part / whole
    return "<1%" if 0 < share < 0.5 else f"{share:.0f}%"
