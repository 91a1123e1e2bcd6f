"""One scenario, the baseline or a reform, measured over the whole surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.columns import did_you_mean
from microcalibrate.diagnostics.cells import Cells
from microcalibrate.diagnostics.flags import FlagRules
from microcalibrate.diagnostics.frame import Frame, Index, Vector
from microcalibrate.diagnostics.incidence import Design, Incidence, build_incidence
from microcalibrate.diagnostics.influence import measure
from microcalibrate.diagnostics.reforms import NamedReform
from microcalibrate.diagnostics.surface import OVERALL, Metric, Surface
from microcalibrate.diagnostics.tracking import Tracker
from microcalibrate.errors import CalibrationError, ReformFailed

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "baseline"

# A change this small beside the amounts is the rounding of a model that changed nothing.
LEAST_CHANGE = 1e-12


@dataclass(frozen=True, eq=False)
class Scenario:
    """What one scenario gave.

    Attributes:
        name: "baseline", or the reform's name.
        status: "ok", "inert" (it changed nothing) or "failed".
        message: The description of a reform, or what failed.
        cells: One table per metric and slice, a row per cell.
        entries: Figures above the floor by name, one mapping per metric and slice.
        tracker: Running figures of the units; None where nothing was measured.
        gross_change: Weighted absolute amount of all metrics that were measured.
        metrics: Their names.
    """

    name: str
    status: str
    message: str = ""
    cells: list[pd.DataFrame] = field(default_factory=list)
    entries: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    tracker: Tracker | None = None
    gross_change: float = 0.0
    metrics: tuple[str, ...] = ()


class Workplace:
    """What all scenarios share: tables, weights, cells, and how rows add up.

    Args:
        frame: The tables.
        surface: What is reported.
        weights: Weight of each unit.
        lineage: Number of each unit's origin; None where each is its own.
        design: How the units were sampled.
        rules: The limits.
        extra_metrics: Those that a space of reforms brings along.
    """

    def __init__(
        self,
        frame: Frame,
        surface: Surface,
        weights: Vector,
        lineage: Index | None,
        design: Design,
        rules: FlagRules,
        extra_metrics: tuple[Metric, ...] = (),
    ) -> None:
        """Work out the cells of every slice once."""
        self.frame, self.surface, self.weights = frame, surface, weights
        self.lineage, self.design, self.rules = lineage, design, rules
        self.n_lineages = frame.n_units if lineage is None else int(lineage.max()) + 1
        # Of two metrics of a name, that of the surface is meant.
        self.metrics = {metric.name: metric for metric in (*extra_metrics, *surface.metrics)}
        everyone = Cells(np.zeros(frame.n_units, dtype=np.intp), (OVERALL,))
        self.slices = [(OVERALL, frame.unit, everyone)]
        for part in surface.slices:
            self.slices.append((part.name, part.entity_in(frame), part.cells(frame, weights)))
        self._incidences: dict[tuple[str, str], Incidence] = {}
        self._baseline: dict[str, Vector] = {}
        self._denominators: dict[str, Vector | None] = {}
        for metric in self.metrics.values():
            for incidence in self.incidences(metric):
                self._incidences[incidence.entity, incidence.slice_name] = incidence

    def incidences(self, metric: Metric) -> list[Incidence]:
        """How the rows of a metric add up in each slice that they can be reported in."""
        entity = metric.entity_in(self.frame)
        found = []
        for name, slice_entity, cells in self.slices:
            if not self.frame.is_within(entity, slice_entity):
                continue
            known = self._incidences.get((entity, name))
            found.append(
                known
                or build_incidence(
                    self.frame, entity, name, slice_entity, cells, self.lineage, self.design.psu
                )
            )
        return found

    def prepare_reforms(self) -> None:
        """Work out the baseline of every metric before reforms are compared with it."""
        for metric in self.metrics.values():
            self._baseline[metric.name] = metric.numerator(self.frame)
            self._denominators[metric.name] = metric.denominators(self.frame)

    def baseline(self) -> Scenario:
        """Every metric of the surface as it is."""
        tracker = Tracker(self.frame.n_units, self.n_lineages)
        found = Scenario(BASELINE, "ok", tracker=tracker)
        first = 0
        for metric in self.surface.metrics:
            values = metric.numerator(self.frame)
            first = self._measure(found, metric, values, metric.denominators(self.frame), first)
        return found

    def reform(self, reform: NamedReform, on_error: str) -> Scenario:
        """The changes that a reform makes.

        Raises:
            ReformFailed: If it raises an error or returns something else than values of metrics,
                and errors are not to be recorded.
        """
        try:
            changes = self._changes(reform)
        except ReformFailed as error:
            if on_error == "raise":
                raise
            return Scenario(reform.name, "failed", message=str(error))
        if not changes:
            return Scenario(reform.name, "inert", message=reform.description)
        gross = 0.0
        for name, change in changes.items():
            entity = self.metrics[name].entity_in(self.frame)
            of_rows = self.weights[self.frame.rows_of(entity, self.frame.unit)]
            gross += float(np.abs(of_rows * change).sum())
        tracker = Tracker(self.frame.n_units, self.n_lineages)
        found = Scenario(
            reform.name,
            "ok",
            message=reform.description,
            tracker=tracker,
            gross_change=gross,
            metrics=tuple(changes),
        )
        first = 0
        for name, change in changes.items():
            first = self._measure(
                found, self.metrics[name], change, self._denominators[name], first
            )
        return found

    def _changes(self, reform: NamedReform) -> dict[str, Vector]:
        """Change of each metric that the reform changes at all."""
        tables = {name: table.copy(deep=False) for name, table in self.frame.tables.items()}
        try:
            returned = reform.apply(tables)
        except Exception as error:
            # Whatever a user's model raises is passed on with the name of the reform.
            raise ReformFailed(
                f"{reform.name!r} raised {type(error).__name__}: {error}. Mend it, or pass "
                "on_error='record' to go on without it."
            ) from error
        if not isinstance(returned, Mapping) or not returned:
            raise ReformFailed(
                f"{reform.name!r} returned a {type(returned).__name__}"
                f"{' without entries' if isinstance(returned, Mapping) else ''}: it must return a "
                "mapping from names of metrics to one value per row."
            )
        changes = {}
        for name, values in returned.items():
            if name not in self.metrics:
                near = did_you_mean(str(name), self.metrics).replace("columns", "metrics")
                raise ReformFailed(
                    f"{reform.name!r} returned {name!r}, which is no metric of the surface.{near}"
                )
            try:
                change = self.metrics[name].checked(self.frame, values) - self._baseline[name]
            except CalibrationError as error:
                raise ReformFailed(f"{reform.name!r}: {error}") from error
            size = np.abs(self._baseline[name]).max(initial=0.0)
            if np.abs(change).max(initial=0.0) > LEAST_CHANGE * size:
                changes[str(name)] = change
        return changes

    def _measure(
        self,
        scenario: Scenario,
        metric: Metric,
        values: Vector,
        denominators: Vector | None,
        first: int,
    ) -> int:
        """Add one metric to a scenario; the number of the next statistic."""
        import pandas as pd

        for incidence in self.incidences(metric):
            measured = measure(
                values, denominators, incidence, self.weights, self.design, self.rules
            )
            assert scenario.tracker is not None
            scenario.tracker.update(measured, incidence, first)
            table = pd.DataFrame(measured.cells)
            table.insert(0, "metric", metric.name)
            table.insert(1, "kind", metric.kind)
            table.insert(2, "slice", incidence.slice_name)
            table.insert(3, "cell", list(incidence.labels))
            scenario.cells.append(table)
            scenario.entries.append(
                {**measured.entries, "statistic": first + measured.entries["cell"]}
            )
            first += incidence.n_cells
        return first
