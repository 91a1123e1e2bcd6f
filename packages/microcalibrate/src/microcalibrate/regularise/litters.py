"""The offspring of a unit, before they are households again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.regularise.conditions import Offender
from microcalibrate.regularise.slots import Mask


@dataclass(frozen=True, eq=False)
class Litter:
    """The offspring of one unit, as slot rows.

    Attributes:
        offender: The unit that they are made from.
        rows: Slot rows, one per offspring.
        fractions: Share of the cells that each was to share with the unit.
        held: Slot columns that each shares with it, joined by semicolons.
        achieved: Share of the cells that it does share.
        n_candidates: How many were drawn.
        n_valid: How many of these were households that keep to all conditions.
        reason: Why there are none; empty where there are some.
        moved: Which were drawn without regard to the place, and then put where the unit is.
    """

    offender: Offender
    rows: pd.DataFrame
    fractions: Vector
    held: tuple[str, ...]
    achieved: Vector
    n_candidates: int
    n_valid: int
    reason: str = ""
    moved: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def taken(self, places: NDArray[np.intp]) -> Litter:
        """Some of them, by their positions."""
        return replace(
            self,
            rows=self.rows.iloc[places].reset_index(drop=True),
            fractions=self.fractions[places],
            held=tuple(self.held[place] for place in places),
            achieved=self.achieved[places],
            moved=self.moved[places],
        )
