"""A number that changes on the way through training: a temperature, a price or a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from l0.errors import InvalidSetting

Shape: TypeAlias = Callable[[float, float, float], float]
"""`(start, end, progress in [0, 1])` to the value on the way."""

SCHEDULES: Mapping[str, Shape] = MappingProxyType(
    {
        "exponential": lambda start, end, progress: start * (end / start) ** progress,
        "linear": lambda start, end, progress: start + (end - start) * progress,
        "cosine": lambda start, end, progress: (
            end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
        ),
        # Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878: fast first, then slowly.
        "cubic": lambda start, end, progress: end + (start - end) * (1 - progress) ** 3,
    }
)


@dataclass(frozen=True)
class Schedule:
    """A value for each step: from `start` at step 0 to `end` at step `length`, then constant.

    Steps are whatever you count: batches or epochs, also fractions of them.

    Args:
        start: Value at step 0.
        end: Value from step `length` on.
        length: How many steps the way takes, 0 or more.
        shape: A name out of `SCHEDULES`, or a function of start, end and the progress in `[0, 1]`.

    Raises:
        InvalidSetting: If a number is not finite, the length is negative, the shape is unknown,
            or an exponential one would have to reach or cross zero.

    Examples:
        >>> price = Schedule(0.0, 1e-3, length=100)
        >>> [price.at(step) for step in (0, 50, 100, 1000)]
        [0.0, 0.0005, 0.001, 0.001]
        >>> Schedule(1.0, 0.25, length=10, shape="exponential").at(5)
        0.5
    """

    start: float
    end: float
    length: float
    shape: str | Shape = "linear"

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        for name in ("start", "end", "length"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidSetting(f"`{name}` is {getattr(self, name)}, but must be finite.")
        if self.length < 0:
            raise InvalidSetting(f"`length` is {self.length}, but must be 0 or more steps.")
        if isinstance(self.shape, str) and self.shape not in SCHEDULES:
            raise InvalidSetting(
                f"no schedule is named {self.shape!r}. Take one of {', '.join(SCHEDULES)}, or "
                "give a function of (start, end, progress)."
            )
        if self.shape == "exponential" and not self.start * self.end > 0:
            raise InvalidSetting(
                f"an exponential way from {self.start} to {self.end} does not exist: no factor "
                'leads to or across zero. Take "linear" or "cubic", or start near zero.'
            )

    def at(self, step: float) -> float:
        """Value at a step.

        Args:
            step: Steps since the start, 0 or more; may be a fraction.

        Returns:
            The value; `end` from step `length` on.

        Raises:
            InvalidSetting: If `step` is negative.
        """
        if not step >= 0:
            raise InvalidSetting(f"step is {step}; the first step is 0.")
        if step >= self.length:
            return self.end
        formula = SCHEDULES[self.shape] if isinstance(self.shape, str) else self.shape
        return formula(self.start, self.end, step / self.length)
