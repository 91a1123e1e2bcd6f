"""One HTML page about a result: it holds all it needs and asks no network for anything."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from l0.reports.palette import AFTER, FONT, GRID, INK, MUTED, PAPER
from microcalibrate.atomic import atomic_path
from microcalibrate.figures import calibration as figures
from microcalibrate.figures.plotting import (
    DARK,
    amount,
    load_plotly,
    percent,
    power_of_ten,
    readable,
)
from microcalibrate.result import STATISTICS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.result import CalibrationResult

TILES = {
    "within_10_percent": "targets within 10%",
    "median_error": "median error",
    "records": "records with weight",
    "kish": "effective sample size",
}
WORST_TARGETS = 25
MOST_FAMILIES = 200


def write_report(result: CalibrationResult, path: str | Path) -> Path:
    """Write a page with what was asked, what came out, and how far to trust it.

    Args:
        result: What to report.
        path: File to write; an older one is replaced when the new one is complete.

    Returns:
        The path.

    Raises:
        MissingExtra: If Plotly is not installed.
        UnwritableFile: If the file cannot be written.
    """
    page = render(result)
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return Path(path)


def render(result: CalibrationResult) -> str:
    """The page as text; see `write_report`."""
    drawn = {
        "fit": figures.fit(result),
        "estimates": figures.estimates(result),
        "worst": figures.worst_targets(result),
        "weights": figures.weights(result),
        "history": figures.history(result),
    }
    return _PAGE.substitute(
        title=_escape(headline(result)),
        style=_STYLE.substitute(
            font=FONT,
            light=_colours(lambda colour: colour),
            dark=_colours(lambda colour: DARK[colour]),
        ),
        status_class="good" if result.converged else "caution",
        status=_escape(f"{result.status.name.replace('_', ' ').capitalize()}."),
        meaning=_escape(result.status.value),
        gap=_escape(gap_sentence(result)),
        tiles=_tiles(result),
        summary=_summary(result),
        families=_families(result),
        worst=_worst(result),
        settings=_pairs(result.settings),
        seconds=_pairs({name: f"{took:.2f} s" for name, took in result.seconds.items()}),
        versions=_pairs(result.versions),
        **{f"{name}_figure": _holder(name, figure) for name, figure in drawn.items()},
        plotly=load_plotly().offline.get_plotlyjs(),
        figures=_script_json({name: figure.to_json() for name, figure in drawn.items()}),
        dark_colours=_script_json(DARK),
    )


# --- Sentences ------------------------------------------------------------------------------------


def headline(result: CalibrationResult) -> str:
    """What was done, in one line."""
    records, targets = len(result.weights), len(result.targets)
    kept = int(result.statistics["after"]["records"])
    chosen = result.settings.get("target_records") or result.settings.get("l0_lambda")
    reduced = f" reduced to {kept:,} and" if chosen else ""
    plural = "s" if targets > 1 else ""
    return f"{records:,} records{reduced} calibrated to {targets:,} target{plural}"


def gap_sentence(result: CalibrationResult) -> str:
    """What the certificate says."""
    if not math.isfinite(result.gap):
        return "No duality gap could be computed: nothing is known about better weights."
    records = "these records" if (result.inclusion_probabilities == 1).all() else "the records kept"
    return (
        f"Relative duality gap {power_of_ten(result.gap)}: no other weights of {records} can "
        "lower the objective (half the mean squared relative error plus the price of distance) by "
        "more than this share."
    )


# --- Parts of the page ----------------------------------------------------------------------------


def _escape(text: object) -> str:
    return html.escape(readable(text))


def _tiles(result: CalibrationResult) -> str:
    """The four numbers that people look for first."""
    before, after = result.statistics["before"], result.statistics["after"]
    patterns = {key: pattern for key, _, pattern in STATISTICS}
    return "".join(
        f"<li><strong>{patterns[key].format(after[key])}</strong><span>{label}</span>"
        f"<small>{patterns[key].format(before[key])} before</small></li>"
        for key, label in TILES.items()
    )


def _summary(result: CalibrationResult) -> str:
    return _table(
        ["", "Before", "After"],
        (
            [
                label[0].upper() + label[1:],
                *(pattern.format(result.statistics[when][key]) for when in ("before", "after")),
            ]
            for key, label, pattern in STATISTICS
        ),
    )


def _families(result: CalibrationResult) -> str:
    table = result.targets
    order = figures.family_order(table)
    rows = []
    for name in order[:MOST_FAMILIES]:
        part = table[table.family == name]
        before, after = part.initial_error.abs(), part.error.abs()
        rows.append(
            [
                name,
                f"{len(part):,}",
                percent(before.median()),
                percent(after.median()),
                percent(after.max()),
                percent((before < 0.1).mean()),
                percent((after < 0.1).mean()),
            ]
        )
    heads = [
        "Family",
        "Targets",
        "Median error before",
        "Median error after",
        "Largest error after",
        "Within 10% before",
        "Within 10% after",
    ]
    left = len(order) - len(rows)
    return _table(heads, rows) + (f"<p>{left:,} more families are not shown.</p>" if left else "")


def _worst(result: CalibrationResult) -> str:
    worst = figures.by_error(result.targets).head(WORST_TARGETS)
    rows = (
        [
            row["name"],
            amount(row["target"]),
            amount(row["final"]),
            percent(row["initial_error"], signed=True),
            percent(row["error"], signed=True),
            kind(row["tolerance"]),
            power_of_ten(row["price"]),
        ]
        for row in worst.to_dict("records")
    )
    heads = [
        "Target",
        "Value",
        "Estimate",
        "Error before",
        "Error after",
        "Tolerance",
        "Price",
    ]
    return _table(heads, rows)


def kind(tolerance: float) -> str:
    """What a tolerance asks for, in a word."""
    if tolerance != tolerance:
        return "soft"
    return "exact" if tolerance == 0 else percent(tolerance)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of escaped cells; the first column holds words, the others numbers."""

    def line(cells: Sequence[object], tag: str) -> str:
        first, *others = map(_escape, cells)
        # Long names break where people see a joint.
        first = first.replace("/", "/<wbr>").replace("_", "_<wbr>")
        numbers = "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in others)
        return f"<{tag}>{first}</{tag}>{numbers}"

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{line(heads, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _pairs(values: dict[str, Any]) -> str:
    lines = (
        f"<div><dt>{_escape(name)}</dt><dd>{'–' if value is None else _escape(value)}</dd></div>"
        for name, value in values.items()
    )
    return f"<dl>{''.join(lines)}</dl>"


def _holder(name: str, figure: Figure) -> str:
    return f'<div class="figure" id="{name}" style="height:{figure.layout.height}px"></div>'


def _script_json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts are in it."""
    written = json.dumps(value, ensure_ascii=True)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _colours(themed: Any) -> str:
    names = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER, "accent": AFTER}
    return "".join(f"--{name}:{themed(colour)};" for name, colour in names.items())


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
.note, small { color: var(--muted); }
.status { border-left: 4px solid var(--accent); padding: 2px 0 2px 14px; }
.status.caution { border-left-color: #e69f00; border-left-style: double; }
.tiles { list-style: none; display: grid; gap: 12px; padding: 0; margin: 28px 0;
  grid-template-columns: repeat(4, 1fr); }
.tiles li { border: 1px solid var(--grid); border-radius: 8px; padding: 14px 16px; }
.tiles strong { display: block; font-size: 26px; line-height: 1.2; }
.tiles span, .tiles small { display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 7px 10px;
  border-bottom: 1px solid var(--grid); overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
th:first-child, td:first-child { padding-left: 0; min-width: 190px; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; }
.figure { margin: 20px 0; width: 100%; break-inside: avoid; }
.columns { display: grid; gap: 32px; grid-template-columns: 2fr 1fr 1fr; font-size: 14px; }
dl { margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 16px; padding: 4px 0;
  border-bottom: 1px solid var(--grid); }
dt { color: var(--muted); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
@media (max-width: 860px) {
  th, td { padding: 7px 5px; font-size: 13px; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .columns { grid-template-columns: 1fr; }
}
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
<p class="status $status_class"><strong>$status</strong> $meaning</p>
<p class="note">$gap</p>
<ul class="tiles">$tiles</ul>
$summary
<h2>How well the targets are met</h2>
$fit_figure
$families
$estimates_figure
<h2>Which targets are missed</h2>
$worst_figure
$worst
<p class="note">Errors are relative to the scale of a target: its absolute value, unless that is
zero or another scale was given. The price is the fall of the objective per scale by which the
target is raised; for a soft target, its importance times its error.</p>
<h2>What happened to the weights</h2>
$weights_figure
<h2>How it was computed</h2>
$history_figure
<div class="columns">
<section><h3>Settings</h3>$settings</section>
<section><h3>Wall time</h3>$seconds</section>
<section><h3>Versions</h3>$versions</section>
</div>
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
