"""Colours and type of all figures, here and in packages that build on this one."""

# Blue and orange of Okabe and Ito (2008): told apart by colour-blind readers, and in grey by
# lightness.
INK, MUTED, GRID, PAPER = "#1f2933", "#5b6770", "#e1e6ea", "#ffffff"
BEFORE, AFTER = "#e69f00", "#0072b2"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
