"""Candidates for the offspring of units that carry too much, drawn by a generator and checked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.errors import ConditionNotMet
from microcalibrate.regularise.choosing import Coordinates, chosen
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.conditions import Offender
from microcalibrate.regularise.constraints import violations
from microcalibrate.regularise.distances import LeastDistance
from microcalibrate.regularise.litters import Litter
from microcalibrate.regularise.planning import Plan, Planner, Structure
from microcalibrate.regularise.provenance import LINEAGE, SEPARATOR
from microcalibrate.regularise.slots import Mask, slot_mask
from microcalibrate.regularise.survey import Survey, select_units

if TYPE_CHECKING:
    from microcalibrate.regularise.generators import Generator

# A candidate that is not valid is drawn anew this often.
MOST_TRIES = 10
# Fewer offspring than this spread nothing.
LEAST_OFFSPRING = 2


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What came of the plans.

    Attributes:
        rows: Every row that was drawn.
        row_of: Row of each plan, -1 where none was valid.
        achieved: Which of the cells that a plan wanted shared are, shape `(n_rows, n_columns)`.
        plans: As they were tried last.
        n_drawn: How often each plan was tried.
    """

    rows: pd.DataFrame
    row_of: NDArray[np.intp]
    achieved: Mask
    plans: Sequence[Plan]
    n_drawn: NDArray[np.intp]


class Spawner:
    """Draws offspring.

    Args:
        model: A fitted generator.
        codec: Of its slot rows.
        survey: The survey as it came: whole structures of its households are donors.
        structure: "donor" takes who is in a household, where that is not shared with the source,
            whole from a real household; "sampled" lets the generator draw it.
        seed: Of all draws.
        borrow: Whether a record that was drawn without regard to the place may be put where the
            unit is, if the generator has nothing that is alike there.
        distance: What candidates must keep from real records; None asks for nothing.
    """

    def __init__(
        self,
        model: Generator,
        codec: Codec,
        survey: Survey,
        structure: Structure,
        seed: int,
        *,
        borrow: bool = True,
        distance: LeastDistance | None = None,
    ) -> None:
        self.model, self.codec, self.seed, self.distance = model, codec, seed, distance
        donors = codec.encode(survey)
        base = survey.base_weights.reindex(donors.index).to_numpy()
        positive = base[base > 0]
        # The heaviest must not be everybody's donor.
        chances = np.minimum(base, np.quantile(positive, 0.99) if len(positive) else 0)
        self.planner = Planner(codec, donors, chances, structure, borrow)
        self.coordinates = Coordinates(donors, codec.columns)

    def with_seed(self, seed: int) -> Spawner:
        """The same with another seed."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def litters(self, survey: Survey, offenders: Sequence[Offender], round: int) -> list[Litter]:
        """As many offspring as are wanted for each of some units; see `candidates`."""
        return [self.narrowed(litter) for litter in self.candidates(survey, offenders, round)]

    def narrowed(self, litter: Litter, useful: Mask | None = None) -> Litter:
        """As many offspring as are wanted; see `picked`."""
        return litter.taken(self.picked(litter, useful))

    def picked(self, litter: Litter, useful: Mask | None = None) -> NDArray[np.intp]:
        """As many offspring as are wanted, far from each other, of the useful ones if they suffice.

        Args:
            litter: Candidates.
            useful: Which of them are, shape `(n_candidates,)`; None is all.

        Returns:
            Their positions, ascending.
        """
        k = litter.offender.k
        some = np.arange(len(litter.rows), dtype=np.intp)
        if useful is not None and useful.sum() >= min(k, LEAST_OFFSPRING):
            some = np.flatnonzero(useful)
        if len(some) <= k and len(some) == len(litter.rows):
            return some
        places = self.coordinates.of(litter.rows.iloc[some])
        return some[chosen(self.coordinates, places, litter.fractions[some], k)]

    def candidates(self, survey: Survey, offenders: Sequence[Offender], round: int) -> list[Litter]:
        """Valid candidates for the offspring of each of some units.

        Args:
            survey: The survey as it stands.
            offenders: Units of it that have a slot for each member.
            round: Number of the round, which the draws depend on.

        Returns:
            One litter for each, maybe an empty one with the reason.
        """
        part = select_units(survey, [offender.unit for offender in offenders])
        sources = self.codec.encode(part)
        plans: list[Plan] = []
        for number, offender in enumerate(offenders):
            rng = np.random.default_rng(
                np.random.SeedSequence(self.seed, spawn_key=(round, 0, number))
            )
            plans += self.planner.plans(number, sources.iloc[[number]], offender, rng)
        drawn = self._drawn(part, sources, plans, offenders, round)
        return [self._litter(number, offender, drawn) for number, offender in enumerate(offenders)]

    # --- Drawing ----------------------------------------------------------------------------------

    def _drawn(
        self,
        part: Survey,
        sources: pd.DataFrame,
        plans: Sequence[Plan],
        offenders: Sequence[Offender],
        round: int,
    ) -> _Drawn:
        """A valid row for each plan, as far as there are any, and how often each was tried."""
        own = self.coordinates.plain(sources)
        seen: list[set[bytes]] = [{row.tobytes()} for row in own]
        tried = list(plans)
        row_of = np.full(len(plans), -1, dtype=np.intp)
        n_drawn = np.zeros(len(plans), dtype=np.intp)
        parts: list[tuple[pd.DataFrame, Mask]] = []
        n_rows = 0
        lacking = np.arange(len(plans), dtype=np.intp)
        sequence = np.random.SeedSequence(self.seed, spawn_key=(round, 1))
        for seed in sequence.generate_state(MOST_TRIES).tolist():
            n_drawn[lacking] += 1
            places, drawn, held = self._sample(sources, tried, lacking, int(seed))
            lost = np.setdiff1d(lacking, places)
            if len(places):
                of = np.array([tried[place].litter for place in places])
                drawn, held = self._put(sources, tried, places, drawn, held)
                drawn = self.codec.canonical(drawn)
                values = self.coordinates.plain(drawn)
                # What was held must still be in its place when members have been put in order.
                same = (values == own[of]) | (np.isnan(values) & np.isnan(own[of]))
                must = np.array([tried[place].must for place in places])
                has_all = (held | ~must).all(axis=1)
                good = has_all & (same | ~held).all(axis=1) & self.codec.acceptable(drawn)
                good &= self._keeps_constraints(part, drawn, sources.index[of], good)
                good &= self._keeps_distance(drawn, _origins(part, sources.index[of]), good)
                for at in np.flatnonzero(good):
                    key = values[at].tobytes()
                    if key not in seen[of[at]]:
                        seen[of[at]].add(key)
                        row_of[places[at]] = n_rows + at
                parts.append((drawn, held))
                n_rows += len(drawn)
                lost = np.union1d(lost, places[~has_all])
            # Nothing that was drawn has what must be shared: fewer other cells, then.
            rng = np.random.default_rng([*sequence.spawn_key, self.seed, int(seed)])
            for place in lost:
                offender = offenders[plans[place].litter]
                tried[place] = self.planner.loosened(tried[place], plans[place], offender, rng)
            lacking = np.flatnonzero(row_of < 0)
            if not len(lacking):
                break
        if not parts:
            empty = np.zeros((0, len(self.codec.columns)), dtype=np.bool_)
            return _Drawn(self.planner.donors.iloc[:0], row_of, empty, tried, n_drawn)
        return _Drawn(
            pd.concat([rows for rows, _ in parts], ignore_index=True),
            row_of,
            np.concatenate([held for _, held in parts]),
            tried,
            n_drawn,
        )

    def _sample(
        self, sources: pd.DataFrame, plans: Sequence[Plan], wanted: NDArray[np.intp], seed: int
    ) -> tuple[NDArray[np.intp], pd.DataFrame, Mask]:
        """Ask the generator; where it cannot honour all conditions at once, in smaller parts."""
        given, free = self._given(sources, plans, wanted)
        found: list[tuple[NDArray[np.intp], pd.DataFrame, Mask]] = []
        waiting = [np.arange(len(wanted), dtype=np.intp)] if len(wanted) else []
        while waiting:
            some = waiting.pop(0)
            try:
                rows, achieved = self.model.sample_conditional(
                    given.iloc[some], free[some], seed + int(some[0])
                )
            except ConditionNotMet:
                if len(some) > 1:
                    half = len(some) // 2
                    waiting = [some[:half], some[half:], *waiting]
                continue
            # A cell that must be held and was not makes a record that nobody asked for.
            found.append((wanted[some], rows.reset_index(drop=True), np.asarray(achieved)))
        if not found:
            return np.zeros(0, dtype=np.intp), given.iloc[:0], free[:0]
        rows = pd.concat([rows for _, rows, _ in found], ignore_index=True)
        return (
            np.concatenate([places for places, _, _ in found]),
            rows,
            np.concatenate([achieved for _, _, achieved in found]),
        )

    def _given(
        self, sources: pd.DataFrame, plans: Sequence[Plan], wanted: NDArray[np.intp]
    ) -> tuple[pd.DataFrame, Mask]:
        """Rows to condition on: structure of the donor, all else of the source."""
        some = [plans[place] for place in wanted]
        source = np.array([plan.litter for plan in some], dtype=np.intp)
        donor = np.array([plan.donor for plan in some], dtype=np.intp)
        free = ~np.array([plan.given for plan in some])
        content = {}
        planner = self.planner
        cells = np.where(
            (donor >= 0)[:, None],
            planner.donor_cells[np.maximum(donor, 0)],
            slot_mask(sources, planner.columns)[source],
        )
        for position, column in enumerate(planner.columns):
            own = sources[column.name].iloc[source].reset_index(drop=True)
            if planner.is_structure[position]:
                other = planner.donors[column.name].iloc[np.maximum(donor, 0)]
                content[column.name] = own.where(donor < 0, other.reset_index(drop=True))
            else:
                content[column.name] = own.where(cells[:, position])
        given = pd.DataFrame(content).astype(sources.dtypes.to_dict())
        return given.set_axis(sources.index[source], axis=0), free

    def _put(
        self,
        sources: pd.DataFrame,
        plans: Sequence[Plan],
        places: NDArray[np.intp],
        drawn: pd.DataFrame,
        achieved: Mask,
    ) -> tuple[pd.DataFrame, Mask]:
        """Cells of the place over rows that were drawn without regard to it; and what is shared."""
        some = [plans[place] for place in places]
        held = achieved & np.array([plan.asked for plan in some])
        moved = np.array([plan.moved for plan in some])
        content = {}
        for position in np.flatnonzero(moved.any(axis=0)):
            name = self.planner.columns[position].name
            own = sources[name].iloc[[plan.litter for plan in some]].set_axis(drawn.index)
            content[name] = drawn[name].where(~moved[:, position], own)
        return drawn.assign(**content), held | moved

    def _keeps_constraints(
        self, part: Survey, drawn: pd.DataFrame, origins: pd.Index[Any], good: Mask
    ) -> Mask:
        """Which of the good rows keep to all constraints of the schema."""
        keeps = np.zeros(len(drawn), dtype=np.bool_)
        some = np.flatnonzero(good)
        if not len(some):
            return keeps
        made = self.codec.decode(drawn.iloc[some], source=part, origins=origins[some], weights=1.0)
        broken = pd.Index(violations(made)["unit"])
        keeps[some] = ~made.unit_ids.isin(broken)
        return keeps

    def _keeps_distance(self, drawn: pd.DataFrame, origins: pd.Index[Any], good: Mask) -> Mask:
        """Which of the good rows are no nearer to a real record than they may be."""
        if self.distance is None:
            return good
        keeps = np.zeros(len(drawn), dtype=np.bool_)
        some = np.flatnonzero(good)
        keeps[some] = self.distance.is_kept(drawn.iloc[some], origins[some])
        return keeps

    def _litter(self, number: int, offender: Offender, drawn: _Drawn) -> Litter:
        """The valid candidates of one unit."""
        mine = np.array([p for p, plan in enumerate(drawn.plans) if plan.litter == number])
        valid = mine[drawn.row_of[mine] >= 0]
        n_candidates = int(drawn.n_drawn[mine].sum())
        if len(valid) < LEAST_OFFSPRING:
            reason = (
                f"nothing generated: {len(valid)} of {n_candidates} candidates were valid and "
                "kept to their conditions"
            )
            return Litter(
                offender,
                drawn.rows.iloc[:0],
                np.zeros(0),
                (),
                np.zeros(0),
                n_candidates,
                len(valid),
                reason,
            )
        rows = drawn.rows.iloc[drawn.row_of[valid]].reset_index(drop=True)
        shared = drawn.achieved[drawn.row_of[valid]]
        cells = slot_mask(rows, self.planner.columns) & ~self.planner.is_structure
        plans = [drawn.plans[place] for place in valid]
        return Litter(
            offender,
            rows,
            np.array([plan.fraction for plan in plans]),
            tuple(self._named(plan, held) for plan, held in zip(plans, shared, strict=True)),
            (shared & cells).sum(axis=1) / np.maximum(cells.sum(axis=1), 1),
            n_candidates,
            len(valid),
            moved=np.array([plan.moved.any() for plan in plans]),
        )

    def _named(self, plan: Plan, shared: Mask) -> str:
        """What a candidate shares with its source, in words."""
        planner = self.planner
        names = planner.names[shared].tolist()
        of_structure = plan.given[planner.is_structure]
        is_own = plan.donor < 0 and bool(of_structure.any() and of_structure.all())
        return SEPARATOR.join((["structure"] if is_own else []) + names)


def _origins(part: Survey, units: pd.Index[Any]) -> pd.Index[Any]:
    """The record that each of some units descends from; itself where it was not generated."""
    table = part.tables[part.unit]
    if LINEAGE not in table:
        return units
    found: pd.Index[Any] = pd.Index(table[LINEAGE].to_numpy()[part.unit_ids.get_indexer(units)])
    return found
