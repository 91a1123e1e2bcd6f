"""What generated rows must reach before records are spread over them: a table of limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Direction = Literal["at most", "at least"]


@dataclass(frozen=True)
class Gate:
    """A limit on one figure.

    Small samples differ by chance. So, where `times_baseline` is given, the limit is widened, if
    that is wider, to that factor times what real samples show against each other: of the same
    sizes over random splits (mean and two standard deviations), or the training rows against the
    very holdout, for nothing that learns from them can be asked to be nearer to it.

    Attributes:
        family: What it is about.
        metric: The figure.
        words: The figure in words, for `QualityReport.summary`.
        limit: Value that must be kept; None where only real samples tell, or nothing is asked.
        direction: Side on which a figure passes.
        times_baseline: Factor to the edge of the real samples; None to ignore them.
    """

    family: str
    metric: str
    words: str
    limit: float | None = None
    direction: Direction = "at most"
    times_baseline: float | None = None

    def limit_given(self, edge: float | None, learned: float | None = None) -> float | None:
        """The limit, widened to real samples; None where the figure is only reported."""
        if self.times_baseline is None or edge is None:
            return self.limit
        widest = max if self.direction == "at most" else min
        real = edge if learned is None else widest(edge, learned)
        widened = self.times_baseline * real
        return widened if self.limit is None else widest(self.limit, widened)


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        value: Of the generated rows.
        baseline: Of real rows against real rows, mean over random splits; None if not measured.
        edge: That mean and two standard deviations to the side of the limit.
        learned: The same figure of the training rows against the same holdout.
        note: What the reader needs to know, or empty.
    """

    value: float
    baseline: float | None = None
    edge: float | None = None
    note: str = ""
    learned: float | None = None


def with_baselines(
    values: Mapping[str, float],
    splits: Sequence[Mapping[str, float]],
    gates: Sequence[Gate],
    family: str,
    learned: Mapping[str, float] | None = None,
) -> dict[tuple[str, str], Figure]:
    """Figures of a family with the same figures of random splits of real rows."""
    directions = {gate.metric: gate.direction for gate in gates if gate.family == family}
    found = {}
    for metric, value in values.items():
        real = np.array([split[metric] for split in splits if metric in split])
        if len(real):
            is_upper = directions.get(metric, "at most") == "at most"
            # Of few splits, two standard deviations say more than an empirical quantile.
            spread = 2 * float(real.std(ddof=1)) if len(real) > 1 else 0.0
            edge = float(real.mean()) + (spread if is_upper else -spread)
            of_learned = (learned or {}).get(metric)
            found[family, metric] = Figure(value, float(real.mean()), edge, learned=of_learned)
        else:
            found[family, metric] = Figure(value)
    return found


def judged(
    figures: Mapping[tuple[str, str], Figure],
    gates: Sequence[Gate],
    known_failures: Mapping[str, str],
) -> pd.DataFrame:
    """The table of gates.

    Args:
        figures: By family and metric.
        gates: Limits; those without a figure are left out.
        known_failures: Metric to the reason why this backend fails its gate knowingly. The failure
            stands, and the note says why.

    Returns:
        A row per figure: `family`, `metric`, `words`, `value`, `baseline`, `limit` (NaN where
        only reported), `direction`, `passed` (missing where only reported) and `note`.
    """
    rows = []
    for gate in gates:
        figure = figures.get((gate.family, gate.metric))
        if figure is None:
            continue
        limit = gate.limit_given(figure.edge, figure.learned)
        passed = None
        if limit is not None:
            # A limit that was computed from the same kind of figures may differ by rounding.
            slack = 1e-12 * max(1.0, abs(limit))
            is_low = figure.value <= limit + slack
            is_high = figure.value >= limit - slack
            passed = bool(is_low if gate.direction == "at most" else is_high)
        note = figure.note
        if limit is not None and limit != gate.limit:
            note = f"{note}; " * bool(note) + "limit from real samples of these sizes"
        if passed is False and (why := known_failures.get(gate.metric)):
            note = f"{note}; " * bool(note) + why
        rows.append(
            {
                "family": gate.family,
                "metric": gate.metric,
                "words": gate.words,
                "value": figure.value,
                "baseline": np.nan if figure.baseline is None else figure.baseline,
                "limit": np.nan if limit is None else limit,
                "direction": gate.direction,
                "passed": passed,
                "note": note,
            }
        )
    columns = ("family", "metric", "words", "value", "baseline", "limit", "direction")
    table = pd.DataFrame(rows, columns=[*columns, "passed", "note"])
    return table.astype({"passed": "boolean"})
