"""Colours and type of all figures, here and in packages that build on this one."""

# Blue and orange of Okabe and Ito (2008): told apart by colour-blind readers, and in grey by
# lightness.
INK, MUTED, GRID, PAPER = "#1f2933", "#5b6770", "#e1e6ea", "#ffffff"
BEFORE, AFTER = "#e69f00", "#0072b2"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

DARK = {INK: "#e8ebee", MUTED: "#a3adb5", GRID: "#373e44", PAPER: "#16191c", AFTER: "#56b4e9"}
"""What stands for a colour on a dark page; `BEFORE` stays."""
