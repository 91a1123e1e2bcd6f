"""Whether a round is kept: fit, held-out fit, and influence by record and by origin."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from microcalibrate.errors import InvalidOption


@dataclass(frozen=True)
class Limits:
    """What a round may cost.

    Attributes:
        target_loss: Most that the loss of targets may grow, as a fraction.
        held_out_loss: The same of targets that are held out.
        lineage_share: The same of the largest share of an origin.
        met: Root mean squared relative error below which targets count as met: growth of a loss
            that stays below this is no loss of fit.

    Raises:
        InvalidOption: If one is negative or not finite.
    """

    target_loss: float = 0.02
    held_out_loss: float = 0.05
    lineage_share: float = 0.01
    met: float = 1e-3

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in asdict(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise InvalidOption(f"{name}={value!r} must be 0 or more, and finite.")


@dataclass(frozen=True)
class Measures:
    """Figures of one state of the survey, by which rounds are judged.

    Attributes:
        target_loss: Mean squared relative error of the targets.
        held_out_loss: That of each target in weights that it was held out of; NaN where none is.
        batch_share: Largest gross share of a record of the batch.
        batch_lineage_share: Largest gross share of an origin of the batch.
        lineage_share: Largest gross share of any origin.
    """

    target_loss: float
    held_out_loss: float
    batch_share: float
    batch_lineage_share: float
    lineage_share: float


def objections(
    before: Measures, after: Measures, limits: Limits, start: Measures | None = None
) -> tuple[str, ...]:
    """What speaks against a round, in sentences; none if it is kept.

    Args:
        before: Figures before the round: the largest share of the batch must fall from there.
        after: Figures after it.
        limits: What it may cost.
        start: Figures that fit and shares of origins are compared with, so that what twenty
            rounds cost does not add up; None takes those before the round.

    Examples:
        >>> good, bad = Measures(1e-4, 1e-2, 0.3, 0.3, 0.3), Measures(1e-3, 1e-2, 0.1, 0.3, 0.3)
        >>> objections(good, bad, Limits())
        ('targets fit worse: root mean squared error 1.00% to 3.16%',)
    """
    found = []
    start = before if start is None else start
    floor = limits.met**2
    if after.target_loss > max((1 + limits.target_loss) * start.target_loss, floor):
        found.append(f"targets fit worse: {_errors(start.target_loss, after.target_loss)}")
    if after.held_out_loss > max((1 + limits.held_out_loss) * start.held_out_loss, floor):
        found.append(
            f"held-out targets fit worse: {_errors(start.held_out_loss, after.held_out_loss)}"
        )
    if not after.batch_share < before.batch_share:
        found.append(
            "the largest share of a record of the batch did not fall: "
            f"{before.batch_share:.2%} to {after.batch_share:.2%}"
        )
    for what, name in (
        ("an origin of the batch", "batch_lineage_share"),
        ("any origin", "lineage_share"),
    ):
        first, last = getattr(start, name), getattr(after, name)
        if last > (1 + limits.lineage_share) * first:
            found.append(f"the largest share of {what} rose: {first:.2%} to {last:.2%}")
    return tuple(found)


def as_columns(before: Measures, after: Measures | None) -> dict[str, Any]:
    """The figures side by side, for the table of rounds."""
    columns: dict[str, Any] = {}
    for name, value in asdict(before).items():
        columns[f"{name}_before"] = value
        columns[f"{name}_after"] = np.nan if after is None else getattr(after, name)
    return columns


def _errors(before: float, after: float) -> str:
    return f"root mean squared error {np.sqrt(before):.2%} to {np.sqrt(after):.2%}"
