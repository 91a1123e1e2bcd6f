"""Linear and convolution layers whose inputs, outputs or weights are gated."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from l0.errors import InvalidSetting
from l0.hard_concrete import INIT_MEAN, LIMITS, TEMPERATURE, HardConcrete, Limits

Plain = TypeVar("Plain", bound=nn.Module)

# Note [Weights seen by group]: a weight of shape (out, in / groups, *kernel) is looked at as
# (groups, out / groups, in / groups, *kernel). A gate has its own value along some of these axes
# and is shared along the others; that is all that tells one kind of gate from another. A linear
# layer is a convolution of one group without a kernel.
_INPUT_AXES = (0, 2)
_OUTPUT_AXES = (0, 1)
_GATED_AXES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "input": _INPUT_AXES,
        "output": _OUTPUT_AXES,
        "channel": _OUTPUT_AXES,
        "weight": (0, 1, 2, 3, 4),
    }
)
_CONVOLUTION_SETTINGS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)


@runtime_checkable
class PlainForm(Protocol):
    """A gated module that can say which plain module it is in evaluation mode."""

    def plain(self) -> nn.Module:
        """A module without gates that gives the outputs of this one in evaluation mode."""
        ...


class _Gated(nn.Module):
    """What gated layers share: a gate over the weight, and over the bias with its output."""

    weight: Tensor
    bias: Tensor | None
    gate: HardConcrete
    per_example: bool

    def _attach_gate(
        self,
        kind: str,
        n_groups: int,
        temperature: float,
        init_mean: ArrayLike | Tensor,
        limits: Limits,
        seed: int | None,
        per_example: bool,
    ) -> None:
        if kind not in _GATED_AXES:
            raise InvalidSetting(
                f"no gate is named {kind!r}. Take one of {', '.join(_GATED_AXES)}."
            )
        if per_example and kind == "weight":
            raise InvalidSetting(
                "`per_example` gates multiply inputs or outputs, and single weights have none of "
                'their own. Gate "input" or "output", or draw once per pass.'
            )
        outputs, *inner = self.weight.shape
        self._gated_axes = _GATED_AXES[kind]
        self._grouped_shape = (n_groups, outputs // n_groups, *inner)
        self._gate_view = [
            size if axis in self._gated_axes else 1 for axis, size in enumerate(self._grouped_shape)
        ]
        self._bias_is_gated = self.bias is not None and self._gated_axes == _OUTPUT_AXES
        n_gates = math.prod(self._gate_view)
        self.per_example = per_example
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

    @abstractmethod
    def _apply_layer(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What the layer does with a weight and a bias: the class of the layer says."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer with a draw of its gates (the median gates in evaluation mode)."""
        has_examples = input.ndim >= self.weight.ndim
        if not (self.per_example and self.training and has_examples):
            return self._apply_layer(input, *self._fold(self.gate()))
        # Note [A draw for each example]: the gates cannot multiply the weight, which all examples
        # share, so they multiply what it reads or what it gives (`local_rep` in the code of
        # Louizos et al.). Both are the same for one example, as the layer is linear.
        z: Tensor = self.gate((len(input),))
        along_units = [len(z), *[1] * (input.ndim - 1)]
        along_units[-1 if self.weight.ndim == 2 else 1] = z.shape[1]
        z = z.view(along_units)
        if self._gated_axes == _INPUT_AXES:
            return self._apply_layer(input * z, self.weight, self.bias)
        return self._apply_layer(input, self.weight, self.bias) * z

    def gated_parameters(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each gated parameter, with the chance of its entries to be active."""
        prob = self.gate.prob_active()
        yield self.weight, self._over_weight(prob)
        if self.bias is not None and self._bias_is_gated:
            yield self.bias, prob.view(-1)

    @torch.no_grad()
    def settle(self, open_mask: Tensor) -> None:
        """Fix each gate as open or shut for ever; the values of open gates go into the weights.

        Args:
            open_mask: Which gates stay open, of the gates' shape.

        Raises:
            ShapeMismatch: If there is not one value for each gate.
        """
        weight, bias = self._fold(self.gate.settled_values())
        self.gate.settle(open_mask)
        self.weight.copy_(weight)
        if bias is not None and self.bias is not None:
            self.bias.copy_(bias)

    def _over_weight(self, per_gate: Tensor) -> Tensor:
        """Values per gate, expanded to the shape of the weight."""
        grouped = per_gate.view(self._gate_view).expand(self._grouped_shape)
        return grouped.reshape(self.weight.shape)

    def _fold(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        # One draw for both: weight and bias of a unit live or die together.
        bias: Tensor | None = self.bias
        if bias is not None and self._bias_is_gated:
            bias = bias * z.view(-1)
        return self.weight * self._over_weight(z), bias

    @torch.no_grad()
    def _folded_into(self, layer: Plain) -> Plain:
        """The given layer with this one's median gates, weights, bias and mode."""
        weight, bias = self._fold(self.gate.median().to(self.weight.dtype))
        layer.to_empty(device=self.weight.device).train(self.training)
        layer.get_parameter("weight").copy_(weight)
        if bias is not None:
            layer.get_parameter("bias").copy_(bias)
        return layer


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
        per_example: Whether each example, an entry of the input's first axis, has a draw of its
            own in training mode. More noise is averaged in a step, and a step costs more. An
            input of shape `(in_features,)` is one example.
        device: Where the parameters live.
        dtype: Their type.

    Raises:
        InvalidSetting: If `gate` is unknown or cannot be drawn per example, or a setting of the
            gates is out of range.

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
        init_mean: ArrayLike | Tensor = INIT_MEAN,
        limits: Limits = LIMITS,
        seed: int | None = None,
        per_example: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device=device, dtype=dtype)
        self._attach_gate(gate, 1, temperature, init_mean, limits, seed, per_example)

    def _apply_layer(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(input, weight, bias)

    def plain(self) -> nn.Linear:
        """The `nn.Linear` of the same sizes with the median gates in its weight and bias.

        Examples:
            >>> layer = L0Linear(4, 2).eval()
            >>> torch.equal(layer.plain()(torch.ones(4)), layer(torch.ones(4)))
            True
        """
        settings = self.in_features, self.out_features, self.bias is not None
        return self._folded_into(nn.Linear(*settings, device="meta", dtype=self.weight.dtype))


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
        per_example: Whether each image of a batch has a draw of its own in training mode. More
            noise is averaged in a step, and a step costs more.
        device: Where the parameters live.
        dtype: Their type.

    Raises:
        InvalidSetting: If `gate` is unknown or cannot be drawn per example, or a setting of the
            gates is out of range.

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
        init_mean: ArrayLike | Tensor = INIT_MEAN,
        limits: Limits = LIMITS,
        seed: int | None = None,
        per_example: bool = False,
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
        self._attach_gate(gate, groups, temperature, init_mean, limits, seed, per_example)

    def _apply_layer(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # The convolution of the parent class with another weight: it knows the padding modes.
        output: Tensor = self._conv_forward(input, weight, bias)
        return output

    def plain(self) -> nn.Conv2d:
        """The `nn.Conv2d` of the same sizes with the median gates in its weight and bias.

        Examples:
            >>> layer = L0Conv2d(1, 2, 3).eval()
            >>> torch.equal(layer.plain()(torch.ones(1, 5, 5)), layer(torch.ones(1, 5, 5)))
            True
        """
        settings: dict[str, Any] = {name: getattr(self, name) for name in _CONVOLUTION_SETTINGS}
        layer = nn.Conv2d(
            **settings, bias=self.bias is not None, device="meta", dtype=self.weight.dtype
        )
        return self._folded_into(layer)
