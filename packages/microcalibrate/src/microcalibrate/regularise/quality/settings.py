"""How much is looked at when rows are judged."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from microcalibrate.errors import InvalidOption


@dataclass(frozen=True)
class QualitySettings:
    """How much is looked at; the report says so beside its figures.

    Attributes:
        n_splits: Random splits of the real rows, for what chance alone does.
        max_rows_pairs: Rows of each side for associations of pairs.
        max_rows_joint: Rows of each side that trees learn to tell apart.
        max_rows_distance: Rows of each side for distances to the closest record.
        max_rows_conditional: Holdout rows whose cells are predicted.
        n_draws: Draws for each of them, where a generator does not tell its chances.
        n_replicates: Bootstrap samples for standard errors of statistics.
        fractions: Shares of the columns that are given.
    """

    n_splits: int = 20
    max_rows_pairs: int = 4_000
    max_rows_joint: int = 2_000
    max_rows_distance: int = 2_000
    max_rows_conditional: int = 500
    n_draws: int = 20
    n_replicates: int = 200
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in asdict(self).items():
            if name != "fractions" and value < 2:
                raise InvalidOption(f"{name}={value}, and it must be at least 2.")
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            raise InvalidOption(f"fractions={self.fractions}, and each must lie in (0, 1).")
