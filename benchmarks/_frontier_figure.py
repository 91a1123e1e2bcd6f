"""The frontier as a static SVG: three panels over the number of records, written by hand.

So nobody needs a browser or an image writer to renew it.
"""

import math
from pathlib import Path
from statistics import mean

from _frontier_table import CLOSED_FORM, DEFAULT, DENSE, by_cell

from l0.reports.palette import AFTER, BEFORE, FONT, GRID, INK, MUTED, PAPER

WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, TALL = 1080, 430, 62, 46, 286, 62, 280
# Colour, width and dashes of each line, in the order of the key.
LINES = {
    DEFAULT: (AFTER, 3.0, ""),
    CLOSED_FORM + "10": (AFTER, 1.5, "6 3"),
    "PPS": (BEFORE, 2.0, ""),
    "simple random": (BEFORE, 1.5, "2 3"),
    "top k": (MUTED, 1.5, "6 3"),
    "L1": (MUTED, 2.0, ""),
    "gates, Adam": (INK, 2.0, ""),
    "sampled_gates": (INK, 1.5, "2 3"),
}
PANELS = {
    "held_out": (
        "Error of targets held out",
        (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75),
        "{:.0%}",
    ),
    "kish": ("Effective sample size (Kish)", (200, 500, 1000, 2000, 5000, 10000, 20000), "{:,.0f}"),
    "drift": ("Drift of untargeted outputs", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), "{:.0%}"),
}


def write_figure(runs: list[dict], path: Path) -> None:
    """Draw and write."""
    counts = sorted({run["records"] for run in runs if run["method"] != DENSE})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="{FONT}" font-size="12" fill="{INK}">',
        "<title>Held-out error, effective sample size and drift against records</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
    ]
    for number, measure in enumerate(PANELS):
        parts += _panel(runs, measure, counts, LEFT + number * (PANEL + GAP))
    parts += _key()
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _panel(runs: list[dict], measure: str, counts: list[int], left: float) -> list[str]:
    title, ticks, shape = PANELS[measure]
    values = by_cell(runs, measure)
    means = {
        (name, count): mean(values[name, count].values())
        for name in LINES
        for count in counts
        if (name, count) in values
    }
    low, high = min(means.values()) / 1.05, max(means.values()) * 1.05

    def at_x(count: float) -> float:
        return left + PANEL * math.log(count / counts[0]) / math.log(counts[-1] / counts[0])

    def at_y(value: float) -> float:
        return TOP + TALL * math.log(high / value) / math.log(high / low)

    parts = [f'<text x="{left}" y="{TOP - 18}" font-size="14" font-weight="600">{title}</text>']
    for tick in (tick for tick in ticks if low <= tick <= high):
        y = at_y(tick)
        parts += [
            f'<line x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>',
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{MUTED}">'
            f"{shape.format(tick)}</text>",
        ]
    for count in counts:
        words = f"{count // 1000}k"
        parts.append(
            f'<text x="{at_x(count):.1f}" y="{TOP + TALL + 20}" text-anchor="middle" '
            f'fill="{MUTED}">{words}</text>'
        )
    parts.append(
        f'<text x="{left + PANEL / 2}" y="{TOP + TALL + 38}" text-anchor="middle" '
        f'fill="{MUTED}">records</text>'
    )
    for name, (colour, width, dashes) in reversed(LINES.items()):
        points = [(at_x(c), at_y(means[name, c])) for c in counts if (name, c) in means]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-dasharray="{dashes}" stroke-linejoin="round"/>'
        )
    return parts


def _key() -> list[str]:
    parts = []
    step = (WIDTH - LEFT) / 4
    for number, (name, (colour, width, dashes)) in enumerate(LINES.items()):
        x, y = LEFT + (number % 4) * step, HEIGHT - 36 + (number // 4) * 22
        parts += [
            f'<line x1="{x:.0f}" x2="{x + 34:.0f}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" '
            f'stroke-width="{width}" stroke-dasharray="{dashes}"/>',
            f'<text x="{x + 42:.0f}" y="{y}">{name}</text>',
        ]
    return parts
