"""Tables of the frontier: means over folds with 95% intervals, and what is better than what."""

from collections.abc import Callable
from statistics import mean, stdev

from _table import header, row

# Two-sided 95% points of Student's t by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
DENSE = "dense"
CLOSED_FORM = "closed form, kappa "
DEFAULT, CHOSEN = CLOSED_FORM + "1", CLOSED_FORM + "chosen"
OURS = (DEFAULT, CLOSED_FORM + "3", CLOSED_FORM + "10", CHOSEN)
# Parts of ours left out, one at a time: the sizes, or the order.
ABLATIONS = ("PPS, ordered", "closed form, kappa 1, unordered")
RIVALS = ("PPS", "simple random", "top k", "L1", "gates, Adam", "sampled_gates")
# Title, how a value is shown, and what makes it better: 1 more, -1 less.
MEASURES: dict[str, tuple[str, Callable[[float], str], int]] = {
    "held_out": ("Error of the targets held out", lambda value: f"{100 * value:.1f}", -1),
    "kish": ("Kish's effective sample size", lambda value: f"{value:,.0f}", 1),
    "drift": ("Drift of untargeted outputs", lambda value: f"{100 * value:.1f}", -1),
    "train": ("Error of the targets calibrated to", lambda value: f"{100 * value:.2f}", -1),
}

# Values by seed, of one method at one count, of one measure.
Values = dict[int, float]
Cell = tuple[str, int]


def by_cell(runs: list[dict], measure: str) -> dict[Cell, Values]:
    """Mean over the draws of each seed, by method and count; the kappa that others choose added."""
    drawn: dict[Cell, dict[int, list[float]]] = {}
    for run in runs:
        cell = (run["method"], 0 if run["method"] == DENSE else run["records"])
        drawn.setdefault(cell, {}).setdefault(run["seed"], []).append(run[measure])
    values = {
        cell: {seed: mean(of_seed) for seed, of_seed in seeds.items()}
        for cell, seeds in drawn.items()
    }
    for (count, seed), kappa in chosen_kappas(runs).items():
        values.setdefault((CHOSEN, count), {})[seed] = values[kappa, count][seed]
    return values


def chosen_kappas(runs: list[dict]) -> dict[tuple[int, int], str]:
    """For each count and fold, the kappa of least held-out error on the other folds.

    So the targets by which a kappa is judged had no part in choosing it.
    """
    errors: dict[tuple[int, str], dict[int, list[float]]] = {}
    for run in runs:
        name = run["method"]
        if name.startswith(CLOSED_FORM) and name not in ABLATIONS:
            by_seed = errors.setdefault((run["records"], name), {})
            by_seed.setdefault(run["seed"], []).append(run["held_out"])
    chosen = {}
    for count, seed in sorted({(run["records"], run["seed"]) for run in runs}):
        others = {
            name: [mean(draws) for other, draws in by_seed.items() if other != seed]
            for (records, name), by_seed in errors.items()
            if records == count and seed in by_seed
        }
        if others and all(others.values()):
            chosen[count, seed] = min(others, key=lambda name: mean(others[name]))
    return chosen


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95% interval."""
    if len(values) < 2:
        return values[0], float("nan")
    return mean(values), STUDENT[len(values) - 1] * stdev(values) / len(values) ** 0.5


def difference(one: Values, other: Values) -> tuple[float, float]:
    """Mean paired difference over the seeds that both have, and half the width of its interval."""
    return interval([one[seed] - other[seed] for seed in sorted(one) if seed in other])


def better(one: Values, other: Values, sign: int) -> bool:
    """Whether the first is better by more than chance: its interval leaves 0 out."""
    gap, half = difference(one, other)
    return sign * gap > half


def tables(runs: list[dict], *, loaded: bool) -> list[str]:
    """All tables and verdicts, in Markdown."""
    counts = sorted({run["records"] for run in runs if run["method"] != DENSE})
    shown = (*OURS, *RIVALS, *ABLATIONS)
    lines: list[str] = []
    for measure, (title, show, sign) in MEASURES.items():
        values = by_cell(runs, measure)
        unit = "" if measure == "kish" else ", in %"
        lines += ["", f"{title}{unit}:", "", *header("", *(f"{count:,}" for count in counts))]
        for name in shown:
            label = f"**{name}**" if name in OURS else f"*{name}*" if name in ABLATIONS else name
            cells = [_cell(values, name, count, shown, show, sign) for count in counts]
            lines.append(row(label, *cells))
        if measure != "drift":  # It counts from these weights.
            dense, half = interval(list(values[DENSE, 0].values()))
            lines += ["", f"All records, no draw: {show(dense)} ± {show(half)}."]
    return [*lines[1:], "", *_seconds(runs, shown, counts, loaded), "", *verdicts(runs, counts)]


def _cell(
    values: dict[Cell, Values],
    name: str,
    count: int,
    shown: tuple[str, ...],
    show: Callable[[float], str],
    sign: int,
) -> str:
    """Mean and interval; in bold unless another one is better by more than chance."""
    own = values.get((name, count))
    if own is None:
        return ""
    average, half = interval(list(own.values()))
    rivals = [values[other, count] for other in shown if (other, count) in values]
    best = max(rivals, key=lambda theirs: sign * mean(theirs.values()))
    text = f"{show(average)} ± {show(half)}"
    return text if best is not own and better(best, own, sign) else f"**{text}**"


def _seconds(
    runs: list[dict], shown: tuple[str, ...], counts: list[int], loaded: bool
) -> list[str]:
    """Mean seconds of a draw and its refit. A path of penalties serves all counts of a fold."""
    lines = header("seconds", *(f"{count:,}" for count in counts))
    for name in shown:
        if name == CHOSEN:
            continue
        own = [run for run in runs if run["method"] == name]
        if not own:
            continue
        folds = {run["seed"] for run in own}
        cells = []
        for count in counts:
            refits = [run["refit_seconds"] for run in own if run["records"] == count]
            draws = [run["draw_seconds"] for run in own if run["records"] == count]
            if name in ("L1", "gates, Adam"):
                draws = [sum(run["draw_seconds"] for run in own) / len(folds) / len(counts)]
            cells.append(f"{mean(draws) + mean(refits):.1f}" if refits else "")
        lines.append(row(name, *cells))
    note = "Draw and refit, after the dense solve, on one thread"
    note += " of a busy machine: read them against each other only." if loaded else "."
    return [*lines, "", f"{note} The paths of L1 and of the gates are spread over their counts."]


def verdicts(runs: list[dict], counts: list[int]) -> list[str]:
    """Where a rival is better than ours by more than chance, and how often ours are."""
    lines = []
    for ours in OURS[:-1]:
        for measure, (_, show, sign) in list(MEASURES.items())[:3]:  # Not the train error.
            values = by_cell(runs, measure)
            ahead, behind, pairs = 0, [], 0
            for count in counts:
                for rival in RIVALS:
                    if (rival, count) not in values:
                        continue
                    one, other = values[ours, count], values[rival, count]
                    pairs += 1
                    ahead += better(one, other, sign)
                    if better(other, one, sign):
                        gap, half = difference(one, other)
                        behind.append(f"{rival} at {count:,} (by {show(abs(gap))} ± {show(half)})")
            beaten = "; ".join(behind) or "none"
            lines.append(
                f"- {ours}, {measure.replace('_', '-')}: better than a rival in {ahead} of "
                f"{pairs} comparisons, tied in {pairs - ahead - len(behind)}; behind: {beaten}."
            )
    kappas = chosen_kappas(runs)
    words = []
    for count in counts:
        found = [kappas[key].removeprefix(CLOSED_FORM) for key in sorted(kappas) if key[0] == count]
        words.append(f"{count:,}: {', '.join(found)}")
    return [*lines, f"- Kappa chosen by the other folds, fold by fold: {'; '.join(words)}."]
