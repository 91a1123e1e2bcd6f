"""What a statistic would change by if a unit had not been there, and weights were fitted anew.

The closed forms leave the weights of all others as they are. In a calibrated survey they would not
be: the others take over what the unit brought to the targets. So the weights are fitted again
without it, from the weights in use, with the least entropy, and the statistic is computed anew in
the same cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from microcalibrate.diagnostics.frame import Index, Vector
from microcalibrate.diagnostics.incidence import Incidence
from microcalibrate.diagnostics.scenarios import BASELINE, Workplace
from microcalibrate.engine.distances import RAKING
from microcalibrate.engine.solving import solve
from microcalibrate.errors import InfeasibleTargets, InvalidProblem, NotConverged
from microcalibrate.problem import Problem
from microcalibrate.progress import Bar
from microcalibrate.result import Status

if TYPE_CHECKING:
    import pandas as pd

# Price of entropy in units of half the mean squared relative error of soft targets.
CLOSENESS = 1e-4
Wanted: TypeAlias = tuple[int, str, str, int]
PLACE = ("metric", "slice", "cell")


@dataclass(frozen=True, eq=False)
class Refitted:
    """Changes of statistics, by unit.

    Attributes:
        changes: Change of each statistic that was asked for, in its unit, NaN for units without
            which the targets cannot hold.
        failed: Units without which the targets cannot hold.
        n_steps: Steps of the engine, for the whole and then for each unit.
    """

    changes: Vector
    failed: Index
    n_steps: tuple[int, ...]


def without_each(
    place: Workplace,
    problem: Problem,
    units: Index,
    wanted: Sequence[Wanted],
    progress: bool | None = False,
) -> Refitted:
    """Leave out some units one by one, fit the weights of the others, and compare statistics.

    Args:
        place: Tables, cells and metrics.
        problem: The calibration; its weights are those in use.
        units: Units to leave out.
        wanted: Statistics: unit that is left out, metric, slice, and position of the cell.
        progress: Whether to show a bar; None shows it on a terminal.

    Raises:
        InfeasibleTargets: If the targets cannot hold even with all units.
        NotConverged: If that solve has no certificate.
        KeyboardInterrupt: If it was cancelled.
    """
    problem = replace(problem, design_weights=place.weights)
    whole = solve(problem, RAKING, closeness=CLOSENESS, phase="entropy").unless_cancelled()
    if whole.status is not Status.CONVERGED:
        raise NotConverged(
            f"the weights cannot be fitted to the targets: {whole.status.value}", result=whole
        )
    fitted = whole.ratio * place.weights
    statistics = _Statistics(place)
    before = [statistics.value(of, fitted) for of in wanted]
    changes = np.full(len(wanted), np.nan)
    of_unit = np.array([unit for unit, *_ in wanted], dtype=np.intp)
    failed: list[int] = []
    n_steps = [len(whole.history)]
    with Bar(progress, "left out", "records", total=len(units)) as bar:
        for unit in units.tolist():
            weights = place.weights.copy()
            weights[unit] = 0.0
            try:
                again = solve(
                    replace(problem, design_weights=weights), RAKING, closeness=CLOSENESS,
                    phase="entropy", start_prices=whole.prices,
                ).unless_cancelled()  # fmt: skip
            except (InfeasibleTargets, InvalidProblem):
                failed.append(unit)
            else:
                n_steps.append(len(again.history))
                if again.status is not Status.CONVERGED:
                    failed.append(unit)
                else:
                    fitted = again.ratio * weights
                    for row in np.flatnonzero(of_unit == unit).tolist():
                        changes[row] = statistics.value(wanted[row], fitted) - before[row]
            bar.advance()
    return Refitted(changes, np.array(failed, dtype=np.intp), tuple(n_steps))


def with_recalibrated(
    influence: pd.DataFrame,
    records: pd.DataFrame,
    place: Workplace,
    problem: Problem | None,
    most: int,
    progress: bool | None = False,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table of influence with one more column, `leave_one_out_recalibrated`.

    Args:
        influence: As `influence_table` gives it.
        records: One row per unit.
        place: Tables, cells and metrics.
        problem: The calibration; None asks for no solves.
        most: How many units are left out, those with the largest shares.
        progress: Whether to show a bar; None shows it on a terminal.

    Returns:
        The table, and how many units were left out with and without weights for the others.
    """
    import pandas as pd

    column = np.full(len(influence), np.nan)
    counts = {"n_recalibrated": 0, "n_not_recalibrated": 0}
    if problem is not None:
        largest = np.maximum(records["share"].to_numpy(), records["reform_max_share"].to_numpy())
        order = np.argsort(-np.nan_to_num(largest), kind="stable")
        units = order[place.weights[order] > 0][:most]
        of = pd.Index(records["id"]).get_indexer(pd.Index(influence["id"]))
        rows = np.flatnonzero((influence["reform"] == BASELINE).to_numpy() & np.isin(of, units))
        labels = {(i.entity, i.slice_name): i.labels for i in _incidences(place)}
        wanted = []
        for row in rows:
            metric, part, cell = (str(influence[name].iloc[row]) for name in PLACE)
            known = labels[place.metrics[metric].entity_in(place.frame), part]
            wanted.append((int(of[row]), metric, part, known.index(cell)))
        found = without_each(place, problem, units, wanted, progress)
        column[rows] = found.changes
        counts["n_recalibrated"] = len(units) - len(found.failed)
        counts["n_not_recalibrated"] = len(found.failed)
    after = influence.columns.tolist().index("leave_one_out")
    table = influence.copy(deep=False)
    table.insert(after + 1, "leave_one_out_recalibrated", column)
    return table, counts


def _incidences(place: Workplace) -> Iterator[Incidence]:
    for metric in place.surface.metrics:
        yield from place.incidences(metric)


class _Statistics:
    """Statistics at baseline with other weights, in the cells that they have."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._values: dict[str, tuple[Vector, Vector | None]] = {}
        self._sums: dict[tuple[str, str], tuple[Incidence, Vector, Vector | None]] = {}

    def value(self, of: Wanted, weights: Vector) -> float:
        """Estimate of one statistic; NaN where there is nothing to divide by."""
        _, metric, part, cell = of
        incidence, amount, base = self._added_up(metric, part)
        here = incidence.cell == cell
        of_pairs = incidence.of_pairs(weights)[here]
        total = float(of_pairs @ amount[here])
        if base is None:
            return total
        below = float(of_pairs @ base[here])
        return total / below if below else float("nan")

    def _added_up(self, metric: str, part: str) -> tuple[Incidence, Vector, Vector | None]:
        key = metric, part
        if key not in self._sums:
            place = self._place
            of = place.metrics[metric]
            incidence = next(i for i in place.incidences(of) if i.slice_name == part)
            below = of.denominators(place.frame)
            self._sums[key] = (
                incidence,
                incidence.added_up(of.numerator(place.frame)),
                None if below is None else incidence.added_up(below),
            )
        return self._sums[key]
