"""Layers that a smaller network needs and `torch.nn` does not have."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class ReducedLayerNorm(nn.Module):
    """Layer norm over entries of which some were removed because they are always zero.

    Mean and variance are still those over all `width` entries, so the result is that of the wide
    layer (Ba, Kiros and Hinton 2016) at the entries that are left.

    Args:
        normalized_shape: Sizes of the last axes, as they are now.
        width: Number of entries before the removal.
        eps: Added to the variance.
        elementwise_affine: Whether there is a weight.
        bias: Whether there is a bias as well.
        device: Where the parameters live.
        dtype: Their type.

    Examples:
        >>> x = torch.tensor([[3.0, 0.0, 1.0, 0.0]])
        >>> ReducedLayerNorm((2,), 4)(x[:, ::2]).tolist() == nn.LayerNorm(4)(x)[:, ::2].tolist()
        True
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        width: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(sizes)
        self.width = width
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        weight = nn.Parameter(torch.ones(sizes, **options)) if elementwise_affine else None
        offset = (
            nn.Parameter(torch.zeros(sizes, **options)) if elementwise_affine and bias else None
        )
        self.register_parameter("weight", weight)
        self.register_parameter("bias", offset)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over the last axes."""
        axes = tuple(range(-len(self.normalized_shape), 0))
        n_kept = math.prod(self.normalized_shape)
        mean = input.sum(axes, keepdim=True) / self.width
        centred = input - mean
        # Each removed entry is zero: it lies `mean` away from the mean.
        squares = (centred**2).sum(axes, keepdim=True) + (self.width - n_kept) * mean**2
        output = centred * torch.rsqrt(squares / self.width + self.eps)
        if self.weight is not None:
            output = output * self.weight
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return f"{self.normalized_shape}, width={self.width}, eps={self.eps}"


class Attention(nn.Module):
    """Scaled dot-product attention whose dropout follows `train()` and `eval()`.

    Args:
        dropout: Share of the attention weights that are dropped in training.
        is_causal: Whether a position sees only those before it.
        scale: Factor of the products; `1 / sqrt(size of a head)` if None.
        enable_gqa: Whether several query heads share a key head.

    Examples:
        >>> q = torch.randn(2, 4, 5, 8)
        >>> Attention(dropout=0.1).eval()(q, q, q).shape
        torch.Size([2, 4, 5, 8])
    """

    def __init__(
        self,
        dropout: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.is_causal = is_causal
        self.scale = scale
        self.enable_gqa = enable_gqa

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
    ) -> Tensor:
        """Attend: shapes as in `torch.nn.functional.scaled_dot_product_attention`."""
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
        )

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return f"dropout={self.dropout}, is_causal={self.is_causal}, scale={self.scale}"


def reduced_layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    width: int,
) -> Tensor:
    """The mark of a `ReducedLayerNorm` in a graph, before it becomes one.

    Examples:
        >>> reduced_layer_norm(torch.tensor([[3.0, 1.0]]), [2], None, None, 0.0, 4)
        tensor([[1.6330, 0.0000]])
    """
    layer = ReducedLayerNorm(tuple(normalized_shape), width, eps, elementwise_affine=False)
    output: Tensor = layer(input)
    output = output if weight is None else output * weight
    return output if bias is None else output + bias
