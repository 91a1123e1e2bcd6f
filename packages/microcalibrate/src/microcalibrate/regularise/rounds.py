"""One round after the other: detect, spread, recalibrate, and keep it or roll it back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from microcalibrate.errors import (
    CalibrationError,
    InfeasibleTargets,
    InvalidTargetTable,
    NotConverged,
)
from microcalibrate.regularise.acceptance import Limits, Measures, as_columns, objections
from microcalibrate.regularise.conditions import (
    CellConditions,
    Offender,
    n_offspring,
)
from microcalibrate.regularise.guarding import MOST_PASSES, tightened
from microcalibrate.regularise.history import Progress
from microcalibrate.regularise.litters import Litter
from microcalibrate.regularise.options import Options
from microcalibrate.regularise.spawn import LEAST_OFFSPRING, Spawner
from microcalibrate.regularise.spreading import Spread, lineage_sizes, spread
from microcalibrate.regularise.state import State, Yardstick
from microcalibrate.regularise.survey import Survey
from microcalibrate.regularise.target_rows import CalculatedRows, DeclaredRows

TOO_LARGE = "larger than the households that the generator knows"
# Rounds of its own, with other draws each, after which a unit is given up.
TRIES_ALONE = 2


@dataclass(eq=False)
class Loop:
    """The rounds of one run.

    Attributes:
        start: The survey as it came, with columns of provenance.
        spawner: Draws offspring.
        builder: Gives what units add to targets.
        yardstick: What states are measured with.
        options: Of the user.
        limits: What a round may cost.
        geography: Columns of the unit that offspring always share with their source.
        weight_target: Weight that an offspring should have at most.
        reference: The survey as it came, recalibrated: what rounds are compared with. None
            compares each round with the state before it.
    """

    start: Survey
    spawner: Spawner
    builder: DeclaredRows | CalculatedRows
    yardstick: Yardstick
    options: Options
    limits: Limits
    geography: tuple[str, ...]
    weight_target: float
    reference: State | None = None
    was_checked: bool = False

    def batch(self, state: State, progress: Progress) -> tuple[list[Any], str]:
        """Units to spread next, by id; or none, and why the rounds end."""
        worst = self.yardstick.footing.worst(state.diagnosis)
        open_ids = [unit for unit in worst["id"].tolist() if unit not in progress.irreducible]
        if open_ids:
            fits = self.spawner.codec.fits(state.survey)
            for unit in [u for u in open_ids if not bool(fits.loc[u])]:
                progress.irreducible[unit] = TOO_LARGE
            open_ids = [unit for unit in open_ids if unit not in progress.irreducible]
        while progress.pending:
            part = [unit for unit in progress.pending.pop(0) if unit in set(open_ids)]
            if part:
                return part, ""
        if open_ids:
            return open_ids[: self.options.batch], ""
        return [], "none_flagged" if worst.empty else "nothing_accepted"

    def run_round(self, state: State, batch: Sequence[Any], progress: Progress) -> State | None:
        """One round; its outcome is written into the progress.

        Returns:
            The new state, or None if the round was rolled back.

        Raises:
            InvalidProblem: If a user's function gives no proper rows.
            KeyboardInterrupt: If it was cancelled; the progress is then as it was before.
        """
        begun = time.perf_counter()
        number = progress.round + 1
        offenders = self.offenders(state, batch)
        litters = self.spawner.candidates(state.survey, offenders, number)
        full = [litter for litter in litters if not litter.reason]
        trial: Spread | None = None
        after: State | None = None
        reasons: tuple[str, ...] = ()
        if not full:
            reasons = ("nothing generated",)
        else:
            try:
                trial = self.bred(state, full, number)
                after = self.recalibrated(trial, state)
            except (InfeasibleTargets, NotConverged, InvalidTargetTable) as error:
                reasons = (str(error).rstrip("."),)
        spawned = [litter.offender.unit for litter in full]
        origins = state.lineage[[litter.offender.position for litter in full]]
        footing = self.yardstick.footing
        before = state.measures(spawned, origins, footing)
        measured = None
        if after is not None and trial is not None:
            measured = after.measures(trial.units, trial.origins, footing)
            start = (self.reference or state).measures(spawned, origins, footing)
            reasons = objections(before, measured, self.limits, start)
        accepted = after is not None and not reasons
        reason = "; ".join(reasons)

        # Nothing was written down until here, so that a round that is cancelled leaves no trace.
        progress.round = number
        for litter in litters:
            unit = litter.offender.unit
            if litter.reason:
                progress.irreducible[unit] = litter.reason
            elif not accepted and len(spawned) == 1:
                if progress.n_alone(unit) + 1 < TRIES_ALONE:
                    progress.pending.append([unit])
                else:
                    progress.irreducible[unit] = reason
        if not accepted and len(spawned) > 1:
            progress.pending[:0] = _parts(spawned, () if trial is None else trial.near)
        kept = after if accepted else None
        shown = {
            "round": number,
            "accepted": accepted,
            "reason": reason,
            "n_offenders": len(litters),
            "n_spawned": len(spawned),
            "n_offspring": 0 if trial is None else len(trial.offspring),
            "n_candidates": sum(litter.n_candidates for litter in litters),
            "n_valid": sum(litter.n_valid for litter in litters),
            "added": 0 if kept is None else _n_units(kept) - _n_units(state),
            "share_near": np.nan if trial is None else trial.share_near,
            "n_flagged_before": len(footing.flagged(state.diagnosis)),
        }
        progress.rounds.append({**self.figures(kept or state, after, before, measured), **shown})
        for litter in litters:
            mine = [] if trial is None else trial.offspring["source"] == litter.offender.unit
            made = int(np.sum(mine))
            progress.offenders.append(self._row(state, litter, made, number, accepted, reason))
        if kept is not None and trial is not None:
            for row in trial.offspring.to_dict("records"):
                progress.offspring[row["id"]] = (row["source"], row["fraction"], row["achieved"])
        progress.seconds.append(time.perf_counter() - begun)
        return kept

    def offenders(self, state: State, batch: Sequence[Any]) -> list[Offender]:
        """What is to be known of some flagged units before they are spread."""
        options = self.options
        worst = self.yardstick.footing.worst(state.diagnosis).set_index("id")
        frame = self.yardstick.frame(state.survey, state.evaluated)
        cells = CellConditions(
            state.survey,
            frame,
            state.weights,
            self.yardstick.surface,
            self.spawner.codec,
            self.geography,
            batch,
        )
        weights = state.weights
        found = []
        for unit in batch:
            row, position = worst.loc[unit], cells.position(unit)
            shared = cells.of(unit, *map(str, row[["slice", "cell", "metric"]]))
            weight = float(weights[position])
            found.append(
                Offender(
                    unit=unit,
                    position=position,
                    weight=weight,
                    prior=float(state.prior[position]),
                    share=float(row["share"]),
                    statistic=str(row["statistic"]),
                    held=shared.held,
                    holds_structure=shared.structure,
                    only_place=shared.only_place,
                    k=n_offspring(
                        float(row["share"]),
                        weight,
                        options.wanted_share,
                        self.weight_target,
                        options.max_offspring,
                    ),
                )
            )
        return found

    def within_budget(self, state: State, batch: list[Any]) -> tuple[list[Any], str]:
        """The part of a batch whose offspring still fit into the limit of added records."""
        most = self.options.max_added
        if most is None or not batch:
            return batch, ""
        left = most - (_n_units(state) - len(self.start.unit_ids))
        gone = 1 if self.options.mode == "replace" else 0
        kept = []
        for offender in self.offenders(state, batch):
            if offender.k - gone > left:
                break
            left -= offender.k - gone
            kept.append(offender.unit)
        return kept, "" if kept else "max_added"

    def bred(self, state: State, litters: Sequence[Litter], number: int) -> Spread:
        """Offspring that together can stand in for their sources, put into a state.

        All candidates of a unit are fitted to what it adds to the targets. Those that hardly have
        a weight then are unlike it where it matters, and are left out where enough others are. A
        user's function is asked once for what the candidates add, and not again for those chosen.
        """
        picked = [self.spawner.picked(litter) for litter in litters]
        rows = None
        if any(len(few) < len(all_.rows) for few, all_ in zip(picked, litters, strict=True)):
            # Nobody is diagnosed with all candidates, so `evaluate` need not see them.
            wide = self._put(replace(state, evaluated=None), litters, number)
            ends = np.cumsum([len(litter.rows) for litter in litters])
            weights = np.asarray(wide.survey.weights)[-ends[-1] :]
            picked = []
            for litter, part in zip(litters, np.split(weights, ends[:-1]), strict=True):
                # Of few, none can be spared; of many, the half that matters most suffices.
                least = np.sort(part)[::-1][: max(litter.offender.k, len(part) // 2)][-1]
                picked.append(self.spawner.picked(litter, part >= least))
            first = wide.matrix.shape[0] - ends[-1]
            starts = first + np.r_[0, ends[:-1]]
            rows = wide.matrix[
                np.concatenate([at + few for at, few in zip(starts, picked, strict=True)])
            ]
        narrowed = [litter.taken(few) for litter, few in zip(litters, picked, strict=True)]
        found = self._put(state, narrowed, number, rows)
        self.was_checked = True
        return found

    def _put(
        self, state: State, litters: Sequence[Litter], number: int, rows: Any = None
    ) -> Spread:
        """Put offspring into a state; see `spread`."""
        return spread(
            state,
            litters,
            start=self.start,
            codec=self.spawner.codec,
            builder=self.builder,
            yardstick=self.yardstick,
            mode=self.options.mode,
            round=number,
            backend=self.spawner.model.name,
            check=not self.was_checked,
            rows=rows,
        )

    def recalibrated(self, trial: Spread, before: State | None = None) -> State:
        """Fit the weights of a trial, and measure it.

        Calibration knows nothing of shares: it may put on a record what was taken from another.
        Where that makes anybody carry too much who did not before, or an origin gain more than a
        round may cost, these weights are bounded, and all are fitted again.

        Args:
            trial: Units and their prior weights.
            before: The state that nobody shall be worse than; None bounds nothing.

        Raises:
            InfeasibleTargets: If hard targets cannot hold.
            InvalidTargetTable: If no record contributes to a target.
            NotConverged: If a solve has no certificate.
        """
        yardstick = self.yardstick
        tighter = trial.ceilings
        former = None if before is None else before.recalibration
        prices = None if former is None else former.prices
        n_steps = 0
        for _ in range(MOST_PASSES):
            ceilings = tighter
            try:
                found = yardstick.recalibrated(trial.prior, trial.matrix, ceilings, prices)
            except CalibrationError as error:
                if "no record of positive" in str(error):
                    raise InvalidTargetTable(str(error)) from error
                raise
            prices = found.prices
            n_steps += found.n_steps
            survey = trial.survey.with_weights(found.weights)
            diagnosis = yardstick.diagnosed(survey, trial.evaluated)
            if before is None:
                break
            reference = self.reference or before
            tighter = tightened(
                diagnosis,
                ceilings,
                yardstick.footing,
                before.diagnosis,
                reference.diagnosis,
                trial.origins,
                self.limits.lineage_share,
            )
            if tighter is None:
                break
        held_out_loss, in_folds = yardstick.held_out_loss(found.problem, found.prices)
        return State(
            survey=survey,
            prior=trial.prior,
            matrix=trial.matrix,
            evaluated=trial.evaluated,
            diagnosis=diagnosis,
            target_loss=yardstick.target_loss(found.weights, trial.matrix),
            held_out_loss=held_out_loss,
            recalibration=found,
            ceilings=ceilings,
            n_steps=n_steps + in_folds,
        )

    def figures(
        self, now: State, tried: State | None, before: Measures, after: Measures | None
    ) -> dict[str, Any]:
        """Figures of a round: of the state that it ended in, and what it was judged by."""
        footing = self.yardstick.footing
        return {
            "n_flagged_after": len(footing.flagged(now.diagnosis)),
            "n_flagged_elsewhere": footing.n_elsewhere(now.diagnosis),
            "largest_share": footing.largest_share(now.diagnosis),
            **as_columns(before, after),
            "kish": _figure(now, "kish")["n_eff"],
            "lineage_kish": _figure(now, "kish")["lineage_n_eff"],
            "gap": np.nan if tried is None else _of(tried).gap,
            "n_at_cap": 0 if tried is None else _of(tried).n_at_cap,
            "n_steps": 0 if tried is None else tried.n_steps,
        }

    def _row(
        self, state: State, litter: Litter, made: int, number: int, accepted: bool, reason: str
    ) -> dict[str, Any]:
        offender = litter.offender
        origin = state.lineage[offender.position]
        return {
            "round": number,
            "id": offender.unit,
            "lineage": origin,
            "lineage_size": int(lineage_sizes(state.survey).loc[origin]),
            "statistic": offender.statistic,
            "share": offender.share,
            "weight": offender.weight,
            "k": offender.k,
            "n_offspring": made,
            "n_candidates": litter.n_candidates,
            "n_valid": litter.n_valid,
            "n_moved": int(litter.moved.sum()),
            "acceptance_rate": litter.n_valid / max(litter.n_candidates, 1),
            "accepted": accepted and not litter.reason,
            "reason": litter.reason or reason,
        }


def with_k(offender: Offender, k: int) -> Offender:
    """The same unit, to be spread over another number of offspring."""
    return replace(offender, k=max(k, LEAST_OFFSPRING))


def _parts(units: list[Any], near: Sequence[bool]) -> list[list[Any]]:
    """A batch that failed, in two: those whose offspring stand in for them well, and the others."""
    well = [unit for unit, is_near in zip(units, near, strict=False) if is_near]
    if 0 < len(well) < len(units):
        return [well, [unit for unit in units if unit not in set(well)]]
    half = (len(units) + 1) // 2
    return [units[:half], units[half:]]


def _n_units(state: State) -> int:
    return len(state.survey.unit_ids)


def _figure(state: State, name: str) -> Any:
    return state.diagnosis.summary_figures[name]


def _of(state: State) -> Any:
    return state.recalibration
