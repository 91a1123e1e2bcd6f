"""Options of a run of the loop, checked before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from microcalibrate.errors import InvalidOption
from microcalibrate.regularise.planning import Structure
from microcalibrate.regularise.spreading import Mode

PRIORS = ("base", "weights")


@dataclass(frozen=True)
class Options:
    """What a user may set; see `regularise`."""

    threshold: float = 0.05
    flag_dominating: bool = True
    reform_fraction: float = 0.2
    n_reforms: int | None = None
    on_error: str = "raise"
    mode: Mode = "replace"
    structure: Structure = "donor"
    batch: int = 20
    max_rounds: int = 20
    share_target: float | None = None
    weight_target: float | None = None
    max_offspring: int = 50
    max_added: int | None = None
    geography: tuple[str, ...] | None = None
    borrow: bool = True
    prior: str = "base"
    entropy_lambda: float = 1e-4
    cap: float | None = None
    n_folds: int | None = None
    n_stability_seeds: int = 0
    time_budget: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, choices in (
            ("mode", get_args(Mode)),
            ("structure", get_args(Structure)),
            ("prior", PRIORS),
        ):
            if getattr(self, name) not in choices:
                raise InvalidOption(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(choices)}."
                )
        whole: Sequence[tuple[str, int]] = (
            ("batch", 1), ("max_rounds", 0), ("max_offspring", 2), ("max_added", 0),
            ("n_folds", 0), ("n_stability_seeds", 0), ("seed", 0), ("n_reforms", 1),
        )  # fmt: skip
        for name, least in whole:
            value = getattr(self, name)
            if value is None and name in ("max_added", "n_folds", "n_reforms"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InvalidOption(f"{name}={value!r} must be a whole number from {least}.")
        if self.n_folds == 1:
            raise InvalidOption(
                "n_folds=1 holds out every target at once. Use 2 or more, or 0 for none."
            )
        if self.n_stability_seeds in (1, 2, 3, 4):
            raise InvalidOption(
                f"n_stability_seeds={self.n_stability_seeds} is too few for a standard deviation "
                "to rely on. Use 5 or more, or 0 for no check."
            )
        positive: Sequence[str] = (
            "share_target", "weight_target", "entropy_lambda", "cap", "time_budget",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            allows_zero = name == "time_budget"
            if value is None and name != "entropy_lambda":
                continue
            if not (np.isfinite(value) and (value > 0 or (allows_zero and value == 0))):
                raise InvalidOption(f"{name}={value!r} must be a positive number.")
        if self.share_target is not None and self.share_target >= 1:
            raise InvalidOption(f"share_target={self.share_target!r} must be a share below 1.")

    @property
    def wanted_share(self) -> float:
        """Share of a statistic that an offspring should have at most."""
        return self.threshold / 2 if self.share_target is None else self.share_target


OnRound = Callable[[dict[str, Any]], None]
