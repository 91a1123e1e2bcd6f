"""What was done in the rounds of a run so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Figures of a round that are 0 where nothing is spread.
COUNTS = ("round", "n_offenders", "n_spawned", "n_offspring", "n_candidates", "n_valid", "added")


@dataclass(eq=False)
class Progress:
    """What has been done so far; with the state, all that a later run needs to go on.

    Attributes:
        round: Number of the last round.
        pending: Parts of batches that were rolled back as a whole, to be tried alone.
        irreducible: Reason for each unit that cannot be spread.
        rounds: One dictionary per round.
        offenders: One per unit and round.
        offspring: Source, requested and achieved fraction of each generated unit.
        seconds: Of each round.
    """

    round: int = 0
    pending: list[list[Any]] = field(default_factory=list)
    irreducible: dict[Any, str] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    offenders: list[dict[str, Any]] = field(default_factory=list)
    offspring: dict[Any, tuple[Any, float, float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def n_alone(self, unit: Any) -> int:
        """In how many rounds a unit was spread alone; all of them were rolled back."""
        alone = {row["round"] for row in self.rounds if row["n_spawned"] == 1}
        rows = [row for row in self.offenders if row["round"] in alone and row["n_offspring"]]
        return sum(row["id"] == unit for row in rows)
