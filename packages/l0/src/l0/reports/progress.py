"""Watch a training with gates: a bar with loss and densities, and a record of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from l0.errors import InvalidSetting
from l0.reports.tables import data_frame
from l0.sized_gates import chances, sized_gates
from l0.sizes import METRICS, Metric

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)

SECONDS = 0.25


class Repeatable(Protocol[Item_co]):
    """What can be gone through once an epoch, such as a `DataLoader`."""

    def __iter__(self) -> Iterator[Item_co]:
        """Start an epoch."""
        ...


@dataclass(frozen=True)
class Moment:
    """What was seen at one step of a training.

    Attributes:
        epoch: From 0 on.
        step: How many steps had been made, over all epochs.
        loss: Mean of the losses since the moment before.
        expected: Expected density over the draws of the gates.
        hard: Density in evaluation mode.
    """

    epoch: int
    step: int
    loss: float
    expected: float
    hard: float


@dataclass(frozen=True)
class History:
    """What was seen during a training.

    Attributes:
        moments: In the order of the steps.
        metric: What the densities are shares of.
        goal: Density that was wanted in the end, or None.
    """

    moments: tuple[Moment, ...]
    metric: Metric
    goal: float | None = None

    def to_frame(self) -> pd.DataFrame:
        """A row for each moment.

        Raises:
            MissingPackage: If pandas is not installed.
        """
        return data_frame([vars(moment) for moment in self.moments])

    def plot(self) -> Figure:
        """A figure: loss and densities over the steps.

        Raises:
            MissingPackage: If Plotly is not installed.
        """
        from l0.reports import figures

        return figures.of_history(self)


class Progress(Generic[Item]):
    """Go through batches, epoch after epoch, with a bar of loss and densities.

    Densities are looked at a few times a second and at the end of each epoch, and losses are
    read from the device only then, so that watching costs next to nothing.

    Args:
        batches: What to go through, once an epoch: a `DataLoader`, a list of batches, a range.
        model: The network with gates that is trained.
        epochs: How often to go through the batches.
        metric: What the densities are shares of: `"params"`, `"count"` or `"macs"`.
        goal: Density that is wanted in the end; the figure of the history shows it.
        show: Whether to show the bar; on a terminal if None. The record is made in any case.
        seconds: Least time between two looks; 0 looks at each step.

    Raises:
        InvalidSetting: If the model has no gates, or a setting is out of range, or the metric is
            not known for this model, or an iterator is to last for several epochs.

    Examples:
        >>> from l0.layers import L0Linear
        >>> model = L0Linear(3, 1, init_mean=0.9)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> batches = [torch.ones(4, 3), torch.zeros(4, 3)]
        >>> progress = Progress(batches, model, epochs=5)
        >>> for x in progress:
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     optimizer.step()
        ...     progress.update(loss)
        >>> [(moment.epoch, moment.step) for moment in progress.history.moments][-1]
        (4, 10)
    """

    def __init__(
        self,
        batches: Repeatable[Item],
        model: nn.Module,
        epochs: int = 1,
        *,
        metric: Metric = "params",
        goal: float | None = None,
        show: bool | None = None,
        seconds: float = SECONDS,
    ) -> None:
        if epochs < 1 or not seconds >= 0 or metric not in METRICS:
            raise InvalidSetting(
                f"epochs={epochs}, seconds={seconds}, metric={metric!r}: there is at least one "
                f"epoch, no time is below 0, and the metrics are {', '.join(METRICS)}."
            )
        if epochs > 1 and iter(batches) is batches:
            raise InvalidSetting(
                f"{type(batches).__name__} can be gone through only once, but there are {epochs} "
                "epochs. Give a `DataLoader`, a list or a range."
            )
        self._batches, self._epochs, self._seconds = batches, epochs, seconds
        self._gates = sized_gates(model)
        self._metric: Metric = metric
        self._goal = goal
        with torch.no_grad():
            self._dense = self._size(torch.ones_like(chances(self._gates)))
        # None lets tqdm find out whether there is a terminal.
        self._disable = None if show is None else not show
        self._bar: tqdm[Any] | None = None
        self._moments: list[Moment] = []
        self._losses: Tensor | float = 0.0
        self._n_losses = 0
        self._looked = -math.inf
        self.epoch = 0
        self.step = 0

    def __iter__(self) -> Iterator[Item]:
        """The batches, epoch after epoch."""
        total = self._epochs * length_hint(self._batches) or None
        with tqdm(total=total, unit=" batches", disable=self._disable) as bar:
            self._bar = bar
            for epoch in range(self._epochs):
                self.epoch = epoch
                bar.set_description_str(f"epoch {epoch + 1} of {self._epochs}", refresh=False)
                for batch in self._batches:
                    yield batch
                    bar.update()
                self._look()

    def update(self, loss: Tensor | float) -> None:
        """Say what the loss of a step was; call it once in each step.

        Args:
            loss: A scalar. A tensor is kept where it is, without its graph.
        """
        self.step += 1
        self._losses = self._losses + (loss.detach() if isinstance(loss, Tensor) else loss)
        self._n_losses += 1
        if time.monotonic() - self._looked >= self._seconds:
            self._look()

    @property
    def history(self) -> History:
        """What was seen so far."""
        return History(tuple(self._moments), self._metric, self._goal)

    @torch.no_grad()
    def _look(self) -> None:
        if not self._n_losses:
            return
        loss = float(self._losses) / self._n_losses
        now = torch.cat([gate.median().flatten() > 0 for gate in self._gates.gates])
        expected, hard = (
            self._size(state) / self._dense for state in (chances(self._gates), now.double())
        )
        self._moments.append(Moment(self.epoch, self.step, loss, expected, hard))
        self._losses, self._n_losses = 0.0, 0
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4g}, {self._metric} {expected:.1%} expected, {hard:.1%} hard"
            )
        self._looked = time.monotonic()

    def _size(self, state: Tensor) -> float:
        return float(self._gates.size(state, self._metric))
