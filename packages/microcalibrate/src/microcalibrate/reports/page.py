"""A page of any report as plain values: it holds all it needs and asks no network for anything.

A report is a title, what leads, and sections; each of their parts is one of the values here, which
knows its own HTML. Every text that comes from a user is escaped here, once.
"""

from __future__ import annotations

import html
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from l0.reports.palette import AFTER, BEFORE, DARK, FONT, GRID, INK, MUTED, PAPER
from microcalibrate.atomic import atomic_path
from microcalibrate.figures.plotting import load_plotly, readable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure


class Part(ABC):
    """Something that stands on a page."""

    @abstractmethod
    def html(self) -> str:
        """The part as HTML, with every text of a user escaped."""

    def figures(self) -> Iterator[Figure]:
        """Figures in the part, from top to bottom."""
        yield from ()


@dataclass(frozen=True)
class Paragraph(Part):
    """A sentence or a few; a note is printed in a lighter colour."""

    text: str
    is_note: bool = False

    def html(self) -> str:
        """A paragraph."""
        tag = '<p class="note">' if self.is_note else "<p>"
        return f"{tag}{_escape(self.text)}</p>"


@dataclass(frozen=True)
class Verdict(Part):
    """How it ended, in a few words, and what that means; caution has another mark, not only colour.

    Attributes:
        words: What stands out.
        meaning: What to make of it.
        is_good: Whether nothing calls for caution.
    """

    words: str
    meaning: str
    is_good: bool

    def html(self) -> str:
        """A paragraph with a mark at its side."""
        kind = "good" if self.is_good else "caution"
        words, meaning = _escape(self.words), _escape(self.meaning)
        return f'<p class="status {kind}"><strong>{words}</strong> {meaning}</p>'


@dataclass(frozen=True)
class Sentences(Part):
    """Findings, one after the other, with numbers where their order says something."""

    sentences: Sequence[str]
    is_ranked: bool = False

    def html(self) -> str:
        """A list."""
        tag = "ol" if self.is_ranked else "ul"
        items = "".join(f"<li>{_escape(each)}</li>" for each in self.sentences)
        return f'<{tag} class="said">{items}</{tag}>'


@dataclass(frozen=True)
class Tiles(Part):
    """The numbers that people look for first: each a number, what it is, and what to compare."""

    tiles: Sequence[tuple[str, str, str]]

    def html(self) -> str:
        """A row of boxes."""
        boxes = (
            f"<li><strong>{_escape(number)}</strong><span>{_escape(label)}</span>"
            f"<small>{_escape(beside)}</small></li>"
            for number, label, beside in self.tiles
        )
        return f'<ul class="tiles">{"".join(boxes)}</ul>'


@dataclass(frozen=True)
class Table(Part):
    """A table; the first column holds words, the others numbers.

    Attributes:
        heads: One per column.
        rows: Cells as they are shown.
        words: Positions of further columns that hold words.
        has_short_names: Whether the first column is as narrow as its words, which never break.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    words: frozenset[int] = frozenset()
    has_short_names: bool = False

    def html(self) -> str:
        """A table that scrolls by itself where the page is narrow."""
        body = "".join(f"<tr>{self._line(row, 'td')}</tr>" for row in self.rows)
        table = '<table class="short">' if self.has_short_names else "<table>"
        return (
            f'<div class="wide">{table}<thead><tr>{self._line(self.heads, "th")}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def _line(self, cells: Sequence[object], tag: str) -> str:
        written = []
        for position, cell in enumerate(map(_escape, cells)):
            if position == 0 or position in self.words:
                # Long names break where people see a joint.
                text = cell.replace("/", "/<wbr>").replace("_", "_<wbr>")
                kind = ' class="words"' if position else ""
                written.append(f"<{tag}{kind}>{text}</{tag}>")
            else:
                written.append(f'<{tag} class="number">{cell}</{tag}>')
        return "".join(written)


@dataclass(frozen=True)
class Pairs(Part):
    """Names with their values, under a title of their own."""

    title: str
    values: Mapping[str, object]

    def html(self) -> str:
        """A list of definitions with its title."""
        title = _escape(self.title)
        return f"<section><h3>{title}</h3><dl>{_definitions(self.values)}</dl></section>"


@dataclass(frozen=True)
class Columns(Part):
    """Lists of pairs side by side, the first in the widest column; below each other on a phone."""

    parts: Sequence[Pairs]

    def html(self) -> str:
        """A grid."""
        lists = "\n".join(part.html() for part in self.parts)
        return f'<div class="columns">\n{lists}\n</div>'


@dataclass(frozen=True)
class Listing(Part):
    """Names with their values, over the whole width."""

    values: Mapping[str, object]

    def html(self) -> str:
        """A list of definitions in two columns, in one on a phone."""
        return f'<dl class="listing">{_definitions(self.values)}</dl>'


@dataclass(frozen=True, eq=False)
class Figure(Part):
    """A figure: its name, unlike that of any other on the page, and what Plotly draws."""

    name: str
    drawn: PlotlyFigure

    def html(self) -> str:
        """An empty place, as high as the figure, for the script to draw in."""
        height = self.drawn.layout.height
        return f'<div class="figure" id="{_escape(self.name)}" style="height:{height}px"></div>'

    def figures(self) -> Iterator[Figure]:
        """Itself."""
        yield self


@dataclass(frozen=True)
class Section:
    """Parts under one title.

    Attributes:
        title: What stands above them.
        parts: From top to bottom.
        tab: The title in a word or two, where several stand side by side.
    """

    title: str
    parts: Sequence[Part]
    tab: str = ""


def render_page(title: str, lead: Sequence[Part], sections: Sequence[Section]) -> str:
    """A page as text.

    Args:
        title: What the page is about, in one line.
        lead: What people should see first.
        sections: The rest, in order.

    Returns:
        HTML with style, script and data in it: nothing is loaded from anywhere.

    Raises:
        MissingExtra: If Plotly is not installed.

    Examples:
        >>> page = render_page("Two < three", [Paragraph("It is.")], [])
        >>> "<h1>Two &lt; three</h1>" in page
        True
    """
    body = [part.html() for part in lead]
    for section in sections:
        body += [f"<h2>{_escape(section.title)}</h2>", *(part.html() for part in section.parts)]
    parts = [*lead, *(part for section in sections for part in section.parts)]
    drawn = {each.name: each.drawn.to_json() for part in parts for each in part.figures()}
    return _PAGE.substitute(
        title=_escape(title),
        style=_STYLE.substitute(
            font=FONT,
            parts=PART_STYLE,
            light=colours(lambda colour: colour),
            dark=colours(lambda colour: DARK.get(colour, colour)),
        ),
        body="\n".join(body),
        plotly=load_plotly().offline.get_plotlyjs(),
        figures=_script_json(drawn),
        dark_colours=_script_json(DARK),
    )


def write_page(page: str, path: str | Path) -> Path:
    """Write a page, whole or not at all.

    Raises:
        UnwritableFile: If the file cannot be written; an older one is then as it was.
    """
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return Path(path)


def _escape(text: object) -> str:
    return html.escape(readable(text))


def _definitions(values: Mapping[str, object]) -> str:
    """Names with their values; None is a dash."""
    return "".join(
        f"<div><dt>{_escape(name)}</dt><dd>{'–' if value is None else _escape(value)}</dd></div>"
        for name, value in values.items()
    )


def _script_json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts are in it."""
    written = json.dumps(value, ensure_ascii=True)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def colours(themed: Callable[[str], str]) -> str:
    """Colours as variables of a style sheet.

    Args:
        themed: From a colour of the palette to the one that stands for it.
    """
    names = {
        "ink": INK,
        "muted": MUTED,
        "grid": GRID,
        "paper": PAPER,
        "accent": AFTER,
        "caution": BEFORE,
    }
    return "".join(f"--{name}:{themed(colour)};" for name, colour in names.items())


PART_STYLE = """
.note, small { color: var(--muted); }
.said { margin: 12px 0; max-width: 76ch; padding-left: 22px; }
.said li { margin: 4px 0; }
.status { border-left: 4px solid var(--accent); padding: 2px 0 2px 14px; }
.status.caution { border-left-color: var(--caution); border-left-style: double; }
.tiles { list-style: none; display: grid; gap: 12px; padding: 0; margin: 28px 0;
  grid-template-columns: repeat(4, 1fr); }
.tiles li { border: 1px solid var(--grid); border-radius: 8px; padding: 14px 16px; }
.tiles strong { display: block; font-size: 26px; line-height: 1.2; }
.tiles span, .tiles small { display: block; }
.wide { overflow-x: auto; }
.wide table { border-collapse: collapse; width: 100%; font-size: 14px; }
.wide th, .wide td { text-align: left; vertical-align: top; padding: 7px 10px;
  border-bottom: 1px solid var(--grid); overflow-wrap: anywhere; }
.wide th { color: var(--muted); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
.wide th:first-child, .wide td:first-child { padding-left: 0; min-width: 190px; }
.wide .short th:first-child, .wide .short td:first-child { min-width: 0; white-space: nowrap; }
.wide .words { min-width: 130px; }
.wide .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide th.number { white-space: normal; }
.columns { display: grid; gap: 32px; grid-template-columns: 2fr 1fr 1fr; font-size: 14px; }
.listing { columns: 2; column-gap: 32px; font-size: 14px; }
.listing div { break-inside: avoid; }
dl { margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 16px; padding: 4px 0;
  border-bottom: 1px solid var(--grid); }
dt { color: var(--muted); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
@media (max-width: 860px) {
  .wide th, .wide td { padding: 7px 5px; font-size: 13px; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .columns { grid-template-columns: 1fr; }
  .listing { columns: 1; }
}
"""
"""Look of the parts, wherever they stand; colours are the variables of `colours`."""

_STYLE = Template("""
:root { color-scheme: light dark; $light }
@media screen and (prefers-color-scheme: dark) { :root { $dark } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 $font; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 48px 0 12px; padding-top: 20px; border-top: 1px solid var(--grid); }
h3 { font-size: 16px; margin: 0 0 8px; }
p { margin: 12px 0; max-width: 76ch; }
.figure { margin: 20px 0; width: 100%; break-inside: avoid; }
$parts
@media print {
  .modebar { display: none !important; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  tr, .tiles li { break-inside: avoid; }
}
""")

# The policy forbids every request, so that a page that is opened years later says the same.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:;
 script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
<script>$plotly</script>
<script>
const figures = $figures;
const darkColours = new Map(Object.entries($dark_colours));
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function draw(dark) {
  for (const [name, text] of Object.entries(figures)) {
    const themed = (key, value) => dark && darkColours.has(value) ? darkColours.get(value) : value;
    const figure = JSON.parse(text, themed);
    Plotly.react(name, figure.data, figure.layout,
      {responsive: true, displaylogo: false, modeBarButtons: [["toImage"]],
       toImageButtonOptions: {format: "svg", filename: name}});
  }
}
draw(prefersDark.matches);
prefersDark.addEventListener("change", () => draw(prefersDark.matches));
addEventListener("beforeprint", () => draw(false));
addEventListener("afterprint", () => draw(prefersDark.matches));
</script>
</body>
</html>
""")
