"""Candidates for the offspring of units that carry too much, drawn by a generator and checked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.errors import ConditionNotMet
from microcalibrate.regularise.choosing import Coordinates, chosen
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.conditions import FRACTIONS, Offender
from microcalibrate.regularise.constraints import violations
from microcalibrate.regularise.litters import Litter
from microcalibrate.regularise.provenance import SEPARATOR
from microcalibrate.regularise.slots import Mask, slot_mask
from microcalibrate.regularise.survey import Survey, select_units

if TYPE_CHECKING:
    from microcalibrate.regularise.generators import Generator

Structure = Literal["donor", "sampled"]

# Candidates for each offspring that is wanted.
CANDIDATES_EACH = 3
# A candidate that is not valid is drawn anew this often.
MOST_TRIES = 10
# Fewer offspring than this spread nothing.
LEAST_OFFSPRING = 2


@dataclass(frozen=True, eq=False)
class _Plan:
    """One candidate that is to be drawn."""

    litter: int
    fraction: float
    donor: int
    held: Mask
    given: Mask


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What came of the plans.

    Attributes:
        rows: Every row that was drawn.
        row_of: Row of each plan, -1 where none was valid.
        values: The rows as numbers.
        achieved: Which of the cells that a plan wanted shared are.
        n_drawn: How often each plan was tried.
    """

    rows: pd.DataFrame
    row_of: NDArray[np.intp]
    values: Vector
    achieved: Mask
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
    """

    def __init__(
        self, model: Generator, codec: Codec, survey: Survey, structure: Structure, seed: int
    ) -> None:
        self.model, self.codec, self.structure, self.seed = model, codec, structure, seed
        columns = codec.columns
        self._columns = columns
        self._names = np.array([column.name for column in columns], dtype=object)
        self._is_structure = np.array([column.block == "structure" for column in columns])
        self._present_of = np.array(
            [-1 if c.presence is None else self._index(c.presence) for c in columns], dtype=np.intp
        )
        self._donors = codec.encode(survey)
        self._donor_cells = slot_mask(self._donors, columns)
        base = survey.base_weights.reindex(self._donors.index).to_numpy()
        positive = base[base > 0]
        # The heaviest must not be everybody's donor.
        self._donor_weight = np.minimum(base, np.quantile(positive, 0.99) if len(positive) else 0)
        self.coordinates = Coordinates(self._donors, columns)

    def with_seed(self, seed: int) -> Spawner:
        """The same with another seed."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def litters(self, survey: Survey, offenders: Sequence[Offender], round: int) -> list[Litter]:
        """As many offspring as are wanted for each of some units; see `candidates`."""
        return [self.narrowed(litter) for litter in self.candidates(survey, offenders, round)]

    def narrowed(self, litter: Litter, useful: Mask | None = None) -> Litter:
        """As many offspring as are wanted, far from each other, of the useful ones if they suffice.

        Args:
            litter: Candidates.
            useful: Which of them are, shape `(n_candidates,)`; None is all.
        """
        k = litter.offender.k
        some = np.arange(len(litter.rows))
        if useful is not None and useful.sum() >= min(k, LEAST_OFFSPRING):
            some = np.flatnonzero(useful)
        if len(some) <= k and len(some) == len(litter.rows):
            return litter
        places = self.coordinates.of(litter.rows.iloc[some])
        picked = some[chosen(self.coordinates, places, litter.fractions[some], k)]
        return replace(
            litter,
            rows=litter.rows.iloc[picked].reset_index(drop=True),
            fractions=litter.fractions[picked],
            held=tuple(litter.held[place] for place in picked),
            achieved=litter.achieved[picked],
        )

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
        plans: list[_Plan] = []
        for number, offender in enumerate(offenders):
            rng = np.random.default_rng(
                np.random.SeedSequence(self.seed, spawn_key=(round, 0, number))
            )
            plans += self._plans(number, sources.iloc[[number]], offender, rng)
        drawn = self._drawn(part, sources, plans, round)
        found = enumerate(offenders)
        return [self._litter(number, offender, plans, drawn) for number, offender in found]

    # --- What is to be drawn ----------------------------------------------------------------------

    def _index(self, name: str) -> int:
        return next(i for i, column in enumerate(self._columns) if column.name == name)

    def _plans(
        self, number: int, source: pd.DataFrame, offender: Offender, rng: np.random.Generator
    ) -> list[_Plan]:
        """Candidates in equal numbers at each fraction, which cells each shares with the source."""
        own = slot_mask(source, self._columns)[0]
        always = np.isin(self._names, list(offender.held)) & own
        always &= ~self._is_structure
        each = -(-CANDIDATES_EACH * offender.k // len(FRACTIONS))
        pool = self._pool(source.index[0], always)
        has_structure = bool(self._is_structure.any())
        found = []
        for fraction in FRACTIONS:
            for _ in range(each):
                is_fixed = offender.holds_structure or not has_structure or rng.random() < fraction
                donor = -1
                if not is_fixed and self.structure == "donor" and len(pool):
                    chances = self._donor_weight[pool] / self._donor_weight[pool].sum()
                    donor = int(rng.choice(pool, p=chances))
                if not is_fixed and self.structure == "sampled":
                    found.append(self._sampled_plan(number, fraction, own, always, rng))
                    continue
                cells = own if donor < 0 else self._donor_cells[donor]
                held = self._held(fraction, cells & ~self._is_structure, own, always, rng)
                if held is None:
                    # The donor has too few cells in common with the source to share so many.
                    donor, cells = -1, own
                    held = self._held(fraction, cells & ~self._is_structure, own, always, rng)
                assert held is not None
                given = held | self._is_structure | ~cells
                found.append(_Plan(number, fraction, donor, held, given))
        return found

    def _pool(self, unit: Any, always: Mask) -> NDArray[np.intp]:
        """Donors of structure that have all cells which must be shared."""
        has_all = self._donor_cells[:, always].all(axis=1) & (self._donor_weight > 0)
        own = self._donors.index == unit
        return np.flatnonzero(has_all & ~own)

    def _held(
        self, fraction: float, cells: Mask, own: Mask, always: Mask, rng: np.random.Generator
    ) -> Mask | None:
        """Cells to share: a fraction of those that exist, those that must be among them."""
        wanted = round(fraction * int(cells.sum()))
        possible = cells & own
        if wanted > possible.sum():
            return None
        others = np.flatnonzero(possible & ~always)
        held = always & possible
        n_more = max(wanted - int(held.sum()), 0)
        held[rng.permutation(others)[:n_more]] = True
        return held

    def _sampled_plan(
        self, number: int, fraction: float, own: Mask, always: Mask, rng: np.random.Generator
    ) -> _Plan:
        """A candidate whose structure is drawn too, but for the slots of shared cells."""
        held = self._held(fraction, own & ~self._is_structure, own, always, rng)
        assert held is not None
        given = held.copy()
        for position in np.flatnonzero(held & (self._present_of >= 0)):
            column = self._columns[position]
            for other, candidate in enumerate(self._columns):
                # Slots are filled without gaps, so those before it are filled too.
                if (
                    candidate.kind == "present"
                    and candidate.entity == column.entity
                    and candidate.slot <= column.slot
                ):
                    given[other] = True
        return _Plan(number, fraction, -1, held, given)

    # --- Drawing ----------------------------------------------------------------------------------

    def _drawn(self, part: Survey, sources: pd.DataFrame, plans: list[_Plan], round: int) -> _Drawn:
        """A valid row for each plan, as far as there are any, and how often each was tried."""
        own = self.coordinates.plain(sources)
        seen: list[set[bytes]] = [{row.tobytes()} for row in own]
        row_of = np.full(len(plans), -1, dtype=np.intp)
        n_drawn = np.zeros(len(plans), dtype=np.intp)
        parts: list[tuple[pd.DataFrame, Vector, Mask]] = []
        n_rows = 0
        lacking = np.arange(len(plans), dtype=np.intp)
        seeds = np.random.SeedSequence(self.seed, spawn_key=(round, 1)).generate_state(MOST_TRIES)
        for seed in seeds.tolist():
            n_drawn[lacking] += 1
            places, drawn, held = self._sample(sources, plans, lacking, int(seed))
            if not len(places):
                break
            drawn = self.codec.canonical(drawn)
            values = self.coordinates.plain(drawn)
            asked = np.array([plans[place].held for place in places])
            of = np.array([plans[place].litter for place in places])
            good = self.codec.acceptable(drawn)
            # What was held must still be in its place when members have been put in order.
            same = (values == own[of]) | (np.isnan(values) & np.isnan(own[of]))
            good &= (same | ~(held & asked)).all(axis=1)
            good &= self._keeps_constraints(part, drawn, sources.index[of], good)
            for at in np.flatnonzero(good):
                key = values[at].tobytes()
                if key not in seen[of[at]]:
                    seen[of[at]].add(key)
                    row_of[places[at]] = n_rows + at
            parts.append((drawn, values, held & asked))
            n_rows += len(drawn)
            lacking = np.flatnonzero(row_of < 0)
            if not len(lacking):
                break
        if not parts:
            empty = np.zeros((0, len(self._columns)))
            return _Drawn(self._donors.iloc[:0], row_of, empty, empty > 0, n_drawn)
        return _Drawn(
            pd.concat([rows for rows, _, _ in parts], ignore_index=True),
            row_of,
            np.concatenate([values for _, values, _ in parts]),
            np.concatenate([held for _, _, held in parts]),
            n_drawn,
        )

    def _sample(
        self, sources: pd.DataFrame, plans: list[_Plan], wanted: NDArray[np.intp], seed: int
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
        self, sources: pd.DataFrame, plans: list[_Plan], wanted: NDArray[np.intp]
    ) -> tuple[pd.DataFrame, Mask]:
        """Rows to condition on: structure of the donor, all else of the source."""
        some = [plans[place] for place in wanted]
        source = np.array([plan.litter for plan in some], dtype=np.intp)
        donor = np.array([plan.donor for plan in some], dtype=np.intp)
        free = ~np.array([plan.given for plan in some])
        content = {}
        cells = np.where(
            (donor >= 0)[:, None],
            self._donor_cells[np.maximum(donor, 0)],
            slot_mask(sources, self._columns)[source],
        )
        for position, column in enumerate(self._columns):
            own = sources[column.name].iloc[source].reset_index(drop=True)
            if self._is_structure[position]:
                other = self._donors[column.name].iloc[np.maximum(donor, 0)].reset_index(drop=True)
                content[column.name] = own.where(donor < 0, other)
            else:
                content[column.name] = own.where(cells[:, position])
        given = pd.DataFrame(content).astype(sources.dtypes.to_dict())
        return given.set_axis(sources.index[source], axis=0), free

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

    def _litter(self, number: int, offender: Offender, plans: list[_Plan], drawn: _Drawn) -> Litter:
        """The valid candidates of one unit."""
        mine = np.array([p for p, plan in enumerate(plans) if plan.litter == number])
        must = np.isin(self._names, list(offender.held)) & ~self._is_structure
        # A generator that gives up a condition says so; those that count may not be given up.
        valid = np.array(
            [
                place
                for place in mine[drawn.row_of[mine] >= 0]
                if not (must & plans[place].held & ~drawn.achieved[drawn.row_of[place]]).any()
            ],
            dtype=np.intp,
        )
        n_candidates = int(drawn.n_drawn[mine].sum())
        fractions = np.array([plans[place].fraction for place in valid])
        if len(valid) < LEAST_OFFSPRING:
            reason = (
                f"nothing generated: {len(valid)} of {n_candidates} candidates were valid and "
                "kept to their conditions"
            )
            return Litter(
                offender,
                self._donors.iloc[:0],
                np.zeros(0),
                (),
                np.zeros(0),
                n_candidates,
                len(valid),
                reason,
            )
        rows = drawn.rows.iloc[drawn.row_of[valid]].reset_index(drop=True)
        shared = drawn.achieved[drawn.row_of[valid]]
        cells = slot_mask(rows, self._columns) & ~self._is_structure
        return Litter(
            offender,
            rows,
            fractions,
            tuple(
                self._named(plans[place], held) for place, held in zip(valid, shared, strict=True)
            ),
            (shared & cells).sum(axis=1) / np.maximum(cells.sum(axis=1), 1),
            n_candidates,
            len(valid),
        )

    def _named(self, plan: _Plan, shared: Mask) -> str:
        """What a candidate shares with its source, in words."""
        names = self._names[shared].tolist()
        of_structure = plan.given[self._is_structure]
        is_own = plan.donor < 0 and bool(of_structure.any() and of_structure.all())
        return SEPARATOR.join((["structure"] if is_own else []) + names)
