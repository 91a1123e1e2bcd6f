"""The face of the package: a problem in, calibrated weights out, on as few records as asked."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import checked_weights
from microcalibrate.engine.distances import Distance, distance_named
from microcalibrate.engine.feasibility import Feasibility, check_feasibility
from microcalibrate.engine.losses import Loss, loss_named
from microcalibrate.engine.optimum import Optimum
from microcalibrate.errors import InvalidOption, InvalidProblem
from microcalibrate.outcome import Outcome, States, checked_quotients
from microcalibrate.problem import Problem
from microcalibrate.progress import ProgressBar
from microcalibrate.record_options import record_options
from microcalibrate.relinearising import Moving, linear_part
from microcalibrate.result import CalibrationResult
from microcalibrate.running import run
from microcalibrate.settings import Settings, refuse_idle
from microcalibrate.structure import Structure, labelled, options_for, parts_table

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.targets import Difference, Quotients

Vector = NDArray[np.float64]


class NotConvergedWarning(UserWarning):
    """A calibration ended before its certificate was reached; the text says why."""


class Calibration:
    """Calibrates survey weights to population targets, on all records or on the few that matter.

    Args:
        weights: Design weights, shape `(n_records,)`, persons (or households) per record.
        targets: Population totals, shape `(n_targets,)`, or a mapping by target name.
        estimate_matrix: What each record adds to each target per unit of weight, shape
            `(n_records, n_targets)`: DataFrame (its columns name the targets), array or SciPy
            sparse matrix. Never densified.
        l0_lambda: Price of records: of the share of records kept, in units of the mean squared
            relative error. 0 keeps all; 1e-3 to 1 keep roughly 40% to 4%.
        target_records: Exact number of records (with `cluster`, of clusters) to keep, instead of a
            price.
        target_names: Names of the targets, where the matrix has no column names.
        tolerances: Fractions of the target that it may be missed by: one number, a sequence, or a
            mapping by name. 0 is exact; missing or NaN is soft: met as well as can be.
        importances: How much each soft target counts, relative to the others.
        scales: What a relative error is relative to; `|target|` where not given.
        min_weight_ratio: Least calibrated over design weight, a number or one per record; -inf
            lets weights turn negative.
        max_weight_ratio: Greatest calibrated over design weight; None is no bound.
        min_weight: Least calibrated weight of a record with a design weight; None is no bound.
        max_weight: Greatest calibrated weight, a number or one per record.
        frozen: Mask of records that keep their design weight exactly, shape `(n_records,)`.
        heteroscedasticity: Factors `q`, one per record: weights of large ones move more freely.
            R's `variance` and `sigma2` are the inverse of it.
        cluster: A label per record, such as that of its household: records of a cluster get one
            ratio, so that equal design weights stay equal, and are kept or dropped together.
        partition: A label per record, such as its state, where each target is about the records
            of one label only: the parts are solved side by side, to the same answer.
        distance: "chi2" (linear), "raking", "logit" (with the bounds on the ratio as limits that
            it never reaches), "truncated_linear" (chi2 under the name it has with bounds), "sinh",
            "hellinger", or a `Distance` of your own: what closeness to design weights means.
        loss: What errors of soft targets cost: "squared", "absolute", "huber:0.1" (squares up to
            that relative error), or "capped:1" (absolute errors, none counting more than that;
            not convex, so the answer is the best near it, with status `STATIONARY`).
        closeness: Price of distance in units of the loss: for squares, half the mean squared
            relative error. Lower fits soft targets better, higher keeps weights more even.
        refit_closeness: The same for the refit of kept records; ten times `closeness` if None.
        kappa: Price of concentrated weights when records are chosen: higher keeps weights even.
        selection: "closed_form" (optimal inclusion probabilities, drawn systematically), "top_k",
            "random", or "sampled_gates" (trained by gradient descent).
        temperature: Final temperature of the gates, for `selection="sampled_gates"` only.
        seed: Of the draw.
        device: Torch device, for `selection="sampled_gates"` only.
        families: A family per target, for tables and plots; the part of the name before its last
            "/" where not given.
        record_ids: A label per record for the files written; positions where not given.
        differences: Targets that are differences of two means, ratios or shares, as
            `build_targets(…, differences=True)` has them. They are not linear in the weights:
            their columns are made anew where the weights have gone, until these stand still.
        quotients: Targets that are means, ratios, shares or quantiles, as `build_targets` has
            them: tolerances hold, and the result shows these, in their own unit.

    Attributes:
        problem: The checked problem; differences are linear in it, as near the weights.
        settings: The checked options.
        result: The `CalibrationResult`, after `calibrate()`.

    Raises:
        InvalidProblem: If weights, targets or matrix do not fit together; the message says where.
        InvalidOption: If an option is out of its range, or cannot be honoured with the others.

    Examples:
        >>> cal = Calibration([1.0, 1.0, 1.0], [4.0], [[1.0], [1.0], [0.0]], tolerances=0)
        >>> cal.calibrate()
        array([2., 2., 1.])
    """

    def __init__(
        self,
        weights: Any,
        targets: Any,
        estimate_matrix: Any,
        l0_lambda: float = 0.0,
        *,
        target_records: int | None = None,
        target_names: Sequence[str] | None = None,
        tolerances: Any = None,
        importances: Any = None,
        scales: Any = None,
        min_weight_ratio: Any = 0.0,
        max_weight_ratio: Any = None,
        min_weight: Any = None,
        max_weight: Any = None,
        frozen: Any = None,
        heteroscedasticity: Any = None,
        cluster: Any = None,
        partition: Any = None,
        distance: str | Distance = "chi2",
        loss: str | Loss = "squared",
        closeness: float = 1e-4,
        refit_closeness: float | None = None,
        kappa: float = 1.0,
        selection: str = "closed_form",
        temperature: float | None = None,
        seed: int = 0,
        device: str | None = None,
        families: Sequence[str] | None = None,
        record_ids: Any = None,
        differences: Sequence[Difference] = (),
        quotients: Quotients | None = None,
    ) -> None:
        problem = Problem.build(
            weights,
            targets,
            estimate_matrix,
            target_names=target_names,
            scales=scales,
            tolerances=tolerances,
            importances=importances,
            min_weight_ratio=min_weight_ratio,
            max_weight_ratio=max_weight_ratio,
            min_weight=min_weight,
            max_weight=max_weight,
            frozen=frozen,
            heteroscedasticity=heteroscedasticity,
        )
        self.settings = Settings.checked(
            problem,
            l0_lambda=l0_lambda,
            target_records=target_records,
            kappa=kappa,
            distance=distance_named(distance),
            loss=loss_named(loss),
            closeness=closeness,
            refit_closeness=refit_closeness,
            selection=selection,
            temperature=temperature,
            seed=seed,
            device=device,
        )
        refuse_idle(self.settings, kappa, selection, refit_closeness)
        self._quotients = checked_quotients(quotients, problem)
        self._moving = Moving.checked(differences, self._quotients, problem)
        self.problem = self._moving.at(problem, problem.design_weights)
        self._structure = Structure.checked(self.problem, self.settings, cluster, partition)
        before_slash = [name.rpartition("/")[0] or "targets" for name in problem.target_names]
        self._families = labelled(families, before_slash, "families")
        self._record_ids = np.array(labelled(record_ids, range(problem.n_records), "record_ids"))
        self._result: CalibrationResult | None = None

    @classmethod
    def from_table(
        cls, data: Any, targets: Any, weight: str = "weight", **options: Any
    ) -> Calibration:
        """Set up a calibration from a table of records and a table of declared targets.

        Args:
            data: DataFrame (pandas or polars), one row per record.
            targets: Table of targets; see `microcalibrate.targets.build_targets`.
            weight: Column of `data` that holds the design weights.
            **options: Any keyword of `Calibration`. A `tolerances` here overrides the table's; the
                name of a column stands for its values in `frozen`, `heteroscedasticity`, `cluster`
                and `partition`.

        Returns:
            The calibration, ready to run.

        Raises:
            InvalidProblem: If the weight column is missing, or a target cannot be built.

        Examples:
            >>> import pandas as pd
            >>> people = pd.DataFrame({"weight": [1.0, 1.0], "age": [30, 70]})
            >>> wanted = [{"name": "old", "value": 3.0, "filter": "age >= 65", "tolerance": 0}]
            >>> Calibration.from_table(people, wanted).calibrate()
            array([1., 3.])
        """
        from microcalibrate.targets import build_targets

        if weight not in data.columns:
            raise InvalidProblem(
                f'the data have no column "{weight}" to take design weights from. Name it with '
                f"`weight=`; columns are: {', '.join(map(str, list(data.columns)[:12]))}."
            )
        weights = checked_weights(data[weight].to_numpy())
        built = build_targets(data, targets, initial_weights=weights, differences=True)
        return cls(weights, built.values, built.matrix, **options_for(data, built, options))

    @classmethod
    def from_tables(
        cls,
        tables: Any,
        targets: Any,
        *,
        unit: str | None = None,
        weight: str | None = None,
        ids: Mapping[str, str] | None = None,
        links: Mapping[str, Mapping[str, str]] | None = None,
        **options: Any,
    ) -> Calibration:
        """Set up a calibration of households with targets for them and for their members.

        Each unit has one weight, and adds to a target what its rows of the target's table add.

        Args:
            tables: A DataFrame per entity, `{"household": …, "person": …}`, or a survey.
            targets: Table of targets, as for `from_table`. The column `entity` names the table
                that each is about, the unit's where it is blank; filters may also name columns of
                the unit.
            unit: Entity that carries the weight; the one whose table has its column if None.
            weight: Column with the design weights of the units, "weight" if None.
            ids: Identifier column of each entity; `<entity>_id` if None.
            links: Child entity to (parent entity to link column); columns of a child that are
                called like an identifier of a parent if None.
            **options: Any keyword of `Calibration`; names of columns are those of the unit.

        Returns:
            The calibration, with a record per unit in the order of its table.

        Raises:
            InvalidProblem: If tables are not linked, or a target cannot be built.

        Examples:
            >>> import pandas as pd
            >>> homes = pd.DataFrame({"household_id": [1, 2], "weight": [1.0, 1.0]})
            >>> tables = {"household": homes, "person": pd.DataFrame({"household_id": [1, 2, 2]})}
            >>> wanted = [{"name": "people", "value": 5, "aggregate": "count", "entity": "person"}]
            >>> Calibration.from_tables(tables, wanted, tolerances=0).calibrate()
            array([1.4, 1.8])
        """
        from microcalibrate.linked_tables import linked_units
        from microcalibrate.targets import targets_of_units

        frame, weights = linked_units(tables, unit=unit, weight=weight, ids=ids, links=links)
        built = targets_of_units(
            frame.tables,
            frame.unit,
            lambda name: frame.rows_of(name, frame.unit),
            targets,
            weights,
            differences=True,
        )
        options.setdefault("record_ids", frame.unit_ids)
        options = options_for(frame.tables[frame.unit], built, options)
        return cls(weights, built.values, built.matrix, **options)

    def calibrate(
        self, max_iter: int = 1000, *, start_prices: Any = None, progress: bool | None = None
    ) -> Vector:
        """Find the weights.

        A dense solve with all records comes first; then, with a price or a count of records, a
        draw by optimal inclusion probabilities and a refit of the survivors. Ctrl-C ends the
        running solve and keeps its best weights, with a warning.

        Args:
            max_iter: Most Newton steps of each solve; some tens are usual.
            start_prices: Prices of the targets in nearly the same calibration, in the order of
                the targets, shape `(n_targets,)`: `result.targets["price"]` of a run with last
                year's targets, or of a replicate's whole sample. The weights are the same to the
                certificate's precision, in fewer steps.
            progress: Whether to show a bar with loss, gap and records; None shows it on a
                terminal.

        Returns:
            Calibrated weights, shape `(n_records,)`, exact zeros for dropped records.

        Raises:
            InfeasibleTargets: If exact or banded targets cannot all hold within the bounds.
            NotConverged: If differences of quotients do not settle.
            InvalidOption: If `max_iter` is out of its range, or `start_prices` are not one finite
                number per target.
        """
        if not isinstance(max_iter, (int, np.integer)) or max_iter < 1:
            raise InvalidOption(f"max_iter={max_iter!r} must be a whole number from 1.")
        begun = time.perf_counter()
        with ProgressBar(progress) as bar:
            self.problem, ran = run(
                self.problem,
                self.settings,
                self._structure,
                self._moving,
                max_iter=max_iter,
                bar=bar,
                start_prices=start_prices,
            )
        solution = ran.solution
        if not solution.status.is_certified:
            warnings.warn(
                f"{solution.status.value} (relative gap {solution.gap:.1e})",
                NotConvergedWarning,
                stacklevel=2,
            )
        self._optimum, self._parts = ran.optimum, ran.parts
        self._outcome = Outcome(
            ran.weights,
            ran.probabilities,
            solution,
            ran.history,
            ran.trails,
            ran.seconds | {"total": time.perf_counter() - begun},
            self.settings.as_plain(self.problem, max_iter) | self._structure.as_plain(),
            record_options(self.problem, **self._structure.labels),
        )
        self._result = None
        return ran.weights.copy()

    @property
    def weights(self) -> Vector:
        """Calibrated weights, shape `(n_records,)`."""
        return self.result.weights

    @property
    def result(self) -> CalibrationResult:
        """The full result of the last `calibrate()`.

        Raises:
            InvalidOption: If `calibrate()` has not been called yet.
        """
        if self._result is None:
            if not hasattr(self, "_outcome"):
                raise InvalidOption("there is no result yet: call `calibrate()` first.")
            self._result = self._outcome.result(
                self.problem,
                self._families,
                self._record_ids,
                differences=self._moving.differences,
                quotients=self._quotients,
                bands=self._moving.bands,
            )
        return self._result

    @property
    def optimum(self) -> Optimum:
        """The last solve of the last `calibrate()` with its problem: that of clusters, if any.

        Raises:
            InvalidOption: If `calibrate()` has not been called yet.
        """
        if not hasattr(self, "_optimum"):
            raise InvalidOption("there is no result yet: call `calibrate()` first.")
        return self._optimum

    @property
    def states(self) -> States:
        """The targets in the units that they were declared in, and what they are at weights."""
        return States(self.problem, self._moving.differences, self._quotients)

    @property
    def cluster_index(self) -> NDArray[np.int64] | None:
        """Position of each record's cluster, shape `(n_records,)`; None without clusters."""
        return self._structure.cluster

    @property
    def parts(self) -> pd.DataFrame:
        """One row per part of `partition`, each with its own certificate; none without one."""
        return parts_table(getattr(self, "_parts", ()))

    def check(self) -> Feasibility:
        """What is known before a solve: targets out of reach, copies, sums that disagree.

        Differences of quotients are left out: their columns change; see `check_targets`.
        """
        return check_feasibility(linear_part(self._structure.problem, self._moving.differences))

    def summary(self) -> str:
        """What was asked and what came out, in a few lines."""
        return self.result.summary()
