"""The offspring of a unit, before they are households again."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from microcalibrate.arrays import Vector
from microcalibrate.regularise.conditions import Offender


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
    """

    offender: Offender
    rows: pd.DataFrame
    fractions: Vector
    held: tuple[str, ...]
    achieved: Vector
    n_candidates: int
    n_valid: int
    reason: str = ""
