"""Hooks of training loops that belong to others: Lightning's and Hugging Face's `Trainer`."""

from __future__ import annotations

from typing import Any

from torch import nn

from l0.budget import Budget
from l0.schedule import Schedule
from l0.temperature import update_temperatures
from l0.training import WeightAverage


class TrainerHooks:
    """What has to be done after each step and at the end of a training with gates.

    Put it in front of the base class of callbacks of your trainer, neither of which is imported
    here: `class Sparsify(TrainerHooks, lightning.Callback): pass`, or with
    `transformers.TrainerCallback`. The loss is yours: add `budget.loss()` where it is computed.

    Args:
        model: The network with gates.
        budget: Its `step` follows each step of the optimiser; in the end it is projected.
        temperature: Of all gates, step by step; unchanged if not given.
        average: Updated after each step; in the end its values are written into the model.
    """

    def __init__(
        self,
        model: nn.Module,
        budget: Budget,
        temperature: Schedule | None = None,
        average: WeightAverage | None = None,
    ) -> None:
        self.model, self.budget = model, budget
        self.temperature, self.average = temperature, average
        self._last_step = 0

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Lightning, after a batch: with accumulated gradients, not each is a step."""
        self._after(trainer.global_step)

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Hugging Face, after a step of the optimiser."""
        self._after(state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Both, at the end: the averages, and then exactly the budget."""
        if self.average is not None:
            with self.average.applied():
                state = {key: value.clone() for key, value in self.model.state_dict().items()}
            self.model.load_state_dict(state)
        self.budget.project()

    def _after(self, step: int) -> None:
        if step == self._last_step:
            return
        self._last_step = step
        self.budget.step()
        if self.temperature is not None:
            update_temperatures(self.model, self.temperature.at(step))
        if self.average is not None:
            self.average.update()
