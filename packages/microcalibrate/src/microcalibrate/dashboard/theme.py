"""The look of the page beyond what Streamlit's own options say: that of the reports."""

from __future__ import annotations

from microcalibrate.figures.plotting import DARK
from microcalibrate.reports.page import PART_STYLE, colours

_PAGE = """
.stMainBlockContainer { max-width: 1120px; padding-top: 2.6rem; }
.stHtml p, .stHtml .said { margin: 4px 0 8px; max-width: 76ch; }
.stHtml .tiles { margin: 8px 0 12px; }
.stHtml h3 { font-size: 16px; margin: 0 0 8px; padding: 0; }
.stHtml .empty { border: 1px dashed var(--grid); border-radius: 8px; padding: 28px 32px;
  margin: 12px 0; }
.stHtml .empty p:first-child { font-weight: 600; }
.stHtml .empty p { margin: 2px 0; }
"""


def style() -> str:
    """One style element."""
    # `light-dark` follows the colour scheme that Streamlit sets on its page, at once.
    shades = colours(lambda colour: f"light-dark({colour},{DARK.get(colour, colour)})")
    return f"<style>.stApp {{ {shades} }}\n{PART_STYLE}{_PAGE}</style>"
