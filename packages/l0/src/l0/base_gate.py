"""A gate per item of a data set: what gates over samples and over features share."""

from __future__ import annotations

import math
from typing import ClassVar, TypeVar, Unpack, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from l0 import selection
from l0.errors import InvalidCount, UnsupportedData
from l0.hard_concrete import LIMITS, TEMPERATURE, HardConcrete, Limits
from l0.selection import Indices
from l0.selection.items import check_items, take
from l0.selection.quotas import Bundles, Wishes

Data = TypeVar("Data")

FAR = 1e9
"""Logits of settled gates count as this far out: further than any that training reaches."""


class L0Gate(nn.Module):
    """A Hard Concrete gate per item of a data set: what the gates of this module share.

    Calling the gate multiplies data by it; that is how it is trained. `select…` takes exactly
    as many items as were asked for, the most likely ones, in training mode and outside.

    Args:
        n_items: Number of items in the data.
        n_selected: How many of them to select.
        temperature: Of the gates.
        init_mean: `P(gate > 0)` at the start; the share to select if not given.
        limits: Of the gates.
        generator: Source of the noise in training mode; PyTorch's global generator if None.
        seed: Makes a generator; give one of the two.
        device: Where the logits live.
        dtype: Their type.

    Raises:
        InvalidCount: If `n_selected` is not in `[0, n_items]`.
        InvalidSetting: If a setting of the gates is out of range.
    """

    item_axis: ClassVar[int] = 0
    """The axis of the data along which the items lie."""

    def __init__(
        self,
        n_items: int,
        n_selected: int,
        *,
        temperature: float = TEMPERATURE,
        init_mean: ArrayLike | Tensor | None = None,
        limits: Limits = LIMITS,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= n_selected <= n_items:
            raise InvalidCount(
                f"{n_selected} of {n_items} items are asked for. Ask for 0 to {n_items}."
            )
        self.n_items = n_items
        self.n_selected = n_selected
        self.hard_concrete = HardConcrete(
            n_items,
            temperature=temperature,
            init_mean=n_selected / max(n_items, 1) if init_mean is None else init_mean,
            limits=limits,
            generator=generator,
            seed=seed,
            device=device,
            dtype=dtype,
        )

    @property
    def log_alpha(self) -> nn.Parameter:
        """The logits, shape `(n_items,)`."""
        return self.hard_concrete.log_alpha

    def prob_active(self) -> Tensor:
        """Chance of each item's gate not to be zero."""
        return self.hard_concrete.prob_active()

    def mean(self) -> Tensor:
        """Expected gate of each item."""
        return self.hard_concrete.mean()

    def variance(self) -> Tensor:
        """Variance of each item's gate."""
        return self.hard_concrete.variance()

    def penalty(self) -> Tensor:
        """Expected number of items whose gate is not zero; differentiable."""
        return self.hard_concrete.penalty()

    def forward(self, data: Tensor | None = None) -> Tensor:
        """Data times their gates, or the gates alone.

        In training mode the gates are a random draw, and the gradient reaches the logits of all
        gates that are neither 0 nor 1 in this draw. In evaluation mode they are median gates.

        Args:
            data: A tensor with `n_items` along `item_axis`.

        Returns:
            A tensor of the shape of `data`, or of shape `(n_items,)` without data.

        Raises:
            ShapeMismatch: If the data have another number of items.
            UnsupportedData: If the data are not a tensor.
        """
        z: Tensor = self.hard_concrete()
        if data is None:
            return z
        if not isinstance(data, Tensor):
            raise UnsupportedData(
                f"gates multiply tensors, not {type(data).__name__}. Convert the numbers with "
                "torch.as_tensor(...), or take whole rows or columns by selecting."
            )
        check_items(data, self.n_items, self.item_axis)
        return data * self._along_items(z, data)

    def choose(
        self, k: int | None = None, *, seed: selection.Rng = 0, **wishes: Unpack[Wishes]
    ) -> Indices:
        """The most likely set of exactly `k` items that obeys the wishes.

        Args:
            k: How many items (or groups, if the wishes count groups); `n_selected` if None.
            seed: Generator or seed, used only to break ties.
            **wishes: Must-keep items, groups and quotas, as in `l0.selection.Wishes`.

        Returns:
            Positions, ascending.

        Raises:
            InvalidCount: If the wishes contradict each other or the count; see
                `l0.constrained_top_k`.

        Examples:
            >>> gate = L0Gate(4, 2, init_mean=[0.1, 0.9, 0.5, 0.7])
            >>> gate.choose().tolist(), gate.choose(keep=[0]).tolist()
            ([1, 3], [0, 1])
        """
        bundles = Bundles.of(self.n_items, **wishes)
        count = self.n_selected if k is None else k
        return bundles.items(bundles.best(bundles.total(self._logits()), count, rng=seed))

    def _logits(self) -> NDArray[np.float64]:
        """By the logit: probabilities of all large logits are rounded to 1, and would tie."""
        logits = self.log_alpha.detach().to("cpu", torch.float64)
        return np.asarray(logits.nan_to_num(math.nan, FAR, -FAR).numpy())

    def _select(self, data: Data, seed: selection.Rng, wishes: Wishes) -> tuple[Data, Indices]:
        check_items(data, self.n_items, self.item_axis)
        indices = self.choose(seed=seed, **wishes)
        return self._taken(data, indices), indices

    def _taken(self, data: Data, indices: Indices) -> Data:
        """The items at `indices`, in training mode with the gradient of their gates."""
        taken = take(data, indices, self.item_axis)
        if not (self.training and isinstance(taken, Tensor) and taken.is_floating_point()):
            return taken
        # Note [Gradient without change]: the factor is exactly 1, so the selected data stay as
        # they are, but its gradient is that of the expected gate, which is never zero.
        expected = self.mean()[indices]
        factor = 1 + (expected - expected.detach())
        return cast("Data", taken * self._along_items(factor, taken).to(taken.dtype))

    def _along_items(self, per_item: Tensor, data: Tensor) -> Tensor:
        shape = [1] * data.ndim
        shape[self.item_axis] = -1
        return per_item.view(shape)
