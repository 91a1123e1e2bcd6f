"""`HardConcrete`: a module that trains the logits of Hard Concrete gates.

The formulas are those of `l0.distribution`; their names can be imported from here as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from l0 import distribution, selection
from l0.distribution import (
    INIT_MEAN,
    LIMITS,
    TEMPERATURE,
    Limits,
    Real,
    log_alpha_for,
    mean,
    median,
    prob_active,
    prob_one,
    sample,
    variance,
)
from l0.errors import InvalidSetting, ShapeMismatch

__all__ = [
    "INIT_MEAN",
    "LIMITS",
    "TEMPERATURE",
    "HardConcrete",
    "Limits",
    "Real",
    "log_alpha_for",
    "mean",
    "median",
    "prob_active",
    "prob_one",
    "sample",
    "variance",
]


class HardConcrete(nn.Module):
    """A Hard Concrete gate for each of many items, with logits that can be trained.

    Calling it gives the gates: a random draw in training mode, the median gate (always the
    same) in evaluation mode. Without `generator` or `seed` the noise comes from PyTorch's global
    generator; with one of them, the global generator is neither read nor changed. Compiled as
    a whole graph, gates with a generator draw what they draw otherwise; from the global
    generator, a compiler may make numbers of its own. `torch.utils.checkpoint` repeats draws of
    the global generator only: leave gates with their own outside of what it computes again.

    `state_dict` has the logits, the temperature and, for gates with a generator of their own, its
    state under `generator_state`: after loading, the draws go on as they would have gone on. A
    state without that entry leaves the generator as it is.

    Args:
        *shape: Number of items, or the sizes of several dimensions, also as one tuple.
        n_items: Number of items, as a keyword instead of `shape`.
        temperature: Positive. Lower: gates closer to 0 and 1, and fewer of them with a gradient.
        init_mean: `P(gate > 0)` at the start, in `[0, 1]`: one number for all items or an array of
            the gates' shape. Values within 1e-6 of 0 or 1 are moved to that distance.
        limits: Where the stretched gate begins and ends; below 0 and above 1.
        group_size: Number of parameters that each gate switches; penalties count it. One number,
            or a tensor that can be broadcast to the gates.
        generator: Source of the noise in training mode.
        seed: Makes a generator; give one of the two.
        device: Where the logits live.
        dtype: Floating type of the logits and of the gates.

    Raises:
        InvalidSetting: If the temperature is not positive, or the limits do not straddle
            `[0, 1]`, or a group size is negative or not finite, or both `generator` and `seed`
            are given.
        InvalidProbabilities: If `init_mean` is not in `[0, 1]`.
        ShapeMismatch: If the shape is missing, given twice, or has a negative size, or the group
            sizes cannot be broadcast to it.

    Examples:
        >>> gates = HardConcrete(n_items=1000, temperature=0.25, init_mean=0.999, seed=0)
        >>> round(gates.penalty().item(), 2)
        999.0
        >>> gates().shape
        torch.Size([1000])
    """

    temperature: Tensor

    def __init__(
        self,
        *shape: int | Sequence[int],
        n_items: int | None = None,
        temperature: float = TEMPERATURE,
        init_mean: ArrayLike | Tensor = INIT_MEAN,
        limits: Limits = LIMITS,
        group_size: int | Tensor = 1,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = _as_shape(shape, n_items)
        self.limits = _checked_limits(limits)
        if generator is not None and seed is not None:
            raise InvalidSetting("`generator` and `seed` are both given. Give one of the two.")
        self.generator = generator if seed is None else torch.Generator().manual_seed(seed)

        start = torch.as_tensor(init_mean, dtype=torch.float64)
        if start.ndim and start.shape != sizes:
            raise ShapeMismatch(
                f"`init_mean` is {tuple(start.shape)}; give one number, or one for each gate."
            )
        logits = log_alpha_for(start, _checked_temperature(temperature), self.limits)
        self.log_alpha = nn.Parameter(torch.empty(sizes, device=device, dtype=dtype).copy_(logits))
        at_least_single = distribution.widened(self.log_alpha)
        self.register_buffer("temperature", at_least_single.new_tensor(temperature))
        self.group_size = group_size

    def forward(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Gates in `[0, 1]`: draws in training mode, the median gates in evaluation mode.

        Args:
            sample_shape: How many independent draws of all gates to make, such as
                `(batch_size,)` for one per example. In evaluation mode they are all the same.

        Returns:
            Gates of shape `(*sample_shape, *shape)`.
        """
        logits = self.log_alpha.expand(*sample_shape, *self.log_alpha.shape)
        if self.training:
            z = sample(logits, self.temperature, self.limits, generator=self.generator)
        else:
            z = median(logits, self.temperature, self.limits)
        return z.to(self.log_alpha.dtype)

    def prob_active(self) -> Tensor:
        """Chance of each gate not to be zero."""
        return prob_active(self.log_alpha, self.temperature, self.limits)

    def mean(self) -> Tensor:
        """Expected value of each gate."""
        return mean(self.log_alpha, self.temperature, self.limits)

    def variance(self) -> Tensor:
        """Variance of each gate."""
        return variance(self.log_alpha, self.temperature, self.limits)

    def median(self) -> Tensor:
        """Median of each gate: what a call returns in evaluation mode."""
        return median(self.log_alpha, self.temperature, self.limits)

    def penalty(self) -> Tensor:
        """Expected number of gates that are not zero; differentiable."""
        return self.prob_active().sum()

    def expected_parameters(self) -> Tensor:
        """Expected number of parameters that the gates leave switched on; differentiable.

        Examples:
            >>> sizes = torch.tensor([10, 30])
            >>> HardConcrete(2, init_mean=0.5, group_size=sizes).expected_parameters().item()
            20.0
        """
        return (self.prob_active() * self.group_size).sum()

    @property
    def group_size(self) -> int | Tensor:
        """Number of parameters that each gate switches: one number, or a tensor."""
        sizes = self._buffers.get("group_sizes")
        return self._size_of_all if sizes is None else sizes

    @group_size.setter
    def group_size(self, group_size: int | Tensor) -> None:
        _check_group_size(group_size, self.log_alpha.shape)
        if isinstance(group_size, Tensor):
            self.register_buffer("group_sizes", group_size.to(self.log_alpha.device))
        else:
            self._buffers.pop("group_sizes", None)
            self._size_of_all = group_size

    @property
    def n_parameters(self) -> int:
        """Number of parameters that the gates switch."""
        sizes = torch.as_tensor(self.group_size, dtype=torch.float64)
        return round(sizes.expand(self.log_alpha.shape).sum().item())

    @property
    def settled(self) -> bool:
        """Whether every gate is open or shut for ever: see `settle`."""
        return bool(self.log_alpha.isinf().all())

    @torch.no_grad()
    def settled_values(self) -> Tensor:
        """What to multiply weights by when gates are settled: medians, or means where those are 0.

        A gate that is to stay open and whose median is 0 would wipe its unit out.
        """
        median = self.median()
        return torch.where(median > 0, median, self.mean()).to(self.log_alpha.dtype)

    @torch.no_grad()
    def settle(self, open_mask: ArrayLike | Tensor) -> None:
        """Open some gates and shut all others, exactly and for ever, in place.

        The logits become infinite, and their gradients zero: an optimiser leaves them as they
        are, if it has no weight decay (`l0.param_groups` gives gates none), as a share of
        infinity is infinite.

        Args:
            open_mask: Which gates to open, booleans of the gates' shape.

        Raises:
            ShapeMismatch: If the mask has another shape.

        Examples:
            >>> gates = HardConcrete(3)
            >>> gates.settle([True, False, True])
            >>> gates().tolist(), gates.settled
            ([1.0, 0.0, 1.0], True)
        """
        mask = torch.as_tensor(open_mask, dtype=torch.bool, device=self.log_alpha.device)
        if mask.shape != self.log_alpha.shape:
            raise ShapeMismatch(
                f"the mask is {tuple(mask.shape)}, but the gates are "
                f"{tuple(self.log_alpha.shape)}. Give one boolean for each gate."
            )
        self.log_alpha.fill_(-math.inf).masked_fill_(mask, math.inf)

    def select(self, k: int, seed: selection.Rng = 0) -> selection.Indices:
        """Exactly k items: those most likely to be active, ties broken evenly over the items.

        Args:
            k: How many items to return.
            seed: Generator or seed, used only to break a tie.

        Returns:
            Positions among the flattened gates, ascending.

        Raises:
            InvalidCount: If there are fewer than `k` gates.

        Examples:
            >>> HardConcrete(4, init_mean=[0.1, 0.9, 0.5, 0.7]).select(k=2).tolist()
            [1, 3]
        """
        # By the logit: the probabilities of all large logits are rounded to 1, and would tie.
        logits = self.log_alpha.detach().flatten().to("cpu", torch.float64)
        # Settled gates come first and last: no logit of a gate is as far out as this.
        far = torch.finfo(torch.float64).max
        return selection.top_k(logits.nan_to_num(math.nan, far, -far).numpy(), k, seed)

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Change the temperature of all gates; a compiled model is not compiled again."""
        self.temperature.fill_(_checked_temperature(temperature))

    @torch.no_grad()
    def constrain_parameters(self, lowest: float = -20.0, highest: float = 20.0) -> None:
        """Bring the logits back into a range, in place; call it after an optimiser's step.

        The forward pass never clamps them: that would stop their gradient. Narrower ranges,
        such as +-4.6 in Louizos et al., keep gates easier to turn. Settled gates stay settled.
        """
        inside = self.log_alpha.clamp(lowest, highest)
        self.log_alpha.copy_(torch.where(self.log_alpha.isinf(), self.log_alpha, inside))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        before = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # as PyTorch has it
        for name, buffer in before.items():
            moved = self.get_buffer(name)
            if moved.dtype != buffer.dtype:  # `.half()` would round 2/3.
                self._buffers[name] = buffer.to(moved.device)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.generator is not None:
            destination[prefix + _GENERATOR_STATE] = self.generator.get_state()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *reports: Any
    ) -> None:
        key = prefix + _GENERATOR_STATE
        # PyTorch looks for entries that it does not know; this one is known.
        others = {name: entry for name, entry in state_dict.items() if name != key}
        super()._load_from_state_dict(others, prefix, local_metadata, strict, *reports)
        if key not in state_dict:
            return
        state = state_dict[key].cpu()
        if self.generator is None:
            on_cpu = state.shape == torch.Generator().get_state().shape
            self.generator = torch.Generator("cpu" if on_cpu else self.log_alpha.device)
        try:
            self.generator.set_state(state)
        except (RuntimeError, TypeError) as error:
            *_, messages = reports
            messages.append(
                f"{key!r} is of another kind of generator than that of these gates, which is on "
                f"{self.generator.device}: {error} Make the gates with a generator on the device "
                "of the saved one, or drop this entry."
            )

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return (
            f"{tuple(self.log_alpha.shape)}, temperature={self.temperature}, limits={self.limits}"
        )


_GENERATOR_STATE = "generator_state"


def _as_shape(shape: tuple[int | Sequence[int], ...], n_items: int | None) -> torch.Size:
    given = [np.atleast_1d(part) for part in (*shape, n_items) if part is not None]
    sizes = np.concatenate(given).astype(int).tolist() if given else []
    if not sizes or min(sizes) < 0 or (shape and n_items is not None):
        raise ShapeMismatch(
            "give the number of gates once, 0 or more: `HardConcrete(100)`, `HardConcrete(20, 5)`."
        )
    return torch.Size(sizes)


def _checked_temperature(temperature: float) -> float:
    if not (math.isfinite(temperature) and temperature > 0):
        raise InvalidSetting(
            f"temperature is {temperature:g}, but must be positive and finite; 0.1 to 1 is usual."
        )
    return float(temperature)


def _checked_limits(limits: Limits) -> Limits:
    lower, upper = (float(limit) for limit in limits)
    if not (math.isfinite(lower) and lower < 0 and math.isfinite(upper) and upper > 1):
        raise InvalidSetting(
            f"limits {lower:g} and {upper:g} must begin below 0 and end above 1, as {LIMITS} do."
        )
    return lower, upper


def _check_group_size(group_size: int | Tensor, sizes: torch.Size) -> None:
    values = torch.as_tensor(group_size)
    if values.device.type != "meta" and not bool(((values >= 0) & values.isfinite()).all()):
        raise InvalidSetting(
            f"`group_size` is {group_size}, but a number of parameters is 0 or more and finite."
        )
    try:
        values.expand(sizes)
    except RuntimeError as error:
        raise ShapeMismatch(
            f"`group_size` of shape {tuple(values.shape)} cannot be broadcast to the gates "
            f"{tuple(sizes)}. Give one number, or one for each gate."
        ) from error
