"""Schedules that cool gates from soft to hard, and the walk that sets a model's temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from l0.errors import InvalidSetting
from l0.hard_concrete import HardConcrete
from l0.schedule import Schedule, Shape


@dataclass(frozen=True, init=False)
class TemperatureScheduler:
    """The temperature of each epoch: from `initial_temp` at epoch 0 to `final_temp`, then constant.

    Args:
        initial_temp: Temperature at epoch 0; higher is softer.
        final_temp: Temperature from epoch `total_epochs` on.
        total_epochs: How many epochs the way takes.
        anneal_epochs: Another name of `total_epochs`; give one of the two.
        schedule: A name out of `l0.schedule.SCHEDULES`, or a function of the two temperatures and
            the progress in `[0, 1]`.

    Raises:
        InvalidSetting: If a temperature or the number of epochs is not positive, or the schedule
            is unknown.

    Examples:
        >>> scheduler = TemperatureScheduler(initial_temp=1.0, final_temp=0.25, total_epochs=10)
        >>> [scheduler.get_temperature(epoch) for epoch in (0, 5, 10, 11)]
        [1.0, 0.5, 0.25, 0.25]
    """

    initial_temp: float
    final_temp: float
    total_epochs: int
    schedule: str | Shape

    def __init__(
        self,
        initial_temp: float = 1.0,
        final_temp: float = 0.1,
        total_epochs: int | None = None,
        *,
        anneal_epochs: int | None = None,
        schedule: str | Shape = "exponential",
    ) -> None:
        if (total_epochs is None) == (anneal_epochs is None):
            raise InvalidSetting("give `total_epochs` (or its other name, `anneal_epochs`), once.")
        epochs = total_epochs if anneal_epochs is None else anneal_epochs
        numbers = {"initial_temp": initial_temp, "final_temp": final_temp, "total_epochs": epochs}
        for name, value in numbers.items():
            if value is None or not (math.isfinite(value) and value > 0):
                raise InvalidSetting(f"`{name}` is {value}, but must be positive and finite.")
        _ = Schedule(initial_temp, final_temp, epochs or 0, schedule)  # It checks the rest.
        for name, setting in {**numbers, "schedule": schedule}.items():
            object.__setattr__(self, name, setting)

    def get_temperature(self, epoch: float) -> float:
        """Temperature at an epoch, which may be a fraction.

        Args:
            epoch: Epochs since the start, 0 or more.

        Returns:
            A temperature between `initial_temp` and `final_temp`.

        Raises:
            InvalidSetting: If `epoch` is negative.

        Examples:
            >>> TemperatureScheduler(1.0, 0.5, total_epochs=4, schedule="linear").get_temperature(1)
            0.875
        """
        if not epoch >= 0:
            raise InvalidSetting(f"epoch is {epoch}; the first epoch is 0.")
        way = Schedule(self.initial_temp, self.final_temp, self.total_epochs, self.schedule)
        return way.at(epoch)


def update_temperatures(model: nn.Module, temp: float) -> int:
    """Set the temperature of every gate in a model, or of the gate that `model` is.

    Args:
        model: Any module.
        temp: The new temperature, positive.

    Returns:
        How many sets of gates were found: 0 means that the model has none.

    Raises:
        InvalidSetting: If `temp` is not positive and finite.

    Examples:
        >>> update_temperatures(nn.Sequential(nn.Linear(3, 2), HardConcrete(2)), 0.5)
        1
    """
    gates = [module for module in model.modules() if isinstance(module, HardConcrete)]
    for gate in gates:
        gate.set_temperature(temp)
    return len(gates)
