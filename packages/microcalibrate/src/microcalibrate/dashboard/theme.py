"""The look of the page beyond what Streamlit's own options say: that of the reports."""

from __future__ import annotations

from l0.reports.palette import DARK
from microcalibrate.reports.page import PART_STYLE, colours

_PAGE = """
.stMainBlockContainer { max-width: 1120px; padding-top: 2.6rem; }
.stMainBlockContainer h1 { font-size: 28px; padding: 0; }
.stMainBlockContainer h2, .stMainBlockContainer h3 { font-size: 18px; padding: 8px 0 4px; }
.stSidebar [data-testid="stVerticalBlock"] { gap: 5px; }
.stHtml .brand { font-size: 18px; font-weight: 700; margin: 0 0 4px; }
.stHtml .group { color: var(--muted); font-size: 13px; margin: 14px 0 2px; }
.stHtml p, .stHtml .said { margin: 4px 0 8px; max-width: 76ch; }
.stHtml .tiles { margin: 8px 0 12px; padding: 0; }
.stHtml .tiles li { margin: 0; padding: 14px 16px; }
.stHtml dl { margin: 0; padding: 0; }
.stHtml dd { margin: 0; }
.stHtml .said { padding-left: 22px; }
.stHtml h3 { font-size: 16px; margin: 0 0 8px; padding: 0; }
.stHtml .empty { border: 1px dashed var(--grid); border-radius: 8px; padding: 28px 32px;
  margin: 12px 0; }
.stHtml .empty p:first-child { font-weight: 600; }
.stHtml .empty p { margin: 2px 0; }
@media (max-width: 1100px) {
  .stHtml .wide th, .stHtml .wide td { font-size: 13px; padding: 7px 5px; }
  .stHtml .wide th:first-child, .stHtml .wide td:first-child { min-width: 130px; }
  .stHtml .wide .words { min-width: 80px; }
}
@media (max-width: 1000px) {
  .st-key-chart_estimate_bars, .st-key-chart_weights { overflow-x: auto; }
  .st-key-chart_estimate_bars [data-testid=stFullScreenFrame] { min-width: 760px; }
  .st-key-chart_weights [data-testid=stFullScreenFrame] { min-width: 620px; }
}
"""


def style() -> str:
    """One style element."""
    # `light-dark` follows the colour scheme that Streamlit sets on its page, at once.
    shades = colours(lambda colour: f"light-dark({colour},{DARK.get(colour, colour)})")
    return f"<style>.stApp {{ {shades} }}\n{PART_STYLE}{_PAGE}</style>"
