"""Linear and convolution layers whose inputs, outputs or weights are gated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from l0.errors import InvalidSetting
from l0.hard_concrete import INIT_MEAN, LIMITS, TEMPERATURE, HardConcrete, Limits

# Note [Weights seen by group]: a weight of shape (out, in / groups, *kernel) is looked at as
# (groups, out / groups, in / groups, *kernel). A gate has its own value along some of these axes
# and is shared along the others; that is all that tells one kind of gate from another. A linear
# layer is a convolution of one group without a kernel.
_OUTPUT_AXES = (0, 1)
_GATED_AXES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"input": (0, 2), "output": _OUTPUT_AXES, "channel": _OUTPUT_AXES, "weight": (0, 1, 2, 3, 4)}
)


class _Gated(nn.Module):
    """What gated layers share: a gate over the weight, and over the bias with its output."""

    weight: Tensor
    bias: Tensor | None
    gate: HardConcrete

    def _attach_gate(
        self,
        kind: str,
        n_groups: int,
        temperature: float,
        init_mean: float,
        limits: Limits,
        seed: int | None,
    ) -> None:
        if kind not in _GATED_AXES:
            raise InvalidSetting(
                f"no gate is named {kind!r}. Take one of {', '.join(_GATED_AXES)}."
            )
        outputs, *inner = self.weight.shape
        axes = _GATED_AXES[kind]
        self._grouped_shape = (n_groups, outputs // n_groups, *inner)
        self._gate_view = [
            size if axis in axes else 1 for axis, size in enumerate(self._grouped_shape)
        ]
        self._bias_is_gated = self.bias is not None and axes == _OUTPUT_AXES
        n_gates = math.prod(self._gate_view)
        self.gate = HardConcrete(
            self.weight.shape if kind == "weight" else n_gates,
            temperature=temperature,
            init_mean=init_mean,
            limits=limits,
            group_size=self.weight.numel() // max(n_gates, 1) + self._bias_is_gated,
            seed=seed,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )

    def _over_weight(self, per_gate: Tensor) -> Tensor:
        """Values per gate, expanded to the shape of the weight."""
        grouped = per_gate.view(self._gate_view).expand(self._grouped_shape)
        return grouped.reshape(self.weight.shape)

    def _gated_weight_and_bias(self) -> tuple[Tensor, Tensor | None]:
        z = self.gate()  # One draw a pass: weight and bias of a unit live or die together.
        bias: Tensor | None = self.bias
        if bias is not None and self._bias_is_gated:
            bias = bias * z.view(-1)
        return self.weight * self._over_weight(z), bias

    def gated_parameters(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each gated parameter, with the chance of its entries to be active."""
        prob = self.gate.prob_active()
        yield self.weight, self._over_weight(prob)
        if self.bias is not None and self._bias_is_gated:
            yield self.bias, prob.view(-1)


class L0Linear(_Gated, nn.Linear):  # type: ignore[misc]  # PyTorch types `bias` as never None
    """A linear layer with gated inputs, outputs or weights.

    Args:
        in_features: Size of an input.
        out_features: Size of an output.
        bias: Whether to add a bias.
        gate: What a gate switches: `"input"` (a column of the weight), `"output"` (a row, and
            its bias: a shut output is exactly zero) or `"weight"` (a single weight).
        temperature: Of the gates.
        init_mean: `P(gate > 0)` at the start.
        limits: Of the gates.
        seed: Seed of the gates' noise; PyTorch's global generator if None.
        device: Where the parameters live.
        dtype: Their type.

    Raises:
        InvalidSetting: If `gate` is unknown, or a setting of the gates is out of range.

    Examples:
        >>> layer = L0Linear(784, 300, gate="input")
        >>> layer(torch.ones(32, 784)).shape
        torch.Size([32, 300])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        gate: Literal["input", "output", "weight"] = "input",
        temperature: float = TEMPERATURE,
        init_mean: float = INIT_MEAN,
        limits: Limits = LIMITS,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device=device, dtype=dtype)
        self._attach_gate(gate, 1, temperature, init_mean, limits, seed)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer with one draw of its gates (the median gates in evaluation mode)."""
        return functional.linear(input, *self._gated_weight_and_bias())


class L0Conv2d(_Gated, nn.Conv2d):
    """A two-dimensional convolution with gated channels, inputs or weights.

    Args:
        in_channels: Channels of an input.
        out_channels: Channels of an output.
        kernel_size: Height and width of the kernel, or one number for both.
        stride: As in `torch.nn.Conv2d`, like all up to `bias`.
        padding: Rows and columns to add, or `"same"` or `"valid"`.
        dilation: Distance between the points of the kernel.
        groups: Blocks of channels that are convolved apart; `in_channels` is depthwise.
        bias: Whether to add a bias.
        padding_mode: What to pad with.
        gate: What a gate switches: `"channel"` (an output channel, and its bias: a shut channel
            is exactly zero), `"input"` (an input channel) or `"weight"` (a single weight).
        temperature: Of the gates.
        init_mean: `P(gate > 0)` at the start.
        limits: Of the gates.
        seed: Seed of the gates' noise; PyTorch's global generator if None.
        device: Where the parameters live.
        dtype: Their type.

    Raises:
        InvalidSetting: If `gate` is unknown, or a setting of the gates is out of range.

    Examples:
        >>> depthwise = L0Conv2d(8, 8, 3, padding=1, groups=8, gate="channel")
        >>> depthwise(torch.ones(1, 8, 5, 5)).shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        gate: Literal["channel", "output", "input", "weight"] = "channel",
        temperature: float = TEMPERATURE,
        init_mean: float = INIT_MEAN,
        limits: Limits = LIMITS,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Conv2d.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )
        self._attach_gate(gate, groups, temperature, init_mean, limits, seed)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer with one draw of its gates (the median gates in evaluation mode)."""
        # The convolution of the parent class with another weight: it knows the padding modes.
        output: Tensor = self._conv_forward(input, *self._gated_weight_and_bias())
        return output
