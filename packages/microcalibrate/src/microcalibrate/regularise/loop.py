"""Spread units that carry too much over generated ones, and keep only what is better."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from microcalibrate.atomic import check_run_folder
from microcalibrate.diagnostics import Surface, default_surface
from microcalibrate.diagnostics.frame import Frame
from microcalibrate.errors import InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.progress import Bar
from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.checkpoint import fingerprint, read_checkpoint, write_checkpoint
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.comparison import calibrated
from microcalibrate.regularise.conditions import geography_columns
from microcalibrate.regularise.footing import Footing
from microcalibrate.regularise.history import Progress
from microcalibrate.regularise.options import OnRound
from microcalibrate.regularise.preparation import (
    checked_options,
    held_out_folds,
    measured_start,
    prior_weights,
    rows_builder,
    spawner_of,
    unpacked,
)
from microcalibrate.regularise.provenance import marked, original_weights
from microcalibrate.regularise.result import RegulariseResult, unmarked_columns
from microcalibrate.regularise.rounds import Loop
from microcalibrate.regularise.stability import COLUMNS as STABILITY_COLUMNS
from microcalibrate.regularise.stability import stability
from microcalibrate.regularise.state import State, Yardstick
from microcalibrate.regularise.survey import Survey
from microcalibrate.regularise.tabulating import (
    comparison_table,
    irreducible_table,
    lineage_table,
    offenders_table,
    rounds_table,
    targets_table,
    units_table,
)
from microcalibrate.regularise.target_rows import (
    BuildMatrix,
    Evaluate,
    Evaluated,
    as_vector,
)
from microcalibrate.result import installed_versions

if TYPE_CHECKING:
    from microcalibrate.diagnostics import Reform, ReformSpace


def regularise(
    survey: Survey,
    model: Any,
    targets: Any,
    *,
    codec: Codec | None = None,
    build_matrix: BuildMatrix | None = None,
    evaluate: Evaluate | None = None,
    tolerances: Any = None,
    importances: Any = None,
    scales: Any = None,
    surface: Surface | Mapping[str, Any] | None = None,
    reforms: ReformSpace | Mapping[str, Reform] | Sequence[Reform] | None = None,
    limits: Limits | None = None,
    allow_poor_model: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
    on_round: OnRound | None = None,
    **options: Any,
) -> RegulariseResult:
    """Spread units that carry too much of what is reported over generated ones, in rounds.

    Each round takes the flagged units that are furthest above their limit, at baseline or over
    reforms; draws offspring for them that share a fifth to four fifths of their cells, always
    those that put them where they carry too much; hands their weight down; recalibrates all
    weights with the least entropy; and diagnoses the outcome. It is kept only if targets and
    held-out targets still fit, the largest share of these records fell, and no origin gained,
    all compared with recalibration alone. Otherwise it is rolled back, and a batch of several is
    tried again in two parts before its units are given up. Flags count in statistics that were
    not thin at the start: offspring make cells less thin.

    Args:
        survey: Tables, weights and schema.
        model: A fitted generator, or a trained model that has one with its codec and quality.
        targets: Without `build_matrix`, a table of declared targets (see
            `microcalibrate.targets.build_targets`) with one more column, `entity`: whose rows a
            target is of, blank for the unit; what members add is summed up. With `build_matrix`,
            totals by name.
        codec: Of the generator's rows; None takes the model's, else fits one to the survey.
        build_matrix: Your own model: tables to the estimate matrix, a row per unit. It is called
            with all tables once, then with generated units alone, which is checked once.
        evaluate: Your own model: tables to further columns, `name` for the unit's table or
            `entity.name`, for use in the surface. Called as `build_matrix` is.
        tolerances: As in `Calibration`; only with `build_matrix`.
        importances: As in `Calibration`; only with `build_matrix`.
        scales: As in `Calibration`; only with `build_matrix`.
        surface: What is reported; None chooses by the rules of `default_surface`.
        reforms: Over which changes to look too; see `diagnose`. The draw is the same throughout.
        limits: What a round may cost; see `Limits`.
        allow_poor_model: Whether a trained model whose quality report failed may be used.
        folder: Where to keep the state after each round.
        resume: Whether to go on from the state in `folder`, if there is one.
        progress: Whether to show a bar; None shows it on a terminal.
        on_round: Called with the figures of each round.
        **options: `threshold` (0.05), `flag_dominating` (True), `reform_fraction` (0.2),
            `n_reforms`, `on_error`: as in `diagnose`. `mode` ("replace": offspring stand in for
            their source; "retain": the source stays with an equal share of the weight).
            `structure` ("donor": who is in a household comes whole from a real one; "sampled").
            `batch` (20 units a round), `max_rounds` (20), `max_added` (records), `time_budget`
            (seconds, looked at between rounds). `share_target` (half of the threshold) and
            `weight_target` (99th percentile of weights): what an offspring should have at most,
            which says how many there are, 2 to `max_offspring` (50). `geography`: columns of the
            unit that offspring always share. `borrow` (True): where the generator has nothing
            alike in the same place, draw without regard to the place, and put it there. `prior`
            ("base" weights or the "weights" in use), `entropy_lambda` (1e-4), `cap` (largest
            weight): see `recalibrate`. `n_folds` of held-out targets (5, or as many as there are
            groups; 0 for none).
            `n_stability_seeds` (0, or from 5): seeds to repeat the spread with. `seed` (0).

    Returns:
        The survey and the evidence; with nothing flagged or nothing kept, the survey as it came.

    Raises:
        InvalidOption: If an option is out of its range or cannot be honoured.
        InvalidSurvey: If the survey is not of the schema of the codec.
        InvalidTargetTable: If a declared target cannot be built.
        InvalidProblem: If a user's function gives no proper rows, or looks beyond a household.
        InfeasibleTargets: If hard targets cannot hold even without a cap.
        KeyboardInterrupt: If it is cancelled before the first round; later on, the best state so
            far is returned.
    """
    begun = time.perf_counter()
    chosen = checked_options(options)
    generator, codec = unpacked(model, codec, survey, allow_poor_model)
    if resume and folder is None:
        raise InvalidOption("resume=True needs the `folder` of the run to go on with.")
    place = None if folder is None else Path(folder)
    if place is not None and not resume:
        check_run_folder(place)
    limits = Limits() if limits is None else limits
    builder = rows_builder(targets, build_matrix, tolerances, importances, scales)
    start_survey = marked(survey)
    weights = as_vector(survey.weights)
    matrix, target_set = builder.build(start_survey, weights)
    evaluated = None if evaluate is None else Evaluated.of(evaluate, start_survey)
    prior = prior_weights(survey, chosen)
    bare = Problem.build(
        prior, target_set.values, matrix, target_names=target_set.names, scales=target_set.scales,
        tolerances=target_set.tolerances, importances=target_set.importances,
    )  # fmt: skip
    folds = held_out_folds(bare, chosen)
    tables = start_survey.tables if evaluated is None else evaluated.attached(start_survey.tables)
    frame = Frame(tables, survey.unit, survey.ids, survey.links)
    if surface is None:
        weight_columns = {survey.schema.weight, survey.schema.base_weight} - {None}
        surface = default_surface(frame, weights, frozenset(map(str, weight_columns)))
    elif not isinstance(surface, Surface):
        surface = Surface.from_mapping(surface)
    yardstick = Yardstick(
        surface=surface,
        diagnosing={
            "reforms": reforms,
            "n_reforms": chosen.n_reforms,
            "threshold": chosen.threshold,
            "seed": chosen.seed,
            "on_error": chosen.on_error,
            "reform_fraction": chosen.reform_fraction,
            "flag_dominating": chosen.flag_dominating,
        },
        targets=target_set,
        folds=folds,
        entropy_lambda=chosen.entropy_lambda,
        cap=chosen.cap,
        footing=Footing({}, frozenset(), chosen.reform_fraction),
    )
    first = yardstick.diagnosed(start_survey, evaluated)
    yardstick = replace(yardstick, footing=Footing.of(first))
    positive = weights[weights > 0]
    loop = Loop(
        start=start_survey,
        spawner=spawner_of(model, generator, codec, survey, chosen),
        builder=builder,
        yardstick=yardstick,
        options=chosen,
        limits=limits,
        geography=geography_columns(survey.schema, chosen.geography),
        weight_target=(
            float(np.quantile(positive, 0.99))
            if chosen.weight_target is None
            else float(chosen.weight_target)
        ),
    )
    settings = {
        **asdict(chosen),
        "limits": asdict(limits),
        "backend": generator.name,
        "surface": surface.as_mapping(),
        "geography": list(loop.geography),
        "weight_target": loop.weight_target,
        "share_target": chosen.wanted_share,
        "n_folds_used": len(folds),
        "n_units": len(weights),
        "n_targets": len(target_set.names),
        "has_reforms": reforms is not None,
        "has_build_matrix": build_matrix is not None,
        "has_evaluate": evaluate is not None,
        "n_too_large": codec.n_too_large,
        "schema_hash": survey.schema.hash,
        "provenance_of_input": unmarked_columns(survey),
    }
    start = State(
        survey=start_survey,
        prior=prior,
        matrix=matrix,
        evaluated=evaluated,
        diagnosis=first,
        target_loss=yardstick.target_loss(weights, matrix),
        held_out_loss=float("nan"),
    )
    run = _Run(loop, start, settings, place, on_round)
    run.mark = fingerprint(survey, _lasting(settings), target_set)
    earlier = read_checkpoint(place, survey, run.mark) if resume and place is not None else None
    if earlier is not None and earlier.finished:
        return earlier.result
    if first.summary_figures["n_flagged"] and chosen.max_rounds:
        start = run.start = measured_start(start, bare, yardstick, limits)
        loop.reference, run.comparison = calibrated(loop, start)
    state = loop.reference or start
    if earlier is not None:
        run.progress = earlier.progress
        state = run.resumed(earlier.result) if earlier.result.changed else state
    run.seconds["preparation"] = time.perf_counter() - begun
    state, stopped = run.rounds(state, begun, progress)
    table = pd.DataFrame(columns=list(STABILITY_COLUMNS))
    if chosen.n_stability_seeds and run.was_spread and stopped != "cancelled":
        checked = time.perf_counter()
        spread_units = run.spread_at_first()
        if spread_units:
            table = stability(loop, start, spread_units, chosen.n_stability_seeds)
        run.seconds["stability"] = time.perf_counter() - checked
    run.seconds["total"] = time.perf_counter() - begun
    result = run.result(state, stopped, table)
    if place is not None:
        write_checkpoint(place, result, run.progress, run.mark, finished=stopped != "cancelled")
    return result


class _Run:
    """The course of one run: rounds, limits, and what is written down."""

    def __init__(
        self,
        loop: Loop,
        start: State,
        settings: dict[str, Any],
        folder: Path | None,
        on_round: OnRound | None,
    ) -> None:
        self.loop, self.start, self.settings = loop, start, settings
        self._folder, self._on_round = folder, on_round
        self.progress = Progress()
        self.seconds: dict[str, Any] = {}
        self.mark = ""
        self.comparison: dict[str, Any] | None = None

    @property
    def was_spread(self) -> bool:
        """Whether a round was kept."""
        return any(row["accepted"] for row in self.progress.rounds)

    def rounds(self, state: State, begun: float, show: bool | None) -> tuple[State, str]:
        """Run rounds until there is a reason to stop; the last state, and the reason."""
        options, progress = self.loop.options, self.progress
        bar = Bar(
            show if options.max_rounds else False,
            "rounds",
            "rounds",
            total=options.max_rounds,
            done=progress.round,
            label="regularise",
            formats={"flagged": ",.0f"},
        )
        with bar:
            while True:
                batch, stopped = self.loop.batch(state, progress)
                if not stopped and progress.round >= options.max_rounds:
                    stopped = "max_rounds"
                seconds = time.perf_counter() - begun
                if not stopped and options.time_budget is not None:
                    stopped = "time_budget" if seconds >= options.time_budget else ""
                if not stopped:
                    batch, stopped = self.loop.within_budget(state, batch)
                if stopped:
                    return state, stopped
                try:
                    state = self.loop.run_round(state, batch, progress) or state
                    row = {**progress.rounds[-1], "seconds": progress.seconds[-1]}
                    if self._folder is not None:
                        self._keep(state)
                    if self._on_round is not None:
                        self._on_round(row)
                    bar.to(progress.round, flagged=row["n_flagged_after"])
                except KeyboardInterrupt:
                    return state, "cancelled"

    def _keep(self, state: State) -> None:
        result = self.result(state, "cancelled", pd.DataFrame(columns=list(STABILITY_COLUMNS)))
        assert self._folder is not None
        write_checkpoint(self._folder, result, self.progress, self.mark, finished=False)

    def resumed(self, found: RegulariseResult) -> State:
        """The state that an earlier run had come to."""
        yardstick, survey = self.loop.yardstick, found.survey
        prior, ceilings = (found.units[of].to_numpy(np.float64) for of in ("prior", "ceiling"))
        weights = as_vector(survey.weights)
        matrix, _ = self.loop.builder.build(survey, weights)
        evaluated = self.start.evaluated
        if evaluated is not None:
            evaluated = Evaluated.of(evaluated.evaluate, survey)
        # Prices to the last bit: the next solve starts from them, as it would have without a stop.
        prices = found.targets["price"].to_numpy(np.float64)
        solved = yardstick.recalibrated(prior, matrix, ceilings, prices)
        solved = replace(solved, prices=prices)
        return State(
            survey=survey,
            prior=prior,
            matrix=matrix,
            evaluated=evaluated,
            diagnosis=yardstick.diagnosed(survey, evaluated),
            target_loss=yardstick.target_loss(weights, matrix),
            held_out_loss=yardstick.held_out_loss(solved.problem, prices)[0],
            recalibration=solved,
            ceilings=ceilings,
        )

    def spread_at_first(self) -> dict[Any, int]:
        """Units of the survey as it came that were flagged in it and spread, and over how many."""
        flagged = set(self.start.diagnosis.flagged["id"].tolist())
        return {
            row["id"]: int(row["n_offspring"])
            for row in self.progress.offenders
            if row["accepted"] and row["id"] in flagged
        }

    def result(self, state: State, stopped: str, table: pd.DataFrame) -> RegulariseResult:
        """The result at a state."""
        progress, start = self.progress, self.start
        alone = self.comparison
        if self.was_spread:
            status = "improved"
        elif not start.diagnosis.summary_figures["n_flagged"]:
            status = "nothing_flagged"
        elif alone is not None and alone["accepted"] and not alone["n_flagged_after"]:
            status = "recalibrated"
        else:
            status = "rolled_back" if progress.rounds else "no_rounds"
            state = start
        saved = original_weights(start.survey)
        return RegulariseResult(
            survey=state.survey,
            status=status,
            stopped=stopped,
            before=start.diagnosis,
            after=state.diagnosis,
            comparison=comparison_table(alone),
            rounds=rounds_table(progress),
            offenders=offenders_table(progress, saved["id"]),
            irreducible=irreducible_table(progress, saved["id"]),
            targets=targets_table(self.loop, start, state),
            lineage=lineage_table(progress, state),
            units=units_table(state, saved),
            original_weights=saved,
            stability=table,
            settings=self.settings,
            seconds={**self.seconds, "rounds": list(progress.seconds)},
            versions=installed_versions(),
        )


def _lasting(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that must not differ between a run and the one that it resumes."""
    may_differ = ("max_rounds", "time_budget", "max_added", "n_stability_seeds")
    return {name: value for name, value in settings.items() if name not in may_differ}
