"""Multi-head attention with a gate for each head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from l0.errors import InvalidSetting
from l0.hard_concrete import INIT_MEAN, LIMITS, TEMPERATURE, HardConcrete, Limits
from l0.multihead import MultiheadAttention


class L0MultiheadAttention(MultiheadAttention):
    """Multi-head attention with a gate for each head.

    A gate multiplies what the output projection reads of a head. A shut head contributes exactly
    nothing and is removed by `plain`, with its rows of the three projections of the input and its
    columns of the output's. Parameters have the names of `torch.nn.MultiheadAttention`.

    Args:
        embed_dim: As in `MultiheadAttention`, like all up to `bias`.
        num_heads: Number of heads.
        dropout: Share of the attention weights that are dropped in training mode.
        bias: Whether the projections have a bias.
        gate: What a gate switches: `"head"`.
        head_dim: As in `MultiheadAttention`, like all up to `batch_first`.
        kdim: Size of a key.
        vdim: Size of a value.
        batch_first: Whether the batch is the first axis of the data, not the second.
        temperature: Of the gates.
        init_mean: `P(gate > 0)` at the start.
        limits: Of the gates.
        seed: Seed of the gates' noise; PyTorch's global generator if None.
        per_example: Whether each example of a batch has a draw of its own in training mode.
        device: Where the parameters live.
        dtype: Their type.

    Raises:
        InvalidSetting: If `gate` is unknown, or a setting is out of range.

    Examples:
        >>> attention = L0MultiheadAttention(64, num_heads=8, batch_first=True).eval()
        >>> attention.gate.settle([True, True] + [False] * 6)
        >>> attention.plain()
        MultiheadAttention(
          64, 2 heads of 8
          (out_proj): Linear(in_features=16, out_features=64, bias=True)
        )
    """

    gate: HardConcrete

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        gate: Literal["head"] = "head",
        head_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        temperature: float = TEMPERATURE,
        init_mean: ArrayLike | Tensor = INIT_MEAN,
        limits: Limits = LIMITS,
        seed: int | None = None,
        per_example: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if gate != "head":
            raise InvalidSetting(f'no gate of attention is named {gate!r}. Take "head".')
        super().__init__(
            embed_dim,
            num_heads,
            dropout,
            bias,
            head_dim=head_dim,
            kdim=kdim,
            vdim=vdim,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.per_example = per_example
        self.gate = HardConcrete(
            num_heads,
            temperature=temperature,
            init_mean=init_mean,
            limits=limits,
            group_size=self.head_dim * (2 * embed_dim + self.kdim + self.vdim + 3 * bias),
            seed=seed,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def from_module(cls, module: nn.MultiheadAttention, **gate_settings: Any) -> Self:
        """A gated copy of a plain attention, with its weights, settings and mode.

        Args:
            module: The plain one; it stays as it is.
            **gate_settings: `init_mean`, `temperature` and other settings of the gates.

        Returns:
            A module that gives the same outputs as soon as all gates are open.

        Raises:
            InvalidSetting: If `module` has `add_bias_kv` or `add_zero_attn`.

        Examples:
            >>> plain = nn.MultiheadAttention(64, num_heads=8)
            >>> L0MultiheadAttention.from_module(plain, init_mean=0.95).gate.log_alpha.shape
            torch.Size([8])
        """
        if module.bias_k is not None or module.add_zero_attn:
            raise InvalidSetting(
                "attention with `add_bias_kv` or `add_zero_attn` has a key that belongs to no "
                "token, and cannot be gated. Make it without them."
            )
        gated = cls(
            module.embed_dim,
            module.num_heads,
            module.dropout,
            module.in_proj_bias is not None,
            kdim=module.kdim,
            vdim=module.vdim,
            batch_first=module.batch_first,
            device=module.out_proj.weight.device,
            dtype=module.out_proj.weight.dtype,
            **gate_settings,
        )
        gated.load_state_dict({**gated.state_dict(), **module.state_dict()})
        return gated.train(module.training)

    def gated_parameters(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each gated parameter, with the chance of its entries to be active."""
        prob = self.gate.prob_active().repeat_interleave(self.head_dim)
        for name, weight in self._input_weights():
            rows = prob.repeat(3) if name == "in_proj_weight" else prob
            yield weight, rows[:, None].expand_as(weight)
        if self.in_proj_bias is not None:
            yield self.in_proj_bias, prob.repeat(3)
        yield self.out_proj.weight, prob.expand_as(self.out_proj.weight)

    @torch.no_grad()
    def settle(self, open_mask: Tensor) -> None:
        """Fix each head as open or shut for ever; the values of open gates go into the weights.

        Args:
            open_mask: Which heads stay open, of the gates' shape.

        Raises:
            ShapeMismatch: If there is not one value for each gate.
        """
        weight = self._gated_columns(self.gate.settled_values())
        self.gate.settle(open_mask)
        self.out_proj.weight.copy_(weight)

    @torch.no_grad()
    def plain(self) -> MultiheadAttention:
        """The attention that this one is in evaluation mode: open heads only, without gates.

        Its outputs are the same. Averaged attention weights are those of the heads that are left.
        """
        z = self.gate.median().to(self.out_proj.weight.dtype)
        kept = torch.nonzero(z)[:, 0]
        attention = MultiheadAttention(
            self.embed_dim,
            len(kept),
            self.dropout,
            self.in_proj_bias is not None,
            head_dim=self.head_dim,
            kdim=self.kdim,
            vdim=self.vdim,
            batch_first=self.batch_first,
            device="meta",
            dtype=z.dtype,
        )
        attention.to_empty(device=z.device).train(self.training)
        for name, weight in self._input_weights():
            attention.get_parameter(name).copy_(self._of_heads(weight, kept))
        if attention.in_proj_bias is not None and self.in_proj_bias is not None:
            attention.in_proj_bias.copy_(self._of_heads(self.in_proj_bias, kept))
            attention.out_proj.bias.copy_(self.out_proj.bias)
        columns = self._gated_columns(z).view(-1, self.num_heads, self.head_dim)
        attention.out_proj.weight.copy_(columns[:, kept].flatten(1))
        return attention

    def _merge(self, heads: Tensor) -> Tensor:
        if self.per_example and self.training:
            # See Note [A draw for each example] in layers.py.
            return super()._merge(heads * self.gate((len(heads),))[:, :, None, None])
        merged = heads.transpose(1, 2).flatten(2)
        return functional.linear(merged, self._gated_columns(self.gate()), self.out_proj.bias)

    def _gated_columns(self, z: Tensor) -> Tensor:
        return self.out_proj.weight * z.repeat_interleave(self.head_dim)

    def _of_heads(self, rows: Tensor, kept: Tensor) -> Tensor:
        """The rows of some heads, out of one projection or of three one below the other."""
        by_head = rows.view(-1, self.num_heads, self.head_dim, *rows.shape[1:])
        return by_head[:, kept].flatten(0, 2)
