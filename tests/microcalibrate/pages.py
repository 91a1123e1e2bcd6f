"""What a browser would see of a page, and every text of a figure."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>$title&amp;\u202e"


class Reader(HTMLParser):
    """What a browser would see: tags with their attributes, the cells of tables, the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag != "wbr" else self.inside
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.inside == "script":
            self.scripts[-1] += data

    def table(self, head: str) -> list[list[str]]:
        """Rows of the table whose first head is this."""
        start = next(place for place, row in enumerate(self.rows) if row and row[0] == head)
        width = len(self.rows[start])
        found = []
        for row in self.rows[start + 1 :]:
            if len(row) != width:
                break
            found.append(row)
        return found

    def figures(self) -> dict[str, Any]:
        """Figures by name, as Plotly reads them."""
        line = next(part for part in self.scripts[1].split("\n") if "const figures" in part)
        drawn = json.loads(line.removeprefix("const figures = ").removesuffix(";"))
        return {name: json.loads(text) for name, text in drawn.items()}


def texts(value: Any) -> list[str]:
    """Every text in a figure as the browser gets it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


def assert_no_tags(value: Any) -> None:
    """No text of a figure is read as a tag, but for our own."""
    for text in texts(value):
        plain = text
        for ours in ("<br>", "<b>", "</b>", "<extra></extra>"):
            plain = plain.replace(ours, "")
        assert "<" not in plain
        assert "\u202e" not in plain


def assert_self_contained(page: str) -> None:
    """Nothing is loaded from anywhere, nothing runs that a user wrote."""
    reader = Reader(page)
    for tag, attributes in reader.tags:
        assert tag not in ("iframe", "img", "object", "embed", "base", "form", "audio", "video")
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "src"
            assert name != "href" or value == "data:,"
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page
    assert len(reader.scripts) == 2
    for name in reader.figures():
        assert f'id="{name}"' in page
