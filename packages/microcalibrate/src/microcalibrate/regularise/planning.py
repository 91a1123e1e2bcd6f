"""Which cells each candidate is to share with the unit that it is made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.regularise.codec import Codec
from microcalibrate.regularise.conditions import FRACTIONS, Offender
from microcalibrate.regularise.slots import Mask, slot_mask

Structure = Literal["donor", "sampled"]

# Candidates for each offspring that is wanted.
CANDIDATES_EACH = 3
# What is kept of the other cells, each time that those that must be shared were not.
KEPT_EACH_TIME = 0.1


@dataclass(frozen=True, eq=False)
class Plan:
    """One candidate that is to be drawn.

    Attributes:
        litter: Number of the unit among those that are spread.
        fraction: Share of the cells that it is to share with the unit.
        donor: Row of the household that it has its structure from; -1 for the unit itself.
        held: Cells that it is to share.
        must: Those of them without which it is of no use.
        given: Cells that the generator is given: `held` and the structure.
        moved: Cells of `held` that the generator is not asked for, and that are put over what it
            draws: the place, where it has nothing that is alike in the same place.
    """

    litter: int
    fraction: float
    donor: int
    held: Mask
    must: Mask
    given: Mask
    moved: Mask

    @property
    def asked(self) -> Mask:
        """Cells of the source that the generator is asked for."""
        return self.held & ~self.moved


class Planner:
    """Plans candidates.

    Args:
        codec: Of the slot rows.
        donors: Slot rows of the survey as it came, whose structures are used.
        weights: Chances of the donors, shape `(n_donors,)`.
        structure: "donor" or "sampled".
        borrow: Whether what must be shared and says no more than where a unit is may be put over a
            record that was drawn without regard to it.
    """

    def __init__(
        self,
        codec: Codec,
        donors: pd.DataFrame,
        weights: Vector,
        structure: Structure,
        borrow: bool = True,
    ) -> None:
        self.structure, self.borrow = structure, borrow
        self.columns = columns = codec.columns
        self.names = np.array([column.name for column in columns], dtype=object)
        self.is_structure = np.array([column.block == "structure" for column in columns])
        at = {column.name: place for place, column in enumerate(columns)}
        self._present_of = np.array(
            [-1 if c.presence is None else at[c.presence] for c in columns], dtype=np.intp
        )
        self.donors, self._weights = donors, weights
        self.donor_cells = slot_mask(donors, columns)

    def plans(
        self, number: int, source: pd.DataFrame, offender: Offender, rng: np.random.Generator
    ) -> list[Plan]:
        """Candidates in equal numbers at each fraction.

        Args:
            number: Of the unit among those that are spread.
            source: Its slot row.
            offender: What is to be known of it.
            rng: Source of chance.
        """
        own = slot_mask(source, self.columns)[0]
        always = np.isin(self.names, list(offender.held)) & own & ~self.is_structure
        each = -(-CANDIDATES_EACH * offender.k // len(FRACTIONS))
        pool = self._pool(source.index[0], always)
        has_structure = bool(self.is_structure.any())
        found = []
        for fraction in FRACTIONS:
            for _ in range(each):
                is_fixed = offender.holds_structure or not has_structure or rng.random() < fraction
                donor = -1
                if not is_fixed and self.structure == "donor" and len(pool):
                    chances = self._weights[pool] / self._weights[pool].sum()
                    donor = int(rng.choice(pool, p=chances))
                if not is_fixed and self.structure == "sampled":
                    found.append(self._sampled(number, fraction, own, always, rng))
                    continue
                cells = own if donor < 0 else self.donor_cells[donor]
                held = self._held(fraction, cells & ~self.is_structure, own, always, rng)
                if held is None:
                    # The donor has too few cells in common with the source to share so many.
                    donor, cells = -1, own
                    held = self._held(fraction, cells & ~self.is_structure, own, always, rng)
                assert held is not None
                given = held | self.is_structure | ~cells
                found.append(self._plan(number, fraction, donor, held, always, given))
        return found

    def loosened(
        self, plan: Plan, first: Plan, offender: Offender, rng: np.random.Generator
    ) -> Plan:
        """A plan whose candidate did not get what it must share, with fewer other conditions.

        Of the other cells a tenth is kept, and so on until none is left; then all are tried
        again with the place put over what is drawn. A plan that has nothing left to give up stays
        as it is.

        Args:
            plan: As it was tried last.
            first: As it was made.
            offender: The unit.
            rng: Source of chance.
        """
        others = np.flatnonzero(plan.held & ~plan.must)
        if len(others):
            kept = rng.permutation(others)[: int(KEPT_EACH_TIME * len(others))]
            gone = np.setdiff1d(others, kept)
            held, given = plan.held.copy(), plan.given.copy()
            held[gone] = given[gone] = False
            return replace(plan, held=held, given=given)
        place = np.isin(self.names, list(offender.only_place)) & plan.held
        if not self.borrow or not place.any() or plan.moved.any():
            return plan
        return replace(first, given=first.given & ~place, moved=place)

    def _pool(self, unit: Any, always: Mask) -> NDArray[np.intp]:
        """Donors of structure that have all cells which must be shared."""
        has_all = self.donor_cells[:, always].all(axis=1) & (self._weights > 0)
        own = self.donors.index == unit
        return np.flatnonzero(has_all & ~own)

    def _plan(
        self, number: int, fraction: float, donor: int, held: Mask, always: Mask, given: Mask
    ) -> Plan:
        return Plan(number, fraction, donor, held, held & always, given, np.zeros_like(held))

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

    def _sampled(
        self, number: int, fraction: float, own: Mask, always: Mask, rng: np.random.Generator
    ) -> Plan:
        """A candidate whose structure is drawn too, but for the slots of shared cells."""
        held = self._held(fraction, own & ~self.is_structure, own, always, rng)
        assert held is not None
        given = held.copy()
        for position in np.flatnonzero(held & (self._present_of >= 0)):
            column = self.columns[position]
            for other, candidate in enumerate(self.columns):
                # Slots are filled without gaps, so those before it are filled too.
                if (
                    candidate.kind == "present"
                    and candidate.entity == column.entity
                    and candidate.slot <= column.slot
                ):
                    given[other] = True
        return self._plan(number, fraction, -1, held, always, given)
